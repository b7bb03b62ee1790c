"""Story: the Debian package in a clean Debian, from the first installation to the last trace.

The older package is today's around the code of an earlier commit: that had no package yet.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.clean_root import CleanRoot
from tests.packages.clean_root import daemon, entered, run
from tests.packages.older import BEFORE_PINS, older_code
from tests.real.registry import RealRegistry
from tests.real.stories import UP, answers

CONFIG = "/etc/registryd/config.toml"
IMAGE = f"{UP}/lib/image:1"
UNITS = ("registryd.service", "registryd.socket")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanRoot]:
    """A clean Debian with nothing in it."""
    with entered(tmp_path_factory.mktemp("root")) as made:
        yield made


@pytest.fixture
def older(package: Path, tmp_path: Path) -> Path:
    """The same package around earlier code, as version 0.0.1."""
    tree = tmp_path / "older"
    run(["dpkg-deb", "-R", package, tree])
    (place,) = tree.glob("opt/registryd/lib/python*/site-packages")
    for name in ("cache", "registryd"):
        shutil.rmtree(place / name)  # with its bytecode, which nothing compares with its source
    code = older_code(place, BEFORE_PINS)
    (code / "config.example.toml").rename(tree / CONFIG[1:])
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("(?m)^Version: .*$", "Version: 0.0.1", control.read_text()))
    (tree / "DEBIAN/md5sums").unlink()
    made = tmp_path / "registryd_0.0.1.deb"
    run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, made])
    return made


def configure(root: CleanRoot, upstream: RealRegistry) -> str:
    """The administrator's own file in the place of the one that was installed; its text."""
    own = f'''
[cache]
root = "/var/lib/registryd"
[daemon]
socket = "/run/registryd/registryd.sock"
[[daemon.listen]]
address = "127.0.0.1:0"
[registries."{UP}"]
endpoint = "{upstream.url}"
tag_ttl = "1h"
'''
    root.ok("sh", "-c", 'printf %s "$1" >"$2"', "sh", own, CONFIG)
    return own


def install(root: CleanRoot, package: str) -> None:
    """Install a package, or put it in the place of another; the administrator's files stay."""
    root.ok("dpkg", "--force-confold", "-i", package)


def listed(root: CleanRoot) -> dict[str, str]:
    """The images that the daemon has: name -> digest."""
    found = json.loads(root.ok("registryctl", "images", "--format", "json"))
    return {f"{each['name']}:{each['tag']}": each["digest"] for each in found["images"]}


def blob_files(root: CleanRoot) -> list[str]:
    """The files of the cache's blobs, each with its inode: which files these are."""
    found = root.ok("find", "/var/lib/registryd/blobs", "-type", "f", "-printf", r"%i %P\n")
    return sorted(found.splitlines())


def blob_answers(upstream: RealRegistry) -> int:
    """How often the registry was asked for a blob or a manifest by GET."""
    return sum(method == "GET" and "seen=" not in path for method, path, _ in answers(upstream))


def left(root: CleanRoot) -> list[str]:
    """What differs from the clean system, but for its records of packages, users and acts."""
    records = re.compile(r"(etc/(\.pwd\.lock|g?shadow-?|group-?|passwd-?)|var/(lib/dpkg|log)/.*)$")
    paths = (path for path in root.written.rglob("*") if not path.is_dir())
    names = (str(path.relative_to(root.written)) for path in paths)
    # dpkg takes the folder away that the package was alone in.
    return sorted(name for name in names if not records.match(name) and name != "opt")


def test_from_the_first_installation_to_the_last_trace(
    root: CleanRoot, older: Path, package: Path, upstream: RealRegistry
) -> None:
    """An upgrade keeps cache and configuration and fetches nothing again; a downgrade is refused by
    the older daemon in one line, and what docs/install.md says then suffices; remove keeps what
    purge removes."""
    old, new = root.put(older), root.put(package)
    install(root, old)
    config = configure(root, upstream)
    with daemon(root):
        root.ok("registryctl", "pull", IMAGE)
        images, blobs = listed(root), blob_files(root)
    asked = blob_answers(upstream)

    install(root, new)
    with daemon(root):
        root.ok("registryctl", "pull", IMAGE)
        upgraded = listed(root)

    assert {IMAGE} == images.keys()
    assert images == upgraded
    assert config == root.ok("cat", CONFIG)

    install(root, old)
    refused = root.attempt("registryd", "--config", CONFIG, user="registryd")
    root.ok("sh", "-c", "rm /var/lib/registryd/cache.db*")
    with daemon(root):
        downgraded = listed(root)

    assert "schema" in refused.stderr and "upgrade it" in refused.stderr
    assert (1, 1) == (refused.returncode, len(refused.stderr.splitlines()))
    assert (images, blobs) == (downgraded, blob_files(root))
    assert asked == blob_answers(upstream)

    root.ok("dpkg", "-r", "registryd")
    assert [CONFIG, "/var/lib/registryd/blobs"] == root.present(
        CONFIG, "/var/lib/registryd/blobs", "/opt/registryd", "/usr/bin/registryctl"
    )

    root.ok("dpkg", "-P", "registryd")
    root.ok("rm", old, new)
    assert [] == left(root)


def test_what_is_installed(root: CleanRoot, package: Path) -> None:
    """Programs, units, user, folders and completion are where Debian has them; the sockets open at
    boot; nothing knows the folder that the package was built in."""
    inside = root.put(package)
    root.ok("dpkg", "-i", inside)
    try:
        folders = ("/etc/registryd", "/var/lib/registryd", "/run/registryd")
        modes = root.ok("stat", "-c", "%U %a %n", *folders, CONFIG).splitlines()
        wanted = [*_WANTED, *(f"/lib/systemd/system/{unit}" for unit in UNITS)]
        enabled = root.ok("sh", "-c", "ls /etc/systemd/system/*.wants").split()
        # Pages are left out, see _PAGES; the administrator has written the configuration.
        faults = root.ok("dpkg", "--verify", "registryd").splitlines()
        faults = [line for line in faults if "/usr/share/doc/" not in line and CONFIG not in line]
        strangers = root.attempt("grep", "-rlI", "/debian/registryd", "/opt/registryd/bin")

        root.ok("sh", "-c", f"echo '[cluster]' >{CONFIG}")
        with daemon(root) as lines:
            ready = lines[-1]

        assert "root=/var/lib/registryd listeners=unix:/run/registryd/registryd.sock, " in ready
        assert [
            "root 755 /etc/registryd",
            "registryd 700 /var/lib/registryd",
            "registryd 755 /run/registryd",
            f"root 644 {CONFIG}",
        ] == modes
        assert wanted == root.present(*wanted)
        assert set(_PAGES) <= set(root.ok("dpkg", "-L", "registryd").splitlines())
        assert set(UNITS) <= set(enabled)
        assert "" == strangers.stdout
        assert root.ok("registryctl", "--version").split()[-1] in package.name
        assert [] == faults
    finally:
        root.ok("dpkg", "-P", "registryd")
        root.ok("rm", inside)


_WANTED = (
    "/usr/bin/registryd",
    "/usr/bin/registryctl",
    "/usr/bin/registryd-pyxis-importer",
    "/usr/lib/sysusers.d/registryd.conf",
    "/usr/lib/tmpfiles.d/registryd.conf",
    "/usr/share/bash-completion/completions/registryctl",
    "/usr/share/zsh/vendor-completions/_registryctl",
    "/usr/share/fish/vendor_completions.d/registryctl.fish",
    "/opt/registryd/share/registryd/slurm/prolog.sh",
)
#: A clean Debian of ours leaves out what lies in /usr/share/doc; the package has it.
_PAGES = (
    "/usr/share/doc/registryd/changelog.gz",
    "/usr/share/doc/registryd/copyright",
    "/usr/share/doc/registryd/examples",
    "/usr/share/doc/registryd/install.md",
    "/usr/share/doc/registryd/monitoring/dashboard.json",
    "/usr/share/doc/registryd/runtimes/containerd.md",
)
