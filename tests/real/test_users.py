"""Story: two users of one machine, one socket, and an image that only one of them may have.

The daemon has no login of its own; ann's password is what opens the repository. Other users can
be had by root alone, so an ordinary user's run leaves this file out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.conftest import PASSWORD, USER, Start, Upstream
from tests.real.runtimes import Ran, attempt, plain_environ
from tests.real.stories import UP, Ctl, Daemon, blobs_of, told

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")

NAME = f"{UP}/lib/gzip:1"
CREDS = f"{USER}:{PASSWORD}"


@dataclass(frozen=True)
class Person:
    """A user of this machine, with a home of their own, and what they can run."""

    uid: int
    home: Path
    socket: Path
    code: Path
    address: str

    def ctl(self, *words: str) -> Ran:
        """registryctl as this user."""
        return attempt(self._command(words), self._environ())

    def ctl_begun(self, *words: str) -> subprocess.Popen[bytes]:
        """The same, begun; who calls ends it."""
        return subprocess.Popen(
            self._command(words),
            env=self._environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _command(self, words: tuple[str, ...]) -> list[str]:
        # Not the environment of this run: it may lie where only its owner can read.
        command = [sys._base_executable, *Ctl.command(*words)[1:]]  # type: ignore[attr-defined]
        return [*self._as(), *command]

    def _environ(self) -> dict[str, str]:
        return plain_environ(self.home) | {
            "REGISTRYD_SOCKET": str(self.socket),
            "PYTHONPATH": str(self.code),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def ask(self, method: str, path: str, *flags: str) -> tuple[int, str]:
        """Status and body of a plain request on the socket."""
        command = ["curl", "-s", "-X", method, "-w", "\n%{http_code}", *flags]
        command += ["--unix-socket", str(self.socket), f"http://node{path}"]
        return self._asked(command)

    def ask_by_tcp(self, method: str, path: str, *flags: str) -> tuple[int, str]:
        """The same over loopback TCP, where nobody knows who asks."""
        command = ["curl", "-s", "-X", method, "-w", "\n%{http_code}", *flags]
        return self._asked([*command, f"http://{self.address}{path}"])

    def token(self, *flags: str, scope: str = f"repository:{UP}/lib/gzip:pull") -> tuple[str, ...]:
        """curl's flags for a token of the daemon's realm, asked for with these."""
        path = f"/token?service=registryd&scope={scope}"
        token = json.loads(self.ask_by_tcp("GET", path, *flags)[1])["token"]
        return ("-H", f"Authorization: Bearer {token}")

    def _asked(self, command: list[str]) -> tuple[int, str]:
        body, _, status = attempt([*self._as(), *command], plain_environ(self.home)).out.rpartition(
            "\n"
        )
        return int(status), body

    def _as(self) -> list[str]:
        uid = str(self.uid)
        return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


@pytest.fixture
def node(guarded: Upstream, start: Start, place: Path) -> Daemon:
    """A daemon without a login, where every user can reach its socket."""
    place.chmod(0o755)
    registries = {UP: {"endpoint": guarded.registry.url}}
    return start({"registries": registries}, place / "n")


def person(place: Path, node: Daemon, name: str, uid: int) -> Person:
    """A user; their home is theirs."""
    home = place / name
    plain_environ(home)
    for path in (home, *home.rglob("*")):
        os.chown(path, uid, uid)
    return Person(uid, home, node.socket, readable_code(place), node.address)


#: What registryctl imports when it works in its own process, with what that needs in turn.
PACKAGES = (
    *("cache", "registryd", "aiofiles", "aiohappyeyeballs", "aiohttp", "aiosignal", "attr"),
    *("attrs", "frozenlist", "idna", "multidict", "propcache", "uvloop", "yarl"),
    "typing_extensions",
)


def readable_code(place: Path, packages: tuple[str, ...] = PACKAGES) -> Path:
    """A copy of registryctl and of what it imports, which every user can read."""
    code = place / "code"
    if not code.exists():
        code.mkdir()
        for package in packages:
            spec = importlib.util.find_spec(package)
            assert spec is not None and spec.origin is not None, package
            origin = Path(spec.origin)
            if origin.name == "__init__.py":
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(origin.parent, code / package, ignore=ignored)
            else:
                shutil.copy(origin, code)
        subprocess.run(["chmod", "-R", "a+rX", code], check=True)
    return code


@pytest.fixture
def ann(place: Path, node: Daemon) -> Person:
    """Who has the password, and has pulled the image with it."""
    ann = person(place, node, "ann", 61001)
    pulled = ann.ctl("pull", "-q", "--creds", CREDS, NAME)
    assert pulled.code == 0, pulled.err
    return ann


@pytest.fixture
def eve(place: Path, node: Daemon, ann: Person) -> Iterator[Person]:
    """Who has not; whatever she tried, the cache is as it was."""
    before = blobs_of(node.root)
    yield person(place, node, "eve", 61002)
    assert before == blobs_of(node.root)


def test_who_proved_it_reads_on_without_the_password(ann: Person, guarded: Upstream) -> None:
    """ann's proof is remembered: she reads what is held, and lists it, without her password."""
    digest = guarded.images.digest("gzip")

    assert f"{digest}\n" == ann.ctl("images", "-q").out
    assert f"{digest}\n" == ann.ctl("digest", NAME).out
    layers = sorted(guarded.images.blobs("gzip") - {digest})
    assert {200} == {
        ann.ask("GET", f"/v2/{UP}/lib/gzip/blobs/{layer}", "-o", "/dev/null")[0] for layer in layers
    }


@pytest.mark.parametrize(
    "words",
    [
        ("pull", NAME),
        ("pull", "--creds", f"{USER}:guess", NAME),
        ("digest", NAME),
        ("manifest", NAME),
        ("inspect", NAME),
        ("inspect", "--config", NAME),
        ("tags", f"{UP}/lib/gzip"),
        ("tag", NAME, "localhost/mine:1"),
        ("push", NAME, "localhost/mine:1"),
        ("copy", f"cache:{NAME}", "oci:out"),
        ("rmi", NAME),
        ("convert", NAME),
    ],
)
def test_who_has_no_proof_gets_nothing(eve: Person, words: tuple[str, ...]) -> None:
    """eve is refused by every command, in one line and with exit code 3."""
    ran = eve.ctl(*words, "-q")

    assert 3 == ran.code, ran
    told(ran)


def test_what_was_made_of_it_is_as_private(place: Path, node: Daemon, ann: Person) -> None:
    """ann has the image made one file and written out, though the cache's own files are not hers;
    eve is given neither the image made one nor, by its digest, the file."""
    eve = person(place, node, "eve", 61002)
    file = ann.home / "image"
    ran = ann.ctl("convert", "-q", NAME, "-o", str(file))
    blob = ran.out.strip()
    refused = eve.ctl("convert", "-q", NAME)
    status, _ = eve.ask("GET", f"/v2/{UP}/lib/gzip/blobs/{blob}", "-o", "/dev/null")

    assert 0 == ran.code, ran.err
    assert blob == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert 61001 == file.stat().st_uid
    assert 3 == refused.code, refused
    assert status in (401, 403)


def test_by_tcp_there_is_nothing_either(
    eve: Person, ann: Person, guarded: Upstream, node: Daemon
) -> None:
    """Over TCP eve gets nothing, whatever she shows: nothing, nobody's token, a wrong password, or
    a token for what ann's was for with a password of her own. ann's own token opens it all."""
    digest = guarded.images.digest("gzip")
    paths = [f"/v2/{UP}/lib/gzip/manifests/1", f"/v2/{UP}/lib/gzip/tags/list"]
    for blob in sorted(guarded.images.blobs("gzip")):
        kind = "manifests" if blob == digest else "blobs"
        paths += [f"/v2/{UP}/lib/gzip/{kind}/{blob}", f"/v2/lib/gzip/{kind}/{blob}?ns={UP}"]
    ours = ann.token("-u", CREDS)
    wrong = (f"{USER}:guess", f"eve:{PASSWORD}")
    shown = [(), eve.token(), *(("-u", creds) for creds in wrong)]
    shown += [eve.token("-u", creds) for creds in wrong]
    into = ("-o", "/dev/null")

    assert {200} == {ann.ask_by_tcp("GET", path, *ours, *into)[0] for path in paths}
    for flags in shown:
        wanted = 403 if flags else 401
        for path in paths:
            status, body = eve.ask_by_tcp("GET", path, *flags)
            assert (wanted, True) == (status, "errors" in json.loads(body)), (path, flags)
            assert (status, "") == eve.ask_by_tcp("HEAD", path, "-I", "-o", "/dev/null", *flags)
        for what in ("images", "cache/df"):
            assert NAME not in eve.ask_by_tcp("GET", f"/api/v1/{what}", *flags)[1]
        assert 401 == eve.ask_by_tcp("GET", f"/api/v1/digest?reference={NAME}", *flags)[0]
    assert NAME in ann.ask_by_tcp("GET", "/api/v1/images", *ours)[1]


def test_a_token_on_the_socket_is_its_login(eve: Person, ann: Person) -> None:
    """On the socket a token is worth what its login is: a wrong one opens nothing to eve, and
    somebody else's proof is none of hers."""
    path = f"/v2/{UP}/lib/gzip/manifests/1"
    wrong = eve.token("-u", f"{USER}:guess")

    assert [403, 403, 200] == [
        eve.ask("GET", path, *flags)[0] for flags in ((), wrong, ann.token("-u", CREDS))
    ]


def test_the_owner_ends_it(ann: Person, node: Daemon) -> None:
    """The owner sees who was let in, and ends it; from then on ann needs her password again. Nobody
    else may do either."""
    listed = node.ctl.json("access", "ls")["grants"]
    refused = [ann.ctl("access", "ls").code, ann.ctl("access", "revoke", "--all").code]
    node.ctl.ok("access", "revoke", f"{UP}/lib/gzip")
    without = ann.ctl("digest", NAME).code

    assert [(f"{UP}/lib/gzip", "uid:61001")] == [
        (grant["repository"], grant["principal"]) for grant in listed
    ]
    assert ([3, 3], 3) == (refused, without)
    assert 0 == ann.ctl("digest", "--creds", CREDS, NAME).code


def test_by_digest_there_is_nothing_either(eve: Person, guarded: Upstream, node: Daemon) -> None:
    """Knowing the digests does not help: neither by path, nor by ns, nor by mounting them."""
    digest = guarded.images.digest("gzip")
    for blob in sorted(guarded.images.blobs("gzip")):
        kind = "manifests" if blob == digest else "blobs"
        for path in (
            f"/v2/{UP}/lib/gzip/{kind}/{blob}",
            f"/v2/lib/gzip/{kind}/{blob}?ns={UP}",
            f"/v2/localhost/mine/{kind}/{blob}",
        ):
            status, body = eve.ask("GET", path)
            assert status in (403, 404), path
            assert "errors" in json.loads(body)
            assert node.get(path)[0] in (401, 403, 404), path
    stolen = f"mount={digest}&from={UP}/lib/gzip"
    assert 202 == eve.ask("POST", f"/v2/localhost/mine/blobs/uploads/?{stolen}")[0]


def test_an_open_file_is_for_who_may_read(eve: Person, ann: Person, guarded: Upstream) -> None:
    """ann is given a blob as an open file; eve is told the same of it as of what nobody has."""
    held = sorted(guarded.images.blobs("gzip") - {guarded.images.digest("gzip")})

    def ask(who: Person, digest: str) -> tuple[int, str]:
        body = json.dumps({"reference": NAME, "digest": digest})
        status, said = who.ask("POST", "/api/v1/open", "-d", body)
        return status, said.replace(digest, "DIGEST")

    assert {200} == {ask(ann, digest)[0] for digest in held}
    assert {ask(eve, f"sha256:{'0' * 64}")} == {ask(eve, digest) for digest in held}
    assert 401 == ask(eve, held[0])[0]


def test_a_list_shows_what_one_may_read(eve: Person, ann: Person, node: Daemon) -> None:
    """eve's lists do not name the image; ann's do, and the owner of the daemon sees all."""
    for words in (("images",), ("cache", "df")):
        assert NAME not in eve.ctl(*words, "--format", "json").out
        assert NAME in ann.ctl(*words, "--format", "json").out
        assert NAME in json.dumps(node.ctl.json(*words))
    assert NAME not in node.get("/api/v1/images")[1].decode()


def test_another_proof_opens_it(eve: Person) -> None:
    """With a password of her own eve reads what is held, and nothing is fetched again."""
    ran = eve.ctl("pull", "--creds", CREDS, "--format", "json", NAME)

    assert 0 == ran.code, ran.err
    assert 0 == json.loads(ran.out)["fetched_blobs"]
    assert NAME in eve.ctl("images", "--format", "json").out


def test_nobody_but_the_owner_removes(ann: Person, node: Daemon) -> None:
    """rmi is for root and the daemon's own user: even who brought the image cannot take it away."""
    assert 3 == ann.ctl("rmi", NAME).code
    node.ctl.ok("rmi", NAME)

    assert "" == ann.ctl("images", "-q").out


def test_the_password_is_nowhere(ann: Person, node: Daemon) -> None:
    """A password that was used is in no file of the daemon, and in no line of its log."""
    files = [path for path in node.folder.rglob("*") if path.is_file()]

    assert node.root / "cache.db" in files
    assert [] == [path for path in files if PASSWORD.encode() in path.read_bytes()]
