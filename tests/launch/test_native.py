"""What is said of a command that cannot be begun. (All else is in tests/real/test_run.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from registryd.launch.native import NOT_FOUND, NOT_RUN, _begun


@pytest.mark.parametrize(
    ("content", "mode", "code", "said"),
    [
        (None, 0, NOT_FOUND, "there is no such command in the image"),
        (b"#!/nowhere/python9\n", 0o755, NOT_FOUND, r"after its #!, or its loader\) is not in the"),
        (b"words\n", 0o755, NOT_RUN, "Exec format error .it is for another machine than "),
        (b"#!/bin/sh\n", 0o644, NOT_RUN, "Permission denied"),
    ],
)
@pytest.mark.parametrize("by_path", [True, False])
def test_why_a_command_is_not_run(
    tmp_path: Path, content: bytes | None, mode: int, code: int, said: str, by_path: bool
) -> None:
    """A file that is there and has no interpreter is not told to be missing; one of another
    architecture is called that."""
    file = tmp_path / "tool"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    why = _begun([str(file) if by_path else "tool"], {"PATH": f"/nowhere:{tmp_path}"})

    assert code == why.exit_code
    with pytest.raises(type(why), match=said):
        raise why
