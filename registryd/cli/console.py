"""Where a command writes: data to stdout, words to stderr.

Invariants:
- raw bytes go out as they are, with no newline added;
- JSON is ASCII, so that no text of a registry can steer a terminal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TextIO

from registryd.cli.errors import printable
from registryd.cli.tables import Column, layout


@dataclass(frozen=True, slots=True)
class Console:
    """The two outputs of a command."""

    out: TextIO
    err: TextIO

    def line(self, text: str) -> None:
        """One line of data."""
        self.out.write(printable(text) + "\n")

    def raw(self, content: bytes) -> None:
        """Bytes of data, exactly these."""
        self.out.flush()
        self.out.buffer.write(content)
        self.out.buffer.flush()

    def json(self, value: Any) -> None:
        """A value as JSON."""
        self.out.write(json.dumps(value, indent=2) + "\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Rows below their headings, as data."""
        for text in layout(columns, rows):
            self.out.write(text + "\n")

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, one pair a line, as data."""
        for text in layout((Column(""), Column("")), [(f"{k}:", v) for k, v in pairs])[1:]:
            self.out.write(text + "\n")

    def words(self, text: str) -> None:
        """A line for people."""
        self.err.write(printable(text) + "\n")
        self.err.flush()

    def flush(self) -> None:
        """Send out what is written. Raises BrokenPipeError when the reader of stdout has left."""
        self.out.flush()

    def abandon(self) -> None:
        """Forget what could not be written, so that the interpreter says nothing at its end."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.out.fileno())
            os.close(nowhere)
