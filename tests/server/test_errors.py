"""The table from errors to statuses, complete and harmless to runtimes."""

import inspect

import pytest
from aiohttp.test_utils import make_mocked_request

import cache.errors
import registryd.oci.errors
from cache.errors import Fault
from registryd.ports import TransportError
from registryd.server.errors import refusal_response, status_of

FAULTS = sorted(
    {
        each
        for module in (cache.errors, registryd.oci.errors)
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Fault)
    }
    | {TransportError},
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("path", ["/v2/a/manifests/1", "/api/v1/pull"])
@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_every_error_has_an_answer(kind: type[Fault], path: str, method: str) -> None:
    """No error that we raise is without a status and a body."""
    response = refusal_response(kind("what is wrong"), make_mocked_request(method, path))

    assert 400 <= response.status < 600
    assert isinstance(response.body, bytes) and b"what is wrong" in response.body


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_readers_can_always_ask_elsewhere(kind: type[Fault]) -> None:
    """Nothing that a runtime reads is answered by a status that makes it retry here or give up."""
    status = status_of(kind("x"), make_mocked_request("GET", "/v2/a/blobs/x"))

    assert status in (400, 403, 404, 405, 416, 503)


@pytest.mark.parametrize("path", ["/v2/a/manifests/1", "/api/v1/pull"])
@pytest.mark.parametrize(
    "kind", [k for k in FAULTS if k.exit_code == 64], ids=lambda kind: kind.__name__
)
def test_wrong_usage_is_400(kind: type[Fault], path: str) -> None:
    """Who asked wrongly is told so, and not that the node is in trouble."""
    assert 400 == status_of(kind("x"), make_mocked_request("GET", path))
