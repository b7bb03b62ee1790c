"""Platforms: one normal form, and who runs what."""

import pytest

from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/aarch64", "linux/arm64/v8"),
        ("linux/arm64/8", "linux/arm64/v8"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/i686", "linux/386"),
        ("macos/arm64", "darwin/arm64/v8"),
        ("linux/ppc64le", "linux/ppc64le"),
        ("windows/amd64", "windows/amd64"),
        ("amd64", "linux/amd64"),
        ("aarch64", "linux/arm64/v8"),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    """Every name of a platform is read into the one that indexes use."""
    assert expected == str(Platform.parse(text))
    assert Platform.parse(expected) == Platform.parse(text)


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd64/", "li nux/amd64", "x/y\n"]
)
def test_bad_texts(text: str) -> None:
    """A text without system and architecture is refused."""
    with pytest.raises(UsageError):
        Platform.parse(text)


def test_the_line_for_a_bad_text() -> None:
    """The line shows the form that is wanted."""
    with pytest.raises(UsageError, match="want os/architecture"):
        Platform.parse("linux")


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("Linux", "x86_64", "linux/amd64"),
        ("Linux", "aarch64", "linux/arm64/v8"),
        ("Darwin", "arm64", "darwin/arm64/v8"),
        ("Linux", "armv7l", "linux/arm/v7"),
        ("Linux", "armv6l", "linux/arm/v6"),
        ("Linux", "armv5tel", "linux/arm/v5"),
        ("Linux", "armv8l", "linux/arm/v8"),
        ("Linux", "i586", "linux/386"),
        ("Linux", "riscv64", "linux/riscv64"),
    ],
)
def test_of_machine(system: str, machine: str, expected: str) -> None:
    """What uname says becomes a platform."""
    assert expected == str(Platform.of_machine(system, machine))


@pytest.mark.parametrize(
    ("ours", "candidates", "expected"),
    [
        ("linux/amd64", ["linux/amd64"], ["linux/amd64"]),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64", "linux/386"], ["linux/amd64"]),
        (
            "linux/amd64/v3",
            ["linux/amd64", "linux/amd64/v4", "linux/amd64/v2", "linux/amd64/v3"],
            ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"],
        ),
        ("linux/arm64", ["linux/arm64", "linux/arm/v7"], ["linux/arm64/v8"]),
        ("linux/arm64/v8", ["linux/arm64/v9"], []),
        (
            "linux/arm64/v9.2",
            ["linux/arm64", "linux/arm64/v9", "linux/arm64/v9.1", "linux/arm64/v9.3"],
            ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8"],
        ),
        (
            "linux/arm/v7",
            ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8"],
            ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
        ),
        ("linux/arm/v6", ["linux/arm", "linux/arm/v5"], ["linux/arm/v5"]),
        ("linux/amd64", ["windows/amd64", "linux/ppc64le"], []),
        ("linux/ppc64le/power9", ["linux/ppc64le/power8", "linux/ppc64le"], ["linux/ppc64le"]),
        ("linux/ppc64le", ["linux/ppc64le/power8"], []),
        ("linux/arm64/v8", ["linux/arm64/beta"], []),
        ("linux/arm64/beta", ["linux/arm64/v8"], []),
    ],
)
def test_accepts(ours: str, candidates: list[str], expected: list[str]) -> None:
    """A machine takes its own variant first, then those before it, the nearest first."""
    wanted = Platform.parse(ours)
    ranked = [
        (rank, str(Platform.parse(text)))
        for text in candidates
        if (rank := wanted.accepts(Platform.parse(text))) is not None
    ]

    assert expected == [text for _, text in sorted(ranked)]


def test_default_variants_are_equal() -> None:
    """An index may leave out the variant that everyone means: it is the same platform."""
    plain, written = Platform("linux", "arm64"), Platform("linux", "arm64", "v8")

    assert plain == written
    assert 0 == plain.accepts(written) == written.accepts(plain)


@pytest.mark.parametrize(("os", "architecture"), [("", "amd64"), ("linux", "unknown"), ("", "")])
def test_unknown_platforms_are_accepted_by_nobody(os: str, architecture: str) -> None:
    """Build attestations are listed under unknown platforms; nothing runs them, not even itself."""
    attested = Platform(os, architecture)

    assert not attested.known
    assert attested.accepts(attested) is None
    assert Platform("linux", "amd64").accepts(attested) is None


@pytest.mark.parametrize("word", ["a b", "x" * 65, "a/b", "é", "a\n"])
def test_parts_are_plain_words(word: str) -> None:
    """A part that could break a line or a path cannot be in a platform."""
    with pytest.raises(UsageError, match="cannot be part of a platform"):
        Platform("linux", word)
