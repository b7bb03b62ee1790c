"""What a node shows to NATS: read from files, and what is wrong with a file."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from registryd.cluster.errors import IdentityUnusable
from registryd.cluster.nats_login import NatsLogin
from registryd.cluster_config import ClusterConfig
from tests.fakes.certificates import make_identity
from tests.fakes.nats_accounts import ACCOUNT, USER, Accounts, Nkey

FILE = Path("/nowhere")


def config(
    url: str = "nats://n1", credentials: Path | None = None, ca: Path | None = None,
    cert: Path | None = None, key: Path | None = None,
) -> ClusterConfig:  # fmt: skip
    """The section of a node that uses NATS."""
    return ClusterConfig(
        nats=(url,), ca_file=FILE, cert=FILE, key=FILE, nats_credentials=credentials,
        nats_ca_file=ca, nats_cert=cert, nats_key=key,
    )  # fmt: skip


def test_nothing_is_asked_for() -> None:
    """Without files there is no login, and no TLS unless the URL says so."""
    assert NatsLogin() == NatsLogin.read(config())
    assert NatsLogin.read(config("tls://n1")).tls is not None


def test_credentials(tmp_path: Path) -> None:
    """A credentials file has a JWT, and a key that signs what the server wants signed."""
    user = Nkey(USER)
    file = tmp_path / "u.creds"
    file.write_text(Accounts().credentials(user).replace("\n", "\r\n"))
    login = NatsLogin.read(config(credentials=file))

    user.key.public_key().verify(base64.b64decode(login.signed("nonce")), b"nonce")
    assert login.jwt.reveal().count(".") == 2
    assert "" == login.user


def test_a_user_with_a_password(tmp_path: Path) -> None:
    """One line has a user, a colon and a password, which may have colons itself."""
    file = tmp_path / "u"
    file.write_text("ann:s3c:ret\n")
    login = NatsLogin.read(config(credentials=file))

    assert ("ann", "s3c:ret") == (login.user, login.password.reveal())
    assert "s3c" not in repr(login)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no credentials of NATS"),
        ("two words here\n", "holds no credentials of NATS"),
        ("ann:secret\nbob:secret\n", "holds no credentials of NATS"),
        ("-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n", "no credentials"),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, text: str, said: str) -> None:
    """It is refused by its name, and none of what is in it is shown."""
    file = tmp_path / "u.creds"
    file.write_text(text)
    with pytest.raises(IdentityUnusable) as error:
        NatsLogin.read(config(credentials=file))

    assert said in str(error.value)
    assert str(file) in str(error.value)
    assert "secret" not in str(error.value)


def test_seeds_that_are_damaged(tmp_path: Path) -> None:
    """One letter wrong, one short, of another kind of key: the seed is refused, and not shown."""
    good = Accounts().credentials(user := Nkey(USER))
    other = "A" if user.seed[20] != "A" else "B"
    spoilt, of_account = user.seed[:20] + other + user.seed[21:], Nkey(ACCOUNT, user.key).seed
    wrong = [spoilt, user.seed[:-8], "SU1", of_account]
    file = tmp_path / "u.creds"
    for seed in wrong:
        file.write_text(good.replace(user.seed, seed))
        with pytest.raises(IdentityUnusable, match="its seed is damaged") as error:
            NatsLogin.read(config(credentials=file))

        assert seed not in str(error.value)


def test_files_of_tls(tmp_path: Path) -> None:
    """Each file that cannot be used is named: an authority that is none, a key of another."""
    one, two = (make_identity(tmp_path, name) for name in ("one", "two"))
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    cases = [
        (config(ca=nothing), f"{nothing}: holds no certificate"),
        (config(ca=tmp_path / "gone.pem"), f"{tmp_path}/gone.pem"),
        (config(cert=one.cert_file, key=two.key_file), f"{two.key_file}: is not the key of"),
        (config(credentials=tmp_path / "gone.creds"), f"{tmp_path}/gone.creds"),
    ]
    for section, said in cases:
        with pytest.raises(IdentityUnusable) as error:
            NatsLogin.read(section)

        assert said in str(error.value)
    assert NatsLogin.read(config(ca=one.cert_file, cert=one.cert_file, key=one.key_file)).tls
