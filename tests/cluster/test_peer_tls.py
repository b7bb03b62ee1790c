"""TLS between nodes, by real handshakes over loopback."""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from registryd.cluster.errors import IdentityUnusable, PeerRefused
from registryd.cluster.identity import Authority, certificate_pem
from registryd.cluster.identity_files import IdentityFiles, read_certificates, write_identity
from registryd.cluster.peer_tls import PeerTls, handshake_fault
from tests.fakes.members import (
    HOST,
    NOW,
    Met,
    Site,
    meet,
    stranger_client,
    stranger_listener,
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.make(tmp_path / "site")


@pytest.fixture
def pair(site: Site) -> tuple[PeerTls, PeerTls]:
    """Two members, n1 and n2."""
    return PeerTls.load(site.node("n1")), PeerTls.load(site.node("n2"))


def close(met: Met) -> None:
    for end in (met.listener, met.client):
        if isinstance(end, ssl.SSLSocket):
            end.close()


def words(error: ssl.SSLError) -> str:
    return str(handshake_fault(error, peer="n2"))


@pytest.mark.parametrize("host", ["n1", "N1", "n1.example.org", "a_b", HOST, "::1"])
def test_members_meet(site: Site, host: str) -> None:
    """Under each of its names and addresses a member is known, and knows the other, by TLS 1.3."""
    first = PeerTls.load(site.node("n1", "n1.example.org", "a_b", "::1"))
    second = PeerTls.load(site.node("n2"))
    met = meet(first.listener, second.client, host)
    listener, client = met.ends()

    assert second.member == first.check(listener, peer="a", name="n2")
    assert first.member == second.check(client, peer="b", name=host)
    assert "TLSv1.3" == client.version() == listener.version()
    assert "http/1.1" == client.selected_alpn_protocol()
    assert not client.session.has_ticket
    close(met)


def test_another_cluster(site: Site, tmp_path: Path) -> None:
    """A cluster of the same name is another one: what counts is who signed."""
    ours = PeerTls.load(site.node("n1"))
    other = Site.make(tmp_path / "other")
    theirs = PeerTls.load(other.node("n2"))
    # Theirs trusts us, so that it is for us to refuse.
    met = meet(ours.listener, stranger_client(site.folder / "n1/ca.pem", other.node("n3")), "n1")
    listener, client = met.errors()

    assert "peer n2: its certificate is not of the cluster's authority" == words(listener)
    assert "peer n2: it refuses our certificate" in words(client)

    listener, client = meet(theirs.listener, ours.client, "n2").errors()

    assert "peer n2: its certificate is not of the cluster's authority" == words(client)
    assert "peer n2: it refuses our certificate: it does not know the authority" == words(listener)


@pytest.mark.parametrize(
    ("days", "said"),
    [(-40, "has ended (are both clocks right?)"), (3, "is not good yet (are both clocks right?)")],
)
def test_out_of_date(site: Site, days: int, said: str) -> None:
    """A certificate that has ended, or is not good yet, is refused at both ends."""
    ours = PeerTls.load(site.node("n1"))
    theirs = site.node("n2", at=NOW + timedelta(days=days))
    listener, client = meet(ours.listener, stranger_client(theirs.ca_file, theirs), "n1").errors()

    assert f"peer n2: its certificate, or the authority's, {said}" == words(listener)
    assert "peer n2: it refuses our certificate" in words(client)

    met = meet(stranger_listener(theirs), ours.client, "n2")

    assert isinstance(met.client, ssl.SSLError)
    assert f"peer n2: its certificate, or the authority's, {said}" == words(met.client)
    close(met)
    with pytest.raises(IdentityUnusable, match="would refuse this node") as caught:
        PeerTls.load(theirs)

    assert said in str(caught.value)
    assert str(theirs.cert) in str(caught.value)


def test_a_clock_an_hour_off(site: Site) -> None:
    """A certificate made by a clock that is an hour ahead is good at once."""
    first, second = (
        PeerTls.load(site.node(f"n{hours}", at=NOW + timedelta(hours=hours))) for hours in (1, 2)
    )
    met = meet(first.listener, second.client, "n1")

    met.ends()
    close(met)


def test_another_name(pair: tuple[PeerTls, PeerTls]) -> None:
    """A member that is dialled as another one is refused, and one that claims to be another too."""
    first, second = pair
    met = meet(first.listener, second.client, "n3")

    assert isinstance(met.client, ssl.SSLError)
    assert "peer n2: its certificate is for another host" == words(met.client)
    close(met)

    met = meet(first.listener, second.client, "n1")
    listener, client = met.ends()

    with pytest.raises(PeerRefused, match=r"peer 10\.0\.0\.2: it is n2, not 'n3'"):
        first.check(listener, peer="10.0.0.2", name="n3")
    with pytest.raises(PeerRefused, match="peer n1:5051: it is n1, not 'n2'"):
        second.check(client, peer="n1:5051", name="n2")
    close(met)


def sign_without_mark(site: Site, files: IdentityFiles, name: x509.GeneralName) -> None:
    """Put another certificate of the authority there: the subject is n2, the name is this one."""
    authority = site.authority
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n2")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(read_certificates(files.cert)[0].public_key())  # type: ignore[arg-type]
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    files.cert.write_bytes(certificate_pem(made))


def test_the_subject_is_no_name(site: Site) -> None:
    """A certificate for an address, whose subject reads n2, is not n2's."""
    ours, theirs = PeerTls.load(site.node("n1")), site.node("n2")
    sign_without_mark(site, theirs, x509.IPAddress(ipaddress.ip_address("10.0.0.2")))
    met = meet(stranger_listener(theirs), ours.client, "n2")

    assert isinstance(met.client, ssl.SSLError)
    assert "peer n2: its certificate is for another host" == words(met.client)
    close(met)


def test_without_the_mark(site: Site) -> None:
    """A certificate that the authority signed for something else opens TLS, and nothing more."""
    ours, theirs = PeerTls.load(site.node("n1")), site.node("n2")
    sign_without_mark(site, theirs, x509.DNSName("n2"))
    met = meet(ours.listener, stranger_client(theirs.ca_file, theirs), "n1")
    listener, _ = met.ends()

    with pytest.raises(PeerRefused, match="peer x: its certificate is no node's"):
        ours.check(listener, peer="x", name="n2")
    close(met)


def test_nothing_shown(site: Site) -> None:
    """Nobody gets in without a certificate, and is told so."""
    files = site.node("n1")
    ours = PeerTls.load(files)
    listener, client = meet(ours.listener, stranger_client(files.ca_file), "n1").errors()

    assert "peer n2: it has shown no certificate" == words(listener)
    assert "peer n2: it wants a certificate, and was shown none" == words(client)


def test_old_tls(site: Site) -> None:
    """What comes before TLS 1.3 is not spoken."""
    files = site.node("n1")
    old = stranger_client(files.ca_file, files)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    listener, client = meet(PeerTls.load(files).listener, old, "n1").errors()

    assert "peer n2: it does not speak TLS 1.3" == words(listener) == words(client)


def test_an_authority_for_more(site: Site) -> None:
    """What the same authority signed for others than this cluster's nodes is refused by check."""
    ours = PeerTls.load(site.node("n1"))
    # The key and name of the site's authority, under which another cluster is run too.
    both = Authority("lab", site.authority.certificate, site.authority.key)
    theirs = write_identity(site.folder / "m1", both.issue("m1", now=NOW), both)
    met = meet(ours.listener, stranger_client(theirs.ca_file, theirs), "n1")
    listener, _ = met.ends()

    with pytest.raises(PeerRefused, match="peer x: it is a node of the cluster lab, this is hpc"):
        ours.check(listener, peer="x")
    close(met)


def test_no_connection(site: Site) -> None:
    """A connection without TLS is nobody's."""
    with pytest.raises(PeerRefused, match="peer x: it has shown no certificate"):
        PeerTls.load(site.node("n1")).check(None, peer="x")


async def test_over_http(pair: tuple[PeerTls, PeerTls]) -> None:
    """aiohttp serves and asks with these contexts, and shows who asked."""
    first, second = pair

    async def who(request: web.Request) -> web.Response:
        assert request.transport is not None
        tls = request.transport.get_extra_info("ssl_object")
        return web.Response(text=first.check(tls, peer=str(request.remote)).name)

    app = web.Application()
    app.router.add_get("/", who)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0, ssl_context=first.listener).start()
        url = f"https://{HOST}:{runner.addresses[0][1]}/"
        connector = TCPConnector(ssl=second.client)
        async with (
            ClientSession(connector=connector) as session,
            session.get(url, server_hostname="n1") as answer,
        ):
            assert "n2" == await answer.text()
    finally:
        await runner.cleanup()


def broken(files: IdentityFiles, kind: str, site: Site) -> None:
    """Make a node's files unusable."""
    other = site.node("n9")
    if kind == "missing key":
        files.key.unlink()
    elif kind == "another key":
        os.replace(other.key, files.key)
    elif kind == "no key":
        files.key.write_text("hello\n")
    elif kind == "encrypted key":
        encrypted = site.authority.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        files.key.write_bytes(encrypted)
    elif kind == "no certificate":
        files.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n")
    elif kind == "no authority":
        files.ca_file.write_text("hello\n")
    elif kind == "authority as node":
        files.cert.write_bytes(files.ca_file.read_bytes())
    elif kind == "node as authority":
        files.ca_file.write_bytes(other.cert.read_bytes())
    elif kind == "large":
        files.ca_file.write_bytes(b"x" * (1 << 20 | 1))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing key", "key.pem: no such file or directory"),
        ("another key", "key.pem: is not the key of "),
        ("no key", "key.pem: holds no private key (PEM)"),
        ("encrypted key", "key.pem: is encrypted; store the key without a password"),
        ("no certificate", "cert.pem: holds no certificate (PEM)"),
        ("no authority", "ca.pem: holds no certificate (PEM)"),
        ("authority as node", "cert.pem: its certificate is no node's"),
        ("node as authority", "is not of the cluster's authority"),
        ("large", "ca.pem: has more than 1048576 bytes"),
    ],
)
def test_unusable_files(site: Site, kind: str, said: str) -> None:
    """Files that would fail later fail when they are loaded, with their name, in one line."""
    files = site.node("n1")
    broken(files, kind, site)
    with pytest.raises(IdentityUnusable) as caught:
        PeerTls.load(files)

    assert said in str(caught.value)
    assert str(files.cert.parent) in str(caught.value)
    assert 1 == len(str(caught.value).splitlines())


def test_remarks_in_files(site: Site) -> None:
    """Certificates with remarks between them, in any encoding, are read; so are several."""
    files = site.node("n1")
    more = site.node("n2").cert.read_bytes()
    files.ca_file.write_bytes(b"# \xe9\n" + files.ca_file.read_bytes() + b"\n# \xff\n" + more)

    assert 2 == len(read_certificates(files.ca_file))
    assert "n1" == PeerTls.load(files).member.name
