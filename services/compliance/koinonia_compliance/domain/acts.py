"""What a person did, and which of their acts holds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from koinonia.sms.keywords import Keyword, judge

State = Literal["opted_out", "opted_in"]


@dataclass(frozen=True, slots=True)
class Act:
    """An opt-out, or its end."""

    state: State
    occurred_at: datetime  # as dated by the carrier


def asked(text: str, answered_by_carrier: str | None) -> Keyword | None:
    """What a text asks for. What the carrier has taken for a STOP is one: it has told the person so, and blocks us."""
    return "stop" if answered_by_carrier == "STOP" else judge(text)


def state_of(keyword: Keyword) -> State:
    """The state that a STOP or a START asks for."""
    return "opted_out" if keyword == "stop" else "opted_in"


def outranks(act: Act, known: Act) -> bool:
    """Whether ``act`` holds over what is known, whichever came first: the later one, and an opt-out on a tie."""
    return _rank(act) > _rank(known)


def _rank(act: Act) -> tuple[datetime, bool]:
    return act.occurred_at, act.state == "opted_out"


__all__ = ["Act", "Keyword", "State", "asked", "outranks", "state_of"]
