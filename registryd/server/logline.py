"""The log's words for one event: ``key=value`` pairs that people and programs read (logfmt, pure).

Invariants:
- one event is one line of printable ASCII, whatever a client has sent;
- a value that holds anything but plain characters is a JSON text, so nothing in it can look like
  another pair or steer a terminal.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

#: Printable ASCII without blank, quote, equals sign and backslash.
_plain = re.compile(r"[!#-<>-\[\]-~]+").fullmatch
#: Values come again and again; those that are kept are short.
KEPT, LONGEST_KEPT = 2048, 256


def logfmt(event: str, **fields: object) -> str:
    """The line of an event; what is None, "" or False is left out."""
    line = event
    for key, value in fields.items():
        if value is None or value is False or value == "":
            continue
        if type(value) is int:
            line = f"{line} {key}={value}"
        elif type(value) is float:
            line = f"{line} {key}={value:.6f}"
        else:
            text = str(value)
            shown = _known(text) if len(text) <= LONGEST_KEPT else quoted(text)
            line = f"{line} {key}={shown}"
    return line


def quoted(text: str) -> str:
    """A value as it stands in a line."""
    return text if _plain(text) else json.dumps(text)


_known = lru_cache(KEPT)(quoted)
