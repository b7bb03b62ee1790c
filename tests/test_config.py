"""The configuration file: what it may say, and what is said when it is wrong."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest

from registryd.config import (
    AccessConfig,
    CacheConfig,
    ClusterConfig,
    Config,
    DaemonConfig,
    HostsConfig,
    Listen,
    RegistryConfig,
    SignatureConfig,
    TransferConfig,
    default_config,
    load,
    system_places,
    user_places,
)
from registryd.oci.errors import ConfigInvalid
from tests.wrong_configs import BAD, REGISTRY

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"


def write(folder: Path, content: str | bytes) -> Path:
    """A configuration file with this content."""
    file = folder / "config.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def keys_of(shape: type[Any]) -> set[str]:
    """The keys of one dataclass."""
    return {each.name for each in dataclasses.fields(shape)}


# --- the example -------------------------------------------------------------------------------


def test_example_holds_the_defaults() -> None:
    """Every value in the example is the default of the code."""
    config = load(EXAMPLE)
    defaults = default_config(system_places())

    assert {"registry.example.com": RegistryConfig()} == config.registries
    signed = SignatureConfig((Path("/etc/registryd/cosign.pub"),))
    assert {"registry.example.com/signed": signed} == config.signatures
    assert defaults == dataclasses.replace(config, registries={}, signatures={})


def test_example_names_every_key() -> None:
    """Every key that the code knows is in the example (the reverse: an unknown key cannot load)."""
    raw = tomllib.loads(EXAMPLE.read_text())

    assert keys_of(Config) == set(raw)
    assert keys_of(DaemonConfig) == set(raw["daemon"])
    assert keys_of(Listen) == set(raw["daemon"]["listen"][0])
    assert keys_of(CacheConfig) == set(raw["cache"])
    assert keys_of(RegistryConfig) == set(raw["registries"]["registry.example.com"])
    assert keys_of(TransferConfig) == set(raw["transfer"])
    assert keys_of(AccessConfig) == set(raw["access"])
    assert keys_of(ClusterConfig) == set(raw["cluster"])
    (signed,) = raw["signatures"].values()
    assert keys_of(SignatureConfig) == set(signed)
    assert keys_of(HostsConfig) == set(raw["hosts"])


def test_example_explains_every_key() -> None:
    """Above each key stands a sentence."""
    lines = EXAMPLE.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and line[0] not in "#["]
    silent = [lines[number] for number in keys if not lines[number - 1].startswith("# ")]

    assert keys
    assert [] == silent


# --- good files --------------------------------------------------------------------------------


def test_empty_file_is_the_default(tmp_path: Path) -> None:
    """An empty file gives the defaults and the machine's places."""
    config = load(write(tmp_path, ""))

    assert default_config(system_places()) == config
    assert Path("/var/lib/registryd") == config.cache.root
    assert Path("/run/registryd/registryd.sock") == config.daemon.socket


def test_places_are_the_callers(tmp_path: Path) -> None:
    """Root and socket that the file leaves out come from the places that the caller gives."""
    places = user_places({}, Path("/home/ada"))
    config = load(write(tmp_path, '[daemon]\nsocket = ""\n'), places)

    assert Path("/home/ada/.local/share/registryd") == config.cache.root
    assert config.daemon.socket is None


def test_every_kind_is_read(tmp_path: Path) -> None:
    """Sizes, times, modes, paths, lists and tables become values of the code."""
    content = """
        [daemon]
        socket_mode = 0o660
        drain_timeout = "1m30s"
        listen = [{ address = "[::1]:0", default_registry = "ghcr.io" }, { address = "[::1]:1" }]
        [cache]
        root = "/srv/cache"
        [registries."ghcr.io"]
        endpoint = "unix:///run/other.sock"
        username = "ada"
        password_file = "/run/secrets/ada"
        [registries."localhost:5000"]
        plain_http = true
        tag_ttl = "0"
        [transfer]
        range_size = "1.5MiB"
        [access]
        allow = ["docker.io", "*.example.com"]
        authfiles = ["/etc/containers/auth.json"]
    """
    config = load(write(tmp_path, content))

    assert 0o660 == config.daemon.socket_mode
    assert 90.0 == config.daemon.drain_timeout
    assert (Listen("[::1]:0", "ghcr.io"), Listen("[::1]:1")) == config.daemon.listen
    assert Path("/srv/cache") == config.cache.root
    assert Path("/run/secrets/ada") == config.registries["ghcr.io"].password_file
    assert RegistryConfig(plain_http=True, tag_ttl=0.0) == config.registries["localhost:5000"]
    assert 3 * 2**19 == config.transfer.range_size
    assert ("docker.io", "*.example.com") == config.access.allow
    assert (Path("/etc/containers/auth.json"),) == config.access.authfiles


def test_rules_for_tags_keep_their_order(tmp_path: Path) -> None:
    """Patterns, pins and what goes with them; the first pattern that fits will decide."""
    pin = "sha256:" + "0" * 64
    content = f"""
        [registries."ghcr.io"]
        offline = true
        missing_tags = "serve"
        [registries."ghcr.io".tags]
        "z/*:v*" = "1h"
        "*:latest" = "0s"
        "a" = "1d"
        [registries."ghcr.io".pins]
        "org/app:1.2_x" = "{pin}"
    """
    config = load(write(tmp_path, content)).registries["ghcr.io"]

    assert [("z/*:v*", 3600.0), ("*:latest", 0.0), ("a", 86400.0)] == list(config.tags.items())
    assert ({"org/app:1.2_x": pin}, True, "serve") == (
        config.pins,
        config.offline,
        config.missing_tags,
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "0.0.0.0:1", "[::]:1", "192.0.2.7:1"])
def test_listener_with_tls(tmp_path: Path, address: str) -> None:
    """With a certificate, a key and the authority of its clients it may be reached from afar."""
    table = f'[[daemon.listen]]\naddress = "{address}"\n'
    files = 'tls_cert = "/c"\ntls_key = "/k"\nclient_ca = "/ca"\n'
    (listen,) = load(write(tmp_path, table + files)).daemon.listen

    assert Listen(address, "docker.io", Path("/c"), Path("/k"), Path("/ca")) == listen
    assert (address == "127.0.0.1:1") == listen.loopback


def test_no_listener_at_all(tmp_path: Path) -> None:
    """An empty list is a choice, not a request for the default."""
    assert () == load(write(tmp_path, "[daemon]\nlisten = []\n")).daemon.listen


def test_config_is_frozen() -> None:
    """Nobody changes a configuration in place, not even its registries."""
    registries = {"ghcr.io": RegistryConfig()}
    config = Config(cache=CacheConfig(Path("/c")), registries=registries)
    registries.clear()

    assert {"ghcr.io"} == set(config.registries)
    with pytest.raises(TypeError):
        config.registries["quay.io"] = RegistryConfig()  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.cache.root = Path("/d")  # type: ignore[misc]


# --- bad files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "said"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_one_line(content: str | bytes, said: str, tmp_path: Path) -> None:
    """A bad file is one line with the file, the key's path, what is wrong and what is allowed."""
    file = write(tmp_path, content)

    with pytest.raises(ConfigInvalid) as caught:
        load(file)

    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert said in line
    assert [line] == line.splitlines()
    assert len(line) < len(str(file)) + 240


def test_secrets_are_not_repeated(tmp_path: Path) -> None:
    """A password written where none belongs is not printed."""
    for lines in (
        f'[{REGISTRY}]\npasswrd = "hunter2"',
        f'[{REGISTRY}]\nendpoint = "https://ada:hunter2@h/"',
        f'[{REGISTRY}]\nendpoint = "ftp://ada:hunter2@h/"',
        f'[{REGISTRY}]\nendpoint = "https://h?token=hunter2"',
        f'[{REGISTRY}]\nendpoint = "https://ada:hunter2@h:x/"',
    ):
        with pytest.raises(ConfigInvalid) as caught:
            load(write(tmp_path, lines))

        assert "hunter2" not in str(caught.value)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, or a folder, is one line too."""
    for path, said in ((tmp_path / "none", "No such file or directory"), (tmp_path, "directory")):
        with pytest.raises(ConfigInvalid, match=said) as caught:
            load(path)

        assert str(caught.value).startswith(f"{path}: cannot be read: ")


def test_wrong_values_are_cut(tmp_path: Path) -> None:
    """A long or many-lined value does not flood the screen."""
    for value in ("x" * 10_000, "\\n" * 5_000, "\\u2028" * 5_000):
        with pytest.raises(ConfigInvalid) as caught:
            load(write(tmp_path, f'[cache]\nroot = "{value}"'))

        assert len(str(caught.value)) < 400
        assert 1 == len(str(caught.value).splitlines())


# --- places ------------------------------------------------------------------------------------


def test_user_places_follow_xdg() -> None:
    """The XDG variables decide where a user's things are."""
    environ = {
        "XDG_DATA_HOME": "/d",
        "XDG_CONFIG_HOME": "/c",
        "XDG_RUNTIME_DIR": "/run/user/7",
    }
    places = user_places(environ, Path("/home/ada"))

    assert Path("/d/registryd") == places.root
    assert Path("/c/registryd/config.toml") == places.config
    assert Path("/run/user/7/registryd/registryd.sock") == places.socket


def test_user_places_without_xdg() -> None:
    """Without them (or with relative ones, which the specification ignores) the home is used."""
    for environ in (
        {},
        dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"), "x"),
    ):
        places = user_places(environ, Path("/home/ada"))

        assert Path("/home/ada/.local/share/registryd") == places.root
        assert Path("/home/ada/.config/registryd/config.toml") == places.config
        assert places.root / "registryd.sock" == places.socket
