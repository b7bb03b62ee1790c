"""Files of a site's modules: what is taken, and everything that can be wrong."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.launch.module_file import (
    LibraryWishes,
    Module,
    ModuleWrong,
    Place,
    Variables,
    When,
    Wish,
    read_module,
)

WHOLE = """
name: mpi
help: the machine's MPI
default: true
when:
  env: {SLURM_MPI_TYPE: [pmi2, "cray*"], SLURM_JOB_ID: "*"}
  paths: [/dev/null]
requires: [base]
conflicts: [openmpi]
variables: [CRAY_*]
binds:
  - /opt/cray?
  - ${SCRATCH}:/scratch:ro
  - /usr/lib/libx*?:/x
  - {source: /a, target: /b, mode: ro, optional: true}
devices: ["/dev/dri/renderD*?"]
cdi: [nvidia.com/gpu=all]
env:
  pass: [PMI_*]
  unset: [A]
  set: {B: "1"}
  default: {C: ""}
  prepend: {PATH: /x}
  append: {PATH: /y}
libraries:
  abi: full
  replace: [/usr/lib/libmpi.so.12, {path: /usr/lib/libmpich.so.12, as: libmpi.so.12}]
  add: ["/usr/lib/libfabric.so.1?"]
  search: [/opt/*/lib]
  dependencies: false
"""


def test_every_key() -> None:
    """Every key is read, the short forms as the long ones."""
    module = Module(
        name="mpi",
        help="the machine's MPI",
        default=True,
        when=When({"SLURM_MPI_TYPE": ("pmi2", "cray*"), "SLURM_JOB_ID": ("*",)}, ("/dev/null",)),
        requires=("base",),
        conflicts=("openmpi",),
        variables=("CRAY_*",),
        binds=(
            Place("/opt/cray", optional=True),
            Place("${SCRATCH}", "/scratch", "ro"),
            Place("/usr/lib/libx*", "/x", optional=True),
            Place("/a", "/b", "ro", optional=True),
        ),
        devices=(Place("/dev/dri/renderD*", optional=True),),
        cdi=("nvidia.com/gpu=all",),
        env=Variables(("PMI_*",), ("A",), {"B": "1"}, {"C": ""}, {"PATH": "/x"}, {"PATH": "/y"}),
        libraries=LibraryWishes(
            "full",
            (Wish("/usr/lib/libmpi.so.12"), Wish("/usr/lib/libmpich.so.12", "libmpi.so.12")),
            (Wish("/usr/lib/libfabric.so.1", optional=True),),
            ("/opt/*/lib",),
            dependencies=False,
        ),
    )

    assert module == read_module(WHOLE, stem="x")


def test_little() -> None:
    """A file's stem is the name where it says none; keys without a value say nothing."""
    module = read_module("help:\nwhen:\n  env: SLURM_JOB_ID\ndefault: true", stem="gpu")

    assert Module(name="gpu", default=True, when=When({"SLURM_JOB_ID": ("*",)})) == module


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "is no mapping (it needs help:"),
        ("- a", "is no mapping"),
        ("a: [", "line 1: is not YAML"),
        ("help: a\nhelp: b", "line 2: 'help' is there twice"),
        ("bind: []", "bind: unknown key (did you mean binds?)"),
        ("name: none", "name: 'none' is no name of a module"),
        ("name: a b", "name: 'a b' is no name"),
        ('help: "a\\nb"', "help: is not one line"),
        ("default: maybe", 'default: "maybe" is not true or false'),
        ("when: {env: A}", "has when, which is asked of a module with default: true only"),
        ("default: true\nwhen: {env: [1A]}", "when.env: '1A' is no variable"),
        ("requires: [x]", "requires or conflicts with itself"),
        ("requires: [y]\nconflicts: [y]", "requires y and conflicts with it"),
        ("binds: /a", 'binds: "/a" is not a list of binds'),
        ("binds: [a]", "binds[0].source: 'a' is not an absolute path"),
        ("binds: [/a/../b]", "binds[0].source: "),
        ("binds: ['/a:b']", "binds[0].target: 'b' is not an absolute path"),
        ("binds: ['/a:/b:rx']", 'binds[0].mode: "rx" is not allowed (use one of "ro", "rw")'),
        ("binds: ['/a:/b:ro:x']", "is not SOURCE[?][:TARGET[:ro|rw]]"),
        ("binds: [{target: /a}]", "binds[0].source: is missing"),
        ("cdi: [gpu]", "cdi[0]: 'gpu' is not a device"),
        ("env: {set: {A-B: c}}", "env.set.A-B: is no name of a variable"),
        ("env: {set: {A: [c]}}", 'env.set.A: ["c"] is not a text'),
        ("env: {pass: ['*A']}", "env.pass[0]: '*A' is no variable"),
        ("libraries: {abi: minor}", "libraries.abi: "),
        ("libraries: {replace: [libx.so]}", "libraries.replace[0].path: "),
    ],
)
def test_wrong_files(words: str, said: str) -> None:
    """What is wrong is one line with the way to the key and what is allowed."""
    with pytest.raises(ModuleWrong) as caught:
        read_module(words, stem="x")

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


LINES = [line for line in WHOLE.splitlines() if line]


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=12),
    noise=st.text(alphabet="[]{}:,*&!?-/$ a\n\"'", max_size=12),
    at=st.integers(0, 200),
)
@settings(max_examples=80, deadline=None)
def test_any_text(lines: list[str], noise: str, at: int) -> None:
    """Whatever a file holds, it is a module or one ModuleWrong."""
    words = "\n".join(lines)

    with suppress(ModuleWrong):
        assert isinstance(read_module(words[:at] + noise + words[at:], stem="x"), Module)


def test_shipped_modules() -> None:
    """The modules that come with the project are right."""
    folder = Path(__file__).parents[2] / "docs/modules.d"
    found = {path.name: read_module(path.read_text(), stem=path.stem) for path in folder.iterdir()}

    assert {
        "cray-mpich.yaml",
        "mpich.yaml",
        "nvidia.yaml",
        "openmpi.yaml",
        "rocm.yaml",
    } <= found.keys()
    assert all(module.help for module in found.values())
