"""What run, exec and shell find out before they start a command."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

from cache.errors import StoreLocked
from registryd.cli import run_flags
from registryd.cli.arguments import DEFAULTS, Parser
from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.mounting import ENDINGS
from registryd.cli.patience import QUIET, in_turn
from registryd.cli.platforms import own
from registryd.cli.run_images import Found, found_file, with_squashfs
from registryd.cli.running import state_folder
from registryd.mounts.errors import NotMountable
from registryd.oci.errors import UsageError
from registryd.oci.image_config import ImageConfig
from registryd.oci.reference import Reference


@pytest.mark.parametrize(("mode", "taken"), [(0o700, True), (0o755, False), (0o1777, False)])
def test_a_runtime_folder_of_ours(tmp_path: Path, mode: int, taken: bool) -> None:
    """Where others may look or write, what we know of our commands is not kept."""
    tmp_path.chmod(mode)
    usual = Path(f"/tmp/registryd-run-{os.geteuid()}")

    assert (tmp_path / "registryd/run" if taken else usual) == state_folder(
        {"XDG_RUNTIME_DIR": str(tmp_path)}
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else")
def test_a_runtime_folder_of_somebody_else(tmp_path: Path) -> None:
    """su and sudo leave root with the variable of a user: nothing of root's is made in there."""
    tmp_path.chmod(0o700)
    os.chown(tmp_path, 61005, 61005)

    assert Path("/tmp/registryd-run-0") == state_folder({"XDG_RUNTIME_DIR": str(tmp_path)})


def test_commands_without_a_daemon_take_turns() -> None:
    """Another process has the cache: the next one waits, and says so when it is long, once."""
    looks, said, waits = 0, list[str](), list[float]()

    def act() -> str:
        nonlocal looks
        looks += 1
        if looks < QUIET + 5:
            raise StoreLocked("in use by process 7")
        return "done"

    assert "done" == in_turn(act, said.append, waits.append)
    assert ["waiting: in use by process 7"] == said
    assert looks - 1 == len(waits)


def test_nobody_waits_for_ever() -> None:
    """Who has the cache keeps it: that is said in the end."""

    def act() -> None:
        raise StoreLocked("in use by process 7")

    with pytest.raises(StoreLocked, match="process 7"):
        in_turn(act, lambda text: None, lambda seconds: None)


def test_gpus_in_the_words_of_apptainer() -> None:
    """--nv and --rocm are devices, before the image and after it."""
    parser, options = Parser(prog="registryctl run"), argparse.Namespace(**DEFAULTS)
    run_flags.arguments(parser, words="ARGUMENT", what="")
    words = ["--device", "/dev/x", "--nv", "image", "--rocm", "--rm", "--", "--nv"]
    run_flags.read(parser, words, options)

    assert ["/dev/x", "nvidia.com/gpu=all", "amd.com/gpu=all"] == options.devices
    assert ["--nv"] == options.words


def test_a_file_that_was_handed_over_is_not_asked_for_again(tmp_path: Path) -> None:
    """Where the cache's files may be read by its daemon alone, one is handed over once a start."""
    handed = Found(
        "localhost/a:1",
        f"sha256:{0:064}",
        ImageConfig(platform=own()),
        Reference.parse("localhost/a:1"),
        opened=0,
    )
    options = argparse.Namespace(**DEFAULTS)
    console = Console(sys.stdout, sys.stderr, sys.stdin)
    nobody = {"REGISTRYD_SOCKET": str(tmp_path / "nobody.sock")}

    assert handed is with_squashfs(Context(options, console, nobody, tmp_path), handed)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_names_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """What mount takes for a file, run takes for one: no registry is asked for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"image{ending}").write_bytes(b"words")

    with pytest.raises(NotMountable, match="is no squashfs"):
        found_file(f"image{ending}")


@pytest.mark.parametrize("name", ["oci:/a:b", "oci-archive:a.tar", "docker-archive:a", "dir:a"])
def test_what_holds_layers_is_imported_first(name: str) -> None:
    """It is no name of a registry: the line says what to do."""
    with pytest.raises(UsageError, match=f"registryctl import {name} NAME comes first"):
        found_file(name)
