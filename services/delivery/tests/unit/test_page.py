"""The page on states and races names tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parents[2] / "docs" / "delivery-states.md"


def test_every_test_that_the_page_names_is_there() -> None:
    there = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())}
    page = PAGE.read_text().replace("**", "")
    named = {_name(sentence) for sentence in re.findall(r"\*([^*`|]+)\*", page)}
    assert len(named) > 50
    assert named - there == set()


def test_every_transition_has_a_test() -> None:
    moves, _, rest = PAGE.read_text().partition("## Races")
    wanted = set(re.findall(r"^\| (\d+) \|", moves, re.MULTILINE))
    tested = re.findall(r"^\| ([\d, ]+) \| \*", rest.partition("## Tests of the transitions")[2], re.MULTILINE)
    assert {number for numbers in tested for number in numbers.split(", ")} == wanted


def _name(sentence: str) -> str:
    return "test_" + re.sub(r"\W+", "_", re.sub(r"['’]", "", sentence).strip())
