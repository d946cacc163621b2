"""One-time codes of an authenticator app: six digits that change every 30 seconds.

Sources: RFC 6238, 4 and 5.2; RFC 4226, 4 (160-bit secrets); OWASP ASVS 5.0, 6.5.5.
"""

import hmac
from datetime import datetime

import pyotp

ISSUER = "Koinonia"
STEP_SECONDS = 30
DRIFT_STEPS = 1  # an app's clock may be so far off, and a code be typed so late

_SECRET_CHARACTERS = 32  # of base32: 160 bits


def make_secret() -> str:
    """A new secret in base32, as a person types it where no camera is at hand."""
    return pyotp.random_base32(_SECRET_CHARACTERS)


def url(secret: str, account: str) -> str:
    """The ``otpauth://`` URL by which an app learns the secret; ``account`` is what the app shows beside the issuer."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=ISSUER)


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """The step that a code belongs to: the present one, or one beside it; None: to none of these.

    The time does not tell which, or how much of the code is right. Whether the step has been used is the caller's to
    know.
    """
    totp, present = pyotp.TOTP(secret), int(now.timestamp()) // STEP_SECONDS
    found = None
    for step in range(present - DRIFT_STEPS, present + DRIFT_STEPS + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode("utf-8", "surrogatepass")):
            found = step
    return found
