"""Credential files and helper programs, as docker and podman have them."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import ConfigInvalid
from registryd.remote.auth_entry import decode_entry, encode_entry
from registryd.remote.credential_files import keys_of, read_place, remove, save
from registryd.remote.credential_places import (
    AuthText,
    default_paths,
    default_places,
    login_path,
)
from registryd.remote.credentials import CredentialFiles
from registryd.secrets import Login, Secret

HUB = "https://index.docker.io/v1/"


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, **content: object) -> CredentialFiles:
    path.write_text(json.dumps(content))
    return CredentialFiles([path])


def found(files: CredentialFiles, registry: str, repository: str = "") -> str | None:
    login = files.find(registry, repository)
    return None if login is None else login.username


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v1/", "ghcr.io"),
        ("http://ghcr.io/v2/", "ghcr.io"),
        ("ghcr.io/v1/", "ghcr.io"),
        ("ghcr.io/v2", "ghcr.io"),
        ("GHCR.io", "ghcr.io"),
        ("localhost:5000", "localhost:5000"),
        (HUB, "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_key_forms(tmp_path: Path, key: str, registry: str) -> None:
    """A host's key may be a host, a URL, and have a version; Hub has several names."""
    files = write(tmp_path / "config.json", auths={key: entry("ann", "word")})

    assert "ann" == found(files, registry)
    assert found(files, "quay.io") is None


def test_longest_key_wins(tmp_path: Path) -> None:
    """A repository's key before its parents', those before the host's."""
    files = write(
        tmp_path / "auth.json",
        auths={
            "quay.io": entry("host", "1"),
            "quay.io/team": entry("team", "2"),
            "quay.io/team/app": entry("app", "3"),
        },
    )

    assert "app" == found(files, "quay.io", "team/app")
    assert "team" == found(files, "quay.io", "team/other")
    assert "host" == found(files, "quay.io", "teams/app")
    assert "host" == found(files, "quay.io")


def test_origin_names_file_and_key(tmp_path: Path) -> None:
    """Who reads that a login was refused must find it (2.9)."""
    file = tmp_path / "auth.json"
    login = write(file, auths={"https://quay.io/v1/": entry("ann", "hidden-text")}).find("quay.io")

    assert login is not None
    assert f'{file}, key "https://quay.io/v1/"' == login.origin
    assert "hidden-text" not in repr(login)


def test_identity_token(tmp_path: Path) -> None:
    """An identity token is kept beside user and password."""
    content = entry("ann", "") | {"identitytoken": "refresh"}
    login = write(tmp_path / "a", auths={"quay.io": content}).find("quay.io")

    assert Login("ann", Secret(""), Secret("refresh")) == login


def test_first_file_with_a_login_wins(tmp_path: Path) -> None:
    """Files are looked at in order; missing, empty and blank ones hold nothing."""
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, auths={"quay.io": {}, "ghcr.io": entry("first", "1")})
    write(second, auths={"quay.io": entry("second", "2"), "ghcr.io": entry("second", "2")})
    (tmp_path / "blank").write_text("\n")
    files = CredentialFiles([tmp_path / "none/at/all", tmp_path / "blank", first, second])

    assert "second" == found(files, "quay.io")
    assert "first" == found(files, "ghcr.io")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"auths": []}',
        '{"auths": {"quay.io": "text"}}',
        '{"auths": {"quay.io": {"auth": "***hidden***"}}}',
        '{"auths": {"quay.io": {"auth": "aGlkZGVu"}}}',
        '{"auths": {"quay.io": {"auth": "/2hpZGRlbjo="}}}',
        '{"auths": {"quay.io": {"auth": 5}}}',
        '{"credHelpers": "hidden"}',
        "[" * 100_000,
    ],
)
def test_bad_file_is_one_line_that_names_it(tmp_path: Path, content: str) -> None:
    """The line says which file, and nothing of what is in it."""
    file = tmp_path / "auth.json"
    file.write_text(content)
    with pytest.raises(ConfigInvalid) as caught:
        CredentialFiles([file]).find("quay.io")
    text = str(caught.value)

    assert text.startswith(str(file))
    assert "\n" not in text
    assert "hidden" not in text
    assert "aGlk" not in text
    assert caught.value.__cause__ is None


def test_unreadable_file_is_told(tmp_path: Path) -> None:
    """A directory in place of the file is no missing file."""
    with pytest.raises(ConfigInvalid, match=f"{tmp_path}: cannot be read: "):
        CredentialFiles([tmp_path]).find("quay.io")


def test_the_locked_place_of_podman_holds_nothing(tmp_path: Path) -> None:
    """Where root was first to run podman, others cannot look into /run/containers: they go on
    without it. Any other file that may not be read is an error."""
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        folder.mkdir(mode=0)

    assert "{}" == as_user(lambda: str(read_place(run / "1001/auth.json", run)))
    assert "cannot be read" in as_user(lambda: str(read_place(other / "1001/auth.json", run)))


def as_user(act: Callable[[], str]) -> str:
    """What this gives (or the words of its error) where it is done by a user who is not root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            said = act()
        except BaseException as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def test_save_and_remove(tmp_path: Path) -> None:
    """Written whole with mode 0600; what we do not know is kept; nothing is left beside it."""
    file = tmp_path / "deep/auth.json"
    save(file, "quay.io", Login("ann", Secret("word:with:colons")))
    content = json.loads(file.read_text()) | {"psFormat": "table"}
    file.write_text(json.dumps(content))
    file.chmod(0o644)
    save(file, "ghcr.io", Login("bob", Secret("b"), Secret("refresh")))
    login = CredentialFiles([file]).find("quay.io")

    assert Login("ann", Secret("word:with:colons")) == login
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert "table" == json.loads(file.read_text())["psFormat"]
    assert [file] == list(file.parent.iterdir())
    assert remove(file, "quay.io")
    assert not remove(file, "quay.io")
    assert "bob" == found(CredentialFiles([file]), "ghcr.io")


def test_save_takes_the_key_that_is_there(tmp_path: Path) -> None:
    """Docker's key for Hub in docker's file, and never two keys for one host."""
    docker, podman = tmp_path / "config.json", tmp_path / "auth.json"
    for file in (docker, podman):
        save(file, "docker.io", Login("ann", Secret("1")))
        save(file, "docker.io", Login("bob", Secret("2")))

    assert [HUB] == list(json.loads(docker.read_text())["auths"])
    assert ["docker.io"] == list(json.loads(podman.read_text())["auths"])


def test_save_follows_a_link(tmp_path: Path) -> None:
    """A link to a file kept elsewhere stays a link."""
    real, link = tmp_path / "real.json", tmp_path / "auth.json"
    real.write_text("{}")
    link.symlink_to(real)
    save(link, "quay.io", Login("ann", Secret("1")))

    assert link.is_symlink()
    assert "ann" == found(CredentialFiles([real]), "quay.io")


def test_save_where_it_cannot_be(tmp_path: Path) -> None:
    """A file in place of the directory is told with the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigInvalid, match=f"{tmp_path}/file/auth.json: cannot be written"):
        save(tmp_path / "file/auth.json", "quay.io", Login("ann", Secret("1")))


def test_save_does_not_hide_behind_a_helper(tmp_path: Path) -> None:
    """What a helper should keep is never written to the file instead: it would be in the clear."""
    file = tmp_path / "config.json"
    write(file, credHelpers={"quay.io": "is-not-there"})
    before = file.read_text()
    with pytest.raises(ConfigInvalid, match="docker-credential-is-not-there is missing"):
        save(file, "quay.io", Login("ann", Secret("1")))
    with pytest.raises(ConfigInvalid, match="which knows registries only"):
        save(file, "quay.io/team", Login("ann", Secret("1")))

    assert before == file.read_text()


@given(st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"])), st.text())
def test_entries_both_ways(user: str, password: str) -> None:
    """What is written is read back."""
    password = password.encode("utf-8", "ignore").decode().strip("\0")
    login = Login(user, Secret(password), Secret("t"))

    assert login == decode_entry(encode_entry(login), "here")


def test_paths(tmp_path: Path) -> None:
    """podman's files before docker's; REGISTRY_AUTH_FILE alone, where it is set."""
    home = tmp_path
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "DOCKER_CONFIG": "/d"}

    assert (
        Path("/run/user/7/containers/auth.json"),
        home / ".config/containers/auth.json",
        Path("/d/config.json"),
    ) == default_paths(environ, home)
    assert (
        Path("/run/containers/7/auth.json"),
        home / ".config/containers/auth.json",
        home / ".docker/config.json",
    ) == default_paths({}, home, uid=7)
    assert (Path("/a"),) == default_paths({"REGISTRY_AUTH_FILE": "/a"} | environ, home)
    text = {"DOCKER_AUTH_CONFIG": '{"auths": {}}'}
    given = AuthText("DOCKER_AUTH_CONFIG", Secret(text["DOCKER_AUTH_CONFIG"]))
    paths = default_paths(environ, home)
    assert (*paths[:2], given, paths[2]) == default_places(environ | text, home)
    assert (Path("/a"),) == default_places({"REGISTRY_AUTH_FILE": "/a"} | text, home)
    assert Path("/a") == login_path({"REGISTRY_AUTH_FILE": "/a"}, home)
    assert Path("/run/user/7/containers/auth.json") == login_path(environ, home)


def test_a_text_in_the_environment(tmp_path: Path) -> None:
    """DOCKER_AUTH_CONFIG is the JSON itself: used as a file is, and never shown."""
    text = json.dumps({"auths": {"quay.io": entry("ann", "hidden-text")}})
    login = CredentialFiles([AuthText("DOCKER_AUTH_CONFIG", Secret(text))]).find("quay.io")
    broken = AuthText("DOCKER_AUTH_CONFIG", Secret("hidden-text"))
    with pytest.raises(ConfigInvalid, match=r"^DOCKER_AUTH_CONFIG: is not JSON") as caught:
        CredentialFiles([broken]).find("quay.io")

    assert Login("ann", Secret("hidden-text")) == login
    assert login is not None
    assert login.stored
    assert 'DOCKER_AUTH_CONFIG, key "quay.io"' == login.origin
    assert "hidden" not in f"{caught.value} {broken!r}"


def test_a_key_of_a_repository(tmp_path: Path) -> None:
    """A login for HOST/NS is kept, found and removed beside the host's own."""
    file = tmp_path / "auth.json"
    save(file, "quay.io", Login("host", Secret("1")))
    save(file, "quay.io/team", Login("team", Secret("2")))
    files = CredentialFiles([file])

    assert ("team", "host") == (found(files, "quay.io", "team/app"), found(files, "quay.io", "x"))
    assert ["quay.io", "quay.io/team"] == keys_of(file)
    assert remove(file, "quay.io/team")
    assert "host" == found(files, "quay.io", "team/app")
    assert not remove(file, "quay.io/team")


def test_each_place_is_told(tmp_path: Path) -> None:
    """What was found where, in order, up to the login; the rest is only named."""
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, auths={"ghcr.io": entry("bob", "b")})
    write(second, auths={"quay.io/team": entry("ann", "hidden-text")})
    files = CredentialFiles([tmp_path / "none", first, second])
    looked = list(files.look("quay.io", "team/app"))

    assert [
        (str(tmp_path / "none"), "nothing is there", ""),
        (str(first), "no key for quay.io", ""),
        (str(second), "its key fits", "quay.io/team"),
    ] == [(each.place, each.found, each.key) for each in looked]
    assert [each.place for each in looked] == files.order
    assert "hidden-text" not in repr(looked)
