"""Commands through a daemon: what they ask for, and what they say."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ctl, Outcome
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
ALPINE = "docker.io/library/alpine:3.20"
IMAGE = {
    "name": "docker.io/library/alpine",
    "tag": "3.20",
    "reference": ALPINE,
    "digest": DIGEST,
    "platforms": ["linux/amd64"],
    "size": 123_456_789,
    "own_size": 12_345,
    "last_used": "2020-01-01T00:00:00Z",
    "pinned": True,
}
DONE = {
    "event": "done",
    "reference": ALPINE,
    "digest": DIGEST,
    "platforms": ["linux/amd64"],
    "fetched": 2048,
    "fetched_blobs": 2,
    "held": 0,
    "held_blobs": 0,
    "seconds": 1.0,
}


def test_images_as_a_table(through: Run, daemon: FakeDaemon) -> None:
    """One line an image, sizes for people, short digests."""
    daemon.on("GET", "/api/v1/images", Answer.of({"images": [IMAGE]}))

    head, row = through("images").out.splitlines()

    assert " ".join(head.split()) == "NAME TAG DIGEST PLATFORM SIZE OWN LAST USED PINNED"
    assert row.startswith(
        "docker.io/library/alpine  3.20  aaaaaaaaaaaa  linux/amd64  118 MiB  12.1"
    )
    assert row.endswith("years ago  yes")


def test_images_quiet_gives_each_digest_once(through: Run, daemon: FakeDaemon) -> None:
    """-q is for scripts: whole digests and nothing else."""
    daemon.on("GET", "/api/v1/images", Answer.of({"images": [IMAGE, {**IMAGE, "tag": "3"}]}))

    assert through("images", "-q").out == f"{DIGEST}\n"


def test_images_as_json_are_the_daemons(through: Run, daemon: FakeDaemon) -> None:
    """JSON has bytes and RFC 3339, unchanged; --no-trunc is for the table."""
    daemon.on("GET", "/api/v1/images", Answer.of({"images": [IMAGE]}))

    assert json.loads(through("images", "--format", "json").out) == {"images": [IMAGE]}
    assert DIGEST in through("images", "--no-trunc").out


def test_images_in_the_words_of_docker(through: Run, daemon: FakeDaemon) -> None:
    """One repository or tag of it, lines made of a template; what we show anyway is no error."""
    other = {**IMAGE, "name": "ghcr.io/a/b", "tag": "1", "reference": "ghcr.io/a/b:1"}
    daemon.on("GET", "/api/v1/images", Answer.of({"images": [IMAGE, other]}))
    template = ("--format", r"{{.Repository}}:{{.Tag}}\t{{.ID}}")

    assert through("images", "-a", "--digests", *template).out == (
        "alpine:3.20\taaaaaaaaaaaa\nghcr.io/a/b:1\taaaaaaaaaaaa\n"
    )
    assert through("images", "alpine", "-q").out == f"{DIGEST}\n"
    assert through("images", "alpine:3.19", *template).out == ""
    assert through("images", "ghcr.io/a/b:1", "--format", "{{.Digest}}").out == f"{DIGEST}\n"
    assert through("images", "--format", "table {{.Tag}}").code == 64


def test_pull_prints_what_it_pulled(through: Run, daemon: FakeDaemon) -> None:
    """stdout: the canonical name and digest; stderr: the rest."""
    daemon.on("POST", "/api/v1/pull", Answer.events({"event": "resolved"}, DONE))

    outcome = through("pull", "alpine:3.20", "--platform", "linux/s390x,linux/amd64")

    assert (outcome.code, outcome.out) == (0, f"{ALPINE}@{DIGEST}\n")
    assert "fetched    2.0 KiB  2 blobs" in outcome.words
    assert daemon.requests[0].body == {
        "reference": ALPINE,
        "platforms": ["linux/s390x", "linux/amd64"],
        "all_platforms": False,
    }


def test_pull_as_json_ends_with_the_result(through: Run, daemon: FakeDaemon) -> None:
    """The result on stdout is the last event without its kind."""
    daemon.on("POST", "/api/v1/pull", Answer.events(DONE))

    outcome = through("pull", "alpine:3.20", "--format", "json", "--progress", "json")

    assert json.loads(outcome.out) == {k: v for k, v in DONE.items() if k != "event"}
    assert [json.loads(line) for line in outcome.words] == [DONE]


def test_pull_takes_the_platform_of_the_environment(
    ctl: Ctl, through: Run, daemon: FakeDaemon
) -> None:
    """DOCKER_DEFAULT_PLATFORM counts where no flag says otherwise."""
    daemon.on("POST", "/api/v1/pull", Answer.events(DONE))
    ctl.environ["DOCKER_DEFAULT_PLATFORM"] = "linux/s390x"

    through("pull", "alpine")
    through("pull", "alpine", "--platform", "linux/amd64")
    through("pull", "alpine", "--all-platforms")

    asked = [(r.body["platforms"], r.body["all_platforms"]) for r in daemon.requests]
    assert asked == [(["linux/s390x"], False), (["linux/amd64"], False), ([], True)]


def test_pull_of_several_goes_on_and_ends_partly(through: Run, daemon: FakeDaemon) -> None:
    """One image that fails does not stop the others; the exit code says so."""
    failed = {"event": "failed", "message": "b: not there", "exit_code": 2}
    daemon.on("POST", "/api/v1/pull", Answer.events(failed))

    outcome = through("pull", "a", "b", "-q")

    assert outcome.code == 2
    assert outcome.words == ["registryctl: b: not there"] * 3


def test_rmi_of_several_ends_partly(through: Run, daemon: FakeDaemon) -> None:
    """7: some done, some not; each failure has its line."""
    refused, listed = Answer.refusal(404, "a is not here", 2), Answer.of({"images": []})
    answers = iter([refused, listed, Answer.of({"untagged": ["b"]})])

    class Script(dict[Any, Any]):
        def get(self, key: object, default: object = None) -> Any:
            return next(answers)

    daemon.answers = Script()

    outcome = through("rmi", "a", "b", "-q")

    assert (outcome.code, outcome.out) == (7, "Untagged: b\n")
    assert outcome.words == ["registryctl: a is not here", "registryctl: 1 of 2 failed"]


def test_rmi_says_what_went(through: Run, daemon: FakeDaemon) -> None:
    """Names and digests on stdout, the space on stderr."""
    result = {"untagged": [ALPINE], "deleted": [DIGEST], "freed": 2048}
    daemon.on("POST", "/api/v1/rmi", Answer.of(result))

    outcome = through("rmi", "alpine:3.20")

    assert outcome.out == f"Untagged: {ALPINE}\nDeleted: {DIGEST}\n"
    assert outcome.words == ["2.0 KiB freed"]


def test_tag_is_silent(through: Run, daemon: FakeDaemon) -> None:
    """No news is good news, as in other clients; JSON has the result."""
    result = {"reference": "localhost/a:1", "digest": DIGEST}
    daemon.on("POST", "/api/v1/tag", Answer.of(result))

    assert through("tag", "alpine", "localhost/a:1") == Outcome(0, b"", "")
    assert json.loads(through("tag", "alpine", "x", "--format", "json").out) == result


@pytest.mark.parametrize("name", ["digest", "resolve"])
def test_digest_prints_the_digest_only(through: Run, daemon: FakeDaemon, name: str) -> None:
    """One line for scripts; --full-ref is the name with it."""
    daemon.on("GET", "/api/v1/digest", Answer.of({"reference": ALPINE, "digest": DIGEST}))

    assert through(name, "alpine:3.20").out == f"{DIGEST}\n"
    assert through(name, "alpine:3.20", "--full-ref").out == f"docker.io/library/alpine@{DIGEST}\n"
    assert daemon.requests[0].query == {"reference": ALPINE}


@pytest.mark.parametrize("name", ["tags", "ls", "list-tags"])
def test_tags_are_one_a_line(through: Run, daemon: FakeDaemon, name: str) -> None:
    """A tag a line, in the order that came."""
    daemon.on("GET", "/api/v1/tags", Answer.of({"name": "x", "tags": ["1", "latest"]}))

    assert through(name, "ghcr.io/org/app").out == "1\nlatest\n"
    assert daemon.requests[0].query == {"repository": "ghcr.io/org/app"}


def test_a_tag_cannot_steer_the_terminal(through: Run, daemon: FakeDaemon) -> None:
    """Escape sequences in what a registry says are not written."""
    daemon.on("GET", "/api/v1/tags", Answer.of({"tags": ["\x1b[2Jevil"]}))

    assert through("tags", "a").out == "?[2Jevil\n"


@pytest.mark.parametrize("words", [("manifest",), ("inspect", "--raw")])
def test_manifests_come_byte_for_byte(
    through: Run, daemon: FakeDaemon, words: tuple[str, ...]
) -> None:
    """No newline added, no byte changed."""
    daemon.on("GET", "/api/v1/manifest", Answer(b'{ "x":\xff\r\n}'))

    assert through(*words, "alpine", "--platform", "linux/arm64").raw == b'{ "x":\xff\r\n}'
    assert daemon.requests[0].query["platform"] == "linux/arm64"


def _scripted_image(daemon: FakeDaemon) -> None:
    layer = {"mediaType": "L", "digest": OTHER, "size": 7}
    manifest = json.dumps({"layers": [layer]}).encode()
    settings = {"Env": ["A=b"], "Labels": {"k": "v"}}
    config = {"architecture": "arm64", "os": "linux", "created": "C", "config": settings}
    daemon.on(
        "GET", "/api/v1/manifest", Answer(manifest, headers={"Docker-Content-Digest": DIGEST})
    )
    headers = {"X-Registryd-Manifest-Digest": OTHER}
    daemon.on("GET", "/api/v1/config", Answer(json.dumps(config).encode(), headers=headers))


def test_inspect_has_the_members_people_know(through: Run, daemon: FakeDaemon) -> None:
    """skopeo's members; of an index, Digest is the index's and Layers the platform's."""
    _scripted_image(daemon)

    outcome = through("inspect", "alpine:3.20", "--platform", "linux/arm64")

    assert json.loads(outcome.out) == {
        "Name": "docker.io/library/alpine",
        "Digest": DIGEST,
        "RepoTags": ["3.20"],
        "Created": "C",
        "DockerVersion": "",
        "Labels": {"k": "v"},
        "Architecture": "arm64",
        "Os": "linux",
        "Layers": [OTHER],
        "LayersData": [{"MIMEType": "L", "Digest": OTHER, "Size": 7, "Annotations": None}],
        "Env": ["A=b"],
    }
    asked = [(r.path.rpartition("/")[2], r.query) for r in daemon.requests]
    assert asked == [
        ("manifest", {"reference": ALPINE}),
        ("config", {"reference": ALPINE, "platform": "linux/arm64"}),
        ("manifest", {"reference": f"docker.io/library/alpine@{OTHER}"}),
    ]


def test_inspect_config(through: Run, daemon: FakeDaemon) -> None:
    """--config is readable JSON, --config --raw the bytes."""
    daemon.on("GET", "/api/v1/config", Answer(b'{"os":"linux"}'))

    assert through("inspect", "--config", "a").out == '{\n  "os": "linux"\n}\n'
    assert through("inspect", "--config", "--raw", "a").raw == b'{"os":"linux"}'


def test_inspect_of_what_is_no_json(through: Run, daemon: FakeDaemon) -> None:
    """A config that is none is one line."""
    daemon.on("GET", "/api/v1/config", Answer(b"no"))

    outcome = through("inspect", "--config", "a")

    assert (outcome.code, len(outcome.words)) == (1, 1)
    assert "is not a JSON object" in outcome.err


def test_push_of_a_name(through: Run, daemon: FakeDaemon) -> None:
    """The daemon pushes what it holds; without a second name, under its own."""
    done = {"event": "done", "reference": "ghcr.io/a/b:1", "digest": DIGEST, "sent": 5}
    daemon.on("POST", "/api/v1/push", Answer.events(done))

    assert through("push", "alpine:3.20", "ghcr.io/a/b:1").out == f"ghcr.io/a/b:1@{DIGEST}\n"
    assert through("push", "cache:ghcr.io/a/b:1").code == 0
    assert [r.body for r in daemon.requests] == [
        {"source": ALPINE, "destination": "ghcr.io/a/b:1"},
        {"source": "ghcr.io/a/b:1", "destination": "ghcr.io/a/b:1"},
    ]


def test_copy_into_the_cache_is_a_pull_and_a_name(through: Run, daemon: FakeDaemon) -> None:
    """The daemon fetches; the second name is set on the exact digest."""
    daemon.on("POST", "/api/v1/pull", Answer.events(DONE))
    daemon.on("POST", "/api/v1/tag", Answer.of({}))

    outcome = through("copy", "alpine:3.20", "cache:localhost/mine:1")

    assert outcome.out == f"localhost/mine:1@{DIGEST}\n"
    assert [r.body for r in daemon.requests] == [
        {"reference": ALPINE, "platforms": [], "all_platforms": True},
        {"source": f"docker.io/library/alpine@{DIGEST}", "target": "localhost/mine:1"},
    ]


def test_cache_df(through: Run, daemon: FakeDaemon) -> None:
    """Images with own and shared sizes, then the whole."""
    image = {"reference": ALPINE, "size": 3072, "own_size": 1024, "shared_size": 2048}
    df = {"root": "/r", "blobs": 5, "size": 4096, "images": [image], "free": 1024**3}
    daemon.on("GET", "/api/v1/cache/df", Answer.of(df))

    lines = through("cache", "df").out.splitlines()

    bar = "#" * 6 + "-" * 11
    assert lines[1].split() == [ALPINE, "3.0", "KiB", "1.0", "KiB", "2.0", "KiB", bar]
    assert lines[-1].split() == ["free", "on", "the", "disk:", "1.0", "GiB"]


def test_a_daemon_that_breaks_off_ends_6(through: Run, daemon: FakeDaemon) -> None:
    """In the middle of a pull: one line."""
    daemon.on("POST", "/api/v1/pull", Answer.events({"event": "resolved"}, cut=True))

    outcome = through("pull", "a", "b", "-q")

    assert (outcome.code, outcome.out, len(outcome.words)) == (6, "", 1)
    assert "broke off in the middle of pull" in outcome.err


def _authorizations(daemon: FakeDaemon) -> list[str]:
    found = (request.headers.get("authorization", "") for request in daemon.requests)
    return [base64.b64decode(value.removeprefix("Basic ")).decode() for value in found]


def test_credentials_come_from_flags_and_files(ctl: Ctl, through: Run, daemon: FakeDaemon) -> None:
    """--no-creds before --creds before --authfile before REGISTRY_AUTH_FILE; for this registry."""
    for name in ("one", "two"):
        auths = {"auths": {"ghcr.io": {"auth": base64.b64encode(f"ann:{name}".encode()).decode()}}}
        (ctl.home / name).write_text(json.dumps(auths))
    ctl.environ["REGISTRY_AUTH_FILE"] = str(ctl.home / "one")
    daemon.on("GET", "/api/v1/tags", Answer.of({"tags": []}))

    through("tags", "ghcr.io/a/b")
    through("tags", "ghcr.io/a/b", "--authfile", str(ctl.home / "two"))
    through("tags", "ghcr.io/a/b", "--creds", "bob:x:y")
    through("tags", "ghcr.io/a/b", "--no-creds")
    through("tags", "quay.io/a/b")

    assert _authorizations(daemon) == ["ann:one", "ann:two", "bob:x:y", "", ""]


def test_no_secret_is_ever_said(through: Run, daemon: FakeDaemon) -> None:
    """Not with -v, not in an error, not in the address of a request."""
    daemon.on("GET", "/api/v1/tags", Answer.refusal(401, "no access", 3))

    outcome = through("tags", "ghcr.io/a/b", "--creds", "bob:S3CRET", "-v")

    assert outcome.code == 3
    assert "S3CRET" not in outcome.err + outcome.out + str(daemon.requests[0].query)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--creds", ":x"), "--creds is written USER[:PASSWORD]"),
        (("--creds", "bob"), "no terminal to ask"),
        (("--authfile", "/nonexistent/file"), "there is no such file"),
        (("--plain-http",), "--plain-http: the daemon on"),
        (("--tls-verify=false",), "--tls-verify: the daemon on"),
        (("--retry-times", "2"), "--retry-times: the daemon on"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(through: Run, words: tuple[str, ...], line: str) -> None:
    """A flag without effect would be a lie."""
    outcome = through("tags", "ghcr.io/a/b", *words)

    assert outcome.code == 64
    assert line in outcome.err


def test_jobs_are_the_daemons(through: Run) -> None:
    """How much is done at once is not for one of many callers to say."""
    outcome = through("pull", "alpine", "-j", "3")

    assert outcome.code == 64
    assert "--jobs: the daemon on" in outcome.err


def test_the_users_own_daemon_is_found(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Without flags: the socket in the run-time directory, when someone answers there."""
    daemon.on("GET", "/api/v1/images", Answer.of({"images": []}))
    socket = Path(ctl.environ["XDG_RUNTIME_DIR"]) / "registryd/registryd.sock"
    socket.parent.mkdir(parents=True)
    socket.symlink_to(daemon.socket)

    assert ctl("images", "-q").code == 0
    assert len(daemon.requests) == 1


def test_a_named_socket_without_a_daemon_is_an_error(ctl: Ctl, tmp_path: Path) -> None:
    """Whoever names a daemon wants that daemon, not a cache elsewhere."""
    ctl.environ["REGISTRYD_SOCKET"] = str(tmp_path / "gone.sock")

    outcome = ctl("images")

    assert outcome.code == 6
    assert "no daemon answers on" in outcome.err
