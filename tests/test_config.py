"""The configuration file: what it may say, and what is said when it is wrong."""

import dataclasses
from pathlib import Path

import pytest

from registryd.config import (
    CacheConfig,
    Config,
    Listen,
    RegistryConfig,
    default_config,
    load,
    system_places,
    user_places,
)
from registryd.oci.errors import ConfigInvalid

REGISTRY = 'registries."registry.example.com"'
PIN = "sha256:" + "0" * 64


def write(folder: Path, content: str | bytes) -> Path:
    """A configuration file with this content."""
    file = folder / "config.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


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

BAD = [
    ("[daemon]\nsockt = 1", "daemon.sockt: unknown key (did you mean socket?)"),
    ("[demon]", "demon: unknown key (did you mean daemon?)"),
    (
        "zzz = 1",
        "zzz: unknown key (the keys here are daemon, cache, registries, transfer, access, hosts,",
    ),
    ("[cache]\nroot = 5", "cache.root: 5 is not a path in quotes"),
    ('[cache]\nroot = "here"', 'cache.root: "here" is not an absolute path (it must begin with /)'),
    ("cache = 1", "cache: 1 is not a table"),
    ("registries = []", "registries: [] is not a table"),
    ("[daemon]\nsocket_mode = 666", "daemon.socket_mode: 666 is not a mode from 0o000 to 0o777"),
    ("[daemon]\nsocket_mode = true", "daemon.socket_mode: true is not a mode such as 0o666"),
    ('[daemon]\nlog_level = "loud"', 'daemon.log_level: "loud" is not allowed (use one of "debug"'),
    ("[daemon]\ndrain_timeout = 30", "daemon.drain_timeout: 30 is not a time (a time is written"),
    ('[daemon]\ndrain_timeout = "2h"', 'daemon.drain_timeout: "2h" is not in the range from 0s to'),
    ("[daemon]\nlisten = 5050", "daemon.listen: 5050 is not a list of tables"),
    ("[[daemon.listen]]", "daemon.listen[0].address: is missing, and has no default"),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\n[[daemon.listen]]\naddress = "5050"',
        'daemon.listen[1].address: "5050" is not an address (write "127.0.0.1:5050")',
    ),
    (
        '[[daemon.listen]]\naddress = "0.0.0.0:5050"',
        'daemon.listen[0]: "0.0.0.0:5050" is not an address of this machine alone',
    ),
    (
        '[[daemon.listen]]\naddress = "registry.example.com:5050"',
        'daemon.listen[0].address: "registry.example.com:5050" is not an address of this machine',
    ),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\ntls_key = "/k"',
        "daemon.listen[0]: tls_cert and tls_key belong together: set both or neither",
    ),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\ntls_cert = "/c"',
        "daemon.listen[0]: tls_cert and tls_key belong together: set both or neither",
    ),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\nclient_ca = "/ca"',
        "daemon.listen[0]: client_ca needs tls_cert and tls_key",
    ),
    (
        '[[daemon.listen]]\naddress = "[::]:5050"\ntls_cert = "/c"\ntls_key = "/k"',
        'daemon.listen[0]: "[::]:5050" is not an address of this machine alone',
    ),
    ('[[daemon.listen]]\naddress = "127.0.0.1:65536"', 'address: "127.0.0.1:65536" is not an addr'),
    (
        '[registries."ghcr.io"]\ntag_ttl = "5 minutes"',
        'registries."ghcr.io".tag_ttl: \'5 minutes\' is not a time (a time is written "300ms", ',
    ),
    (f'[{REGISTRY}]\npassword = "x"', f"{REGISTRY}.password: unknown key (did you mean password_"),
    (f'[{REGISTRY}]\ntls_verify = "no"', f'{REGISTRY}.tls_verify: "no" is not true or false'),
    (f"[{REGISTRY}]\nmax_connections = 0", "max_connections: 0 is not in the range from 1 to 1024"),
    (f"[{REGISTRY}]\nmax_connections = true", "true is not a whole number from 1 to 1024"),
    (f"[{REGISTRY}]\nmax_connections = 2.0", "2.0 is not a whole number from 1 to 1024"),
    (f'[{REGISTRY}]\nusername = "ada"', f"{REGISTRY}: username and password_file belong together"),
    (f'[{REGISTRY}]\nclient_key = "/k"', f"{REGISTRY}: client_cert and client_key belong together"),
    (
        f'[{REGISTRY}]\nplain_http = true\nendpoint = "https://h"',
        f"{REGISTRY}: plain_http contradicts the endpoint's https:",
    ),
    (f'[{REGISTRY}]\nendpoint = "h:5000"', f'{REGISTRY}.endpoint: "h:5000" is not an endpoint ('),
    (f'[{REGISTRY}]\nendpoint = "https://[::1"', f"{REGISTRY}.endpoint: is not an URL (write "),
    (f'[{REGISTRY}]\nendpoint = "https://h:x"', f"{REGISTRY}.endpoint: is not an URL (write "),
    (f'[{REGISTRY}]\nendpoint = "https://"', f'{REGISTRY}.endpoint: "https://" is not an endp'),
    (f'[{REGISTRY}]\nendpoint = "unix://run/s"', f"{REGISTRY}.endpoint: "),
    (
        '[registries."index.docker.io"]',
        'registries."index.docker.io": "index.docker.io" is not how images are named (write "docke',
    ),
    ('[registries."GHCR.io"]', 'registries."GHCR.io": "GHCR.io" is not how images are named (wr'),
    (
        '[registries."https://h"]',
        'registries."https://h": "https://h" is not a registry (write HOST or HOST:PORT)',
    ),
    ('[registries."h:99999"]', '"h:99999" is not a registry'),
    (
        f'[{REGISTRY}.tags]\n"a b" = "0s"',
        f'{REGISTRY}.tags."a b": "a b" is not a pattern of tags (',
    ),
    (f'[{REGISTRY}.tags]\n"A:1" = "0s"', f'{REGISTRY}.tags."A:1": "A:1" is not a pattern of tags'),
    (f'[{REGISTRY}.tags]\n"a:b:c" = "0s"', '"a:b:c" is not a pattern of tags (write "REPOSITORY'),
    (f'[{REGISTRY}.tags]\n"" = "0s"', f'{REGISTRY}.tags."": "" is not a pattern of tags'),
    (f'[{REGISTRY}.tags]\n"*" = 5', f'{REGISTRY}.tags."*": 5 is not a time (a time is written'),
    (f'[{REGISTRY}.tags]\n"*" = "366d"', f'{REGISTRY}.tags."*": "366d" is not in the range from'),
    (f'[{REGISTRY}]\ntags = ["*"]', f'{REGISTRY}.tags: ["*"] is not a table'),
    (
        f'[{REGISTRY}.pins]\n"a:*" = "{PIN}"',
        f'{REGISTRY}.pins."a:*": "a:*" does not name one tag (',
    ),
    (
        f'[{REGISTRY}.pins]\na = "{PIN}"',
        f'{REGISTRY}.pins.a: "a" does not name one tag (write "REP',
    ),
    (
        f'[{REGISTRY}.pins]\n"a/:1" = "{PIN}"',
        '"a/:1" does not name one tag (write "REPOSITORY:TAG"',
    ),
    (f'[{REGISTRY}.pins]\n"a:.1" = "{PIN}"', '"a:.1" does not name one tag'),
    (
        f'[{REGISTRY}.pins]\n"a:1" = "sha256:x"',
        f'{REGISTRY}.pins."a:1": "sha256:x" is not a digest (write "sha256:" and 64 hex digits)',
    ),
    (f'[{REGISTRY}.pins]\n"a:1" = "latest"', '"latest" is not a digest (write "sha256:" and 64'),
    (
        f'[{REGISTRY}]\nmissing_tags = "keep"',
        '"keep" is not allowed (use one of "refuse", "serve")',
    ),
    (f'[{REGISTRY}]\noffline = "yes"', f'{REGISTRY}.offline: "yes" is not true or false'),
    ("[cache]\nlow_water = 95", "cache: low_water is above high_water"),
    ('[cache]\nlower = ["shared"]', 'cache.lower[0]: "shared" is not an absolute path'),
    ('[cache]\nlower = [{path = "/s", open = true}]', "cache.lower[0].open: unknown key"),
    ('[cache]\nlower = ["/s", {path = "/s"}]', "cache: lower: name each store once"),
    ('[cache]\nroot = "/r"\nlower = ["/r"]', "cache: lower: /r is the cache itself"),
    ('[cache]\nmax_size = "-1"', "cache.max_size: '-1' is not a size"),
    ("[transfer]\njobs = 0", "transfer.jobs: 0 is not in the range from 1 to 256"),
    ('[transfer]\nrange_size = "4MX"', "transfer.range_size: '4MX' has the unit 'MX', which is no"),
    ("[transfer]\nrange_size = 32", "transfer.range_size: 32 is not in the range from 64KiB to 4G"),
    ("[transfer]\nrange_size = true", "transfer.range_size: true is not a size (a size is written"),
    ('[access]\nallow = "*"', 'access.allow: "*" is not a list of registries'),
    ('[access]\nallow = ["a.io", "*io"]', 'access.allow[1]: "*io" is not a registry'),
    ('[access]\nauthfiles = ["auth.json"]', 'access.authfiles[0]: "auth.json" is not an absolute'),
    ("[daemon", "is not TOML: Expected ']'"),
    ("a = " + "[" * 5000, "is not TOML: "),
    ("a = " + "1" * 5000, "is not TOML: "),
    ("[transfer]\njobs = 0x" + "f" * 9000, "transfer.jobs: this int is not in the range from 1 to"),
    ("[transfer]\nrange_size = 0x" + "f" * 9000, "transfer.range_size: "),
    ("transfer.jobs" + ".a" * 9000 + " = 1", "transfer.jobs: this dict is not a whole number"),
    (b"a = '\xff'", "is not UTF-8 text (byte 5)"),
]


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
