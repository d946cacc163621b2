"""Thousands of ways to alter what Stripe signed, the same ones each time. The signature is made by its documentation's
words, apart from the code under test.

Source: https://docs.stripe.com/webhooks#verify-manually.
"""

import base64
import hashlib
import hmac
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Self

from koinonia import clock

from .forgery import Headers, Variant, altered_bodies, changed, flipped

PATH = "/api/webhooks/stripe"
HEADER = "Stripe-Signature"

_TOLERANCE_SECONDS = 300
_NOTHING = "0" * 64


@dataclass(frozen=True)
class SignedPayment:
    """What Stripe says, and its signature with one of the endpoint's secrets."""

    body: bytes
    timestamp: str
    signature: str

    @classmethod
    def by(cls, secret: str, body: bytes, *, seconds: float = 0.0) -> Self:
        """Signed so many seconds from now."""
        timestamp = str(int(clock.now().timestamp() + seconds))
        return cls(body, timestamp, _sign(secret, timestamp, body))

    def variant(
        self, what: str, *, body: bytes | None = None, signature: str | None = None, timestamp: str | None = None
    ) -> Variant:
        """With this instead."""
        told = f"t={self.timestamp if timestamp is None else timestamp}"
        return self.headed(what, f"{told},v1={self.signature if signature is None else signature}", body=body)

    def headed(self, what: str, header: str, *, body: bytes | None = None) -> Variant:
        """With this whole header."""
        return Variant(what, self.body if body is None else body, ((HEADER, header),))

    def true(self) -> Variant:
        return self.variant("true")


def forged_payments(secrets: Sequence[str], bodies: Sequence[bytes], count: int) -> Iterator[Variant]:
    """So many: each kind whole, one after the other, then bodies with bytes changed at random."""
    chance = random.Random(20261122)
    signed = [SignedPayment.by(secret, body) for secret, body in zip(cycle(secrets), bodies, strict=False)]
    kinds = (_signatures, _timestamps, _parts, _headers, _bytes, altered_bodies(chance))
    mixed = (each.variant("over another body", body=other) for each in signed for other in bodies if other != each.body)
    whole = chain.from_iterable(kind(signed[0]) for kind in kinds)
    yield from islice(
        chain(mixed, _times(secrets, bodies), _others(secrets, bodies), whole, changed(signed, chance)), count
    )


def _signatures(signed: SignedPayment) -> Iterator[Variant]:
    raw = bytes.fromhex(signed.signature)
    for bit in range(len(raw) * 8):
        yield signed.variant(f"signature bit {bit}", signature=flipped(raw, bit).hex())
    texts = {
        "in base64": base64.b64encode(raw).decode(),
        "in capitals": signed.signature.upper(),
        "zeros": _NOTHING,
        "short": signed.signature[:-1],
        "half": signed.signature[:32],
        "long": f"{signed.signature}0",
        "twice": signed.signature * 2,
        "backwards": signed.signature[::-1],
        "cut in two": f"{signed.signature[:32]} {signed.signature[32:]}",
        "empty": "",
        "another alphabet's": "é" * 64,
        "huge": "a" * 4000,
    }
    for what, text in texts.items():
        yield signed.variant(f"signature {what}", signature=text)


def _timestamps(signed: SignedPayment) -> Iterator[Variant]:
    at = int(signed.timestamp)
    for seconds in chain(range(-150, 0), range(1, 151), (10**6, -(10**6))):
        yield signed.variant(f"timestamp {seconds:+}", timestamp=str(at + seconds))
    for text in ("", "0", "-1", f"+{at}", f"0{at}", f"{at}.0", f"{at}0", hex(at), "NaN", "9" * 400, "٣", f"{at}."):
        yield signed.variant(f"timestamp {text[:10]}", timestamp=text)


def _parts(signed: SignedPayment) -> Iterator[Variant]:
    """A header's parts missing, empty, doubled, or of a scheme that is not ours."""
    t, v1 = f"t={signed.timestamp}", f"v1={signed.signature}"
    past = "t=1600000000"
    for header in (
        *("", ",", t, v1, "t=,v1=", f"t,{v1}", f"t=,{v1}", f"{t},v1", f"{t},v1="),
        *(f"{t},{t},{v1}", f"{t},{past},{v1}", f"{past},{t},{v1}", f"{t},{v1},{past}", f"{t},{v1},t="),
        *(f"{t},{scheme}={signed.signature}" for scheme in ("v0", "v2", "v11", "V1", "v", "", "sha256", "v1 ")),
        *(f"{t},v0={signed.signature},v1={_NOTHING}", f"{t},v1={_NOTHING},v0={signed.signature}"),
        f"{t}," + ",".join(f"v1={flipped(bytes.fromhex(signed.signature), bit).hex()}" for bit in range(40)),
        *(f"{t};{v1}", f"{t} {v1}", f"{t}&{v1}", f"T={signed.timestamp},{v1}", f"t:{signed.timestamp},{v1}"),
        *(f"t={signed.signature},v1={signed.timestamp}", f'"{t},{v1}"', f"[{t},{v1}]", signed.signature, "null"),
    ):
        yield signed.headed(f"parts {header[:60]}", header)


def _headers(signed: SignedPayment) -> Iterator[Variant]:
    true = f"t={signed.timestamp},v1={signed.signature}"
    bad = f"t={signed.timestamp},v1={_NOTHING}"
    kinds: list[Headers] = [
        (),
        *(((name, true),) for name in ("X-Stripe-Signature", "Stripe_Signature", "Telnyx-Signature-Ed25519")),
        ((HEADER, bad), (HEADER, true)),
        ((HEADER, ""), (HEADER, true)),
        ((HEADER, f"t={signed.timestamp}"), (HEADER, f"v1={signed.signature}")),
    ]
    for headers in kinds:
        yield Variant(f"headers {headers}", signed.body, headers)


def _bytes(signed: SignedPayment) -> Iterator[Variant]:
    """Byte by byte: another one in its place, and none."""
    for place, byte in enumerate(signed.body):
        before, after = signed.body[:place], signed.body[place + 1 :]
        yield signed.variant(f"byte {place} changed", body=before + bytes([byte ^ 1]) + after)
        yield signed.variant(f"byte {place} left out", body=before + after)


def _times(secrets: Sequence[str], bodies: Sequence[bytes]) -> Iterator[Variant]:
    """Truly signed, and replayed when it is too old, or signed in time to come."""
    for secret in secrets:
        for body in bodies:
            for number in range(60):
                seconds = (_TOLERANCE_SECONDS + 30) * 1.2**number
                yield SignedPayment.by(secret, body, seconds=-seconds).variant(f"{seconds:.0f} s old")
                yield SignedPayment.by(secret, body, seconds=seconds).variant(f"{seconds:.0f} s early")


def _others(secrets: Sequence[str], bodies: Sequence[bytes]) -> Iterator[Variant]:
    """Signed with what is not a secret of ours, or in another way."""
    wrong = [f"whsec_{number:032x}" for number in range(40)]
    wrong += [change(secret) for secret in secrets for change in (str.upper, str.swapcase, lambda text: text[:-1])]
    wrong += [secret.removeprefix("whsec_") for secret in secrets]
    wrong += ["", ",".join(secrets), "".join(secrets), "whsec_", "None"]
    for body in bodies:
        for secret in wrong:
            yield SignedPayment.by(secret, body).variant(f"secret {secret[:12]}")
        for secret in secrets:
            each = SignedPayment.by(secret, body)
            key, timed = secret.encode(), each.timestamp.encode() + b"." + body
            for kind in ("sha1", "sha384", "sha512", "md5"):
                yield each.variant(f"by {kind}", signature=hmac.new(key, timed, kind).hexdigest())
            for what, content in (
                ("the body alone", body),
                ("the time alone", each.timestamp.encode()),
                ("without the point", timed.replace(b".", b"", 1)),
                ("nothing", b""),
            ):
                yield each.variant(f"over {what}", signature=hmac.new(key, content, "sha256").hexdigest())
            yield each.variant("without a key", signature=hashlib.sha256(timed).hexdigest())


def _sign(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
