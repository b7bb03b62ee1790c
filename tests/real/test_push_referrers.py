"""Story: artifacts attached in a daemon's own registry, which has the referrers API."""

from __future__ import annotations

import json
from pathlib import Path

from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.runtimes import Skopeo
from tests.real.stories import Ctl


def listed(ctl: Ctl, name: str, *words: str) -> set[str]:
    """The digests of what is attached."""
    return {each["digest"] for each in ctl.json("referrers", name, *words)["referrers"]}


def test_attached_in_a_daemons_registry(
    start: Start, skopeo: Skopeo, images: Images, tmp_path: Path
) -> None:
    """By its name over TCP, and by cache: over the socket: one list, and no tag is made."""
    node = start({})
    sbom = tmp_path / "sbom.json"
    sbom.write_text('{"spdxVersion": "SPDX-2.3"}')
    node.ctl.ok("copy", "-q", images.source("multi"), "cache:localhost/app:1")
    name, kind = f"{node.address}/localhost/app:1", ("--artifact-type", "application/spdx+json")
    plain = Ctl(tmp_path / "home")

    by_name = plain.json("attach", "-q", "--plain-http", name, f"{sbom}:text/json", *kind)
    by_cache = node.ctl.json("attach", "-q", "cache:localhost/app:1", "-a", "sig=x", *kind)

    assert images.digest("multi") == by_name["subject"] == by_cache["subject"]
    both = {by_name["digest"], by_cache["digest"]}
    assert both == listed(node.ctl, "cache:localhost/app:1")
    assert both == listed(plain, name, "--plain-http", "--distribution-spec", "v1.1-referrers-api")
    tag = ("--distribution-spec", "v1.1-referrers-tag")
    assert set() == listed(plain, name, "--plain-http", *tag)
    place = f"docker://{node.address}/localhost/app"
    assert ["1"] == json.loads(skopeo("list-tags", "--tls-verify=false", place))["Tags"]
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"{place}@{by_name['digest']}")
    assert images.digest("multi") == json.loads(raw)["subject"]["digest"]


def test_attached_elsewhere_and_listed_through_a_daemon(
    start: Start, everyones: Upstream, tmp_path: Path
) -> None:
    """What is attached in another registry is found by way of a daemon: by the tag."""
    plain, node = Ctl(tmp_path / "home"), start(everyones.sections)
    far = f"{everyones.registry.name}/lib/gzip:1"

    attached = plain.json("attach", "-q", far, "-a", "a=b", "--artifact-type", "a/b")

    assert {attached["digest"]} == listed(plain, far)
    assert {attached["digest"]} == listed(node.ctl, f"cache:{everyones.name('gzip')}")
