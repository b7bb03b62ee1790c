"""What a command sees as ``/dev``: this machine's folder, or one made of its entries.

Invariant: the machine's own folder is taken as it is wherever that will do; only a device under a
name that the machine has not makes another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from registryd.launch.edits import Device
from registryd.launch.files import Machine
from registryd.launch.view import Mount

FOLDER: Final = "/dev"


def dev_mounts(devices: Sequence[Device], machine: Machine | None) -> tuple[Mount, ...]:
    """The mounts that make ``/dev``, on which the devices are still to be bound."""
    targets = [each.target for each in devices if each.target.startswith(f"{FOLDER}/")]
    if machine is None or all(machine.there(target) != "none" for target in targets):
        return (Mount(FOLDER, FOLDER, devices=True),)
    entries = []
    for name in machine.names(FOLDER):
        path = f"{FOLDER}/{name}"
        link = machine.link(path)
        entries.append(Mount(path, "" if link else path, link=link, devices=True, optional=True))
    return (Mount(FOLDER), *entries)
