"""Which texts are answered by themselves, and with what words."""

from datetime import timedelta

import pytest

from koinonia.sms import segments
from koinonia.sms.keywords import Keyword, judge
from koinonia_compliance.domain.replies import CONFIRM_WITHIN, content, is_due

KEYWORDS: list[Keyword] = ["stop", "start", "help"]
AT_ONCE = timedelta(seconds=1)


@pytest.mark.parametrize("keyword", ["stop", "start"])
def test_a_change_is_confirmed_and_its_repeat_is_not(keyword: Keyword) -> None:
    assert is_due(keyword, changed=True, answered_by_carrier=False, age=AT_ONCE)
    assert not is_due(keyword, changed=False, answered_by_carrier=False, age=AT_ONCE)


def test_help_is_answered_each_time() -> None:
    assert is_due("help", changed=False, answered_by_carrier=False, age=AT_ONCE)


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_nothing_is_answered_twice_where_the_carrier_answers(keyword: Keyword) -> None:
    assert not is_due(keyword, changed=True, answered_by_carrier=True, age=AT_ONCE)


def test_an_opt_out_is_confirmed_within_five_minutes_or_never() -> None:
    assert is_due("stop", changed=True, answered_by_carrier=False, age=CONFIRM_WITHIN)
    late = CONFIRM_WITHIN + timedelta(seconds=1)
    assert not is_due("stop", changed=True, answered_by_carrier=False, age=late)
    assert is_due("start", changed=True, answered_by_carrier=False, age=late)


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_reply_names_the_church_as_it_is_and_is_no_keyword_itself(keyword: Keyword) -> None:
    text = content(keyword, "Grace {0} & {church}")
    assert "Grace {0} & {church}" in text
    assert judge(text) is None


def test_a_confirmation_of_an_opt_out_fits_one_segment() -> None:
    text = content("stop", "Grace Community Church")
    assert text == (
        "You are opted out of texts from Grace Community Church. No more messages. Reply START to get them again."
    )
    assert segments(text).segments == 1


def test_help_tells_how_to_stop_and_what_it_costs() -> None:
    text = content("help", "Grace")
    assert "STOP" in text
    assert "Msg & data rates may apply" in text
