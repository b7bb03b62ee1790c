"""Starts daemons: each is this process, which has read the program's modules before, forked.

A line on stdin is a JSON object: ``argv``, ``environ``, ``log``, ``control``; the answer is the
process id. It is the program as it is, without the second that Python needs to read it.
"""

import gc
import importlib
import json
import os
import sys
import traceback

#: What the daemon imports while it starts and works.
MODULES = (
    "registryd.daemon", "registryd.server.app", "registryd.remote.client",
    "registryd.transfer.push_through", "registryd.remote.blob_upload",
    "registryd.conversion.making", "asyncio.runners", "encodings.idna",
)  # fmt: skip


def main() -> None:
    """Until stdin ends."""
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
    os.write(1, b"ready\n")
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            run(order)
        os.write(1, b"%d\n" % pid)
        reap()


def run(order: dict) -> None:
    """Be the daemon."""
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open("/dev/null", os.O_RDWR)
        for target, file in enumerate((nothing, nothing, log)):
            os.dup2(file, target)
        path, offset = order["control"]
        control = os.open(path, os.O_RDWR)
        os.pwrite(control, os.getpid().to_bytes(4, sys.byteorder), offset)
        os.close(control)
        os.environ.clear()
        os.environ.update(order["environ"])
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        from registryd.daemon import main as daemon

        code = daemon(order["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def reap() -> None:
    """Let go of those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
