"""Telnyx's way of paging."""

from aiohttp import web

from koinonia.carrier.simulated.errors import malformed

MAX_PAGE_SIZE = 250


def page_place(request: web.Request) -> tuple[int, int]:
    """``page[number]`` from 1 and ``page[size]``."""
    try:
        number = int(request.query.get("page[number]", "1"))
        size = int(request.query.get("page[size]", "20"))
    except ValueError:
        raise malformed("page[number] and page[size] are numbers.") from None
    if number < 1 or not 1 <= size <= MAX_PAGE_SIZE:
        raise malformed(f"page[number] starts at 1; page[size] is 1 to {MAX_PAGE_SIZE}.")
    return number, size
