"""The API's document and its page."""

import base64
import hashlib
import re

from koinonia.api import ENDPOINTS, owned_by
from koinonia.contracts.openapi import document
from koinonia_gateway.http import docs

from .conftest import NewBrowser


async def test_the_document_is_the_whole_contract(browsers: NewBrowser) -> None:
    status, page = await browsers().call("GET", "/api/openapi.json")
    assert (status, page) == (200, document())
    assert {endpoint.path for endpoint in ENDPOINTS} <= page["paths"].keys()


async def test_the_page_runs_its_own_script_and_nothing_from_elsewhere(browsers: NewBrowser) -> None:
    browser = browsers()
    status, raw = await browser.call("GET", "/api/docs")
    page, policy = raw.decode(), browser.headers["Content-Security-Policy"]
    assert (status, browser.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert not re.search(r"(src|href)=\"(?!/)", page)
    for tag in ("script", "style"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy
    assert "unsafe" not in policy


async def test_every_route_of_the_contract_is_answered(browsers: NewBrowser) -> None:
    browser = browsers()
    assert set(docs.HANDLERS) <= set(owned_by("gateway"))
    for endpoint in ENDPOINTS:
        path = endpoint.url(**dict.fromkeys(endpoint.parameters, "0196f5b0-7c00-7a61-8f0c-3d1f5a9e2b10"))
        status, _ = await browser.call(endpoint.method, path, csrf=False)
        assert status not in {404, 405, 500}, endpoint.name
