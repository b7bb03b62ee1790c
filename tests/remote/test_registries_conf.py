"""registries.conf: which table counts, where it leads, and what is said when it is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import ConfigInvalid
from registryd.remote.course import Course, Place
from registryd.remote.registries_conf import RegistriesConf, merged, parse

CONF = b"""
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
credential-helpers = ["containers-auth.json", "secretservice"]
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub-proxy/"
[[registry.mirror]]
location = "plain.example"
insecure = true
pull-from-mirror = "digest-only"
[[registry]]
prefix = "docker.io/team"
location = "internal.example/ours"
[[registry.mirror]]
location = "near.example/x"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.example.org"
location = "all.example"
[[registry]]
prefix = "sub.example.org"
blocked = true
[[registry]]
location = "lax.example:5000"
insecure = true
some-later-key = 5
[[registry]]
location = "digests.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example"
[aliases]
"alpine" = "docker.io/library/alpine"
"""


MIRROR = '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "b"\n'


def seen(place: Place) -> tuple[str, str, bool, bool]:
    """What a place comes to: URL and path, what is stripped, whether it is lax, and by tag."""
    path = f"{place.url}/{place.prefix}".rstrip("/")
    return path, place.strip, place.lax and not place.tls.verify, "resolve" in place.serves


@pytest.fixture
def conf() -> RegistriesConf:
    return parse(CONF, "/etc/x.conf")


@pytest.mark.parametrize(
    ("registry", "repository", "mirrors", "primary"),
    [
        (
            "docker.io",
            "library/alpine",
            [
                ("https://mirror.example:5000/hub-proxy", "", False, True),
                ("https://plain.example", "", True, False),
            ],
            None,
        ),
        (
            "docker.io",
            "team/app",
            [("https://near.example/x", "team", False, True)],
            ("https://internal.example/ours", "team", False, True),
        ),
        (
            "docker.io",
            "teamwork/app",
            [
                ("https://mirror.example:5000/hub-proxy", "", False, True),
                ("https://plain.example", "", True, False),
            ],
            None,
        ),
        ("a.example.org", "x/y", [], ("https://all.example", "", False, True)),
        ("a.b.example.org:80", "x/y", [], ("https://all.example", "", False, True)),
        ("lax.example:5000", "x", [], ("https://lax.example:5000", "", True, True)),
        ("digests.example", "x", [("https://m.example", "", False, False)], None),
    ],
)
def test_the_longest_prefix_counts(
    conf: RegistriesConf,
    registry: str,
    repository: str,
    mirrors: list[tuple[str, str, bool, bool]],
    primary: tuple[str, str, bool, bool] | None,
) -> None:
    """Mirrors in their order and the place of the registry itself; ``*.`` for what is below."""
    course = conf.course(registry, repository)

    assert course is not None
    assert mirrors == [seen(each) for each in course.mirrors]
    assert primary == (None if course.primary is None else seen(course.primary))


@pytest.mark.parametrize("registry", ["ghcr.io", "example.org", "docker.io.evil", "lax.example"])
def test_other_registries(conf: RegistriesConf, registry: str) -> None:
    """A name that only looks like a prefix has no table."""
    assert conf.course(registry, "x/y") is None


def test_blocked(conf: RegistriesConf) -> None:
    """The line names the table and its file."""
    course = conf.course("sub.example.org", "x")

    assert Course(blocked="sub.example.org is blocked by /etc/x.conf") == course


def test_later_files_replace_tables() -> None:
    """By prefix, whole; what a later file does not speak of stays."""
    one = parse(b'[[registry]]\nlocation = "a.example"\n[[registry]]\nlocation = "b.example"', "1")
    two = parse(b'[[registry]]\nlocation = "a.example"\nblocked = true', "2")
    both = merged([one, two])

    assert Course(blocked="a.example is blocked by 2") == both.course("a.example", "x")
    assert Course() == both.course("b.example", "x")


def test_the_old_form() -> None:
    """Alone it still means what it says of insecure and blocked registries."""
    content = b"""
        [registries.search]
        registries = ["docker.io"]
        [registries.insecure]
        registries = ["old.example"]
        [registries.block]
        registries = ["bad.example"]
    """
    conf = parse(content, "f")
    lax, bad = conf.course("old.example", "x"), conf.course("bad.example", "x")

    assert lax is not None and lax.primary is not None and lax.primary.lax
    assert bad is not None and bad.blocked


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '[registries.search]\nregistries = []\n[[registry]]\nlocation = "a"',
            "form before versio",
        ),
        ("[[registry]]\nblocked = true", "registry[0]: prefix and location are both missing"),
        ('[[registry]]\nlocation = "https://a"', 'registry[0].location: "https://a" is not a loc'),
        ('[[registry]]\nlocation = "a b"', 'registry[0].location: "a b" is not a location'),
        ('[[registry]]\nprefix = "*.a.example/x"', "registry[0].prefix: "),
        ("[[registry]]\nlocation = 5", "registry[0].location: 5 is not a text"),
        ('[[registry]]\nlocation = "a"\ninsecure = "yes"', "registry[0].insecure: "),
        ("registry = 5", "registry: 5 is not a list"),
        ('[[registry]]\nlocation = "a"\n[[registry.mirror]]\n', "mirror[0]: location is missing"),
        (
            MIRROR + 'pull-from-mirror = "never"',
            'registry[0].mirror[0].pull-from-mirror: "never" is not allowed (use one of "all", ',
        ),
        (
            "[[registry]]\nmirror-by-digest-only = true\n"
            + MIRROR.partition("\n")[2]
            + 'pull-from-mirror = "all"',
            "exclude each other",
        ),
        ("[[registry", "is not TOML: "),
    ],
)
def test_what_is_wrong(content: str, said: str) -> None:
    """One line with the file and the key."""
    with pytest.raises(ConfigInvalid) as caught:
        parse(content.encode(), "/etc/r.conf")

    assert str(caught.value).startswith("/etc/r.conf: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """A value, or one error of ours."""
    try:
        conf = parse(content, "f")
    except ConfigInvalid:
        return

    assert conf.course("docker.io", "library/alpine") in (None, Course())


TABLES = st.fixed_dictionaries(
    {},
    optional={
        "prefix": st.sampled_from(
            ["", "a.example", "a.example/x", "*.example", "*.", "/", "a b", 1]
        ),
        "location": st.sampled_from(
            ["", "b.example", "b.example/", "b.example/x/y", "http://c", []]
        ),
        "insecure": st.sampled_from([True, False, "no"]),
        "mirror": st.lists(st.fixed_dictionaries({"location": st.sampled_from(["m", "", 3])})),
    },
)


@given(st.lists(TABLES, max_size=3), st.sampled_from(["x", "x/y"]))
def test_any_tables(tables: list[dict[str, object]], repository: str) -> None:
    """Whatever tables there are: a course whose names are whole, or one error of ours."""
    lines = []
    for table in tables:
        lines.append("[[registry]]")
        plain = {key: value for key, value in table.items() if key != "mirror"}
        lines += [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
        for mirror in table.get("mirror", []):  # type: ignore[attr-defined]
            lines += ["[[registry.mirror]]", f"location = {json.dumps(mirror['location'])}"]
    try:
        conf = parse("\n".join(lines).encode(), "f")
    except ConfigInvalid:
        return
    for registry in ("a.example", "b.example"):
        course = conf.course(registry, repository) or Course()
        for place in course.mirrors:
            assert place.name
            assert "//" not in place.prefix
