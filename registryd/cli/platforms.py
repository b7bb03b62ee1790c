"""The platforms that flags and environment name."""

from __future__ import annotations

import os

from registryd.cli.command import Context
from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform


def named(context: Context) -> tuple[Platform, ...]:
    """Those of --platform; none where it was not given. Raises UsageError."""
    return _parsed(context.options.platform or "")


def preferred(context: Context) -> tuple[Platform, ...]:
    """Those of --platform, else of DOCKER_DEFAULT_PLATFORM, else none (the other end's own).

    None with --all-platforms. Raises UsageError.
    """
    if context.options.all_platforms:
        return ()
    return named(context) or _parsed(context.environ.get("DOCKER_DEFAULT_PLATFORM", ""))


def single(context: Context) -> str | None:
    """--platform where one image of an index is meant, as it was written; None: not given.

    Raises UsageError for several, and for what is no platform.
    """
    text: str | None = context.options.platform
    if text is not None and len(named(context)) != 1:
        raise UsageError(f"--platform {text}: this command takes one platform")
    return text


def single_preferred(context: Context) -> str | None:
    """The same, else that of DOCKER_DEFAULT_PLATFORM. Raises UsageError."""
    return single(context) or context.environ.get("DOCKER_DEFAULT_PLATFORM") or None


def own() -> Platform:
    """What this machine runs."""
    machine = os.uname()
    return Platform.of_machine(machine.sysname, machine.machine)


def _parsed(text: str) -> tuple[Platform, ...]:
    return tuple(Platform.parse(part.strip()) for part in text.split(",") if part.strip())
