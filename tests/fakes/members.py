"""Nodes of a cluster by their certificates, and handshakes between them over loopback."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from registryd.cluster.identity import Authority, certificate_pem
from registryd.cluster.identity_files import IdentityFiles, read_certificates, write_identity

NOW = datetime.now(UTC).replace(microsecond=0)
HOST = "127.0.0.1"
#: Seconds in which a handshake has ended, on a busy machine too.
PATIENCE = 20.0


@dataclass(frozen=True)
class Site:
    """An authority, and a folder in which its nodes get theirs."""

    folder: Path
    authority: Authority

    @classmethod
    def make(cls, folder: Path, cluster: str = "hpc") -> Site:
        """A site of its own; two of the same name have nothing else in common."""
        folder.mkdir()
        return cls(folder, Authority.make(cluster, now=NOW - timedelta(days=100)))

    def node(self, name: str, *hosts: str, at: datetime = NOW, days: int = 30) -> IdentityFiles:
        """A node's files, made at some time."""
        identity = self.authority.issue(name, (*hosts, HOST), now=at, days=days)
        return write_identity(self.folder / name, identity, self.authority)

    def web_server(self, name: str) -> IdentityFiles:
        """What the same authority signs for a web server of this name: it is no node's."""
        files = self.node(name)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.authority.certificate.subject)
            .public_key(read_certificates(files.cert)[0].public_key())  # type: ignore[arg-type]
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.authority.key, hashes.SHA256())
        )
        files.cert.write_bytes(certificate_pem(made))
        return files


def stranger_client(ca_file: Path, shown: IdentityFiles | None = None) -> ssl.SSLContext:
    """A client of another program, which shows what it likes."""
    context = ssl.create_default_context(cafile=str(ca_file))
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return context


def stranger_listener(shown: IdentityFiles) -> ssl.SSLContext:
    """A server of another program: it shows this, and asks for nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.cert, shown.key)
    return context


@dataclass(frozen=True)
class Met:
    """What each side saw: the other's certificate (DER), or its error."""

    listener: ssl.SSLSocket | ssl.SSLError
    client: ssl.SSLSocket | ssl.SSLError

    def errors(self) -> tuple[ssl.SSLError, ssl.SSLError]:
        """Both errors, where both sides must have one."""
        assert isinstance(self.listener, ssl.SSLError), self.listener
        assert isinstance(self.client, ssl.SSLError), self.client
        return self.listener, self.client

    def ends(self) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
        """Both ends, where both sides must have one."""
        assert isinstance(self.listener, ssl.SSLSocket), self.listener
        assert isinstance(self.client, ssl.SSLSocket), self.client
        return self.listener, self.client


def meet(listener: ssl.SSLContext, client: ssl.SSLContext, host: str) -> Met:
    """Connect over loopback, dialling ``host``; the listener says a word when it is content."""
    with closing(socket.create_server((HOST, 0))) as server, ThreadPoolExecutor(1) as threads:
        server.settimeout(PATIENCE)
        listening = threads.submit(_accept, server, listener)
        dialled = socket.create_connection(server.getsockname(), PATIENCE)
        return Met(client=_dial(dialled, client, host), listener=listening.result())


def _accept(server: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket | ssl.SSLError:
    plain, _ = server.accept()
    plain.settimeout(PATIENCE)
    tls = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    try:
        tls.do_handshake()
        tls.sendall(b"x")
    except ssl.SSLError as error:
        tls.close()
        return error
    return tls


def _dial(plain: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket | ssl.SSLError:
    tls = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    try:
        tls.do_handshake()
        tls.recv(1)  # a refusal by the listener comes with the first read
    except ssl.SSLError as error:
        tls.close()
        return error
    return tls
