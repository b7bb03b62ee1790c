"""The same view as a bundle for crun and runc (runtime specification 1.0, "config.md").

Folders that are opened become folders of the bundle, with a place for each entry; the entries
themselves are bound over these.

Invariant: the bundle is a folder of ours, made anew for each command and removed when it has ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from registryd.launch.errors import LaunchRefused
from registryd.launch.identity import Identity
from registryd.launch.plan import Launch
from registryd.launch.view import Step
from registryd.oci.capabilities import ROOT_KEEPS

PROGRAMS: Final = ("crun", "runc")
_SETS: Final = ("bounding", "effective", "permitted", "inheritable")


def write(launch: Launch, folder: Path, ids: tuple[int, int], *, as_root: bool) -> None:
    """Make the bundle for who has these ids. Raises OSError, LaunchRefused.

    ``as_root``: the runtime wants whoever starts it to be seen as root.
    """
    if as_root and ids[0] != 0:
        launch = replace(launch, user=Identity(0, 0))
    made = _Bundle(folder)
    for number, step in enumerate(launch.steps):
        made.add(step, number)
    (folder / "config.json").write_text(json.dumps(_config(launch, made, ids)))


class _Bundle:
    """The folders and mounts of a bundle while it is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[str, Path] = {}
        self.root = ""
        self.mounts: list[dict[str, Any]] = []

    def add(self, step: Step, number: int) -> None:
        """One more step. Raises OSError, LaunchRefused."""
        if step.action == "overlay":
            raise LaunchRefused("--writable-tmpfs needs --runtime native")
        if step.target == "/":
            self._begin(step, number)
        elif step.action == "bind":
            options = ["rbind", "rslave", "ro" if step.read_only else "rw", "nosuid"]
            self._mount(step.target, step.source, [*options, *(() if step.devices else ("nodev",))])
        elif step.action == "tmpfs" and step.mode == 0o755:
            self._open(step, number)
        elif step.action == "tmpfs":
            options = ["nosuid", "nodev", f"mode={step.mode:o}"]
            self.mounts.append(
                {
                    "destination": step.target,
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": options,
                }
            )
        elif step.action == "write":
            file = self._folder / f"file{number}"
            file.write_text(step.text, errors="surrogateescape")
            self._mount(step.target, str(file), ["bind", "ro"])
        elif step.action in ("folder", "point", "link"):
            self._make(step)

    def _begin(self, step: Step, number: int) -> None:
        if step.action == "bind":
            self.root = step.source
        elif step.action == "tmpfs":
            self._opened["/"] = self._folder / f"open{number}"
            self._opened["/"].mkdir()
            self.root = str(self._opened["/"])

    def _open(self, step: Step, number: int) -> None:
        self._opened[step.target] = self._folder / f"open{number}"
        self._opened[step.target].mkdir()
        self._mount(step.target, str(self._opened[step.target]), ["bind", "ro"])

    def _make(self, step: Step) -> None:
        """Make a place in the folder of the bundle that it belongs to."""
        above = [
            path for path in self._opened if f"{step.target}/".startswith(f"{path.rstrip('/')}/")
        ]
        if not above:
            return  # in a tmpfs: the runtime makes it
        nearest = max(above, key=len)
        place = self._opened[nearest] / step.target[len(nearest) :].lstrip("/")
        if step.action == "folder":
            place.mkdir(exist_ok=True)
        elif step.action == "point":
            place.touch()
        else:
            place.symlink_to(step.text)

    def _mount(self, target: str, source: str, options: Sequence[str]) -> None:
        self.mounts.append(
            {"destination": target, "type": "bind", "source": source, "options": list(options)}
        )


def _config(launch: Launch, made: _Bundle, ids: tuple[int, int]) -> dict[str, Any]:
    """The bundle's config.json."""
    uid, gid = ids
    folder, user = launch.folders[0], launch.user
    kept = list(ROOT_KEEPS) if (uid, user.uid) == (0, 0) else []
    namespaces = [{"type": "mount"}]
    linux: dict[str, Any] = {"namespaces": namespaces, "rootfsPropagation": "rslave"}
    if uid != 0:
        namespaces.append({"type": "user"})
        linux["uidMappings"] = [{"containerID": user.uid, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": user.gid, "hostID": gid, "size": 1}]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": user.uid, "gid": user.gid},
            "args": list(launch.argv),
            "env": [f"{name}={value}" for name, value in launch.env.items()] + [f"PWD={folder}"],
            "cwd": folder,
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(_SETS, kept),
        },
        "root": {"path": made.root, "readonly": True},
        "mounts": made.mounts,
        "linux": linux,
    }


def command(program: str, folder: Path) -> list[str]:
    """How the runtime is called for a bundle."""
    words = [program, "--root", str(folder / "state")]
    if program == "crun":
        words.append("--cgroup-manager=disabled")
    files = ("--preserve-fds", str(_passed_on()))
    return [*words, "run", *files, "--bundle", str(folder), folder.name]


def _passed_on() -> int:
    """How many descriptors from 3 on the caller has opened for the command, as PMI does."""
    number = 3
    try:
        while os.get_inheritable(number):
            number += 1
    except OSError:
        pass
    return number - 3
