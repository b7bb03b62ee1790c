"""What a reload takes over, and what it leaves for a restart."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from registryd.config import (
    AccessConfig,
    CacheConfig,
    ClusterConfig,
    Config,
    DaemonConfig,
    HostsConfig,
    Listen,
    MirrorConfig,
    RegistryConfig,
    TransferConfig,
)
from registryd.reload import CLUSTER_KEYS, IDENTITY_KEYS, REGISTRY_KEYS, taken_over, waiting
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.real.daemon import DaemonProcess, started
from tests.test_daemon import write_config

PIN = "sha256:" + "0" * 64
RUNNING = Config(
    cache=CacheConfig(Path("/c")),
    registries={"a.io": RegistryConfig(max_connections=2), "b.io": RegistryConfig(tag_ttl=1.0)},
)
TLS = Listen("127.0.0.1:5050", tls_cert=Path("/t/c"), tls_key=Path("/t/k"))


@pytest.mark.parametrize(
    "new",
    [
        RUNNING,
        replace(RUNNING, daemon=DaemonConfig(log_level="debug", listen=(TLS,))),
        replace(RUNNING, access=AccessConfig(allow=("b.io",))),
        replace(RUNNING, cluster=ClusterConfig(up=1, down=2)),
        replace(RUNNING, registries={**RUNNING.registries, "c.io": RegistryConfig(rate=3)}),
        replace(RUNNING, registries={"a.io": RegistryConfig(max_connections=2, offline=True)}),
        replace(RUNNING, hosts=HostsConfig(system_files=False)),
        replace(RUNNING, cache=CacheConfig(Path("/c"), max_size=9, low_water=70, min_free=3)),
        replace(
            RUNNING,
            registries={
                "a.io": RegistryConfig(max_connections=2, mirrors=(MirrorConfig("http://m"),))
            },
        ),
        replace(
            RUNNING,
            registries={
                "a.io": RegistryConfig(
                    max_connections=2, tag_ttl=9.0, tags={"*": 0.0}, pins={"x:1": PIN}
                ),
                "c.io": RegistryConfig(missing_tags="serve"),
            },
        ),
    ],
)
def test_what_is_taken_over_whole(new: Config) -> None:
    """The log level, certificates, the allowed registries and what is said of tags."""
    after = taken_over(RUNNING, new)
    said = {name: table for name, table in after.registries.items() if table != RegistryConfig()}

    assert [] == waiting(RUNNING, new)
    assert replace(new, registries=said) == replace(after, registries=said)
    assert said == new.registries


@pytest.mark.parametrize(
    ("new", "named"),
    [
        (replace(RUNNING, cache=CacheConfig(Path("/d"))), ["cache"]),
        (replace(RUNNING, transfer=TransferConfig(jobs=1)), ["transfer"]),
        (replace(RUNNING, access=AccessConfig(grant_ttl=1.0)), ["access"]),
        (replace(RUNNING, daemon=DaemonConfig(drain_timeout=1.0)), ["daemon"]),
        (replace(RUNNING, daemon=DaemonConfig(listen=())), ["daemon"]),
        (replace(RUNNING, daemon=DaemonConfig(listen=(Listen("[::1]:1"),))), ["daemon"]),
        (replace(RUNNING, cluster=ClusterConfig(up=1, zone="z")), ["cluster"]),
        (replace(RUNNING, registries={}), ["registries"]),
        (
            replace(RUNNING, registries={**RUNNING.registries, "c.io": RegistryConfig("http://c")}),
            ["registries"],
        ),
    ],
)
def test_what_waits_for_a_restart(new: Config, named: list[str]) -> None:
    """Everything else is left as it is, and its section is named."""
    after = taken_over(RUNNING, new)

    assert named == waiting(RUNNING, new)
    assert (RUNNING.cache, RUNNING.transfer) == (after.cache, after.transfer)
    assert RUNNING.daemon == after.daemon


def test_files_that_show_who_a_node_is() -> None:
    """Another place of them is taken over while the cluster goes on; without one it waits."""
    old, new = (
        ClusterConfig(peers=("n1",), ca_file=at / "ca", cert=at / "cert", key=at / "key")
        for at in (Path("/old"), Path("/new"))
    )
    running, moved = replace(RUNNING, cluster=old), replace(RUNNING, cluster=new)

    assert (new, []) == (taken_over(running, moved).cluster, waiting(running, moved))
    assert (old, ["cluster"]) == (taken_over(running, RUNNING).cluster, waiting(running, RUNNING))
    assert ["cluster"] == waiting(RUNNING, moved)


def test_the_keys_are_keys() -> None:
    """What is taken over of a registry and of the cluster are keys that they have."""
    assert set(REGISTRY_KEYS) <= set(RegistryConfig.__dataclass_fields__)
    assert {*CLUSTER_KEYS, *IDENTITY_KEYS} <= set(ClusterConfig.__dataclass_fields__)


# a daemon


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        server.add_image("team/app", "1", b"old")
        yield server


async def reload(daemon: DaemonProcess, config: Path, text: str) -> None:
    """Write this configuration, and wait until it is taken over."""
    config.write_text(text)
    count = sum("reloaded" in line for line in daemon.lines)
    daemon.send(signal.SIGHUP)
    async with daemon.news:
        while sum("reloaded" in line for line in daemon.lines) == count:
            await daemon.news.wait()


async def digest_of(daemon: DaemonProcess, upstream: FakeRegistry, tag: str = "1") -> str | int:
    """What a tag means to a client, or the status of the refusal."""
    path = f"/v2/{upstream.name}/team/app/manifests/{tag}"
    async with daemon.client() as client, client.get(path) as answer:
        return answer.headers["Docker-Content-Digest"] if answer.status == 200 else answer.status


async def test_allowed_registries(tmp_path: Path, upstream: FakeRegistry) -> None:
    """What is not allowed any more is refused at once, and what is allowed again is served."""
    more = f'[registries."{upstream.name}"]\nplain_http = true\n'
    config = write_config(tmp_path, more=more)
    text = config.read_text()
    async with started(config) as daemon:
        before = await digest_of(daemon, upstream)
        await reload(daemon, config, text + '[access]\nallow = ["other.io"]\n')
        refused = await digest_of(daemon, upstream)
        await reload(daemon, config, text)
        after = await digest_of(daemon, upstream)

    assert (before, 403) == (after, refused)
    assert not any("restart to apply" in line for line in daemon.lines)


async def test_what_is_said_of_tags(tmp_path: Path, upstream: FakeRegistry) -> None:
    """A shorter time, a pin and an offline registry count from the next request on."""
    old = next(digest for tag, digest in upstream_tags(upstream) if tag == "1")
    registry = f'[registries."{upstream.name}"]\nplain_http = true\n'
    config = write_config(tmp_path, more=registry)
    text = config.read_text()
    async with started(config) as daemon:
        first = await digest_of(daemon, upstream)
        new = upstream.add_image("team/app", "1", b"new")
        believed = await digest_of(daemon, upstream)
        await reload(daemon, config, text + 'tag_ttl = "0s"\n')
        fresh = await digest_of(daemon, upstream)
        await reload(daemon, config, text + f'pins = {{ "team/app:1" = "{old}" }}\n')
        pinned = await digest_of(daemon, upstream)
        await reload(daemon, config, text + "offline = true\n")
        asked = len(upstream.requests)
        await digest_of(daemon, upstream)
        offline = len(upstream.requests) - asked

    assert [old, old, new, old, 0] == [first, believed, fresh, pinned, offline]


def upstream_tags(upstream: FakeRegistry) -> list[tuple[str, str]]:
    """The tags of the image, with the digests that they mean."""
    manifests = upstream.repositories["team/app"].manifests
    by_content = {raw: name for name, (_, raw) in manifests.items() if ":" in name}
    return [(tag, by_content[manifests[tag][1]]) for tag in upstream.repositories["team/app"].tags]
