"""How far a reply has come."""

from itertools import permutations
from typing import get_args

from koinonia.events.common import RecipientStatus
from koinonia_conversation.domain.reply_status import RANKS, furthest


def test_the_furthest_status_wins_in_any_order() -> None:
    changes: list[dict[RecipientStatus, int]] = [
        {"queued": 1},
        {"queued": -1, "sent": 1},
        {"sent": -1, "delivered": 1},
    ]
    assert {furthest(order) for order in permutations(changes)} == {"delivered"}


def test_a_status_that_is_left_is_none_that_was_entered() -> None:
    assert furthest([{"queued": -1}]) is None
    assert furthest([]) is None


def test_every_status_has_its_rank_and_a_late_receipt_beats_unconfirmed() -> None:
    assert set(RANKS) == set(get_args(RecipientStatus))
    assert RANKS["queued"] < RANKS["unknown"] < RANKS["failed"] < RANKS["sent"] < RANKS["unconfirmed"]
    assert RANKS["unconfirmed"] < RANKS["undelivered"] < RANKS["delivered"]
