"""The bound of a message, and counters that always add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia.errors import ValidationFailed
from koinonia_messaging.domain.audience import Text
from koinonia_messaging.domain.messages import (
    STATUSES,
    AudienceFigures,
    check_length,
    outline,
    shown_counts,
    unknown_fields,
)


def figures(**values: object) -> AudienceFigures:
    return AudienceFigures(**{"numbers": 10, "textable": 8, **values})  # type: ignore[arg-type]


def test_the_bound_counts_the_longest_values_for_everyone_who_can_be_texted() -> None:
    content = "x" * 150 + "{{firstName}}"
    assert outline(Text(content, False), figures(longest={"firstName": 11})).segment_bound == 16
    assert outline(Text(content, False), figures(longest={"firstName": 5})).segment_bound == 8
    assert outline(Text(content, True), figures(longest={"firstName": 90})).segment_bound == 8


def test_one_name_beyond_gsm_makes_the_message_ucs() -> None:
    assert outline(Text("Hi {{firstName}}", False), figures(longest={"firstName": 5})).encoding == "GSM-7"
    assert outline(Text("Hi {{firstName}}", False), figures(longest={"firstName": 5}, plain=False)).encoding == "UCS-2"


def test_a_text_of_more_than_ten_segments_is_refused() -> None:
    check_length(outline(Text("x" * 1530, False), figures()))
    with pytest.raises(ValidationFailed):
        check_length(outline(Text("x" * 1531, False), figures()))


def test_a_field_that_nobody_has_is_unknown() -> None:
    assert unknown_fields("{{firstName}} {{shirt}} {{shoe}}", figures(longest={"shirt": 1})) == ["shoe"]


@given(st.text(max_size=60), st.text(min_size=1, max_size=60))
def test_no_copy_takes_more_than_the_bound(literal: str, value: str) -> None:
    from koinonia import sms

    content = literal + "{{firstName}}" + literal
    bounded = outline(Text(content, False), figures(longest={"firstName": len(value)}, plain=sms.is_plain(value)))
    assert Text(content, False).copy_segments({"firstName": value}) <= bounded.segments


counters = st.fixed_dictionaries({status: st.integers(-3, 20) for status in STATUSES})


@given(counters, st.integers(0, 50))
def test_shown_counts_are_never_negative_and_add_up(values: dict[str, int], total: int) -> None:
    shown = shown_counts(values, total)
    amounts = [getattr(shown, status) for status in STATUSES]
    assert min(amounts) >= 0
    assert sum(amounts) == total


def test_recipients_that_did_not_arrive_yet_are_queued() -> None:
    shown = shown_counts({**dict.fromkeys(STATUSES, 0), "queued": 3, "sent": 2, "delivered": 1}, 10)
    assert (shown.queued, shown.sent, shown.delivered) == (7, 2, 1)
