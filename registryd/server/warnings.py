"""The Warning header: distribution specification 1.1, "Warnings"; RFC 7234, 5.5 for its form."""

from __future__ import annotations

from registryd.oci.wire_errors import clean


def warning_header(text: str) -> str:
    """The header's value: code 299, no agent, and this text as one quoted line of plain ASCII."""
    plain = clean(text).encode("ascii", "replace").decode()
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'
