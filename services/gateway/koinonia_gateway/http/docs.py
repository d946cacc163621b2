"""The API's document and its page, which asks no other host for anything."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec
from aiohttp import web

from koinonia.api import Endpoint, docs
from koinonia.contracts.openapi import document
from koinonia.security.identity import Identity
from koinonia.web import Raw


async def show_document(_request: web.Request, _caller: Identity | None) -> web.Response:
    """The whole public API as OpenAPI 3.1."""
    return web.Response(body=_document(), content_type="application/json")


async def show_page(_request: web.Request, _caller: Identity | None) -> web.Response:
    """A page that lists the operations and lets one try them."""
    page, policy = _page()
    return web.Response(
        body=page, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": policy}
    )


@cache
def _document() -> bytes:
    return msgspec.json.encode(document())


@cache
def _page() -> tuple[bytes, str]:
    """The page with its style and script in it, and the policy that allows these two and nothing else."""
    folder = files("koinonia_gateway") / "pages"
    style, script = ((folder / name).read_text("utf-8") for name in ("docs.css", "docs.js"))
    template = (folder / "docs.html").read_text("utf-8")
    page = template.replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HANDLERS: Mapping[Endpoint, Raw] = {docs.OPENAPI: Raw(show_document), docs.PAGE: Raw(show_page)}
