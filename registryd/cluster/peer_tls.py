"""TLS between nodes: both sides show a member's certificate, and both look at it.

Invariants:
- TLS 1.3 only, and only the cluster's authorities are trusted: the system's are never asked;
- a name is looked for in the alternative names alone, never in the subject;
- every connection proves its certificates anew: a resumed session would outlive one that ended;
- files that peers would refuse are refused when they are loaded, with the same words.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from registryd.cluster.errors import IdentityUnusable, PeerRefused
from registryd.cluster.identity import Member, member_of, read_certificate
from registryd.cluster.identity_files import IdentityFiles, read_certificates, read_pem
from registryd.pem import ascii_text, load_pair

#: Flights of a handshake, and more than there are.
_ROUNDS: Final = 8

#: By the codes of OpenSSL's x509_vfy.h.
_VERIFY_WORDS: Final = {
    **dict.fromkeys(
        (2, 7, 18, 19, 20, 21, 30), "its certificate is not of the cluster's authority"
    ),
    9: "its certificate, or the authority's, is not good yet (are both clocks right?)",
    10: "its certificate, or the authority's, has ended (are both clocks right?)",
    24: "its certificate was signed by one that may not sign",
    26: "its certificate is not for this end of a connection",
    79: "its certificate was signed by one that may not sign",
    **dict.fromkeys((62, 64), "its certificate is for another host"),
}
_NO_TLS: Final = "it does not speak TLS 1.3"
_REFUSED: Final = "it refuses our certificate"
_REASON_WORDS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has shown no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate, and was shown none",
    "TLSV1_ALERT_UNKNOWN_CA": f"{_REFUSED}: it does not know the authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{_REFUSED}: it has ended (are both clocks right?)",
    "SSLV3_ALERT_BAD_CERTIFICATE": _REFUSED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _REFUSED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _REFUSED,
    "TLSV1_ALERT_ACCESS_DENIED": _REFUSED,
    "TLSV1_ALERT_DECRYPT_ERROR": _REFUSED,
    **dict.fromkeys(
        (
            "HTTP_REQUEST",
            "TLSV1_ALERT_PROTOCOL_VERSION",
            "UNSUPPORTED_PROTOCOL",
            "WRONG_VERSION_NUMBER",
        ),
        _NO_TLS,
    ),
}


@dataclass(frozen=True, slots=True)
class PeerTls:
    """Who this node is, and the two contexts in which it says so."""

    member: Member
    listener: ssl.SSLContext
    client: ssl.SSLContext

    @classmethod
    def load(cls, files: IdentityFiles) -> PeerTls:
        """Read the files and try them against each other, so call it from a thread.

        Raises IdentityUnusable, which names the file.
        """
        try:
            member = member_of(read_certificates(files.cert)[0])
        except PeerRefused as error:
            raise IdentityUnusable(f"{files.cert}: {error}") from error
        listener = _context(ssl.PROTOCOL_TLS_SERVER, files)
        listener.num_tickets = 0
        client = _context(ssl.PROTOCOL_TLS_CLIENT, files)
        client.hostname_checks_common_name = False
        try:
            _meet(listener, client, member.name)
        except ssl.SSLError as error:
            words = f"other nodes would refuse this node: {_words(error)}"
            raise IdentityUnusable(f"{files.cert}: {words} ({files.ca_file})") from error
        return cls(member, listener, client)

    def check(
        self, tls: ssl.SSLObject | ssl.SSLSocket | None, *, peer: str, name: str | None = None
    ) -> Member:
        """The member at the other end of a connection that has shaken hands.

        ``peer`` is what an error calls it; ``name``, where given, is who it should be.
        Raises PeerRefused.
        """
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if not der:
            raise PeerRefused(f"peer {peer}: it has shown no certificate")
        try:
            member = member_of(read_certificate(der))
        except PeerRefused as error:
            raise PeerRefused(f"peer {peer}: {error}") from error
        if member.cluster != self.member.cluster:
            which = f"the cluster {member.cluster}, this is {self.member.cluster}"
            raise PeerRefused(f"peer {peer}: it is a node of {which}")
        if name is not None and not member.answers_to(name):
            raise PeerRefused(f"peer {peer}: it is {member.name}, not {name[:260]!a}")
        return member


def handshake_fault(error: ssl.SSLError, *, peer: str) -> PeerRefused:
    """The line for a handshake that failed, or for the first read after it.

    In TLS 1.3 a client has shaken hands before the listener has seen its certificate, so the
    refusal arrives with what is read first (RFC 8446, 4.4.2.4 and 6.2).
    """
    return PeerRefused(f"peer {peer}: {_words(error)}")


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_WORDS.get(error.verify_code) or f"its certificate: {error.verify_message}"
    return _REASON_WORDS.get(error.reason or "") or f"TLS failed: {error.reason or error}"


def _context(protocol: int, files: IdentityFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cadata=ascii_text(read_pem(files.ca_file)))
    except (ssl.SSLError, ValueError) as error:
        raise IdentityUnusable(f"{files.ca_file}: holds no certificate (PEM)") from error
    read_pem(files.key)
    if wrong := load_pair(context, files.cert, files.key):
        raise IdentityUnusable(f"{files.key}: {wrong}")
    return context


def _meet(listener: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Shake hands in memory. Raises SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=name),
        listener.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(_ROUNDS):
        waiting = []
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(end)
        if not waiting:
            return
        ends = waiting
    raise ssl.SSLError(0, "the handshake does not end")
