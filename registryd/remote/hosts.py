"""From a registry's name to the URLs it is reached by.

Invariants:
- plain HTTP only where configured, or for a loopback name that was tried by TLS first and does
  not speak it; a certificate that is not trusted is never a reason to leave TLS;
- the base in use is remembered, and steps down at most once.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from yarl import URL

from registryd.config import RegistryConfig
from registryd.oci.routes import PREFIX
from registryd.remote.course import Place, renamed
from registryd.remote.upload_rules import Learned

#: Registries whose API is on another host than their name (memory of every client there is).
API_HOSTS = {"docker.io": "registry-1.docker.io"}

#: What a request to a unix socket has in its Host header.
SOCKET_BASE = URL("http://localhost")


class Endpoint:
    """Where a registry's API is: a base URL (two to try for loopback names), or a unix socket.

    ``namespace`` is not empty when the API is a proxy that must be told which registry is meant
    (distribution specification after 1.1.1, "Registry Proxying": ``?ns=``). ``place`` says under
    which names its repositories are there.
    """

    def __init__(
        self,
        registry: str,
        bases: tuple[URL, ...],
        socket: Path | None = None,
        namespace: str = "",
        place: Place | None = None,
    ) -> None:
        self.registry = registry
        self.socket = socket
        self.namespace = namespace
        self._place = place
        #: False once this registry, or a host it sent us to, got a range wrong.
        self.ranges_work = True
        #: What it has taught us of how it takes blobs.
        self.uploads = Learned()
        self._bases = bases
        self._chosen = 0

    @property
    def base(self) -> URL:
        """The base URL in use."""
        return self._bases[self._chosen]

    def step_down(self, refused: URL) -> bool:
        """Leave a base that does not speak TLS; True when there is now another one to try."""
        if self.base == refused and self._chosen + 1 < len(self._bases):
            self._chosen += 1
        return self.base != refused

    def url(self, path: str, query: str = "") -> URL:
        """The URL of an API path, which must be in the form that goes on the wire."""
        if self._place is not None:
            path = f"{self._place.api}/{path.removeprefix(PREFIX)}"
        whole = f"{str(self.base).rstrip('/')}{path}" + (f"?{query}" if query else "")
        return self.named(URL(whole, encoded=True))

    @property
    def headers(self) -> dict[str, str]:
        """What this host alone is sent besides."""
        return {} if self._place is None else dict(self._place.headers)

    @property
    def renames(self) -> bool:
        """Whether repositories have other names here."""
        return self._place is not None and bool(self._place.prefix or self._place.strip)

    def repository(self, name: str) -> str:
        """The name of a repository here."""
        place = self._place
        return name if place is None else renamed(place.prefix, place.strip, name)

    def owns(self, url: URL) -> bool:
        """Whether a URL is of this host."""
        return any(same_origin(base, url) for base in self._bases)

    def named(self, url: URL) -> URL:
        """This URL with the namespace that a proxy needs; unchanged for a plain registry."""
        if not self.namespace or "ns" in url.query:
            return url
        glue = "&" if url.raw_query_string else "?"
        return URL(f"{url}{glue}ns={self.namespace}", encoded=True)


def find_endpoint(registry: str, config: RegistryConfig) -> Endpoint:
    """The endpoint of a registry as its configuration says, or as its name does."""
    parts = urlsplit(config.endpoint)
    if parts.scheme == "unix":
        return Endpoint(registry, (SOCKET_BASE,), Path(unquote(parts.path)), registry)
    if config.endpoint:
        return Endpoint(registry, (URL(config.endpoint, encoded=True),))
    host = API_HOSTS.get(registry, registry)
    secure, plain = URL(f"https://{host}", encoded=True), URL(f"http://{host}", encoded=True)
    if config.plain_http:
        return Endpoint(registry, (plain,))
    return Endpoint(registry, (secure, plain) if is_loopback(secure.host or "") else (secure,))


def endpoint_at(registry: str, place: Place) -> Endpoint:
    """The endpoint of a place that is asked for a registry's content."""
    parts = urlsplit(place.url)
    namespace = registry if place.namespace else ""
    if parts.scheme == "unix":
        return Endpoint(registry, (SOCKET_BASE,), Path(unquote(parts.path)), namespace, place)
    base = URL(place.url, encoded=True)
    bases = (base, base.with_scheme("http")) if place.lax and base.scheme == "https" else (base,)
    return Endpoint(registry, bases, None, namespace, place)


def is_loopback(host: str) -> bool:
    """Whether a host can only be this machine."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_private(host: str) -> bool:
    """Whether a host is, by its looks alone, not on the public internet."""
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    return not address.is_global


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def same_origin(one: URL, other: URL) -> bool:
    """Whether two URLs have the same scheme, host and port (default ports filled in)."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def may_carry_login(start: URL, target: URL) -> bool:
    """Whether what was meant for ``start`` may be sent to ``target``.

    The same origin may, and the same host when it moved from port 80 to TLS on port 443.
    """
    moved = (start.scheme, start.port, target.scheme, target.port) == ("http", 80, "https", 443)
    return same_origin(start, target) or (moved and start.host == target.host)


def resolve_location(request: URL, location: str) -> URL:
    """A Location or Link resolved against the URL of the request that was answered.

    The query stays as it is to the last byte: it may be signed. A registry behind a TLS proxy
    that writes ``http://`` and its own host name is taken at its host, never down from TLS.
    Raises ValueError.
    """
    target = request.join(URL(location, encoded=True))
    if target.scheme not in ("http", "https") or not target.host:
        raise ValueError("not an http URL")
    demoted = request.scheme == "https" and target.scheme == "http" and request.host == target.host
    if demoted and target.port in (80, 443, request.port):
        _, _, rest = str(target).partition(target.raw_authority)
        return URL(f"{request.scheme}://{request.raw_authority}{rest}", encoded=True)
    return target
