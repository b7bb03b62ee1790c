"""Which rule a name falls under, and what bytes count as a signature."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.content import Digest
from registryd.oci.manifest import parse
from registryd.signature_config import SignatureConfig
from registryd.signatures.keys import KeyUnusable, read_keys
from registryd.signatures.rules import rule_for
from registryd.signatures.simple_signing import SIGNATURES_LIMIT, candidates, signer, tag_of
from tests.fakes.cosign import Signer, manifest_of, payload_of

DIGEST = Digest.of(b"an image")
KEY = (Path("/k.pub"),)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("ghcr.io/org/app", "ghcr.io/org/app"),
        ("ghcr.io/org/app2", "ghcr.io/org"),
        ("ghcr.io/organ/app", "ghcr.io"),
        ("ghcr.io:443/org/app", "*"),
        ("docker.io/library/alpine", "*"),
        ("ghcr.io/org/free/app", None),
        ("ghcr.io/org/free/app/signed", "ghcr.io/org/free/app/signed"),
        ("localhost/app", None),
    ],
)
def test_the_longest_prefix_decides(name: str, prefix: str | None) -> None:
    """By whole components; ``require = false`` takes names out; ``*`` is not this node's own."""
    wanted = ("*", "ghcr.io", "ghcr.io/org", "ghcr.io/org/app", "ghcr.io/org/free/app/signed")
    sections = {each: SignatureConfig(KEY) for each in wanted}
    sections["ghcr.io/org/free"] = SignatureConfig((), require=False)
    rule = rule_for(name, sections)

    assert prefix == (None if rule is None else rule.prefix)


def test_own_images_where_they_are_named() -> None:
    """``localhost`` can be named."""
    rule = rule_for("localhost/app", {"localhost": SignatureConfig(KEY)})

    assert rule is not None
    assert rule_for("localhost/app", {}) is None


def test_the_tag() -> None:
    """The digest with a hyphen, and ``.sig``."""
    assert f"sha256-{DIGEST.hex}.sig" == tag_of(DIGEST)


def test_any_key_of_several(tmp_path: Path) -> None:
    """Any one suffices, and it is known which one it was; no key admits nothing."""
    signers = [Signer.make(tmp_path / f"{number}.pub") for number in range(3)]
    keys = read_keys([each.public for each in signers])
    payload = payload_of("r/a", str(DIGEST))
    signature = base64.b64decode(signers[1].sign(payload))
    found = signer(DIGEST, payload, signature, keys)

    assert found is not None
    assert signers[1].public == found.path
    assert signer(DIGEST, payload, signature, keys[2:]) is None
    assert signer(Digest.of(b"other"), payload, signature, keys) is None
    assert signer(DIGEST, payload + b" ", signature, keys) is None


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """One signer for all examples."""
    return Signer.make(tmp_path_factory.mktemp("keys") / "k.pub")


@given(raw=st.binary(max_size=200))
@settings(max_examples=40)
def test_signed_nonsense_is_no_signature(pair: Signer, raw: bytes) -> None:
    """Whatever a good key has signed: only a payload for this digest counts, and nothing raises."""
    signature = base64.b64decode(pair.sign(raw))

    assert signer(DIGEST, raw, signature, read_keys([pair.public])) is None


@pytest.mark.parametrize(
    "critical",
    [
        None,
        [],
        {"type": "cosign container image signature"},
        {"type": "cosign container image signature", "image": []},
        {"type": "cosign container image signature", "image": {"docker-manifest-digest": 5}},
        {"type": "cosign container image signature", "image": {"docker-manifest-digest": "x"}},
        {"image": {"docker-manifest-digest": str(DIGEST)}},
        {"type": "atomic container signature", "image": {"docker-manifest-digest": str(DIGEST)}},
    ],
)
def test_payloads_of_other_kinds(pair: Signer, critical: object) -> None:
    """A payload says what it is and which image it is for."""
    payload = json.dumps({"critical": critical}).encode()
    signature = base64.b64decode(pair.sign(payload))

    assert signer(DIGEST, payload, signature, read_keys([pair.public])) is None


def test_manifests_with_odd_signatures() -> None:
    """What cannot be a signature is passed over; there is a limit to what is looked at."""
    good = payload_of("r/a", str(DIGEST))
    signed = (good, base64.b64encode(b"s").decode())
    raw, _ = manifest_of((good, "*"), (good, ""), (b"x" * 70_000, signed[1]), signed)
    many, _ = manifest_of(*[signed] * (SIGNATURES_LIMIT + 5))

    assert [b"s"] == [each.signature for each in candidates(parse(raw, None))]
    assert SIGNATURES_LIMIT == len(candidates(parse(many, None)))


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    """One bad file spoils the list: a rule with half its keys is not the one that was written."""
    pair = Signer.make(tmp_path / "k.pub")
    (tmp_path / "bad").write_text("bad")
    for wrong in (tmp_path / "none", tmp_path / "bad", tmp_path):
        with pytest.raises(KeyUnusable, match=f"the key {wrong} "):
            read_keys([pair.public, wrong])
