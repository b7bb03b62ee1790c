"""What the pages say of registryctl is what the program understands."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.cli.arguments import DEFAULTS, spelled_out
from registryd.cli.command import ALIASES, COMMANDS
from registryd.cli.main import parsed
from registryd.oci.errors import UsageError
from scripts.commands_page import page
from tests.test_floors import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "systemd/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*/*.md")),
]
_FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`(?:registryctl )?([a-z][^`]*)`")
#: Where a shell begins something else.
_ENDS = {"|", ">", "2>", "&&", "||", ";", "<"}


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each registryctl command line in the examples of a page."""
    for block in _FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = _words(line.removeprefix("$ "))
            if words[:1] == ["registryctl"]:
                end = next((at for at, word in enumerate(words) if word in _ENDS), len(words))
                yield words[1:end]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # output with a lone quote
        return []


def test_the_page_of_commands_is_in_step() -> None:
    """docs/commands.md is what ``python -m scripts.commands_page`` writes now."""
    assert page() == (ROOT / "docs/commands.md").read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_are_understood(path: Path) -> None:
    """Every command line in an example is one that the parsers take, flags and all."""
    wrong = []
    for words in command_lines(path.read_text()):
        try:
            parsed(spelled_out(words), argparse.Namespace(**DEFAULTS))
        except UsageError as error:
            wrong.append((words, str(error)))
        except SystemExit:  # --help and --version
            pass

    assert wrong == []


def test_the_table_at_a_glance_names_commands() -> None:
    """Each command in the first column of the table is there, under that name."""
    text = (ROOT / "docs/overview.md").read_text()
    table = text[text.index("| command | does |") :].partition("\n\n")[0]
    groups = {name.partition(" ")[0] for name in COMMANDS}
    known = {*COMMANDS, *ALIASES, *groups}
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = [code for cell in first for code in _CODE.findall(cell)]
    words = [" ".join(re.findall(r"[a-z][a-z-]*(?= |$)", code)[:2]) for code in named]

    assert len(named) > 20
    assert [w for w in words if w not in known and w.partition(" ")[0] not in known] == []
