"""An image to run things in: busybox, a program with libraries, and one that shares memory.

Made by umoci; the programs are this machine's, and two that gcc makes.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.real.runtimes import as_root, need, plain_environ, succeed

APPLETS = (
    *("sh", "cat", "echo", "env", "grep", "id", "ls", "mkdir", "pwd", "readlink", "rm", "sleep"),
    *("stat", "test", "touch", "true"),
)
#: ``rank put|get KEY TEXT FOLDER``: two processes that meet in a System V segment; the files
#: ``there`` and ``seen`` in the folder say how far they are. ``get`` answers with its own text.
RANK = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <unistd.h>
static void mark(const char *folder, const char *name) {
  char path[4096]; snprintf(path, sizeof path, "%s/%s", folder, name);
  close(open(path, O_CREAT | O_WRONLY, 0600));
}
static void await(const char *folder, const char *name) {
  char path[4096]; snprintf(path, sizeof path, "%s/%s", folder, name);
  while (access(path, F_OK)) usleep(1000);
}
int main(int count, char **words) {
  int put = !strcmp(words[1], "put");
  if (!put) await(words[4], "there");
  int segment = shmget(atoi(words[2]), 4096, put ? IPC_CREAT | 0600 : 0);
  char *memory = shmat(segment, 0, 0);
  if (memory == (void *)-1) { perror("shmat"); return 1; }
  if (!put) { puts(memory); strcpy(memory, words[3]); mark(words[4], "seen"); return 0; }
  strcpy(memory, words[3]);
  mark(words[4], "there"); await(words[4], "seen");
  puts(memory);
  return shmctl(segment, IPC_RMID, 0);
}
"""
HELLO = '#include <stdio.h>\nint main(void) { puts("linked"); return 0; }\n'


def make_run_image(folder: Path) -> Path:
    """The OCI layout, whose one image has the tag ``run``."""
    layout, bundle = folder / "layout", folder / "bundle"
    environ = plain_environ(folder / "home")

    def umoci(*words: str) -> None:
        succeed([*as_root(), "umoci", *words], environ)

    image = f"{layout}:run"
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", image)
    settings = ("--config.entrypoint=/bin/echo", "--config.entrypoint=entry", "--config.cmd=cmd")
    settings += (
        "--config.env=PATH=/bin:/own",
        "--config.env=OF_IMAGE=image",
        "--config.env=BOTH=image",
    )
    umoci(
        "config", "--image", image, *settings, "--config.workingdir=/data", "--architecture=amd64"
    )
    umoci("unpack", "--image", image, str(bundle))
    _fill(bundle / "rootfs", folder)
    umoci("repack", "--refresh-bundle", "--image", image, str(bundle))
    return layout


def _fill(root: Path, folder: Path) -> None:
    """Put the files there."""
    for name in ("bin", "data", "etc", "opt/tool"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path(need("busybox")).read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/:/bin/sh\n")
    (root / "etc/motd").write_text("hello\n")
    (root / "data/secret").write_text("root's\n")
    (root / "data/secret").chmod(0o600)
    (root / "run").symlink_to("/data")
    _compile(folder, RANK, root / "bin/rank", "-static")
    _compile(folder, HELLO, root / "bin/linked")
    listed = subprocess.run(
        [need("ldd"), root / "bin/linked"], check=True, capture_output=True, text=True
    )
    for path in re.findall(r"/\S+", listed.stdout.split(":")[-1]):
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(Path(path).read_bytes())
        place.chmod(0o755)


def _compile(folder: Path, source: str, target: Path, *flags: str) -> None:
    file = folder / f"{target.name}.c"
    file.write_text(source)
    subprocess.run([need("gcc"), "-o", target, file, *flags], check=True)
