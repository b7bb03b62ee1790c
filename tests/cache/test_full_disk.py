"""A disk that is full, for real: a file system of 2 MiB in a mount namespace of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
#: The superuser may mount as it is; anybody else becomes one in a user namespace first.
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
SCRIPT = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" -m tests.cache.programs.full_disk "$1"'


def test_a_full_disk_costs_nothing_that_was_there(tmp_path):
    """DiskFull with a line that says what to do; nothing left behind; the store goes on."""
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.executable],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "" == done.stderr
    said = json.loads(done.stdout)

    assert [] == list(tmp_path.iterdir())
    for act, place in [("ingest", "/ingest/sha256-"), ("put", "/ingest/put-"), ("tag", "cache/")]:
        assert place in said[act]
        assert said[act].startswith(str(tmp_path))
        assert said[act].endswith("; free space or give the cache more room")
    assert [[], 1] == said["left"]
    assert 500 << 10 == said["removed"]
    assert ["r:evicted"] == said["evicted"]
    assert "after" == said["after"]
    assert ["r:after", "r:before", "r:room"] == said["names"]
    assert 2 == said["again"]
