"""What the machine's owner adds to commands in images: modules, devices, and where they are.

Invariant: a key of ``[run]`` that a user's file does not say is as the machine's file says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from registryd.cli.command import Context
from registryd.config import RunConfig, load, system_places, user_places

if TYPE_CHECKING:
    from registryd.launch.module_edits import Added

#: Variables that name modules where no flag does, as the flag would.
_VARIABLE = "REGISTRYD_MODULE"


def run_settings(context: Context, machine: Path | None = None) -> RunConfig:
    """The ``[run]`` section that holds for this user. Raises ConfigInvalid."""
    places = user_places(context.environ, context.home)
    found = RunConfig()
    for path in (machine or system_places().config, places.config):
        if os.access(path, os.R_OK):
            own = load(path, places).run
            found = replace(found, **{key: getattr(own, key) for key in _said(own)})
    return found


def _said(settings: RunConfig) -> list[str]:
    """The keys that are not as they are by themselves."""
    usual = RunConfig()
    names = (each.name for each in fields(settings))
    return [name for name in names if getattr(settings, name) != getattr(usual, name)]


def added_here(context: Context, settings: RunConfig) -> Added | None:
    """What the site's modules and the flags ``--module`` and ``--device`` add to a run.

    None, at once, where the site has no modules and no flag is given. Raises LaunchRefused.
    """
    asked = _asked(context)
    devices: Sequence[str] = context.options.devices
    if not devices and (asked == ["none"] or (not asked and not _any_file(settings.modules))):
        return None
    from registryd.launch.cdi import Devices, read_folders
    from registryd.launch.module_edits import Added, added, this_machine
    from registryd.launch.modules import choose, read_modules

    modules = read_modules(settings.modules)
    chosen = choose(modules, asked, context.environ, os.path.exists)
    if not chosen and not devices:
        return Added(notes=tuple(modules.problems.values()))
    by_name = any(module.cdi for module in chosen) or any(name[:1] != "/" for name in devices)
    known = read_folders(settings.cdi) if by_name else Devices()
    groups = (os.getegid(), *os.getgroups())
    found = added(chosen, devices, this_machine(context.environ, groups, known))
    return Added(found.edits, found.libraries, (*modules.problems.values(), *found.notes))


def _any_file(folder: Path | None) -> bool:
    """Whether a folder has anything in it, or cannot be looked into."""
    try:
        return folder is not None and bool(os.listdir(folder))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _asked(context: Context) -> list[str]:
    """The words of ``--module``, or of the variable."""
    given: list[str] = context.options.modules
    variable = context.environ.get(_VARIABLE, "")
    return given or ([variable] if variable else [])
