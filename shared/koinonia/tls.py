"""Servers' addresses under TLS: what encrypts and checks a certificate, and what only looks as if it did.

The clients read these from the address themselves: ``sslmode`` and ``sslrootcert`` (asyncpg, as libpq), ``cafile``
(aio-pika), ``ssl_ca_certs`` (redis-py).
"""

import asyncio
import ssl
from urllib.parse import parse_qs, urlsplit

_PORTS = {"amqps": 5671, "rediss": 6379}
_ANSWER_SECONDS = 10.0
_TRUSTED = ("sslrootcert", "cafile", "ssl_ca_certs")
_ELSEWHERE = ("capath", "ssl_ca_path", "ssl_ca_data")
"""More ways in which the clients can be told whom to trust; what they say is left to them."""
_OWN = ("sslcert", "sslkey", "certfile", "keyfile", "ssl_certfile", "ssl_keyfile")


def is_encrypted(url: str) -> bool:
    """Whether a server is reached by TLS alone, and its certificate is checked for its authority and its name."""
    parts = urlsplit(url)
    said = parse_qs(parts.query, keep_blank_values=True)
    match parts.scheme:
        case "postgresql" | "postgres":
            return said.get("sslmode") == ["verify-full"]
        case "amqps":
            return set(said.get("no_verify_ssl", ["0"])) == {"0"}
        case "rediss":
            certain = set(said.get("ssl_cert_reqs", ["required"])) == {"required"}
            return certain and {each.lower() for each in said.get("ssl_check_hostname", ["true"])} <= {"true", "1"}
        case scheme:
            return scheme == "https"


def fault(url: str) -> str | None:
    """What is wrong with the files that an address names; None: nothing. It shows nothing else of the address."""
    said = parse_qs(urlsplit(url).query)
    for name in (*_TRUSTED, *_OWN):
        for path in said.get(name, []):
            try:
                with open(path, "rb"):
                    pass
                if name in _TRUSTED:
                    ssl.create_default_context(cafile=path)
            except ssl.SSLError:
                return f"{name}: {path} holds no certificates"
            except OSError as error:
                return f"{name}: {path} cannot be read: {error.strerror}"
    return None


async def distrust(url: str) -> str | None:
    """Why the certificate of a server that speaks TLS from the start (amqps, rediss) is not believed.

    None: it is, or nobody answers, or the address wants no check.
    """
    parts = urlsplit(url)
    said = parse_qs(parts.query)
    if parts.scheme not in _PORTS or not is_encrypted(url) or any(name in said for name in _ELSEWHERE):
        return None
    authority = next((path for name in _TRUSTED for path in said.get(name, [])), None)
    try:
        context = ssl.create_default_context(cafile=authority)
        async with asyncio.timeout(_ANSWER_SECONDS):
            port = parts.port or _PORTS[parts.scheme]
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except (OSError, TimeoutError):
        return None
    writer.close()
    return None
