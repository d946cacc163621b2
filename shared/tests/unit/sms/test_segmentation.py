import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinonia.sms import Segmentation, segments

# Written down apart from the code, from the carrier's page.
BASIC = set(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 \n\r!\"#$%&'()*+,-./:;<=>?@_"
    "£¥èéùìòØøÅåÆæßÉ¡ÄÖÑÜ§¿äöñüà"
)
EXTENDED = set("^{}\\[~]|€\f")
ALPHABET = st.sampled_from([*sorted(BASIC | EXTENDED), "ê", "“", "日", "🙏", "😀"])
GSM_TEXT = st.text(st.sampled_from(sorted(BASIC) + sorted(EXTENDED) * 4), max_size=700)
ANY_TEXT = st.text(ALPHABET, max_size=400) | st.text(max_size=300)


def naive(text: str) -> Segmentation:
    """The same by hand: a list of what must stay together, put into segments one after the other."""
    gsm = all(character in BASIC or character in EXTENDED for character in text)
    if gsm:
        sizes = [2 if character in EXTENDED else 1 for character in text]
    else:
        sizes = [len(character.encode("utf-16-be", "surrogatepass")) // 2 for character in text]
    alone, each = (160, 153) if gsm else (70, 67)
    count = min(len(text), 1)
    if sum(sizes) > alone:
        room = each
        for size in sizes:
            if size > room:
                count, room = count + 1, each
            room -= size
    return Segmentation("GSM-7" if gsm else "UCS-2", count, sum(sizes))


@settings(max_examples=300, deadline=None)
@given(GSM_TEXT | ANY_TEXT)
def test_segments_are_those_of_packing_by_hand(text: str) -> None:
    assert segments(text) == naive(text)


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT, st.sampled_from(sorted(BASIC)))
def test_a_longer_text_never_has_fewer_segments(text: str, character: str) -> None:
    assert segments(text + character).segments >= segments(text).segments


@pytest.mark.parametrize(
    ("text", "encoding", "count"),
    [
        # developers.telnyx.com, docs/messaging/messages/message-encoding
        ("a" * 100, "GSM-7", 1),
        ("a" * 160, "GSM-7", 1),
        ("a" * 161, "GSM-7", 2),
        ("a" * 306, "GSM-7", 2),
        ("a" * 307, "GSM-7", 3),
        ("a" * 1530, "GSM-7", 10),
        ("a" * 199 + "😀", "UCS-2", 3),
        ("a" * 199 + "“", "UCS-2", 3),
        # 3GPP TS 23.038: two septets each, and none split over two segments
        ("€" * 80, "GSM-7", 1),
        ("€" * 81, "GSM-7", 2),
        ("€" * 152, "GSM-7", 2),
        ("€" * 153, "GSM-7", 3),
        ("a" * 152 + "[" + "a" * 152, "GSM-7", 3),
        ("a" * 151 + "[" + "a" * 153, "GSM-7", 2),
        # UTF-16
        ("é" * 69 + "ê", "UCS-2", 1),
        ("ê" * 71, "UCS-2", 2),
        ("ê" * 134, "UCS-2", 2),
        ("ê" * 135, "UCS-2", 3),
        ("😀" * 35, "UCS-2", 1),
        ("😀" * 36, "UCS-2", 2),
        ("😀" * 66, "UCS-2", 2),
        ("😀" * 67, "UCS-2", 3),
        ("", "GSM-7", 0),
    ],
)
def test_published_examples_come_out_right(text: str, encoding: str, count: int) -> None:
    found = segments(text)
    assert (found.encoding, found.segments) == (encoding, count)


@pytest.mark.parametrize("character", "ΔΦΓΛΩΠΨΣΘΞ`Ç¤\x1b\t\u00a0–…’")
def test_what_the_carrier_left_out_of_gsm_7_makes_a_text_ucs_2(character: str) -> None:
    assert segments("Sunday" + character).encoding == "UCS-2"


def test_a_family_of_joined_emoji_counts_each_unit() -> None:
    assert segments("👨‍👩‍👧").units == 8


def test_a_lone_surrogate_counts_one_unit_and_breaks_nothing() -> None:
    assert segments("\ud83d" * 71) == Segmentation("UCS-2", 2, 71)
