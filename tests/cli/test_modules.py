"""``modules``: what a site's files add, what is taken here, and what is wrong with them."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.site import added_here, run_settings
from registryd.config import RunConfig
from registryd.launch.edits import Device, Edits, EnvChange
from registryd.launch.errors import LaunchRefused
from tests.cli.conftest import Ctl

MPI = """
help: the machine's MPI
default: true
when: {env: {JOB: "7"}}
requires: [base]
libraries: {abi: full, replace: [{path: /lib/libx.so.1, as: liby.so.1}]}
binds: [/opt/x:/y]
env: {set: {A: "1"}}
"""
DEVICE = {"cdiVersion": "0.5.0", "kind": "v.com/gpu", "devices": [{"name": "0"}]}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A machine with two modules and a device, and a user whose file says where they are."""
    for folder in ("modules", "cdi", ".config/registryd"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "modules/mpi.yaml").write_text(MPI)
    (tmp_path / "modules/base.yaml").write_text("env: {set: {BASE: here}}")
    (tmp_path / "cdi/v.json").write_text(json.dumps(DEVICE))
    settings = f'[run]\nmodules = "{tmp_path}/modules"\ncdi = ["{tmp_path}/cdi"]\n'
    (tmp_path / ".config/registryd/config.toml").write_text(settings)
    return tmp_path


def test_list(ctl: Ctl, site: Path) -> None:
    """A line for each module says whether a run takes it here; names show what they do."""
    ctl = replace(ctl, home=site)

    assert [
        ["MODULE", "DEFAULT", "WHAT", "FOR"],
        ["base", "no"],
        ["mpi", "not", "here", "the", "machine's", "MPI"],
        ["device", "v.com/gpu=0"],
    ] == [line.split() for line in ctl("modules").out.splitlines()]
    assert [
        "mpi: the machine's MPI",
        "  requires base",
        "  replaces liby.so.1 (abi: full)",
        "  binds /opt/x:/y",
        "  changes A",
    ] == ctl("modules", "mpi").out.splitlines()
    there = json.loads(replace(ctl, environ={"JOB": "7"})("modules", "--format", "json").out)
    assert [False, True] == [module["taken"] for module in there["modules"]]
    assert (64, "there is no module gpu (there is base, mpi; see registryctl modules)") == (
        ctl("modules", "gpu").code,
        ctl("modules", "gpu").words[-1].partition(": ")[2],
    )


def test_problems(ctl: Ctl, site: Path) -> None:
    """Each bad file is one line, after what is right; the end is a failure."""
    (site / "modules/bad.yaml").write_text("bind: []")
    (site / "modules/alone.yml").write_text("requires: [nobody]")
    (site / "cdi/bad.yaml").write_text("kind: x")
    (site / "cdi/again.json").write_text(json.dumps(DEVICE))

    ran = replace(ctl, home=site)("modules")

    assert 1 == ran.code
    assert [
        f"{site}/modules/bad.yaml: bind: unknown key (did you mean binds?)",
        "module alone requires nobody, which is not there",
        f"{site}/cdi/bad.yaml: kind: 'x' is not a kind of devices (write vendor.com/class)",
        f"device v.com/gpu=0 is in {site}/cdi/again.json and in {site}/cdi/v.json: take one away",
    ] == ran.words[:4]


def a_context(
    home: Path, *, modules: Sequence[str] = (), devices: Sequence[str] = (), **env: str
) -> Context:
    """What a command that runs something has of the world."""
    console = Console(io.StringIO(), io.StringIO(), io.StringIO())
    return Context(Namespace(modules=[*modules], devices=[*devices]), console, env, home)


def test_what_a_run_gets(site: Path) -> None:
    """A run gets the default modules or those that are named, by the flag or a variable, and its
    devices; a bad file that it does not ask for is a line."""
    (site / "modules/mpi.yaml").unlink()
    (site / "modules/bad.yaml").write_text("bind: []")
    settings = run_settings(a_context(site))

    nothing = added_here(a_context(site), settings)
    named = added_here(
        a_context(site, modules=["base"], devices=["/dev/null", "v.com/gpu=0"]), settings
    )
    variable = added_here(a_context(site, REGISTRYD_MODULE="base"), settings)

    base = EnvChange("BASE", "here")
    assert nothing is not None and named is not None and variable is not None
    assert None is added_here(a_context(site, modules=["none"]), settings)
    assert None is added_here(a_context(site), RunConfig(modules=site / "nowhere"))
    assert (Edits(), 1) == (nothing.edits, len(nothing.notes))
    assert Edits(env=(base,), devices=(Device("/dev/null", "/dev/null"),)) == named.edits
    assert (base,) == variable.edits.env
    with pytest.raises(LaunchRefused, match=r"bad\.yaml: bind: unknown key"):
        added_here(a_context(site, modules=["bad"]), settings)


def test_whose_file(site: Path, tmp_path: Path) -> None:
    """A key that a user's file does not say is as the machine's file says."""
    machine = tmp_path / "machine.toml"
    machine.write_text('[run]\nmodules = "/m"\nenv = ["A=1"]\n')
    own = site / ".config/registryd/config.toml"

    both = run_settings(a_context(site), machine)
    assert (site / "modules", ("A=1",)) == (both.modules, both.env)
    own.write_text("[access]\n")
    assert Path("/m") == run_settings(a_context(site), machine).modules
    own.unlink()
    assert Path("/m") == run_settings(a_context(site), machine).modules
    assert RunConfig() == run_settings(a_context(site), tmp_path / "none")
