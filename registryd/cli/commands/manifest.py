"""``manifest``: a manifest or index, byte for byte."""

from __future__ import annotations

import json
from typing import Any

from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import Raw, backend
from registryd.cli.command import Context
from registryd.cli.platforms import single
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="-", help="write it there (default: stdout)"
    )
    parser.add_argument(
        "--pretty", action="store_true", default=False, help="indented, so not the exact bytes"
    )
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the bytes; of an index, the index itself unless --platform chooses. Raises Fault."""
    options, console = context.options, context.console
    answer = fetched(context, options.reference)
    content = answer.content
    if options.format == "json":
        console.json(described(options.reference, answer))
        return
    if options.pretty:
        content = json.dumps(json.loads(content), indent=2).encode() + b"\n"
    if options.output == "-":
        console.raw(content)
        return
    from registryd.cli.blob_files import write_small_file

    write_small_file(options.output, content)


def fetched(context: Context, text: str) -> Raw:
    """The manifest that a name means, for --platform where that is given. Raises Fault."""
    from registryd.cli.logins import login_for

    reference = Reference.parse(text)
    login = login_for(context, reference.registry, reference.repository)
    wanted = {"reference": str(reference), "platform": single(context)}
    with backend(context, reference.registry) as chosen:
        return chosen.raw("manifest", wanted, login)


def described(text: str, answer: Raw) -> dict[str, Any]:
    """A manifest with what points to it, as JSON has it. Raises UsageError."""
    try:
        content = json.loads(answer.content)
    except ValueError:
        raise UsageError(f"the manifest of {text} is no JSON (leave --format json out)") from None
    return {
        "reference": str(Reference.parse(text)),
        "digest": answer.digest,
        "media_type": answer.media_type,
        "size": len(answer.content),
        "content": content,
    }
