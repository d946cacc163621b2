"""What becomes of a text that was sent with a test key: told by the last digits of its phone, and by nothing else."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from koinonia.carrier.errors import STOP_CODE, STOP_TITLE, meaning
from koinonia.events.common import RecipientStatus

Obstacle = Literal["cancelled", "expired", "suppressed", "withdrawn", "held"]

SOON_SECONDS = 1.0
"""From the acceptance to the last receipt."""
LATE_SECONDS = 30.0
FIRST_LOOK_SECONDS = 5.0
"""When a held one is looked at again, at first."""
LAST_LOOK_SECONDS = 3600.0


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated carrier treats one text."""

    ends: Literal["delivered", "undelivered", "unconfirmed", "failed"] = "delivered"  # failed: it is not accepted
    code: str | None = None
    title: str = ""
    after_seconds: float = SOON_SECONDS

    @property
    def sentence(self) -> str | None:
        """What the church reads."""
        return None if self.code is None else meaning(self.code, self.title).sentence


COURSES: Mapping[str, Course] = {
    "9001": Course(ends="failed", code="40310"),
    "9002": Course(ends="failed", code=STOP_CODE, title=STOP_TITLE),
    "9003": Course(ends="undelivered", code="40008"),
    "9004": Course(ends="undelivered", code="40006"),
    "9005": Course(ends="undelivered", code="40002"),
    "9006": Course(ends="unconfirmed"),
    "9007": Course(after_seconds=LATE_SECONDS),
}
"""By the last four digits; any other phone gets its text after a moment. See ``docs/test-keys.md``."""
_USUAL = Course()


def course_of(phone: str) -> Course:
    """How a text to this phone fares."""
    return COURSES.get(phone[-4:], _USUAL)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The next change of one recipient; ``wait_seconds``: when to look at it again, None: it is done."""

    was: RecipientStatus
    became: RecipientStatus
    error_code: str | None = None
    error_message: str | None = None
    wait_seconds: float | None = None
    is_held: bool = False


def next_step(status: RecipientStatus, course: Course) -> Step:
    """What the simulated carrier does next with one that nothing stands in the way of."""
    if status == "queued" and course.ends != "failed":
        return Step(was=status, became="sent", wait_seconds=course.after_seconds)
    return Step(was=status, became=course.ends, error_code=course.code, error_message=course.sentence)


def rest(status: RecipientStatus, held_seconds: float) -> Step:
    """A held one stays as it is. The longer it has been held, the later it is looked at again: what frees it wakes it,
    but for what passes within moments.
    """
    wait_seconds = min(max(FIRST_LOOK_SECONDS, held_seconds / 2), LAST_LOOK_SECONDS)
    return Step(was=status, became=status, wait_seconds=wait_seconds, is_held=True)
