"""YAML that people wrote, as plain values: mappings, lists and texts.

Invariants:
- a scalar is the text that was written: a tag ``3.20`` is no number. Only null is None;
- aliases and merges (``<<``) are followed, and what they multiply is bounded, as is depth;
- a key that is there twice, and a tag of another kind (``!something``), is a mistake.
"""

from __future__ import annotations

from typing import Final, NoReturn

import yaml

from registryd.oci.errors import UsageError

#: Characters of a file: several thousand images.
TEXT_LIMIT: Final = 1 << 20
#: Values in all, counted as often as they are used.
VALUES_LIMIT: Final = 100_000
DEEPEST: Final = 24

_STANDARD: Final = "tag:yaml.org,2002:"
_KINDS: Final = frozenset(
    f"{_STANDARD}{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "value", "seq", "map")
)


class YamlWrong(UsageError):
    """Raised when a text is not YAML, or more than is taken; names the line."""


def read_yaml(text: str) -> object:
    """The value that a text is. Raises YamlWrong."""
    if len(text) > TEXT_LIMIT:
        raise YamlWrong(f"has {len(text)} characters, {TEXT_LIMIT} are allowed")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlWrong(f"line {line}: is not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        words = str(error).splitlines() or [type(error).__name__]
        raise YamlWrong(f"is not YAML: {words[0]}") from None
    return None if root is None else _Reading().value(root, 0)


class _Reading:
    """One text: how much of it was used so far."""

    def __init__(self) -> None:
        self._left = VALUES_LIMIT

    def value(self, node: yaml.Node, depth: int) -> object:
        self._left -= 1
        if self._left < 0:
            _wrong(node, f"there is too much here ({VALUES_LIMIT} values are allowed)")
        if depth > DEEPEST:
            _wrong(node, f"this is nested too deeply ({DEEPEST} levels are allowed)")
        if node.tag not in _KINDS:
            _wrong(node, f"{str(node.tag)[:60]} is not known here")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each, depth + 1) for each in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        return None if node.tag == f"{_STANDARD}null" else str(node.value)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, value in node.value:
            if key.tag == f"{_STANDARD}merge":
                merged = {**self._merged(value, depth + 1), **merged}
                continue
            if not isinstance(key, yaml.ScalarNode):
                _wrong(key, "a key must be one word")
            name = str(key.value)
            if name in own:
                _wrong(key, f"{name[:60]!r} is there twice")
            own[name] = self.value(value, depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, object]:
        """What ``<<`` brings: a mapping, or several of which the first wins."""
        found: dict[str, object] = {}
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.value(each, depth)
            if not isinstance(value, dict):
                _wrong(each, "only a mapping can be merged (<<)")
            found = {**value, **found}
        return found


def _wrong(node: yaml.Node, what: str) -> NoReturn:
    mark = node.start_mark
    raise YamlWrong(f"line {mark.line + 1 if mark else 1}: {what}")
