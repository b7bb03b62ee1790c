"""The site's examiner: a program that looks at an unpacked image, and lets it in or not.

It is called ``examiner DIR ID``, as Shifter calls it. Invariants:
- an image that it does not let in goes no further: any end but status 0 is a no;
- it is given nothing of the daemon's environment but PATH, and has ended when this has.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from contextlib import suppress
from pathlib import Path
from typing import Final

from registryd.gateway.errors import Refused

#: Of what it says the end is kept: its last line is shown.
_WORDS_LIMIT: Final = 64 << 10
_LINE_LIMIT: Final = 300
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def examine(program: Path, folder: Path, id: str, *, limit: float) -> None:
    """Have an unpacked image looked at, for at most ``limit`` seconds. Raises Refused."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(program),
            str(folder),
            id,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={"PATH": _PATH},
            start_new_session=True,
        )
    except OSError as error:
        raise Refused(f"the examiner {program} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(limit):
            said = await _words(process)
            code = await process.wait()
    except TimeoutError:
        raise Refused(f"the examiner has not ended in {limit:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it has started
        await asyncio.shield(process.wait())
    if code:
        how = f"status {code}" if code > 0 else f"signal {-code}"
        lines = said.split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it says nothing")
        shown = "".join(each if each.isprintable() else "?" for each in last.strip())
        raise Refused(f"the examiner does not let it in ({how}): {shown[:_LINE_LIMIT]}")


async def _words(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None  # noqa: S101 (it was asked for)
    said = b""
    while piece := await process.stdout.read(_WORDS_LIMIT):
        said = (said + piece)[-_WORDS_LIMIT:]
    return said.decode(errors="replace")
