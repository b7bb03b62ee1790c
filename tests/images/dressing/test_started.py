"""A dressed image is started by what looks for those files: its own shell, and charliecloud."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from registryd.images.dressing.dress import dress
from registryd.images.layers.extract import extract
from registryd.images.layers.squashfs import write_squashfs
from registryd.oci.image_config import ImageConfig
from registryd.oci.platform import Platform
from tests.images.layers.trees import IMAGE, Openers, layer, member, planned
from tests.real.dockerd import needs_root
from tests.real.runtimes import need


def shells() -> bytes:
    """A layer with a shell and nothing else."""
    busybox = Path(need("busybox")).read_bytes()
    return layer(
        member("bin/busybox", busybox, mode=0o755),
        *(member(f"bin/{name}", kind="l", link="busybox") for name in ("sh", "env", "pwd", "id")),
    )


CONFIG = ImageConfig(
    platform=Platform("linux", "amd64"),
    env=("PATH=/bin", "LINES=a\nb 'c'", "MARKS='x'", "BRACES=${HOME}"),
    entrypoint=("sh", "-c", 'pwd; env; printf "[%s]" "$@"', "name"),
    cmd=("a b", "$(c)"),
    working_dir="/data/in",
)


@needs_root
@pytest.mark.parametrize("tool", ["enroot", "apptainer"])
def test_a_root_that_starts(tmp_path: Path, tool: str) -> None:
    """In the image itself, by its own shell: words, variables and folder are Docker's."""
    image = shells()
    target = tmp_path / "root"
    target.mkdir()
    plan = dress(planned(image), CONFIG)
    extract(plan, Openers((image,)).all(), IMAGE, target, privileged=True)
    start = {"enroot": ("/etc/rc",), "apptainer": ("/.singularity.d/actions/run",)}[tool]
    words = ["bwrap", "--bind", str(target), "/", "--clearenv", "--unshare-all", "/bin/sh", *start]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    where = {"enroot": "/data/in", "apptainer": "/"}[tool]

    assert done.stdout.startswith(f"{where}\n")
    assert done.stdout.endswith("[a b][$(c)]")
    assert "BRACES=${HOME}\n" in done.stdout
    assert "LINES=a\nb 'c'\n" in done.stdout
    assert "PATH=/bin\nMARKS=\"'x'\"\n" == (target / "etc/environment").read_text()
    assert "PATH='/bin'\nMARKS=''x''\nBRACES='${HOME}'\n" == (target / "ch/environment").read_text()


#: A device that every user may open, as udev leaves it; $0 is a folder for it.
FUSE = """
mount -t tmpfs none "$0"
mknod "$0/fuse" c 10 229
chmod 666 "$0/fuse"
mount --bind "$0/fuse" /dev/fuse
exec "$@"
"""


@needs_root
async def test_charliecloud_starts_it() -> None:
    """ch-run mounts the squashfs as an ordinary user, and takes the image's variables from it."""
    need("ch-run")
    image = shells()
    with tempfile.TemporaryDirectory(prefix="registryd-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "fuse").mkdir()
        (folder / "top").mkdir()
        os.chown(folder / "top", 65534, 65534)
        squashfs = folder / "x.sqfs"
        await write_squashfs(
            dress(planned(image), CONFIG),
            Openers((image,)).all(),
            IMAGE,
            squashfs,
            compressor="zstd",
            environ=os.environ,
        )
        squashfs.chmod(0o644)
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        flags = ["-m", str(folder / "top"), "--unset-env=*", "--set-env", "--env-no-expand"]
        command = ["ch-run", *flags, str(squashfs), "--", "/bin/sh", "-c", "id; env"]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", FUSE, str(folder / "fuse"), *become, *command],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "USER": "nobody", "HOME": "/"},
            cwd="/",
        )

    assert 0 == done.returncode, done
    assert done.stdout.startswith("uid=65534(nobody)")
    assert {"PATH=/bin", "MARKS='x'", "BRACES=${HOME}"} <= set(done.stdout.splitlines())
