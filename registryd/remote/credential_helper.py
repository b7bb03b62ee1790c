"""Asking a ``docker-credential-NAME`` program for one host's login.

The protocol is docker's: the server's name on stdin, a JSON object on stdout, status 1 for none.
Invariant: a helper's output is never shown; it is where the secret is.
"""

from __future__ import annotations

import json
import re
import subprocess

from registryd.oci.errors import ConfigInvalid
from registryd.secrets import Login, Secret

#: A helper may ask a key ring or a cloud; one that takes longer waits for a person who is not here.
HELPER_TIMEOUT = 10.0

#: The user name by which a helper says that its secret is an identity token.
TOKEN_USER = "<token>"  # noqa: S105 - a user name of the protocol, not a secret

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def ask_helper(name: str, server: str, timeout: float = HELPER_TIMEOUT) -> Login | None:
    """The login that a helper has for a server, or None.

    Raises FileNotFoundError when there is no such program, TimeoutError when it does not end in
    time, ConfigInvalid when its name or its answer makes no sense.
    """
    program = f"docker-credential-{name}"
    if not _NAME.fullmatch(name):
        raise ConfigInvalid(f"credential helper {name!r} is not a program's name")
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(program) from None
    except PermissionError:
        raise FileNotFoundError(program) from None
    if done.returncode != 0:
        return None
    return _parse(done.stdout, f"{program} for {server}")


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
        return Login(identity_token=Secret(secret), origin=origin)
    return Login(username, Secret(secret), origin=origin)
