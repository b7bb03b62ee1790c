"""Who is a node: the cluster's certificate authority, and the certificates by which nodes know it.

A member's certificate names its node three times over: as the subject, which people read; in the
alternative names, under which it is dialled; and in one URI, ``registryd://CLUSTER/node/NAME``,
the mark without which a certificate is nobody's here, whoever signed it: an authority of the
site's own signs for web servers and people too.

Invariants:
- a key is ECDSA on P-256 and new for every certificate; serial numbers are random;
- the authority signs certificates and nothing else, and those it signs sign none (RFC 5280,
  4.2.1.3 and 4.2.1.9); a member's is good for both ends of a connection and nothing else;
- a member's certificate ends no later than its authority's;
- a Member that exists was read from a certificate that names it in both places; that the
  certificate is genuine and in date is for TLS to say (``peer_tls``);
- names are in lower case, addresses in their shortest form: equal texts mean equal nodes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registryd.cluster.errors import IdentityUnusable, PeerRefused
from registryd.hostlist import split_port
from registryd.oci.errors import UsageError

#: An authority outlives the machines of most clusters.
AUTHORITY_DAYS: Final = 3650
#: A node's certificate lasts about as long as a node goes without being installed anew.
NODE_DAYS: Final = 730
#: Certificates hold from a day back, for nodes whose clock is wrong while they boot.
CLOCK_SLACK: Final = timedelta(days=1)
#: The last moment that a certificate can name (RFC 5280, 4.1.2.5).
END_OF_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
#: Names and addresses of one node: more make a certificate that handshakes suffer from.
HOSTS_LIMIT: Final = 64

_CLUSTER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MARK = re.compile(r"registryd://(?P<cluster>[^/]+)/node/(?P<node>.+)", re.DOTALL)
_SCHEME = "registryd:"
_ENDS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
#: Longest common name (RFC 5280, appendix A.1).
_COMMON_NAME_LIMIT = 64
#: All that ``cryptography`` raises for certificates that are malformed somewhere.
_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Member:
    """A node as its certificate names it; ``hosts`` are the names and addresses it answers to."""

    cluster: str
    name: str
    hosts: tuple[str, ...]
    since: datetime
    until: datetime

    def answers_to(self, host: str) -> bool:
        """Whether a host is this node: a name in any case, or an address without brackets."""
        return host.lower() in self.hosts


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's certificate with its key."""

    member: Member
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority of a cluster: whoever has it can make members."""

    cluster: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def make(cls, cluster: str, *, now: datetime, days: int = AUTHORITY_DAYS) -> Authority:
        """A new authority for a cluster of this name. Raises UsageError."""
        if not _CLUSTER.fullmatch(cluster):
            rule = "a to z, 0 to 9 and - inside, at most 63 characters"
            raise UsageError(f"{cluster[:80]!a} is not a name for a cluster ({rule})")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(cluster, "certificate authority")
        builder = (
            _builder(subject, subject, key, now, _end(now, days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
        )
        return cls(cluster, builder.sign(key, hashes.SHA256()), key)

    def issue(
        self, name: str, hosts: Iterable[str] = (), *, now: datetime, days: int = NODE_DAYS
    ) -> Identity:
        """A new identity for the node ``name``, which also answers to ``hosts``.

        Raises UsageError for names that are no hosts, and IdentityUnusable when the authority has
        ended.
        """
        named = tuple(dict.fromkeys(map(node_host, (name, *hosts))))
        if len(named) > HOSTS_LIMIT:
            raise UsageError(f"node {named[0]} has {len(named)} names, {HOSTS_LIMIT} are allowed")
        last = self.certificate.not_valid_after_utc
        if now >= last:
            raise IdentityUnusable(
                f"the authority of the cluster {self.cluster} ended on {last:%Y-%m-%d}:"
                " make a new one, and new identities for all nodes"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject
        mark = x509.UniformResourceIdentifier(f"registryd://{self.cluster}/node/{named[0]}")
        names = x509.SubjectAlternativeName([*map(_general_name, named), mark])
        signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(_subject(self.cluster, named[0]), issuer, key, now, min(_end(now, days), last))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_ENDS), critical=False)
            .add_extension(names, critical=False)
            .add_extension(signed_by, critical=False)
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        return Identity(member_of(certificate), certificate, key)


def node_host(host: str) -> str:
    """A name or address as certificates have it: no port, no brackets. Raises UsageError."""
    with suppress(ValueError):
        host = f"[{ipaddress.IPv6Address(host)}]"
    plain, port = split_port(host)
    if port is not None:
        raise UsageError(f"{host[:80]!a} has a port, which certificates do not name")
    return plain.lower()


def read_certificate(der: bytes) -> x509.Certificate:
    """A certificate from its DER form. Raises PeerRefused when it is none."""
    try:
        return x509.load_der_x509_certificate(der)
    except _MALFORMED as error:
        raise PeerRefused("its certificate cannot be read") from error


def member_of(certificate: x509.Certificate) -> Member:
    """The node that a certificate is for.

    Raises PeerRefused, which says what makes it no member's: neither the signature nor the dates
    are looked at.
    """
    try:
        return _member(certificate)
    except _MALFORMED as error:
        raise PeerRefused("its certificate has extensions that cannot be read") from error


def _member(certificate: x509.Certificate) -> Member:
    names = _extension(certificate, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    marks = [uri for uri in uris if uri.lower().startswith(_SCHEME)]
    match = _MARK.fullmatch(marks[0]) if len(marks) == 1 else None
    if names is None or match is None or not _CLUSTER.fullmatch(match["cluster"]):
        raise PeerRefused(
            "its certificate is no node's (it lacks one registryd://CLUSTER/node/NAME)"
        )
    hosts = _hosts(names)
    if match["node"] not in hosts or not _is_host(match["node"]):
        raise PeerRefused(f"its certificate is for no host {match['node'][:260]!a}")
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is None or not set(_ENDS) <= set(usage):
        raise PeerRefused("its certificate is not for both ends of a connection")
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise PeerRefused("its certificate is an authority's, not a node's")
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Member(match["cluster"], match["node"], hosts, since, until)


def _is_host(host: str) -> bool:
    try:
        return node_host(host) == host
    except UsageError:
        return False


def _hosts(names: x509.SubjectAlternativeName) -> tuple[str, ...]:
    """Names and addresses in their order; mail addresses and the like name no node."""
    hosts = []
    for each in names:
        if isinstance(each, x509.IPAddress):
            hosts.append(str(each.value))
        elif isinstance(each, x509.DNSName):
            hosts.append(each.value.lower())
    return tuple(dict.fromkeys(hosts))


def cluster_of(authority: x509.Certificate) -> str | None:
    """The cluster whose authority this is; None for any other certificate."""
    try:
        constraints = _extension(authority, x509.BasicConstraints)
        clusters = authority.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        ours = authority.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    except _MALFORMED:
        return None
    if constraints is None or not constraints.ca or [each.value for each in ours] != ["registryd"]:
        return None
    name = clusters[0].value if len(clusters) == 1 else None
    return name if isinstance(name, str) and _CLUSTER.fullmatch(name) else None


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as files hold it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as files hold it, without a password: the daemon starts unattended."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _end(now: datetime, days: int) -> datetime:
    if days < 1:
        raise UsageError(f"a certificate of {days} days is never good (write 1 or more)")
    return now + timedelta(days=min(days, (END_OF_TIME - now).days))


def _subject(cluster: str, name: str) -> x509.Name:
    # A long name in full is in the alternative names, where programs look for it.
    common = name if len(name) <= _COMMON_NAME_LIMIT else name.split(".")[0]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "registryd"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, cluster),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
