"""Stories of sync between real registries: lists of regsync's and of skopeo's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.images.layout import LayoutSink
from registryd.transfer.copy import copy_image
from tests.cli.conftest import Ctl, Outcome
from tests.fakes.endpoints import MemorySource, Sample, image, index
from tests.real.registry import RealRegistry, basic_registry, open_registry
from tests.real.runtimes import Skopeo
from tests.real.test_copy_flags import requests

IMAGES = {
    "1.0": image(b"base", b"one"),
    "1.1": index(amd64=image(b"base", b"two"), arm64=image(b"base", b"arm", architecture="arm64")),
    "2.0": image(b"base", b"three"),
    "2.0-rc1": image(b"base", b"early"),
    "latest": image(b"base", b"three"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry whose lib/app has the images, and lib/other one of them."""
    folder = tmp_path_factory.mktemp("source")
    ctl = program(folder)
    with open_registry(folder / "r") as registry:
        for tag, sample in IMAGES.items():
            put(ctl, folder / "l", sample, f"{registry.name}/lib/app:{tag}")
        put(ctl, folder / "l", IMAGES["1.0"], f"{registry.name}/lib/other:1")
        yield registry


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry to fill, which wants a login."""
    with basic_registry(tmp_path_factory.mktemp("target"), {"ann": "s3cret"}) as registry:
        yield registry


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    """The program, which knows of no daemon."""
    return program(tmp_path)


def program(folder: Path) -> Ctl:
    """The program with a home of its own."""
    home = folder / "home"
    home.mkdir()
    return Ctl(home, {"XDG_RUNTIME_DIR": str(home / "run"), "NO_COLOR": "1", "PW": "s3cret"})


def put(ctl: Ctl, layout: Path, sample: Sample, name: str) -> None:
    """Put an image under a name."""
    asyncio.run(copy_image(MemorySource(sample), LayoutSink(layout, "x")))
    assert ctl("copy", f"oci:{layout}:x", name, "-q", "--creds", "ann:s3cret").code == 0


def listed(ctl: Ctl, repository: str) -> list[str]:
    """The tags of a repository of the target."""
    root = str(ctl.home / "root")
    return ctl("tags", repository, "--creds", "ann:s3cret", "--root", root).out.split()


def states(outcome: Outcome) -> dict[str, list[str]]:
    """The tags of the images of a result by their state."""
    found: dict[str, list[str]] = {}
    for entry in json.loads(outcome.out)["images"]:
        found.setdefault(entry["state"], []).append(entry["target"].rpartition(":")[2])
    return found


def write(folder: Path, source: RealRegistry, target: RealRegistry, steps: str) -> str:
    """A list in regsync's words with a login for the target."""
    file = folder / "list.yml"
    text = (
        """
version: 1
creds:
  - {registry: TARGET, user: ann, pass: '{{env "PW"}}', tls: disabled}
defaults: {parallel: 3, interval: 1h}
sync:
"""
        + steps
    )
    file.write_text(text.replace("TARGET", target.name).replace("SOURCE", source.name))
    return str(file)


def test_a_list_is_kept_the_same(
    ctl: Ctl, source: RealRegistry, target: RealRegistry, skopeo: Skopeo, tmp_path: Path
) -> None:
    """Checked, rehearsed, carried out, and again: the second time nothing is read or written."""
    file = write(
        tmp_path,
        source,
        target,
        """
  - source: SOURCE/lib/app
    target: TARGET/kept/app
    type: repository
    tags: {allow: ['\\d.*'], deny: ['.*-rc.*']}
  - {source: 'SOURCE/lib/app:latest', target: 'TARGET/kept/app:newest', type: image}
""",
    )
    js = ("--format", "json", "-q")

    checked = ctl("sync", file, "--check", *js)
    rehearsed = ctl("sync", file, "--dry-run", *js)
    nothing = listed(ctl, f"{target.name}/kept/app")
    first = ctl("sync", file, *js, "--digestfile", str(tmp_path / "digests"))
    at, back = len(source.log), len(target.log)
    again = ctl("sync", file, "--progress", "plain")
    asked, told = requests(source, at), requests(target, back)
    good = ctl("sync", file, "--check", *js)

    tags = ["1.0", "1.1", "2.0", "newest"]
    assert (1, tags) == (checked.code, sorted(states(checked)["differs"]))
    assert (0, tags) == (rehearsed.code, sorted(states(rehearsed)["copied"]))
    assert [] == nothing
    assert (0, tags) == (first.code, sorted(states(first)["copied"]))
    assert tags == sorted(listed(ctl, f"{target.name}/kept/app"))
    assert (0, tags) == (good.code, sorted(states(good)["unchanged"]))
    assert "note: defaults.interval" in again.err
    assert "4 unchanged" in again.words[-1]
    assert {"HEAD"} == {method for method, path in asked if "/manifests/" in path}
    assert [] == [path for method, path in told if method != "HEAD" and path != "/v2/"]
    lines = (tmp_path / "digests").read_text().splitlines()
    assert f"{IMAGES['1.1'].root.digest} {target.name}/kept/app:1.1" in lines
    assert 4 == len(lines)
    creds = ("--creds", "ann:s3cret", "--tls-verify=false")
    inspected = skopeo("inspect", "--raw", *creds, f"docker://{target.name}/kept/app:1.1")
    assert IMAGES["1.1"].root.raw == inspected.encode()


def test_shared_layers_are_sent_once(
    ctl: Ctl, source: RealRegistry, target: RealRegistry, tmp_path: Path
) -> None:
    """Many images at once to one repository: each blob goes once, and is read once."""
    file = write(
        tmp_path,
        source,
        target,
        "  - {source: SOURCE/lib/app, target: TARGET/once/app, type: repository}\n",
    )
    at = len(source.log)

    outcome = ctl("sync", file, "-j", "5", "--format", "json", "-q")

    reads = [path for method, path in requests(source, at) if "/blobs/" in path]
    assert (0, len(reads)) == (outcome.code, len(set(reads)))
    blobs = {digest for sample in IMAGES.values() for digest in sample.blobs}
    assert len(blobs) == len(reads)


def test_layers_are_mounted_from_where_they_were_put(
    ctl: Ctl, source: RealRegistry, target: RealRegistry, tmp_path: Path
) -> None:
    """What one repository of the target got, the next one gets without a byte."""
    step = "  - {source: 'SOURCE/lib/%s', target: 'TARGET/m/%s', type: image}\n"
    steps = "".join(step % (name, name) for name in ("app:1.0", "other:1"))
    file = write(tmp_path, source, target, steps)

    outcome = ctl("sync", file, "-j", "1", "--format", "json", "-q")

    assert 0 == outcome.code, outcome.err
    images = json.loads(outcome.out)["images"]
    assert [(3, 0), (0, 3)] == [(e["sent_blobs"], e["held_blobs"]) for e in images]


def test_failures(ctl: Ctl, source: RealRegistry, target: RealRegistry, tmp_path: Path) -> None:
    """With --keep-going all that can be is done (exit 7); without, the failure ends the run."""
    file = write(
        tmp_path,
        source,
        target,
        """
  - {source: 'SOURCE/lib/app:none', target: 'TARGET/fail/app:none', type: image}
  - {source: 'SOURCE/lib/app:1.0', target: 'TARGET/fail/app:1.0', type: image}
  - {source: 'SOURCE/lib/none', target: 'TARGET/fail/none', type: repository}
""",
    )

    ended = ctl("sync", file, "-j", "1", "--format", "json", "-q")
    kept_on = ctl("sync", file, "--keep-going", "--format", "json", "-q")

    assert 2 == ended.code
    result = json.loads(ended.out)
    assert (1, 2) == (result["failed"], result["skipped"])
    assert 7 == kept_on.code
    assert {"failed": ["none"], "copied": ["1.0"]} == {
        **states(kept_on),
        "failed": ["none"],
    }
    assert "2 of 3 failed" in kept_on.words[-1]
    codes = [entry.get("code") for entry in json.loads(kept_on.out)["images"]]
    assert {"MANIFEST_UNKNOWN", "NAME_UNKNOWN", None} == set(codes)


def test_backup_platforms_and_missing(
    ctl: Ctl, source: RealRegistry, target: RealRegistry, tmp_path: Path
) -> None:
    """What is overwritten is kept under its backup's tag; with -n it is left, and skipped."""
    step = "  - {source: 'SOURCE/lib/app:%s', target: 'TARGET/b/app:x', type: image, %s}\n"
    backup = "backup: 'old-{{.Ref.Tag}}'"
    first = write(tmp_path, source, target, step % ("1.0", backup))
    assert ctl("sync", first, "-q").code == 0
    second = write(tmp_path, source, target, step % ("1.1", f"{backup}, platforms: [linux/arm64]"))

    left = ctl("sync", second, "-n", "--strip", "--format", "json", "-q")
    refused = ctl("sync", second, "-q")
    done = ctl("sync", second, "--strip", "--format", "json", "-q")

    assert (0, {"skipped": ["x"]}) == (left.code, states(left))
    assert (1, True) == (refused.code, "use --strip" in refused.words[-1])
    assert (0, "stripped") == (done.code, json.loads(done.out)["images"][0]["index"])
    assert ["old-x", "x"] == sorted(listed(ctl, f"{target.name}/b/app"))
    name = f"{target.name}/b/app:old-x"
    kept = ctl("digest", name, "--creds", "ann:s3cret", "--root", str(tmp_path / "r"))
    assert str(IMAGES["1.0"].root.digest) == kept.out.strip()


def test_a_whole_registry(
    ctl: Ctl, source: RealRegistry, target: RealRegistry, tmp_path: Path
) -> None:
    """Its repositories by patterns, below a prefix."""
    file = write(
        tmp_path,
        source,
        target,
        "  - {source: SOURCE, target: TARGET/reg, type: registry, repos: {allow: ['lib/o.*']}}\n",
    )

    outcome = ctl("sync", file, "--format", "json", "-q")

    assert 0 == outcome.code, outcome.err
    entries = json.loads(outcome.out)["images"]
    assert [f"{target.name}/reg/lib/other:1"] == [entry["target"] for entry in entries]


def test_skopeos_lists_and_words(
    ctl: Ctl, source: RealRegistry, target: RealRegistry, skopeo: Skopeo, tmp_path: Path
) -> None:
    """The same list, repository and folder by skopeo and by us give the same images."""
    file = tmp_path / "skopeo.yml"
    file.write_text(
        f"""
{source.name}:
  tls-verify: false
  images:
    lib/other: []
    lib/app: ['1.0', '{IMAGES["2.0"].root.digest}']
  images-by-tag-regex:
    lib/app: ^1\\.1$
  images-by-semver:
    lib/app: '>= 1.0, < 1.1'
"""
    )
    login = ("--dest-creds", "ann:s3cret", "--dest-tls-verify=false")
    words = ("sync", "--src", "yaml", "--dest", "docker", *login, str(file))
    skopeo(*words, "--all", f"{target.name}/theirs")
    outcome = ctl(*words, f"{target.name}/ours", "--format", "json", "-q")

    assert 0 == outcome.code, outcome.err
    for name in ("app", "other"):
        theirs, ours = (
            listed(ctl, f"{target.name}/{whose}/{name}") for whose in ("theirs", "ours")
        )
        assert set(theirs) <= set(ours), name
    folder = ("sync", "--src", "docker", "--dest", "dir", "--src-tls-verify=false", "--scoped")
    skopeo(*folder, "--all", f"{source.name}/lib/other", str(tmp_path / "theirs"))
    assert ctl(*folder, f"{source.name}/lib/other", str(tmp_path / "ours")).code == 0
    theirs, ours = (_files(tmp_path / whose) for whose in ("theirs", "ours"))
    assert theirs == ours
    back = ("sync", "-s", "dir", "-d", "docker", "--append-suffix=-b", *login)
    place = tmp_path / "ours" / source.name / "lib"
    assert ctl(*back, str(place), f"{target.name}/back", "-q").code == 0
    assert ["1-b"] == listed(ctl, f"{target.name}/back/other")


def _files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("none.yml",), "No such file"),
        (("list.yml", "--platform", "linux/arm64"), "says that itself"),
        (("list.yml", "x.y/z"), "give no DEST"),
        (("list.yml", "--verify-tag"), "use copy"),
        (("--src", "docker", "alpine"), "needs DST"),
    ],
)
def test_wrong_usage(ctl: Ctl, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    """One line, exit 64."""
    (tmp_path / "list.yml").write_text("sync: [{source: a.b/c, target: d.e/f, type: image}]")
    words = tuple(str(tmp_path / w) if w.endswith(".yml") else w for w in words)

    outcome = ctl("sync", *words)

    assert (64, 1) == (outcome.code, len(outcome.words))
    assert line in outcome.err
