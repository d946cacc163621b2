"""Ten thousand ways to alter what the carrier signed, the same ones each time.

How a body is altered goes for whatever is signed, see `payment_forgery` too.
"""

import base64
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from koinonia import clock
from koinonia.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, Signer

PATHS = ("/api/webhooks/telnyx/status", "/api/webhooks/telnyx/mms")
Headers = tuple[tuple[str, str], ...]

_ORDER = 2**252 + 27742317777372353535851937790883648493  # of ed25519's group: a signature is good modulo this
_TOLERANCE_SECONDS = 300


@dataclass(frozen=True)
class Variant:
    """A webhook as it is sent."""

    what: str
    body: bytes
    headers: Headers


class Genuine(Protocol):
    """What somebody has signed."""

    @property
    def body(self) -> bytes: ...
    @property
    def timestamp(self) -> str: ...
    def variant(self, what: str, *, body: bytes) -> Variant: ...


@dataclass(frozen=True)
class Signed:
    """What the carrier says, and its signature."""

    body: bytes
    signature: str
    timestamp: str

    @classmethod
    def by(cls, signer: Signer, body: bytes, *, seconds: float = 0.0) -> "Signed":
        """Signed so many seconds from now."""
        with clock.shifted(seconds):
            headers = signer.headers(body)
        return cls(body, headers[SIGNATURE_HEADER], headers[TIMESTAMP_HEADER])

    def variant(
        self, what: str, *, body: bytes | None = None, signature: str | None = None, timestamp: str | None = None
    ) -> Variant:
        """With this instead."""
        headers = ((SIGNATURE_HEADER, signature or self.signature), (TIMESTAMP_HEADER, timestamp or self.timestamp))
        return Variant(what, self.body if body is None else body, headers)

    def true(self) -> Variant:
        return self.variant("true")


def forgeries(signer: Signer, bodies: list[bytes], count: int) -> Iterator[Variant]:
    """So many, of these bodies in turn: each kind whole, then bodies with bytes changed at random."""
    chance = random.Random(20261121)
    signed = [Signed.by(signer, body) for body in bodies]
    whole = chain.from_iterable(
        kind(each) for each in signed for kind in (_signatures, _timestamps, _headers, altered_bodies(chance))
    )
    mixed = (each.variant("mixed", body=other.body) for each in signed for other in signed if other != each)
    yield from islice(chain(whole, mixed, _times(signer, bodies), _others(bodies), changed(signed, chance)), count)


def _signatures(signed: Signed) -> Iterator[Variant]:
    raw = base64.b64decode(signed.signature)
    for bit in range(len(raw) * 8):
        yield signed.variant(f"signature bit {bit}", signature=_encode(flipped(raw, bit)))
    scalar = int.from_bytes(raw[32:], "little")
    more = {
        "malleable": raw[:32] + (scalar + _ORDER).to_bytes(32, "little"),
        "zeros": bytes(64),
        "identity": b"\x01" + bytes(63),
        "ones": b"\xff" * 64,
        "halves swapped": raw[32:] + raw[:32],
        "short": raw[:63],
        "half": raw[:32],
        "long": raw + b"\x00",
        "twice": raw + raw,
    }
    for what, other in more.items():
        yield signed.variant(f"signature {what}", signature=_encode(other))
    texts = (
        raw.hex(),
        signed.signature + "=",
        signed.signature[:-2],
        signed.signature[:44] + " " + signed.signature[44:],
    )
    for text in (*texts, "nonsense", "=", "null", "ä", "A" * 4000, f"{signed.signature},{signed.signature}"):
        yield signed.variant(f"signature {text[:10]}", signature=text)


def _timestamps(signed: Signed) -> Iterator[Variant]:
    at = int(signed.timestamp)
    for seconds in chain(range(-150, 0), range(1, 151), (10**6, -(10**6))):
        yield signed.variant(f"timestamp {seconds:+}", timestamp=str(at + seconds))
    for text in (
        "0",
        "-1",
        f"+{at}",
        f"0{at}",
        f"{at}.0",
        f"{at}0",
        f"{at}e0",
        hex(at),
        "NaN",
        "9" * 400,
        "٣",
        f"{at}|",
    ):
        yield signed.variant(f"timestamp {text[:10]}", timestamp=text)


def _headers(signed: Signed) -> Iterator[Variant]:
    signature, timestamp = (SIGNATURE_HEADER, signed.signature), (TIMESTAMP_HEADER, signed.timestamp)
    bad, past = (SIGNATURE_HEADER, _encode(bytes(64))), (TIMESTAMP_HEADER, "1600000000")
    swapped = ((SIGNATURE_HEADER, signed.timestamp), (TIMESTAMP_HEADER, signed.signature))
    odd = ("X-Telnyx-Signature", signed.signature)
    kinds: list[Headers] = [
        *((), (signature,), (timestamp,), swapped, (odd, timestamp)),
        *((bad, signature, timestamp), (signature, past, timestamp), ((SIGNATURE_HEADER, ""), timestamp)),
        (signature, (TIMESTAMP_HEADER, "")),
    ]
    for headers in kinds:
        yield Variant(f"headers {[name for name, _ in headers]}", signed.body, headers)


def altered_bodies(chance: random.Random) -> Callable[[Genuine], Iterator[Variant]]:
    """Written in another way, cut, with a bit turned."""

    def variants(signed: Genuine) -> Iterator[Variant]:
        body, parsed = signed.body, json.loads(signed.body)
        text = body.decode()
        others = {
            "sorted": json.dumps(parsed, sort_keys=True).encode(),
            "indented": json.dumps(parsed, indent=1).encode(),
            "compact, other order": json.dumps(dict(reversed(parsed.items())), separators=(",", ":")).encode(),
            "escaped": text.replace("a", "\\u0061").encode(),
            "in UTF-16": text.encode("utf-16"),
            "with a mark": b"\xef\xbb\xbf" + body,
            "twice": body + body,
            "empty": b"",
            "an empty object": b"{}",
            "with its time": signed.timestamp.encode() + b"|" + body,
            "huge": body + b" " * 200_000,
            "a second id": body.replace(b'"id"', b'"id": "x", "id"', 1),
        }
        for what, other in others.items():
            yield signed.variant(f"body {what}", body=other)
        for space in (b" ", b"\n", b"\r\n", b"\t", b"\x00"):
            yield signed.variant("space after", body=body + space)
            yield signed.variant("space before", body=space + body)
        for end in chance.sample(range(len(body)), 100):
            yield signed.variant(f"cut at {end}", body=body[:end])
        for bit in chance.sample(range(len(body) * 8), 1000):
            yield signed.variant(f"body bit {bit}", body=flipped(body, bit))

    return variants


def _times(signer: Signer, bodies: list[bytes]) -> Iterator[Variant]:
    """Truly signed, long ago or in time to come."""
    for body in bodies:
        for number in range(100):
            seconds = (_TOLERANCE_SECONDS + 30) * 1.1**number
            if seconds < 10**9:
                yield Signed.by(signer, body, seconds=-seconds).variant("stale")
                yield Signed.by(signer, body, seconds=seconds).variant("from the future")


def _others(bodies: list[bytes]) -> Iterator[Variant]:
    """Signed by somebody else."""
    for body in bodies:
        for number in range(100):
            yield Signed.by(Signer(number.to_bytes(32, "big")), body).variant("another's key")


def changed(signed: Sequence[Genuine], chance: random.Random) -> Iterator[Variant]:
    """Without end: some bytes changed, put in or left out."""
    while True:
        each = chance.choice(signed)
        body = bytearray(each.body)
        for _ in range(chance.randint(1, 8)):
            start = chance.randrange(len(body))
            body[start : start + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        if bytes(body) != each.body:
            yield each.variant("changed", body=bytes(body))


def flipped(data: bytes, bit: int) -> bytes:
    """With one bit turned."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _encode(signature: bytes) -> str:
    return base64.b64encode(signature).decode()
