"""Which rule a tag falls under."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from registryd.config import RegistryConfig
from registryd.oci.reference import Reference
from registryd.transfer.tag_policy import TagPolicy, fits

PIN = Digest.of(b"pinned")
NAMES = st.text("ab/-", max_size=12)
PATTERNS = st.text("ab/-*", max_size=12)


def alpine(tag: str = "latest") -> Reference:
    return Reference("docker.io", "library/alpine", tag)


@pytest.mark.parametrize(
    ("pattern", "repository", "tag", "fit"),
    [
        ("library/alpine:latest", "library/alpine", "latest", True),
        ("library/alpine:latest", "library/alpine", "3", False),
        ("library/alpine:latest", "library/alpine2", "latest", False),
        ("library/*:latest", "library/alpine", "latest", True),
        ("library/*:latest", "team/alpine", "latest", False),
        ("*:latest", "team/deep/app", "latest", True),
        ("*/app:v*", "team/deep/app", "v1.2", True),
        ("*/app:v*", "app", "v1.2", False),
        ("team/*", "team/app", "any", True),
        ("team/*", "team/a/b", "any", True),
        ("team/*", "team", "any", False),
        ("*", "any", "any", True),
        ("*:*-rc*", "a", "1-rc2", True),
        ("*:*-rc*", "a-rc1", "1", False),
    ],
)
def test_what_a_pattern_fits(pattern: str, repository: str, tag: str, fit: bool) -> None:
    """A star is any text, slashes too; repository and tag fit apart; no colon means any tag."""
    policy = TagPolicy({"a.io": RegistryConfig(tags={pattern: 7.0})})

    assert (7.0 if fit else 300.0) == policy.ttl(Reference("a.io", repository, tag))


def test_the_first_that_fits_decides() -> None:
    """The order of the file is the order of the rules; what none fits has the registry's time."""
    rules = {"library/*:latest": 1.0, "library/alpine": 2.0, "*:latest": 3.0}
    policy = TagPolicy({"docker.io": RegistryConfig(tags=rules, tag_ttl=4.0)})
    asked = [alpine(), alpine("3"), Reference("docker.io", "a/b", "latest")]

    assert [1.0, 2.0, 3.0] == [policy.ttl(each) for each in asked]
    assert 4.0 == policy.ttl(Reference("docker.io", "a/b", "1"))


def test_rules_are_one_registry_s() -> None:
    """What is said of one registry is not said of another, which has the defaults."""
    config = RegistryConfig(
        tags={"*": 1.0}, pins={"library/alpine:latest": str(PIN)}, missing_tags="serve"
    )
    policy = TagPolicy({"ghcr.io": config})

    assert (300.0, None, False) == (
        policy.ttl(alpine()),
        policy.pin(alpine()),
        policy.serves_missing(alpine()),
    )


def test_a_pin_is_one_tag_s() -> None:
    """A pin holds for exactly its repository and tag."""
    policy = TagPolicy({"docker.io": RegistryConfig(pins={"library/alpine:latest": str(PIN)})})

    assert PIN == policy.pin(alpine())
    assert policy.pin(alpine("3")) is None
    assert policy.pin(alpine().bare()) is None
    assert policy.pin(Reference("docker.io", "library/other", "latest")) is None


def test_docker_hub_s_short_names() -> None:
    """What people call alpine is library/alpine, in a rule and in a pin too; elsewhere it is
    alpine."""
    rules = {"alpine": 7.0, "alpine:*": 8.0, "library/alpine": 9.0}
    config = RegistryConfig(tags=rules, pins={"alpine:latest": str(PIN)})
    policy = TagPolicy({"docker.io": config, "ghcr.io": config})
    short = Reference("ghcr.io", "alpine", "latest")

    assert (7.0, PIN) == (policy.ttl(alpine()), policy.pin(alpine()))
    assert (7.0, PIN) == (policy.ttl(short), policy.pin(short))
    assert 9.0 == policy.ttl(Reference("ghcr.io", "library/alpine", "latest"))


def test_an_offline_registry_is_not_believed() -> None:
    """Of a registry that nobody asks no tag is fresh, and that is said with each one."""
    policy = TagPolicy({"docker.io": RegistryConfig(offline=True, tags={"*": 60.0})})

    assert 0.0 == policy.ttl(alpine())


@given(PATTERNS, NAMES)
def test_stars_are_those_of_the_shell(pattern: str, text: str) -> None:
    """Patterns mean what fnmatch makes of them, whose star is any text too."""
    assert fnmatchcase(text, pattern) == fits(pattern, text)


@given(st.lists(NAMES, min_size=1, max_size=5), st.data())
def test_whatever_stands_for_a_star_fits(parts: list[str], data: st.DataObject) -> None:
    """Any texts put in for the stars of a pattern give a text that fits it."""
    text = parts[0] + "".join(data.draw(NAMES) + part for part in parts[1:])

    assert fits("*".join(parts), text)


def test_a_pattern_cannot_be_made_slow() -> None:
    """Many stars over a long name of nearly the right letters take no time."""
    assert not fits("*a" * 100 + "b", "a" * 255)


# pins of jobs

LATER = Digest.of(b"later")


def test_a_job_pins_for_a_time() -> None:
    """A job's pin holds for its tag until its time is over, and not for who gives no time."""
    policy = TagPolicy({})
    policy.hold("job", {alpine(): PIN}, until=100.0)

    assert [PIN, None] == [policy.pin(alpine(), now) for now in (99.9, 100.0)]
    assert policy.pin(alpine()) is None
    assert policy.pin(alpine("3"), 0.0) is None
    assert policy.pin(alpine().bare(), 0.0) is None


def test_the_newest_job_decides() -> None:
    """Of two jobs the one that pinned last decides, and when it ends the other one does."""
    policy = TagPolicy({})
    policy.hold("old", {alpine(): PIN}, until=100.0)
    policy.hold("new", {alpine(): LATER}, until=50.0)
    both = [policy.pin(alpine(), now) for now in (0.0, 50.0)]
    policy.hold("old", {alpine(): PIN}, until=100.0)
    renewed = policy.pin(alpine(), 0.0)
    policy.release("old")

    assert [LATER, PIN] == both
    assert (PIN, LATER) == (renewed, policy.pin(alpine(), 0.0))


def test_a_job_s_pins_are_replaced() -> None:
    """What a job pins anew is in place of all that it had pinned; released, it has none."""
    policy = TagPolicy({})
    policy.hold("job", {alpine("1"): PIN, alpine("2"): PIN, alpine().bare(): PIN}, until=9.0)
    policy.hold("job", {alpine("2"): LATER}, until=9.0)
    after = [policy.pin(alpine(tag), 0.0) for tag in ("1", "2")]
    policy.release("job")
    policy.release("job")

    assert [None, LATER] == after
    assert policy.pin(alpine("2"), 0.0) is None


def test_the_configuration_goes_before_jobs() -> None:
    """A configured pin wins over a job's, and a reload leaves those of jobs as they are."""
    policy = TagPolicy({})
    policy.hold("job", {alpine(): LATER, alpine("3"): LATER}, until=9.0)
    policy.take_over({"docker.io": RegistryConfig(pins={"alpine:latest": str(PIN)})})

    assert [PIN, LATER] == [policy.pin(alpine(tag), 0.0) for tag in ("latest", "3")]
