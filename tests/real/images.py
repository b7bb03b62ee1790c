"""Images that other programs have made: umoci's layers, skopeo's zstd, buildah's index.

They are small (about 2 MB) and hold a real root with a shell. Each is an OCI layout under a tag.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.real.runtimes import Containers, Skopeo, as_root, need, plain_environ, succeed

#: Bytes of what cannot be compressed, in the second layer.
DATA = 700_000


@dataclass(frozen=True)
class Images:
    """The layouts, by the name of what is special about each."""

    layouts: dict[str, Path] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """The image as skopeo names it."""
        return f"oci:{self.layouts[name]}:{name}"

    def digest(self, name: str) -> str:
        """The digest of the image's manifest or index."""
        return root_digest(self.layouts[name], name)

    def blobs(self, name: str) -> set[str]:
        """The digests of the whole image: manifests, configs and layers."""
        return closure(self.layouts[name], self.digest(name))


def make_images(folder: Path) -> Images:
    """``gzip`` has three layers, ``zstd`` the same in zstd, ``multi`` is an index of both."""
    layouts = {"gzip": _layered(folder), "zstd": folder / "zstd", "multi": folder / "multi"}
    images = Images(layouts)
    skopeo = Skopeo(folder / "home")
    skopeo.copy(
        images.source("gzip"),
        images.source("zstd"),
        "--dest-compress-format=zstd",
    )
    buildah = Containers("buildah", folder / "home", {})
    buildah("manifest", "create", "localhost/multi")
    for name, platform in (("gzip", "amd64"), ("zstd", "arm64")):
        added = ("--os", "linux", "--arch", platform, "localhost/multi", images.source(name))
        buildah("manifest", "add", *added)
    buildah("manifest", "push", "--all", "localhost/multi", images.source("multi"))
    return images


def _layered(folder: Path) -> Path:
    """Three layers on nothing, by umoci."""
    layout, bundle = folder / "gzip", folder / "bundle"
    environ = plain_environ(folder / "home")

    def umoci(*words: str) -> None:
        succeed([*as_root(), "umoci", *words], environ)

    image = f"{layout}:gzip"
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", image)
    umoci("config", "--image", image, "--config.cmd", "/bin/sh", "--architecture", "amd64")
    umoci("unpack", "--image", image, str(bundle))
    rootfs = bundle / "rootfs"
    for files in (_shell(), _data(), {"etc/motd": b"hello\n"}):
        for name, content in files.items():
            path = rootfs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755)
        umoci("repack", "--refresh-bundle", "--image", image, str(bundle))
    return layout


def _shell() -> dict[str, bytes]:
    return {"bin/sh": Path(need("busybox")).read_bytes()}


def _data() -> dict[str, bytes]:
    return {"data/noise": random.Random(1).randbytes(DATA)}


def root_digest(layout: Path, tag: str) -> str:
    """What a tag means in an OCI layout."""
    listing = json.loads((layout / "index.json").read_bytes())
    for entry in listing["manifests"]:
        if (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name") == tag:
            return str(entry["digest"])
    raise AssertionError(f"{layout} has no {tag}")


def closure(layout: Path, digest: str) -> set[str]:
    """A digest, and everything that it points to in this layout."""
    found = {digest}
    document = read(layout, digest)
    for child in document.get("manifests", []):
        found |= closure(layout, child["digest"])
    if "config" in document:
        found.add(document["config"]["digest"])
    return found | {layer["digest"] for layer in document.get("layers", [])}


def read(layout: Path, digest: str) -> dict[str, Any]:
    """A document of a layout."""
    value = json.loads((layout / "blobs" / digest.replace(":", "/")).read_bytes())
    assert isinstance(value, dict)
    return value
