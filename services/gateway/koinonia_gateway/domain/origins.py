"""Whether a browser's request comes from our own pages.

Source: OWASP, Cross-Site Request Forgery Prevention Cheat Sheet, "Verifying Origin" and "Fetch Metadata".
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_own(headers: Mapping[str, str], public_url: str) -> bool:
    """Whether the browser names our own origin; a caller that names none is no browser, and is let through."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("Origin")
    if origin is None:
        return True
    return origin == origin_of(public_url) or _authority(origin) == headers.get("Host", "").lower()


def origin_of(url: str) -> str:
    """Scheme and authority of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _authority(origin: str) -> str | None:
    return origin.partition("://")[2].lower() or None  # "null", of a sandboxed page, has none
