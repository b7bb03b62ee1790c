"""Host lists mean what Slurm's own ``scontrol`` says that they mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.hostlist import expand, fold
from registryd.oci.errors import UsageError
from tests.real.runtimes import Ran, attempt, plain_environ

Slurm = Callable[[str, str], Ran]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Slurm:
    """Ask ``scontrol show``, which needs a configuration and no running Slurm."""
    folder = tmp_path_factory.mktemp("slurm")
    conf = folder / "slurm.conf"
    # An unpacked scontrol does not find the folder of plugins that it was built with.
    conf.write_text(f"ClusterName=c\nSlurmctldHost=localhost\nPluginDir={folder}\n")
    environ = {**plain_environ(folder), "SLURM_CONF": str(conf)}
    return lambda what, text: attempt(["scontrol", "show", what, text], environ)


def hostnames(slurm: Slurm, text: str) -> list[str]:
    """The names that Slurm makes of a list."""
    ran = slurm("hostnames", text)
    assert ran.code == 0, ran.err
    return ran.out.split()


RANGE = st.one_of(
    st.from_regex(r"[0-9]{1,4}", fullmatch=True),
    st.builds(
        lambda first, more, width: f"{first:0{width}}-{first + more}",
        st.integers(0, 120),
        st.integers(0, 15),
        st.integers(1, 4),
    ),
)
BRACKET = st.lists(RANGE, min_size=1, max_size=3).map(lambda ranges: f"[{','.join(ranges)}]")
TEXT = st.sampled_from(["n", "rack", "a-b", "x1y", "r0_"])
WORD = st.one_of(
    st.builds("{}{}".format, TEXT, st.integers(0, 99)),
    st.builds("{}{}".format, TEXT, BRACKET),
    st.builds("{}{}{}{}".format, TEXT, BRACKET, TEXT, BRACKET),
)
BETWEEN = st.sampled_from([",", ", ", ",,"])
LIST = st.builds(lambda words, by: by.join(words), st.lists(WORD, min_size=1, max_size=4), BETWEEN)
NUMBER = st.integers(0, 20)
NAME = st.builds("{}{}n{:0{}}".format, TEXT, NUMBER, NUMBER, st.integers(1, 3))


@settings(max_examples=150)
@given(text=LIST)
def test_the_same_names(slurm: Slurm, text: str) -> None:
    """A list of up to two brackets a word: the same names in the same order, each once."""
    assert list(expand(text)) == list(dict.fromkeys(hostnames(slurm, text)))


def test_three_brackets(slurm: Slurm) -> None:
    """With three brackets the names are the same; Slurm's order is its own."""
    text = "a[1-2]b[08-11]c[3,5-6]"

    assert sorted(expand(text)) == sorted(hostnames(slurm, text))


@settings(max_examples=100)
@given(names=st.lists(NAME, min_size=1, max_size=30, unique=True))
def test_slurm_reads_what_is_folded(slurm: Slurm, names: list[str]) -> None:
    """What ``fold`` writes means the same names to Slurm."""
    assert names == hostnames(slurm, fold(names))


@pytest.mark.parametrize("text", ["n[2-1]", "n[]", "n[1,]", "n[1--2]", "n[x]", "n[1-70000]"])
def test_both_refuse(slurm: Slurm, text: str) -> None:
    """What Slurm refuses is refused here too, and says more."""
    with pytest.raises(UsageError):
        expand(text)

    assert "Invalid hostlist" in slurm("hostnames", text).err
