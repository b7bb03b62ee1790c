"""Writes docs/api.md: the routes of ``/api/v1`` from the daemon's OpenAPI file, its only source.

Run it after a route has changed (``python -m scripts.api_page``); a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "registryd" / "server" / "openapi.json"
PAGE = ROOT / "docs" / "api.md"
HEAD = """\
# The API of the daemon

Written by `python -m scripts.api_page` from `registryd/server/openapi.json`.

`/v2/` is the OCI distribution specification 1.1. `/api/v1/`, below, is what `registryctl` speaks,
over the unix socket or loopback TCP; on the socket the kernel says who asks.

```sh
curl --unix-socket /run/registryd/registryd.sock http://localhost/api/v1/status
```

"""


def page() -> str:
    """The whole page."""
    raw = json.loads(SOURCE.read_text())
    parts = [HEAD, raw["info"]["description"], "\n\n"]
    for path, methods in sorted(raw["paths"].items()):
        for method, route in methods.items():
            parts += _route(raw, path, method, route)
    return "".join(parts).rstrip("\n") + "\n"


def _route(
    raw: Mapping[str, Any], path: str, method: str, route: Mapping[str, Any]
) -> Iterator[str]:
    yield f"## {method.upper()} {path}\n\n{route['summary']}\n\n"
    if text := route.get("description"):
        yield f"{text}\n\n"
    rows = [_resolved(raw, each) for each in route.get("parameters", ())]
    wanted = _resolved(raw, route.get("requestBody", {}))
    for content in wanted.get("content", {}).values():
        body = _resolved(raw, content.get("schema", {}))
        needed = body.get("required", ())
        rows += [
            {"name": name, "schema": each, "required": name in needed}
            for name, each in body.get("properties", {}).items()
        ]
    if rows:
        yield "| takes | | |\n|---|---|---|\n"
        yield from (_parameter(raw, each) for each in rows)
        yield "\n"
    yield "Answers: " + ", ".join(_answer(raw, *each) for each in route["responses"].items())
    yield ".\n\n"


def _parameter(raw: Mapping[str, Any], each: Mapping[str, Any]) -> str:
    schema = _resolved(raw, each.get("schema", {}))
    text = each.get("description") or schema.get("description", "")
    kind = schema.get("type", "")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    needed = ", needed" if each.get("required") else ""
    return f"| `{each['name']}` | {kind}{needed} | {text} |\n".replace("  ", " ")


def _answer(raw: Mapping[str, Any], code: str, each: Mapping[str, Any]) -> str:
    text = str(_resolved(raw, each).get("description", "")).rstrip(".")
    return f"`{code}` {text[:1].lower()}{text[1:]}".rstrip()


def _resolved(raw: Mapping[str, Any], each: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a ``$ref`` stands for."""
    if "$ref" not in each:
        return each
    found: Any = raw
    for key in each["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return {**found, **{key: value for key, value in each.items() if key != "$ref"}}


if __name__ == "__main__":
    PAGE.write_text(page())
