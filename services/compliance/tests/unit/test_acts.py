"""What a text asks for, and which of several acts holds."""

from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia_compliance.domain.acts import Act, State, asked, outranks, state_of

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)

STATES: list[State] = ["opted_out", "opted_in"]
ACTS = st.builds(Act, st.sampled_from(STATES), st.integers(0, 4).map(lambda each: NOW + timedelta(seconds=each)))


def test_the_later_act_holds() -> None:
    for state in STATES:
        for other in STATES:
            assert outranks(Act(state, LATER), Act(other, NOW))
            assert not outranks(Act(other, NOW), Act(state, LATER))


def test_an_opt_out_holds_over_a_start_of_the_same_time() -> None:
    assert outranks(Act("opted_out", NOW), Act("opted_in", NOW))
    assert not outranks(Act("opted_in", NOW), Act("opted_out", NOW))


@given(acts=st.lists(ACTS, min_size=1, max_size=6), data=st.data())
def test_any_order_and_repetition_of_the_same_acts_ends_in_the_same_state(acts: list[Act], data: st.DataObject) -> None:
    repeated = acts + data.draw(st.lists(st.sampled_from(acts), max_size=4))
    order = data.draw(st.permutations(repeated))
    end = reduce(lambda known, act: act if outranks(act, known) else known, order)
    latest = max(act.occurred_at for act in acts)
    assert end.occurred_at == latest
    assert end.state == ("opted_out" if Act("opted_out", latest) in acts else "opted_in")


@pytest.mark.parametrize(
    ("text", "keyword"),
    [("STOP", "stop"), (" s.t.o.p. ", "stop"), ("Revoke", "stop"), ("Unstop!", "start"), ("help?", "help")],
)
def test_a_keyword_is_known_by_the_shared_rule(text: str, keyword: str) -> None:
    assert asked(text, None) == keyword


def test_an_ordinary_text_asks_for_nothing() -> None:
    assert asked("Don't stop praying", None) is None


def test_what_the_carrier_took_for_a_stop_is_one_and_nothing_else_of_it_counts() -> None:
    assert asked("ARRET", "STOP") == "stop"
    assert asked("START", "STOP") == "stop"
    assert asked("ouvrir", "START") is None


def test_a_stop_opts_out_and_a_start_opts_in() -> None:
    assert (state_of("stop"), state_of("start")) == ("opted_out", "opted_in")
