"""Smart encoding: what it replaces, what it leaves alone, and that it tells."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia.sms import (
    DOTS,
    ELLIPSIS,
    SMART_FROM,
    SMART_TO,
    Replacement,
    has_field_in_link,
    replacements,
    segments,
    smart,
    smart_value,
)

TYPOGRAPHIC = SMART_FROM + ELLIPSIS


def test_a_pasted_text_fits_one_segment_again() -> None:
    pasted = (
        "“Don’t miss Sunday’s potluck” – bring a dish… and a friend\u00a0•\ttwo\u200b, if you can. We start at noon!"
    )
    encoded = smart(pasted)
    assert (
        encoded == "\"Don't miss Sunday's potluck\" - bring a dish... and a friend * two, if you can. We start at noon!"
    )
    assert (segments(pasted).segments, segments(encoded).encoding, segments(encoded).segments) == (2, "GSM-7", 1)


def test_letters_emoji_and_plain_texts_stay() -> None:
    for text in ("Grüße, José, Ånström ê 日本", "👨\u200d👩\u200d👧 🙏", "plain, it's"):
        assert smart(text) == text


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("See https://x.org/a–b’c.", "See https://x.org/a–b’c."),
        ("“https://x.org/a–b” – “www.y.org/–1”", '"https://x.org/a–b" - "www.y.org/–1"'),
        ("HTTPS://X.org/…", "HTTPS://X.org/..."),
        ("(https://x.org/a)…", "(https://x.org/a)..."),
        ("https://", "https://"),
    ],
)
def test_links_stay_whole_and_what_stands_around_them_does_not(text: str, encoded: str) -> None:
    assert smart(text) == encoded


def test_a_value_with_a_link_stays_as_it_is() -> None:
    assert smart_value("O’Neil – Jr.") == "O'Neil - Jr."
    assert smart_value("O’Neil, www.x.org") == "O’Neil, www.x.org"


def test_what_was_replaced_is_told_in_its_order() -> None:
    assert replacements("“Hi”… “you”\u200b https://x.org/–1") == (
        Replacement("“", '"', 2),
        Replacement("”", '"', 2),
        Replacement("…", "...", 1),
        Replacement("\u200b", "", 1),
    )


@given(st.text(st.sampled_from(TYPOGRAPHIC + "ab{}|€ê🙏 ")))
def test_encoded_once_is_encoded_and_what_was_told_is_all(text: str) -> None:
    encoded = smart(text)
    assert smart(encoded) == encoded
    assert not set(encoded) & set(TYPOGRAPHIC)
    told = text
    for each in replacements(text):
        assert told.count(each.character) == each.count
        told = told.replace(each.character, each.replacement)
    assert told == encoded


@given(st.text(st.sampled_from(TYPOGRAPHIC + "ab’ ê")))
def test_postgres_and_python_encode_a_value_alike(value: str) -> None:
    """``translate(replace(value, …), from, to)``: the first in ``from`` counts, what has no counterpart goes."""
    table = {character: SMART_TO[place : place + 1] for place, character in enumerate(SMART_FROM)}
    assert len(table) == len(SMART_FROM)
    assert smart_value(value) == "".join(table.get(each, each) for each in value.replace(ELLIPSIS, DOTS))


def test_every_replacement_is_of_gsm_7() -> None:
    assert segments(smart(TYPOGRAPHIC)).encoding == "GSM-7"
    assert not re.search("[A-Za-z0-9]", TYPOGRAPHIC)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("https://give.org/{{id}}", True),
        ("www.give.org/?to={{ firstName | x }}", True),
        ("https://give.org/ {{firstName}}", False),
        ("{{firstName}}: https://give.org", False),
    ],
)
def test_a_field_in_a_link_is_found(template: str, found: bool) -> None:
    assert has_field_in_link(template) is found
