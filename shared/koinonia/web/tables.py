"""Answers that are tables: CSV as it is read, page by page, in flat memory, that no spreadsheet runs."""

import asyncio
import codecs
import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence

import structlog
from aiohttp import web

from koinonia.cells import guarded

log = structlog.get_logger()

Lines = Sequence[Sequence[str]]


async def send_table(request: web.Request, name: str, pages: AsyncIterator[Lines]) -> web.StreamResponse:
    """Send the pages, the first of which has the header; what fails before that is an ordinary error.

    UTF-8 with a byte order mark, without which spreadsheets show accents as rubbish.
    """
    first = await anext(pages)
    response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
    response.content_type, response.charset = "text/csv", "utf-8"
    await response.prepare(request)
    try:
        await response.write(codecs.BOM_UTF8 + _encoded(first))
        async for page in pages:
            await response.write(await asyncio.to_thread(_encoded, page))
        await response.write_eof()
    except Exception as error:
        # The head has gone out already: a cut connection is how the client learns that the table is not whole.
        log.warning("table_cut_off", reason=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response


def _encoded(lines: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    # All in quotes: a spreadsheet whose separator is the semicolon would begin a cell, unguarded, after one.
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([guarded(cell) for cell in line] for line in lines)
    return text.getvalue().encode()
