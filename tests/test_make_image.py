"""The image maker: what it makes is a correct image, the same each time, and it runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from scripts.machine_tree import Tree
from scripts.make_image import INDEX_TYPE, make_image, write_layer

DEBIAN_PYTHON = Path("/usr/bin/python3.11")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with the image of the running interpreter under the tag one."""
    place = tmp_path_factory.mktemp("image") / "layout"
    make_image(place, tag="one")
    return place


def read(layout: Path, digest: str) -> bytes:
    """A blob, proven."""
    content = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
    return content


def document(layout: Path, digest: str) -> dict[str, Any]:
    """A JSON blob."""
    parsed: dict[str, Any] = json.loads(read(layout, digest))
    return parsed


def tagged(layout: Path) -> dict[str, str]:
    """Tag -> digest."""
    listing = json.loads((layout / "index.json").read_text())
    key = "org.opencontainers.image.ref.name"
    return {entry["annotations"][key]: entry["digest"] for entry in listing["manifests"]}


def plain(layout: Path, layer: dict[str, Any]) -> bytes:
    """A layer's tar archive."""
    packed = read(layout, layer["digest"])
    if layer["mediaType"].endswith("+zstd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    return gzip.decompress(packed)


#: Python 3.11.4 and later ask to be told that an archive is our own; Debian's 3.11.2 cannot be.
TRUSTED: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}


def flatten(layout: Path, digest: str, root: Path) -> dict[str, Any]:
    """Unpack every layer over the one before, with its whiteouts; gives the config."""
    manifest = document(layout, digest)
    archive = root.with_suffix(".tar")
    for layer in manifest["layers"]:
        archive.write_bytes(plain(layout, layer))
        with tarfile.open(archive) as entries:
            for entry in entries:
                folder, name = os.path.split(entry.name)
                if name.startswith(".wh."):
                    (root / folder / name.removeprefix(".wh.")).unlink()
                else:
                    entries.extract(entry, root, **TRUSTED)
    return document(layout, manifest["config"]["digest"])


def run(root: Path, config: dict[str, Any], *command: str) -> str:
    """What a command prints when it runs with this root and the image's environment."""
    apart = [] if os.geteuid() == 0 else ["unshare", "-r"]
    chroot = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert chroot
    environment = dict(pair.split("=", 1) for pair in config["config"]["Env"])
    done = subprocess.run(
        [*apart, chroot, root, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def flat(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The image's root file system, and its config."""
    root = tmp_path_factory.mktemp("flat") / "root"
    root.mkdir()
    return root, flatten(layout, tagged(layout)["one"], root)


def test_it_runs(flat: tuple[Path, dict[str, Any]]) -> None:
    """The shell, the coreutils, the interpreter with its libraries and the command all run."""
    root, config = flat
    modules = "import ssl, sqlite3, ctypes, lzma, json, asyncio; print(1)"

    assert run(root, config, "/bin/sh", "-c", "echo $PATH; ls /app; env | grep LANG") == (
        "/usr/local/bin:/usr/bin:/bin\ndata\nmain.py\nsettings.json\nLANG=C.UTF-8\n"
    )
    assert run(root, config, "python3", "-c", modules) == "1\n"
    assert "hello from CPython" in run(root, config, *config["config"]["Cmd"])


@pytest.mark.skipif(not DEBIAN_PYTHON.exists(), reason="needs Debian's python3.11")
def test_the_systems_own_interpreter_runs(tmp_path: Path) -> None:
    """An interpreter under /usr is taken with its libraries, too."""
    made = make_image(tmp_path / "layout", python=DEBIAN_PYTHON, data_bytes=0)
    root = tmp_path / "root"
    root.mkdir()
    config = flatten(tmp_path / "layout", made.digest, root)
    code = "import sys, ssl, zlib, hashlib; print(sys.prefix)"

    assert run(root, config, "python3", "-c", code) == "/usr\n"


def test_manifest_and_config_are_true(layout: Path) -> None:
    """Sizes, digests and diff_ids hold; layers are gzip, zstd, gzip, gzip; 50 MB at the least."""
    manifest = document(layout, tagged(layout)["one"])
    config = document(layout, manifest["config"]["digest"])
    archives = [plain(layout, layer) for layer in manifest["layers"]]

    assert [len(read(layout, layer["digest"])) for layer in manifest["layers"]] == [
        layer["size"] for layer in manifest["layers"]
    ]
    assert [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives] == (
        config["rootfs"]["diff_ids"]
    )
    assert [layer["mediaType"].rpartition("+")[2] for layer in manifest["layers"]] == (
        ["gzip", "zstd", "gzip", "gzip"]
    )
    assert len(config["history"]) == len(archives)
    assert sum(map(len, archives)) > 50 << 20


def test_entries_are_normal(layout: Path) -> None:
    """Entries are sorted, belong to root and to time 0; each parent stands before its children."""
    manifest = document(layout, tagged(layout)["one"])
    seen: set[str] = set()
    for layer in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(plain(layout, layer))) as archive:
            entries = archive.getmembers()
        names = [entry.name for entry in entries]
        assert names == sorted(set(names))
        assert {(entry.uid, entry.gid, entry.mtime) for entry in entries} == {(0, 0, 0)}
        for name in names:
            assert os.path.dirname(name) in seen | {""}
            seen.add(name)


def test_the_digest_repeats(layout: Path, tmp_path: Path) -> None:
    """The command gives the same image again, whatever the user's umask is."""
    command = [sys.executable, "scripts/make_image.py", tmp_path / "again", "--tag", "two"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, umask=0o077)

    assert tagged(layout)["one"] == done.stdout.strip()
    assert tagged(tmp_path / "again") == {"two": tagged(layout)["one"]}


def test_an_index_shares_its_layers(layout: Path, tmp_path: Path) -> None:
    """An index has two platforms with the same layers; other tags of the layout stay."""
    shutil.copytree(layout, tmp_path / "layout")
    made = make_image(tmp_path / "layout", tag="index", index=True)
    root = document(tmp_path / "layout", made.digest)
    manifests = [document(tmp_path / "layout", entry["digest"]) for entry in root["manifests"]]
    configs = [document(tmp_path / "layout", m["config"]["digest"]) for m in manifests]

    assert {"one", "index"} == set(tagged(tmp_path / "layout"))
    assert INDEX_TYPE == made.media_type
    assert manifests[0]["layers"] == manifests[1]["layers"]
    assert [entry["platform"]["architecture"] for entry in root["manifests"]] == (
        [config["architecture"] for config in configs]
    )
    assert {"amd64", "arm64"} == {config["architecture"] for config in configs}


def test_a_base_directory_is_the_first_layer(tmp_path: Path) -> None:
    """--base takes a directory as it is: files, folders and links."""
    base = tmp_path / "base"
    (base / "bin").mkdir(parents=True)
    (base / "bin" / "tool").write_text("tool")
    (base / "bin" / "link").symlink_to("tool")
    made = make_image(tmp_path / "layout", base=base, data_bytes=0)
    archive = tmp_path / "first.tar"
    first = document(tmp_path / "layout", made.digest)["layers"][0]
    archive.write_bytes(plain(tmp_path / "layout", first))
    with tarfile.open(archive) as entries:
        found = {entry.name: (entry.isdir(), entry.linkname) for entry in entries}

    assert found == {"bin": (True, ""), "bin/link": (False, "tool"), "bin/tool": (False, "")}


def test_a_failure_leaves_no_blob(tmp_path: Path) -> None:
    """A layer whose file vanishes leaves nothing behind."""
    tree = Tree()
    (tmp_path / "file").write_text("x")
    tree.take(tmp_path / "file")
    (tmp_path / "file").unlink()
    with pytest.raises(FileNotFoundError):
        write_layer(tmp_path / "layout", tree, "gzip")

    assert [] == list((tmp_path / "layout").rglob("blobs/sha256/*"))


def test_links_on_the_way_are_taken(tmp_path: Path) -> None:
    """A path through links brings every link, and the file where it really is."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "file").write_text("x")
    (tmp_path / "relative").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative" / "file")
    tree = Tree()
    tree.take(tmp_path / "absolute")
    links = {Path(p).name: e.link for p, e in tree.entries.items() if e.link}

    assert {"relative": "real", "absolute": f"{tmp_path}/relative/file"} == links
    assert f"{real}/file" in tree.entries


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    """Links that lead round in a circle are an error."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many links"):
        Tree().take(tmp_path / "a")
