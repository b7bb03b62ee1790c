"""Story: docs/walkthrough.md, run as it stands against a real registry and a real daemon."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registryd.oci.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from tests.docs.pages import run, steps
from tests.images.layers.trees import layer, member
from tests.real.cluster import _send, _upload
from tests.real.registry import RealRegistry, open_registry
from tests.real.runtimes import need, plain_environ
from tests.real.stories import daemon
from tests.test_floors import ROOT

PAGE = ROOT / "docs/walkthrough.md"
REGISTRY = "registry.example.com"


def content(name: str, size: int) -> bytes:
    """Bytes that nothing compresses, the same on every machine."""
    return hashlib.shake_128(name.encode()).digest(size)


BASE = layer(member("lib/base.so", content("base", 3_000_000)))
APP = layer(member("app/solve", content("solve", 500_000)))
OTHER = layer(member("app/plot", content("plot", 400_000)))


def push_image(registry: RealRegistry, repository: str, own: bytes) -> None:
    """An index of two platforms as ``REPOSITORY:1``, with the base below both."""
    platforms = [("amd64", [BASE, own]), ("arm64", [BASE, layer(member("arm", own[:90_000]))])]
    entries = [_push(registry, repository, name, layers) for name, layers in platforms]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    _put(registry, repository, "1", OCI_INDEX, index)


def _push(registry: RealRegistry, repository: str, name: str, layers: list[bytes]) -> Any:
    pushed = [_upload(registry, repository, each) for each in layers]
    config = {
        "architecture": name,
        "os": "linux",
        "config": {"Cmd": ["/app/solve"]},
        "rootfs": {"type": "layers", "diff_ids": [each["digest"] for each in pushed]},
    }
    kept = _upload(registry, repository, json.dumps(config).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, **kept},
        "layers": [{"mediaType": OCI_LAYER, **each} for each in pushed],
    }
    raw = _put(registry, repository, "", OCI_MANIFEST, manifest)
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    platform = {"architecture": name, "os": "linux"}
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(raw), "platform": platform}


def _put(registry: RealRegistry, repository: str, tag: str, kind: str, value: Any) -> bytes:
    raw = json.dumps(value, indent=2).encode()
    name = tag or f"sha256:{hashlib.sha256(raw).hexdigest()}"
    path, form = f"/v2/{repository}/manifests/{name}", {"Content-Type": kind}
    status, _ = _send(registry, "PUT", path, raw, form)
    assert status == 201
    return raw


@contextmanager
def stage(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A registry with the two images, a daemon, and the folder and environment of a reader."""
    with open_registry(folder / "registry") as registry:
        push_image(registry, "team/solver", APP)
        push_image(registry, "team/plotter", OTHER)
        sections = {"registries": {REGISTRY: {"endpoint": registry.url}}}
        with daemon(folder / "node", sections) as node:
            home = folder / "home"
            home.mkdir()
            environ = plain_environ(home)
            yield (
                home,
                {
                    **environ,
                    "PATH": f"{Path(sys.executable).parent}:{environ['PATH']}",
                    "COLUMNS": "100",
                    "REGISTRYD_SOCKET": str(node.socket),
                    "NODE": node.address,
                    "CACHE": str(node.root),
                },
            )


@pytest.mark.parametrize("program", ["curl", "tar2sqfs"])
def test_programs_are_there(program: str) -> None:
    """What the page uses beside registryctl."""
    need(program)


def test_the_page_tells_what_happens(tmp_path: Path) -> None:
    """Each command of the page, in order, prints what the page shows."""
    with stage(tmp_path) as (home, environ):
        for step in steps(PAGE):
            printed = run(step, home, environ)

            assert step.agrees(printed), f"$ {step.command}\n{printed}"
