"""Credential helpers: real programs on PATH, asked as docker asks them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from registryd.oci.errors import ConfigInvalid
from registryd.remote.credential_files import remove, save
from registryd.remote.credential_helper import ask_helper
from registryd.remote.credentials import FILES, CredentialFiles
from registryd.secrets import Login, Secret
from tests.remote.test_credentials import HUB, entry, found, write


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    """A directory on PATH with a helper that knows one host and notes what it was asked."""
    return make_helper(
        tmp_path,
        f"""
        read -r server
        echo "$server" >> {tmp_path}/asked
        case "$server" in
          quay.io) echo '{{"ServerURL":"quay.io","Username":"ann","Secret":"word"}}';;
          {HUB}) echo '{{"Username":"<token>","Secret":"refresh"}}';;
          odd) echo 'not json, and word';;
          *) echo "credentials not found in native keychain"; exit 1;;
        esac
        """,
    )


def make_helper(folder: Path, script: str) -> Path:
    program = folder / "bin/docker-credential-fake"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    return program


@pytest.fixture
def on_path(helper: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    return helper


def test_helper_for_the_wanted_host_only(on_path: Path, tmp_path: Path) -> None:
    """A helper is asked for the host that is wanted, and only when it is wanted (2.10)."""
    files = write(
        tmp_path / "config.json",
        credHelpers={"quay.io": "fake", "docker.io": "fake", "other.io": "missing"},
        auths={"ghcr.io": entry("bob", "b")},
    )

    assert "bob" == found(files, "ghcr.io")
    assert not (tmp_path / "asked").exists()
    assert "ann" == found(files, "quay.io", "team/app")
    assert "quay.io\n" == (tmp_path / "asked").read_text()
    assert Login(identity_token=Secret("refresh")) == files.find("docker.io")


def test_store_for_all_hosts(on_path: Path, tmp_path: Path) -> None:
    """credsStore is asked for what the file itself has not."""
    files = write(
        tmp_path / "config.json",
        credsStore="fake",
        auths={"quay.io": {}, "ghcr.io": entry("bob", "b")},
    )

    assert ("ann", "bob", None) == tuple(
        found(files, host) for host in ("quay.io", "ghcr.io", "none.io")
    )


def test_helpers_for_all_registries(on_path: Path, tmp_path: Path) -> None:
    """A list of helpers for everything stands around the files, in the order that it says."""
    file = tmp_path / "auth.json"
    write(file, auths={"quay.io": entry("file", "f"), "ghcr.io": entry("file", "f")})
    before = CredentialFiles([file], helpers=("fake", FILES))
    after = CredentialFiles([file], helpers=(FILES, "fake"))

    assert ("ann", "file") == (found(before, "quay.io"), found(before, "ghcr.io"))
    assert "file" == found(after, "quay.io")
    assert ["docker-credential-fake", str(file)] == before.order


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "is missing"),
        ("exec tail -f /dev/null", "gave no answer in 0.2 s"),
        ("tail -f /dev/null & echo '{}'", "gave no answer in 0.2 s"),
        ("echo 'no key ring and hidden-text'; exit 1", "ended with status 1"),
    ],
)
def test_a_helper_in_trouble_is_a_warning(
    on_path: Path, tmp_path: Path, script: str | None, said: str
) -> None:
    """We go on without a login and say so, without the helper's words; it is ended in time (2.10).

    So is what it has started.
    """
    on_path.write_text(f"#!/bin/sh\n{script}\n")
    if script is None:
        on_path.unlink()

    def impatient(name: str, server: str) -> Login | None:
        return ask_helper(name, server, timeout=0.2)

    file, told = tmp_path / "config.json", list[str]()
    write(file, credHelpers={"quay.io": "fake"})
    files = CredentialFiles([file], helper=impatient, warned=told.append)

    line = (
        f"the credential helper docker-credential-fake {said}; going on without a login of"
        f" quay.io (credHelpers in {file})"
    )

    assert files.find("quay.io") is None
    assert [line] == told


def test_a_helper_may_close_its_ears(on_path: Path) -> None:
    """A program that answers without reading what it is told is heard; endless ones are not."""
    on_path.write_text('#!/bin/sh\nexec <&-\necho \'{"Username":"ann","Secret":"word"}\'\n')

    assert Login("ann", Secret("word")) == ask_helper("fake", "x" * 100_000)
    on_path.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    with pytest.raises(ConfigInvalid, match="its answer is not a login"):
        ask_helper("fake", "quay.io")


def test_a_helper_keeps_and_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file names a helper, a login is kept there and nowhere else; the secret goes to its
    stdin alone. It leaves docker's mark in the file, and takes a login of the file itself along."""
    keeper = make_keeper(tmp_path)
    monkeypatch.setenv("PATH", f"{keeper.parent}:{os.environ['PATH']}")
    file = tmp_path / "config.json"
    write(file, credsStore="fake", auths={"docker.io": entry("old", "o")})
    files = CredentialFiles([file])
    kept = save(file, "docker.io", Login("ann", Secret("hidden-text")))

    assert f"docker-credential-fake (named in {file})" == kept
    assert {"credsStore": "fake", "auths": {HUB: {}}} == json.loads(file.read_text())
    assert "hidden-text" not in (tmp_path / "arguments").read_text()
    assert Login("ann", Secret("hidden-text")) == files.find("docker.io")
    save(file, "quay.io", Login(identity_token=Secret("refresh")))
    assert Login(identity_token=Secret("refresh")) == files.find("quay.io")
    assert [True, False] == [remove(file, "docker.io") for _ in range(2)]
    assert files.find("docker.io") is None
    assert {"quay.io": {}} == json.loads(file.read_text())["auths"]


def make_keeper(folder: Path) -> Path:
    """A helper that keeps what it is told, in a folder, and notes its arguments."""
    return make_helper(
        folder,
        f"""
        echo "$@" >> {folder}/arguments
        typed=$(cat)
        case "$1" in
          store) server=$(echo "$typed" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/');;
          *) server=$typed;;
        esac
        kept={folder}/kept-$(echo "$server" | tr -c 'a-z0-9.\\n' _)
        case "$1" in
          store) echo "$typed" > "$kept";;
          get) cat "$kept" 2> /dev/null || {{
            echo "credentials not found in native keychain"; exit 1; }};;
          erase) rm "$kept";;
        esac
        """,
    )


def test_odd_helper_is_an_error_without_its_words(on_path: Path) -> None:
    """What a helper says may hold the secret: it is not shown."""
    with pytest.raises(ConfigInvalid, match="its answer is not a login") as caught:
        ask_helper("fake", "odd")

    assert "word" not in str(caught.value)
    with pytest.raises(ConfigInvalid):
        ask_helper("../evil", "quay.io")
