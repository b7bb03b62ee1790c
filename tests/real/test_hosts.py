"""How registries are reached, with the files that podman, containerd and docker have for that."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.certificates import Identity, make_identity
from tests.real.images import Images
from tests.real.registry import RealRegistry, basic_registry, open_registry
from tests.real.runtimes import Skopeo, attempt, plain_environ
from tests.real.stories import Ctl, Daemon, daemon

#: Nobody listens there.
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def mirror(tmp_path: Path, images: Images, skopeo: Skopeo) -> Iterator[RealRegistry]:
    """A registry with an image as ``hub/lib/app:1``."""
    with open_registry(tmp_path / "mirror") as registry:
        skopeo.copy(images.source("gzip"), f"docker://{registry.name}/hub/lib/app:1")
        yield registry


def test_registries_conf_means_what_it_means_to_skopeo(
    tmp_path: Path, mirror: RealRegistry, images: Images
) -> None:
    """Mirrors, a registry that has moved, one that is blocked: both reach the same, or neither."""
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f"""
        [[registry]]
        location = "{NOWHERE}"
        insecure = true
        [[registry.mirror]]
        location = "{NOWHERE}"
        insecure = true
        [[registry.mirror]]
        location = "{mirror.name}/hub"
        insecure = true
        [[registry]]
        prefix = "moved.test/team"
        location = "{mirror.name}/hub/lib"
        insecure = true
        [[registry]]
        prefix = "*.wild.test"
        location = "{mirror.name}/hub"
        insecure = true
        [[registry]]
        location = "blocked.test"
        blocked = true
        """
    )
    ctl = Ctl(tmp_path / "home", {"CONTAINERS_REGISTRIES_CONF": str(conf)})
    # Of this age it has a flag where later ones read the environment.
    skopeo = ["skopeo", "--insecure-policy", "--registries-conf", str(conf)]
    environ = plain_environ(tmp_path / "skopeo")
    names = [f"{NOWHERE}/lib/app:1", "moved.test/team/app:1", "a.wild.test/lib/app:1"]
    theirs, ours = [], []
    for name in (*names, "blocked.test/lib/app:1"):
        words = ["inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{name}"]
        theirs.append(attempt([*skopeo, *words], environ).out.strip())
        ours.append(ctl("digest", name))
    done = ctl.json("pull", names[0])

    assert [images.digest("gzip")] * 3 + [""] == theirs
    assert theirs == [ran.out.strip() for ran in ours], ours
    assert 3 == ours[-1].code
    assert f"blocked.test is blocked by {conf}" in ours[-1].err
    assert {mirror.name} == set(done["sources"])
    assert done["fetched_blobs"] == sum(done["sources"].values())


@pytest.fixture
def identities(tmp_path: Path) -> tuple[Identity, Identity]:
    """A server's certificate, and that of a client."""
    return make_identity(tmp_path, "server"), make_identity(tmp_path, "client")


@pytest.fixture
def guarded(
    tmp_path: Path, mirror: RealRegistry, identities: tuple[Identity, Identity]
) -> Iterator[RealRegistry]:
    """The same image by TLS, for clients with a certificate."""
    server, client = identities
    folder = tmp_path / "guarded"
    shutil.copytree(mirror.root, folder / "registry")
    tls = {
        "certificate": str(server.cert_file),
        "key": str(server.key_file),
        "clientcas": [str(client.cert_file)],
    }
    with open_registry(folder, tls=tls) as registry:
        yield registry


def certificates(folder: Path, identities: tuple[Identity, Identity], *, authority: bool) -> None:
    """A host's folder of certs.d."""
    folder.mkdir(parents=True, exist_ok=True)
    server, client = identities
    shutil.copy(client.cert_file, folder / "node.cert")
    shutil.copy(client.key_file, folder / "node.key")
    if authority:
        shutil.copy(server.cert_file, folder / "site.crt")


def reloaded(running: Daemon, times: int) -> None:
    """Tell the daemon to read its files again, and wait until it has."""
    running.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while running.log.count("reloaded: ") < times and time.monotonic() < deadline:
        time.sleep(0.02)


def test_hosts_toml_and_certs_d_in_a_daemon(
    tmp_path: Path,
    images: Images,
    guarded: RealRegistry,
    identities: tuple[Identity, Identity],
) -> None:
    """A mirror with an authority and a client's certificate of its own; read again at SIGHUP.

    A file that is no good is named and left out; what an untrusted host needs is said.
    """
    hosts, certs = tmp_path / "hosts.d", tmp_path / "certs.d"
    bad = hosts / "bad.test" / "hosts.toml"
    bad.parent.mkdir(parents=True)
    bad.write_text("server = 5")
    certificates(certs / guarded.name, identities, authority=False)
    sections = {
        "hosts": {"hosts_d": [str(hosts)], "certs_d": [str(certs)]},
        "transfer": {"attempts": 1},
    }
    name = f"{NOWHERE}/hub/lib/app:1"
    with daemon(tmp_path / "node", sections) as running:
        first = running.ctl("pull", name)
        (hosts / "127.0.0.1_1_").mkdir()
        (hosts / "127.0.0.1_1_/hosts.toml").write_text(f'[host."https://{guarded.name}"]')
        reloaded(running, 1)
        untrusted = running.ctl("pull", name)
        certificates(certs / guarded.name, identities, authority=True)
        reloaded(running, 2)
        done = running.ctl.json("pull", name)
        log = running.log

    assert 6 == first.code, first.err
    assert 6 == untrusted.code, untrusted.err
    assert f"cannot trust {guarded.name}" in untrusted.err
    assert str(certs / guarded.name) in untrusted.err
    assert (images.digest("gzip"), {guarded.name}) == (done["digest"], set(done["sources"]))
    assert f"left out, as it cannot be used: {bad}: server: 5 is not a text" in log
    assert "PRIVATE KEY" not in log


def test_cert_dir_and_config_of_a_command(
    tmp_path: Path,
    images: Images,
    guarded: RealRegistry,
    identities: tuple[Identity, Identity],
) -> None:
    """--cert-dir gives both; without it the one line names the folders that were tried."""
    folder = tmp_path / "certs" / guarded.name
    certificates(folder, identities, authority=True)
    extra = make_identity(tmp_path, "another")
    shutil.copy(extra.cert_file, folder / "another.crt")
    ctl = Ctl(tmp_path / "home")
    name = f"{guarded.name}/hub/lib/app:1"
    without, with_it = ctl("digest", name), ctl("digest", name, "--cert-dir", str(folder))
    config = tmp_path / "home/.config/registryd/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[hosts]\ncerts_d = ["{folder.parent}"]\n')
    configured = ctl("digest", name)

    assert (6, 0, 0) == (without.code, with_it.code, configured.code), (without, with_it)
    assert images.digest("gzip") == with_it.out.strip() == configured.out.strip()


def test_netrc_is_never_read(tmp_path: Path) -> None:
    """A .netrc that would let us in lets nobody in, also where a proxy is set."""
    home = tmp_path / "home"
    home.mkdir()
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ann password secret-word\n")
    netrc.chmod(0o600)
    with basic_registry(tmp_path / "basic", {"ann": "secret-word"}) as registry:
        more = {"NETRC": str(netrc), "HTTPS_PROXY": f"http://{NOWHERE}", "NO_PROXY": "*"}
        ctl = Ctl(home, more)
        asked = [
            ctl("digest", f"{registry.name}/lib/app:1", *flags)
            for flags in ([], ["--creds", "ann:secret-word"])
        ]

    assert [3, 2] == [ran.code for ran in asked], asked
