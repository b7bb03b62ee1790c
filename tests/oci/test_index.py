"""Which entry of an index a platform gets."""

import pytest

from registryd.oci.errors import PlatformUnknown
from registryd.oci.media_types import OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from registryd.oci.platform import Platform
from tests.oci.documents import entry, parse_index, platform_entry, value


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("linux/amd64", "amd"),
        ("linux/amd64/v3", "amd-v2"),
        ("linux/arm64", "arm"),
        ("linux/arm/v7", "arm-v6"),
        ("windows/amd64", "win-new"),
    ],
)
def test_select(wanted: str, expected: str) -> None:
    """The entry that runs best, the first of equals."""
    document = parse_index(
        platform_entry("attested", "unknown/unknown"),
        platform_entry("soci", "linux/amd64", artifactType="application/x.soci"),
        platform_entry("amd-v2", "linux/amd64/v2"),
        platform_entry("amd", "linux/amd64"),
        platform_entry("amd-again", "linux/amd64"),
        platform_entry("arm-v5", "linux/arm/v5"),
        platform_entry("arm-v6", "linux/arm/v6"),
        platform_entry("arm", "linux/arm64"),
        platform_entry("win-new", "windows/amd64"),
        platform_entry("win-old", "windows/amd64"),
    )

    assert value(expected, OCI_MANIFEST) == document.select(Platform.parse(wanted)).descriptor


def test_select_an_artifact_for_a_platform() -> None:
    """An artifact with a platform is taken when there is no image for it."""
    document = parse_index(platform_entry("wasm", "linux/amd64", artifactType="application/x.y"))

    assert document.select(Platform("linux", "amd64")).artifact_type == "application/x.y"


def test_select_without_platforms() -> None:
    """An entry without a platform is the last resort, if it is a manifest and no artifact."""
    document = parse_index(
        entry("blob", OCTET_STREAM),
        entry("artifact", OCI_MANIFEST, artifactType="application/x.y"),
        entry("nested", OCI_INDEX),
        platform_entry("amd", "linux/amd64"),
    )

    assert value("nested", OCI_INDEX) == document.select(Platform("linux", "s390x")).descriptor
    assert value("amd", OCI_MANIFEST) == document.select(Platform("linux", "amd64")).descriptor


def test_select_lists_what_there_is() -> None:
    """The error names each platform once, and not the unknown ones."""
    document = parse_index(
        platform_entry("amd", "linux/amd64"),
        platform_entry("amd-again", "linux/amd64"),
        platform_entry("attested", "unknown/unknown"),
        platform_entry("arm", "linux/arm64"),
    )

    with pytest.raises(PlatformUnknown, match=r"for linux/s390x .*: linux/amd64, linux/arm64/v8\)"):
        document.select(Platform("linux", "s390x"))
    with pytest.raises(PlatformUnknown, match="it has: none"):
        parse_index().select(Platform("linux", "amd64"))
