"""Writes docs/monitoring/dashboard.json: what a node and its cluster do, for Grafana 9 or later.

Run it after a row below has changed (``python -m scripts.dashboard``); a test compares, and holds
that each expression is understood by Prometheus and names metrics that there are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

PAGE = Path(__file__).resolve().parent.parent / "docs" / "monitoring" / "dashboard.json"
_NODE: Final = '{instance=~"$node"}'
_HITS: Final = (
    'sum by (kind) (rate(registryd_cache_lookups_total{instance=~"$node",outcome="hit"}[5m]))'
    " / sum by (kind) (rate(registryd_cache_lookups_total#[5m]))"
)
_LATEST: Final = (
    "histogram_quantile(0.99, sum by (source, le) (rate(registryd_first_byte_seconds_bucket#[5m])))"
)
#: Rows of the grid: (title, unit, [(expression, legend)]). ``#`` stands for the chosen nodes.
ROWS: Final = (
    (
        (
            "Bytes given to clients", "Bps",
            [("sum by (source) (rate(registryd_served_bytes_total#[5m]))", "{{source}}")],
        ),
        (
            "Bytes taken from registries", "Bps",
            [("sum by (registry) (rate(registryd_upstream_bytes_total#[5m]))", "{{registry}}")],
        ),
        (
            "Content that was here", "percentunit",
            [(_HITS, "{{kind}}")],
        ),
    ),
    (
        (
            "Held, and let go", "bytes",
            [
                ("registryd_cache_bytes#", "{{instance}} held"),
                ("increase(registryd_removed_bytes_total#[1h])", "{{instance}} removed in an hour"),
            ],
        ),
        (
            "Time to the first byte, p99", "s",
            [(_LATEST, "{{source}}")],
        ),
        (
            "Requests", "reqps",
            [(
                "sum by (route, status) (rate(registryd_requests_total#[5m]))",
                "{{route}} {{status}}",
            )],
        ),
    ),
    (
        (
            "Fetches under way, and who waits", "short",
            [
                ("sum(registryd_flights#)", "fetches"),
                ("sum(registryd_waiters#)", "clients"),
            ],
        ),
        (
            "Fetches that failed", "short",
            [("sum by (reason) (increase(registryd_flights_failed_total#[15m]))", "{{reason}}")],
        ),
        (
            "Answers of registries", "reqps",
            [(
                "sum by (registry, status) (rate(registryd_upstream_answers_total#[5m]))",
                "{{registry}} {{status}}",
            )],
        ),
    ),
    (
        (
            "Bytes between nodes", "Bps",
            [
                (
                    "sum by (zone) (rate(registryd_cluster_received_bytes_total#[5m]))",
                    "from {{zone}}",
                ),
                ("sum(rate(registryd_cluster_sent_bytes_total#[5m]))", "sent"),
            ],
        ),
        (
            "Nodes, as each sees them", "short",
            [
                ("registryd_cluster_nodes#", "{{instance}}"),
                ("sum(registryd_cluster_liars#)", "named as liars"),
            ],
        ),
        (
            "Requests to nodes that brought nothing", "short",
            [("sum by (kind) (increase(registryd_cluster_failures_total#[15m]))", "{{kind}}")],
        ),
    ),
)  # fmt: skip
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT = 8, 8


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana imports it."""
    panels = [
        _panel(at * len(row) + column + 1, column * _WIDTH, at * _HEIGHT, *each)
        for at, row in enumerate(ROWS)
        for column, each in enumerate(row)
    ]
    return {
        "uid": "registryd",
        "title": "registryd",
        "schemaVersion": 38,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_variable_of_sources(), _variable_of_nodes()]},
        "panels": panels,
    }


def expressions() -> list[str]:
    """All that it asks of Prometheus, for all nodes."""
    return [
        each.replace("#", "").replace("$node", ".*")
        for row in ROWS
        for _, _, queries in row
        for each, _ in queries
    ]


def _panel(number: int, x: int, y: int, title: str, unit: str, queries: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "expr": expression.replace("#", _NODE),
                "legendFormat": legend,
                "datasource": _SOURCE,
            }
            for at, (expression, legend) in enumerate(queries)
        ],
    }


def _variable_of_sources() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _variable_of_nodes() -> dict[str, Any]:
    query = "label_values(registryd_build_info, instance)"
    return {
        "name": "node", "type": "query", "label": "Node", "datasource": _SOURCE, "query": query,
        "multi": True, "includeAll": True, "allValue": ".*", "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
