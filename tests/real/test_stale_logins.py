"""A stored login that has grown old, shown to a daemon: it neither stands in the way nor opens."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.real.conftest import Start, Upstream
from tests.real.stories import UP


def test_a_stale_login_opens_nothing(by_token: Upstream, start: Start, tmp_path: Path) -> None:
    """What is public is pulled with one warning; nobody is granted anything by that login."""
    node, file = start(by_token.sections), tmp_path / "auth.json"
    entry = base64.b64encode(b"ann:0ld").decode()
    file.write_text(json.dumps({"auths": {UP: {"auth": entry}}}))
    name = by_token.name("gzip")
    pulled = node.ctl("pull", name, "-q", "--authfile", str(file))
    given = node.ctl("tags", name.rpartition(":")[0], "--creds", "ann:0ld")
    grants = node.ctl.json("access", "ls")

    assert 0 == pulled.code, pulled.err
    assert pulled.err.startswith(f'warning: the login stored in {file}, key "{UP}" was refused by ')
    assert 1 == len(pulled.err.splitlines())
    assert 3 == given.code
    assert "login:" not in json.dumps(grants)
