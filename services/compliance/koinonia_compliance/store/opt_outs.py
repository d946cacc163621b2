"""Opt-outs: per number, what a person last said."""

from dataclasses import dataclass

from koinonia.db import Transaction, statement
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia_compliance.domain.acts import Act


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds of a number, and how many of its texts have been judged."""

    act: Act
    version: int


_LOCK = statement(
    "opt_outs.lock",
    """
    INSERT INTO opt_outs (church_id, phone_index, phone_ciphertext, state, occurred_at, inbound_event_id, version)
    VALUES ($1, $2, $3, $4, $5, $6, 1)
    ON CONFLICT (church_id, phone_index) DO UPDATE SET version = opt_outs.version + 1
    RETURNING state, occurred_at, version
    """,
)


async def lock(tx: Transaction, received: Envelope[MessageReceived], act: Act) -> Standing:
    """Count one more text of a number; answers what holds so far: with version 1, this very ``act``.

    Nobody else judges a text of this number until the transaction ends: even of two first ones, one waits here.
    """
    text = received.data
    row = await tx.fetch_row(
        _LOCK, tx.tenant, text.phone_index, text.phone_ciphertext, act.state, act.occurred_at, received.id
    )
    if row is None:
        raise RuntimeError("an upsert answers its row")
    return Standing(Act(row["state"], row["occurred_at"]), row["version"])


_SAVE = statement(
    "opt_outs.save",
    """
    UPDATE opt_outs
    SET phone_ciphertext = $3, state = $4, occurred_at = $5, inbound_event_id = $6
    WHERE church_id = $1 AND phone_index = $2
    """,
)


async def save(tx: Transaction, received: Envelope[MessageReceived], act: Act) -> None:
    """Let ``act`` hold for a number that is locked."""
    text = received.data
    await tx.execute(_SAVE, tx.tenant, text.phone_index, text.phone_ciphertext, act.state, act.occurred_at, received.id)
