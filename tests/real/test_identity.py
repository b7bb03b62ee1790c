"""The cluster's certificates before OpenSSL's own programs."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from registryd.cluster.identity_files import IdentityFiles
from registryd.cluster.peer_tls import PeerTls, handshake_fault
from tests.fakes.members import HOST, NOW, PATIENCE, Site
from tests.real.runtimes import Ran, attempt, plain_environ, succeed


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.make(tmp_path / "site")


def verify(files: IdentityFiles, *flags: str) -> Ran:
    """What ``openssl verify`` says of a node's certificate, strictly by RFC 5280."""
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(files.ca_file), *flags]
    return attempt([*command, str(files.cert)], plain_environ(files.cert.parent))


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
@pytest.mark.parametrize("host", ["-verify_hostname n1", "-verify_ip 127.0.0.1"])
def test_verified(site: Site, purpose: str, host: str) -> None:
    """A node's certificate is good for both ends, by name and by address, in the strict way."""
    ran = verify(site.node("n1"), "-purpose", purpose, *host.split())

    assert (0, "") == (ran.code, ran.err)


def test_not_verified(site: Site, tmp_path: Path) -> None:
    """Another name, another authority, another time, and a node as an authority are not good."""
    files = site.node("n1")
    other = Site.make(tmp_path / "other").node("n1")
    mixed = IdentityFiles(other.ca_file, files.cert, files.key)
    old = site.node("n2", at=NOW - timedelta(days=60))
    child = IdentityFiles(files.cert, old.cert, old.key)

    assert "hostname mismatch" in verify(files, "-verify_hostname", "n2").err.lower()
    assert 0 != verify(mixed).code
    assert "expired" in verify(old).err
    assert 0 != verify(child, "-partial_chain").code


def test_what_it_says(site: Site) -> None:
    """What people read with ``openssl x509`` is what was meant."""
    files = site.node("n1")
    shown = [
        succeed(
            ["openssl", "x509", "-noout", "-text", "-in", str(path)], plain_environ(site.folder)
        )
        for path in (files.ca_file, files.cert)
    ]

    assert "CA:TRUE, pathlen:0" in shown[0]
    assert "Certificate Sign\n" in shown[0]
    assert "prime256v1" in shown[1]
    assert "DNS:n1, IP Address:127.0.0.1, URI:registryd://hpc/node/n1" in shown[1]
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in shown[1]


def connect(home: Path, ours: PeerTls, *flags: str) -> tuple[Ran, str]:
    """``openssl s_client`` against our listener: how it ended, and what the listener says of it."""
    with closing(socket.create_server((HOST, 0))) as server, ThreadPoolExecutor(1) as threads:
        server.settimeout(PATIENCE)
        said = threads.submit(_serve, server, ours)
        address = f"{HOST}:{server.getsockname()[1]}"
        command = ["openssl", "s_client", "-ign_eof", "-verify_return_error", *flags]
        ran = attempt([*command, "-connect", address], plain_environ(home))
        return ran, said.result()


def _serve(server: socket.socket, ours: PeerTls) -> str:
    plain, _ = server.accept()
    plain.settimeout(PATIENCE)
    with ours.listener.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as tls:
        try:
            tls.do_handshake()
            tls.sendall(b"welcome\n")
            return ours.check(tls, peer="x").name
        except ssl.SSLError as error:
            return str(handshake_fault(error, peer="x"))


def shows(files: IdentityFiles) -> list[str]:
    """The flags by which s_client shows a node's certificate."""
    return ["-CAfile", str(files.ca_file), "-cert", str(files.cert), "-key", str(files.key)]


def test_s_client(site: Site, tmp_path: Path) -> None:
    """A member gets in; another authority's, an old one, none, and TLS 1.2 do not."""
    ours = PeerTls.load(site.node("n1"))
    good = site.node("n2")
    ran, said = connect(tmp_path, ours, "-verify_hostname", "n1", *shows(good))

    assert "n2" == said
    assert "welcome" in ran.out
    assert "TLSv1.3" in ran.out

    trust = ["-CAfile", str(good.ca_file)]
    other = shows(Site.make(tmp_path / "other").node("n2"))[2:]
    _, said = connect(tmp_path, ours, *trust, *other)

    assert "peer x: its certificate is not of the cluster's authority" == said
    _, said = connect(tmp_path, ours, *shows(site.node("n3", at=NOW - timedelta(days=60))))

    assert "has ended (are both clocks right?)" in said
    ran, said = connect(tmp_path, ours, *trust)

    assert "peer x: it has shown no certificate" == said
    assert "certificate required" in ran.err
    _, said = connect(tmp_path, ours, "-tls1_2", *shows(good))

    assert "peer x: it does not speak TLS 1.3" == said
    ran, _ = connect(tmp_path, ours, "-verify_hostname", "n9", *shows(good))

    assert 0 != ran.code
    assert "hostname mismatch" in (ran.out + ran.err).lower()
