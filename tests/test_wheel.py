"""What is installed beside the code: whoever has no tree finds it below ``share/registryd``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("folder", ["slurm", "docs/modules.d"])
def test_a_wheel_has_it(folder: str) -> None:
    """Every file that commands and pages speak of is in the list of what is installed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = {
        path
        for globs in settings["data-files"].values()
        for glob in globs
        for path in ROOT.glob(glob)
    }
    there = {
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }

    assert there
    assert set() == there - listed
