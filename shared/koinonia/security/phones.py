"""Phone numbers: in whatever form people write them, stored and compared in E.164 alone."""

import re

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat

from koinonia.errors import KoinoniaError

_LONGEST = 40
_LETTER = re.compile(r"[^\W\d_]")


class PhoneInvalid(KoinoniaError):
    """This is not a valid phone number."""

    code = "VALIDATION_ERROR"
    status = 400


def normalise(text: str, region: str = "US") -> str:
    """The number in E.164; ``region`` says whose national form is meant where no country code is given.

    Extensions, letters and short codes are refused: nobody can text them.

    Raises:
        PhoneInvalid: there is no such number.
    """
    bare = text.strip()
    if len(bare) > _LONGEST or _LETTER.search(bare):
        raise PhoneInvalid
    try:
        number = phonenumbers.parse(bare, region)
    except NumberParseException:
        # From None: the cause may show the number.
        raise PhoneInvalid from None
    if number.extension or not phonenumbers.is_valid_number(number):
        raise PhoneInvalid
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def national(phone: str) -> str:
    """A number in E.164 as people of its country write it: ``(205) 555-0123``."""
    return phonenumbers.format_number(phonenumbers.parse(phone, None), PhoneNumberFormat.NATIONAL)


def has_phone(text: str, region: str) -> bool:
    """Whether a valid number stands somewhere in a text, in international form or the national one of ``region``."""
    return phonenumbers.PhoneNumberMatcher(text, region).has_next()
