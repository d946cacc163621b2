"""The opt-out line: below what lacks the wording, and never twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia.sms import field_names, says_how_to_opt_out, with_opt_out_line

LINE = "Reply STOP to opt out"


@pytest.mark.parametrize(
    "text",
    [
        "Sunday at 10. Reply STOP to opt out.",
        'Text "stop" to unsubscribe',
        "Reply with STOP to end",
        "reply back: stop",
        "txt stop 2 end",
        "STOP to quit, HELP for help",
        "To leave this list, send END.",
        "Responda STOP. Or: text us UNSUBSCRIBE",
    ],
)
def test_a_text_that_has_the_wording_stays(text: str) -> None:
    assert says_how_to_opt_out(text)
    assert with_opt_out_line(text, "Text QUIT to leave") == text


@pytest.mark.parametrize(
    "text",
    [
        "Don't stop to pray",
        "Please reply by the end of the week",
        "Text end of day to Ruth",
        "We will send cancelled tickets back",
        "The bus stops for leaving members",
        "Hi {{firstName|Reply STOP}}",
        "",
    ],
)
def test_what_only_sounds_like_it_gets_the_line(text: str) -> None:
    assert not says_how_to_opt_out(text)
    assert with_opt_out_line(text, LINE) == f"{text}\n{LINE}"


def test_the_line_stands_by_itself_below_a_link() -> None:
    assert with_opt_out_line("See https://x.org/a  \n", LINE) == f"See https://x.org/a\n{LINE}"
    assert with_opt_out_line("Hello", None) == "Hello"


@given(st.text(st.sampled_from("ab {}|STOP\n"), max_size=60), st.sampled_from([LINE, "ALTO para salir", "Msg 2 all"]))
def test_it_is_never_added_twice_and_changes_no_field(text: str, line: str) -> None:
    once = with_opt_out_line(text, line)
    assert with_opt_out_line(once, line) == once
    assert field_names(once) == field_names(text)
    assert once.startswith(text.rstrip())
