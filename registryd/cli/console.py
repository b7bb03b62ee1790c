"""Where a command reads and writes: data to stdout, words to stderr, answers from stdin.

Invariants:
- raw bytes go out as they are, with no newline added;
- JSON is ASCII, so that no text of a registry can steer a terminal.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any, TextIO

from cache.errors import Fault
from registryd.cli.errors import printable
from registryd.cli.indented import indented
from registryd.cli.tables import Column, layout
from registryd.oci.errors import UsageError
from registryd.secrets import Secret


class OutputLost(Fault):
    """Raised when stdout does not take what is written to it; says why."""


@dataclass(frozen=True, slots=True)
class Console:
    """The standard streams of a command. What writes data raises OutputLost and BrokenPipeError."""

    out: TextIO
    err: TextIO
    typed: TextIO
    _warned: set[str] = field(default_factory=set, repr=False)

    def line(self, text: str) -> None:
        """One line of data."""
        self._write(printable(text) + "\n")

    def text(self, text: str) -> None:
        """Data that may have line breaks and tabs of its own, and ends with a line break."""
        kept = "".join(letter if letter in "\n\t" else printable(letter) for letter in text)
        self._write(kept + "\n")

    def raw(self, content: bytes) -> None:
        """Bytes of data, exactly these."""
        with _stdout_faults():
            self.out.flush()
            self.out.buffer.write(content)
            self.out.buffer.flush()

    def json(self, value: Any) -> None:
        """A value as JSON."""
        self._write(indented(value) + "\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Rows below their headings, as data."""
        self._write("".join(text + "\n" for text in layout(columns, rows)))

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, one pair a line, as data."""
        for text in layout((Column(""), Column("")), [(f"{k}:", v) for k, v in pairs])[1:]:
            self._write(text + "\n")

    def words(self, text: str) -> None:
        """A line for people."""
        self.err.write(printable(text) + "\n")
        self.err.flush()

    def warning(self, text: str) -> None:
        """A line for people about what went otherwise than they may think; the same one once."""
        if text not in self._warned:
            self._warned.add(text)
            self.words(f"warning: {text}")

    def ask(self, question: str) -> str:
        """The line that a person types. Raises UsageError where nobody is there to ask."""
        self._check_terminal(question)
        self.err.write(f"{question}: ")
        self.err.flush()
        return self.typed.readline().strip()

    def ask_secret(self, question: str) -> Secret:
        """The same, without showing what is typed."""
        import getpass

        self._check_terminal(question)
        return Secret(getpass.getpass(f"{question}: ", self.err))

    def _check_terminal(self, question: str) -> None:
        if not self.typed.isatty():
            raise UsageError(f"no terminal to ask for the {question.lower()}")

    def typed_file(self) -> IO[bytes]:
        """stdin as bytes. Raises UsageError where a person would have to type them."""
        if self.typed.isatty():
            raise UsageError("stdin is a terminal: pipe the content in, or name a file")
        buffer: IO[bytes] | None = getattr(self.typed, "buffer", None)
        return buffer or io.BytesIO(self.typed.read().encode())

    def typed_bytes(self, limit: int) -> bytes:
        """The first bytes of stdin. Raises UsageError as ``typed_file`` does."""
        return self.typed_file().read(limit)

    def flush(self) -> None:
        """Send out what is written."""
        with _stdout_faults():
            self.out.flush()

    def _write(self, text: str) -> None:
        with _stdout_faults():
            self.out.write(text)

    def abandon(self) -> None:
        """Forget what could not be written, so that the interpreter says nothing at its end."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.out.fileno())
            os.close(nowhere)


@contextmanager
def _stdout_faults() -> Iterator[None]:
    """Raises OutputLost; BrokenPipeError as it is: a reader that left is no failure of ours."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"stdout: {(error.strerror or str(error)).lower()}") from error
