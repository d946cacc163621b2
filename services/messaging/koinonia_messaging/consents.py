"""Where members have consented, as the church says: compliance is told, and keeps it as proof. Nothing is kept here."""

from collections.abc import Sequence
from typing import Literal

from koinonia import clock
from koinonia.events.messaging import CHUNK_SIZE, ConsentsGiven, GivenConsent
from koinonia_messaging.domain.people import Consent


def told(given: Sequence[Consent], said_by: Literal["admin", "import"]) -> list[ConsentsGiven]:
    """The events that tell of consents, up to 500 in each."""
    rows = [
        GivenConsent(
            member_id=each.person.id,
            version=each.person.version,
            phone_index=each.person.phone.index,
            source=each.source,
        )
        for each in given
    ]
    return [
        ConsentsGiven(consents=tuple(rows[start : start + CHUNK_SIZE]), said_by=said_by, said_at=clock.now())
        for start in range(0, len(rows), CHUNK_SIZE)
    ]
