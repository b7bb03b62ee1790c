"""Under which names a mirror is asked, and what it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registryd.config import MirrorConfig, TransferConfig
from registryd.oci.errors import Denied, NameUnknown, Unauthorized
from registryd.remote.credentials import CredentialFiles
from registryd.secrets import NOBODY, Login, Secret
from tests.fakes.registry import FakeRegistry
from tests.remote.conftest import OpenRemotes
from tests.remote.reached import BLOB, LAYER

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
