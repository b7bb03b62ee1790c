"""The wheel and the source archive: whole, the same each time, and installed by pip and by pipx."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts.clean_root import ROOT
from tests.packages.clean_root import run

#: The endings of what is made in the tree, and is in no archive.
MADE = (".so", ".pyc")


def built(folder: Path) -> tuple[Path, Path]:
    """Wheel and source archive, at a time that never changes."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    run(command, SOURCE_DATE_EPOCH="1700000000")
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and source archive of this tree."""
    return built(tmp_path_factory.mktemp("dist"))


def files(*folders: str) -> set[str]:
    """The files of these folders of the tree."""
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in MADE
    }


def test_the_wheel_has_all_that_is_installed(archives: tuple[Path, Path]) -> None:
    """Code, the API's description, and below ``share/registryd`` every file that commands and pages
    speak of; no test and no program of the house."""
    with zipfile.ZipFile(archives[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    share = {name.partition(".data/data/share/registryd/")[2] for name in names if ".data/" in name}
    code = {name for name in names if ".data/" not in name}

    assert files("cache", "registryd") == code
    assert "registryd/server/openapi.json" in code
    kept = {name.removeprefix("docs/") for name in files("slurm", "systemd", "docs/modules.d")}
    assert kept | {"config.example.toml"} == share


def test_the_source_archive_has_the_tree(archives: tuple[Path, Path]) -> None:
    """What is tested, built and packaged from the tree can be from the archive, without git."""
    with tarfile.open(archives[1]) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    folders = "cache registryd tests scripts bench docs slurm systemd packaging"
    single = {"Makefile", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"}

    assert set() == (files(*folders.split()) | single | {"config.example.toml"}) - names


def test_a_second_build_is_the_same(archives: tuple[Path, Path], tmp_path: Path) -> None:
    """The same source at the same time gives the same bytes."""
    again = built(tmp_path)

    assert [each.read_bytes() for each in archives] == [each.read_bytes() for each in again]


def test_pipx_can_install_it(archives: tuple[Path, Path], tmp_path: Path) -> None:
    """As pipx does it: an environment of its own, in which all three programs start, away from the
    tree. Its dependencies are those of this environment: a package index is no part of the test."""
    place = tmp_path / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", place])
    install = [sys.executable, "-m", "pip", "--python", place / "bin/python", "install", "--quiet"]
    run([*install, "--no-index", "--no-deps", archives[0]])
    (own,) = place.glob("lib/python*/site-packages")
    others = next(path for path in sys.path if path.endswith("site-packages"))
    (own / "others.pth").write_text(others + "\n")
    said = {
        program: subprocess.run(
            [place / "bin" / program, flag], capture_output=True, text=True, cwd=tmp_path
        )
        for program, flag in (
            ("registryd", "--version"),
            ("registryctl", "--version"),
            ("registryd-pyxis-importer", "version"),
        )
    }
    where = [place / "bin/python", "-c", "import registryd, cache; print(registryd.__file__)"]
    found = subprocess.run(where, capture_output=True, text=True, cwd=tmp_path).stdout

    assert found.startswith(str(own))
    assert (place / "share/registryd/systemd/registryd.service").is_file()
    assert [0, 0] == [said[name].returncode for name in ("registryd", "registryctl")]
    assert "Traceback" not in "".join(each.stderr for each in said.values())


def test_the_lock_is_of_these_dependencies() -> None:
    """Every dependency is in the lock of the packages, by hash, in a version that is allowed."""
    from importlib.metadata import requires

    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    lines = (ROOT / "packaging/requirements.lock").read_text().replace("\\\n", " ").splitlines()
    locked = {}
    for line in lines:
        if line and not line.startswith("#"):
            wanted, _, hashes = line.partition("--hash=sha256:")
            entry = Requirement(wanted)
            locked[canonicalize_name(entry.name)] = str(entry.specifier).removeprefix("==")
            assert hashes, f"{entry.name} has no hash"
    asked = [Requirement(text) for text in requires("registryd") or ()]
    asked = [each for each in asked if "extra ==" not in str(each.marker or "")]

    assert len(asked) > 5
    for each in asked:
        assert locked[canonicalize_name(each.name)] in each.specifier
