"""A site's modules: which of them a run takes, and what they add to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from registryd.launch.cdi import Devices, read_folders
from registryd.launch.edits import Bind, Device, Edits, EnvChange
from registryd.launch.errors import LaunchRefused
from registryd.launch.image_tree import ImageTree
from registryd.launch.libraries import FOLDER, placed
from registryd.launch.loader import Loader
from registryd.launch.module_edits import Added, added, this_machine
from registryd.launch.module_file import read_module
from registryd.launch.modules import choose, read_modules
from tests.launch.libraries import a_library

FILES = {
    "mpich": "conflicts: [openmpi]\ndefault: true\nwhen: {env: {SLURM_MPI_TYPE: [pmi2, cray*]}}",
    "openmpi": "requires: [base]",
    "gpu": "default: true\nwhen: {paths: [/dev/gpu]}",
    "base": "help: the ground",
    "always": "default: true\nrequires: [base]",
    "circle": "requires: [circus]",
    "circus": "requires: [circle]",
    "broken": "binds: [relative]",
    "wants": "requires: [broken]",
    "twin": "name: base",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of modules."""
    for name, words in FILES.items():
        (tmp_path / f"{name}.yaml").write_text(words)
    (tmp_path / ".hidden.yaml").write_text("x")
    (tmp_path / "README").write_text("x")
    return tmp_path


def chosen(folder: Path, *asked: str, there: bool = False, **environ: str) -> list[str]:
    """The names of the modules that a run takes."""
    found = choose(read_modules(folder), asked, environ, lambda path: there and path == "/dev/gpu")
    return [module.name for module in found]


def test_defaults(folder: Path) -> None:
    """Without the flag those are taken whose conditions hold, behind what they require."""
    assert ["base", "always"] == chosen(folder, SLURM_MPI_TYPE="pmix")
    assert ["base", "always", "gpu", "mpich"] == chosen(
        folder, there=True, SLURM_MPI_TYPE="cray_shasta"
    )


def test_named(folder: Path) -> None:
    """Named ones are taken as they are, without the defaults unless these are asked for."""
    assert [] == chosen(folder, "none", there=True)
    assert ["mpich", "gpu"] == chosen(folder, "mpich,gpu", "mpich")
    assert ["base", "openmpi", "always"] == chosen(folder, "openmpi", "default")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("none,gpu", "--module none takes no other module besides"),
        ("mpich,openmpi", "modules mpich and openmpi exclude one another: name the ones"),
        ("openmpi,mpich", "modules mpich and openmpi exclude one another"),
        ("circle", "modules require one another: circle -> circus -> circle"),
        ("broken", "broken.yaml: binds[0].source: 'relative' is not an absolute path"),
        ("wants", "module wants requires broken: "),
        ("twin", "name: base is the name of another file's module too"),
        ("cuda", "there is no module cuda (there is always, base, circle, "),
    ],
)
def test_refused(folder: Path, asked: str, said: str) -> None:
    """What cannot be taken is one line that says why, and what there is."""
    with pytest.raises(LaunchRefused) as caught:
        chosen(folder, asked)

    assert said in str(caught.value)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """What stands among a site's files and is none is said at once: nobody waits for its writer."""
    for name in ("a.yaml", "b.json"):
        os.mkfifo(tmp_path / name)

    assert {"a": f"{tmp_path}/a.yaml: is no file"} == read_modules(tmp_path).problems
    assert (
        f"{tmp_path}/a.yaml: is no file",
        f"{tmp_path}/b.json: is no file",
    ) == read_folders([tmp_path]).problems


def test_no_folder(tmp_path: Path) -> None:
    """A machine without a folder of modules has none; a folder that cannot be read is told."""
    assert [] == chosen(tmp_path / "none")
    (tmp_path / "file").touch()
    assert {f"{tmp_path}/file"} == read_modules(tmp_path / "file").problems.keys()
    assert not read_modules(None).found


# --- what they add -------------------------------------------------------------------------------


def add(words: str, *devices: str, known: Devices | None = None, **environ: str) -> Added:
    """What one module and these devices add."""
    here = this_machine(environ, (), known or Devices())
    return added([read_module(words, stem="m")], devices, here)


def whole(found: Added, image: Path) -> Edits:
    """With the libraries, in an image."""
    here = Loader(ImageTree(Path("/")))
    fitted = placed(found.libraries, here=here, image=ImageTree(image))
    assert () == fitted.notes
    return found.edits + fitted.edits


def test_binds_and_devices(tmp_path: Path) -> None:
    """Wildcards, variables and what may be missing; a folder's device nodes are taken."""
    for name in ("a/x1", "a/x2", "a/y", "[b]/z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes/null").symlink_to("/dev/null")
    (tmp_path / "nodes/text").touch()
    words = f"""
binds:
  - {tmp_path}/a/x*:/x:ro
  - ${{SCRATCH}}/z:/${{USER}}/z
  - {tmp_path}/none*?
  - ${{WORK}}?:/w
devices: [/dev/null, "{tmp_path}/nodes:/dev/n"]
"""

    found = add(
        words, "/dev/zero:/dev/own:rwm", SCRATCH=f"{tmp_path}/[b]", USER="ann", SECRET="s"
    ).edits

    assert (
        Bind(f"{tmp_path}/a/x1", "/x/x1", read_only=True),
        Bind(f"{tmp_path}/a/x2", "/x/x2", read_only=True),
        Bind(f"{tmp_path}/[b]/z", "/ann/z"),
    ) == found.binds
    assert (
        Device("/dev/null", "/dev/null"),
        Device(f"{tmp_path}/nodes/null", "/dev/n/null"),
        Device("/dev/zero", "/dev/own"),
    ) == found.devices


def test_variables() -> None:
    """The environment is changed in the order of the fields; patterns look at the caller's."""
    words = """
variables: [CRAY_*]
env:
  pass: [PMI_*]
  unset: [GONE, OLD_*]
  set: {A: "${CRAY_X}/$HOME", PMI_FD: "3"}
  default: {A: no}
  prepend: {PATH: /p}
  append: {PATH: "${HOME}"}
"""

    found = add(words, CRAY_X="/c", PMI_FD="4", PMI_R="1", OLD_1="x", HOME="/h")

    assert (
        EnvChange("PMI_FD", "4"),
        EnvChange("PMI_R", "1"),
        EnvChange("GONE", how="unset"),
        EnvChange("OLD_1", how="unset"),
        EnvChange("A", "/c/$HOME"),
        EnvChange("PMI_FD", "3"),
        EnvChange("A", "no", "default"),
        EnvChange("PATH", "/p", "prepend"),
        EnvChange("PATH", "/h", "append"),
    ) == found.edits.env


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("binds: [/none/at/all]", "/none/at/all is not on this machine (write /none/at/all? for"),
        ("binds: ['${SECRET}:/x']", "${SECRET}: SECRET is not set here, or not in variables:"),
        ("binds: ['/etc:/${UP}']", "the target of a bind '/../..' is not an absolute path"),
        ("env: {set: {A: '${NOPE}'}}", "${NOPE}: NOPE is not set here"),
        ("devices: [/etc]", "/etc is no device"),
        ("devices: [/etc/passwd]", "/etc/passwd is no device"),
        ("libraries: {replace: [/etc/passwd]}", "/etc/passwd is no shared library"),
        ("cdi: [a.b/c=d]", "there is no device a.b/c=d (no file names any device)"),
    ],
)
def test_this_machine_lacks_it(words: str, said: str) -> None:
    """What a module needs and the machine has not is one line with the module's name."""
    with pytest.raises(LaunchRefused) as caught:
        add("variables: [UP]\n" + words, SECRET="x", UP="../..")

    assert str(caught.value).startswith(f"module m: {said}")


def test_libraries(tmp_path: Path) -> None:
    """The newest file of a wildcard takes each place that the module names, in folders that it
    names too."""
    image = tmp_path / "image"
    for version in ("8.1.9", "8.1.28"):
        a_library(tmp_path / f"pe/{version}/libmpich.so.12", "libmpich.so.12")
    a_library(image / "opt/own/lib/libmpi.so.12.1", "libmpi.so.12")
    (image / "opt/own/lib/libmpi.so.12").symlink_to("libmpi.so.12.1")
    words = f"""
libraries:
  search: [/opt/*/lib]
  replace:
    - {{path: "{tmp_path}/pe/*/libmpich.so.12", as: libmpi.so.12}}
    - {tmp_path}/none.so?
  add: ["{tmp_path}/pe/*/libmpich.so.12"]
"""
    mine = f"{tmp_path}/pe/8.1.28/libmpich.so.12"

    found = whole(add(words), image)

    assert (
        Bind(mine, "/opt/own/lib/libmpi.so.12.1", read_only=True),
        Bind(mine, f"{FOLDER}/libmpich.so.12", read_only=True),
    ) == found.binds


def test_cdi(tmp_path: Path) -> None:
    """A module's devices, and those of the flag, bring their libraries for the loader to find."""
    cuda = a_library(tmp_path / "host/libcuda.so.550", "libcuda.so.1")
    hook = {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}
    link = "libcuda.so.1::/usr/lib/libcuda.so"
    edits = {
        "env": ["GPU=0"],
        "mounts": [{"hostPath": str(cuda), "containerPath": "/usr/lib/libcuda.so.550"}],
        "hooks": [
            hook | {"args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib"]},
            hook | {"args": ["nvidia-cdi-hook", "create-symlinks", "--link", link]},
        ],
    }
    device = {"name": "0", "containerEdits": edits}
    file = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [device]}
    (tmp_path / "gpu.json").write_text(json.dumps(file))
    known = read_folders([tmp_path])

    module = add("cdi: [nvidia.com/gpu=all]", known=known)
    flag = add("help: x", "nvidia.com/gpu=0", known=known)

    assert () == flag.notes
    assert whole(module, tmp_path) == whole(flag, tmp_path)
    assert (
        Bind(str(cuda), "/usr/lib/libcuda.so.550"),
        Bind(str(cuda), f"{FOLDER}/libcuda.so.1", read_only=True),
        Bind(str(cuda), f"{FOLDER}/libcuda.so", read_only=True),
    ) == whole(flag, tmp_path).binds
    assert {"GPU": "0", "LD_LIBRARY_PATH": FOLDER} == whole(flag, tmp_path).environment({})
