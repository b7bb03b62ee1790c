"""What people type who come from docker: images with a name, rmi and tag by digest, history."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Descriptor
from cache.errors import NameNotFound
from registryd.cli.held_names import with_digest
from registryd.oci.errors import ManifestInvalid
from registryd.oci.history import Step, read_history
from registryd.oci.media_types import OCI_LAYER
from tests.cli.conftest import Ctl, Outcome
from tests.fakes.daemon import Answer, FakeDaemon
from tests.images.archives import LAYER, SECOND, Saved, saved

STEPS = [
    {"created": "2020-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file:1 in /"},
    {"created": "2021-01-01T00:00:00Z", "created_by": "CMD sh", "empty_layer": True},
    {"created": "2022-01-01T00:00:00Z", "created_by": "RUN " + "x " * 40, "comment": "buildkit"},
]
ONE = Saved(tags=("a/one:1", "a/one:2"), more={"history": STEPS})
TWO = Saved(layers=(LAYER,), tags=("two:1",))


@pytest.fixture
def own(ctl: Ctl, tmp_path: Path) -> Ctl:
    """The program on a cache of its own, with two images, one of which has two names."""
    ctl.environ.update(REGISTRYD_ROOT=str(tmp_path / "root"), TMPDIR=str(tmp_path))
    (tmp_path / "saved.tar").write_bytes(saved(ONE, TWO))
    assert ctl("load", "-q", "-i", str(tmp_path / "saved.tar")).code == 0
    return ctl


def listed(own: Ctl, *words: str) -> dict[str, str]:
    """Name -> digest of what images shows."""
    result = json.loads(own("images", "--format", "json", *words).out)
    return {each["reference"]: each["digest"] for each in result["images"]}


def test_images_of_a_name(own: Ctl) -> None:
    """A repository, or one tag of it; -q and --digests mean what docker's users think."""
    digests = listed(own)
    one = digests["localhost/a/one:1"]

    assert {"localhost/a/one:1", "localhost/a/one:2"} == set(listed(own, "localhost/a/one"))
    assert {"localhost/a/one:2": one} == listed(own, "localhost/a/one:2")
    assert f"{one}\n" == own("images", "-q", "localhost/a/one").out
    assert one in own("images", "-a", "--digests", "localhost/a/one:1").out
    assert {} == listed(own, "one")


def test_rmi_by_digest(own: Ctl) -> None:
    """What ``images -q`` prints, rmi takes; several names need --force, as with docker."""
    digests = listed(own)
    one, two = digests["localhost/a/one:1"], digests["localhost/two:1"]
    refused = own("rmi", one)
    short = own("rmi", "-q", two.partition(":")[2][:12])
    left = set(listed(own))
    forced = own("rmi", "-q", "-f", one)
    unknown = own("rmi", "f" * 12)

    assert (64, 0, 0, 2) == (refused.code, short.code, forced.code, unknown.code)
    assert "has 2 names (localhost/a/one:1, localhost/a/one:2)" in refused.err
    assert {"localhost/a/one:1", "localhost/a/one:2"} == left
    assert {} == listed(own)


def test_tag_as_docker_takes_it(own: Ctl) -> None:
    """A short new name becomes one of ours, and a line says so; the source may be a digest."""
    one = listed(own)["localhost/a/one:1"]
    outcome = own("tag", one.partition(":")[2][:14], "mine:7")
    other = own("tag", "localhost/two:1", "ghcr.io/org/two:1")

    assert (0, ["mine:7 is localhost/mine:7 here"]) == (outcome.code, outcome.words)
    assert one == listed(own)["localhost/mine:7"]
    assert (64, True) == (other.code, "registryctl push" in other.err)


def test_history(own: Ctl) -> None:
    """The newest step first; each layer beside the step that left it, and its size."""
    table = own("history", "localhost/a/one:1").out.splitlines()
    result = json.loads(own("history", "localhost/a/one:1", "--format", "json").out)["history"]
    whole = own("history", "localhost/a/one:1", "--no-trunc").out

    assert [len(SECOND), 0, len(LAYER)] == [step["size"] for step in result]
    assert [True] == [step["empty_layer"] for step in result if not step["size"]]
    assert ["LAYER", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"] == table[0].split()
    assert table[1].endswith("buildkit") and "..." in table[1]
    assert "x " * 39 in whole
    assert [r["digest"] for r in result if r["digest"]] == (
        own("history", "-q", "localhost/a/one:1").out.split()
    )


def test_history_of_a_file(own: Ctl, tmp_path: Path) -> None:
    """A file form has a history too, without a cache."""
    archive = f"docker-archive:{tmp_path}/saved.tar:a/one:1"

    assert own("history", "localhost/a/one:1").out == own("history", archive).out


def test_history_through_a_daemon(through: Callable[..., Outcome], daemon: FakeDaemon) -> None:
    """The newest step first; only steps that made a layer have a size."""
    config = {
        "history": [
            {"created": "2020-01-01T00:00:00Z", "created_by": "ADD rootfs"},
            {"created_by": "ENV A=b", "empty_layer": True, "comment": "c"},
        ]
    }
    kind = "application/vnd.oci.image.config.v1+json"
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": kind, "digest": f"sha256:{'a' * 64}", "size": 1},
        "layers": [
            {"mediaType": "application/x.layer", "digest": f"sha256:{'b' * 64}", "size": 2048}
        ],
    }
    for path, content in (("manifest", manifest), ("config", config)):
        daemon.on("GET", f"/api/v1/{path}", Answer.of(content))

    steps = json.loads(through("history", "alpine", "--format", "json").out)["history"]
    assert [(step["created_by"], step["digest"], step["size"]) for step in steps] == [
        ("ENV A=b", None, 0),
        ("ADD rootfs", f"sha256:{'b' * 64}", 2048),
    ]
    head, newest, oldest = through("history", "alpine").out.splitlines()
    assert head.split() == ["LAYER", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert (newest.split()[-1], "2.0 KiB" in oldest) == ("c", True)


HEX = "0123456789abcdef"


@given(
    digits=st.text(HEX, min_size=12, max_size=64),
    others=st.lists(st.text(HEX, min_size=64, max_size=64)),
)
def test_a_digest_means_one_image_or_none(digits: str, others: list[str]) -> None:
    """The beginning of a digest gives the names of exactly one image, or an error of ours."""
    images = [
        {"reference": f"localhost/i{at}:1", "digest": f"sha256:{hexes}"}
        for at, hexes in enumerate([digits.ljust(64, "0"), *others])
    ]
    try:
        names = with_digest(images, digits)
    except NameNotFound:
        assert any(hexes.startswith(digits) for hexes in others)
        return

    assert "localhost/i0:1" in map(str, names)


def test_a_digest_that_is_a_name() -> None:
    """An image that is called so goes before one whose digest begins so."""
    text = "deadbeefdead"
    images = [{"reference": f"docker.io/library/{text}:latest", "digest": f"sha256:{text:0<64}"}]

    assert [] == with_digest(images, text)


def test_history_says_less_than_there_is() -> None:
    """Layers without a step are there all the same; steps without a layer are empty."""
    layers = [Descriptor.of(OCI_LAYER, content) for content in (b"a", b"b")]
    less = read_history(b'{"history":[{"created_by":"x"}]}', layers)
    more = read_history(b'{"history":[{},{},{}]}', layers)

    assert [Step(layers[0], created_by="x"), Step(layers[1])] == less
    assert [layers[0], layers[1], None] == [step.layer for step in more]


@given(st.binary(max_size=60) | st.just(b'{"history":[1]}') | st.just(b'{"history":7}'))
def test_any_config_has_a_history_or_is_refused(raw: bytes) -> None:
    """Whatever a configuration holds: steps, or one error of ours."""
    try:
        assert isinstance(read_history(raw, []), list)
    except ManifestInvalid as error:
        assert "\n" not in str(error)


def test_push_of_a_part_is_said(through: Callable[..., Outcome], daemon: FakeDaemon) -> None:
    """Who has pulled one platform of an index learns that no more than that goes out."""
    done = {"event": "done", "digest": f"sha256:{'a' * 64}", "platforms": ["linux/amd64"]}
    daemon.on("POST", "/api/v1/push", Answer.events(done))
    said = through("push", "alpine").words

    assert said[0].startswith(
        "warning: of docker.io/library/alpine:latest only linux/amd64 is here"
    )
