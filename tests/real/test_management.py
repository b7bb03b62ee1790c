"""Story: looking after a registry by hand, beside skopeo, and in the daemon's own registry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Ctl
from tests.real.conftest import Start
from tests.real.images import Images
from tests.real.registry import open_registry
from tests.real.runtimes import Skopeo

TLS = "--tls-verify=false"


def told(ctl: Ctl, *words: str) -> Any:
    """What a command that must succeed has printed as JSON."""
    outcome = ctl(*words, "--format", "json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_lists_and_deletes_as_skopeo_sees_them(
    images: Images, skopeo: Skopeo, tmp_path: Path
) -> None:
    """The same tags, the same end of an image."""
    ctl = Ctl(tmp_path / "home", {"REGISTRYD_ROOT": str(tmp_path / "root")})
    with open_registry(tmp_path / "registry") as registry:
        app = f"{registry.name}/team/app"
        for tag, image in (("1", "gzip"), ("2", "gzip"), ("other", "zstd")):
            skopeo.copy(images.source(image), f"docker://{app}:{tag}")

        theirs = json.loads(skopeo("inspect", TLS, f"docker://{app}:1"))
        ours = told(ctl, "inspect", f"docker://{app}:1")
        theirs["RepoTags"].sort()
        # What is empty is null there.
        assert theirs == {
            key: ours[key] or None if key != "DockerVersion" else "" for key in theirs
        }
        template = ("inspect", "--format", "{{.Name}} {{.Os}}/{{.Architecture}} {{.Layers}}")
        assert skopeo(*template, TLS, f"docker://{app}:1") == (
            ctl(*template, f"docker://{app}:1").out
        )
        theirs = json.loads(skopeo("list-tags", TLS, f"docker://{app}"))
        assert sorted(theirs["Tags"]) == told(ctl, "list-tags", f"docker://{app}")["tags"]
        assert ["2"] == told(ctl, "delete", f"docker://{app}:1")["other_tags"]

        assert images.digest("zstd") == skopeo.digest(f"docker://{app}:other")
        assert 0 != skopeo.attempt("inspect", TLS, f"docker://{app}:2").code


def test_the_daemons_own_registry(start: Start, images: Images, skopeo: Skopeo) -> None:
    """localhost/... is listed, read and deleted through the daemon; there a tag goes alone."""
    node, app = start({}), "localhost/own/app"
    ctl = Ctl(node.folder / "home", {"REGISTRYD_SOCKET": str(node.socket)})
    for tag in ("1", "2"):
        skopeo.copy(images.source("gzip"), f"docker://{node.address}/{app}:{tag}")

    assert "own/app\n" == ctl("catalog", "localhost").out
    assert "1\n" == ctl("tags", app, "-n", "1").out
    raw = ctl("manifest", f"{app}:1").raw
    layer = json.loads(raw)["layers"][0]
    blob = ctl("blob", "get", f"{app}@{layer['digest']}").raw
    assert layer["digest"] == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer["size"] == told(ctl, "blob", "head", f"cache:{app}@{layer['digest']}")["size"]
    put = ctl("manifest", "put", "-", f"{app}:3", typed=raw.decode())
    assert f"{app}@{images.digest('gzip')}\n" == put.out

    alone = ctl("blob", "put", app, "-", typed="nobody's").out.strip()
    held = {b["digest"]: b["images"] for b in told(ctl, "cache", "ls")["blobs"]}
    assert ([], [f"{app}:1", f"{app}:2", f"{app}:3"]) == (held[alone], held[layer["digest"]])

    assert f"{app}:1\n" == ctl("delete", "--tag-only", f"{app}:1").out
    assert ["2", "3"] == told(ctl, "tags", app)["tags"]
    assert ["3"] == told(ctl, "delete", f"{app}:2")["other_tags"]
    assert 2 == ctl("digest", f"{app}:3").code
