"""Small shared libraries, made with the machine's compiler."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def a_library(
    path: Path,
    soname: str = "",
    *,
    says: int = 0,
    function: str = "who",
    needs: Sequence[Path] = (),
) -> Path:
    """A library with one function that gives a number, which needs others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"int {function}(void){{return {says};}}"
    name = [f"-Wl,-soname,{soname}"] if soname else []
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "-x", "c", "-", *name]
    tail = ["-x", "none", *map(str, needs), "-o", str(path)]
    subprocess.run([*command, *tail], input=source.encode(), check=True, capture_output=True)
    return path
