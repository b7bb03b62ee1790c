"""A file that a user names by its path: what they may read of it is copied, while there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registryd.gateway.handing import copy_as
from registryd.gateway.record import Account
from registryd.images.errors import PathUnusable
from tests.real.dockerd import needs_root

ANN = Account(1001, 1001)


@needs_root
def test_what_they_may_read(tmp_path: Path) -> None:
    """A file of theirs comes whole, with all its bytes; another's, a pipe or a folder is none."""
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o777 == 0o700:
            above.chmod(0o711)
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    content = bytes(range(256)) * 20_000
    mine.write_bytes(content)
    theirs.write_bytes(b"secret")
    theirs.chmod(0o600)
    copy_as(ANN, str(mine), tmp_path / "copy", lambda fd: None)
    for number, bad in enumerate((theirs, tmp_path, Path("/dev/zero"))):
        with pytest.raises(PathUnusable, match=str(bad)):
            copy_as(ANN, str(bad), tmp_path / f"{number}", lambda fd: None)

    assert content == (tmp_path / "copy").read_bytes()


@needs_root
@pytest.mark.parametrize(("size", "min_free"), [("8m", 0), ("200m", 1 << 28)])
def test_it_does_not_fill_the_disk(tmp_path: Path, size: str, min_free: int) -> None:
    """Where little room is left it is refused, and the process that read it has ended: a file of
    zeros that takes no room of its user's would take all of ours, or that of the cache's images."""
    words = f"""
from pathlib import Path
from registryd.gateway.handing import copy_as
from registryd.gateway.record import Account
from registryd.gateway.shelf import Shelf
shelf = Shelf(Path({str(tmp_path)!r}), None)
shelf.min_free = lambda: {min_free}
shelf.prepare((), ())
try:
    copy_as(Account(1001, 1001), "/usr/bin/env", shelf.new_file(), shelf.check_room)
except Exception as error:
    print(type(error).__name__, error)
"""
    script = f'mount -t tmpfs -o size={size} none "$0"; cd /; exec "$@"'
    start = ["unshare", "--mount", "sh", "-ec", script, str(tmp_path), sys.executable, "-c", words]
    done = subprocess.run(
        start, capture_output=True, text=True, check=False, env={"PYTHONPATH": ":".join(sys.path)}
    )

    assert f"DiskFull {tmp_path}/gateway/work: no room for what is imported\n" == done.stdout, (
        done.stderr
    )
