"""The authority of a cluster and the certificates of its nodes, as values."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registryd.cluster.errors import IdentityUnusable, PeerRefused
from registryd.cluster.identity import (
    Authority,
    cluster_of,
    member_of,
    node_host,
    read_certificate,
)
from registryd.oci.errors import UsageError

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HPC = Authority.make("hpc", now=NOW)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
MARK = "registryd://hpc/node/n1"


def test_authority() -> None:
    """It signs the certificates of its nodes, nothing else, and makes no other authorities."""
    made = HPC.certificate
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)

    assert "hpc" == cluster_of(made)
    assert constraints.critical
    assert x509.BasicConstraints(ca=True, path_length=0) == constraints.value
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.crl_sign
    assert not usage.value.digital_signature
    assert isinstance(HPC.key.curve, ec.SECP256R1)
    assert NOW - timedelta(days=1) == made.not_valid_before_utc
    assert NOW + timedelta(days=3650) == made.not_valid_after_utc
    assert "key" not in repr(HPC)


def test_node() -> None:
    """It signs nothing, is good for both ends of a connection, and says when it ends."""
    identity = HPC.issue("N1.example.org", ["n1", "10.0.0.1", "N1"], now=NOW)
    made = identity.certificate
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    member = identity.member

    assert ("hpc", "n1.example.org") == (member.cluster, member.name)
    assert ("n1.example.org", "n1", "10.0.0.1") == member.hosts
    assert (NOW - timedelta(days=1), NOW + timedelta(days=730)) == (member.since, member.until)
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert set(BOTH) == set(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert cluster_of(made) is None
    assert "key" not in repr(identity)


def test_each_is_its_own() -> None:
    """Made twice for the same node, key and serial number are others."""
    first, second = (HPC.issue("n1", now=NOW) for _ in range(2))

    assert first.certificate.serial_number != second.certificate.serial_number
    assert first.certificate.public_key() != second.certificate.public_key()


def test_ends_with_its_authority() -> None:
    """A node's certificate is never good for longer, and none is made when that has ended."""
    late = NOW + timedelta(days=3649)

    assert HPC.certificate.not_valid_after_utc == HPC.issue("n1", now=late).member.until
    with pytest.raises(IdentityUnusable, match="cluster hpc ended on 2036"):
        HPC.issue("n1", now=NOW + timedelta(days=3650))


def test_days() -> None:
    """As many days as are asked for, to the end of the calendar; none is refused."""
    assert NOW + timedelta(days=7) == HPC.issue("n1", now=NOW, days=7).member.until
    assert 9999 == Authority.make("c", now=NOW, days=10**9).certificate.not_valid_after_utc.year
    with pytest.raises(UsageError, match="0 days is never good"):
        HPC.issue("n1", now=NOW, days=0)


@pytest.mark.parametrize("cluster", ["", "HPC", "a.b", "-a", "a" * 64, "a/b", "é", "a\n"])
def test_cluster_name_refused(cluster: str) -> None:
    """A cluster is called by one short label."""
    with pytest.raises(UsageError, match="is not a name for a cluster"):
        Authority.make(cluster, now=NOW)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "n1:5051",
        "n[1-2]",
        "*.example.org",
        "[fe80::1%eth0]",
        "::ffff:10.0.0.1",
        "n1 ",
        "a" * 64,
        "[::1]:5",
    ],
)
def test_host_refused(host: str) -> None:
    """What no connection is made to is in no certificate."""
    with pytest.raises(UsageError) as caught:
        HPC.issue("n1", [host], now=NOW)

    assert 1 == len(str(caught.value).splitlines())


def test_too_many_hosts() -> None:
    """A certificate travels in every handshake: it has no endless list."""
    with pytest.raises(UsageError, match="node n0 has 65 names"):
        HPC.issue("n0", (f"n{number}" for number in range(65)), now=NOW)


@pytest.mark.parametrize(
    ("expected", "host"),
    [("n1", "N1"), ("::1", "[::1]"), ("::1", "0:0::1"), ("10.0.0.1", "10.0.0.1")],
)
def test_node_host(expected: str, host: str) -> None:
    """One form for each name and address."""
    assert expected == node_host(host)


LABEL = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,61}[A-Za-z0-9]", fullmatch=True)
NAMES = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
SIXES = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)
HOSTS = NAMES | st.ip_addresses(v=4).map(str) | SIXES.map(str)


@settings(max_examples=60)
@given(st.lists(HOSTS, min_size=1, max_size=6))
@example(["a" * 63 + "." + "b" * 63, "::1"])
def test_round_trip(hosts: list[str]) -> None:
    """Names and addresses come back as they went in, through DER too; the first is the node's."""
    identity = HPC.issue(hosts[0], hosts[1:], now=NOW)
    der = identity.certificate.public_bytes(serialization.Encoding.DER)
    member = member_of(read_certificate(der))

    assert identity.member == member
    assert tuple(dict.fromkeys(map(str.lower, hosts))) == member.hosts
    assert member.hosts[0] == member.name
    assert all(map(member.answers_to, hosts))
    assert not member.answers_to("another")


def signed(
    names: list[x509.GeneralName] | None,
    usage: tuple[x509.ObjectIdentifier, ...] | None = BOTH,
    *,
    ca: bool = False,
) -> x509.Certificate:
    """A certificate of the same authority, made by somebody else's program."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n1")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(HPC.certificate.subject)
        .public_key(HPC.key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(HPC.key, hashes.SHA256())


N1, URI = x509.DNSName("n1"), x509.UniformResourceIdentifier


def test_the_sites_own_authority() -> None:
    """A certificate made elsewhere is a member's when it has the mark; other names do not harm."""
    mail, web = x509.RFC822Name("root@n1"), URI("https://n1/")

    assert ("n1",) == member_of(signed([mail, URI(MARK), web, x509.DNSName("N1")])).hosts


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (signed(None), "is no node's"),
        (signed([N1]), "is no node's"),
        (signed([N1, URI("https://n1/")]), "is no node's"),
        (signed([N1, URI(MARK), URI("registryd://hpc/node/n2")]), "is no node's"),
        (signed([N1, URI(MARK), URI("REGISTRYD://hpc/admin")]), "is no node's"),
        (signed([N1, URI("registryd://hpc/user/n1")]), "is no node's"),
        (signed([N1, URI("registryd://HPC!/node/n1")]), "is no node's"),
        (signed([N1, URI("registryd://hpc/node/n2")]), "is for no host 'n2'"),
        (signed([x509.DNSName("*.org"), URI("registryd://hpc/node/*.org")]), "is for no host"),
        (signed([x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")), URI(MARK)]), "is for no"),
        (signed([N1, URI(MARK)], None), "both ends"),
        (signed([N1, URI(MARK)], BOTH[:1]), "both ends"),
        (signed([N1, URI(MARK)], BOTH[1:]), "both ends"),
        (signed([N1, URI(MARK)], ca=True), "is an authority's"),
        (HPC.certificate, "is no node's"),
    ],
)
def test_no_member(certificate: x509.Certificate, said: str) -> None:
    """The same authority's certificate for anything else than one node is nobody's."""
    with pytest.raises(PeerRefused) as caught:
        member_of(certificate)

    assert said in str(caught.value)


GOOD = HPC.issue("n1", ["10.0.0.1", "::1"], now=NOW).certificate.public_bytes(
    serialization.Encoding.DER
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # cryptography's, of certificates it half takes
@settings(max_examples=400)
@given(
    st.binary(max_size=40)
    | st.builds(
        lambda at, new: GOOD[:at] + new + GOOD[at + len(new) :],
        st.integers(0, len(GOOD)),
        st.binary(min_size=1, max_size=3),
    )
)
def test_any_bytes(der: bytes) -> None:
    """Whatever is shown is a member's certificate, or refused in one line."""
    try:
        certificate = read_certificate(der)
        cluster_of(certificate)
        member = member_of(certificate)
    except PeerRefused as error:
        assert 1 == len(str(error).splitlines())
    else:
        assert member.name in member.hosts
