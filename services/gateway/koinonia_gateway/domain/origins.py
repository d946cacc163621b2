"""Whether a browser's request comes from our own pages, or from others that a setting names.

Source: OWASP, Cross-Site Request Forgery Prevention Cheat Sheet, "Verifying Origin" and "Fetch Metadata".
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?")
_USUAL_PORT = re.compile(r"http://.*:80|https://.*:443")


def parse_origins(text: str) -> frozenset[str]:
    """Read ``https://app.example.org, https://example.org``, each as browsers name it.

    Raises:
        ValueError: one is no origin, such as ``*``, a path, capitals or a port that goes without saying.
    """
    origins = frozenset(part.strip() for part in text.split(",") if part.strip())
    for each in origins:
        if not _ORIGIN.fullmatch(each) or _USUAL_PORT.fullmatch(each):
            raise ValueError(f"{each!r} is no origin such as https://app.example.org")
    return origins


def is_own(headers: Mapping[str, str], public_url: str, others: frozenset[str] = frozenset()) -> bool:
    """Whether the browser names our own origin, or one of ``others``.

    A caller that names none is no browser, and is let through.
    """
    if headers.get("Origin") in others:
        return True
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
