"""Bodies, compression and the headers that every response carries."""

from typing import Final

import msgspec
from aiohttp import web

from koinonia.web.call import Answer, Cookie

REQUEST_ID: Final = "X-Request-Id"

_COMPRESSED_FROM = 1024
_COMPRESSIBLE = ("application/json", "text/")
_ENCODER = msgspec.json.Encoder()
_DEFAULT_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def json_response(body: object, status: int = 200) -> web.Response:
    """``body`` as JSON."""
    return web.Response(body=_ENCODER.encode(body), status=status, content_type="application/json")


def result_response(result: object, status: int) -> web.Response:
    """What a handler answered."""
    answer = result if isinstance(result, Answer) else Answer(body=result)
    status = answer.status or status
    response = web.Response(status=status) if answer.body is None else json_response(answer.body, status)
    response.headers.update(answer.headers)
    for cookie in answer.cookies:
        _set(response, cookie)
    return response


def add_headers(response: web.StreamResponse, request_id: str, *, https: bool) -> None:
    """Put the common headers on; what a handler set stays."""
    for name, value in _DEFAULT_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[REQUEST_ID] = request_id
    response.headers["Server"] = "koinonia"  # in place of the versions of what it runs on
    if https:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")


def compress(request: web.Request, response: web.StreamResponse) -> None:
    """Compress a body over 1 KiB where that was asked; streams are left alone."""
    if not isinstance(response, web.Response) or not response.content_type.startswith(_COMPRESSIBLE):
        return
    if "Content-Encoding" in response.headers or not isinstance(response.body, bytes | bytearray):
        return
    if len(response.body) > _COMPRESSED_FROM:
        response.headers["Vary"] = "Accept-Encoding"
        if _accepts_gzip(request.headers.get("Accept-Encoding", "")):
            response.enable_compression(web.ContentCoding.gzip)


def _accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        coding, _, parameter = part.strip().partition(";")
        if coding.strip() in {"gzip", "*"}:
            return parameter.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _set(response: web.Response, cookie: Cookie) -> None:
    response.set_cookie(
        cookie.name,
        cookie.value,
        max_age=cookie.max_age_seconds,
        path=cookie.path,
        secure=cookie.secure,
        httponly=cookie.http_only,
        samesite=cookie.same_site,
    )
