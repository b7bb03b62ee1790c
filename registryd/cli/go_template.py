"""The few forms of Go templates that people type after --format (pure).

``{{.Field}}``, ``{{json .Field}}`` and ``{{json .}}``, with text around them, in which a backslash
with n or t is a line break or a tab. Everything else of that language is refused, not guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from registryd.oci.errors import UsageError

_FIELD = re.compile(r"\{\{-?\s*(json\s+)?\.([A-Za-z]*)\s*-?\}\}")
_ESCAPES = {"\\n": "\n", "\\t": "\t"}


def is_template(text: str) -> bool:
    """Whether this is a template, and not the name of a format."""
    return "{{" in text


def check_format(text: str) -> None:
    """Raises UsageError for a --format that is neither table nor json nor a template of ours."""
    if is_template(text):
        check(text)
    elif text not in ("table", "json"):
        raise UsageError(f"--format {text} is neither json nor a template ({{{{.Field}}}})")


def check(template: str) -> None:
    """Raises UsageError for what is more than fields."""
    if template.startswith("table "):
        raise UsageError(f"--format {template}: tables are not made of templates here")
    if "{{" in _FIELD.sub("", template):
        raise UsageError(
            f"--format {template}: only {{{{.Field}}}} and {{{{json .Field}}}} are understood"
            " (use --format json and a program like jq)"
        )


def rendered(template: str, members: Mapping[str, Any]) -> str:
    """The template with its fields filled in. Raises UsageError for a field that is not there."""
    check(template)

    def value(match: re.Match[str]) -> str:
        as_json, name = match[1], match[2]
        if not name and not as_json:
            raise UsageError("--format: write {{json .}} for the whole")
        if name and name not in members:
            known = ", ".join(members)
            raise UsageError(f"--format: there is no field {name} (there are {known})")
        chosen = members[name] if name else dict(members)
        return json.dumps(chosen) if as_json else _shown(chosen)

    for escape, meant in _ESCAPES.items():
        template = template.replace(escape, meant)
    return _FIELD.sub(value, template)


def _shown(value: Any) -> str:
    """A value as Go prints it."""
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_shown(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_shown, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
