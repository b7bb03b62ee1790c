"""What is written for each runtime, what is left to a person, and what is read back: as values."""

from __future__ import annotations

import json
import tomllib

import pytest

from cache.errors import Fault
from registryd.oci.errors import UsageError
from registryd.runtimes import buildkit, containerd, docker, podman
from registryd.runtimes.errors import SetupBlocked
from registryd.runtimes.mark import mark_line, mark_of
from registryd.runtimes.plan import Plan, Seen
from registryd.runtimes.table import ALIASES, RUNTIMES

ADDRESS = "127.0.0.1:5050"
PLAN = Plan(ADDRESS)
CERTS = "etc/containerd/certs.d"
HERE = f'[host."http://{ADDRESS}"]\n'
CRI = f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/{CERTS}"\n'
TABLE = '[[registry]]\nlocation = "docker.io"\n'
OURS = f'{TABLE}[[registry.mirror]]\nlocation = "{ADDRESS}/docker.io"\ninsecure = true\n'


@pytest.mark.parametrize("name", RUNTIMES)
def test_what_is_written_is_read_back(name: str) -> None:
    """A runtime with our files alone asks the address, for all registries of the plan."""
    runtime = RUNTIMES[name]
    files = runtime.decide(PLAN, Seen()).files
    reading = runtime.read(Seen({file.path: file.content for file in files}), frozenset({ADDRESS}))

    if name == "apptainer":
        assert ((), None) == (files, reading)
    elif name == "slurm":  # its scripts ask by registryctl, and nothing of its own asks
        assert (True, None) == (bool(files), reading)
    else:
        assert reading is not None
        assert (ADDRESS, tuple(runtime.REGISTRIES)) == (reading.address, reading.registries)


def test_containerd() -> None:
    """One host that pulls and resolves, and does not wait long for a daemon that is away."""
    (file,) = containerd.decide(PLAN, Seen()).files

    assert f"{CERTS}/_default/hosts.toml" == file.path
    host = {"capabilities": ["pull", "resolve"], "dial_timeout": "200ms"}
    assert {"host": {f"http://{ADDRESS}": host}} == tomllib.loads(file.content)


def test_podman() -> None:
    """A table for each registry; the mirror's path begins with the registry."""
    (file,) = podman.decide(Plan(ADDRESS, ("ghcr.io",)), Seen()).files

    mirror = {"location": f"{ADDRESS}/ghcr.io", "insecure": True}
    wanted = {"registry": [{"location": "ghcr.io", "mirror": [mirror]}]}
    assert wanted == tomllib.loads(file.content)


def test_docker_and_buildkit() -> None:
    """docker has one list, buildkit a table for a registry and one for us."""
    (json_file,) = docker.decide(PLAN, Seen()).files
    (toml_file,) = buildkit.decide(Plan(ADDRESS, ("quay.io",)), Seen()).files

    assert {"registry-mirrors": [f"http://{ADDRESS}"]} == json.loads(json_file.content)
    wanted = {ADDRESS: {"http": True}, "quay.io": {"mirrors": [f"{ADDRESS}/quay.io"]}}
    assert {"registry": wanted} == tomllib.loads(toml_file.content)


OTHERS = [
    ("podman", {podman.OWN: "# mine\n"}, "50-registryd.conf is not ours"),
    ("podman", {podman.MAIN: TABLE}, "registries.conf has a table of its own for docker.io"),
    ("podman", {podman.MAIN: '[[registry]]\nprefix = "*.io"\n'}, "for docker.io"),
    ("docker", {docker.PATH: '{"debug": true}'}, '"registry-mirrors": ["http://127.0.0.1:5050"]'),
    ("docker", {docker.PATH: '{"registry-mirrors": ["https://other.example"]}'}, "is not ours"),
    ("buildkit", {buildkit.PATH: "debug = true\n"}, '[registry."docker.io"] mirrors ='),
    ("containerd", {f"{CERTS}/_default/hosts.toml": "server = 'x'\n"}, "above its other hosts"),
    ("containerd", {f"{CERTS}/_default/ca.crt": ""}, "holds ca.crt, which a hosts.toml would"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "files", "said"), OTHERS)
def test_anothers_file_stands(name: str, files: dict[str, str], said: str) -> None:
    """In its place nothing is written, and one line says what to put where."""
    registries = ("docker.io",) if name != "containerd" else ()

    decision = RUNTIMES[name].decide(Plan(ADDRESS, registries), Seen(files))

    assert () == decision.files
    assert 1 == len(decision.todo)
    assert said in decision.todo[0]


BY_HAND = [
    ("podman", {podman.MAIN: OURS}),
    ("docker", {docker.PATH: f'{{"registry-mirrors": ["http://{ADDRESS}/"], "debug": true}}'}),
    ("containerd", {f"{CERTS}/_default/hosts.toml": HERE}),
    (
        "buildkit",
        {
            buildkit.PATH: f'[registry."{ADDRESS}"]\nhttp = true\n'
            f'[registry."docker.io"]\nmirrors = ["{ADDRESS}/docker.io"]\n'
        },
    ),
]


@pytest.mark.parametrize(("name", "files"), BY_HAND)
def test_what_is_set_up_by_hand_needs_nothing(name: str, files: dict[str, str]) -> None:
    """Another's file that asks us already is as good as ours, and is read as such."""
    registries = ("docker.io",) if name != "containerd" else ()
    seen = Seen(files)

    decision = RUNTIMES[name].decide(Plan(ADDRESS, registries), seen)

    assert ((), (), ()) == (decision.files, decision.todo, decision.exceptions)
    assert RUNTIMES[name].read(seen, frozenset({ADDRESS})) is not None
    assert RUNTIMES[name].read(seen, frozenset({"127.0.0.1:1"})) is None


def test_some_registries_are_anothers() -> None:
    """The others are written all the same."""
    plan = Plan(ADDRESS, ("docker.io", "ghcr.io"))

    decision = podman.decide(plan, Seen({podman.MAIN: TABLE}))

    assert podman.content(ADDRESS, ("ghcr.io",)) == decision.files[0].content
    assert 1 == len(decision.todo)


def test_folders_switch_the_default_off() -> None:
    """A folder of a registry, even an empty one, is named; one that asks us is not."""
    seen = Seen(
        {f"{CERTS}/b.io/hosts.toml": HERE, f"{CERTS}/c.io/hosts.toml": ""},
        frozenset({f"{CERTS}/{name}" for name in ("a.io", "b.io", "c.io", "_default")}),
    )

    decision = containerd.decide(PLAN, seen)

    assert 1 == len(decision.files)
    first, second = decision.exceptions
    assert "a.io: remove the empty folder, or put" in first
    assert f"c.io: put {HERE.strip()}" in second


CONFIGS = [
    ({containerd.CONFIG: "version = 2\n"}, "grpc.v1.cri"),
    ({containerd.CONFIG: "version = 3\n"}, "cri.v1.images"),
    ({containerd.CONFIG: CRI}, ""),
    ({containerd.CONFIG: CRI.replace('"/', '"/other:/')}, ""),
    ({containerd.CONFIG: CRI.replace('"/', '"/other/')}, "grpc.v1.cri"),
    ({containerd.CONFIG: 'disabled_plugins = ["cri"]\n'}, ""),
    ({containerd.CONFIG: "", "etc/containerd/conf.d/a.toml": CRI}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("files", "said"), CONFIGS)
def test_kubernetes_needs_config_path(files: dict[str, str], said: str) -> None:
    """A config.toml that does not name the folder is to be changed by a person."""
    todo = containerd.decide(PLAN, Seen(files)).todo

    assert bool(said) == bool(todo)
    assert said in "".join(todo)


@pytest.mark.parametrize("name", ["containerd", "podman", "docker", "buildkit"])
def test_what_no_one_can_read_stops_it(name: str) -> None:
    """Where the runtime cannot read what is there, nothing is added to it."""
    places = {
        "containerd": containerd.CONFIG,
        "podman": podman.MAIN,
        "docker": docker.PATH,
        "buildkit": buildkit.PATH,
    }

    with pytest.raises(SetupBlocked, match="mend it first"):
        RUNTIMES[name].decide(PLAN, Seen({places[name]: "{ not = "}))


def test_trials_do_as_the_installed_file_does() -> None:
    """Capabilities, time limits and insecure are those that are installed; nobody else is asked."""
    known = frozenset({ADDRESS})
    hosts = HERE + 'capabilities = ["resolve"]\n'
    by_containerd = containerd.read(Seen({f"{CERTS}/x.io/hosts.toml": hosts}), known)
    by_podman = podman.read(Seen({podman.MAIN: OURS.replace("insecure = true\n", "")}), known)

    assert by_containerd is not None
    assert by_podman is not None
    server = {"server": "http://registryd-doctor.invalid"}
    host = {f"http://{ADDRESS}": {"capabilities": ["resolve"]}}
    assert {**server, "host": host} == tomllib.loads(by_containerd.trial)
    mirror = {"location": f"{ADDRESS}/localhost"}
    wanted = {"registry": [{"location": podman.MADE_UP, "mirror": [mirror]}]}
    assert wanted == tomllib.loads(by_podman.trial)


@pytest.mark.parametrize(
    "address", ["", "5050", "10.0.0.1:5050", "127.0.0.1", "127.0.0.1:0", '127.0.0.1:1"\n', "a.b:80"]
)
def test_an_address_is_of_this_machine(address: str) -> None:
    """What is no HOST:PORT, or is elsewhere, never comes into a file."""
    with pytest.raises(UsageError):
        Plan(address)


@pytest.mark.parametrize("registry", ["", "../x", "a b", 'a"b', "_default", "A.io"])
def test_a_registry_is_a_name(registry: str) -> None:
    """What is no registry never comes into a path."""
    with pytest.raises(Fault):
        Plan(ADDRESS, (registry,))


def test_podman_takes_no_port() -> None:
    """A colon in a mirror's path is no name to podman."""
    with pytest.raises(UsageError, match="without one"):
        podman.decide(Plan(ADDRESS, ("r.io:5000",)), Seen())


def test_a_mark_fits_its_content_only() -> None:
    """One changed letter, and the file is not ours any more; another's comment is no mark."""
    line = mark_line("a\n", 2)

    assert [(2, True), (2, False)] == [
        (mark.folders, mark.unchanged)
        for text in ("a\n", "b\n")
        if (mark := mark_of(line + text)) is not None
    ]
    assert mark_of("# a\na\n") is None
    assert mark_of("a\n", beside=line) is not None


def test_other_names() -> None:
    """Each other name means a runtime."""
    assert set(ALIASES.values()) <= set(RUNTIMES)
