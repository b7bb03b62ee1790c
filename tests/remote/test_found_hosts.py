"""What is found on a machine: which file counts, and what points at ourselves."""

from __future__ import annotations

from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest

from registryd.config import CacheConfig, Config, HostsConfig
from registryd.host_services import find_hosts
from registryd.remote.found_hosts import HostFiles, own_addresses, read_hosts, usual_files
from registryd.runtimes import containerd, podman
from registryd.runtimes.mark import mark_line
from tests.remote.test_credentials import as_user


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def conf(location: str, mirror: str) -> str:
    return f'[[registry]]\nlocation = "{location}"\n[[registry.mirror]]\nlocation = "{mirror}"\n'


@pytest.fixture
def files(tmp_path: Path) -> HostFiles:
    """The usual places, below another root."""
    etc = tmp_path / "etc"
    return HostFiles(
        (tmp_path / "home/registries.conf", etc / "registries.conf"),
        (etc / "registries.conf.d",),
        (tmp_path / "home/certs.d", etc / "containers/certs.d", etc / "docker/certs.d"),
        (etc / "containerd/certs.d", etc / "docker/certs.d"),
    )


def names(files: HostFiles, registry: str, **settings: object) -> list[str]:
    """The mirrors of a registry."""
    found = read_hosts(files, **settings)  # type: ignore[arg-type]
    assert found.problems == ()
    return [each.name for each in found.course(registry, "team/app").mirrors]


def test_nothing_is_there(files: HostFiles) -> None:
    """No file says nothing, and is no problem."""
    found = read_hosts(files)

    assert (False, ()) == (found.says, found.problems)
    assert found.certificates_of("docker.io") is None


def test_drop_ins_and_users(files: HostFiles) -> None:
    """A user's file stands for the machine's; drop-ins come after, by their names."""
    home, etc = files.registries_conf
    write(etc, conf("docker.io", "machine.example"))
    first = names(files, "docker.io")
    write(home, conf("docker.io", "user.example") + conf("quay.io", "user.example"))
    second = names(files, "docker.io")
    write(files.drop_ins[0] / "50-b.conf", conf("docker.io", "b.example"))
    write(files.drop_ins[0] / "10-a.conf", conf("docker.io", "a.example"))
    write(files.drop_ins[0] / "90-c.txt", conf("docker.io", "c.example"))

    assert [["machine.example"], ["user.example"]] == [first, second]
    assert ["b.example"] == names(files, "docker.io")
    assert ["user.example"] == names(files, "quay.io")


@pytest.mark.parametrize(
    ("folder", "registry", "found"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("_default", "ghcr.io", True),
        ("_default", "127.0.0.1:5000", False),
        ("r.example_5000_", "r.example:5000", True),
        ("r.example:5000", "r.example:5000", True),
        ("r.example", "r.example:5000", False),
    ],
)
def test_folders_of_hosts(files: HostFiles, folder: str, registry: str, found: bool) -> None:
    """By the registry's name in both forms; ``_default`` for all but this machine's own."""
    write(files.hosts_d[1] / folder / "hosts.toml", '[host."https://m.example"]')

    assert (["m.example"] if found else []) == names(files, registry)


def test_a_folder_without_the_file(files: HostFiles) -> None:
    """It stands for its registry, and says that there is no mirror."""
    write(files.hosts_d[0] / "_default/hosts.toml", '[host."https://m.example"]')
    (files.hosts_d[0] / "ghcr.io").mkdir()

    assert [] == names(files, "ghcr.io")


def test_registries_conf_comes_first(files: HostFiles) -> None:
    """The first that speaks of a registry decides alone."""
    write(files.hosts_d[0] / "_default/hosts.toml", '[host."https://toml.example"]')
    write(files.registries_conf[1], conf("docker.io", "conf.example"))

    assert ["conf.example"] == names(files, "docker.io")
    assert ["toml.example"] == names(files, "ghcr.io")


@pytest.mark.parametrize("address", ["127.0.0.1:5050", "localhost:5050", "[::1]:5050"])
def test_we_are_no_mirror_of_ours(files: HostFiles, address: str) -> None:
    """A mirror at a listener of this daemon, by any name of loopback, is left out."""
    write(files.registries_conf[1], conf("docker.io", f"{address}/docker.io"))
    write(files.hosts_d[0] / "_default/hosts.toml", f'[host."http://{address}"]')
    own = own_addresses(["127.0.0.1:5050", "unix:/x"])

    assert [] == names(files, "docker.io", own=own)
    assert [] == names(files, "ghcr.io", own=own)
    assert [address] == names(files, "ghcr.io", own=own_addresses(["127.0.0.1:5051"]))


def test_files_of_setup_are_left_out(tmp_path: Path) -> None:
    """What ``setup`` wrote for the node's runtimes is not read back, be the daemon where it is."""
    drop_in = podman.content("127.0.0.1:7777", ("docker.io",))
    default = containerd.content("127.0.0.1:7777")
    conf_file = write(tmp_path / "registries.conf", mark_line(drop_in, 0) + drop_in)
    toml = write(tmp_path / "certs.d/_default/hosts.toml", mark_line(default, 0) + default)
    hosts = HostsConfig(
        registries_conf=(conf_file,), certs_d=(tmp_path / "n",), hosts_d=(toml.parent.parent,)
    )
    config = Config(cache=CacheConfig(tmp_path), hosts=hosts)
    found = [
        find_hosts(config, {}).course(each, "a/b").mirrors for each in ("docker.io", "ghcr.io")
    ]
    toml.write_text(toml.read_text() + "# changed by hand\n")
    changed = find_hosts(config, {}).course("ghcr.io", "a/b").mirrors

    assert [(), ()] == found
    assert ["127.0.0.1:7777"] == [each.name for each in changed]


def test_certificates(files: HostFiles) -> None:
    """The first folder of a host counts; it is told whether one is there to show."""
    user, containers, docker = files.certs_d
    write(docker / "r.example:5000/ca.crt", "")
    write(docker / "registry-1.docker.io/ca.crt", "")
    write(containers / "s.example/me.cert", "")
    write(containers / "r.example:5000/other.crt", "")
    (user / "r.example:5000").mkdir(parents=True)
    found = read_hosts(files)
    two, hub, shown = map(found.certificates_of, ("r.example:5000", "docker.io", "s.example"))

    assert two is not None and hub is not None and shown is not None
    assert (containers / "r.example:5000", False) == (two.folder, two.shows)
    assert docker / "registry-1.docker.io" == hub.folder
    assert shown.shows


def test_problems(files: HostFiles) -> None:
    """What cannot be used is named, and the rest counts."""
    write(files.registries_conf[1], "[[registry]]\nblocked = true\n")
    write(files.drop_ins[0] / "a.conf", conf("docker.io", "m.example"))
    bad = write(files.hosts_d[0] / "ghcr.io/hosts.toml", "server = 1")
    found = read_hosts(files)

    assert [str(files.registries_conf[1]), str(bad)] == [
        each.partition(": ")[0] for each in found.problems
    ]
    assert ["m.example"] == [each.name for each in found.course("docker.io", "x").mirrors]


def test_folders_that_are_not_for_us(files: HostFiles, tmp_path: Path) -> None:
    """What lies in another's folder says nothing, and stops no daemon; a path that cannot be is a
    problem in words."""
    write(tmp_path / "conf.d/a.conf", conf("docker.io", "m.example"))
    locked = write(tmp_path / "home/registries.conf", conf("docker.io", "s.example")).parent
    folder = write(tmp_path / "hosts.d/ghcr.io/hosts.toml", '[host."https://s.example"]').parent
    certs = write(tmp_path / "certs.d/r.example/ca.crt", "").parent.parent
    for path, mode in ((tmp_path, 0o755), (locked, 0), (folder, 0), (certs, 0o744)):
        path.chmod(mode)
    main, rest = (
        (Path("home/registries.conf"),),
        [Path(f"{each}.d") for each in ("conf", "certs", "hosts")],
    )
    with chdir(tmp_path):  # another user cannot come this far down
        said = as_user(
            lambda: " ".join(
                str(names(HostFiles(main, *((each,) for each in rest)), registry))
                for registry in ("docker.io", "ghcr.io")
            )
        )
    long = replace(files, registries_conf=(Path(f"/{'x' * 300}"),))

    assert "['m.example'] []" == said
    assert ["File name too long"] == [
        each.rpartition(": ")[2] for each in read_hosts(long).problems
    ]


def test_usual_places() -> None:
    """A user's before the machine's; the environment's file alone; a daemon has no home."""
    home = usual_files({"XDG_CONFIG_HOME": "/c"}, Path("/home/ada"))
    chosen = usual_files({"CONTAINERS_REGISTRIES_CONF": "/r.conf"}, None)

    assert (
        Path("/c/containers/registries.conf"),
        Path("/etc/containers/registries.conf"),
    ) == home.registries_conf
    assert [
        "/c/containers/certs.d",
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
    ] == [str(each) for each in home.certs_d]
    assert ((Path("/r.conf"),), ()) == (chosen.registries_conf, chosen.drop_ins)
    assert (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d")) == chosen.certs_d
