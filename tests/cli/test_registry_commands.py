"""Looking after a registry by hand: lists, single manifests and blobs, and what is deleted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.oci.media_types import OCI_INDEX, OCI_MANIFEST
from tests.cli.conftest import Ctl
from tests.cli.test_copy import ARM, DIGEST, SAMPLE, write_layout
from tests.real.registry import RealRegistry, open_registry

NOTHING = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that everyone may write to, and that deletes."""
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def own(ctl: Ctl, tmp_path: Path) -> Ctl:
    """The program on a cache of its own."""
    ctl.environ["REGISTRYD_ROOT"] = str(tmp_path / "root")
    return ctl


@pytest.fixture
def app(own: Ctl, registry: RealRegistry, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A repository of the test's own with the sample as 1 and 2."""
    name = f"{registry.name}/{request.node.name.lower().replace('_', '-')}/app"
    layout = write_layout(tmp_path / "layout", "v1")
    for tag in ("1", "2"):
        assert own("copy", f"oci:{layout}:v1", f"{name}:{tag}", "-q").code == 0
    return name


def test_lists(own: Ctl, app: str) -> None:
    """Catalog and tags: whole, in parts, by pattern, as JSON; skopeo's words are understood."""
    host, _, repository = app.partition("/")
    for tag in ("2.1", "sha256-" + "0" * 64):
        own("copy", f"{app}:1", f"{app}:{tag}", "-q")

    assert repository in own("catalog", host).out.split()
    assert own("catalog", host, "--last", "test-l", "-n1").out == f"{repository}\n"
    assert own("catalog", host, "--full-ref", "--include", "test-lists/.*").out == f"{app}\n"
    above = repository.partition("/")[0]
    assert own("catalog", f"docker://{host}/{above}", "-n1").out == f"{repository}\n"
    assert own("catalog", f"{host}/{above[:-1]}").out == ""
    listed = json.loads(own("catalog", host, "--include", ".*lists.*", "--format", "json").out)
    assert listed == {"registry": host, "repositories": [repository]}
    assert own("ls", app, "-O").out == "1\n2\n2.1\n"
    assert own("tags", app, "--last", "1", "-n", "1", "--full-ref").out == f"{app}:2\n"
    assert own("tags", app, "--include", r"\d.*", "--exclude", "[12]", "-n1").out == "2.1\n"
    words = ("list-tags", f"docker://{app}", "--format", "json", "--exclude", "sha.*")
    assert json.loads(own(*words).out) == {"name": app, "tags": ["1", "2", "2.1"]}
    assert own("tags", app, "--include", "(").code == 64


def test_lists_of_files(own: Ctl, tmp_path: Path) -> None:
    """What the images of a layout or an archive are called, as skopeo lists archives too."""
    layout = write_layout(tmp_path / "layout", "v1")
    write_layout(layout, "v2")
    archive = f"docker-archive:{tmp_path / 'a.tar'}"
    own("copy", f"oci:{layout}:v1", f"{archive}:app:1", "-q", "--platform", "linux/arm64")

    assert own("tags", f"oci:{layout}").out == "v1\nv2\n"
    assert own("ls", f"oci:{layout}", "--last", "v1", "--full-ref").out == f"oci:{layout}:v2\n"
    listed = json.loads(own("list-tags", archive, "--format", "json").out)
    assert listed == {"name": archive, "tags": ["app:1"]}
    assert own("tags", f"oci:{tmp_path / 'none'}").code != 0


def test_a_manifest_and_a_blob_there_and_back(own: Ctl, app: str, tmp_path: Path) -> None:
    """Blobs and a manifest are put one by one, and make an image; each comes back as it was."""
    copied, file = app.replace("/app", "/hand"), tmp_path / "blob"
    raw = own("manifest", "get", f"{app}:1", "--platform", "linux/arm64").raw
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == ARM
    document = json.loads(raw)
    for blob in (document["config"], *document["layers"]):
        digest = blob["digest"]
        assert own("blob", "get", f"{app}@{digest}", "-o", str(file)).raw == b""
        assert digest == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
        assert own("blob", f"{app}@{digest}").raw == file.read_bytes()
        assert own("blob", "put", copied, str(file)).out == f"{digest}\n"
        held = own("blob", "put", f"{copied}@{digest}", str(file), "--format", "json")
        assert json.loads(held.out)["held"]
        head = own("blob", "head", f"{copied}@{digest}", "--format", "json")
        assert json.loads(head.out)["size"] == blob["size"]

    put = own("manifest", "put", "-", f"{copied}:x", typed=raw.decode())

    assert put.out == f"{copied}@{ARM}\n"
    head = own("manifest", "head", f"{copied}:x", "--format", "json")
    assert json.loads(head.out) == {
        "reference": f"{copied}:x", "digest": ARM, "media_type": OCI_MANIFEST, "size": len(raw),
    }  # fmt: skip
    assert own("manifest", "push", "-", f"{copied}@{NOTHING}", typed=raw.decode()).code == 5
    assert own("manifest", "push", f"{copied}:x", "-", typed=raw.decode()).out == put.out
    assert own("manifest", "put", "-", f"{copied}:y", typed="{}").code == 1
    fetched = json.loads(own("manifest", f"{app}:1", "--format", "json").out)
    assert (fetched["digest"], fetched["media_type"]) == (DIGEST, OCI_INDEX)
    own("manifest", "get", f"{app}:1", "--pretty", "-o", str(file))
    assert json.loads(file.read_bytes()) == fetched["content"]


def test_diff(own: Ctl, app: str) -> None:
    """0 and nothing for the same, 1 and a unified diff for others."""
    other = f"{app}@{ARM}"

    assert own("manifest", "diff", f"{app}:1", f"{app}:2").raw == b""
    differ = own("manifest", "diff", f"{app}:1", other)
    assert (differ.code, len(differ.words)) == (1, 1)
    assert differ.out.startswith(f"--- {app}:1\n+++ {other}\n@@ ")
    whole = own("manifest", "diff", f"{app}:1", other, "--format", "json")
    assert json.loads(whole.out)["same"] is False
    assert own("manifest", "diff", f"{app}:1", other, "-q").raw == b""


def test_a_blob_that_is_not_there_or_is_wrong(
    own: Ctl, app: str, registry: RealRegistry, tmp_path: Path
) -> None:
    """2 for what is missing and 5 for what is wrong; no file, and not the whole on stdout."""
    out = tmp_path / "out"
    config = next(iter(SAMPLE.blobs))
    path = registry.root / "docker/registry/v2/blobs/sha256" / config.hex[:2] / config.hex / "data"
    genuine = path.read_bytes()
    path.write_bytes(b"x" * len(genuine))

    missing = own("blob", "get", f"{app}@{NOTHING}", "-o", str(out))
    wrong = own("blob", "get", f"{app}@{config}", "-o", str(out))
    shown = own("blob", "get", f"{app}@{config}")
    path.write_bytes(genuine)

    assert (missing.code, wrong.code, shown.code, shown.raw) == (2, 5, 5, b"")
    assert own("blob", "head", f"{app}@{NOTHING}").code == 2
    assert not out.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"home", "layout"}
    assert own("blob", "get", app).code == 64


def test_delete_takes_the_manifest_and_names_its_other_tags(own: Ctl, app: str) -> None:
    """As skopeo deletes: the manifest goes, with all its tags, which are named before."""
    dry = own("delete", f"{app}:1", "--dry-run")
    assert (dry.code, dry.out) == (0, f"{app}@{DIGEST}\n")
    assert dry.words == [f"warning: other tags would go with {DIGEST}: 2"]
    refused = own("manifest", "delete", f"{app}:1")
    assert refused.code == 64
    assert "--force" in refused.err
    assert own("digest", f"{app}:1").out == f"{DIGEST}\n"

    done = json.loads(own("delete", f"docker://{app}:1", "--format", "json").out)

    assert (done["digest"], done["other_tags"], done["deleted"]) == (DIGEST, ["2"], True)
    assert [own("digest", f"{app}:{tag}").code for tag in ("1", "2")] == [2, 2]
    assert own("digest", f"{app}@{ARM}").code == 0
    assert own("delete", f"{app}:1").code == 2
    again = own("manifest", "delete", f"{app}@{DIGEST}")
    assert (again.code, again.words) == (0, [f"{app}@{DIGEST} was not there"])
    blob = f"{app}@{next(iter(SAMPLE.blobs))}"
    gone = [own("blob", "delete", blob, "--format", "json").out for _ in range(2)]
    assert [json.loads(out)["deleted"] for out in gone] == [True, False]


def test_tag_only_loses_nothing(own: Ctl, app: str) -> None:
    """A registry that cannot delete a tag alone is not made to delete the image."""
    refused = own("delete", "--tag-only", f"{app}:1")

    assert (refused.code, len(refused.words)) == (1, 1)
    assert "nothing was deleted" in refused.err
    assert own("digest", f"{app}:1").out == f"{DIGEST}\n"
    assert own("delete", "--tag-only", f"{app}@{DIGEST}").code == 64


def test_without_a_daemon_the_nodes_own_names(own: Ctl, tmp_path: Path) -> None:
    """They are listed and deleted in this process; what needs a daemon says so."""
    layout = write_layout(tmp_path / "layout", "v1")
    own("copy", f"oci:{layout}:v1", "cache:localhost/a/b:1", "-q")

    assert own("catalog", "localhost").out == "a/b\n"
    assert own("blob", "head", f"localhost/a/b@{ARM}").code == 64
    assert own("delete", "localhost/a/b:1").out == f"localhost/a/b@{DIGEST}\n"
    assert own("catalog", "localhost").out == ""
