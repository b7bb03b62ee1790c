"""Which image a job asks for, in the environments, comments and scripts of Slurm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import Fault
from registryd.oci.errors import ReferenceInvalid, UsageError
from registryd.schedulers.job import (
    LONGEST,
    MARGIN,
    image_in,
    image_in_script,
    image_of,
    job_of,
    kept_for,
)
from registryd.schedulers.record import ERROR_LIMIT, Record

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": "1000"}
RESOLVED = {"SPANK_REGISTRYD_IMAGE": f"a.io/b@sha256:{'0' * 64}"}
OPTION = {"SPANK__SLURM_SPANK_OPTION_registryd_image": "a.io/b:option"}
COMMENT = {"SLURM_JOB_COMMENT": "image=a.io/b:comment"}


@pytest.mark.parametrize(
    ("environ", "image"),
    [
        ({}, None),
        ({"SLURM_JOB_COMMENT": "a comment"}, None),
        (COMMENT, "a.io/b:comment"),
        (COMMENT | OPTION, "a.io/b:option"),
        (COMMENT | OPTION | RESOLVED, f"a.io/b@sha256:{'0' * 64}"),
        ({"SLURM_JOB_COMMENT": "image=docker://alpine"}, "docker.io/library/alpine:latest"),
    ],
)
def test_what_was_resolved_comes_first(environ: dict[str, str], image: str | None) -> None:
    """The digest of submit, then the plugin's option, then the comment; none is none."""
    job = job_of(JOB | environ)

    assert (image, "job:7", 1000) == (job.image and str(job.image), job.pin, job.uid)


@pytest.mark.parametrize(
    ("end", "seconds"),
    [("", None), ("x", None), ("1000", None), ("1060", 60 + MARGIN), ("9" * 19, LONGEST)],
)
def test_until_the_job_must_have_ended(end: str, seconds: float | None) -> None:
    """And a margin; where Slurm does not say, or it was long ago, nothing is known."""
    assert seconds == kept_for({"SLURM_JOB_END_TIME": end}, now=1000.0)


@pytest.mark.parametrize("environ", [{}, JOB | {"SLURM_JOB_ID": "../7"}, {"SLURM_JOB_ID": "7"}])
def test_outside_of_a_job(environ: dict[str, str]) -> None:
    """Without a job's id of digits, and its user, there is no job."""
    with pytest.raises(UsageError, match="Slurm runs this"):
        job_of(environ)


@pytest.mark.parametrize(
    ("comment", "image"),
    [
        ("image=a:1", "a:1"),
        ("project=7,image=a:1;x image=b", "a:1"),
        ("an image=", ""),
        ("myimage=a", None),
        ("", None),
    ],
)
def test_comments_have_other_words(comment: str, image: str | None) -> None:
    """The first word image=NAME counts, between blanks, commas and semicolons."""
    assert image == image_in(comment)


@pytest.mark.parametrize(
    ("lines", "image"),
    [
        (["#!/bin/sh", "#BB_LUA image=a:1"], "a:1"),
        (["#SBATCH -N2 --image=a:1 -t5"], "a:1"),
        (["#SBATCH --image a:1"], "a:1"),
        (['#SBATCH --comment="image=a:1 x"'], "a:1"),
        (["#SBATCH --image=a", "", "# words", "#SBATCH --image=b"], "b"),
        (["true", "#SBATCH --image=a"], None),
        (["# SBATCH --image=a", "##SBATCH --image=a", "#SBATCH --container-image=a"], None),
    ],
)
def test_scripts(lines: list[str], image: str | None) -> None:
    """Directives before the first command, the last one counts."""
    assert image == image_in_script(lines)


@given(st.text(max_size=2000))
def test_what_a_user_writes_is_a_reference_or_refused(text: str) -> None:
    """Whatever is asked for by comment or script is a name of an image or a Fault, never else."""
    for found in (image_in(text), image_in_script(text.splitlines()), text):
        if found is not None:
            try:
                assert str(image_of(found))
            except Fault as fault:
                assert isinstance(fault, ReferenceInvalid | UsageError)


@given(st.text(max_size=600), st.text(max_size=60))
def test_a_record_is_one_line_a_value(error: str, asked: str) -> None:
    """Nothing in a value ends its line, or can move a cursor."""
    text = Record("failed", asked, code=1, error=error).text()

    assert ["state", "asked", "image", "code", "error"] == [
        line.partition(" ")[0] for line in text.split("\n")[:-1]
    ]
    assert text.replace("\n", "").isprintable()
    assert len(text) <= ERROR_LIMIT + len(asked) + 60
