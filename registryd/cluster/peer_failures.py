"""What a connection to a peer does to us, in one clear line: foreign exceptions become PeerFault.

Invariant: every text names the peer, and holds no URL, header or token.
"""

from __future__ import annotations

import asyncio
import os
import ssl

import aiohttp

from registryd.cluster.errors import PeerFault, PeerGone, PeerStalled, PeerWrong
from registryd.cluster.peer_tls import handshake_fault

#: What a connection raises; whatever is not here is a mistake of ours and stays what it is.
FOREIGN = (aiohttp.ClientError, OSError, ssl.SSLError, asyncio.TimeoutError, ValueError)


def explain(error: BaseException, peer: str, patience: float) -> PeerFault:
    """Why there is no answer from a peer; ``patience`` is how long (seconds) it was waited for."""
    if (refusal := _tls_error(error)) is not None:
        return PeerGone(str(handshake_fault(refusal, peer=peer)))
    return _kind(error)(f"peer {peer}: {_words(error, patience)}")


def _kind(error: BaseException) -> type[PeerFault]:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return PeerGone
    if isinstance(error, TimeoutError):
        return PeerStalled
    if isinstance(error, aiohttp.ClientResponseError | ValueError):
        return PeerWrong
    return PeerGone


def _words(error: BaseException, patience: float) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection in time"
    if isinstance(error, TimeoutError):
        return f"no answer for {patience:g} s"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        # TLS libraries of servers close without a word when they refuse a certificate (TLS 1.3).
        return "it closed the connection without an answer (its log says why, where it refuses us)"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it sent what is not HTTP"
    if isinstance(error, ValueError):
        return "the request cannot be sent: not a usable URL or header"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot be reached: {_reason(error.os_error)}"
    if isinstance(error, OSError):
        return f"the connection ended: {_reason(error)}"
    return f"the connection ended: {type(error).__name__}"


def _reason(error: OSError) -> str:
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return "connection refused" if "refused" in str(error).lower() else type(error).__name__


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The quarrel in TLS behind an exception of the HTTP library, if that is what it was."""
    while error is not None:
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        for each in (inner, error):
            # What aiohttp makes of a failed handshake is an SSLError too, but an empty one.
            if isinstance(each, ssl.SSLError) and not isinstance(each, aiohttp.ClientError):
                return each
        error = error.__cause__
    return None
