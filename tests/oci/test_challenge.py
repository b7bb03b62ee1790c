"""WWW-Authenticate headers as servers send them, and as nobody should; and token scopes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.challenge import Challenge, Scope, merge, parse_challenges, parse_scopes

READ = [
    ([], []),
    ([""], []),
    ([" , ,"], []),
    (["Basic"], [("basic", {})]),
    (['Basic realm="x"'], [("basic", {"realm": "x"})]),
    (["BASIC REALM=x"], [("basic", {"realm": "x"})]),
    (
        ['Bearer realm="https://auth.example/token",service="s",scope="repository:a:pull,push"'],
        [
            (
                "bearer",
                {
                    "realm": "https://auth.example/token",
                    "service": "s",
                    "scope": "repository:a:pull,push",
                },
            )
        ],
    ),
    (
        ["Bearer realm=https://auth/t?a=b,service=s"],
        [("bearer", {"realm": "https://auth/t?a=b", "service": "s"})],
    ),
    (['Bearer realm = "x" , service\t=\t"s"'], [("bearer", {"realm": "x", "service": "s"})]),
    (['Bearer realm="x" service="s"'], [("bearer", {"realm": "x", "service": "s"})]),
    (['Bearer realm="/token"'], [("bearer", {"realm": "/token"})]),
    ([r'Basic realm="a \"b\", \\c"'], [("basic", {"realm": r'a "b", \c'})]),
    (['Basic realm=""'], [("basic", {"realm": ""})]),
    (['Basic realm="a", realm="b"'], [("basic", {"realm": "a"})]),
    (
        ['Basic realm="x", Bearer realm="y",service="s"'],
        [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "s"})],
    ),
    (
        ['Negotiate, Basic realm="x", charset="UTF-8"'],
        [("negotiate", {}), ("basic", {"realm": "x", "charset": "UTF-8"})],
    ),
    (
        ['Bearer realm="y"', 'Basic realm="x"'],
        [("bearer", {"realm": "y"}), ("basic", {"realm": "x"})],
    ),
    (
        ['Digest qop="auth,auth-int", nonce="n=", algorithm=SHA-256'],
        [("digest", {"qop": "auth,auth-int", "nonce": "n=", "algorithm": "SHA-256"})],
    ),
    # What is broken is passed over, what is whole is used.
    (['realm="x"'], []),
    (['realm="x", Basic realm="y"'], [("basic", {"realm": "y"})]),
    (['Basic realm="x'], [("basic", {})]),
    (['"x" Basic, Bearer realm="y"'], [("bearer", {"realm": "y"})]),
    (['@@@, Bearer realm="y"'], [("bearer", {"realm": "y"})]),
    (['Basic realm=, Bearer realm="y"'], [("basic", {}), ("bearer", {"realm": "y"})]),
    (
        ['Basic realm="x", =, Bearer realm="y"'],
        [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
    ),
]


@pytest.mark.parametrize(("headers", "expected"), READ)
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    """RFC 9110, 11.6.1: all headers, all challenges, in order."""
    found = [(each.scheme, dict(each.parameters)) for each in parse_challenges(headers)]

    assert expected == found


def test_token68() -> None:
    """A scheme may carry one token in place of parameters."""
    found = parse_challenges(['Negotiate YWJj+/==, Basic realm="x"', "NTLM a-b._~ "])

    assert [each.token for each in found] == ["YWJj+/==", "", "a-b._~"]
    assert [each.scheme for each in found] == ["negotiate", "basic", "ntlm"]


def test_a_challenge_cannot_be_changed() -> None:
    """Parameters are read-only, and empty where none were given."""
    assert dict(Challenge("basic").parameters) == {}
    with pytest.raises(TypeError):
        parse_challenges(["Basic realm=x"])[0].parameters["realm"] = "y"  # type: ignore[index]


@given(st.lists(st.text(), max_size=3))
def test_no_text_raises(headers: list[str]) -> None:
    """Whatever a server sends, reading it ends and raises nothing."""
    assert all(isinstance(each, Challenge) for each in parse_challenges(headers))


@given(st.text(st.sampled_from('Basic realm="x",\\= \t@é'), max_size=60))
def test_no_near_miss_raises(header: str) -> None:
    """The same for texts that are almost challenges; and a good header after it is still read."""
    found = parse_challenges([header, 'Bearer realm="y"'])

    assert (found[-1].scheme, dict(found[-1].parameters)) == ("bearer", {"realm": "y"})
    assert all(each.scheme == each.scheme.lower() for each in found)


names = st.text(st.sampled_from("abcXYZ-_"), min_size=1, max_size=8)
values = st.text(st.characters(codec="latin-1"), max_size=20)
challenges = st.tuples(
    names.map(str.lower), st.dictionaries(names.map(str.lower), values, max_size=4)
)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


@given(st.lists(challenges, max_size=4))
def test_round_trip(wanted: list[tuple[str, dict[str, str]]]) -> None:
    """What is written by the rules is read back, as one header."""
    written = []
    for scheme, parameters in wanted:
        pairs = (f'{key}="{_escaped(value)}"' for key, value in parameters.items())
        written.append(f"{scheme} {', '.join(pairs)}".strip())
    header = ", ".join(written)

    assert wanted == [(each.scheme, dict(each.parameters)) for each in parse_challenges([header])]


def test_hostile_length() -> None:
    """A long header of quotes and escapes is read in one pass."""
    found = parse_challenges(['Basic realm="' + '\\"' * 50_000, '"' * 100_000, "a=" * 50_000])

    assert [each.scheme for each in found] == ["basic"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("repository:a/b:pull", Scope("repository", "a/b", frozenset({"pull"}))),
        ("repository:a:push,pull", Scope("repository", "a", frozenset({"pull", "push"}))),
        ("repository(plugin):a:pull", Scope("repository(plugin)", "a", frozenset({"pull"}))),
        ("repository:h:5000/a:pull", Scope("repository", "h:5000/a", frozenset({"pull"}))),
        ("registry:catalog:*", Scope("registry", "catalog", frozenset({"*"}))),
        ("repository:a:", Scope("repository", "a")),
        ("repository:a:,pull,", Scope("repository", "a", frozenset({"pull"}))),
        ("aws", Scope("aws")),
        ("a:b", Scope("a:b")),
        ("a::pull", Scope("a::pull")),
    ],
)
def test_scopes(text: str, expected: Scope) -> None:
    """A scope is kind, name and actions; another shape is kept as it is."""
    assert expected == Scope.parse(text)
    assert expected == Scope.parse(str(expected))


def test_scope_text_is_sorted() -> None:
    """Equal scopes have equal texts."""
    assert str(Scope.parse("repository:a:push,pull")) == "repository:a:pull,push"
    assert str(Scope("aws")) == "aws"


def test_several_scopes() -> None:
    """The scope parameter separates by spaces."""
    assert (Scope("a"), Scope("b", "c", frozenset({"pull"}))) == parse_scopes(" a  b:c:pull ")


def test_merge() -> None:
    """Actions on one thing come together; what came first stays first; * is everything."""
    merged = merge(
        Scope.parse(text)
        for text in (
            "repository:b:pull",
            "repository:a:pull",
            "repository:b:push",
            "repository:a:*",
            "aws",
        )
    )

    assert [str(scope) for scope in merged] == ["repository:b:pull,push", "repository:a:*", "aws"]


def test_covers() -> None:
    """A token does for fewer actions on the same thing, and for nothing else."""
    both = Scope.parse("repository:a:pull,push")
    texts = ("repository:a:pull", "repository:a:delete", "repository:b:pull", "registry:a:pull")

    assert [both.covers(Scope.parse(text)) for text in texts] == [True, False, False, False]
    assert Scope.parse("repository:a:*").covers(both)
    assert not both.covers(Scope.parse("repository:a:*"))
