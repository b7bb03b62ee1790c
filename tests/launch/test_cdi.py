"""Devices by their names: which file decides, what they add, and what is left out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from registryd.launch.cdi import DeviceEdits, Devices, device_edits, read_folders
from registryd.launch.edits import Bind, Device, Edits, EnvChange
from registryd.launch.errors import LaunchRefused

NULL = {"path": "/dev/fake0", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3}


class Folders:
    """Two folders of files, the second deciding."""

    def __init__(self, root: Path) -> None:
        self.paths = (root / "etc", root / "run")
        self.root = root
        for path in self.paths:
            path.mkdir()

    def put(self, place: str, devices: dict[str, Any], **keys: Any) -> None:
        """One file: ``etc/x.json``; the names of devices and their edits."""
        listed = [{"name": name, "containerEdits": edits} for name, edits in devices.items()]
        whole = {"cdiVersion": "0.8.0", "kind": "v.com/gpu", "devices": listed} | keys
        (self.root / place).write_text(json.dumps(whole))

    def read(self) -> Devices:
        """What is in them now."""
        return read_folders([*self.paths, self.root / "not-there"])

    def edits(self, *names: str, groups: tuple[int, ...] = ()) -> DeviceEdits:
        """What devices add."""
        return device_edits(names, self.read(), groups=groups)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Empty folders."""
    return Folders(tmp_path)


def env(**values: str) -> dict[str, Any]:
    """Edits that set variables."""
    return {"env": [f"{name}={value}" for name, value in values.items()]}


def variables(found: DeviceEdits) -> dict[str, str]:
    """The environment that edits make."""
    return found.edits.environment({})


def test_device_adds_its_own_and_its_files(folders: Folders, tmp_path: Path) -> None:
    """A file's edits come once and before its first device's; a later path takes an earlier's."""
    library = tmp_path / "lib.so.1"
    library.touch()
    mounts = [
        {"hostPath": str(tmp_path), "containerPath": "/deep/er/x", "options": ["rw"]},
        {"hostPath": str(library), "containerPath": "/x/lib.so.1", "options": ["ro", "bind"]},
    ]
    both = env(WHO="file", ALL="1") | {"mounts": mounts}
    zero = env(WHO="0") | {"deviceNodes": [{"path": "/dev/zero"}, NULL]}
    one = env(WHO="1") | {"deviceNodes": [NULL | {"hostPath": "/dev/zero", "minor": 5}]}
    folders.put("etc/x.json", {"0": zero, "1": one}, containerEdits=both)

    found = folders.edits("v.com/gpu=0", "v.com/gpu=1", "v.com/gpu=0")

    assert (
        Edits(
            binds=(
                Bind(str(library), "/x/lib.so.1", read_only=True),
                Bind(str(tmp_path), "/deep/er/x"),
            ),
            env=(
                *(EnvChange("WHO", "file"), EnvChange("ALL", "1")),
                *(EnvChange("WHO", "0"), EnvChange("WHO", "1")),
            ),
            devices=(Device("/dev/zero", "/dev/zero"), Device("/dev/zero", "/dev/fake0")),
        )
        == found.edits
    )
    assert () == found.notes


def test_later_folder_decides(folders: Folders) -> None:
    """A device of the second folder hides that of the first, and two of the first, no others."""
    folders.put("etc/a.json", {"0": env(WHO="a"), "1": env(WHO="a1"), "2": env(WHO="a2")})
    folders.put("etc/b.json", {"0": env(WHO="b"), "2": env(WHO="b2")})
    folders.put("run/c.json", {"0": env(WHO="c")})

    assert {"WHO": "c"} == variables(folders.edits("v.com/gpu=0"))
    assert {"WHO": "a1"} == variables(folders.edits("v.com/gpu=1"))
    with pytest.raises(LaunchRefused, match=r"gpu=2 is in \S+a.json and in \S+b.json"):
        folders.edits("v.com/gpu=2")


def test_all(folders: Folders) -> None:
    """``all`` is the device of that name, or else every device of the kind."""
    folders.put("etc/a.json", {"0": env(A="1"), "1": env(B="1")})
    folders.put("etc/b.json", {"all": env(C="1"), "x": env(D="1")}, kind="w.com/nic")

    assert {"A": "1", "B": "1"} == variables(folders.edits("v.com/gpu=all"))
    assert {"C": "1"} == variables(folders.edits("w.com/nic=all"))


def test_unknown_device_lists_what_there_is(folders: Folders) -> None:
    """One line says what there is, of the same kind when there is one, and which file is bad."""
    folders.put("etc/a.json", {"0": env(A="1"), "1": env(A="1")})
    folders.put("etc/b.json", {"x": env(A="1")}, kind="w.com/nic")
    (folders.root / "etc/bad.yaml").write_text("kind: [")
    (folders.root / "etc/ignored.txt").write_text("kind: [")
    (folders.root / "etc/folder.json").mkdir()

    for name, there in {
        "v.com/gpu=7": "(there is v.com/gpu=0, v.com/gpu=1; ",
        "n.com/gpu=all": "(there is v.com/gpu=0, v.com/gpu=1, w.com/nic=x; ",
    }.items():
        with pytest.raises(LaunchRefused) as caught:
            folders.edits(name)

        assert f"there is no device {name} {there}" in str(caught.value)
        assert "bad.yaml: line 1: is not YAML" in str(caught.value)
    assert 2 == len(folders.read().problems)


@pytest.mark.parametrize("name", ["gpu", "v.com=0", "v.com/gpu", "v.com/gpu=", "v.com/gpu=a b"])
def test_names(folders: Folders, name: str) -> None:
    """What is no full name is refused with the form of one."""
    with pytest.raises(LaunchRefused, match=r"is not a device \(write vendor.com/class=name"):
        folders.edits(name)


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"deviceNodes": [{"path": "/dev/none"}]}, "/dev/none: No such file .* be out of date"),
        ({"deviceNodes": [{"path": "/etc/passwd"}]}, "/etc/passwd is no device of type b, c or p"),
        ({"deviceNodes": [NULL | {"type": "b"}]}, "/dev/null is no device of type b"),
        ({"deviceNodes": [NULL | {"minor": 9}]}, "/dev/null is device 1:3, but .* says 1:9"),
        ({"mounts": [{"hostPath": "/none", "containerPath": "/x"}]}, "/none: No such file"),
        (
            {"mounts": [{"hostPath": "tmpfs", "containerPath": "/x", "type": "tmpfs"}]},
            "tmpfs: a mount of type 'tmpfs' is not made here",
        ),
    ],
)
def test_this_machine_lacks_it(folders: Folders, edits: dict[str, Any], said: str) -> None:
    """What a device asks for and the machine has not is an error that names both."""
    folders.put("etc/a.json", {"0": edits})

    with pytest.raises(LaunchRefused, match=f"device v.com/gpu=0: {said}"):
        folders.edits("v.com/gpu=0")


def test_what_needs_rights_is_said(folders: Folders) -> None:
    """Hooks, groups of others, shares of caches and network devices are left out, with a line."""
    hook = {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}
    hooks = [
        hook | {"args": ["nvidia-cdi-hook", "chmod", "--mode", "755"]},
        hook | {"args": ["nvidia-cdi-hook", "enable-cuda-compat"]},
        {"hookName": "poststop", "path": "/opt/own"},
    ]
    net = [{"hostInterfaceName": "ib0", "name": "eth0"}]
    edits = {"hooks": hooks, "additionalGids": [0, 4, 44], "intelRdt": {}, "netDevices": net}
    folders.put("etc/a.json", {"0": edits}, cdiVersion="1.1.0")

    found = folders.edits("v.com/gpu=0", groups=(44,))

    assert (
        "hooks of devices are not run: nvidia-cdi-hook enable-cuda-compat, /opt/own",
        "groups that a device asks for are not yours: 4",
        "intelRdt of a device is not applied",
        "netDevices of a device are not moved into the container",
    ) == found.notes


@pytest.mark.parametrize("program", [["nvidia-ctk", "hook"], ["nvidia-cdi-hook"]])
def test_what_loader_hooks_were_for(folders: Folders, program: list[str], tmp_path: Path) -> None:
    """Libraries in the folders of ``update-ldcache`` are told, and the links that were to be."""
    files = [tmp_path / name for name in ("libcuda.so.550.1", "nvidia-smi")]
    for file in files:
        file.touch()
    mounts = [{"hostPath": str(file), "containerPath": f"/usr/lib/{file.name}"} for file in files]
    link = "libcuda.so.1::/usr/lib/libcuda.so"
    hooks = [
        {
            "hookName": "createContainer",
            "path": f"/usr/bin/{program[0]}",
            "args": [*program, *words],
        }
        for words in (
            ["create-symlinks", f"--link={link}"],
            ["update-ldcache", "--folder", "/usr/lib"],
        )
    ]
    folders.put("etc/a.json", {"0": {"mounts": mounts, "hooks": hooks}})

    found = folders.edits("v.com/gpu=0")

    assert ((str(files[0]),), (("libcuda.so", "libcuda.so.1"),), ()) == (
        found.libraries,
        found.aliases,
        found.notes,
    )


def test_folder_that_may_not_be_read(tmp_path: Path) -> None:
    """A folder that cannot be listed is a problem, not the end."""
    (tmp_path / "x").touch()

    found = read_folders([tmp_path / "x"])

    assert (f"{tmp_path}/x: cannot be read: {os.strerror(20)}",) == found.problems
