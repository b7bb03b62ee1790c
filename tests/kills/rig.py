"""What the rounds are run with: a registry, a place for daemons, and caches to begin from."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kills.node import TOP, Node, Nursery, nursery, readiness, wait_ready
from tests.kills.upstream import Upstream, upstream
from tests.real.stories import UP, toml

#: Seconds for which nobody has used the images of ``full``: none is spared for being new.
UNUSED = 86400.0

Sections = Mapping[str, Mapping[str, Any]]


@dataclass
class Rig:
    """One registry, one nursery; ``begun`` are the daemons of the round, killed at its end."""

    folder: Path
    upstream: Upstream
    nursery: Nursery
    begun: list[Node] = field(default_factory=list)

    def start(
        self,
        root: Path,
        sections: Sections | None = None,
        *,
        arm: Callable[[], None] | None = None,
    ) -> tuple[Node, bool]:
        """A daemon on a root, and whether it became ready; ``arm`` begins to count before it."""
        home = self.folder / "d"
        (home / "home").mkdir(parents=True, exist_ok=True)
        config, log = home / "config.toml", home / "log"
        config.write_text(self._config(home, root, sections or {}))
        (home / "s").unlink(missing_ok=True)
        self.nursery.steps.disarm()
        with readiness(home) as ready:
            if arm is not None:
                arm()
            node = self.nursery.start(home, root, config, log)
            self.begun.append(node)
            return node, wait_ready(node, ready)

    def _config(self, home: Path, root: Path, more: Sections) -> str:
        own: dict[str, dict[str, Any]] = {
            "daemon": {"socket": home / "s", "listen": [], "drain_timeout": "0s"},
            "cache": {"root": root},
            "transfer": {"attempts": 1},
            "registries": {UP: {"endpoint": self.upstream.door.url, "tag_ttl": "0s"}},
        }
        for name, section in more.items():
            own[name] = {**own.get(name, {}), **section}
        return toml(own)

    @property
    def log(self) -> list[str]:
        """What the daemons of this round have said."""
        path = self.folder / "d" / "log"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def clear(self) -> None:
        """End what runs, and forget what was said."""
        self.nursery.steps.disarm()
        self.nursery.steps.shift(0.0)
        for node in self.begun:
            node.close()
        self.begun.clear()
        (self.folder / "d" / "log").unlink(missing_ok=True)
        self.upstream.forget()

    def copy(self, template: str) -> Path:
        """A root of its own that is as the template was."""
        root = self.folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.folder / "templates" / template, root)
        return root

    def template(self, name: str, act: Callable[[Node], object], base: str = "") -> None:
        """Make a root to begin from: what ``act`` leaves when the daemon is then killed."""
        root = self.folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        if base:
            shutil.copytree(self.folder / "templates" / base, root)
        node, ready = self.start(root)
        assert ready, self.log
        act(node)
        node.kill()
        self.clear()
        shutil.copytree(root, self.folder / "templates" / name)


@contextmanager
def rig(folder: Path, top: Path = TOP) -> Iterator[Rig]:
    """A rig that runs the program of the tree ``top``."""
    (folder / "templates").mkdir(parents=True)
    with upstream(folder / "up") as behind, nursery(folder, top) as begins:
        made = Rig(folder, behind, begins)
        try:
            make_templates(made)
            yield made
        finally:
            made.clear()


def make_templates(made: Rig) -> None:
    """``empty``: a new cache; ``held``: two images and names of the node's own, by a daemon that
    was killed; ``closed``: by one that was stopped; ``full``: five images more."""
    made.template("empty", lambda node: None)

    def held(node: Node) -> None:
        for name in ("a", "b"):
            node.ask("pull", reference=f"{UP}/{name}:1")
        node.ask("tag", source=f"{UP}/a:1", target="localhost/x:1")
        node.ask("tag", source=f"{UP}/b:1", target="localhost/y:1")

    made.template("held", held)

    def closed(node: Node) -> None:
        os.kill(node.pid, signal.SIGTERM)
        node.wait()

    made.template("closed", closed, "held")

    def full(node: Node) -> None:
        for number in range(5):
            node.ask("pull", reference=f"{UP}/m{number}:1")

    made.template("full", full, "held")
    with closing(sqlite3.connect(made.folder / "templates" / "full" / "cache.db")) as db:
        db.execute("UPDATE blobs SET used = used - ?", (UNUSED,))
        db.commit()
