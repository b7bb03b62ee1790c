"""Stories: a store that one node has filled and all nodes read, while registries are away."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from tests.mounts.stage import until
from tests.real.conftest import Start, Upstream
from tests.real.images import Images, closure, root_digest
from tests.real.registry import open_registry
from tests.real.runtimes import Skopeo
from tests.real.stories import UP, Daemon, Sections, answers, blob_reads, blobs_of

IMAGE = f"{UP}/lib/gzip:1"
#: Nothing listens there.
NOWHERE = "http://127.0.0.1:1"


def above(
    store: Path, folder: Path, endpoint: str, *, public: bool = True, **more: object
) -> Sections:
    """A daemon with this store below its cache."""
    return {
        "cache": {"root": folder / "root"},
        "[cache.lower]": {"path": store, "public": public},
        "registries": {UP: {"endpoint": endpoint, **more}},
        "transfer": {"attempts": 2},
    }


def test_nodes_without_a_network(
    start: Start, images: Images, skopeo: Skopeo, tmp_path: Path
) -> None:
    """What one node has pulled, converted and exported the others pull by tag and by digest, and
    give to skopeo; they convert nothing, and no registry is there to be asked. Other tools read
    the store, an export that changes nothing writes nothing, and another image joins the first."""
    store = tmp_path / "shared"
    with open_registry(tmp_path / "registry") as registry:
        for name in ("gzip", "zstd"):
            skopeo.copy(images.source(name), f"docker://{registry.name}/lib/{name}:1")
        first = start({"registries": {UP: {"endpoint": registry.url}}})
        first.ctl.ok("pull", IMAGE)
        made = first.ctl.json("convert", IMAGE)["blob"]
        exported = first.ctl.json("cache", "export-store", str(store))
        again = first.ctl.json("cache", "export-store", str(store), "--verify")
        first.ctl.ok("pull", f"{UP}/lib/zstd:1")
        first.ctl.ok("cache", "export-store", str(store), f"{UP}/lib/zstd:1")
    second = start(above(store, tmp_path / "b", NOWHERE), tmp_path / "b")
    third = start(above(store, tmp_path / "c", NOWHERE, offline=True), tmp_path / "c")
    digest = images.digest("gzip")
    pulled = second.ctl("pull", IMAGE, "--progress", "json")
    converted = second.ctl.json("convert", IMAGE)
    skopeo.copy(third.mirror("lib/gzip:1"), f"oci:{tmp_path}/out:1")
    third.ctl.ok("pull", f"{UP}/lib/zstd@{images.digest('zstd')}")
    none = third.ctl("pull", "-q", f"{UP}/lib/none:1")

    assert [IMAGE] == exported["images"]
    assert (0, exported["blobs"]) == (again["blobs"], again["held_blobs"])
    assert digest == skopeo.digest(f"oci:{store}:{IMAGE}")
    assert images.blobs("gzip") | images.blobs("zstd") | {made} <= blobs_of(store)
    assert {0o444} == {path.stat().st_mode & 0o777 for path in store.glob("blobs/*/*")}
    assert 0 == pulled.code, pulled.err
    assert f"{UP} cannot be reached: {IMAGE} is given as it was" in pulled.err
    assert f"from {store}" in pulled.err
    assert {str(store): 4} == json.loads(pulled.err.splitlines()[-1])["sources"]
    assert (made, False) == (converted["blob"], converted["made"])
    assert images.blobs("gzip") == closure(tmp_path / "out", root_digest(tmp_path / "out", "1"))
    assert 6 == none.code
    state = second.ctl.json("status")["lower"][0]
    assert (True, True, 2, 0) == tuple(state[k] for k in ("public", "usable", "names", "errors"))
    for node in (second, third):
        assert [IMAGE] == tags_of(node)
        assert node.metric("registryd_lower_blobs_total") >= 5
    second.ctl.ok("copy", f"oci:{store}:{IMAGE}", f"oci:{tmp_path}/copied:1")
    assert digest == root_digest(tmp_path / "copied", "1")


def tags_of(node: Daemon) -> list[str]:
    """What it names by a tag."""
    listed = json.loads((node.root / "index.json").read_text())["manifests"]
    names = [each["annotations"].get("org.opencontainers.image.ref.name", "@") for each in listed]
    return [name for name in names if "@" not in name]


def test_a_registry_is_asked_for_names_alone(
    everyones: Upstream, start: Start, skopeo: Skopeo, tmp_path: Path
) -> None:
    """Two nodes whose registry answers ask it what a tag means, and send for nothing: no blob, no
    manifest. A layer that is wrong in the store is fetched from it, and one line names the file;
    so it is with one that is cut, replaced by a pipe or a link, or gone."""
    store, name = tmp_path / "shared", everyones.name("gzip")
    first = start(everyones.sections)
    first.ctl.ok("pull", name)
    first.ctl.ok("cache", "export-store", str(store), name)
    before, asked = blob_reads(everyones.registry), len(answers(everyones.registry))
    endpoint = everyones.registry.url
    nodes = [
        start(above(store, tmp_path / each, endpoint, public=False), tmp_path / each)
        for each in "bc"
    ]
    nodes[0].ctl.ok("pull", name)
    skopeo.copy(nodes[1].mirror("lib/gzip:1"), f"oci:{tmp_path}/out:1")
    spared = blob_reads(everyones.registry) - before
    sent = {(method, uri) for method, uri, _ in answers(everyones.registry)[asked:]}
    sizes = {each["digest"]: each["size"] for each in nodes[0].ctl.json("cache", "ls")["blobs"]}
    layers = sorted(sizes, key=lambda digest: sizes[digest])[-3:]
    for digest, harm in zip(layers, (cut, pipe, flip), strict=True):
        harm(store / "blobs" / digest.replace(":", "/"))
    damaged = start(above(store, tmp_path / "d", endpoint, public=False), tmp_path / "d")
    skopeo.copy(damaged.mirror("lib/gzip:1"), f"oci:{tmp_path}/mended:1")
    fetched = blob_reads(everyones.registry) - before

    assert {} == dict(spared)
    assert {"HEAD"} == {method for method, uri in sent if "/manifests/" in uri}
    assert everyones.images.blobs("gzip") == blobs_of(tmp_path / "out")
    assert everyones.images.blobs("gzip") == blobs_of(tmp_path / "mended")
    assert dict.fromkeys(layers, 1) == dict(fetched)
    said = [line for line in damaged.log.splitlines() if "lower store is wrong" in line]
    assert {str(store / "blobs" / each.replace(":", "/")) for each in layers} == {
        re.search(r"file=(\S+)", line)[1]
        for line in said  # type: ignore[index]
    }
    assert len(layers) == len(said) == damaged.metric("registryd_lower_errors_total")


def cut(path: Path) -> None:
    """A file that lost its end."""
    path.chmod(0o644)
    os.truncate(path, 100)


def pipe(path: Path) -> None:
    """What would hold whoever opens it."""
    path.unlink()
    os.mkfifo(path)


def flip(path: Path) -> None:
    """One bit of it is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_store_gives_nobody_a_right(
    guarded: Upstream, start: Start, skopeo: Skopeo, tmp_path: Path
) -> None:
    """A private image goes to a store only when it is named; a node gives it from there to who has
    proven access, not to others, be the registry there or not; to all once the store is public,
    which a reload takes over. A digest that is known opens nothing by another repository."""
    store, name = tmp_path / "shared", guarded.name("gzip")
    entry = guarded.sections["registries"][UP]
    closed = {key: value for key, value in entry.items() if key != "share_login"}
    first = start({"registries": {UP: closed}})
    first.ctl.ok("pull", name)
    public = first.ctl.json("cache", "export-store", str(store))["images"]
    first.ctl.ok("cache", "export-store", str(store), name)
    folder = tmp_path / "b"
    sections = above(store, folder, guarded.registry.url, public=False)
    node = start(sections, folder)
    layer = max(guarded.images.blobs("gzip"))
    digest = guarded.images.digest("gzip")
    paths = [f"/v2/{UP}/lib/gzip/manifests/{digest}", f"/v2/{UP}/lib/gzip/blobs/{layer}"]
    refused = [node.get(path)[0] for path in paths]
    creds = f"{entry['username']}:{Path(entry['password_file']).read_text().strip()}"
    out = f"oci:{tmp_path}/out:1"
    before = blob_reads(guarded.registry)
    skopeo("copy", "--src-tls-verify=false", f"--src-creds={creds}", node.mirror("lib/gzip:1"), out)
    spared = blob_reads(guarded.registry) - before
    others = [node.get(path)[0] for path in paths]
    elsewhere = node.get(f"/v2/{UP}/lib/other/blobs/{layer}")[0]
    away = above(store, folder, NOWHERE, public=False)
    dark = start({**away, "cache": {"root": folder / "dark"}}, tmp_path / "c")
    unreachable = [dark.get(path)[0] for path in paths]
    config = tmp_path / "c" / "config.toml"
    text = config.read_text()
    config.write_text(text.replace('"public" = false', '"public" = true'))
    dark.process.send_signal(signal.SIGHUP)
    until(lambda: " reloaded: " in dark.log)
    opened = [dark.get(path)[0] for path in paths]

    assert [] == public
    assert [401, 401] == refused == others
    assert {} == dict(spared)
    assert 401 == elsewhere
    assert [503, 503] == unreachable
    assert [200, 200] == opened
