"""validate: what is whole, and each way in which an image is not what it says."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from cache.content import Descriptor, Digest
from registryd.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST
from registryd.transfer.unpacked import Unpacked
from registryd.transfer.validation import validate
from tests.cli.conftest import Ctl
from tests.cli.test_copy import write_layout
from tests.fakes.endpoints import MemorySource, Sample, index, written
from tests.real.registry import RealRegistry, open_registry

PLAIN = (b"first layer " * 5000, b"second layer " * 7000)
PACKED = (
    (OCI_LAYER_GZIP, gzip.compress(PLAIN[0])),
    (OCI_LAYER_ZSTD, zstandard.ZstdCompressor().compress(PLAIN[1])),
)


def image(*, diff_ids: tuple[bytes, ...] = PLAIN, architecture: str = "amd64") -> Sample:
    """An image with a gzip and a zstd layer, whose config promises these contents."""
    config = json.dumps(
        {
            "os": "linux",
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(raw)) for raw in diff_ids]},
        }
    ).encode()

    def point(media_type: str, raw: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": str(Digest.of(raw)), "size": len(raw)}

    document = written(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": point(OCI_CONFIG, config),
            "layers": [point(media_type, raw) for media_type, raw in PACKED],
        }
    )
    contents = {Digest.of(raw): raw for raw in (config, *(raw for _, raw in PACKED))}
    return Sample(document, {document.digest: document}, contents)


BOTH = index(amd64=image(), arm64=image(architecture="arm64"))
LAYER = Digest.of(PACKED[0][1])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that everyone may write to."""
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with the index as v1."""
    return write_layout(tmp_path / "layout", "v1", BOTH)


def problems(ctl: Ctl, *words: str) -> tuple[int, set[tuple[str, str, str]]]:
    """The exit code, and digest, kind and code of all that is wrong."""
    outcome = ctl("validate", *words, "--format", "json", "-q")
    found = json.loads(outcome.out)
    assert found["valid"] is (not found["problems"])
    return outcome.code, {(p["digest"], p["kind"], p["code"]) for p in found["problems"]}


def test_what_is_whole(ctl: Ctl, layout: Path, registry: RealRegistry, tmp_path: Path) -> None:
    """A layout, a registry, a folder and the cache: all is read, each blob once."""
    ctl.environ["REGISTRYD_ROOT"] = str(tmp_path / "root")
    name = f"{registry.name}/whole/app:1"
    for target in (name, f"dir:{tmp_path / 'd'}", "cache:localhost/app:1"):
        words = ("--platform", "linux/arm64") if target.startswith("dir") else ()
        assert ctl("copy", f"oci:{layout}:v1", target, "-q", *words).code == 0

    outcome = ctl("validate", f"oci:{layout}:v1")
    assert (outcome.code, outcome.out) == (0, f"{BOTH.root.digest}\n")
    assert outcome.words[-1].startswith("3 manifests, 4 blobs, ")
    named = ctl("validate", name, "--progress", "json")
    assert named.out == f"{name.rpartition(':')[0]}@{BOTH.root.digest}\n"
    assert json.loads(named.words[-1])["state"] == "done"
    for place in (f"dir:{tmp_path / 'd'}", "cache:localhost/app:1", "localhost/app:1"):
        assert problems(ctl, place) == (0, set())
    assert problems(ctl, name, "--fast", "--platform", "linux/amd64") == (0, set())
    assert ctl("validate", f"{name}x").code == 2
    assert ctl("validate", name, "--platform", "linux/s390x").code == 2


def test_every_fault_is_found(ctl: Ctl, layout: Path) -> None:
    """Wrong, short and missing content; --fast sees sizes and what is missing only."""
    other = Digest.of(PACKED[1][1])
    folder = layout / "blobs/sha256"
    config = next(c.digest for c in image().root.children if c.media_type == OCI_CONFIG)
    arm = image(architecture="arm64").root.digest
    for path in folder.iterdir():
        path.chmod(0o644)
    (folder / LAYER.hex).write_bytes(b"x" * len(PACKED[0][1]))
    (folder / other.hex).write_bytes(PACKED[1][1][:-1])
    (folder / arm.hex).unlink()

    expected = {
        (str(arm), "manifest", "missing"),
        (str(LAYER), "layer", "digest"),
        (str(other), "layer", "size"),
    }
    assert problems(ctl, f"oci:{layout}:v1") == (5, expected)
    (folder / config.hex).unlink()
    assert problems(ctl, f"oci:{layout}:v1", "--fast") == (
        1,
        expected - {(str(LAYER), "layer", "digest")} | {(str(config), "config", "missing")},
    )
    told = ctl("validate", f"oci:{layout}:v1")
    assert (len(told.out.splitlines()), "not valid: 4 faults" in told.words[-1]) == (4, True)


@pytest.mark.parametrize(
    ("diff_ids", "told"),
    [((PLAIN[0], b"else"), (5, "layer", "diff_id")), ((PLAIN[0],), (1, "config", "invalid"))],
)
def test_what_a_config_promises(
    ctl: Ctl, tmp_path: Path, diff_ids: tuple[bytes, ...], told: tuple[int, str, str]
) -> None:
    """Layers that unpack to something else, or are more than the config knows."""
    sample = image(diff_ids=diff_ids)
    layout = write_layout(tmp_path / "wrong", "v1", sample)

    code, found = problems(ctl, f"oci:{layout}:v1")

    assert [(code, kind, name) for _, kind, name in found] == [told]


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"", b""),
        (b"tar", b"tar"),
        (PLAIN[0], PLAIN[0]),
        (gzip.compress(b"a") + gzip.compress(b"b") + b"\0" * 9, b"ab"),
        (PACKED[1][1] + zstandard.ZstdCompressor().compress(b"b"), PLAIN[1] + b"b"),
        (b"\x51\x2a\x4d\x18\x01\0\0\0x" + PACKED[1][1], PLAIN[1]),
    ],
    ids=["nothing", "tar", "plain", "gzip", "zstd", "skippable"],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_unpacked(packed: bytes, plain: bytes, step: int) -> None:
    """Members and frames are one stream, however the bytes come."""
    unpacked = Unpacked()
    for start in range(0, len(packed), step):
        unpacked.feed(packed[start : start + step])

    assert unpacked.digest() == Digest.of(plain)


@pytest.mark.parametrize("measured", [False, True])
async def test_a_source_that_sends_another_size(measured: bool) -> None:
    """A size that is not the announced one is told, whether the layer is read or measured."""
    sample = image()
    sample.blobs[LAYER] += b"more"
    source = MemorySource(sample)

    async def measure(descriptor: Descriptor) -> int:
        return len(sample.blobs[descriptor.digest])

    verdict = await validate(source, measure=measure if measured else None)

    assert [("size", LAYER)] == [(p.code, p.descriptor.digest) for p in verdict.problems]
    assert measured is (LAYER not in source.opened)


def test_a_short_or_damaged_layer_is_told(ctl: Ctl, tmp_path: Path) -> None:
    """A layer that has its digest but cannot be unpacked."""
    for damaged in (PACKED[0][1][:-9], PACKED[0][1][:20] + b"?" * 30):
        sample = image()
        document = json.loads(sample.root.raw)
        document["layers"][0] |= {"digest": str(Digest.of(damaged)), "size": len(damaged)}
        root = written(document)
        sample = Sample(root, {root.digest: root}, sample.blobs | {Digest.of(damaged): damaged})
        layout = write_layout(tmp_path / str(len(damaged)), "v1", sample)

        code, found = problems(ctl, f"oci:{layout}:v1")

        assert (code, [c for _, _, c in found]) == (1, ["invalid"])
