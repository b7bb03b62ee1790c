"""registryctl, loaded and waiting for the word to begin: sixteen at once would start one by one.

    python -m bench.cluster.puller WORDS...

Says ``ready`` when everything is imported, and runs the command when its input ends.
"""

from __future__ import annotations

import sys

from registryd.cli import backend, logins, main, progress, results, socket_client
from registryd.cli.commands import pull

LOADED = (backend, logins, progress, pull, results, socket_client)

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.read()
    sys.exit(main.main())
