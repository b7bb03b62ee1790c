"""Layers made by hand, the trees that programs make of them, and how both are compared."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from registryd.images.layers.allowance import Allowance
from registryd.images.layers.extract import Skipped, extract
from registryd.images.layers.headers import read_entries
from registryd.images.layers.plan import Plan, flatten
from registryd.images.layers.stream import write_tar

IMAGE = "the image"
#: When the files of these layers were changed; what no layer speaks of has no such time.
WHEN = 1_700_000_000


class Item(NamedTuple):
    """What a path is: all that must be the same, and which paths are the same file."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int | None
    content: str
    xattrs: tuple[tuple[str, bytes], ...] = ()
    same: tuple[str, ...] = ()


Tree = dict[str, Item]


def member(name: str | bytes, content: bytes = b"", **how: object) -> tuple[tarfile.TarInfo, bytes]:
    """One entry; ``kind`` is a letter of ``find -type``, h is a hard link."""
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    made = tarfile.TarInfo(text)
    kinds = {
        "f": tarfile.REGTYPE,
        "d": tarfile.DIRTYPE,
        "l": tarfile.SYMTYPE,
        "h": tarfile.LNKTYPE,
        "c": tarfile.CHRTYPE,
        "b": tarfile.BLKTYPE,
        "p": tarfile.FIFOTYPE,
    }
    kind = str(how.pop("kind", "f"))
    made.type = kinds[kind]
    made.mode = {"d": 0o755, "l": 0o777}.get(kind, 0o644)
    made.mtime = WHEN
    made.size = len(content)
    for key, value in how.items():
        setattr(
            made,
            {"link": "linkname", "major": "devmajor", "minor": "devminor"}.get(key, key),
            value,
        )
    return made, content


def layer(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these entries, in order."""
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=form, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for made, content in members:
            archive.addfile(made, io.BytesIO(content))
    return file.getvalue()


def planned(*layers: bytes) -> Plan:
    """Our plan of these layers."""
    allowance = Allowance()
    return flatten(
        [
            read_entries(io.BytesIO(each), f"layer {number + 1}", number, allowance)
            for number, each in enumerate(layers)
        ],
        IMAGE,
    )


@dataclass(frozen=True)
class Openers:
    """How the layers are read again."""

    layers: Sequence[bytes]

    def all(self) -> list[type[io.BytesIO]]:
        return [lambda each=each: io.BytesIO(each) for each in self.layers]  # type: ignore[misc]


def extracted(target: Path, *layers: bytes, privileged: bool = True) -> Skipped:
    """Our root of these layers, in a new folder."""
    target.mkdir()
    openers = Openers(layers).all()
    return extract(planned(*layers), openers, IMAGE, target, privileged=privileged)


def walked(root: Path) -> Tree:
    """A folder as a tree."""
    found: dict[str, tuple[os.stat_result, Item]] = {}
    names: dict[int, list[str]] = {}
    top = os.fsencode(root)
    left = [b""]
    while left:
        way = left.pop()
        path = os.path.join(top, way) if way else top
        status = os.lstat(path)
        text = os.fsdecode(way)
        found[text] = status, _item(path, status)
        if stat.S_ISDIR(status.st_mode):
            left += [os.path.join(way, name) for name in os.listdir(path)]
        elif status.st_nlink > 1:
            names.setdefault(status.st_ino, []).append(text)
    return {
        text: item._replace(same=tuple(sorted(names.get(status.st_ino, ()))))
        for text, (status, item) in found.items()
    }


def _item(path: bytes, status: os.stat_result) -> Item:
    kind = stat.filemode(status.st_mode)[0]
    content = ""
    if kind == "-":
        content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
    elif kind == "l":
        content = os.fsdecode(os.readlink(path))
    elif kind in "cb":
        content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    xattrs = os.listxattr(path, follow_symlinks=False)
    return Item(
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        int(status.st_mtime),
        content,
        tuple(sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in xattrs)),
    )


def tarred(raw: bytes) -> Tree:
    """A flattened tar as a tree; fails where a path comes twice, or before its folder."""
    tree: Tree = {}
    first: dict[str, list[str]] = {}
    with tarfile.open(
        fileobj=io.BytesIO(raw), encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for each in archive:
            name = each.name.removeprefix("./").rstrip("/")
            name = "" if name == "." else name
            assert name not in tree
            above = name.rpartition("/")[0]
            assert not above or tree[above].kind == "d"
            if each.islnk():
                first.setdefault(each.linkname, [each.linkname]).append(name)
                tree[name] = tree[each.linkname]
                continue
            tree[name] = _of_member(archive, each)
    for names in first.values():
        for name in names:
            tree[name] = tree[name]._replace(same=tuple(sorted(names)))
    return tree


def _of_member(archive: tarfile.TarFile, each: tarfile.TarInfo) -> Item:
    kind = {"0": "-", "5": "d", "2": "l", "3": "c", "4": "b", "6": "p"}[each.type.decode()]
    content = each.linkname if kind == "l" else ""
    if kind == "-":
        file = archive.extractfile(each)
        assert file is not None
        content = hashlib.sha256(file.read()).hexdigest()
    elif kind in "cb":
        content = f"{each.devmajor}:{each.devminor}"
    mark = "SCHILY.xattr."
    xattrs = sorted(
        (key.removeprefix(mark), value.encode("utf-8", "surrogateescape"))
        for key, value in each.pax_headers.items()
        if key.startswith(mark)
    )
    mode = 0o777 if kind == "l" else each.mode
    return Item(kind, mode, each.uid, each.gid, int(each.mtime), content, tuple(xattrs))


def untimed(tree: Tree, *names: str) -> Tree:
    """The tree without the times of its folders that no layer spoke of, and without these."""
    return {
        name: item._replace(mtime=None) if item.mtime != WHEN or name in names else item
        for name, item in tree.items()
    }


def layout(folder: Path, *layers: bytes) -> Path:
    """An OCI layout with one image of these layers, under the tag ``x``; its config is minimal."""

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        path = folder / "blobs/sha256" / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        kind = f"application/vnd.oci.image.{kind}"
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    described = [blob(each, "layer.v1.tar") for each in layers]
    rootfs = {"type": "layers", "diff_ids": [each["digest"] for each in described]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": described,
    }
    entry = blob(json.dumps(document).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def umoci(folder: Path, *layers: bytes) -> Path:
    """The root that umoci unpacks from these layers."""
    image = f"{layout(folder / 'layout', *layers)}:x"
    words = ["umoci", "unpack", "--image", image, str(folder / "bundle")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "bundle/rootfs"


def streamed(*layers: bytes) -> Tree:
    """Our tar of these layers, as a tree; it is checked that parents and targets come first."""
    out = io.BytesIO()
    write_tar(planned(*layers), Openers(layers).all(), IMAGE, out)
    return tarred(out.getvalue())


def comparable(tree: Tree) -> Tree:
    """umoci leaves the time of its own work on some folders, and on the top."""
    folders = (name for name, item in tree.items() if item.kind == "d")
    return {name: item for name, item in untimed(tree, *folders).items() if name}
