"""``manifest get``: what ``manifest`` does, by its whole name."""

from __future__ import annotations

from registryd.cli.commands.manifest import arguments, run

__all__ = ["arguments", "run"]
