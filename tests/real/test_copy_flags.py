"""Stories of copy between two real registries, with skopeo to compare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ctl, Outcome
from tests.real.conftest import Upstream
from tests.real.images import Images, read, root_digest
from tests.real.registry import RealRegistry, open_registry
from tests.real.runtimes import Skopeo

PLATFORMS = ("--platform", "linux/amd64")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A second registry, empty at first."""
    with open_registry(tmp_path_factory.mktemp("target")) as registry:
        yield registry


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    """The program, which knows of no daemon."""
    home = tmp_path / "home"
    home.mkdir()
    return Ctl(home, {"XDG_RUNTIME_DIR": str(home / "run"), "NO_COLOR": "1"})


def requests(registry: RealRegistry, since: int) -> list[tuple[str, str]]:
    """Method and path of what a registry was asked, from this line of its log on."""
    found = []
    for line in registry.log[since:]:
        if "response completed" in line:
            words = dict(w.split("=", 1) for w in line.split() if "=" in w)
            found.append((words["http.request.method"], words["http.request.uri"].strip('"')))
    return found


def test_copy_again_asks_twice(
    everyones: Upstream, target: RealRegistry, ctl: Ctl, tmp_path: Path
) -> None:
    """What is there already costs a HEAD at each end; the digest file has the digest alone."""
    source, name = f"{everyones.registry.name}/lib/multi:1", f"{target.name}/again/multi:1"
    first = ctl("copy", f"docker://{source}", f"docker://{name}", "-q")
    at, back = len(everyones.registry.log), len(target.log)

    again = ctl("copy", source, name, "--digestfile", str(tmp_path / "d"), "--preserve-digests")

    digest = everyones.images.digest("multi")
    assert (0, f"{name}@{digest}\n") == (first.code, first.out)
    assert (0, first.out, digest) == (again.code, again.out, (tmp_path / "d").read_text())
    assert again.words == [f"already there: {name} is {digest}"]
    assert [("HEAD", "/v2/lib/multi/manifests/1")] == requests(everyones.registry, at)
    assert [("HEAD", "/v2/again/multi/manifests/1")] == requests(target, back)


def test_some_platforms(
    everyones: Upstream, target: RealRegistry, ctl: Ctl, skopeo: Skopeo, tmp_path: Path
) -> None:
    """A sparse index is refused by this registry, with a word; a stripped one it takes."""
    source, name = f"{everyones.registry.name}/lib/multi:1", f"{target.name}/some/multi:1"

    kept = ctl("copy", source, name, *PLATFORMS, "--keep-index")
    stripped = ctl("copy", source, name, *PLATFORMS, "--strip", "--format", "json", "-q")
    again = ctl("copy", source, name, *PLATFORMS, "--strip", "--format", "json", "-q")
    alone = ctl("copy", source, f"oci:{tmp_path / 'o'}:x", *PLATFORMS, "--keep-index")
    skopeo.copy(f"docker://{name}", f"oci:{tmp_path / 's'}:x", "--all")

    assert (1, True) == (kept.code, "use --strip" in kept.words[-1])
    done = json.loads(stripped.out)
    assert ("stripped", 2) == (done["index"], done["manifests"])
    assert json.loads(again.out)["unchanged"]
    whole = read(everyones.images.layouts["multi"], everyones.images.digest("multi"))
    made = read(tmp_path / "s", root_digest(tmp_path / "s", "x"))
    wanted = [e for e in whole["manifests"] if e["platform"]["architecture"] == "amd64"]
    assert {**whole, "manifests": wanted} == made
    assert done["digest"] == root_digest(tmp_path / "s", "x")
    assert (0, everyones.images.digest("multi")) == (alone.code, root_digest(tmp_path / "o", "x"))


def test_no_clobber_and_dry_run(everyones: Upstream, target: RealRegistry, ctl: Ctl) -> None:
    """A name stays what it is; a rehearsal says what would be sent, and sends nothing."""
    up, name = everyones.registry.name, f"{target.name}/stay/app:1"
    rehearsed = ctl("copy", f"{up}/lib/gzip:1", name, "--dry-run", "--format", "json", "-q")
    missing = ctl("copy", name, f"{target.name}/stay/other:1", "-q")
    first = ctl("copy", f"{up}/lib/gzip:1", name, "-n", "-q")
    same = ctl("copy", f"{up}/lib/gzip:1", name, "--no-clobber", "-q")
    other = ctl("copy", f"{up}/lib/zstd:1", name, "-n", "-q")

    would = json.loads(rehearsed.out)
    assert (True, 4, 0, 1) == tuple(
        would[key] for key in ("dry_run", "sent_blobs", "held_blobs", "manifests")
    )
    assert (2, 0, 0, 1) == (missing.code, first.code, same.code, other.code)
    assert "left as it is" in other.err
    assert ctl(
        "digest", name, "--root", str(ctl.home / "r")
    ).out.strip() == everyones.images.digest("gzip")


def test_a_tag_that_moved(everyones: Upstream, ctl: Ctl, images: Images, tmp_path: Path) -> None:
    """NAME:TAG@DIGEST is the digest; with --verify-tag the tag has to mean it still."""
    up = everyones.registry.name
    moved = f"{up}/lib/gzip:1@{images.digest('zstd')}"
    still = f"{up}/lib/gzip:1@{images.digest('gzip')}"
    goal = f"oci:{tmp_path / 'x'}"

    assert ctl("copy", still, f"{goal}:a", "--verify-tag", "-q").code == 0
    assert ctl("copy", moved, f"{goal}:b", "--verify-tag", "-q").code == 5
    assert ctl("copy", f"{up}/lib/zstd@{images.digest('zstd')}", f"{goal}:c", "-q").code == 0
    assert ctl("copy", f"{up}/lib/zstd:1", f"{goal}:c", "--verify-tag", "-q").code == 64


def ran(outcome: Outcome) -> tuple[int, str]:
    """Code and line."""
    return outcome.code, outcome.words[-1] if outcome.words else ""


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--format", "v2s2"), "digests are preserved"),
        (("-f", "oci"), "digests are preserved"),
        (("--dest-compress",), "digests are preserved"),
        (("--sign-by", "me"), "nothing is signed"),
        (("--keep-index",), "--platform"),
        (("--strip", "--keep-index"), "not allowed with"),
        (("--multi-arch", "system", "--platform", "linux/amd64"), "give one"),
        (("--src-password", "x"), "needs --src-username"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(
    ctl: Ctl, everyones: Upstream, tmp_path: Path, flags: tuple[str, ...], line: str
) -> None:
    """One line, exit 64, and nothing is written."""
    outcome = ctl("copy", f"{everyones.registry.name}/lib/gzip:1", f"dir:{tmp_path / 'x'}", *flags)

    assert (64, 1) == (outcome.code, len(outcome.words))
    assert line in outcome.err
    assert not (tmp_path / "x").exists()


def test_words_of_skopeo_and_oras(
    guarded: Upstream, ctl: Ctl, target: RealRegistry, tmp_path: Path
) -> None:
    """Their flags for the sides of a copy do here what they do there."""
    source, name = f"docker://{guarded.registry.name}/lib/gzip:1", f"docker://{target.name}/w/x:1"
    authfile = tmp_path / "auth.json"
    ctl("login", guarded.registry.name, "-u", "ann", "--password-stdin", typed="s3cret word\n")
    logged = ctl(
        "login",
        guarded.registry.name,
        *("-u", "ann", "--password-stdin", "--authfile", str(authfile)),
        typed="s3cret word\n",
    )
    ctl("logout", guarded.registry.name)
    skopeo = ("--all", "--preserve-digests", "--remove-signatures", "--retry-times", "2")
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--image-parallel-copies", "3")

    assert logged.code == 0
    assert ctl("copy", *skopeo, *plain, source, name, "-q").code == 3
    user = ("--src-username", "ann", "--src-password", "s3cret word")
    assert ctl("copy", *skopeo, *plain, *user, source, name, "-q").code == 0
    assert ctl("copy", "--src-authfile", str(authfile), source, f"{name}2", "-q").code == 0
    oras = ("--from-username", "ann", "--from-password", "s3cret word", "--to-oci-layout")
    assert ctl("cp", *oras, source, f"{tmp_path / 'layout'}:x", "-q").code == 0
    assert root_digest(tmp_path / "layout", "x") == guarded.images.digest("gzip")
    back = ("--from-oci-layout", "--to-plain-http", "--concurrency", "2")
    assert ctl("cp", *back, f"{tmp_path / 'layout'}:x", f"{name}3", "-q").code == 0
