"""Files of images: regsync's words and skopeo's, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.content import Digest
from registryd.images.transports import ImageLocation
from registryd.oci.platform import Platform
from registryd.registry_config import RegistryConfig
from registryd.secrets import Secret
from registryd.sync.errors import SyncInvalid
from registryd.sync.file import read_plan
from registryd.sync.plan import ImageStep, Plan, RegistryStep, RepositoryStep, Step, bent
from registryd.sync.rationed import Ration
from registryd.sync.regsync_file import World
from registryd.sync.skopeo_file import Target
from registryd.sync.whole import Extras
from registryd.transfer.copy import Terms

WORLD = World({"USER": "ann", "PASS": "s3cret"}, lambda name: Secret(f"in {name}"))
REGSYNC = """
version: 1
x-tags: &tags
  allow: ["3\\\\..*", edge]
  deny: [".*-rc.*"]
creds:
  - registry: registry.example:5000
    user: '{{env "USER"}}'
    pass: "{{ env `PASS` }}"
    tls: disabled
    reqConcurrent: 3
  - {registry: docker.io, user: bob, passFile: hub.txt}
defaults:
  parallel: 2
  interval: 60m
  ratelimit: {min: 100, retry: 15m}
  digestTags: true
  backup: "old-{{.Ref.Tag}}"
  skipDockerConfig: true
sync:
  - source: busybox:1.36
    target: registry.example:5000/mirror/busybox:1.36
    type: image
    digestTags: false
  - source: alpine
    target: ocidir://mirror/alpine
    type: repository
    tags: *tags
    tagSets:
      - semverRange: [">=3.18 <4"]
    platforms: [linux/amd64, linux/arm64]
    fastCheck: true
    ratelimit: {min: 5, retry: 1s}
    forceRecursive: yes
    referrers: true
    referrerFilters: [{artifactType: application/example}]
    mediaTypes: [application/vnd.oci.image.index.v1+json]
    backup: ""
  - source: quay.example
    target: registry.example:5000/all
    type: registry
    repos: {allow: ["team/.*"]}
    tags: {deny: [latest]}
    platform: linux/amd64
"""
SKOPEO = """
registry.example.com:
  images:
    busybox: []
    team/redis: ["1.0", "sha256:%s"]
  images-by-tag-regex:
    nginx: ^1\\.13\\.[12]
  images-by-semver:
    alpine: ">= 3.12.0"
  credentials: {username: ann, password: s3cret}
  tls-verify: false
  cert-dir: /etc/certs
docker.io:
  images: {alpine: ["3.20"]}
""" % ("ab" * 32)
DOCKER = Target("docker", "mirror.example/prefix/")


def regsync(text: str) -> Plan:
    """The plan in regsync's words."""
    return read_plan(text, name="f.yml", world=WORLD)


def skopeo(text: str, target: Target = DOCKER) -> Plan:
    """The plan in skopeo's words."""
    return read_plan(text, name="f.yml", world=WORLD, skopeo=(target, Extras()))


def ends(step: Step) -> tuple[str, str]:
    """Both ends of a step."""
    return str(step.source), str(step.target)


def test_regsync_steps() -> None:
    """Every key that says what is copied, over the defaults; anchors are followed."""
    plan = regsync(REGSYNC)
    one, two, three = plan.steps

    assert isinstance(one, ImageStep)
    assert ("docker.io/library/busybox:1.36", "registry.example:5000/mirror/busybox:1.36") == ends(
        one
    )
    assert Extras(backup="old-{{.Ref.Tag}}", ration=Ration(100, 900.0)) == one.extras
    assert isinstance(two, RepositoryStep)
    assert ("docker.io/library/alpine", "oci:mirror/alpine") == ends(two)
    assert ["3.19", "edge", "3.20"] == [
        tag
        for tag in ("3.19", "3.21-rc1", "2.7", "edge", "3.20")
        if any(rule.chooses(tag) for rule in two.rules)
    ]
    assert two.extras == Extras(
        tuple(map(Platform.parse, ("linux/amd64", "linux/arm64"))),
        Terms("keep", recheck=True),
        referrers=True,
        artifact_types=("application/example",),
        digest_tags=True,
        media_types=frozenset({"application/vnd.oci.image.index.v1+json"}),
        fast=True,
        ration=Ration(5, 60.0),
    )
    assert isinstance(three, RegistryStep)
    assert (True, False) == tuple(map(three.repositories.chooses, ("team/app", "other/app")))
    assert ("quay.example/team/app", "registry.example:5000/all/team/app") == tuple(
        place.reference.name
        for place in (three.repository("team/app").source, three.repository("team/app").target)
        if place.reference
    )
    assert three.extras.platforms == (Platform.parse("linux/amd64"),)
    assert (2, False) == (plan.jobs, plan.files)


def test_regsync_registries() -> None:
    """Logins come from the environment or a file, and show nowhere; what only tunes is noted."""
    plan = regsync(REGSYNC)
    mine, hub = plan.doors["registry.example:5000"], plan.doors["docker.io"]

    assert mine.login is not None and hub.login is not None
    assert ("ann", "s3cret") == (mine.login.username, mine.login.password.reveal())
    assert "in hub.txt" == hub.login.password.reveal()
    config = mine.applied(RegistryConfig())
    assert (True, 3) == (config.plain_http, config.max_connections)
    assert "s3cret" not in repr(plan)
    assert ["defaults.interval"] == [n.partition(":")[0] for n in plan.notes]


def test_a_password_in_the_file_is_noted() -> None:
    """It works, and is said to be for all to see; the note does not repeat it."""
    plan = regsync(
        "creds: [{registry: a.b, user: ann, pass: s3cret}]\n"
        "sync: [{source: a.b/c:1, target: d.e/c:1, type: image}]"
    )

    assert ["creds[0].pass"] == [note.partition(":")[0] for note in plan.notes]
    assert "s3cret" not in plan.notes[0]


def test_flags_bend_a_plan() -> None:
    """--strip is for kept indexes alone, --force-recursive for everything."""
    terms = [step.extras.terms for step in bent(regsync(REGSYNC), strip=True, recheck=True).steps]

    assert [("usual", True), ("strip", True), ("usual", True)] == [
        (each.index, each.recheck) for each in terms
    ]


def test_skopeo_steps() -> None:
    """Tags, digests, patterns anywhere in the tag, versions; below the prefix the last name."""
    plan = skopeo(SKOPEO)
    digest = Digest.parse("sha256:" + "ab" * 32)
    all_tags, tag, exact, pattern, versions, hub = plan.steps
    door = plan.doors["registry.example.com"]

    assert ("registry.example.com/busybox", "mirror.example/prefix/busybox") == ends(all_tags)
    assert ("registry.example.com/team/redis:1.0", "mirror.example/prefix/redis:1.0") == ends(tag)
    assert f"mirror.example/prefix/redis@{digest}" == str(exact.target)
    assert isinstance(pattern, RepositoryStep) and isinstance(versions, RepositoryStep)
    assert [True, True, False] == [
        pattern.rules[0].chooses(t) for t in ("1.13.1", "1.13.2-alpine", "x1.13.1")
    ]
    assert versions.rules[0].chooses("3.12")
    assert ("docker.io/library/alpine:3.20", "mirror.example/prefix/alpine:3.20") == ends(hub)
    assert door.login is not None
    assert (False, Path("/etc/certs"), "ann") == (
        door.tls_verify,
        door.cert_dir,
        door.login.username,
    )
    assert "s3cret" not in repr(plan) + "".join(plan.notes)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("docker", "m.example", scoped=True), "m.example/r.example/team/redis:1-x"),
        (Target("dir", "/media/usb"), "dir:/media/usb/redis:1-x"),
        (Target("dir", "/m/", scoped=True), "dir:/m/r.example/team/redis:1-x"),
        (Target("oci", "/m"), "oci:/m:redis:1-x"),
    ],
)
def test_where_skopeo_puts_things(target: Target, expected: str) -> None:
    """By destination, scoped or not, with a suffix to every tag."""
    target = Target(target.kind, target.place, target.scoped, "-x")
    plan = skopeo("r.example: {images: {team/redis: ['1']}}", target)

    assert expected == str(plan.steps[0].target)


BAD = [
    ("", "f.yml: is empty"),
    ("a", "f.yml: is no mapping"),
    ("a: [", "f.yml: line 1: is not YAML"),
    ("sync: []", "f.yml: sync: is missing or no list"),
    ("version: 2\nsync: [a]", 'f.yml: version: "2" is not known here'),
    ("snyc: []\nversion: 1", "f.yml: snyc: unknown key"),
    ("sync: [{source: a, target: b, type: imag}]", 'sync[0].type: "imag" is not allowed'),
    ("sync: [{source: a, target: b}]", "sync[0].type: is missing"),
    ("sync: [{source: a, target: b, type: image, tag: x}]", "sync[0].tag: unknown key"),
    ("sync: [{source: A/B, target: b, type: image}]", "sync[0]: "),
    ("sync: [{source: a:1, target: b, type: repository}]", "has a tag or digest"),
    ("sync: [{source: a, target: b, type: image, tags: {allow: [x]}}]", "type: repository"),
    (
        "sync: [{source: a, target: b, type: repository, tags: {allow: ['(']}}]",
        "sync[0].tags.allow[0]: ",
    ),
    (
        "sync: [{source: a, target: b, type: repository, tags: {semverRange: [new]}}]",
        "sync[0].tags.semverRange[0]: ",
    ),
    ("sync: [{source: '{{.X}}', target: b, type: image}]", "sync[0].source: "),
    (
        "sync: [{source: a, target: b, type: image, hooks: {pre: {type: exec}}}]",
        "sync[0].hooks: hooks are not run",
    ),
    (
        "sync: [{source: a, target: b, type: image, platform: x/y, platforms: [x/y]}]",
        "contradict",
    ),
    ("defaults: {fastCheck: perhaps}\nsync: [a]", 'defaults.fastCheck: "perhaps" is neither'),
    ("creds: [{registry: a.b, pass: x}]\nsync: [a]", "creds[0]: a password needs a user"),
    ("creds: [{registry: a.b, user: '{{env \"NO\"}}'}]\nsync: [a]", "creds[0]: the environment"),
    ("creds: [{registry: a.b, mirrors: [x]}]\nsync: [a]", "creds[0].mirrors: is set in"),
    ("creds: [{registry: a.b, tls: maybe}]\nsync: [a]", "creds[0].tls: "),
    ("a.b: {images: {c: [1]}}", "say no destination"),
    ("sync: &a [*a]", "nested too deeply"),
    (
        "\n".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in ("ab", "bc", "cd", "de")
        ).replace("*a", "1")
        + f"\nsync: [{','.join(['*e'] * 10)}]",
        "too much here",
    ),
    ("sync: [{source: 'a@sha256:1', target: b, type: image}]", "sync[0]: "),
    ("sync: !!python/name:os.system x", "line 1: "),
    ("sync: [{source: a, source: b, target: b, type: image}]", "'source' is there twice"),
]


@pytest.mark.parametrize(("text", "line"), BAD)
def test_mistakes_in_regsyncs_words(text: str, line: str) -> None:
    """One line with the file and the path of the key."""
    with pytest.raises(SyncInvalid) as caught:
        regsync(text)

    assert line in str(caught.value)
    assert str(caught.value).startswith("f.yml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.b: {image: {c: ['1']}}", '."a.b".image: unknown key (did you mean images?)'),
        ("a.b: {images: {c: '1'}}", "images.c: "),
        ("a.b: {images: {'c:1': ['1']}}", "has a tag or digest"),
        ("a.b: {images: {c: ['sha256:1']}}", "images.c: "),
        ("a.b: {images-by-semver: {c: new}}", "images-by-semver.c: "),
        ("a.b: {images-by-tag-regex: {c: '('}}", "images-by-tag-regex.c: "),
        ("a.b: {}", "nothing to copy"),
        ("nohost: {images: {c: []}}", "is not a registry"),
        ("sync: [{source: a, target: b, type: image}]", "give no DEST"),
    ],
)
def test_mistakes_in_skopeos_words(text: str, line: str) -> None:
    """The same for the other words."""
    with pytest.raises(SyncInvalid) as caught:
        skopeo(text)

    assert line.removeprefix(".") in str(caught.value)


def test_a_password_is_shown_by_no_mistake() -> None:
    """What is written as a password, of whatever form, stands in no error."""
    with pytest.raises(SyncInvalid, match=r"creds\[0\].pass: is not one word$"):
        regsync("creds: [{registry: a.b, user: ann, pass: [s3cret]}]\nsync: [a]")
    with pytest.raises(SyncInvalid, match=r"credentials\.password: is not one word$"):
        skopeo("a.b: {credentials: {username: ann, password: {s3cret: x}}, images: {c: []}}")


WORDS = st.sampled_from(
    [
        *("version", "creds", "defaults", "sync", "source", "target", "type", "image", "tags"),
        *("repository", "registry", "allow", "semverRange", "platforms", "a.b", "images", "^1"),
        *("images-by-semver", "credentials", "username", "user", "pass", '{{env "USER"}}', "<<"),
        *("linux/amd64", "alpine", "alpine:1", "oci:/x", "ocidir://y:z", "hooks", "true", "1"),
    ]
) | st.text(max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    WORDS | st.none() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(WORDS, VALUES, max_size=5).map(yaml.safe_dump) | st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_file_is_a_plan_or_a_fault(text: str) -> None:
    """Whatever a file holds: a plan, or one line of a SyncInvalid, in either words."""
    for read in (regsync, skopeo):
        try:
            plan = read(text)
        except SyncInvalid as error:
            assert str(error).isprintable() or "\n" not in str(error)
            continue
        assert all(isinstance(step.target, (str, ImageLocation)) for step in plan.steps)
