"""``cluster init``, ``add`` and ``show``: identities as people make and read them."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registryd.cluster.identity_files import IdentityFiles, describe
from registryd.cluster.peer_tls import PeerTls
from registryd.cluster_config import ClusterConfig
from registryd.tables import read_table
from tests.cli.conftest import Ctl
from tests.fakes.members import Site


@pytest.fixture
def home(ctl: Ctl, tmp_path: Path) -> Path:
    """The folder of a new cluster, hpc."""
    folder = tmp_path / "hpc"
    assert 0 == ctl("cluster", "init", str(folder), "--name", "hpc", "-q").code
    return folder


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_init(ctl: Ctl, tmp_path: Path) -> None:
    """An authority for as long as was asked; where it is, and what comes next, is said."""
    folder = tmp_path / "c"
    done = ctl("cluster", "init", str(folder), "--name", "lab", "--days", "10")
    shown = describe(folder / "ca.pem")

    assert (0, f"{folder}\n") == (done.code, done.out)
    assert ("lab", None) == (shown.cluster, shown.node)
    assert shown.until - datetime.now(UTC) < timedelta(days=10)
    assert ["ca.key", "ca.pem", "nodes"] == listed(folder)
    assert 0o600 == (folder / "ca.key").stat().st_mode & 0o777
    assert done.words[0].startswith("The cluster lab has an authority until ")
    assert f'  registryctl cluster add {folder} "n[1-64]"' == done.words[-1]


def test_init_twice(ctl: Ctl, home: Path) -> None:
    """An authority is never written over."""
    before = (home / "ca.key").read_bytes()
    done = ctl("cluster", "init", str(home))

    assert (1, b"") == (done.code, done.raw)
    assert [f"registryctl: {home}: is there already, and is never written over"] == done.words
    assert before == (home / "ca.key").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--name", "Not_a_name"), "is not a name for a cluster"),
        (("--days", "0"), "is not a number from 1 up"),
        (("--days", "x"), "is not a number from 1 up"),
    ],
)
def test_init_with_nonsense(ctl: Ctl, tmp_path: Path, words: tuple[str, str], said: str) -> None:
    """Wrong usage is one line, and nothing is made."""
    done = ctl("cluster", "init", str(tmp_path / "c"), *words)

    assert (64, 1, True) == (done.code, len(done.words), said in done.err)
    assert not (tmp_path / "c").exists()


def test_add(ctl: Ctl, home: Path) -> None:
    """Each host of a list has a folder with what its node needs, and nothing that it must not."""
    done = ctl("cluster", "add", str(home), "n[1-2]", "LOGIN1", "--days", "9")

    assert 0 == done.code
    assert [f"{home}/nodes/{name}" for name in ("n1", "n2", "login1")] == done.out.splitlines()
    assert ["ca.pem", "cert.pem", "key.pem"] == listed(home / "nodes/n2")
    tls = PeerTls.load(IdentityFiles.within(home / "nodes/n2"))

    assert ("hpc", "n2", ("n2",)) == (tls.member.cluster, tls.member.name, tls.member.hosts)
    assert timedelta(days=8) < tls.member.until - datetime.now(UTC) < timedelta(days=9)


def test_what_add_says(ctl: Ctl, home: Path) -> None:
    """The lines for the configuration can be copied as they are, and name all nodes so far."""
    ctl("cluster", "add", str(home), "n[1-9]", "-q")
    done = ctl("cluster", "add", str(home), "n10", "[2001:db8::1]")
    start = done.words.index("  [cluster]")
    text = "\n".join(line.strip() for line in done.words[start : start + 6])
    section = read_table(ClusterConfig, tomllib.loads(text)["cluster"])

    assert ("[2001:db8::1],n[1-10]",) == section.peers
    assert Path("/etc/registryd/cluster/key.pem") == section.key
    assert f"{home}/nodes/NODE/ to /etc/registryd/cluster/ on NODE" in done.err


def test_add_with_addresses(ctl: Ctl, home: Path) -> None:
    """One node answers to all of them, several to one each, in their order."""
    ctl("cluster", "add", str(home), "n1", "--address", "10.0.0.1,n1.example.org")
    ctl("cluster", "add", str(home), "n[2-3]", "--address", "10.0.0.[2-3]")
    hosts = [describe(home / f"nodes/n{number}/cert.pem").hosts for number in (1, 2, 3)]

    assert [("n1", "10.0.0.1", "n1.example.org"), ("n2", "10.0.0.2"), ("n3", "10.0.0.3")] == hosts


def test_add_as_json(ctl: Ctl, home: Path) -> None:
    """For programs: who, which hosts, until when, which files."""
    done = ctl("cluster", "add", str(home), "n1", "--format", "json", "-q")
    (node,) = json.loads(done.out)["nodes"]

    assert ("n1", ["n1"], f"{home}/nodes/n1/key.pem") == (node["node"], node["hosts"], node["key"])
    assert "" == done.err


def test_add_makes_all_or_none(ctl: Ctl, home: Path) -> None:
    """Where one of the nodes is there already, it stays as it is, and no other one is made."""
    ctl("cluster", "add", str(home), "n2", "-q")
    before = (home / "nodes/n2/cert.pem").read_bytes()
    done = ctl("cluster", "add", str(home), "n[1-3]")

    assert (1, b"") == (done.code, done.raw)
    assert done.words[0].startswith(f"registryctl: {home}/nodes/n2: is there already")
    assert ["n2"] == [path.name for path in (home / "nodes").iterdir()]
    assert before == (home / "nodes/n2/cert.pem").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("n1:5051",), "has a port"),
        (("n[1-",), "this bracket is not closed"),
        (("n[1-3]", "--address", "10.0.0.1"), "--address has 1 for 3 nodes"),
        ((), "HOST"),
    ],
)
def test_add_with_nonsense(ctl: Ctl, home: Path, words: tuple[str, ...], said: str) -> None:
    """Wrong usage is one line, and nothing is made."""
    done = ctl("cluster", "add", str(home), *words)

    assert (64, 1, True) == (done.code, len(done.words), said in done.err), done.err
    assert [] == list((home / "nodes").iterdir())


def test_add_without_an_authority(ctl: Ctl, home: Path, tmp_path: Path) -> None:
    """A folder that is none, or one whose key was taken elsewhere, is named."""
    missing = ctl("cluster", "add", str(tmp_path / "none"), "n1")
    (home / "ca.key").unlink()
    without = ctl("cluster", "add", str(home), "n1")

    assert [f"registryctl: {tmp_path}/none/ca.pem: no such file or directory"] == missing.words
    assert [f"registryctl: {home}/ca.key: no such file or directory"] == without.words


def test_show(ctl: Ctl, home: Path) -> None:
    """The authority and its nodes in the order of people; a node's own folder, and one file."""
    ctl("cluster", "add", str(home), "n[1-10]", "-q")
    ctl("cluster", "add", str(home), "m1", "--days", "5", "--address", "10.0.0.[1-6]", "-q")
    rows = [line.split() for line in ctl("cluster", "show", str(home)).out.splitlines()]
    one = ctl("cluster", "show", str(home / "nodes/n2")).out.splitlines()
    same = ctl("cluster", "show", str(home / "nodes/n2/cert.pem")).out.splitlines()

    assert ["CLUSTER", "NODE", "HOSTS", "UNTIL", "STATE"] == rows[0]
    assert ["hpc", "(authority)", "-"] == rows[1][:3]
    assert ["m1", *(f"n{number}" for number in range(1, 11))] == [row[1] for row in rows[2:]]
    assert "m1,10.0.0.1,10.0.0.2,10.0.0.3 +3" == " ".join(rows[2][2:4])
    assert ["ends", "in", "4", "days"] == rows[2][-4:]
    assert (2, "good") == (len(one), one[1].split()[-1])
    assert one == same


def test_show_as_json(ctl: Ctl, tmp_path: Path) -> None:
    """For programs: all hosts, times as RFC 3339, and the state."""
    site = Site.make(tmp_path / "site")
    now = datetime.now(UTC)
    for name, at in (("ended", -40), ("later", 3)):
        site.node(name, at=now + timedelta(days=at))
    found = [
        json.loads(ctl("cluster", "show", str(tmp_path / "site" / name), "--format", "json").out)
        for name in ("ended", "later")
    ]
    states = [each["certificates"][0]["state"] for each in found]

    assert ["ended", "not yet"] == states
    assert datetime.fromisoformat(found[0]["certificates"][0]["until"]) < now


def test_show_what_cannot_be_read(ctl: Ctl, home: Path) -> None:
    """One file among many: the others are shown, and it is named; it alone: an error."""
    ctl("cluster", "add", str(home), "n[1-2]", "-q")
    bad = home / "nodes/n1/cert.pem"
    bad.write_text("hello\n")
    some, none = ctl("cluster", "show", str(home)), ctl("cluster", "show", str(bad))
    line = f"registryctl: {bad}: holds no certificate (PEM)"

    assert (7, 3) == (some.code, len(some.out.splitlines()))
    assert [line, "registryctl: 1 of 3 certificates cannot be read"] == some.words
    assert (1, [line]) == (none.code, none.words)
