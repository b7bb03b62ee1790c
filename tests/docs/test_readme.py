"""Story: README's five things to do next, each line as it stands, with a registry of our own.

``docker.io`` and ``ghcr.io`` are names that the configuration gives to a docker-registry here, as a
site does that has no way out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Step, run
from tests.real.registry import open_registry
from tests.real.run_image import make_run_image
from tests.real.runtimes import Skopeo, plain_environ
from tests.real.stories import daemon, toml
from tests.test_floors import ROOT

#: What stands in README and is not a command of this test: how it ends here, and why.
OTHERWISE = {
    "registryd &": "the test's own daemon stands for it",
    "registryctl prefetch docker.io/library/python:3.12 --all --wait": "this node has no cluster",
}


def lines() -> list[list[str]]:
    """The commands of each of the five, without remarks."""
    text = (ROOT / "README.md").read_text()
    five = text[text.index("## Five things") : text.index("## Beside others")]
    blocks = re.findall(r"^```sh\n(.*?)^```", five, re.MULTILINE | re.DOTALL)
    return [[re.sub(r"\s+#.*", "", line) for line in block.splitlines()] for block in blocks]


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A reader's environment: a home, the programs, two registries and a daemon."""
    home = tmp_path / "home"
    home.mkdir()
    layout = make_run_image(tmp_path / "image")
    with open_registry(tmp_path / "registry") as registry:
        for name in ("library/alpine:latest", "org/app:1"):
            target = f"docker://{registry.name}/{name}"
            Skopeo(tmp_path / "skopeo").copy(f"oci:{layout}:run", target)
        named = {name: {"endpoint": registry.url} for name in ("docker.io", "ghcr.io")}
        own = home / ".config/registryd/config.toml"
        own.parent.mkdir(parents=True)
        own.write_text(toml({"registries": named}))
        with daemon(tmp_path / "node", {"registries": named}) as node:
            base = plain_environ(home)
            yield {
                **base,
                "PATH": f"{Path(sys.executable).parent}:{base['PATH']}",
                "CONTAINERS_REGISTRIES_CONF": "/dev/null",
                "SOCKET": str(node.socket),
            }


def test_five_things(environ: dict[str, str], tmp_path: Path) -> None:
    """The first without a daemon, all others with one; each does what it says, or says why not."""
    said = {}
    for at, commands in enumerate(lines()):
        if at:
            environ = {**environ, "REGISTRYD_SOCKET": environ["SOCKET"]}
        for command in commands:
            if command == "registryd &":
                continue
            said[command] = run(Step(command, ""), tmp_path, environ)
    failed = {command for command, text in said.items() if "(exit code " in text}
    # What is left to the administrator, on a machine with these programs, is told and is no fault.
    failed -= {each for each in failed if "setup" in each and "(exit code 7)" in said[each]}

    assert failed == OTHERWISE.keys() - {"registryd &"}, {each: said[each] for each in failed}
    assert all(OTHERWISE[each] in said[each] for each in failed)
    assert "hello\n" in said["registryctl run alpine -- echo hello"]
    assert (tmp_path / "alpine.sif").is_file()
    assert (tmp_path / "app/index.json").is_file()
