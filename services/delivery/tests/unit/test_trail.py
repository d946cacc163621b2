"""What a church reads of whatever can happen to a recipient; the numbers are those of docs/delivery-states.md."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.api.messages import RecipientStatus, TrailEntry, TrailEvent
from koinonia_delivery.domain.trail import Note, Standing, What, tell

NOW = clock.now()
EARLIER, LATER = NOW - timedelta(minutes=5), NOW + timedelta(seconds=30)


ASKED_AGAIN = "the carrier is asked again for the same text, which goes out once"


def standing(status: RecipientStatus, **fields: Any) -> Standing:
    """A recipient that is so now."""
    open_ones = ("queued", "sending", "sent", "unknown")
    values: dict[str, Any] = {
        "recipient_id": UUID(int=1),
        "church_id": UUID(int=2),
        "source_id": UUID(int=3),
        "kind": "broadcast",
        "phone_index": b"i",
        "error_code": None,
        "error_message": None,
        "accepted_at": None,
        "sent_at": None,
        "delivered_at": None,
        "settled_at": None if status in open_ones else NOW,
        "traceparent": None,
        "work_state": None,
        "due_at": None,
        "resend": None,
        "number_status": "active",
        "next_free_at": EARLIER,
        "held_at": None,
        "blocked_at": None,
        "is_fresh": True,
        "now": NOW,
        **fields,
    }
    return Standing(status=status, **values)


def note(what: What, was: RecipientStatus, became: RecipientStatus, **fields: Any) -> Note:
    """Something that was noted."""
    values: dict[str, Any] = {
        "at": EARLIER,
        "said": None,
        "attempt": 1,
        "began_at": None,
        "until": None,
        "error_code": None,
        "error_message": None,
        **fields,
    }
    return Note(what=what, was=was, became=became, **values)


def story(entries: list[TrailEntry]) -> list[tuple[str, str]]:
    return [(entry.event, entry.sentence) for entry in sorted(entries, key=lambda each: each.at)]


TRANSITIONS: dict[str, tuple[Standing, list[Note], list[tuple[TrailEvent, str]]]] = {
    "1 to queued": (standing("queued", work_state="ready"), [], [("waiting", "It waits for its turn.")]),
    "2 to suppressed": (
        standing("suppressed", error_code="suppressed", error_message="This person has opted out."),
        [],
        [("left_out", "It was not sent. This person has opted out.")],
    ),
    "2 to cancelled": (standing("cancelled"), [], [("cancelled", "It was not sent: the message was cancelled.")]),
    "3 queued to sending": (
        standing("sending", work_state="sending"),
        [],
        [("waiting", "It is being handed to the carrier.")],
    ),
    "4 queued to expired": (
        standing("expired", error_code="expired", error_message="It could not be sent in time."),
        [],
        [("expired", "It was not sent. It could not be sent in time.")],
    ),
    "5 sending to sent": (
        standing("sent", sent_at=EARLIER, accepted_at=EARLIER),
        [],
        [
            ("accepted", "The carrier accepted it."),
            ("waiting", "The carrier has it; whether it was delivered is not known yet."),
        ],
    ),
    "5 unknown to sent": (
        standing("sent", sent_at=EARLIER, accepted_at=EARLIER),
        [note("accepted", "unknown", "sent", attempt=2)],
        [
            ("accepted", "Asked again for the same text, the carrier says that it has it: it went out once."),
            ("waiting", "The carrier has it; whether it was delivered is not known yet."),
        ],
    ),
    "6 sending to failed": (
        standing("failed", error_code="40310", error_message="This is not a phone number that can receive texts."),
        [
            note(
                "rejected",
                "sending",
                "failed",
                error_code="40310",
                error_message="This is not a phone number that can receive texts.",
            )
        ],
        [
            (
                "failed",
                "The carrier refused it for good. This is not a phone number that can receive texts.",
            )
        ],
    ),
    "7 sending to queued": (
        standing("queued", work_state="ready", due_at=LATER),
        [note("refused", "sending", "queued", error_code="429", error_message="The carrier asks to go slower.")],
        [
            ("refused", "The carrier did not take it for now. The carrier asks to go slower."),
            ("waiting", "It waits, and is tried again."),
        ],
    ),
    "8 sending to unknown": (
        standing("unknown", work_state="unknown", due_at=LATER, resend=True),
        [note("unknown", "sending", "unknown", error_message="The carrier did not answer (TimeoutError).")],
        [
            (
                "unknown",
                "Nobody could tell whether the carrier had taken it. The carrier did not answer (TimeoutError).",
            ),
            (
                "waiting",
                f"Nobody knows yet whether the carrier has it; {ASKED_AGAIN}.",
            ),
        ],
    ),
    "8 sending to unknown, its worker lost": (
        standing("unknown", work_state="unknown", due_at=LATER, resend=False),
        [note("lost", "sending", "unknown", error_message="The sending process ended.")],
        [
            ("unknown", "Nobody could tell whether the carrier had taken it. The sending process ended."),
            ("waiting", "Nobody knows yet whether the carrier has it; the carrier is asked."),
        ],
    ),
    "9 sent to delivered": (
        standing("delivered", sent_at=EARLIER, accepted_at=EARLIER, delivered_at=NOW),
        [],
        [("accepted", "The carrier accepted it."), ("delivered", "It was delivered.")],
    ),
    "9 sent to undelivered": (
        standing("undelivered", sent_at=EARLIER - timedelta(minutes=1), accepted_at=EARLIER),
        [note("receipt", "sent", "undelivered", said="undelivered", error_message="The phone may be switched off.")],
        [
            ("accepted", "The carrier accepted it."),
            (
                "undelivered",
                "The carrier says that it could not be delivered. The phone may be switched off.",
            ),
        ],
    ),
    "9 unknown to delivered": (
        standing("delivered", sent_at=NOW, accepted_at=NOW, delivered_at=NOW),
        [note("receipt", "unknown", "delivered", said="delivered", at=NOW)],
        [
            ("delivered", "The carrier says that it was delivered."),
            ("accepted", "The carrier accepted it."),
        ],
    ),
    "9 delivered stays, and is said to be undelivered": (
        standing("delivered", sent_at=EARLIER, accepted_at=EARLIER, delivered_at=EARLIER),
        [note("receipt", "delivered", "delivered", said="undelivered", at=NOW)],
        [
            ("accepted", "The carrier accepted it."),
            ("delivered", "It was delivered."),
            (
                "undelivered",
                "The carrier says that it could not be delivered. It had said otherwise before, which holds.",
            ),
        ],
    ),
    "10 unknown to sent": (
        standing("sent", sent_at=EARLIER, accepted_at=EARLIER),
        [note("record", "unknown", "sent", said="sent")],
        [
            ("accepted", "The carrier's records show that it has the text."),
            ("waiting", "The carrier has it; whether it was delivered is not known yet."),
        ],
    ),
    "11 unknown to unconfirmed": (
        standing("unconfirmed", error_message="Nobody could tell whether it was delivered."),
        [note("given_up", "unknown", "unconfirmed", at=NOW)],
        [("unconfirmed", "Nobody can tell whether it was delivered.")],
    ),
    "12 sent to delivered, looked up": (
        standing("delivered", sent_at=EARLIER, accepted_at=EARLIER, delivered_at=NOW),
        [note("look_up", "sent", "delivered", said="delivered", at=NOW)],
        [
            ("accepted", "The carrier accepted it."),
            ("delivered", "Asked about it, the carrier says that it was delivered."),
        ],
    ),
    "13 queued to cancelled, after a refusal": (
        standing("cancelled", error_code="429", error_message="The carrier asks to go slower."),
        [note("refused", "sending", "queued", error_message="The carrier asks to go slower.")],
        [
            ("refused", "The carrier did not take it for now. The carrier asks to go slower."),
            ("cancelled", "It was not sent: the message was cancelled."),
        ],
    ),
    "14 unconfirmed to queued": (
        standing("queued", work_state="ready", sent_at=EARLIER),
        [note("accepted", "sending", "sent"), note("resent", "unconfirmed", "queued", at=NOW - timedelta(seconds=1))],
        [
            ("accepted", "The carrier accepted it."),
            ("resent", "Somebody decided to send it once more."),
            ("waiting", "It waits for its turn."),
        ],
    ),
    "14 unknown to unconfirmed": (
        standing("unconfirmed"),
        [note("closed", "unknown", "unconfirmed", at=NOW)],
        [("closed", "Somebody decided to leave it at that.")],
    ),
    "15 sending to expired": (
        standing("expired", error_code="429", error_message="The carrier did not take it in time."),
        [note("refused", "sending", "expired", error_code="429", error_message="The carrier asks to go slower.")],
        [
            ("refused", "The carrier did not take it for now. The carrier asks to go slower."),
            ("expired", "It was not sent. The carrier did not take it in time."),
        ],
    ),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_every_transition_is_told_once_in_plain_words(name: str) -> None:
    recipient, notes, told = TRANSITIONS[name]
    assert story(tell(recipient, notes)) == told


def test_every_numbered_transition_of_the_page_is_told_of() -> None:
    page = (Path(__file__).parents[4] / "docs" / "delivery-states.md").read_text()
    numbers = set(re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE))
    assert len(numbers) >= 14
    assert {name.partition(" ")[0] for name in TRANSITIONS} == numbers


@pytest.mark.parametrize("what", get_args(What))
def test_every_note_has_its_words(what: What) -> None:
    said = "sent" if what in {"receipt", "look_up", "record"} else None
    entries = tell(standing("sent", work_state="overdue"), [note(what, "unknown", "sent", said=said)])
    assert entries[0].event in get_args(TrailEvent)
    assert entries[0].sentence.endswith(".")


@pytest.mark.parametrize(
    ("fields", "sentence", "until"),
    [
        ({"work_state": "ready", "due_at": LATER}, "It waits, and is tried again.", LATER),
        ({"held_at": EARLIER, "due_at": LATER}, "It waits until it is clear whether this person has opted out.", LATER),
        ({"number_status": "held"}, "It waits: the number that it is sent from cannot send at the moment.", None),
        ({"is_fresh": False}, "It waits: sending rests until it is sure that every opt-out is known.", None),
        ({"next_free_at": LATER}, "It waits for its turn at the number that it is sent from.", LATER),
    ],
)
def test_an_open_one_says_what_it_waits_for(fields: dict[str, Any], sentence: str, until: datetime | None) -> None:
    *_, last = tell(standing("queued", **fields), [])
    assert (last.event, last.sentence, last.until, last.at) == ("waiting", sentence, until, NOW)


def test_the_carriers_own_block_is_told_with_what_it_stopped() -> None:
    entries = tell(standing("suppressed", blocked_at=EARLIER, error_message="This person has opted out."), [])
    assert story(entries) == [
        ("blocked", "The carrier blocks texts to this person, who has opted out with it."),
        ("left_out", "It was not sent. This person has opted out."),
    ]


def test_what_was_closed_before_there_were_notes_is_told_by_its_row() -> None:
    recipient = standing("failed", error_code="40001", error_message="This number is a landline.")
    (entry,) = tell(recipient, [])
    assert (entry.event, entry.sentence, entry.code, entry.at, entry.status) == (
        "failed",
        "The carrier refused it for good. This number is a landline.",
        "40001",
        NOW,
        "failed",
    )
