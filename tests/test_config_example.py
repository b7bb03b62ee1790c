"""The example of a configuration: every key there is, with its default and a sentence."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from registryd.config import (
    AccessConfig,
    CacheConfig,
    ClusterConfig,
    Config,
    DaemonConfig,
    GatewayConfig,
    HostsConfig,
    Listen,
    RegistryConfig,
    RunConfig,
    SignatureConfig,
    TransferConfig,
    default_config,
    load,
    system_places,
)

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"


def keys_of(shape: type[Any]) -> set[str]:
    """The keys of one dataclass."""
    return {each.name for each in dataclasses.fields(shape)}


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
    assert keys_of(GatewayConfig) == set(raw["gateway"])
    (signed,) = raw["signatures"].values()
    assert keys_of(SignatureConfig) == set(signed)
    assert keys_of(HostsConfig) == set(raw["hosts"])
    assert keys_of(RunConfig) == set(raw["run"])


def test_example_explains_every_key() -> None:
    """Above each key stands a sentence."""
    lines = EXAMPLE.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and line[0] not in "#["]
    silent = [lines[number] for number in keys if not lines[number - 1].startswith("# ")]

    assert keys
    assert [] == silent
