"""What comes on top of a run besides its own flags: the ``[run]`` section, modules and devices.

Invariant: where the machine and the user say nothing, and no flag asks, nothing is imported for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registryd.cli.command import Context
from registryd.launch.edits import Edits
from registryd.launch.plan import Site
from registryd.places import system_places, user_places

if TYPE_CHECKING:
    from registryd.launch.module_edits import Added

#: Where the machine's modules are, where its configuration names no other folder.
_MODULES = Path("/etc/registryd/modules.d")

#: What is left to do in an image whose files are at a place; without one they are seen already.
Rest = Callable[[str | None], Edits]


@dataclass(frozen=True, slots=True)
class Extras:
    """What the site adds, by which way commands are started, and what modules and devices add.

    ``shape`` tells apart those who take different ones.
    """

    site: Site = Site()  # noqa: RUF009 - frozen
    runtime: str = "auto"
    edits: Edits = Edits()  # noqa: RUF009 - frozen
    rest: Rest = lambda root: Edits()
    shape: str = ""


def extras(context: Context, library_path: str) -> Extras:
    """What is added to an image with this LD_LIBRARY_PATH. Raises ConfigInvalid, LaunchRefused."""
    asked = context.options.modules or context.options.devices
    asked = asked or context.environ.get("REGISTRYD_MODULE")
    own = user_places(context.environ, context.home)
    places = (system_places().config, _MODULES, own.config)
    if not asked and not any(os.access(place, os.R_OK) for place in places):
        return Extras()
    from registryd.cli.site import added_here, run_settings

    settings = run_settings(context)
    site = Site(settings.binds, settings.env, settings.home)
    added = added_here(context, settings)
    if added is None:
        return Extras(site, settings.runtime)
    shape = f"{context.options.modules}{context.options.devices}{added.edits}{added.libraries}"
    return Extras(site, settings.runtime, added.edits, _rest(context, added, library_path), shape)


def _rest(context: Context, added: Added, library_path: str) -> Rest:
    """Libraries of the machine in the place of the image's, when that is known.

    All that it needs is imported now: where it is called, our own files may be out of sight.
    """
    from registryd.launch.image_tree import ImageTree
    from registryd.launch.libraries import placed, seen_already
    from registryd.launch.loader import Loader

    def rest(root: str | None) -> Edits:
        if root is None:
            return seen_already(os.path.exists)
        found = placed(
            added.libraries,
            here=Loader(ImageTree(Path("/"))),
            image=ImageTree(Path(root)),
            library_path=library_path,
        )
        for note in (*added.notes, *found.notes):
            context.console.warning(note)
        return found.edits

    return rest
