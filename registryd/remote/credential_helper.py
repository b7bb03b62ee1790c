"""Asking a ``docker-credential-NAME`` program about one server's login: get, store, erase.

The protocol is docker's: the server's name (or the login as JSON) on stdin, an answer on stdout,
status 0 when it did.
Invariants:
- a helper's output is never shown, not even its complaints: it is where the secret is;
- a secret reaches it on stdin alone, never as an argument;
- it has a limited time and a limited length of answer; what outlives these is ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from contextlib import suppress

from registryd.oci.errors import ConfigInvalid
from registryd.secrets import Login, Secret

#: A helper may ask a key ring or a cloud; one that takes longer waits for a person who is not here.
HELPER_TIMEOUT = 10.0
#: Tokens of some clouds are over 10 KiB; a longer answer is not a login.
ANSWER_LIMIT = 256 * 2**10

#: The user name by which a helper says that its secret is an identity token.
TOKEN_USER = "<token>"  # noqa: S105 - a user name of the protocol, not a secret

#: What helpers say, with a status that is not 0, for "there is no login": docker knows it by this.
_NOT_FOUND = b"credentials not found in native keychain"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class HelperFailed(Exception):
    """Raised when a helper cannot say whether there is a login; the text says why, in words."""


def ask_helper(name: str, server: str, timeout: float = HELPER_TIMEOUT) -> Login | None:
    """The login that a helper has for a server, or None.

    Raises HelperFailed when it is missing, too slow or in trouble, ConfigInvalid when its name or
    its answer makes no sense.
    """
    status, answer = _run(name, "get", server.encode(), timeout)
    if status == 0:
        return _parse(answer, f"{program_of(name)} for {server}")
    if _NOT_FOUND in answer:
        return None
    raise HelperFailed(f"ended with status {status}")


def store_by_helper(name: str, server: str, login: Login, timeout: float = HELPER_TIMEOUT) -> None:
    """Have a helper keep a login. Raises ConfigInvalid when it does not."""
    token = login.identity_token
    username = TOKEN_USER if token else login.username
    secret = (token or login.password).reveal()
    content = {"ServerURL": server, "Username": username, "Secret": secret}
    _do(name, "store", json.dumps(content).encode(), f"did not keep the login of {server}", timeout)


def erase_by_helper(name: str, server: str, timeout: float = HELPER_TIMEOUT) -> bool:
    """Have a helper forget a server's login; False when it had none. Raises ConfigInvalid."""
    try:
        if ask_helper(name, server, timeout) is None:
            return False
    except HelperFailed as error:
        raise ConfigInvalid(f"{program_of(name)} {error}: nothing was erased") from None
    _do(name, "erase", server.encode(), f"did not forget the login of {server}", timeout)
    return True


def program_of(name: str) -> str:
    """The program of a helper."""
    return f"docker-credential-{name}"


def _do(name: str, action: str, typed: bytes, failed: str, timeout: float) -> None:
    program = program_of(name)
    try:
        status, _ = _run(name, action, typed, timeout)
    except HelperFailed as error:
        raise ConfigInvalid(f"{program} {error}: it {failed}") from None
    if status != 0:
        raise ConfigInvalid(f"{program} {failed} (status {status})")


def _run(name: str, action: str, typed: bytes, timeout: float) -> tuple[int, bytes]:
    """Exit status and stdout. Raises HelperFailed, ConfigInvalid."""
    program = program_of(name)
    if not _NAME.fullmatch(name):
        raise ConfigInvalid(f"credential helper {name!r} is not a program's name")
    try:
        process = subprocess.Popen(
            [program, action],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts ends with it
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | PermissionError)
        raise HelperFailed("is missing" if missing else f"does not run: {error.strerror}") from None
    late = threading.Event()
    timer = threading.Timer(timeout, _end, (process, late))
    timer.start()
    try:
        answer = _talk(process, typed)
        if len(answer) > ANSWER_LIMIT:
            raise ConfigInvalid(f"{program}: its answer is not a login")
        status = process.wait()
    finally:
        timer.cancel()
        _end(process, threading.Event())
        process.wait()
    if late.is_set():
        raise HelperFailed(f"gave no answer in {timeout:g} s")
    return status, answer


def _talk(process: subprocess.Popen[bytes], typed: bytes) -> bytes:
    """Say what there is to say, and hear one byte more than is allowed."""
    assert process.stdin is not None and process.stdout is not None  # noqa: S101
    with process.stdout:
        with suppress(BrokenPipeError), process.stdin:  # it need not want to hear
            process.stdin.write(typed)
        return process.stdout.read(ANSWER_LIMIT + 1)


def _end(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """End a helper that is still there, with all that it started."""
    if process.returncode is None:
        late.set()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _parse(answer: bytes, origin: str) -> Login | None:
    try:
        content = json.loads(answer)
        username, secret = content["Username"], content["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigInvalid(f"{origin}: its answer is not a login") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise ConfigInvalid(f"{origin}: its answer is not a login")
    if not secret:
        return None
    if username == TOKEN_USER:
        return Login(identity_token=Secret(secret), origin=origin, stored=True)
    return Login(username, Secret(secret), origin=origin, stored=True)
