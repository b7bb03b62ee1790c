"""inspect, config and digest: of names and of files, for one platform, by templates."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.cli import go_template
from registryd.oci.errors import UsageError
from tests.cli.conftest import Ctl
from tests.cli.test_copy import ARM, DIGEST, write_layout


@pytest.fixture
def own(ctl: Ctl, tmp_path: Path) -> Ctl:
    """The program on a cache that has the sample as localhost/app:1; so has a layout, as v1."""
    ctl.environ["REGISTRYD_ROOT"] = str(tmp_path / "root")
    layout = write_layout(tmp_path / "layout", "v1")
    ctl("copy", f"oci:{layout}:v1", "cache:localhost/app:1", "-q")
    return ctl


def test_a_file_is_inspected_as_a_name_is(own: Ctl, tmp_path: Path) -> None:
    """The same members, but for the name and its tags."""
    named = json.loads(own("inspect", "localhost/app:1", "--platform", "linux/arm64").out)
    layout = f"oci:{tmp_path / 'layout'}:v1"
    filed = json.loads(own("inspect", layout, "--platform", "linux/arm64").out)

    assert filed == {k: v for k, v in named.items() if k != "Name"} | {"RepoTags": []}
    assert (named["Digest"], named["Architecture"]) == (DIGEST, "arm64")
    raw = own("inspect", "--raw", layout).raw
    assert (
        raw
        == own("inspect", "--raw", "localhost/app:1").raw
        == own("manifest", "localhost/app:1").raw
    )
    own.environ["DOCKER_DEFAULT_PLATFORM"] = "linux/arm64"
    for words in (("--config", layout), ("--config", "localhost/app:1")):
        assert json.loads(own("inspect", *words).out)["architecture"] == "arm64"
    assert own("config", "localhost/app:1").raw == own("inspect", "--config", "--raw", layout).raw


def test_for_one_platform(own: Ctl) -> None:
    """digest and config know --platform; as JSON they say what points to the content."""
    words = ("localhost/app:1", "--platform", "linux/arm64")

    assert own("digest", *words).out == f"{ARM}\n"
    assert own("digest", *words, "--full-ref").out == f"localhost/app@{ARM}\n"
    config = json.loads(own("config", *words, "--format", "json").out)
    assert (config["content"]["architecture"], config["size"]) == ("arm64", 40)
    assert own("digest", "localhost/app:1", "--platform", "linux/arm64,linux/amd64").code == 64
    assert own("digest", "localhost/app:1", "--platform", "linux/s390x").code == 2


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.Digest}}", DIGEST),
        ("{{ .Name }}@{{.Os}}", "localhost/app@linux"),
        ("{{json .RepoTags}} {{.RepoTags}}", '["1"] [1]'),
        ("{{.Os}}\\t{{.Architecture}}\\n", "linux\tamd64\n"),
        ("{{.Labels}}", "map[]"),
    ],
)
def test_templates(own: Ctl, template: str, shown: str) -> None:
    """The fields that people of skopeo and docker ask for."""
    words = ("inspect", "localhost/app:1", "--platform", "linux/amd64", "--format", template)

    assert own(*words).out == f"{shown}\n"


@pytest.mark.parametrize("template", ["{{range .Layers}}{{.}}{{end}}", "{{.None}}", "{{.}}", "xml"])
def test_templates_that_are_not_understood(own: Ctl, template: str) -> None:
    """They are refused in one line, and nothing is printed."""
    outcome = own("inspect", "localhost/app:1", "--format", template)

    assert (outcome.code, outcome.raw, len(outcome.words)) == (64, b"", 1)


@given(st.text())
def test_any_text_is_filled_in_or_refused(template: str) -> None:
    """No text makes an error of another kind."""
    with suppress(UsageError):
        assert isinstance(go_template.rendered(template, {"A": 1}), str)
