"""Tokens that carry a login, and what a login is called where it is not to be seen."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.secrets import NOBODY, Login, Secret
from registryd.server.tokens import LIFETIME, TokenInvalid, Tokens

KEY, SALT = bytes(range(32)), bytes(32)
ANN = Login("ann", Secret("secret-word"))

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
logins = st.builds(Login, words, words.map(Secret), words.map(Secret))


@dataclass
class Time:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tokens(time: Time) -> Tokens:
    return Tokens(KEY, SALT, time)


@given(login=logins)
def test_a_token_carries_its_login(login: Login) -> None:
    """What was sealed is opened as it was, in any script, also by another process."""
    assert login == Tokens(KEY, SALT).open(Tokens(KEY, SALT).seal(login))


def test_nobody_s_token(tokens: Tokens) -> None:
    """A token can carry nobody."""
    assert NOBODY == tokens.open(tokens.seal(NOBODY))


def test_a_token_shows_nothing(tokens: Tokens) -> None:
    """Neither name nor password can be seen, and two tokens of one login look different."""
    first, second = tokens.seal(ANN), tokens.seal(ANN)

    assert first != second
    assert "ann" not in first and "secret" not in first


def test_a_token_ends(tokens: Tokens, time: Time) -> None:
    """It is good for its lifetime, and then no more."""
    token = tokens.seal(ANN)
    time.now += LIFETIME
    within = tokens.open(token)
    time.now += 1

    assert ANN == within
    with pytest.raises(TokenInvalid):
        tokens.open(token)


@pytest.mark.parametrize("text", ["", "x", "\u00e9", "a" * 10_000, "gAAAAA=="])
def test_what_is_no_token(tokens: Tokens, text: str) -> None:
    """Any other text is refused."""
    with pytest.raises(TokenInvalid):
        tokens.open(text)


def test_a_token_of_another_cache(tokens: Tokens) -> None:
    """Another cache's token is refused, and one that was changed in a single place."""
    token = tokens.seal(ANN)
    changed = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]

    for other in (Tokens(bytes(32), SALT).seal(ANN), changed):
        with pytest.raises(TokenInvalid):
            tokens.open(other)


def test_a_long_password_fits(tokens: Tokens) -> None:
    """A password of 4 kB makes a header that every listener takes."""
    assert len(tokens.seal(Login("AWS", Secret("p" * 4096)))) < 8000


OTHERS = [
    Login("ann", Secret("another")),
    Login("bob", Secret("secret-word")),
    Login("ann", identity_token=Secret("secret-word")),
    Login("an", Secret("nsecret-word")),
    Login('ann","secret-word', Secret("")),
]


@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_each_login_is_a_principal_of_its_own(tokens: Tokens, other: Login) -> None:
    """Another password, another name, another kind of secret: another principal."""
    assert tokens.principal(ANN) != tokens.principal(other)


def test_a_principal_outlives_the_process(tokens: Tokens) -> None:
    """One login is one principal as long as the salt is kept, wherever it comes from."""
    again = Login("ann", Secret("secret-word"), origin="elsewhere")

    assert tokens.principal(ANN) == Tokens(bytes(32), SALT).principal(again)
    assert tokens.principal(ANN) != Tokens(KEY, KEY).principal(ANN)
    assert tokens.principal(ANN).startswith("login:")
