"""Today's Debian package, built once for all workers, and a registry with a small image."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.clean_root import ROOT
from tests.packages.clean_root import run
from tests.packages.older import small_image
from tests.real.registry import RealRegistry, open_registry
from tests.real.stories import Ctl


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package. Skips where its builder is not there."""
    if shutil.which("dh") is None or not Path("/usr/share/python-wheels").is_dir():
        pytest.skip("debhelper or python3-pip-whl is not installed")
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "deb"
    with open(f"{shared}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(shared.glob("*.deb")):
            run([ROOT / "scripts/deb.sh", shared])
    (found,) = shared.glob("*.deb")
    return found


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry that has ``lib/image:1``."""
    small_image(tmp_path / "layout")
    with open_registry(tmp_path / "upstream") as registry:
        image = f"{registry.name}/lib/image:1"
        Ctl(tmp_path / "home").ok("copy", f"oci:{tmp_path}/layout:one", image, "--plain-http")
        yield registry
