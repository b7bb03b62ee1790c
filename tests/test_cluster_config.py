"""The ``[cluster]`` section: what makes a cluster, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from registryd.config import load
from registryd.oci.errors import ConfigInvalid

IDENTITY = 'ca_file = "/c/ca.pem"\ncert = "/c/cert.pem"\nkey = "/c/key.pem"\n'


def test_a_cluster_is_off_until_it_has_members(tmp_path: Path) -> None:
    """Neither peers nor nats: there is no cluster, and no identity is needed."""
    config = load(_write(tmp_path, '[cluster]\nzone = "r1"\n'))

    assert not config.cluster.on


def test_a_cluster_by_a_list_of_peers(tmp_path: Path) -> None:
    """Peers and zones are host lists."""
    words = f'[cluster]\n{IDENTITY}peers = ["n[1-4]:5051"]\n[cluster.zones]\nr1 = "n[1-2]:5051"\n'

    config = load(_write(tmp_path, words)).cluster

    assert config.on
    assert ("n[1-4]:5051",) == config.peers
    assert {"r1": "n[1-2]:5051"} == dict(config.zones)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('peers = ["n1:5051"]', "set ca_file, cert and key"),
        (f'{IDENTITY}peers = ["n1"]\nnats = ["nats://n1"]', "contradict each other"),
        ('peers = ["n[1-"]', "cluster.peers[0]: "),
        ('nats = ["http://n1:4222"]', "cluster.nats[0]: is not a server of NATS"),
        ('nats = ["nats://u:secret@n1:4222"]', "put them into nats_credentials"),
        ('nats = ["nats://["]', "is not a server of NATS"),
        ('nats_cert = "/c.pem"', "belong together"),
        ('listen = "n1:5051"', "is not an address"),
        ('listen = "0.0.0.0"', 'write "0.0.0.0:5051"'),
        ('address = "a b"', "is not a host"),
        ('up = "-1"', "cluster.up: "),
    ],
)
def test_what_is_wrong_with_a_cluster_is_one_line(tmp_path: Path, words: str, said: str) -> None:
    """Each says which key, and no password."""
    with pytest.raises(ConfigInvalid) as caught:
        load(_write(tmp_path, f"[cluster]\n{words}\n"))

    line = str(caught.value)
    assert said in line
    assert "\n" not in line
    assert "secret" not in line


def _write(folder: Path, words: str) -> Path:
    file = folder / "config.toml"
    file.write_text(words)
    return file
