"""Reading others' TOML without trusting its shape, and writing our few lines of it (pure)."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from registryd.runtimes.errors import SetupBlocked


def parsed(path: str, text: str, reader: str) -> dict[str, Any]:
    """The tables in a file. Raises SetupBlocked."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SetupBlocked(
            f"/{path} is not TOML ({error}): {reader} cannot read it either, mend it first"
        ) from None


def table(value: object, *keys: str) -> dict[str, Any]:
    """The table below these keys; an empty one where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def tables(value: object) -> list[dict[str, Any]]:
    """The tables in an array of them; what is none is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    """The texts in an array; what is none is left out."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def pair(key: str, value: object) -> str:
    """One line: JSON's texts, truths and lists are TOML's too."""
    return f"{key} = {json.dumps(value)}"
