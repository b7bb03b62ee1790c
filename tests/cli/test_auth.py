"""Logins from the user's side: kept, shown, explained, left aside; against real registries."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.remote.credential_helper import store_by_helper
from registryd.secrets import Login, Secret
from tests.cli.conftest import Ctl
from tests.cli.test_copy import DIGEST, write_layout
from tests.real.registry import JwtTokenServer, RealRegistry, basic_registry, token_registry
from tests.real.stories import in_thread
from tests.remote.test_credential_helpers import make_keeper

PASSWORD = "s3cret-word"


@pytest.fixture(scope="module")
def by_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that knows ann (Basic)."""
    with basic_registry(tmp_path_factory.mktemp("basic"), {"ann": PASSWORD}) as running:
        yield running


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that anybody may read, and ann write to (tokens)."""
    folder = tmp_path_factory.mktemp("token")
    tokens = JwtTokenServer(folder / "tokens", users={"ann": PASSWORD})
    with in_thread(tokens), token_registry(folder, tokens) as running:
        yield running


@pytest.fixture
def name(ctl: Ctl, tmp_path: Path, public: RealRegistry) -> str:
    """An image there."""
    layout = write_layout(tmp_path / "layout", "v1")
    name = f"{public.name}/team/app:1"
    assert ctl("push", f"oci:{layout}:v1", name, "-q", "--creds", f"ann:{PASSWORD}").code == 0
    return name


def auths(**keys: str) -> str:
    """A credentials file in which ann has these passwords."""
    entries = {
        key: {"auth": base64.b64encode(f"ann:{word}".encode()).decode()}
        for key, word in keys.items()
    }
    return json.dumps({"auths": entries})


def test_a_stale_login_and_a_public_image(ctl: Ctl, tmp_path: Path, name: str) -> None:
    """It is pulled with a warning that names file and key; what the user gave is final."""
    authfile = tmp_path / "auth.json"
    authfile.write_text(auths(**{name.partition("/")[0]: "0ld-word"}))
    words = ("pull", name, "-q", "--root", str(tmp_path / "root"))
    pulled = ctl(*words, "--authfile", str(authfile))
    given = ctl(
        "tags", name.removesuffix(":1"), "--creds", "ann:0ld-word", "--root", str(tmp_path / "root")
    )
    pushed = ctl("push", name, f"{name}b", "--authfile", str(authfile), *words[3:])

    assert (0, f"{name}@{DIGEST}\n") == (pulled.code, pulled.out)
    assert 1 == len(pulled.words), pulled.err
    assert pulled.err.startswith(f"warning: the login stored in {authfile}, key ")
    assert 3 == given.code
    assert 3 == pushed.code
    assert str(authfile) in pushed.words[-1]


def test_only_the_file_that_is_named(ctl: Ctl, by_password: RealRegistry, tmp_path: Path) -> None:
    """--authfile is the only place, in this process too: what others hold is not used."""
    empty, usual = tmp_path / "empty.json", ctl.home / ".docker/config.json"
    usual.parent.mkdir()
    usual.write_text(auths(**{by_password.name: PASSWORD}))
    empty.write_text("{}")
    words = ("tags", f"{by_password.name}/no/thing", "--root", str(tmp_path / "root"))

    assert 2 == ctl(*words).code
    assert 3 == ctl(*words, "--authfile", str(empty)).code


def test_a_login_by_a_helper(
    ctl: Ctl, by_password: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real helper program keeps, gives and forgets; no file has the password."""
    helper = make_keeper(tmp_path)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    file, registry = ctl.home / "config.json", by_password.name
    file.write_text('{"credsStore": "fake"}')
    ctl.environ["REGISTRY_AUTH_FILE"] = str(file)
    with_stdin = ("login", registry, "-u", "ann", "--password-stdin")
    logged_in = ctl(*with_stdin, typed=f"{PASSWORD}\n")

    assert f"logged in to {registry}; kept in docker-credential-fake" in logged_in.err
    assert "ann\n" == ctl("login", "--get-login", registry).out
    assert 2 == ctl("tags", f"{registry}/no/thing").code
    explained = json.loads(ctl("auth", "explain", f"{registry}/a/b", "--format", "json").out)
    assert ("docker-credential-fake", "password") == (
        explained["login"]["helper"],
        explained["login"]["kind"],
    )
    got = ctl("auth", "get", registry)
    assert {"Username": "ann", "Secret": PASSWORD} == json.loads(got.out)
    assert PASSWORD not in file.read_text() + (tmp_path / "arguments").read_text()
    assert 0 == ctl("logout", "--all").code
    gone = ctl("auth", "login", "--get-login", registry)
    assert (3, "") == (gone.code, gone.out)


def test_helpers_of_registries_conf(
    ctl: Ctl, by_password: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``credential-helpers`` are asked for every registry, in their order."""
    helper = make_keeper(tmp_path)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    conf, registry = tmp_path / "registries.conf", by_password.name
    conf.write_text('credential-helpers = ["containers-auth.json", "fake"]\n')
    ctl.environ["CONTAINERS_REGISTRIES_CONF"] = str(conf)
    login = Login("ann", Secret(PASSWORD))
    store_by_helper("fake", registry, login)
    explained = ctl("auth", "explain", f"{registry}/a/b")

    assert "docker-credential-fake has one" in explained.out
    assert 2 == ctl("tags", f"{registry}/no/thing", "--root", str(tmp_path / "root")).code


def test_explained(ctl: Ctl, by_password: RealRegistry, tmp_path: Path) -> None:
    """All places in order, the one that counts, the user, no secret; then the registry's word."""
    registry = by_password.name
    ctl.environ["DOCKER_AUTH_CONFIG"] = auths(**{f"{registry}/team": PASSWORD, registry: "0ld"})
    words = ("auth", "explain", f"{registry}/team/app:1")
    table = ctl(*words)
    checked = ctl(*words, "--check", "--format", "json")
    other = ctl("auth", "explain", f"{registry}/other", "--check")
    nobody = ctl("auth", "explain", f"{registry}/other", "--no-creds")
    places = [line.split()[0] for line in table.out.partition("FOUND")[2].splitlines()[1:]]

    assert "user ann, by password" in table.out
    assert [str(ctl.home / "run/containers/auth.json"), "->"] == [places[0], places[2]]
    assert "DOCKER_AUTH_CONFIG" in table.out.splitlines()[-2]
    assert "not looked at" in table.out.splitlines()[-1]
    assert 2 == checked.code
    check = json.loads(checked.out)["check"]
    assert (False, "basic", []) == (check["admitted"], check["scheme"], check["scopes"])
    assert 3 == other.code
    assert f'from DOCKER_AUTH_CONFIG, key "{registry}"' in other.err
    assert "none: as anybody" in nobody.out
    assert PASSWORD not in table.out + table.err + checked.out + checked.err
    assert base64.b64encode(f"ann:{PASSWORD}".encode()).decode() not in table.out + checked.out


def test_a_check_of_tokens(ctl: Ctl, name: str, public: RealRegistry) -> None:
    """What a token server is asked for is told: realm, service and scope."""
    outcome = ctl("auth", "explain", name, "--check", "--creds", f"ann:{PASSWORD}")
    told = dict(line.split(":", 1) for line in outcome.out.split("\n\n")[0].splitlines())

    assert 0 == outcome.code
    assert "bearer" == told["it asks for"].strip()
    assert "repository:team/app:pull" == told["scope"].strip()
    assert "real registry" == told["service"].strip()
    assert f"it is {DIGEST}" == told["it says"].strip()
    assert PASSWORD not in outcome.out + outcome.err


def test_a_login_for_one_namespace(ctl: Ctl, by_password: RealRegistry, tmp_path: Path) -> None:
    """As podman has it: HOST/NAMESPACE is the key, and nothing else of the host is logged in to."""
    registry, file = by_password.name, tmp_path / "auth.json"
    words = ("--authfile", str(file))
    key = f"{registry}/team"
    ctl("login", key, "-u", "ann", "--password-stdin", *words, typed=f"{PASSWORD}\n")

    assert [key] == list(json.loads(file.read_text())["auths"])
    assert 2 == ctl("tags", f"{key}/none", *words).code
    assert 3 == ctl("tags", f"{registry}/other/none", *words).code
    assert 0 == ctl("logout", key, *words).code
    assert 3 == ctl("tags", f"{key}/none", *words).code
    assert 64 == ctl("logout", *words).code
