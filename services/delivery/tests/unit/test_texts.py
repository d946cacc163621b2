"""A recipient's text, and what kind of sender a number is."""

import pytest

from koinonia_delivery.domain.numbers import kind_of
from koinonia_delivery.domain.texts import render_text


def test_a_text_is_filled_and_counted() -> None:
    rendered = render_text("Hi {{firstName}}", {"firstName": "Anna"}, ())
    assert (rendered.text, rendered.encoding, rendered.segments) == ("Hi Anna", "GSM-7", 1)


def test_a_text_that_grows_beyond_a_segment_counts_two() -> None:
    assert render_text("x" * 155 + "{{firstName}}", {"firstName": "Johannes"}, ()).segments == 2


def test_an_emoji_in_a_name_changes_the_encoding() -> None:
    assert render_text("Hi {{firstName}}", {"firstName": "🙂"}, ()).encoding == "UCS-2"


def test_with_pictures_it_is_one_segment_whatever_its_length() -> None:
    assert render_text("x" * 500, {}, ("https://x.test/a.jpg",)).segments == 1


@pytest.mark.parametrize(
    ("phone", "kind"), [("+12055550100", "long_code"), ("+18885550100", "toll_free"), ("12345", "short_code")]
)
def test_a_number_tells_its_kind(phone: str, kind: str) -> None:
    assert kind_of(phone) == kind
