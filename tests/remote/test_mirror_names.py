"""Under which names a mirror is asked, and what it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registryd.config import MirrorConfig, RegistryConfig, TransferConfig
from registryd.oci.errors import Denied, NameUnknown, Unauthorized
from registryd.oci.reference import Reference
from registryd.remote import hosts_toml, registries_conf
from registryd.remote.credentials import CredentialFiles
from registryd.remote.found_hosts import Certificates, FoundHosts
from registryd.secrets import NOBODY, Login, Secret
from tests.fakes.registry import FakeCdn, FakeRegistry
from tests.remote.conftest import OpenRemotes
from tests.remote.reached import BLOB, LAYER, Reached

ANN = Login("ann", Secret("secret-word"))


@pytest.mark.parametrize(
    ("path", "by", "line"),
    [
        ("", "path", "GET /v2/team/app/blobs/{}"),
        ("/hub/proxy", "path", "GET /v2/hub/proxy/team/app/blobs/{}"),
        ("/hub/proxy", "plain", "GET /hub/proxy/v2/team/app/blobs/{}"),
        ("", "ns", "GET /v2/team/app/blobs/{}?ns={}"),
    ],
)
async def test_names_at_a_mirror(
    reach: Any, hosts: list[FakeRegistry], path: str, by: str, line: str
) -> None:
    """The URL's path is before the repository's name, or before /v2; ns is sent where asked."""
    reached = await reach(MirrorConfig(hosts[0].url + path, by=by))
    hosts[0].answer(".", 200, LAYER)
    await reached.blob()

    assert [line.format(BLOB, hosts[2].name.replace(":", "%3A"))] == [
        each.replace(hosts[2].name, hosts[2].name.replace(":", "%3A")) for each in hosts[0].lines()
    ]


@pytest.mark.parametrize("one_user", [True, False])
async def test_logins_stay_apart(
    reach: Any, hosts: list[FakeRegistry], tmp_path: Path, one_user: bool
) -> None:
    """A login for the registry is never shown to a mirror; a mirror's own only for its user."""
    for server in hosts:
        server.users = {"ann": "secret-word", "mia": "mirror-word"}
    file = tmp_path / "auth.json"
    mia = {"auth": "bWlhOm1pcnJvci13b3Jk"}
    file.write_text(json.dumps({"auths": {hosts[1].name: mia}}))
    files = CredentialFiles([file])
    reached = await reach(login=ANN, credentials=files, one_user=one_user)
    _, source = await reached.blob()
    nobody = await reach(login=NOBODY, credentials=files, one_user=one_user)
    with pytest.raises((Unauthorized, NameUnknown, Denied)):
        await nobody.blob()
    shown = [{seen.headers.get("Authorization", "") for seen in each.requests} for each in hosts]

    assert hosts[1 if one_user else 2].name == source
    assert {""} == shown[0]
    assert ({"", f"Basic {mia['auth']}"} if one_user else {""}) == shown[1]


async def test_caller_proves_nothing_by_our_certificate(
    reach: Any, hosts: list[FakeRegistry], tmp_path: Path
) -> None:
    """A mirror that lets this node in by its certificate is not asked for somebody else."""
    closed = MirrorConfig(
        hosts[0].url, client_cert=tmp_path / "c.crt", client_key=tmp_path / "c.key"
    )
    reached = await reach(closed, login=NOBODY)
    await reached.blob()

    assert [0, 0, 1] == reached.asked


async def test_impatient_for_a_connection(
    reach: Any, hosts: list[FakeRegistry], open_remotes: OpenRemotes
) -> None:
    """What the configuration allows a mirror for a connection is less than for a registry."""
    mirror = MirrorConfig("http://127.0.0.1:1")
    reached = await reach(mirror, transfer=replace(TransferConfig(), connect_timeout=1.0))

    assert 2.0 == mirror.connect_timeout
    assert (LAYER, hosts[2].name) == await reached.blob()


async def test_https_stays_https(reach: Any, hosts: list[FakeRegistry]) -> None:
    """A mirror that is written with https: is not asked without TLS, on loopback neither."""
    reached = await reach(MirrorConfig(f"https://{hosts[0].name}"))
    _, source = await reached.blob()

    assert hosts[2].name == source
    assert [0, 0, 1] == reached.asked


def found(hosts: list[FakeRegistry], **more: Any) -> FoundHosts:
    """What registries.conf says: the first server stands for the last, in words that are lax."""
    text = f"""
        [[registry]]
        location = "{hosts[2].name}"
        insecure = true
        [[registry.mirror]]
        location = "{hosts[0].name}"
        insecure = true
        [[registry]]
        location = "{hosts[2].name}/closed"
        blocked = true
    """
    return FoundHosts(registries_conf.parse(text.encode(), "/etc/r.conf"), **more)


async def test_insecure_means_plain_http_too(
    open_remotes: OpenRemotes, hosts: list[FakeRegistry]
) -> None:
    """TLS is tried first, then plain HTTP, as podman does; our own mirrors would come before."""
    remotes = await open_remotes({}, found=found(hosts))
    reached = Reached(remotes, hosts, None)
    _, source = await reached.blob()
    blocked = Reference(hosts[2].name, "closed/app", "1")
    with pytest.raises(Denied, match=r"closed is blocked by /etc/r\.conf"):
        await reached.client.resolve(blocked)
    ours = RegistryConfig(plain_http=True, mirrors=(MirrorConfig(hosts[1].url),))
    configured = await open_remotes({hosts[2].name: ours}, found=found(hosts))
    _, own = await Reached(configured, hosts, None).blob()

    assert (hosts[0].name, hosts[1].name) == (source, own)


async def test_headers_of_a_host_stay_with_it(
    open_remotes: OpenRemotes, hosts: list[FakeRegistry], cdn: FakeCdn
) -> None:
    """What hosts.toml sends to a mirror does not go on to where that redirects to."""
    hosts[0].cdn, cdn.blobs[str(BLOB)] = cdn, LAYER
    text = f'[host."{hosts[0].url}"]\n[host."{hosts[0].url}".header]\nx-token = "s3cret"'
    file = hosts_toml.parse(text.encode(), Path("/etc/hosts.toml"))
    name = "up.invalid"
    remotes = await open_remotes({}, found=FoundHosts(hosts={name: file}))
    async with remotes.remote(name).fetch_blob(Reference(name, "team/app"), BLOB) as body:
        source = body.source

    assert cdn.name == source
    assert ["s3cret"] == [seen.headers.get("x-token") for seen in hosts[0].requests]
    assert [None] == [seen.headers.get("x-token") for seen in cdn.requests]


async def test_certs_d_may_let_in_the_node_alone(
    open_remotes: OpenRemotes, hosts: list[FakeRegistry], tmp_path: Path
) -> None:
    """Where a certificate of ours lies, nothing is proven for others, unless that is shared."""
    name = hosts[2].name
    shown = {name: Certificates(tmp_path, shows=True)}
    plain = RegistryConfig(plain_http=True)
    remotes = await open_remotes({name: plain}, found=FoundHosts(certificates=shown))
    with pytest.raises(Denied, match="opens it to the node's owner alone"):
        await Reached(remotes, hosts, NOBODY).tag()
    shared = await open_remotes(
        {name: replace(plain, share_login=True)}, found=FoundHosts(certificates=shown)
    )

    assert await Reached(remotes, hosts, None).tag()
    assert await Reached(shared, hosts, NOBODY).tag()
    assert shared.knows_us(Reference(name, "team/app"))


@pytest.mark.parametrize(
    ("capabilities", "known"), [(("pull", "resolve"), False), (("pull", "push"), True)]
)
async def test_who_takes_pushes_may_know_us(
    open_remotes: OpenRemotes, tmp_path: Path, capabilities: tuple[str, ...], known: bool
) -> None:
    """The host that pushes go to counts: a mirror that knows us and takes none does not."""
    cert, key = tmp_path / "c.crt", tmp_path / "c.key"
    mirror = MirrorConfig("http://m.example", client_cert=cert, client_key=key)
    mirror = replace(mirror, capabilities=capabilities)
    remotes = await open_remotes({"r.example": RegistryConfig(mirrors=(mirror,))})

    assert known == remotes.knows_us(Reference("r.example", "team/app"))
