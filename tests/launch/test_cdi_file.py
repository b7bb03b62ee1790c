"""Files of the Container Device Interface: what is taken, and everything that can be wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.launch.cdi_file import (
    CdiFile,
    CdiFileWrong,
    CdiHook,
    ContainerEdits,
    DeviceNode,
    IntelRdt,
    Mount,
    NetDevice,
    read_cdi,
)

WHOLE = """
cdiVersion: 1.1.0
kind: vendor.com/gpu.class
annotations: {vendor.com/made: "yes"}
devices:
- name: "0"
  annotations:
  containerEdits:
    deviceNodes:
    - {path: /dev/a, hostPath: /dev/null, type: c, major: 1, minor: 3, fileMode: 0666,
       permissions: rw, uid: 0, gid: 44}
- name: all
  containerEdits: {env: [A=1], netDevices: [{hostInterfaceName: ib0, name: eth0}]}
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void, B=]
  mounts:
  - {hostPath: /usr/lib/libx.so.1, containerPath: /usr/lib/libx.so.1, options: [ro, nosuid]}
  hooks:
  - {hookName: createContainer, path: /usr/bin/x, args: [x, --mode, 755], env: [A=1], timeout: 5}
  additionalGids: [0, 44]
  intelRdt: {closID: gold, schemata: ["L3:0=f"], enableMonitoring: true}
"""


def test_every_key() -> None:
    """Every key of the specification is read, in YAML with its octal numbers."""
    node = DeviceNode("/dev/a", "/dev/null", "c", 1, 3, 0o666, "rw", 0, 44)
    hook = CdiHook("createContainer", "/usr/bin/x", ("x", "--mode", "755"), ("A=1",), 5)
    library = "/usr/lib/libx.so.1"
    whole = ContainerEdits(
        env=("NVIDIA_VISIBLE_DEVICES=void", "B="),
        hooks=(hook,),
        mounts=(Mount(library, library, "", ("ro", "nosuid")),),
        rdt=IntelRdt("gold", schemata=("L3:0=f",), monitoring=True),
        gids=(0, 44),
    )

    file = read_cdi(WHOLE, in_json=False)

    assert ("1.1.0", "vendor.com/gpu.class", ["0", "all"]) == (
        file.version,
        file.kind,
        [each.name for each in file.devices],
    )
    assert whole == file.edits
    assert (node,) == file.devices[0].edits.nodes
    assert (NetDevice("ib0", "eth0"),) == file.devices[1].edits.net


def a_file(edits: object = None, version: str = "0.3.0", **keys: Any) -> dict[str, Any]:
    """A small file; a device's edits, or other keys of the file."""
    device = {"name": "d", "containerEdits": {"env": ["A=1"]} if edits is None else edits}
    return {"cdiVersion": version, "kind": "a.b/c", "devices": [device]} | keys


def test_json_with_tabs() -> None:
    """JSON is read as JSON, with what YAML would not take."""
    words = json.dumps(a_file({"deviceNodes": [{"path": "/dev/\u00fc", "major": 7}]}), indent="\t")

    file = read_cdi(words, in_json=True)

    assert (DeviceNode("/dev/\u00fc", major=7),) == file.devices[0].edits.nodes


@pytest.mark.parametrize(
    ("needs", "file"),
    [
        ("0.4.0", a_file({"mounts": [{"hostPath": "/", "containerPath": "/x", "type": "none"}]})),
        ("0.5.0", a_file({"deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b"}]})),
        ("0.5.0", a_file(devices=[{"name": "0", "containerEdits": {"env": ["A=1"]}}])),
        ("0.6.0", a_file(annotations={"a": "b"})),
        ("0.6.0", a_file(devices=[{"name": "d", "annotations": {"a": "b"}}])),
        ("0.6.0", a_file(kind="a.b/c.d")),
        ("0.7.0", a_file(containerEdits={"additionalGids": [4]})),
        ("0.7.0", a_file({"intelRdt": {"closID": "x"}})),
        ("1.1.0", a_file({"intelRdt": {"schemata": ["x"]}})),
        ("1.1.0", a_file({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]})),
    ],
)
def test_versions(needs: str, file: dict[str, Any]) -> None:
    """A file must say at least the version that brought what it uses, and that one is enough."""
    older = {"0.4.0": "0.3.0", "0.5.0": "v0.4.0", "0.6.0": "0.5.0", "0.7.0": "0.6.0"}

    read_cdi(json.dumps(file | {"cdiVersion": needs}), in_json=True)
    with pytest.raises(CdiFileWrong, match=f"needs {needs}"):
        read_cdi(json.dumps(file | {"cdiVersion": older.get(needs, "1.0.0")}), in_json=True)


def in_env(edits: dict[str, Any]) -> str:
    """The text of a file with these edits."""
    return json.dumps(a_file(edits, version="1.0.0"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("[]", "is not a table"),
        ("{", "is not JSON"),
        ('{"kind": "a/b", "kind": "a/b"}', "a key is there twice"),
        ("[" * 2000 + "]" * 2000, ""),
        ("x" * ((1 << 20) + 1), "are allowed"),
        (json.dumps(a_file(version="0.2.0")), "needs 0.3.0"),
        (json.dumps(a_file(version="2.0.0")), "cdiVersion: '2.0.0' is no version"),
        (json.dumps(a_file(kind="noslash")), "kind: 'noslash' is not a kind"),
        (json.dumps(a_file(kind="a/b/c")), "kind: "),
        (json.dumps(a_file(kind="1a/b")), "kind: "),
        (json.dumps(a_file(kind=f"{'a' * 254}/b")), "kind: "),
        (json.dumps(a_file(devices=[])), "has no devices"),
        (json.dumps(a_file(devices=[{"name": "a"}, {"name": "a"}])), "the device a twice"),
        (json.dumps(a_file(devices=[{"name": "-a"}])), "devices[0].name: '-a' is not the name"),
        (json.dumps(a_file(device=[])), "device: unknown key (did you mean devices?)"),
        (json.dumps(a_file(annotations={"/x": "y"}, version="0.6.0")), "no key of an annotation"),
        (in_env({"env": ["=1"]}), "devices[0].containerEdits.env[0]: '=1' is not a variable"),
        (in_env({"deviceNodes": [{"path": "dev/x"}]}), "deviceNodes[0].path: the path 'dev/x'"),
        (in_env({"deviceNodes": [{"path": "/a/../b"}]}), "without .."),
        (in_env({"deviceNodes": [{"path": "/a", "type": "x"}]}), ".type: "),
        (in_env({"deviceNodes": [{"path": "/a", "permissions": "rx"}]}), ".permissions: "),
        (in_env({"deviceNodes": [{"path": "/a", "major": "9" * 30}]}), ".major: "),
        (in_env({"deviceNodes": [{"path": "/a", "uid": -1}]}), ".uid: "),
        (in_env({"deviceNodes": [{}]}), ".path: is missing"),
        (in_env({"hooks": [{"hookName": "boot", "path": "/x"}]}), "hooks[0].hookName: "),
        (in_env({"hooks": [{"hookName": "poststop", "path": "/x", "timeout": 0}]}), ".timeout: "),
        (in_env({"intelRdt": {"closID": "a/b"}}), "intelRdt.closID: "),
        (in_env({"deviceNodes": [{"path": "/dev/\ud800"}]}), "half of a letter"),
        (in_env({"mounts": {}}), "mounts: {} is not a list"),
    ],
)
def test_wrong_files(words: str, said: str) -> None:
    """What the specification forbids is one line with the way to the key."""
    with pytest.raises(CdiFileWrong) as caught:
        read_cdi(words, in_json=True)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


KEYS = [
    *("cdiVersion", "kind", "devices", "name", "containerEdits", "annotations", "env", "mounts"),
    *("deviceNodes", "hooks", "path", "hostPath", "containerPath", "options", "intelRdt"),
]
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["a/b"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=VALUES, in_json=st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_value(value: object, in_json: bool) -> None:
    """Whatever is in a file, it is a file or one CdiFileWrong."""
    words = json.dumps({"cdiVersion": "0.6.0", "kind": "a/b", "devices": value})

    with suppress(CdiFileWrong):
        assert isinstance(read_cdi(words, in_json=in_json), CdiFile)


@given(words=st.text(max_size=60), in_json=st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_text(words: str, in_json: bool) -> None:
    """Whatever a text is, it is no crash."""
    with pytest.raises(CdiFileWrong):
        read_cdi(words, in_json=in_json)
