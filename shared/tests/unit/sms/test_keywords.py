import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia.sms import keywords

STOP_WORDS = (
    *("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit"),
    *("revoke", "opt out", "optout", "opt-out"),
)
EDGES = st.text(st.sampled_from(" \t\n.,!?;:'\"“”‘’()*-_…🛑\u200b\ufe0f"), max_size=6)


@given(st.sampled_from(STOP_WORDS), EDGES, EDGES, st.data())
def test_a_stop_word_stops_in_any_case_and_wrapping(word: str, before: str, after: str, data: st.DataObject) -> None:
    upper = data.draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
    written = "".join(c.upper() if up else c for c, up in zip(word, upper, strict=True))
    assert keywords.judge(before + written + after) == "stop"


@pytest.mark.parametrize("word", STOP_WORDS)
@pytest.mark.parametrize(
    "form",
    ["{} please", "{}. Thank you!", "Please {}", "pls, {} now, thanks", "{} {}", '"{}" thx', "{}, please. God bless"],
)
def test_courtesy_around_a_stop_word_does_not_hide_it(word: str, form: str) -> None:
    assert keywords.judge(form.replace("{}", word.upper())) == "stop"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Stop texting me!",
            "Don’t text me",
            "please remove me from your list",
            "S.T.O.P.",
            "ＳＴＯＰ",
            "STOP\n\nSent from my iPhone",
        ),
        *("stop\r\n", "Stop!!! STOP!!!", "STOP 🛑", "un\u00adsubscribe"),
        *(
            "\n\nStop.\n\n",
            "\u00a0STOP\u00a0",
            "Stop, all!",
            "stop-all",
            "STOP\nALL",
            "Opt\nout",
            "\u200fSTOP\u200f",
            "stop stop stop",
        ),
    ],
)
def test_what_people_write_instead_stops_too(text: str) -> None:
    assert keywords.judge(text) == "stop"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "!", "yes", "Yes please", "Don't stop praying", "stop by the church", "the end", "Thanks", "please"),
        *(
            "I cannot quit my job",
            "non-stop",
            "Can you help me",
            "Please help",
            "help please",
            "starting at 9?",
            "Amen",
        ),
        *("is service cancelled?", "stop " + "x" * 300, "halt", "aufhören", "stopp", "we start at nine", "s t a r"),
    ],
)
def test_other_texts_are_no_keyword(text: str) -> None:
    assert keywords.judge(text) is None


@given(st.sampled_from(("start", "unstop", "help", "info")), EDGES, EDGES, st.booleans())
def test_start_and_help_words_count_in_any_case_and_wrapping(word: str, before: str, after: str, upper: bool) -> None:
    written = before + (word.upper() if upper else word.title()) + after
    assert keywords.judge(written) == ("help" if word in {"help", "info"} else "start")


@pytest.mark.parametrize("text", ["START", " start. ", "Unstop!", "start please", "'Start' thank you"])
def test_start_words_start(text: str) -> None:
    assert keywords.judge(text) == "start"


@pytest.mark.parametrize("text", ["HELP", "help!", "  Info? "])
def test_help_words_ask_for_help(text: str) -> None:
    assert keywords.judge(text) == "help"


@given(st.text(max_size=300))
def test_any_text_can_be_judged(text: str) -> None:
    assert keywords.judge(text) in {"stop", "start", "help", None}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        *((word, "stop") for word in ("STOP", " stop ", "StopAll", "stop all", "UNSUBSCRIBE", "cancel", "End", "quit")),
        *(("START", "start"), ("unstop", "start"), ("Help", "help")),
        *((text, None) for text in ("REVOKE", "opt out", "info", "stop.", "stop please", "", "yes")),
    ],
)
def test_the_carrier_answers_its_own_words_only(text: str, answer: str | None) -> None:
    assert keywords.carrier_answers(text) == answer


def test_what_the_carrier_takes_for_a_keyword_we_judge_the_same() -> None:
    for word, meaning in keywords.CARRIER_WORDS.items():
        assert keywords.judge(word) == meaning
