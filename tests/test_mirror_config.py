"""Mirrors and proxies in the configuration: what they may say, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from registryd.config import MirrorConfig, load
from registryd.oci.errors import ConfigInvalid

REGISTRY = 'registries."registry.example.com"'

BAD = [
    (f'[{REGISTRY}]\nmirrors = [""]', f'{REGISTRY}.mirrors[0].url: is empty (write "https://'),
    (f'[{REGISTRY}]\nmirrors = ["m:5000"]', f'{REGISTRY}.mirrors[0].url: "m:5000" is not an endp'),
    (f"[{REGISTRY}]\nmirrors = [{{}}]", f"{REGISTRY}.mirrors[0].url: is missing, and has no defau"),
    (f"[{REGISTRY}]\nmirrors = [5]", f"{REGISTRY}.mirrors[0]: 5 is not a table"),
    (
        f'[{REGISTRY}]\nmirrors = [{{ url = "https://m", capabilities = ["all"] }}]',
        f'{REGISTRY}.mirrors[0].capabilities[0]: "all" is not allowed (use one of "pull", "resol',
    ),
    (
        f'[{REGISTRY}]\nmirrors = [{{ url = "https://m", client_cert = "/c" }}]',
        f"{REGISTRY}.mirrors[0]: client_cert and client_key belong together",
    ),
    (f'[{REGISTRY}]\nfallback = "maybe"', f'{REGISTRY}.fallback: "maybe" is not allowed (use one'),
    (f'[{REGISTRY}]\nproxy = "socks5://h"', f'{REGISTRY}.proxy: "socks5://h" is not a proxy ('),
    (f'[{REGISTRY}]\nproxy = "environment"', f'{REGISTRY}.proxy: "environment" is not allowed he'),
    ('[transfer]\nproxy = "http://u:s3cret@h"', "transfer.proxy: holds a user or a password, whic"),
]


@pytest.mark.parametrize(("content", "said"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_one_line(content: str, said: str, tmp_path: Path) -> None:
    """A bad value is one line with the key's path; no password is shown."""
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(ConfigInvalid) as caught:
        load(file)

    assert str(caught.value).startswith(f"{file}: {said}")
    assert "s3cret" not in str(caught.value)


def test_a_mirror_is_a_url_or_a_table(tmp_path: Path) -> None:
    """Both in one list, in their order."""
    file = tmp_path / "config.toml"
    file.write_text(
        f"""
        [{REGISTRY}]
        mirrors = [
          "https://mirror:5000/hub",
          {{ url = "unix:///d", by = "ns", capabilities = ["pull"], connect_timeout = "1s" }},
        ]
        fallback = "not-found"
        """
    )
    entry = load(file).registries["registry.example.com"]

    assert (
        MirrorConfig("https://mirror:5000/hub"),
        MirrorConfig("unix:///d", "ns", ("pull",), connect_timeout=1.0),
    ) == entry.mirrors
    assert "not-found" == entry.fallback
