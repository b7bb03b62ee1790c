"""Copies in this process, and logins: real files, and a real registry that wants a password."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.images.layout import LayoutSink
from registryd.transfer.copy import copy_image
from tests.cli.conftest import Ctl
from tests.fakes.endpoints import MemorySource, Sample, image, index
from tests.real.registry import RealRegistry, basic_registry

SAMPLE = index(
    amd64=image(b"shared", b"amd layer"), arm64=image(b"shared", b"arm", architecture="arm64")
)
DIGEST = str(SAMPLE.root.digest)
ARM = str([d for d in SAMPLE.root.children if d.digest in SAMPLE.documents][-1].digest)


def write_layout(folder: Path, tag: str, sample: Sample = SAMPLE) -> Path:
    """A layout that holds the sample."""
    asyncio.run(copy_image(MemorySource(sample), LayoutSink(folder, tag)))
    return folder


def blobs(folder: Path) -> set[str]:
    """The hex names of what a layout holds."""
    return {path.name for path in (folder / "blobs/sha256").iterdir()}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that knows ann."""
    with basic_registry(tmp_path_factory.mktemp("registry"), {"ann": "s3cret"}) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with the sample under the tag v1."""
    return write_layout(tmp_path / "layout", "v1")


def test_copy_between_files_keeps_digests(ctl: Ctl, layout: Path, tmp_path: Path) -> None:
    """Everything of an index comes along; stdout has the destination and its digest."""
    target = tmp_path / "out"

    outcome = ctl("copy", f"oci:{layout}:v1", f"oci:{target}:v2")

    assert (outcome.code, outcome.out) == (0, f"{DIGEST}\n")
    assert blobs(target) == blobs(layout)


def test_copy_of_one_platform_makes_its_manifest_the_root(
    ctl: Ctl, layout: Path, tmp_path: Path
) -> None:
    """--platform narrows; an unknown one is not found (exit 2)."""
    outcome = ctl("cp", f"oci:{layout}:v1", f"dir:{tmp_path / 'd'}", "--platform", "linux/arm64")
    missing = ctl("cp", f"oci:{layout}:v1", f"dir:{tmp_path / 'e'}", "--platform", "linux/s390x")

    assert outcome.code == 0
    assert "arm64" in [
        json.loads((tmp_path / "d" / name.name).read_text()).get("architecture")
        for name in (tmp_path / "d").iterdir()
        if name.read_bytes().startswith(b'{"os"')
    ]
    assert missing.code == 2


def test_copy_as_json_has_the_sums(ctl: Ctl, layout: Path, tmp_path: Path) -> None:
    """The result: what was sent, and what was there."""
    ctl("copy", f"oci:{layout}:v1", f"oci:{tmp_path / 'out'}:v2")

    outcome = ctl(
        "copy", f"oci:{layout}:v1", f"oci:{tmp_path / 'out'}:v3", "--format", "json", "-q"
    )

    result = json.loads(outcome.out)
    assert (result["sent_blobs"], result["held_blobs"], result["digest"]) == (0, 5, DIGEST)
    assert outcome.err == ""


def test_copy_out_of_a_cache_without_a_daemon(ctl: Ctl, tmp_path: Path) -> None:
    """The root of a cache is a layout, whose tags are whole names."""
    root = write_layout(tmp_path / "root", "docker.io/library/alpine:latest")

    outcome = ctl("copy", "cache:alpine", f"oci:{tmp_path / 'out'}:v2", "--root", str(root))

    assert outcome.code == 0
    assert blobs(tmp_path / "out") == blobs(root)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("cache:alpine:3", "(write cache:localhost/library/alpine:3)"),
        ("docker-daemon:x", "docker-daemon: is not offered"),
        ("oci:", "names no folder"),
    ],
)
def test_a_target_that_cannot_be_is_one_line(
    ctl: Ctl, layout: Path, tmp_path: Path, target: str, line: str
) -> None:
    """The line says what to write instead."""
    outcome = ctl("copy", f"oci:{layout}:v1", target, "--root", str(tmp_path / "root"))

    assert (outcome.code, len(outcome.words)) == (64, 1)
    assert line in outcome.err


def test_into_the_cache_under_another_registrys_name(ctl: Ctl, tmp_path: Path) -> None:
    """Refused before anything is fetched: what that name means is its registry's to say."""
    outcome = ctl("copy", "quay.io/a/b:1", "cache:ghcr.io/a/b:1", "--root", str(tmp_path / "root"))

    assert outcome.code == 64
    assert "(write cache:localhost/a/b:1)" in outcome.err
    assert not (tmp_path / "root").exists()


def test_login_push_copy_logout(
    ctl: Ctl, layout: Path, tmp_path: Path, registry: RealRegistry
) -> None:
    """What login keeps is what push and copy use, and what logout takes away."""
    authfile = ctl.home / "auth.json"
    ctl.environ["REGISTRY_AUTH_FILE"] = str(authfile)
    name = f"{registry.name}/team/app"

    logged_in = ctl("login", registry.name, "-u", "ann", "--password-stdin", typed="s3cret\n")
    pushed = ctl("push", f"oci:{layout}:v1", f"{name}:1", "-q")
    copied = ctl("copy", f"docker://{name}:1", f"{name}-two:1", "-q")
    fetched = ctl("copy", f"{name}-two@{DIGEST}", f"oci:{tmp_path / 'back'}:x", "-q")
    logged_out = ctl("logout", registry.name)
    refused = ctl("copy", f"{name}:1", f"oci:{tmp_path / 'no'}", "-q")

    assert (logged_in.code, logged_in.words[-1]) == (
        0,
        f"logged in to {registry.name}; kept in {authfile}",
    )
    assert (pushed.code, pushed.out) == (0, f"{name}:1@{DIGEST}\n")
    assert (copied.code, copied.out) == (0, f"{name}-two:1@{DIGEST}\n")
    assert (fetched.code, blobs(tmp_path / "back")) == (0, blobs(layout))
    assert logged_out.code == 0
    assert (refused.code, len(refused.words)) == (3, 1)
    assert json.loads(authfile.read_text()) == {"auths": {}}


def test_a_login_that_is_refused_is_not_kept(ctl: Ctl, registry: RealRegistry) -> None:
    """A wrong password: exit 3, nothing written, the password nowhere."""
    ctl.environ["REGISTRY_AUTH_FILE"] = str(ctl.home / "auth.json")

    outcome = ctl("login", registry.name, "-u", "ann", "--password-stdin", "-v", typed="wr0ng\n")

    assert outcome.code == 3
    assert "wr0ng" not in outcome.err
    assert not (ctl.home / "auth.json").exists()


def test_each_side_of_a_copy_has_its_own_credentials(
    ctl: Ctl, layout: Path, registry: RealRegistry
) -> None:
    """--dest-creds wins over --creds, --dest-no-creds over both."""
    words = ("copy", f"oci:{layout}:v1", f"{registry.name}/sides:1", "-q")
    good, bad = "ann:s3cret", "ann:wr0ng"

    assert ctl(*words, "--creds", bad, "--dest-creds", good).code == 0
    assert ctl(*words, "--creds", bad).code == 3
    assert ctl(*words, "--creds", good, "--dest-no-creds").code == 3
    assert ctl(*words, "--creds", good, "--src-creds", bad).code == 0


def test_no_creds_means_none_in_this_process_too(
    ctl: Ctl, layout: Path, tmp_path: Path, registry: RealRegistry
) -> None:
    """What lies in the user's files is not used behind the command's back."""
    name, authfile = f"{registry.name}/quiet:1", ctl.home / "auth.json"
    ctl.environ.update(
        {"REGISTRY_AUTH_FILE": str(authfile), "REGISTRYD_ROOT": str(tmp_path / "root")}
    )
    entry = base64.b64encode(b"ann:s3cret").decode()
    authfile.write_text(json.dumps({"auths": {registry.name: {"auth": entry}}}))
    ctl("push", f"oci:{layout}:v1", name, "-q")

    assert ctl("digest", name).code == 0
    assert ctl("digest", name, "--no-creds").code == 3


def test_logout_of_what_is_not_there(ctl: Ctl) -> None:
    """Nothing to forget is a success with a word."""
    outcome = ctl("logout", "ghcr.io", "--authfile", str(ctl.home / "none.json"))

    assert outcome.code == 0
    assert "not logged in to ghcr.io" in outcome.err
