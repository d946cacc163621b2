"""Tables over real HTTP: whole, refused, or visibly cut off."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from koinonia.web.tables import Lines, send_table


async def whole() -> AsyncIterator[Lines]:
    yield [["name", "phone"]]
    yield [['Zoë, or "Z"', "+13125550142"], ["two\nlines", "=1+1"], ["x;=1+1", "\n=1"]]


async def broken() -> AsyncIterator[Lines]:
    yield [["name"]]
    raise RuntimeError("the database went away")


async def refused(*, known: bool = False) -> AsyncIterator[Lines]:
    if not known:
        raise web.HTTPNotFound
    yield [["name"]]


async def test_a_table_is_sent_whole_refused_or_visibly_cut_off() -> None:
    app = web.Application()
    for pages in (whole, broken, refused):

        async def answer(request: web.Request, pages: object = pages) -> web.StreamResponse:
            assert callable(pages)
            return await send_table(request, "people.csv", pages())

        app.router.add_get(f"/{pages.__name__}", answer)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/whole")
        assert (response.content_type, response.charset) == ("text/csv", "utf-8")
        assert response.headers["Content-Disposition"] == 'attachment; filename="people.csv"'
        text = (await response.read()).decode("utf-8-sig")
        assert text == (
            '"name","phone"\r\n"Zoë, or ""Z""","\'+13125550142"\r\n"two\nlines","\'=1+1"\r\n"x;=1+1","\'\n=1"\r\n'
        )
        with pytest.raises(aiohttp.ClientError):
            await (await client.get("/broken")).read()
        assert (await client.get("/refused")).status == 404
