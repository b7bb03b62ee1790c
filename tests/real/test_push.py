"""Story: images pushed into the node's own registry, and past a daemon to others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import PASSWORD, USER, Start, Upstream
from tests.real.images import Images, closure
from tests.real.runtimes import Containers, Skopeo, as_root, attempt, plain_environ
from tests.real.stories import Ctl, Daemon, blobs_of, told


def own(node: Daemon, name: str) -> str:
    """A name in the daemon's own registry, as others reach it."""
    return f"docker://{node.address}/localhost/{name}"


@pytest.mark.parametrize("name", ["gzip", "zstd", "multi"])
def test_an_image_pushed_to_a_node_is_pulled_by_another(
    start: Start, skopeo: Skopeo, images: Images, tmp_path: Path, name: str
) -> None:
    """What skopeo pushes as localhost/app is served, listed, and pulled by a second daemon."""
    first = start({})
    skopeo.copy(images.source(name), own(first, "app:1"), "--all")

    digest = images.digest(name)
    shown = first.ctl.json("images")["images"]
    assert [("localhost/app:1", digest)] == [(i["reference"], i["digest"]) for i in shown]
    assert images.blobs(name) == blobs_of(first.root)
    assert digest == skopeo.digest(own(first, "app:1"))

    far = f"{first.address}/localhost/app:1"
    second = start({"registries": {first.address: {"plain_http": True}}})
    pulled = second.ctl.ok("pull", "-q", "--all-platforms", far)

    assert f"{far}@{digest}\n" == pulled
    assert images.blobs(name) == blobs_of(second.root)


def test_a_node_is_another_nodes_upstream(
    start: Start, skopeo: Skopeo, images: Images, everyones: Upstream
) -> None:
    """A daemon whose registry is reached through another daemon's socket gets the image by it."""
    near = start(everyones.sections)
    far = start({"registries": {"up.test": {"endpoint": f"unix://{near.socket}"}}})

    pulled = far.ctl.ok("pull", "-q", everyones.name("gzip"))

    assert f"{everyones.name('gzip')}@{images.digest('gzip')}\n" == pulled
    assert images.blobs("gzip") == blobs_of(far.root) == blobs_of(near.root)


def test_a_second_push_sends_nothing(start: Start, skopeo: Skopeo, images: Images) -> None:
    """Blobs that the repository has are not sent again, and one of another name is mounted."""
    node = start({})
    skopeo.copy(images.source("gzip"), own(node, "app:1"))
    pushed = node.metric("registryd_pushed_bytes_total")

    skopeo.copy(images.source("gzip"), own(node, "app:2"))

    assert 0 < pushed == node.metric("registryd_pushed_bytes_total")
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", own(node, "app")))
    assert ["1", "2"] == listed["Tags"]


def test_buildah_pushes_what_it_has_built(start: Start, images: Images, place: Path) -> None:
    """buildah builds upon a pushed image and pushes the result; podman runs away with it."""
    node = start({})
    buildah = Containers("buildah", place / "b", {})
    name = f"{node.address}/localhost/built:1"
    base = buildah("from", images.source("gzip")).strip()
    buildah("config", "--label", "made=here", base)
    buildah("commit", base, "localhost/built")
    buildah("push", "--tls-verify=false", "localhost/built", f"docker://{name}")

    podman = Containers("podman", place / "p", {})
    podman("pull", "--tls-verify=false", name)

    labels = json.loads(podman("image", "inspect", name))[0]["Labels"]
    assert "here" == labels["made"]
    described = json.loads(node.ctl.ok("inspect", "localhost/built:1"))
    assert "here" == described["Labels"]["made"]


@pytest.mark.parametrize("kind", ["guarded", "by_token"])
def test_push_past_the_daemon_with_creds(
    request: pytest.FixtureRequest, start: Start, skopeo: Skopeo, kind: str
) -> None:
    """A layout goes to a registry that wants a login: by --creds; and from the cache the same."""
    upstream: Upstream = request.getfixturevalue(kind)
    node = start({"registries": {upstream.registry.name: {"plain_http": True}}})
    creds = f"{USER}:{PASSWORD}"
    name = f"{upstream.registry.name}/new/{kind}"
    plain = Ctl(node.folder / "home")
    layout = upstream.images.source("multi")

    sent = plain.ok("push", "-q", "--plain-http", "--creds", creds, layout, f"{name}:1")
    pulled = node.ctl.ok("pull", "-q", "--all-platforms", "--creds", creds, f"{name}:1")
    again = node.ctl.ok("push", "-q", "--creds", creds, f"{name}:1", f"{name}-b:2")

    digest = upstream.images.digest("multi")
    assert f"{name}:1@{digest}\n" == sent == pulled
    assert f"{name}-b:2@{digest}\n" == again
    for target in (f"{name}:1", f"{name}-b:2"):
        found = skopeo("inspect", "--tls-verify=false", f"--creds={creds}", "--raw",
                       f"docker://{target}")  # fmt: skip
        assert json.loads(found)["manifests"]


@pytest.mark.parametrize("kind", ["guarded", "by_token"])
def test_login_is_kept_where_others_look(
    request: pytest.FixtureRequest, start: Start, tmp_path: Path, kind: str
) -> None:
    """After login push needs no --creds, skopeo finds the same file, and logout forgets it."""
    upstream: Upstream = request.getfixturevalue(kind)
    host = upstream.registry.name
    auth = tmp_path / "auth.json"
    ctl = Ctl(tmp_path / "home", {"REGISTRY_AUTH_FILE": str(auth)})
    flags = ("--plain-http", "-u", USER, "--password-stdin")
    push = ("push", "-q", "--plain-http", upstream.images.source("gzip"), f"{host}/kept/{kind}:1")

    assert 3 == ctl(*push).code
    assert 3 == ctl("login", *flags, host, typed="wrong\n").code
    assert not auth.exists()
    ctl.ok("login", *flags, host, typed=PASSWORD + "\n")
    assert 0o600 == auth.stat().st_mode & 0o777
    ctl.ok(*push)

    environ = plain_environ(tmp_path / "home") | {"REGISTRY_AUTH_FILE": str(auth)}
    seen = attempt(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{host}/kept/{kind}:1"], environ
    )
    assert seen.code == 0, seen.err
    node = start({"registries": {host: {"plain_http": True}}})
    through = node.ctl.with_environ(REGISTRY_AUTH_FILE=str(auth))
    through.ok("pull", "-q", f"{host}/kept/{kind}:1")

    ctl.ok("logout", host)
    assert {} == json.loads(auth.read_text()).get("auths", {})
    assert 3 == ctl(*push[:-1], f"{host}/kept/{kind}:2").code


def test_without_a_password_there_is_one_line(guarded: Upstream, tmp_path: Path) -> None:
    """A push that is refused says which registry and what to do, in one line; exit code 3."""
    name = f"{guarded.registry.name}/new/app:1"

    ran = Ctl(tmp_path)("push", "-q", "--plain-http", guarded.images.source("gzip"), name)

    assert 3 == ran.code
    assert guarded.registry.name in told(ran)


def test_layouts_of_others_are_read(images: Images, tmp_path: Path, start: Start) -> None:
    """umoci unpacks from the live cache what was pushed into it: the layout is a true one."""
    node = start({})
    node.ctl.ok("copy", images.source("gzip"), "cache:localhost/app:1")
    target = tmp_path / "bundle"

    layout = tmp_path / "layout"
    node.ctl.ok("copy", "cache:localhost/app:1", f"oci:{layout}:x")
    ran = attempt(
        [*as_root(), "umoci", "unpack", "--image", f"{layout}:x", str(target)],
        plain_environ(tmp_path / "home"),
    )

    assert ran.code == 0, ran.err
    assert b"hello\n" == (target / "rootfs/etc/motd").read_bytes()
    assert images.blobs("gzip") == closure(layout, images.digest("gzip"))
