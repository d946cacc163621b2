import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koinonia.sms import (
    LONGEST_VALUE,
    PLAIN_PATTERN,
    clean_value,
    field_names,
    is_plain,
    render,
    segment_bound,
    segments,
    unknown_fields,
)

NAMES = ("firstName", "lastName", "custom.team")


def test_fields_are_filled_and_the_rest_is_text() -> None:
    text = "Hi {{firstName}}, {{ lastName }}! {firstName} {{}} {{1}} {{a b}} {{firstName"
    filled = "Hi Ann, Lee! {firstName} {{}} {{1}} {{a b}} {{firstName"
    assert render(text, {"firstName": "Ann", "lastName": "Lee"}) == filled


@pytest.mark.parametrize("fields", [{}, {"firstName": ""}, {"firstName": " \n\x00 "}])
def test_a_missing_value_gives_the_fallback_or_nothing(fields: dict[str, str]) -> None:
    assert render("Hi {{firstName| dear friend }}{{firstName}}{{firstName|}}.", fields) == "Hi dear friend."


def test_a_value_that_looks_like_a_field_is_not_filled_again() -> None:
    assert render("{{firstName}}", {"firstName": "{{lastName}}", "lastName": "Lee"}) == "{{lastName}}"


def test_names_come_once_each_in_their_order_and_unknown_ones_are_told() -> None:
    template = "{{b}} {{a|x}} {{b|y}} {{c}}"
    assert field_names(template) == ("b", "a", "c")
    assert unknown_fields(template, {"a"}) == ("b", "c")


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ("Ann", "Ann"),
        ("  Mary   Jane ", "Mary Jane"),
        ("Mary\r\nJane\tLee", "Mary Jane Lee"),
        ("A\x00n\x1bn\x7f", "Ann"),
        ("evil\u202egnp", "evilgnp"),
        ("\ufeffAnn\u2028", "Ann"),
        ("lone\ud800", "lone"),
        ("José 👨\u200d👩\u200d👧", "José 👨\u200d👩\u200d👧"),
        ("x" * 500, "x" * LONGEST_VALUE),
        ("é" * 99 + " é", "é" * 99),
    ],
)
def test_values_are_cleaned(value: str, clean: str) -> None:
    assert clean_value(value) == clean


@given(st.text())
def test_a_clean_value_is_short_stays_as_it_is_and_has_no_controls(value: str) -> None:
    clean = clean_value(value)
    assert clean_value(clean) == clean
    assert len(clean) <= min(len(value), LONGEST_VALUE)
    assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e]", clean)


@pytest.mark.parametrize(
    ("value", "plain"), [("O'Neil-Núñez", False), ("Ann-Lee Ñ", True), ("a[", False), ("a\n", False)]
)
def test_plain_values_are_those_of_one_septet_a_character(value: str, plain: bool) -> None:
    assert is_plain(value) is plain
    assert (re.fullmatch(PLAIN_PATTERN, value) is not None) is plain


SIMPLE = st.text(st.sampled_from("ab -é"), max_size=120)
WIDE = st.text(st.sampled_from("ab[€ê🙏 "), max_size=120)
FALLBACK = st.none() | st.text(st.sampled_from("ab[€ê🙏 "), max_size=90)


@st.composite
def templates(draw: st.DrawFn) -> str:
    literals = st.text(st.sampled_from("abc€ "), max_size=170) | st.text(st.sampled_from("ab€ê🙏"), max_size=80)
    text = draw(literals)
    for _ in range(draw(st.integers(0, 4))):
        fallback = draw(FALLBACK)
        name = draw(st.sampled_from(NAMES))
        text += f"{{{{{name}{'' if fallback is None else '|' + fallback}}}}}" + draw(literals)
    return text


def check_bound(template: str, people: list[dict[str, str]], plain: bool) -> None:
    longest = {name: max((len(person[name]) for person in people if name in person), default=0) for name in NAMES}
    bound = segment_bound(template, longest, plain)
    assert bound >= max(segments(render(template, person)).segments for person in people)


@settings(max_examples=400, deadline=None)
@given(templates(), st.lists(st.dictionaries(st.sampled_from(NAMES), SIMPLE), min_size=1, max_size=3))
@example("{{lastName|ê}}" + "€" * 76 + "a" * 9, [{"lastName": "a"}])
def test_the_bound_is_never_below_the_truth_for_plain_values(template: str, people: list[dict[str, str]]) -> None:
    check_bound(template, people, plain=True)


@settings(max_examples=400, deadline=None)
@given(templates(), st.lists(st.dictionaries(st.sampled_from(NAMES), SIMPLE | WIDE), min_size=1, max_size=3))
def test_the_bound_is_never_below_the_truth_for_any_values(template: str, people: list[dict[str, str]]) -> None:
    check_bound(template, people, plain=False)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab€ê🙏"), max_size=400))
def test_without_fields_the_bound_is_the_truth(template: str) -> None:
    assert segment_bound(template, {}, plain=False) == segments(template).segments


@pytest.mark.parametrize(
    ("template", "lengths", "plain", "bound"),
    [
        ("a" * 150 + "{{firstName}}", {"firstName": 10}, True, 1),
        ("a" * 150 + "{{firstName}}", {"firstName": 11}, True, 2),
        ("a" * 200 + "{{firstName}}", {"firstName": 100}, True, 2),
        ("a" * 60 + "{{firstName}}", {"firstName": 5}, False, 1),
        ("a" * 60 + "{{firstName}}", {"firstName": 6}, False, 2),
        ("a" * 60 + "ê{{firstName}}", {"firstName": 9}, True, 1),
        ("{{firstName}}", {"firstName": 10_000}, True, 1),
        ("a" * 160 + "{{firstName}}", {}, False, 1),
        ("a" * 160 + "{{firstName|b}}", {"firstName": -1}, False, 2),
    ],
)
def test_the_bound_is_close(template: str, lengths: dict[str, int], plain: bool, bound: int) -> None:
    assert segment_bound(template, lengths, plain) == bound


def test_the_bound_reckons_with_the_unit_that_a_pair_leaves_empty() -> None:
    assert segments("😀" * 67).segments == 3
    assert segment_bound("{{firstName}}", {"firstName": 67}, plain=False) == 3
    assert segments("€" * 153).segments == 3
    assert segment_bound("€" * 153 + "{{firstName}}", {}, plain=True) == 3
