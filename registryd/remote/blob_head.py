"""Asking for a blob by HEAD, and what the answer is worth."""

from __future__ import annotations

from dataclasses import dataclass

from cache.content import Digest
from registryd.oci.errors import BadAnswer, BlobUnknown
from registryd.oci.media_types import essence
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute
from registryd.remote.exchange import Call, Exchange, scope


@dataclass(frozen=True, slots=True)
class BlobHead:
    """What a HEAD told: whether the blob is ``there`` for sure, and its size where it said it."""

    there: bool
    size: int | None = None


async def head_blob(
    exchange: Exchange, repository: Reference, digest: Digest, actions: frozenset[str]
) -> BlobHead:
    """Ask whether a blob is there. Raises BlobUnknown, and as ``Exchange.send`` does."""
    name = repository.repository
    blob = f"blob {digest} of {repository.name}"
    what = f"cannot ask for {blob}"
    call = Call("HEAD", BlobRoute(name, digest).path(), what, name, (scope(name, actions),))
    async with exchange.send(call) as answer:
        if answer.status == 200 and essence(answer.content_type) == "text/html":
            raise BadAnswer(f"{what}: {answer.host} answers with a web page, it is no registry")
        if answer.status == 200:
            return BlobHead(True, answer.length)
        if answer.status == 404:
            raise await exchange.refusal(answer, f"cannot find {blob}", BlobUnknown)
        # No HEAD here, or none at the host of the presigned URL: that says nothing of the blob.
        if answer.status == 405 or (answer.strayed and 400 <= answer.status < 500):
            return BlobHead(False)
        raise await exchange.refusal(answer, what, BlobUnknown)
