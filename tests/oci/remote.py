"""What tests of pulls and pushes share: an image in a registry, and a registry that asks who we are."""

import base64
import json
import os
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from layerfs.oci.images import Images
from layerfs.oci.intake import IntakeOptions
from layerfs.oci.transfer import pull
from layerfs.snapshots.library import Store
from tests.oci.image import LAYERS, Made, digest
from tests.oci.registries import Naughty, break_off, reply

ONLY = IntakeOptions()
BIG = os.urandom(3_000_000)


BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


def big() -> Made:
    return Made(packed=[*LAYERS[:1], LAYERS[1] + BIG], layers=[LAYERS[0], LAYERS[1] + BIG])


def get(store: Store, naughty: Naughty, **options: Any) -> str:
    return pull(Images(store), f"{naughty.host}/repo:1", ONLY, insecure=True, **options).images[0].top.digest


def offer(naughty: Naughty, made: Made | None = None) -> dict[str, Any]:
    made = made or big()
    top = made.finish()
    naughty.store(made.blobs, "1", top)
    return top


def layer_requests(naughty: Naughty) -> list[tuple[str, str | None]]:
    name = digest(LAYERS[1] + BIG)
    return [(method, headers.get("range")) for method, path, headers in naughty.seen if path.endswith(name)]


def breaks_off(naughty: Naughty, times: int, **answer: Any) -> Callable[[BaseHTTPRequestHandler], bool]:
    name, data = digest(LAYERS[1] + BIG), LAYERS[1] + BIG
    left = [times]

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        if not handler.path.endswith(name) or not left[0]:
            return False
        left[0] -= 1
        break_off(handler, data, 1_000_000)
        return True

    return rule


def ranged(handler: BaseHTTPRequestHandler, answer: Callable[[BaseHTTPRequestHandler, int, bytes], bool]) -> bool:
    if not handler.path.endswith(digest(LAYERS[1] + BIG)) or "Range" not in handler.headers:
        return False
    answer(handler, int(re.findall(r"\d+", handler.headers["Range"])[0]), LAYERS[1] + BIG)
    return True


def log_in(scratch: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    secret = base64.b64encode(b"me:secret").decode()
    (scratch / "auth.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(scratch / "auth.json"))


def asks(naughty: Naughty, challenge: str, accepted: str) -> None:
    """Have a registry ask who we are."""

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path.startswith("/token"):
            reply(handler, 200, b'{"token": "t0ken"}')
            return True
        if handler.headers.get("Authorization") == accepted:
            return False
        reply(handler, 401, b"", {"WWW-Authenticate": challenge})
        return True

    naughty.rules.append(rule)


def secrets_at(naughty: Naughty) -> set[str | None]:
    return {headers.get("authorization") for _, _, headers in naughty.seen}
