"""``delete``: an image in its registry, or one tag of it.

Invariants:
- with --tag-only no DELETE of a digest is ever sent, whatever the registry answers;
- without it the digest is deleted that the tag meant when we asked, and every other tag of it is
  named before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cache.errors import Fault
from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.own_names import OWN_REGISTRY
from registryd.oci.errors import ManifestUnknown, Unsupported, UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.ports import Remote

#: Tags of a repository that are asked what they mean, to name those that go with a manifest: one
#: HEAD each. Of a larger repository we only say that there may be some.
TAGS_ASKED = 100
AT_A_TIME = 8


def common_arguments(parser: Parser) -> None:
    """What every way to delete a manifest takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument(
        "--dry-run", action="store_true", default=False, help="say what would go, delete nothing"
    )
    credential_flags(parser)
    tls_flags(parser)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    common_arguments(parser)
    parser.add_argument(
        "--tag-only",
        action="store_true",
        default=False,
        help="take away the tag, and never the manifest",
    )


def run(context: Context) -> None:
    """Delete; NAME@DIGEST (or the tag's name) on stdout. Raises Fault."""
    options, console = context.options, context.console
    reference = Reference.parse(options.reference)
    if options.tag_only and (reference.digest is not None or not reference.tag):
        raise UsageError(f"--tag-only takes NAME:TAG, and {reference} names a digest")
    done = _in_own_cache(context, reference)
    if done is None:
        from registryd.cli.direct import run as do

        done = do(_delete(context, reference))
    if options.format == "json":
        console.json(done)
    else:
        exact = f"{reference.name}@{done['digest']}"
        console.line(str(reference) if options.tag_only else exact)


def _in_own_cache(context: Context, reference: Reference) -> dict[str, Any] | None:
    """Delete a name of the node's own registry where no daemon is; None where it is not that."""
    if reference.registry != OWN_REGISTRY:
        return None
    with backend(context) as chosen:
        if chosen.socket is not None:
            return None
        digest = str(chosen.call("digest", {"reference": str(reference)})["digest"])
        if not context.options.dry_run:
            chosen.call("rmi", {"reference": str(reference)})
    return _result(context, reference, digest, [], gone=True)


async def _delete(context: Context, reference: Reference) -> dict[str, Any]:
    from registryd.cli.direct import open_registry

    async with open_registry(context, reference.registry, reference.repository) as remote:
        if context.options.tag_only:
            return await _delete_tag(context, remote, reference)
        return await _delete_manifest(context, remote, reference)


async def _delete_tag(context: Context, remote: Remote, reference: Reference) -> dict[str, Any]:
    """Take away a tag, and see what has become of it. Raises Unsupported when it is still there."""
    digest = (await remote.resolve(reference)).digest
    exact = reference.with_digest(digest)
    if context.options.dry_run:
        return _result(context, reference, str(digest), [], gone=True)
    try:
        await remote.delete_manifest(reference)
        stays = await _is_there(remote, reference)
    except Unsupported:
        stays = True
    if stays:
        raise Unsupported(
            f"{reference.registry} cannot take a tag away without its manifest, so nothing was"
            f" deleted (delete {exact} would take the manifest, with all its tags)"
        )
    if not await _is_there(remote, exact):
        context.console.words(
            f"warning: {reference.registry} has dropped the manifest {digest} with its tag"
        )
    return _result(context, reference, str(digest), [], gone=True)


async def _is_there(remote: Remote, reference: Reference) -> bool:
    try:
        await remote.resolve(reference)
    except ManifestUnknown:
        return False
    return True


async def _delete_manifest(
    context: Context, remote: Remote, reference: Reference
) -> dict[str, Any]:
    digest = reference.digest or (await remote.resolve(reference)).digest
    exact = reference.with_digest(digest)
    others = await _other_tags(context, remote, reference, exact)
    if others:
        verb = "would go" if context.options.dry_run else "go"
        context.console.words(f"warning: other tags {verb} with {digest}: {', '.join(others)}")
    gone = context.options.dry_run or await remote.delete_manifest(exact)
    if not gone:
        context.console.words(f"{exact} was not there")
    return _result(context, reference, str(digest), others, gone=gone)


async def _other_tags(
    context: Context, remote: Remote, reference: Reference, exact: Reference
) -> list[str]:
    """The tags that mean the same manifest, where that is cheap to know; not a reason to fail."""
    from registryd.transfer.copy import each

    try:
        tags = await remote.tags(reference.bare(), limit=TAGS_ASKED + 1)
        if len(tags) > TAGS_ASKED:
            context.console.words(
                f"{reference.name} has more than {TAGS_ASKED} tags: others may mean this manifest"
            )
            return []
        others = [tag for tag in tags if tag != reference.tag]
        found = await each(AT_A_TIME, [_Meaning(remote, reference, tag) for tag in others])
    except Fault:
        return []
    return [tag for tag, digest in zip(others, found, strict=True) if digest == str(exact.digest)]


class _Meaning:
    """The question what one tag means."""

    def __init__(self, remote: Remote, reference: Reference, tag: str) -> None:
        self._remote = remote
        self._reference = reference.with_tag(tag)

    async def __call__(self) -> str:
        try:
            return str((await self._remote.resolve(self._reference)).digest)
        except ManifestUnknown:  # it went meanwhile
            return ""


def _result(
    context: Context, reference: Reference, digest: str, others: Sequence[str], *, gone: bool
) -> dict[str, Any]:
    """What was done, as JSON has it; ``deleted`` is false for what was not there, or a dry run."""
    dry = context.options.dry_run
    return {
        "reference": str(reference),
        "digest": digest,
        "tag_only": context.options.tag_only,
        "other_tags": list(others),
        "dry_run": dry,
        "deleted": gone and not dry,
    }
