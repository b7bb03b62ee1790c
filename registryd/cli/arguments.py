"""The flags with one meaning everywhere, and a parser that ends as the others do.

Invariants:
- a shared flag is taken before and after the command; after it wins;
- wrong usage is a UsageError (exit 64), one line like every other error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from cache.marks import override
from registryd.oci.errors import UsageError

#: What a flag is when no one gives it; parsers leave out what was not given, so that one
#: namespace can pass through two of them.
DEFAULTS: dict[str, Any] = {
    "socket": None,
    "root": None,
    "format": "table",
    "progress": "auto",
    "quiet": False,
    "verbose": False,
    "authfile": None,
    "creds": None,
    "no_creds": False,
    "tls_verify": None,
    "cert_dir": None,
    "plain_http": None,
    "platform": None,
    "all_platforms": False,
    "jobs": None,
    "ca_file": None,
    "retry_times": None,
    "command_timeout": None,
}
#: Flags that can stand alone (``--tls-verify``) and take a value only after ``=``.
SWITCHES = frozenset(f"--{side}tls-verify" for side in ("", "src-", "dest-", "from-", "to-"))
#: What skopeo's copy understands by --format: other forms of the manifest.
MANIFEST_FORMS = frozenset({"oci", "v2s1", "v2s2"})
#: One less than what the configuration takes: the first try is one too.
TRIES_LIMIT = 99
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Parser(argparse.ArgumentParser):
    """An argument parser without guesses: no abbreviations, errors raised."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("allow_abbrev", False)
        settings.setdefault("argument_default", argparse.SUPPRESS)
        super().__init__(**settings)

    @override
    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def truth(text: str) -> bool:
    """A yes or no as flags have it. Raises ArgumentTypeError."""
    if text.lower() not in TRUTHS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return TRUTHS[text.lower()]


def count(text: str) -> int:
    """A whole number from one up. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _tries(text: str) -> int:
    """How often something is tried again. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) > TRIES_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {TRIES_LIMIT}")
    return int(text)


def _duration(text: str) -> float:
    """Seconds of a time like ``90``, ``30s`` or ``5m``; 0 is no limit. Raises UsageError."""
    from registryd.units import parse_duration

    return parse_duration(f"{text}s" if text.isdecimal() else text)


def result_form(text: str) -> str:
    """How a result is shown. Raises ArgumentTypeError."""
    if text in MANIFEST_FORMS:
        raise argparse.ArgumentTypeError(
            f"{text}: digests are preserved here, manifests are not written in another form"
        )
    if text not in ("table", "json"):
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from 'table', 'json')")
    return text


def spelled_out(words: Sequence[str]) -> list[str]:
    """These arguments with ``=true`` after each switch that stands alone."""
    end = list(words).index("--") if "--" in words else len(words)
    return [f"{w}=true" if w in SWITCHES and i < end else w for i, w in enumerate(words)]


def general_flags(
    parser: argparse.ArgumentParser, *, templates: Sequence[str] = (), short_verbose: bool = True
) -> None:
    """What every command takes.

    ``templates`` are the names of a --format that may be one; ``short_verbose`` is whether -v is.
    """
    group = parser.add_argument_group("flags of every command")
    group.add_argument("--socket", metavar="PATH", help="the daemon's socket (REGISTRYD_SOCKET)")
    group.add_argument(
        "--root", metavar="DIR", help="no daemon: work on the cache in DIR (REGISTRYD_ROOT)"
    )
    if templates:
        group.add_argument(
            *templates, metavar="FORMAT", dest="format", help="json, or a template: {{.Digest}}"
        )
    else:
        group.add_argument(
            "--format", type=result_form, metavar="table|json", help="of the result on stdout"
        )
    group.add_argument(
        "--progress", choices=("auto", "plain", "json", "none"), help="of the work on stderr"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="less: ids only, no progress")
    verbose = ("-v", "--verbose", "--debug")[0 if short_verbose else 1 :]
    group.add_argument(*verbose, action="store_true", help="more: tracebacks and logs")
    group.add_argument(
        "--command-timeout", type=_duration, metavar="TIME", help="give up after this (30s, 5m)"
    )
    group.add_argument(
        "--no-tty", action="store_const", dest="progress", const="plain", help=argparse.SUPPRESS
    )


def credential_flags(parser: argparse.ArgumentParser) -> None:
    """What every command takes that speaks to a registry in the user's name."""
    group = parser.add_argument_group("credentials")
    group.add_argument(
        "--authfile", metavar="FILE", help="credentials are read here (REGISTRY_AUTH_FILE)"
    )
    # The word of oras for the same.
    group.add_argument("--registry-config", dest="authfile", help=argparse.SUPPRESS)
    _one_off(group)


def side_flags(parser: argparse.ArgumentParser, side: str) -> None:
    """The flags of one side of a copy: ``src`` or ``dest``."""
    group = parser.add_argument_group(f"flags of the {side} side")
    _one_off(group, f"{side}-")
    _tls(group, f"{side}-")


def tls_flags(parser: argparse.ArgumentParser) -> None:
    """How a registry is reached."""
    group = parser.add_argument_group("connection")
    _tls(group)
    group.add_argument("--plain-http", action="store_true", help="HTTP without TLS")
    group.add_argument("--ca-file", metavar="FILE", help="the authority of the certificate")
    group.add_argument("--retry-times", type=_tries, metavar="N", help="tries after a failed one")
    group.add_argument("--retry-delay", metavar="TIME", help=argparse.SUPPRESS)
    # The word of crane and oras for --tls-verify=false.
    group.add_argument(
        "--insecure", action="store_false", dest="tls_verify", help=argparse.SUPPRESS
    )


def words_of_skopeo(parser: argparse.ArgumentParser) -> None:
    """What skopeo takes before and after all its commands; they are not in the help."""
    hidden = argparse.SUPPRESS
    parser.add_argument("--insecure-policy", action="store_true", dest="no_op", help=hidden)
    parser.add_argument("--tmpdir", dest="no_op", help=hidden)
    for part in ("os", "arch", "variant"):
        parser.add_argument(f"--override-{part}", dest=f"override_{part}", help=hidden)


def overridden(options: argparse.Namespace, system: str, machine: str) -> str | None:
    """The platform that skopeo's --override flags mean on a host of this kind; None: not given."""
    parts = [getattr(options, f"override_{part}", "") for part in ("os", "arch", "variant")]
    if not any(parts):
        return None
    os, architecture, variant = parts
    return "/".join(filter(None, (os or system.lower(), architecture or machine, variant)))


def platform_flag(parser: argparse.ArgumentParser) -> None:
    """Which image of an index is meant."""
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="of an index, this image (default: ours)"
    )


def platforms_flag(parser: argparse.ArgumentParser, otherwise: str) -> None:
    """Which images of an index are meant; ``otherwise`` is what happens without the flag."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT],...", help=f"of an index, these ({otherwise})"
    )
    group.add_argument("--all-platforms", action="store_true", help="of an index, all there are")


def compat_flag(parser: argparse.ArgumentParser) -> None:
    """How a squashfs is compressed, where that must be what old programs read."""
    parser.add_argument(
        "--compat",
        choices=("gzip",),
        default=None,
        help="of squashfs:, for Linux before 4.14 and old squashfuse (default: zstd)",
    )


def plain_flag(parser: argparse.ArgumentParser) -> None:
    """Whether an image made one gets the files by which other tools start it."""
    parser.add_argument(
        "--plain",
        action="store_true",
        default=False,
        help="flattened: without the files by which apptainer, enroot and charliecloud start it",
    )


def jobs_flag(parser: argparse.ArgumentParser, what: str = "blobs at a time") -> None:
    """How much is done at once."""
    parser.add_argument("-j", "--jobs", "--concurrency", type=count, metavar="N", help=what)


def _one_off(group: argparse._ArgumentGroup, side: str = "") -> None:
    only = group.add_mutually_exclusive_group()
    only.add_argument(f"--{side}creds", metavar="USER[:PASSWORD]", help="use these and no file")
    only.add_argument(f"--{side}no-creds", action="store_true", help="ask without credentials")


def _tls(group: argparse._ArgumentGroup, side: str = "") -> None:
    group.add_argument(
        f"--{side}tls-verify", type=truth, metavar="BOOL", help="check the certificate (default)"
    )
    group.add_argument(
        f"--{side}cert-dir", metavar="DIR", help="*.crt: authorities; *.cert and *.key: our own"
    )
