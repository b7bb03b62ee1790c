"""What setup writes it takes away again; what is another's it never touches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import Fault
from registryd.runtimes import buildkit, containerd, disk, docker, podman
from registryd.runtimes.errors import SetupBlocked
from registryd.runtimes.plan import File, Plan, Runtime
from registryd.runtimes.table import RUNTIMES

PLANS = (Plan("127.0.0.1:5050"), Plan("[::1]:80", ("docker.io", "ghcr.io")))
#: Places that matter to the runtimes, and some that do not.
PLACES = (
    containerd.CONFIG,
    f"{containerd.CERTS}/_default/hosts.toml",
    f"{containerd.CERTS}/_default/ca.crt",
    f"{containerd.CERTS}/docker.io/hosts.toml",
    podman.MAIN,
    podman.OWN,
    "etc/containers/registries.conf.d/99-mine.conf",
    docker.PATH,
    buildkit.PATH,
    "etc/passwd",
)
TEXTS = (
    "",
    "# theirs\n",
    "{}",
    '[[registry]]\nlocation = "docker.io"\n',
    'server = "https://x"\n',
    "{ broken",
    '[host."http://127.0.0.1:5050"]\n',
)
FOLDERS = (containerd.CERTS, f"{containerd.CERTS}/ghcr.io", "etc/containers", "etc/docker")
TREES = st.dictionaries(st.sampled_from(PLACES), st.sampled_from(TEXTS))

Tree = dict[str, str | None]


def tree(prefix: Path) -> Tree:
    """Each file with its text, each folder with None."""
    return {
        str(path.relative_to(prefix)): None if path.is_dir() else path.read_text()
        for path in prefix.rglob("*")
    }


def grow(prefix: Path, files: Mapping[str, str], folders: set[str]) -> None:
    """Put this on the disk."""
    for folder in folders:
        (prefix / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(text)


def set_up(runtime: Runtime, plan: Plan, prefix: Path) -> list[str]:
    """Set it up; the states of its files."""
    seen = disk.look(prefix, runtime.LOOKS)
    steps = disk.steps(prefix, runtime.decide(plan, seen).files, seen)
    for step in steps:
        if step.state != "same":
            disk.write(prefix, step)
    return [step.state for step in steps]


def undo(runtime: Runtime, prefix: Path) -> None:
    """Take away what is ours still."""
    for own in disk.owned(disk.look(prefix, runtime.LOOKS)):
        if own.unchanged:
            disk.remove(prefix, own)


@settings(max_examples=200)
@given(
    st.sampled_from(list(RUNTIMES.values())),
    st.lists(st.sampled_from(PLANS), min_size=1, max_size=3),
    TREES,
    st.sets(st.sampled_from(FOLDERS)),
)
def test_undo_leaves_the_tree_as_it_was(
    runtime: Runtime, plans: list[Plan], files: dict[str, str], folders: set[str]
) -> None:
    """Whatever stood there: it stands unchanged after setup, and alone after undo."""
    with tempfile.TemporaryDirectory() as name:
        prefix = Path(name)
        grow(prefix, files, folders)
        before = tree(prefix)
        for plan in plans:
            now = tree(prefix)
            try:
                set_up(runtime, plan, prefix)
            except Fault:
                assert now == tree(prefix)

        assert before.items() <= tree(prefix).items()
        with suppress(Fault):
            again = set_up(runtime, plans[-1], prefix)
            assert ["same"] * len(again) == again
        undo(runtime, prefix)
        assert before == tree(prefix)


@pytest.mark.parametrize("name", ["containerd", "podman", "docker", "buildkit"])
def test_what_was_changed_since_stays(name: str, tmp_path: Path) -> None:
    """A person's edit makes the file theirs: neither undo nor another setup touches it."""
    runtime = RUNTIMES[name]
    set_up(runtime, PLANS[0], tmp_path)
    (own,) = disk.owned(disk.look(tmp_path, runtime.LOOKS))
    path = tmp_path / own.path
    path.write_text(path.read_text() + "\n")
    before = tree(tmp_path)

    undo(runtime, tmp_path)
    set_up(runtime, PLANS[1], tmp_path)

    assert before[own.path] == tree(tmp_path)[own.path]


def test_modes_let_everybody_read(tmp_path: Path) -> None:
    """Rootless runtimes read the files, whatever the umask was."""
    before = os.umask(0o077)
    try:
        set_up(RUNTIMES["podman"], PLANS[0], tmp_path)
    finally:
        os.umask(before)

    assert 0o644 == (tmp_path / podman.OWN).stat().st_mode & 0o777
    assert 0o755 == (tmp_path / podman.OWN).parent.stat().st_mode & 0o777


def test_a_link_out_of_the_prefix_is_not_followed(tmp_path: Path) -> None:
    """An image's /etc that is a link must not lead to the machine's own."""
    prefix, outside = tmp_path / "image", tmp_path / "machine"
    prefix.mkdir()
    outside.mkdir()
    (prefix / "etc").symlink_to(outside)

    with pytest.raises(SetupBlocked, match="out of"):
        set_up(RUNTIMES["podman"], PLANS[0], prefix)

    assert [] == list(outside.iterdir())


def test_a_link_in_our_place_is_anothers(tmp_path: Path) -> None:
    """Even one that leads to a file of ours, or nowhere."""
    place = tmp_path / podman.OWN
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "nowhere")

    assert [] == set_up(RUNTIMES["podman"], PLANS[0], tmp_path)
    assert place.is_symlink()


def test_what_came_in_between_stands(tmp_path: Path) -> None:
    """A file that appears after the look is not replaced, and folders made for ours go again."""
    seen = disk.look(tmp_path, podman.LOOKS)
    (step,) = disk.steps(tmp_path, [File(podman.OWN, "ours\n", "")], seen)
    grow(tmp_path, {podman.OWN: "theirs\n"}, set())
    before = tree(tmp_path)

    with pytest.raises(SetupBlocked, match="File exists"):
        disk.write(tmp_path, step)

    assert before == tree(tmp_path)


def test_what_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """A file where a folder must be ends as one error that names it."""
    (tmp_path / "etc").write_text("")

    with pytest.raises(SetupBlocked, match="cannot write"):
        set_up(RUNTIMES["podman"], PLANS[0], tmp_path)
