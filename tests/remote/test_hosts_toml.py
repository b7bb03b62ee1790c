"""hosts.toml: which hosts it names, what each is asked for, and what is said when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import ConfigInvalid
from registryd.remote.course import Place
from registryd.remote.hosts_toml import parse

FILE = Path("/etc/containerd/certs.d/docker.io/hosts.toml")
CONTENT = b"""
server = "https://registry-1.docker.io"
[host."https://mirror.example:5000"]
  capabilities = ["pull", "resolve", "push"]
  ca = "ca.crt"
  client = [["/c.crt", "/c.key"], "both.pem"]
  dial_timeout = "5s"
[host."http://plain.example/prefix"]
  capabilities = ["pull"]
  skip_verify = true
[host."https://harbor.example/v2/proxy/hub"]
  override_path = true
  [host."https://harbor.example/v2/proxy/hub".header]
    x-token = ["a", "b"]
[host."https://odd.example/api/"]
  override_path = true
[host."bare.example"]
"""


def seen(place: Place) -> str:
    """Where a place's API is, and the repositories below it."""
    return f"{place.url}{place.api} {place.prefix}".strip()


def test_hosts_in_their_order() -> None:
    """Each with its address; without override_path the API is at /v2 below it."""
    course = parse(CONTENT, FILE).course("docker.io")

    assert [
        "https://mirror.example:5000/v2",
        "http://plain.example/prefix/v2",
        "https://harbor.example/v2 proxy/hub",
        "https://odd.example/api",
        "https://bare.example/v2",
    ] == [seen(each) for each in course.mirrors]
    assert course.primary is not None
    assert ("https://registry-1.docker.io/v2", False) == (
        seen(course.primary),
        course.primary.namespace,
    )
    assert all(each.namespace for each in course.mirrors)


def test_what_a_host_is_asked_for() -> None:
    """Its capabilities; one that names none is not pushed to."""
    first, plain, headed, _, bare = parse(CONTENT, FILE).course("docker.io").mirrors

    assert {"pull", "resolve", "push", "blob"} == first.serves
    assert {"pull", "blob"} == plain.serves
    assert {"pull", "resolve", "referrers", "blob"} == bare.serves
    assert (("x-token", "a, b"),) == headed.headers
    assert "a, b" not in repr(headed)


def test_certificates_and_patience() -> None:
    """Files are beside hosts.toml unless they are absolute."""
    first, plain, *_ = parse(CONTENT, FILE).course("docker.io").mirrors
    folder = FILE.parent

    assert (folder / "ca.crt",) == first.tls.ca_files
    assert (
        (Path("/c.crt"), Path("/c.key")),
        (folder / "both.pem", folder / "both.pem"),
    ) == first.tls.clients
    assert (5.0, 2.0) == (first.connect_timeout, plain.connect_timeout)
    assert (True, False) == (first.tls.verify, plain.tls.verify)


def test_a_proxy_is_told_which_registry_is_meant() -> None:
    """A server of another name than the registry's is one, too."""
    file = parse(b'server = "https://up.example"\n[host."https://ghcr.io"]', FILE)
    course = file.course("ghcr.io")

    assert course.primary is not None
    assert (True, False) == (course.primary.namespace, course.mirrors[0].namespace)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("server = 5", "server: 5 is not a text"),
        ('server = "ftp://x"', 'server: "ftp://x" is not a host'),
        ('server = "https://u:p@x"', "server: "),
        ('[host."https://"]', 'host."https://": "https://" is not a host'),
        ("host = 5", "host: 5 is not a table"),
        (
            '[host."https://a"]\ncapabilities = ["all"]',
            'host."https://a".capabilities: "all" is not',
        ),
        (
            '[host."https://a"]\nskip_verify = 1',
            'host."https://a".skip_verify: 1 is not ',
        ),
        ('[host."https://a"]\nca = 1', 'host."https://a".ca: 1 is not a list'),
        ('[host."https://a"]\nclient = [["a", "b", "c"]]', 'host."https://a".client: '),
        ('[host."https://a"]\ndial_timeout = "soon"', 'host."https://a".dial_timeout: '),
        ('[host."https://a".header]\nx = "a\\nb"', "one line of ASCII"),
        ("[host", "is not TOML"),
    ],
)
def test_what_is_wrong(content: str, said: str) -> None:
    """One line with the file and the key."""
    with pytest.raises(ConfigInvalid) as caught:
        parse(content.encode(), FILE)

    assert str(caught.value).startswith(f"{FILE}: ")
    assert said in str(caught.value)


URLS = ("https://a", "http://[::1]:5", "a:5000/v2", "https://[", "://", "https://a/v2/x", "a?b", "")


@given(
    st.sampled_from(URLS),
    st.dictionaries(
        st.sampled_from(["capabilities", "ca", "client", "skip_verify", "override_path", "header"]),
        st.sampled_from(
            ['"x"', "[]", '["pull"]', "true", "{ a = 'b' }", "[['a', 'b']]", "[[]]", "1"]
        ),
    ),
    st.booleans(),
)
def test_any_host(url: str, keys: dict[str, str], as_server: bool) -> None:
    """Whatever a file says: places with a name, or one error of ours."""
    lines = [f"server = {json.dumps(url)}" if as_server else f"[host.{json.dumps(url)}]"]
    lines += [f"{key} = {value}" for key, value in keys.items()]
    try:
        course = parse("\n".join(lines).encode(), FILE).course("docker.io")
    except ConfigInvalid:
        return

    assert all(place.name for place in (*course.mirrors, *filter(None, [course.primary])))


@given(st.binary(max_size=100))
def test_any_bytes(content: bytes) -> None:
    """A value, or one error of ours."""
    try:
        parse(content, FILE)
    except ConfigInvalid as error:
        assert str(error).startswith(str(FILE))
