"""Host lists as Slurm writes them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registryd.hostlist import NAMES_LIMIT, expand, fold, natural_order, split_port
from registryd.oci.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n1", "n1"),
        ("n[1-3]", "n1 n2 n3"),
        ("n[3,1,2]", "n3 n1 n2"),
        ("n[08-11]", "n08 n09 n10 n11"),
        ("n[8-011]", "n8 n9 n10 n11"),
        ("n[001-2]", "n001 n002"),
        ("n[1-3,2-4]", "n1 n2 n3 n4"),
        ("n[0,00]", "n0 n00"),
        ("n1,n1,n2", "n1 n2"),
        ("n[1-2],m[1-2]", "n1 n2 m1 m2"),
        ("r[1-2]n[1-2]", "r1n1 r1n2 r2n1 r2n2"),
        ("a[1-2][3-4]", "a13 a14 a23 a24"),
        ("a[1-2]b[1-2]c[1-2]", "a1b1c1 a1b1c2 a1b2c1 a1b2c2 a2b1c1 a2b1c2 a2b2c1 a2b2c2"),
        ("r[1-2]n[01-02,70]:5051,login1:5051",
         "r1n01:5051 r1n02:5051 r1n70:5051 r2n01:5051 r2n02:5051 r2n70:5051 login1:5051"),
        ("n[1-2].example.org:80", "n1.example.org:80 n2.example.org:80"),
        ("rack1_blade[1-2]", "rack1_blade1 rack1_blade2"),
        ("N1,n1", "N1 n1"),
        (" n1, n2,,n3\n", "n1 n2 n3"),
        ("10.0.0.[1-2]:5051", "10.0.0.1:5051 10.0.0.2:5051"),
        ("[::1]:5051,[2001:DB8:0::1],n[1-2]", "[::1]:5051 [2001:db8::1] n1 n2"),
    ],
)  # fmt: skip
def test_expand(text: str, expected: str) -> None:
    """Ranges keep their zeros, brackets multiply, the order stays, and nothing comes twice."""
    assert tuple(expected.split()) == expand(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no host"),
        (" ,, ", "names no host"),
        ("n[1-2", "character 2, in 'n[1-2': this bracket is not closed"),
        ("m1,n[1-2][", "character 10, in 'n[1-2][': this bracket is not closed"),
        ("n[[1]]", "character 2, in 'n[[1]]': this bracket is not closed"),
        ("m1 a]b", 'character 5, in \'a]b\': this "]" closes nothing'),
        ("n[1,2-1]", "character 5, in 'n[1,2-1]': the range '2-1' runs backwards"),
        ("n[]", "character 3, in 'n[]': '' is not a number"),
        ("n[1,]", "character 5, in 'n[1,]': '' is not a number"),
        ("n[1--2]", "'1--2' is not a number"),
        ("n[ 1-3]", "' 1-3' is not a number"),
        ("n[x]", "'x' is not a number"),
        ("n[\u0661]", "is not a number"),
        ("n\u0661", "is not a host name"),
        ("-n", "is not a host name"),
        ("n-", "is not a host name"),
        ("n1..org", "is not a host name"),
        ("n1.", "is not a host name"),
        ("n1\0", "is not a host name"),
        ("http://n1", "'//n1' is not a port"),
        ("n" * 64, "is not a host name"),
        ("n." * 127, "at most 253 characters"),
        ("n[" + "9" * 64 + "]", "of at most 63 digits"),
        ("[1-3]", "'1' ends in a number and is no IPv4 address"),
        ("0x7f000001", "ends in a number"),
        ("10.0.0.256", "ends in a number"),
        ("10.0.0.[01-02]", "ends in a number"),
        ("m1,n1:", "character 4, in 'n1:': '' is not a port"),
        ("n1:0", "'0' is not a port"),
        ("n1:65536", "'65536' is not a port"),
        ("n1:080", "'080' is not a port"),
        ("n1:x", "'x' is not a port"),
        ("n1:[1-2]", "character 4, in 'n1:[1-2]': a port takes no brackets"),
        ("[::1]:[1-2]", "brackets"),
        ("2001:db8::1", "an IPv6 address stands in brackets"),
        ("[::1]n", "an IPv6 address stands in brackets"),
        ("n[a:b]", "'a:b' is not a number"),
        ("[a:b]", "character 2, in '[a:b]': 'a:b' is neither numbers nor an IPv6 address"),
        ("[fe80::1%eth0]", "zone"),
        ("[::ffff:10.0.0.1]:5", "the address is written 10.0.0.1"),
        ("n[1-65537]", "more than 65536 names"),
        ("n[1-65536],m1", "character 12, in 'm1': the list has more than 65536 names"),
        ("a[1-999]b[1-999]", "more than 65536 names"),
        ("a[1-9" + "9" * 60 + "]", "more than 65536 names"),
    ],
)  # fmt: skip
def test_expand_refused(text: str, said: str) -> None:
    """A bad list is one short line that says where, and why."""
    with pytest.raises(UsageError) as caught:
        expand(text)

    assert said in str(caught.value)
    assert 1 == len(str(caught.value).splitlines())
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "]" * 100_000,
        "[1]" * 100_000,
        "n1," * 500_000,
        "[1-65536]" * 50_000,
        "n" * 1_000_000 + "[1-65536]",
        ("n[1" + ",2" * 65_530 + "],") * 20,
        ":" * 1_000_000,
        "n[1-" + "9" * 1_000_000 + "]",
    ],
    ids=lambda text: text[:12],
)
def test_large_lists_are_refused(text: str) -> None:
    """Nothing is multiplied out, or converted, before it is known to be small enough."""
    with pytest.raises(UsageError):
        expand(text)


def test_the_largest_list() -> None:
    """As many names as are allowed, there and back."""
    names = expand("r[1-256]n[1-256]")

    assert NAMES_LIMIT == len(names)
    assert "r[1-256]n[1-256]" == fold(names)
    with pytest.raises(UsageError, match="too many"):
        fold([*names, "m1"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("", ""),
        ("n1", "n1"),
        ("n1 n2 n3", "n[1-3]"),
        ("n1 n2 n2", "n[1-2]"),
        ("n2 n1", "n[2,1]"),
        ("n1 n3 n5 m2", "n[1,3,5],m2"),
        ("n1 m1 n2", "n1,m1,n2"),
        ("n9 n10", "n[9-10]"),
        ("n09 n10 n100", "n[09-10,100]"),
        ("n099 n100", "n[099-100]"),
        ("n1 n01", "n[1,01]"),
        ("r1n1 r1n2 r2n1 r2n2", "r[1-2]n[1-2]"),
        ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"),
        ("r1n1 r2n1", "r[1-2]n[1]"),
        ("r1n1x r2n1x", "r[1-2]n1x"),
        ("n1:5051 n2:5051", "n[1-2]:5051"),
        ("n1:5051 n1:5052", "n1:5051,n1:5052"),
        ("n1 n2:1", "n1,n2:1"),
        ("n1.a.org n2.a.org", "n[1-2].a.org"),
        ("[::1] [::2]", "[::1],[::2]"),
    ],
)
def test_fold(names: str, expected: str) -> None:
    """Neighbours are folded at each of their numbers, never at the port."""
    assert expected == fold(names.split())


@pytest.mark.parametrize("name", ["", "n[1-2]", "n1,n2", "n1 ", "[::01]", "1", "n1:0"])
def test_fold_refused(name: str) -> None:
    """What is no single host is not folded: the list would mean something else."""
    with pytest.raises(UsageError) as caught:
        fold(["n1", name])

    assert "is not a host" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("n1", ("n1", None)),
        ("n1:5051", ("n1", 5051)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::1]", ("::1", None)),
    ],
)
def test_split_port(name: str, expected: tuple[str, int | None]) -> None:
    """Host and port, as a connection takes them."""
    assert expected == split_port(name)


def test_natural_order() -> None:
    """Numbers sort by what they count; doubtful ones by their zeros; the rest by letters."""
    expected = ["m1", "n", "n1", "n01", "n2", "n10", "n10a", "n" + "9" * 5000]

    assert expected == sorted(set(expected), key=natural_order)
    assert "n[1-10]" == fold(sorted((f"n{number}" for number in range(1, 11)), key=natural_order))


HOSTS = st.from_regex(
    r"[a-z][a-z0-9]{0,3}-?[0-9]{1,3}(\.[a-z]{1,3}[0-9]?)?(:[1-9][0-9]?)?", fullmatch=True
)
NUMBERS = st.integers(0, 12)
PORTS = st.sampled_from(["", ":1"])
NUMBERED = st.builds("r{}n{:0{}}{}".format, NUMBERS, NUMBERS, st.integers(1, 3), PORTS)
SIXES = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)
ADDRESSES = st.ip_addresses(v=4).map(str) | SIXES.map("[{}]".format)


@given(st.lists(HOSTS | NUMBERED | ADDRESSES, min_size=1, max_size=40))
def test_round_trip(names: list[str]) -> None:
    """What is folded expands to the same names in the same order."""
    unique = tuple(dict.fromkeys(names))

    assert unique == expand(fold(names))


PIECES = ["n", "1", "02", "[", "]", "-", ",", ":", ".", " ", "[1-3]", "::1", "é", "9" * 20]


@given(st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("[]")
@example("[:]")
@example("][")
def test_no_other_exception(text: str) -> None:
    """Any text is a list or a UsageError; what is a list folds to an equal one."""
    try:
        names = expand(text)
    except UsageError as error:
        assert 1 == len(str(error).splitlines())
    else:
        assert names == expand(fold(names))
