"""munge: who has sent a request, and what they put in, decoded by Debian's ``unmunge``.

Invariants:
- a credential is munged's to judge: one that is too old, was seen before or was sealed with another
  key tells nothing;
- credentials and what is in them go by pipes: they stand in no command line and no file.
"""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registryd.gateway.errors import MungeUnusable
from registryd.oci.errors import Unauthorized

PROGRAM: Final = "unmunge"
#: Seconds in which munged has judged a credential.
LIMIT: Final = 10.0
#: Credentials that are judged at once: each takes a process.
AT_ONCE: Final = 8
#: What munged takes at most, in its base64.
LONGEST: Final = 1 << 21
#: EMUNGE_SOCKET: its daemon does not answer.
_NO_DAEMON: Final = 6

#: Of these it says nothing (munge.h: EMUNGE_CRED_*).
_SAID: Final = {
    15: "it is too old (are the clocks of both machines right?)",
    16: "it is of a time to come (are the clocks of both machines right?)",
    17: "it was used before",
}

_CREDENTIAL: Final = re.compile(r"MUNGE:[A-Za-z0-9+/=]+:")
_LINE: Final = re.compile(rb"(?P<key>[A-Z_]+): +(?P<value>[0-9]+)")


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """Who has sealed a credential, and what is in it, which may hold passwords."""

    uid: int
    gid: int
    content: bytes


class Munge:
    """Opens credentials by the munged on a socket (None: munge's usual one)."""

    def __init__(self, socket: Path | None, environ: Mapping[str, str]) -> None:
        self._flags = () if socket is None else (f"--socket={socket}",)
        self._environ = {name: environ[name] for name in ("PATH",) if name in environ}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def open(self, credential: str) -> Sealed:
        """What is in a credential. Raises Unauthorized, MungeUnusable."""
        if len(credential) > LONGEST or not _CREDENTIAL.fullmatch(credential.strip()):
            raise Unauthorized("this is no credential of munge")
        async with self._places:
            code, out, said = await self._run(credential.strip().encode())
        if code == 0:
            return parse_output(out)
        otherwise = _SAID.get(code, f"status {code}")
        line = said.decode(errors="replace").strip().splitlines() or [otherwise]
        words = line[-1].removeprefix(f"{PROGRAM}: ")[:200]
        if code == _NO_DAEMON:
            raise MungeUnusable(f"munged does not answer: {words}")
        raise Unauthorized(f"munge does not take this credential: {words}")

    async def _run(self, credential: bytes) -> tuple[int, bytes, bytes]:
        try:
            process = await asyncio.create_subprocess_exec(
                PROGRAM,
                *self._flags,
                "--numeric",
                "--keys=UID,GID,LENGTH",
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=self._environ,
            )
        except OSError as error:
            raise MungeUnusable(f"{PROGRAM} cannot be started (Debian: munge)") from error
        try:
            async with asyncio.timeout(LIMIT):
                out, said = await process.communicate(credential)
        except TimeoutError:
            raise MungeUnusable(f"munged has not answered in {LIMIT:.0f} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
        return process.returncode or 0, out, said


def parse_output(out: bytes) -> Sealed:
    """What ``unmunge`` has printed: lines of facts, an empty one, what is in it.

    Raises MungeUnusable.
    """
    head, _, content = out.partition(b"\n\n")
    lines = (_LINE.fullmatch(line) for line in head.splitlines())
    facts = {line["key"]: int(line["value"]) for line in lines if line}
    try:
        uid, gid, length = facts[b"UID"], facts[b"GID"], facts[b"LENGTH"]
    except KeyError:
        raise MungeUnusable(f"{PROGRAM} says something that is not understood") from None
    if len(content) != length:
        raise MungeUnusable(f"{PROGRAM} says {length} bytes, and {len(content)} are there")
    return Sealed(uid, gid, content)
