"""What a registry's answer says of how many more requests it allows. Pure.

Three forms are in use: Docker Hub's ``ratelimit-limit: 100;w=21600`` with
``docker-ratelimit-source``, the same names without a window (draft-ietf-httpapi-ratelimit-headers),
and ``X-RateLimit-Limit`` (GitHub, Quay and gateways).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from registryd.notices import RateLimit

#: A number with its window in seconds; of a list the first is the one that is nearest.
_FORM = re.compile(r"\s*(?P<count>[0-9]{1,12})\s*(?:;\s*w=(?P<window>[0-9]{1,9}))?\s*(?:[,;].*)?")
#: What a source may look like; anything else is not shown.
_SOURCE = re.compile(r"[0-9A-Za-z:.@_-]{1,128}")


def read_rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """The allowance that an answer tells of (names in any case); None when it tells of none."""
    for prefix in ("RateLimit", "X-RateLimit"):
        limit, window = _number(headers.get(f"{prefix}-Limit", ""))
        remaining, same = _number(headers.get(f"{prefix}-Remaining", ""))
        if limit is not None or remaining is not None:
            source = headers.get("Docker-RateLimit-Source", "").strip()
            shown = source if _SOURCE.fullmatch(source) else ""
            return RateLimit(limit, remaining, same if window is None else window, shown)
    return None


def _number(text: str) -> tuple[int | None, int | None]:
    match = _FORM.fullmatch(text)
    if match is None:
        return None, None
    window = match["window"]
    return int(match["count"]), None if window is None else int(window)
