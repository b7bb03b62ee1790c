"""Which proxy a URL goes through: the usual http_proxy, https_proxy and no_proxy, as values.

Invariant: a loopback address is never sent through a proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from yarl import URL

from registryd.remote.hosts import is_loopback


def choose_proxy(url: URL, proxies: Mapping[str, str]) -> URL | None:
    """The proxy for this URL, or None to go straight.

    ``proxies`` has lower-case schemes (and ``all``) as keys, and under ``no`` a comma list.
    """
    proxy = proxies.get(url.scheme) or proxies.get("all")
    host = url.host or ""
    if not proxy or is_loopback(host) or _excepted(host, url.port, proxies.get("no", "")):
        return None
    return URL(proxy if "://" in proxy else f"http://{proxy}")


def _excepted(host: str, port: int | None, rules: str) -> bool:
    return any(_matches(host, port, rule.strip().lower()) for rule in rules.split(","))


def _matches(host: str, port: int | None, rule: str) -> bool:
    if rule in ("", "*"):
        return rule == "*"
    try:
        network = ipaddress.ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        name, colon, wanted_port = rule.rpartition(":")
        if colon and wanted_port.isdigit():
            return wanted_port == str(port) and _matches(host, port, name)
        domain = rule.removeprefix("*").removeprefix(".")
        return host == domain or host.endswith(f".{domain}")
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False


def proxies_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies that an environment names (``https_proxy``, ``NO_PROXY`` ...), by scheme."""
    found = {
        scheme: environ.get(f"{scheme}_proxy") or environ.get(f"{scheme.upper()}_PROXY") or ""
        for scheme in ("http", "https", "all", "no")
    }
    return {scheme: value for scheme, value in found.items() if value}
