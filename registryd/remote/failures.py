"""What the network does to us, in one clear line: foreign exceptions become TransportError.

Invariant: every text names the host as people know it, and holds no URL, header or secret.
"""

from __future__ import annotations

import asyncio
import os
import ssl

import aiohttp

from registryd.ports import TransportError


class TlsRefused(TransportError):
    """Raised when a host does not speak TLS on the port where we tried it."""


class Untrusted(TransportError):
    """Raised when a host's certificate cannot be trusted."""


class NotPassing(TransportError):
    """Raised when a connection cannot be made and another try would not change that."""


#: What a connection raises; whatever is not here is a mistake of ours and stays what it is.
FOREIGN = (aiohttp.ClientError, OSError, ssl.SSLError, asyncio.TimeoutError, ValueError)


def explain(error: BaseException, host: str, stall: float, trusted: str = "") -> TransportError:
    """This failure of a connection to ``host``, in our words.

    ``trusted``: where authorities were looked for beside the system's.
    """
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "certificate invalid"
        tried = f" (tried: the system's, {trusted})" if trusted else ""
        return Untrusted(
            f"cannot trust {host}: {reason}{tried}; set ca_file for this registry if it is its own"
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return _explain_tls(error.os_error, host)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransportError(f"cannot reach {host}: its name does not resolve")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return TransportError(f"cannot reach {host}: the proxy is not there: {_reason(error)}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return NotPassing(f"cannot reach {host}: the proxy refused, status {error.status}")
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.ssl is not False and isinstance(error.os_error, ConnectionResetError):
            return TlsRefused(f"cannot reach {host}: it closed the TLS handshake")
        return TransportError(f"cannot reach {host}: {_reason(error)}")
    return _explain_talk(error, host, stall)


def _explain_talk(error: BaseException, host: str, stall: float) -> TransportError:
    """What went wrong once there was a connection, or while waiting for one."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransportError(f"cannot reach {host}: no connection in time")
    if isinstance(error, asyncio.TimeoutError):
        return TransportError(f"{host} stalled: no byte for {stall:g} s")
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return TransportError(f"{host} broke off the connection")
    if isinstance(error, aiohttp.ClientResponseError):
        return TransportError(f"{host} sent what is not HTTP")
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return NotPassing(f"{host}: the request cannot be sent: not a usable URL or header")
    if isinstance(error, OSError):
        return TransportError(f"{host} broke off the connection: {_reason(error)}")
    return TransportError(f"{host} broke off the connection: {type(error).__name__}")


def _explain_tls(error: OSError, host: str) -> TransportError:
    reason = getattr(error, "reason", None) or "broken off"
    words = str(reason).replace("_", " ").lower()
    # What a server without TLS gives, and what one does that closes: the rest is a quarrel in TLS.
    if "wrong version number" in words or "record" in words or "eof" in words:
        return TlsRefused(f"cannot reach {host}: it does not speak TLS ({words})")
    return NotPassing(f"cannot reach {host}: TLS failed: {words}")


def _reason(error: OSError | aiohttp.ClientConnectorError) -> str:
    inner = getattr(error, "os_error", error)
    if inner.errno is not None and inner.errno > 0:
        return os.strerror(inner.errno).lower()
    return "connection refused" if "refused" in str(inner).lower() else type(inner).__name__
