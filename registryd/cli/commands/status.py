"""``status``: the daemon, what it holds, how it serves, and what it is fetching."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.flights import COLUMNS, Pace


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the state. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("status", {})
        where = f"on {chosen.socket}" if chosen.socket else "none (this process)"
    if context.options.format == "json":
        context.console.json(result)
        return
    context.console.facts([("daemon", where), *_facts(result)])
    flights = result.get("flights") or []
    if flights:
        context.console.line("")
        context.console.table(COLUMNS, Pace().rows(flights))


def _facts(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("version", str(status.get("version", "-"))),
        ("process", str(status.get("pid", "-"))),
        ("up for", wording.span(float(status.get("uptime_seconds") or 0))),
        ("listens on", ", ".join(status.get("listeners") or []) or "-"),
        ("cache", str(status.get("root", "-"))),
        ("images", str(status.get("images", "-"))),
        ("blobs", f"{status.get('blobs', '-')}, {wording.size(status.get('size') or 0)}"),
        *_scrub(status),
        *((f"{kind}s given", _lookups(status, kind)) for kind in ("manifest", "blob")),
        *_stale(status),
        *_rate_limits(status),
        *_left_alone(status),
        *_cluster(status),
        *_lower(status),
        ("fetching", wording.counted(len(status.get("flights") or []), "blob")),
    ]


def _scrub(status: dict[str, Any]) -> list[tuple[str, str]]:
    """``every blob since 3 days ago; 1 put aside, 1 of them fetched again``."""
    scrub, now = status.get("scrub") or {}, datetime.now(UTC)
    if not scrub:
        return []
    since, bad = scrub.get("all_proven_since"), scrub.get("bad") or 0
    words = "not every blob yet" if since is None else f"every blob since {wording.ago(since, now)}"
    if scrub.get("period_seconds") == 0:
        words += " (no scrub in the background)"
    if bad:
        words += f"; {bad} put aside, {scrub.get('fetched_again') or 0} of them fetched again"
    return [("proven", words)]


def _lookups(status: dict[str, Any], kind: str) -> str:
    """``5 held, 3 fetched, 1 on their way already``: how often content was given."""
    counts = status.get("lookups") or {}
    held, fetched, shared = (counts.get(f"{kind}_{way}") or 0 for way in ("hit", "miss", "wait"))
    return f"{held} held, {fetched} fetched, {shared} on their way already"


def _cluster(status: dict[str, Any]) -> list[tuple[str, str]]:
    """``n1 of 16 nodes``; of a node without a cluster nothing is said."""
    cluster = status.get("cluster") or {}
    if not cluster.get("me"):
        return []
    away = "" if cluster.get("connected") else ", but NATS is away"
    nodes = wording.counted(cluster.get("nodes") or 0, "node")
    liars = ", ".join(cluster.get("liars") or [])
    left_out = [("left out for lies", liars)] if liars else []
    return [("cluster", f"{cluster['me']} of {nodes}{away}"), *left_out]


def _lower(status: dict[str, Any]) -> list[tuple[str, str]]:
    """``/shared/registryd: 12 images, gave 40 blobs, 2.1 GiB``, a line for each shared store."""
    found = []
    for entry in status.get("lower") or []:
        names = wording.counted(entry.get("names") or 0, "image")
        state = names if entry.get("usable") else f"left alone ({entry.get('cause')})"
        gave = wording.counted(entry.get("blobs") or 0, "blob")
        words = f"{state}, gave {gave}, {wording.size(entry.get('bytes') or 0)}"
        errors = entry.get("errors")
        if errors:
            words += f", {wording.counted(errors, 'error')}"
        found.append(("lower store", f"{entry.get('path')}: {words}"))
    return found


def _rate_limits(status: dict[str, Any]) -> list[tuple[str, str]]:
    """What registries have said of how much more they allow, and to whom."""
    found = []
    for entry in status.get("rate_limits") or []:
        limit, window = entry.get("limit"), entry.get("window_seconds")
        whole = "" if limit is None else f" of {limit}"
        per = f" in {wording.span(window)}" if window else ""
        who = f" to {entry['account']}" if entry.get("account") else ""
        left = "-" if entry.get("remaining") is None else entry["remaining"]
        found.append((f"{entry.get('registry')} allows", f"{left}{whole}{per}{who}"))
    return found


def _stale(status: dict[str, Any]) -> list[tuple[str, str]]:
    away = [
        f"{entry.get('registry')} ({entry.get('cause')})"
        for entry in status.get("stale_registries") or []
    ]
    return [("without word of", ", ".join(away))] if away else []


def _left_alone(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Mirrors that have failed, with why, and when they are tried again."""
    hosts = [
        f"{entry.get('host')} for {wording.span(entry.get('seconds') or 0)} ({entry.get('cause')})"
        for entry in status.get("mirrors_left_alone") or []
    ]
    return [("mirrors left alone", "; ".join(hosts))] if hosts else []
