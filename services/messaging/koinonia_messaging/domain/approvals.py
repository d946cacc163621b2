"""What a church wants of each message before it is sent."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from koinonia.quiet_hours import QuietHours

GROWTH = 1.1
"""To so many times the people for whom it was approved, a message goes without another approval."""


class SendingRules(msgspec.Struct, frozen=True):
    """A church's own rules."""

    undo_seconds: int = 0
    approval_above: int | None = None  # people; None: no message waits for a second admin
    number_id: UUID | None = None  # from which one goes that names no other; None: as delivery chooses
    quiet_hours: QuietHours | None = None
    weekly_limit: int | None = None  # broadcasts to a number in seven days; None: as many as go

    def undo_until(self, now: datetime) -> datetime | None:
        """Until when a message that is accepted now is not sent; None: it need not wait."""
        return now + timedelta(seconds=self.undo_seconds) if self.undo_seconds else None

    def wait_for_approval(self, people: int, *, test: bool, approved: int | None = None) -> bool:
        """Whether a message to so many people waits for a second admin; a test reaches nobody.

        ``approved``: for how many one has said yes. A tenth more is still what he saw: else one new member would keep
        back what is planned for next Sunday, when nobody is there to approve it.
        """
        if self.approval_above is None or test:
            return False
        return people > max(self.approval_above, (approved or 0) * GROWTH)
