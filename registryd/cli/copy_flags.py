"""The flags of copies: our own, and the words of skopeo, crane and oras for the same things.

Invariants:
- a word of theirs does what it does there, or is refused in a line that says what to do instead;
- what only they need (aliases, flags that name our default) is taken, and not in the help.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from cache.marks import override
from registryd.cli.arguments import Parser, count, truth
from registryd.cli.command import Context
from registryd.cli.platforms import named, own
from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform

if TYPE_CHECKING:
    from registryd.sync.whole import Extras
    from registryd.transfer.narrowing import IndexForm

HIDDEN = argparse.SUPPRESS
#: The prefixes of the two sides' own flags, as their names are in the options.
SIDES = ("src_", "dest_")
#: What each side is called by oras.
ORAS_SIDES = {"src": "from", "dest": "to"}

_CONVERTS = (
    "digests are preserved here, so nothing is compressed, encrypted or written in another form"
)
_SIGNS = (
    "nothing is signed here: sign what was copied with a tool for that, by the digest it prints"
)
_LOCAL = "this place is not offered (use oci:DIR:TAG, dir:DIR, cache:NAME or a registry)"
#: Flags of skopeo that cannot be obeyed: those with a value, and those without.
REFUSED = {
    "--dest-compress-format": _CONVERTS,
    "--dest-compress-level": _CONVERTS,
    "--encryption-key": _CONVERTS,
    "--encrypt-layer": _CONVERTS,
    "--decryption-key": _CONVERTS,
    "--sign-by": _SIGNS,
    "--sign-by-sigstore": _SIGNS,
    "--sign-by-sigstore-private-key": _SIGNS,
    "--sign-identity": _SIGNS,
    "--sign-passphrase-file": _SIGNS,
    "--src-daemon-host": _LOCAL,
    "--dest-daemon-host": _LOCAL,
    "--src-shared-blob-dir": _LOCAL,
    "--dest-shared-blob-dir": _LOCAL,
}
REFUSED_SWITCHES = {"--dest-compress": _CONVERTS, "--dest-decompress": _CONVERTS}
#: What we do anyway, or never do, whatever the flag says.
NO_OPS = (
    "--preserve-digests",
    "--remove-signatures",
    "--dest-precompute-digests",
    "--dest-oci-accept-uncompressed-layers",
)


def index_flags(parser: Parser) -> None:
    """What becomes of an index, and of what stands at the destination."""
    group = parser.add_argument_group("what is copied")
    form = group.add_mutually_exclusive_group()
    form.add_argument(
        "--keep-index",
        action="store_true",
        help="with --platform: the index as it is, same digest, with only these images in place",
    )
    form.add_argument(
        "--strip",
        action="store_true",
        help="with --platform: a new index, new digest, of these images alone",
    )
    form.add_argument("--multi-arch", choices=("all", "system", "index-only"), help=HIDDEN)
    group.add_argument(
        "-r",
        "--referrers",
        "--recursive",
        action="store_true",
        help="what is attached goes along: signatures, software lists, and what they carry",
    )
    group.add_argument(
        "--digest-tags",
        action="store_true",
        help="tags such as sha256-HEX.sig, which belong to the image, go along",
    )
    group.add_argument(
        "-n",
        "--no-clobber",
        action="store_true",
        help="a name that means something else at DST stays as it is: exit 1",
    )
    group.add_argument(
        "--force-recursive",
        action="store_true",
        help="look at every blob, though DST has the manifest already",
    )
    group.add_argument(
        "--verify-tag",
        action="store_true",
        help="of NAME:TAG@DIGEST: fail (exit 5) unless the tag still means the digest",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="say what would be copied, and write nothing"
    )
    group.add_argument("--digestfile", metavar="FILE", help="write the digest there")


def words_of_others(parser: Parser) -> None:
    """What is written by those who come from skopeo and oras."""
    parser.add_argument("-a", "--all", action="store_true", help=HIDDEN, dest="all_images")
    parser.add_argument("--image-parallel-copies", type=count, dest="jobs", help=HIDDEN)
    for flag in NO_OPS:
        parser.add_argument(flag, action="store_true", help=HIDDEN, dest="no_op")
    for flag, reason in REFUSED.items():
        parser.add_argument(flag, action=_Refused, reason=reason, help=HIDDEN)
    for flag, reason in REFUSED_SWITCHES.items():
        parser.add_argument(flag, action=_Refused, reason=reason, nargs=0, help=HIDDEN)
    parser.add_argument("-f", action=_Refused, reason=_CONVERTS, help=HIDDEN)
    for side, theirs in ORAS_SIDES.items():
        _side_words(parser, side, theirs)


def _side_words(parser: Parser, side: str, theirs: str) -> None:
    """What else is said of one side, by either tool."""
    own_file = parser.add_argument_group(f"credentials of the {side} side")
    own_file.add_argument(
        f"--{side}-authfile", metavar="FILE", help=f"credentials of the {side} side are read here"
    )
    for name in ("username", "password", "registry-token"):
        parser.add_argument(
            f"--{side}-{name}", dest=f"{side}_{name.replace('-', '_')}", help=HIDDEN
        )
    for name in ("username", "password", "creds"):
        parser.add_argument(f"--{theirs}-{name}", dest=f"{side}_{name}", help=HIDDEN)
    parser.add_argument(
        f"--{theirs}-registry-config", f"--{theirs}-authfile", dest=f"{side}_authfile", help=HIDDEN
    )
    plain = f"{side}_plain_http"
    for flag in (f"--{side}-plain-http", f"--{theirs}-plain-http"):
        parser.add_argument(flag, action="store_true", dest=plain, help=HIDDEN)
    verify = f"{side}_tls_verify"
    parser.add_argument(f"--{theirs}-tls-verify", type=truth, dest=verify, help=HIDDEN)
    parser.add_argument(f"--{theirs}-insecure", action="store_false", dest=verify, help=HIDDEN)
    parser.add_argument(
        f"--{theirs}-oci-layout", action="store_true", dest=f"{theirs}_oci_layout", help=HIDDEN
    )


def places(context: Context) -> tuple[str, str]:
    """Source and target as they are meant: oras says of a path that it is a layout by a flag."""
    options = context.options
    source, target = options.source, options.target
    if getattr(options, "from_oci_layout", False):
        source = f"oci:{source}"
    if getattr(options, "to_oci_layout", False):
        target = f"oci:{target}"
    return source, target


def chosen(context: Context) -> Extras:
    """Which platforms are copied, how, and what goes along. Raises UsageError."""
    from registryd.sync.whole import Extras
    from registryd.transfer.copy import Terms

    options = context.options
    platforms = named(context)
    multi = getattr(options, "multi_arch", None)
    if multi is not None and (platforms or options.all_platforms):
        raise UsageError("--multi-arch and --platform are two ways to say the same: give one")
    if multi == "system":
        platforms = (own(),)
    form = _form(options, platforms, multi)
    terms = Terms(
        index=form,
        clobber=not getattr(options, "no_clobber", False),
        rehearse=getattr(options, "dry_run", False),
        recheck=getattr(options, "force_recursive", False),
    )
    return Extras(
        platforms,
        terms,
        referrers=getattr(options, "referrers", False),
        digest_tags=getattr(options, "digest_tags", False),
    )


def _form(options: Namespace, platforms: Sequence[Platform], multi: str | None) -> IndexForm:
    if multi == "index-only":
        return "alone"
    for flag, form in (("keep_index", "keep"), ("strip", "strip")):
        if getattr(options, flag, False):
            if not platforms:
                raise UsageError(
                    f"--{flag.replace('_', '-')} is about some images of an index: name them with"
                    " --platform OS/ARCH,..."
                )
            return "keep" if form == "keep" else "strip"
    return "keep" if len(set(platforms)) > 1 else "usual"


def sided(context: Context, side: str) -> Context:
    """The context of one side of a copy: its own credentials stand in for the shared ones."""
    options = Namespace(**vars(context.options))
    authfile = getattr(options, f"{side}authfile", None)
    if authfile is not None:
        options.authfile = authfile
    user, password = (getattr(options, f"{side}{n}", None) for n in ("username", "password"))
    if password is not None and user is None:
        flag = side.replace("_", "-")
        raise UsageError(f"--{flag}password needs --{flag}username")
    if user is not None:
        setattr(options, f"{side}creds", user if password is None else f"{user}:{password}")
    return replace(context, options=options)


class _Refused(argparse.Action):
    """A flag of another tool that is not obeyed, and not forgotten either."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        self._reason = settings.pop("reason")
        super().__init__(option_strings, dest, **settings)

    @override
    def __call__(self, *given: Any, **more: Any) -> NoReturn:
        """Raises ArgumentError."""
        raise argparse.ArgumentError(self, self._reason)
