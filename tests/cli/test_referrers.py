"""What is attached to images: files and notes, in a real registry, in layouts and in the cache."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registryd.cli.commands.attach import file_of
from registryd.oci.errors import UsageError
from tests.cli.conftest import Ctl
from tests.cli.test_copy import ARM, DIGEST, write_layout
from tests.real.registry import RealRegistry, need, open_registry

SBOM = b'{"spdxVersion": "SPDX-2.3"}'
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
CREATED = "org.opencontainers.image.created"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """docker-registry 2.8, which has no referrers API."""
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def place(ctl: Ctl, tmp_path: Path) -> Path:
    """A folder with a layout and a file; times are the same each time."""
    ctl.environ.update(EPOCH)
    write_layout(tmp_path / "layout", "v1")
    (tmp_path / "sbom.json").write_bytes(SBOM)
    return tmp_path


def attach(ctl: Ctl, name: str, *words: str, kind: str = "application/spdx+json") -> dict[str, Any]:
    """Attach; what was printed."""
    outcome = ctl("attach", name, *words, "--artifact-type", kind, "--format", "json", "-q")
    assert outcome.code == 0, outcome.err
    printed: dict[str, Any] = json.loads(outcome.out)
    return printed


def listed(ctl: Ctl, name: str, *words: str) -> dict[str, str]:
    """The digests of what is attached, with their types."""
    outcome = ctl("referrers", name, *words, "--format", "json")
    assert outcome.code == 0, outcome.err
    printed = json.loads(outcome.out)
    return {each["digest"]: each["artifact_type"] for each in printed["referrers"]}


def test_attached_in_a_registry_without_the_api(
    ctl: Ctl, place: Path, registry: RealRegistry
) -> None:
    """A file becomes an artifact that others can read, and is listed: by the tag, in this case."""
    name = f"{registry.name}/team/app:1"
    ctl("copy", f"oci:{place}/layout:v1", name)
    sbom = f"{place}/sbom.json:application/json"
    done = attach(ctl, name, sbom, "-a", "made=here")

    assert (DIGEST, "application/spdx+json") == (done["subject"], done["artifact_type"])
    assert {done["digest"]: "application/spdx+json"} == listed(ctl, name)

    raw = subprocess.run(
        [need("skopeo"), "inspect", "--raw", "--tls-verify=false",
         f"docker://{registry.name}/team/app@{done['digest']}"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    manifest = json.loads(raw)
    assert DIGEST == manifest["subject"]["digest"]
    assert {"made": "here", CREATED: "2023-11-14T22:13:20Z"} == manifest["annotations"]
    (layer,) = manifest["layers"]
    assert ("application/json", len(SBOM)) == (layer["mediaType"], layer["size"])
    assert {"org.opencontainers.image.title": "sbom.json"} == layer["annotations"]

    table = ctl("referrers", name).out.splitlines()
    assert ["DIGEST", "ARTIFACT", "TYPE", "SIZE", "CREATED"] == table[0].split()
    assert [done["digest"], "application/spdx+json", "2023-11-14T22:13:20Z"] == [
        word for word in table[1].split() if ":" in word or "/" in word
    ]
    assert f"{done['digest']}\n" == ctl("discover", name, "-q").out

    # The same once more is the same artifact, and stays one entry.
    assert done["digest"] == attach(ctl, name, sbom, "-a", "made=here")["digest"]
    assert 1 == len(listed(ctl, name, "--distribution-spec", "v1.1-referrers-tag"))
    forced = ctl("referrers", name, "--distribution-spec", "v1.1-referrers-api")
    assert (1, True) == (forced.code, "has no referrers API" in forced.err)


def test_attached_to_what_is_attached(ctl: Ctl, place: Path, registry: RealRegistry) -> None:
    """A tree with -r; a type narrows it; each platform's image has its own."""
    name = f"{registry.name}/team/tree:1"
    ctl("copy", f"oci:{place}/layout:v1", name)
    sbom = attach(ctl, name, f"{place}/sbom.json")["digest"]
    at = f"{registry.name}/team/tree@{sbom}"
    signature = attach(ctl, at, "-a", "sig=x", kind="application/vnd.sig")["digest"]
    other = attach(ctl, name, "-a", "sig=y", kind="application/vnd.sig")["digest"]
    arm = attach(ctl, name, "-a", "for=arm", "--platform", "linux/arm64")

    assert {sbom, other} == set(listed(ctl, name))
    assert [DIGEST, f"├── application/spdx+json  {sbom}",
            f"│   └── application/vnd.sig  {signature}",
            f"└── application/vnd.sig  {other}",
    ] == ctl("referrers", "-r", name).out.splitlines()  # fmt: skip
    assert {other} == set(listed(ctl, name, "--artifact-type", "application/vnd.sig"))
    assert {sbom, signature} == set(
        listed(ctl, name, "-r", "--artifact-type", "application/spdx+json")
    )
    assert (ARM, {arm["digest"]}) == (
        arm["subject"], set(listed(ctl, name, "--platform", "linux/arm64"))
    )  # fmt: skip


def test_attached_in_a_layout(ctl: Ctl, place: Path) -> None:
    """In a layout the artifact is one more entry without a tag; the tag still means the image."""
    name = f"oci:{place}/layout:v1"
    done = attach(ctl, name, f"{place}/sbom.json")
    index = json.loads((place / "layout/index.json").read_text())

    assert {done["digest"]: "application/spdx+json"} == listed(ctl, name)
    assert [DIGEST, done["digest"]] == [each["digest"] for each in index["manifests"]]
    assert (
        f"{done['digest']}\n"
        == ctl("attach", name, f"{place}/sbom.json", "--artifact-type", "application/spdx+json").out
    )
    assert 0 == ctl("copy", name, f"oci:{place}/out:v1").code


def test_attached_in_the_cache(ctl: Ctl, place: Path) -> None:
    """The cache of this process lists what was attached there; other registries' names are not."""
    ctl.environ["REGISTRYD_ROOT"] = str(place / "cache")
    ctl("copy", f"oci:{place}/layout:v1", "cache:localhost/app:1")
    done = attach(ctl, "cache:localhost/app:1", f"{place}/sbom.json")

    assert {done["digest"]: "application/spdx+json"} == listed(ctl, "cache:localhost/app:1")
    assert f"localhost/app@{done['digest']}" == done["reference"]

    foreign = ctl("attach", "cache:alpine", "-a", "a=b", "--artifact-type", "a/b")
    assert (64, True) == (foreign.code, "cache:localhost/" in foreign.err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attach", "oci:layout:v1", "--artifact-type", "a/b"), "nothing to attach"),
        (("attach", "oci:layout:v1", "nope", "--artifact-type", "a/b"), "no such file"),
        (("attach", "oci:layout:v1", "layout", "--artifact-type", "a/b"), "is a folder"),
        (("attach", "oci:layout:v1", "-a", "x", "--artifact-type", "a/b"), "not KEY=VALUE"),
        (("attach", "oci:layout:v1", "-a", "x=y", "--artifact-type", "sbom"), "not a media type"),
        (("attach", "oci:layout:v1", "-a", "x=y"), "--artifact-type"),
        (("attach", "dir:flat", "-a", "x=y", "--artifact-type", "a/b"), "one image"),
        (("referrers", "dir:flat"), "one image and nothing attached"),
        (("referrers", "oci:layout:v1", "--platform", "linux/a,linux/b"), "one at a time"),
        (
            ("referrers", "oci:layout:v1", "--distribution-spec", "v1.1-referrers-tag"),
            "about registries",
        ),
    ],
)
def test_what_cannot_be_attached_or_asked(
    ctl: Ctl, place: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    """Wrong usage is one line, exit 64."""
    monkeypatch.chdir(place)
    ctl("copy", "oci:layout:v1", "dir:flat", "--platform", "linux/amd64")
    outcome = ctl(*words)

    assert (64, 1) == (outcome.code, len(outcome.words)), outcome.err
    assert said in outcome.err


def test_files_and_their_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FILE[:MEDIATYPE]: a file that is called so wins, a colon in a name is no type."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b:c", "d:x"):
        Path(name).write_text("")
    Path("e:text").mkdir()
    Path("e:text/plain").write_text("")

    plain = "application/octet-stream"
    assert (Path("a.txt"), plain, "a.txt") == file_of("a.txt")
    assert (Path("a.txt"), "text/plain", "a.txt") == file_of("a.txt:text/plain")
    assert (Path("b:c"), plain, "b:c") == file_of("b:c")
    assert (Path("d:x"), "text/plain", "d:x") == file_of("d:x:text/plain")
    assert (Path("e:text/plain"), plain, "plain") == file_of("e:text/plain")
    for wrong in ("", ":text/plain", "none:text/plain"):
        with pytest.raises(UsageError):
            file_of(wrong)
