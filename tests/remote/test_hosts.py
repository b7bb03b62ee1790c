"""Names to URLs, origins, and Locations."""

from __future__ import annotations

from pathlib import Path

import pytest
from yarl import URL

from registryd.config import RegistryConfig
from registryd.remote.hosts import (
    find_endpoint,
    is_loopback,
    is_private,
    may_carry_login,
    resolve_location,
)
from registryd.remote.proxies import choose_proxy


@pytest.mark.parametrize(
    ("registry", "config", "url"),
    [
        ("docker.io", RegistryConfig(), "https://registry-1.docker.io/v2/"),
        ("ghcr.io", RegistryConfig(), "https://ghcr.io/v2/"),
        ("example.org:5000", RegistryConfig(), "https://example.org:5000/v2/"),
        ("example.org", RegistryConfig(plain_http=True), "http://example.org/v2/"),
        ("docker.io", RegistryConfig(endpoint="https://m.example/a/"), "https://m.example/a/v2/"),
        ("[::1]:5000", RegistryConfig(), "https://[::1]:5000/v2/"),
    ],
)
def test_endpoints(registry: str, config: RegistryConfig, url: str) -> None:
    """The name's own host by TLS, unless the configuration says otherwise."""
    assert url == str(find_endpoint(registry, config).url("/v2/"))


def test_a_socket_is_told_which_registry_is_meant() -> None:
    """Every request through a unix socket has the namespace, once."""
    endpoint = find_endpoint("ghcr.io", RegistryConfig(endpoint="unix:///run/a%20b.sock"))

    assert Path("/run/a b.sock") == endpoint.socket
    assert "http://localhost/v2/x?n=1&ns=ghcr.io" == str(endpoint.url("/v2/x", "n=1"))
    assert "http://localhost/v2/x?ns=ghcr.io" == str(endpoint.url("/v2/x"))
    assert URL("/a?ns=ghcr.io") == endpoint.named(URL("/a?ns=ghcr.io"))


@pytest.mark.parametrize("registry", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_loopback_steps_down_once(registry: str) -> None:
    """A loopback name is tried by TLS, then by plain HTTP, and stays there."""
    endpoint = find_endpoint(registry, RegistryConfig())
    secure = endpoint.base

    assert endpoint.step_down(secure)
    assert "http" == endpoint.base.scheme
    assert endpoint.step_down(secure)
    assert not endpoint.step_down(endpoint.base)


@pytest.mark.parametrize("registry", ["example.org", "10.0.0.1:5000", "localhost.example.org"])
def test_no_other_name_leaves_tls(registry: str) -> None:
    """Only loopback names have a second base."""
    endpoint = find_endpoint(registry, RegistryConfig())

    assert not endpoint.step_down(endpoint.base)


@pytest.mark.parametrize(
    ("start", "target", "carries"),
    [
        ("https://a.example/x", "https://a.example:443/y", True),
        ("https://a.example/x", "https://b.example/x", False),
        ("https://a.example/x", "https://a.example:444/x", False),
        ("https://a.example/x", "http://a.example/x", False),
        ("http://a.example/x", "https://a.example/x", True),
        ("http://a.example/x", "https://b.example/x", False),
        ("http://a.example:5000/x", "https://a.example/x", False),
        ("https://a.example/x", "https://x.a.example/x", False),
    ],
)
def test_4b_08_where_a_login_may_go(start: str, target: str, carries: bool) -> None:
    """Scheme, host and port are one origin; moving up to TLS on the same host is allowed (8)."""
    assert carries == may_carry_login(URL(start), URL(target))


@pytest.mark.parametrize(
    ("location", "resolved"),
    [
        ("/v2/up?_state=a%2Fb%2Bc%3D", "https://r.example:8443/v2/up?_state=a%2Fb%2Bc%3D"),
        ("https://s.example/x?X=a+b%20c", "https://s.example/x?X=a+b%20c"),
        ("//s.example/x", "https://s.example/x"),
        ("up?x=%7e", "https://r.example:8443/v2/a/up?x=%7e"),
        ("http://r.example:8443/v2/up?a=%2f", "https://r.example:8443/v2/up?a=%2f"),
        ("http://r.example/v2/up", "https://r.example:8443/v2/up"),
        ("http://s.example/v2/up", "http://s.example/v2/up"),
    ],
)
def test_4b_07_locations(location: str, resolved: str) -> None:
    """Relative, absolute, without scheme, demoted by a proxy; queries to the last byte (7)."""
    request = URL("https://r.example:8443/v2/a/blobs?digest=1")

    assert resolved == str(resolve_location(request, location))


@pytest.mark.parametrize("location", ["ftp://x/y", "http://[", "mailto:a@b"])
def test_no_location(location: str) -> None:
    """What is not an http URL is none."""
    with pytest.raises(ValueError, match=r"."):
        resolve_location(URL("https://r.example/"), location)


@pytest.mark.parametrize(
    ("host", "private", "loopback"),
    [
        ("localhost", True, True),
        ("127.8.0.1", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("::ffff:10.0.0.1", True, False),
        ("10.1.2.3", True, False),
        ("169.254.169.254", True, False),
        ("fe80::1%eth0", True, False),
        ("registry.local", True, False),
        ("8.8.8.8", False, False),
        ("example.org", False, False),
    ],
)
def test_4b_05_private_hosts(host: str, private: bool, loopback: bool) -> None:
    """Private, link-local and loopback addresses are known in all their forms (5)."""
    assert (private, loopback) == (is_private(host), is_loopback(host))


@pytest.mark.parametrize(
    ("url", "no", "through"),
    [
        ("https://ghcr.io/v2/", "", True),
        ("http://ghcr.io/v2/", "", False),
        ("https://localhost:5000/", "", False),
        ("https://127.0.0.1/", "", False),
        ("https://ghcr.io/", "*", False),
        ("https://ghcr.io/", "quay.io, ghcr.io", False),
        ("https://a.ghcr.io/", ".ghcr.io", False),
        ("https://a.ghcr.io/", "ghcr.io", False),
        ("https://aghcr.io/", "ghcr.io", True),
        ("https://ghcr.io/", "ghcr.io:443", False),
        ("https://ghcr.io/", "ghcr.io:8443", True),
        ("https://10.1.2.3/", "10.0.0.0/8", False),
        ("https://11.1.2.3/", "10.0.0.0/8", True),
        ("https://ghcr.io/", "10.0.0.0/8,[::1]", True),
    ],
)
def test_proxies(url: str, no: str, through: bool) -> None:
    """A proxy by scheme, except for loopback and what the list of exceptions names."""
    proxies = {"https": "proxy.example:3128", "no": no}
    expected = URL("http://proxy.example:3128") if through else None

    assert expected == choose_proxy(URL(url), proxies)
