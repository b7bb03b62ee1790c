"""Image configurations: what is read, and what is refused."""

import json
from typing import Any

import pytest

from cache.content import Digest
from registryd.oci.errors import ManifestInvalid
from registryd.oci.image_config import CONFIG_LIMIT, ImageConfig, parse_config
from registryd.oci.platform import Platform

DIFF_ID = Digest.of(b"layer")


def test_a_whole_configuration() -> None:
    """Every member has its place; the platform is in normal form."""
    members = {
        "os": "linux",
        "architecture": "arm64",
        "created": "2026-01-01T00:00:00Z",
        "author": "someone",
        "rootfs": {"type": "layers", "diff_ids": [str(DIFF_ID), str(DIFF_ID)]},
        "history": [{"created_by": "x"}],
        "config": {
            "Env": ["A=b"],
            "Entrypoint": ["/entry"],
            "Cmd": ["run"],
            "WorkingDir": "/work",
            "User": "1000:1000",
            "StopSignal": "SIGTERM",
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/var": {}},
            "Labels": {"a": "b"},
        },
    }
    expected = ImageConfig(
        platform=Platform("linux", "arm64", "v8"),
        created="2026-01-01T00:00:00Z",
        author="someone",
        diff_ids=(DIFF_ID, DIFF_ID),
        env=("A=b",),
        entrypoint=("/entry",),
        cmd=("run",),
        working_dir="/work",
        user="1000:1000",
        stop_signal="SIGTERM",
        exposed_ports=("80/tcp",),
        volumes=("/var",),
        labels={"a": "b"},
    )

    assert expected == parse_config(json.dumps(members).encode())


@pytest.mark.parametrize(
    "members", [{}, {"config": None, "rootfs": None}, {"config": {"Env": None, "Labels": None}}]
)
def test_an_empty_configuration(members: dict[str, Any]) -> None:
    """What is missing or null is empty: artifacts have the configuration ``{}``."""
    assert ImageConfig(platform=Platform("", "")) == parse_config(json.dumps(members).encode())


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([], "not a JSON object"),
        ({"os": 1}, r"it\.os must be a text"),
        ({"os": "a/b"}, "cannot be part of a platform"),
        ({"created": 5}, "created must be a text"),
        ({"config": []}, "config must be an object"),
        ({"config": {"Env": ["A=b", 5]}}, r"config\.Env\[\] must be a text"),
        ({"config": {"Cmd": "run"}}, r"config\.Cmd must be a list"),
        ({"config": {"Labels": {"a": 1}}}, r"config\.Labels\['a'\] must be a text"),
        ({"config": {"Volumes": []}}, r"config\.Volumes must be an object"),
        ({"rootfs": {"diff_ids": ["x"]}}, r"rootfs\.diff_ids: 'x' is not a digest"),
    ],
)
def test_malformed_configurations(members: object, reason: str) -> None:
    """Each fault is told with the member's path."""
    with pytest.raises(
        ManifestInvalid, match=f"^the image configuration is not usable: .*{reason}"
    ):
        parse_config(json.dumps(members).encode())


def test_the_limit() -> None:
    """A configuration beyond the limit is not even read."""
    full = b"{" + b" " * (CONFIG_LIMIT - 2) + b"}"

    assert parse_config(full).env == ()
    with pytest.raises(ManifestInvalid, match=f"has {CONFIG_LIMIT + 1} bytes"):
        parse_config(full + b" ")
