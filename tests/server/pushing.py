"""An image, and how it is pushed to another registry's name through a node."""

from __future__ import annotations

import json
from base64 import b64encode
from urllib.parse import quote

import aiohttp

from cache.content import Digest
from tests.fakes.node import RunningNode
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, digest_of, make_image
from tests.server.test_uploads import ask, code
from tests.server.wire import noise

LAYER = noise(300_000)
LAYER_DIGEST = Digest.of(LAYER)
CONFIG = b'{"os":"linux","architecture":"amd64"}'
RAW = make_image(LAYER, config=CONFIG)
ROOT = digest_of(RAW)
ANN = {"Authorization": "Basic " + b64encode(b"ann:secret-word").decode()}
BOB = {"Authorization": "Basic " + b64encode(b"bob:other-word").decode()}
WRONG = {"Authorization": "Basic " + b64encode(b"ann:a guess").decode()}


def place_of(upstream: FakeRegistry) -> str:
    """The path of its repository, as Location has it."""
    return f"/v2/{quote(upstream.name)}/team/app"


async def put_blob(
    client: aiohttp.ClientSession, app: str, content: bytes, **headers: str
) -> tuple[int, str]:
    """Push a blob as everybody does, in POST, PATCH and PUT; the last status and error's code."""
    status, said, body = await ask(client, "POST", f"{app}/blobs/uploads/", **headers)
    if status == 202:
        await ask(client, "PATCH", said["location"], content, **headers)
        place = f"{said['location']}?digest={Digest.of(content)}"
        status, said, body = await ask(client, "PUT", place, **headers)
    return status, "" if status == 201 else code(body)


async def put_manifest(
    client: aiohttp.ClientSession, app: str, target: str = "1", raw: bytes = RAW, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    headers["Content-Type"] = OCI_MANIFEST
    return await ask(client, "PUT", f"{app}/manifests/{target}", raw, **headers)


async def push(client: aiohttp.ClientSession, app: str, **headers: str) -> list[int]:
    """Push the image; the status of each part."""
    blobs = [(await put_blob(client, app, blob, **headers))[0] for blob in (CONFIG, LAYER)]
    return [*blobs, (await put_manifest(client, app, **headers))[0]]


def images(node: RunningNode) -> list[str]:
    """What index.json names."""
    return [entry["digest"] for entry in
            json.loads((node.root / "index.json").read_text())["manifests"]]  # fmt: skip
