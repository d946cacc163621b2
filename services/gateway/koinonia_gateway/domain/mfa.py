"""When wrong codes close an account's second factor, and for how long.

Each five in a row close it: for a quarter of an hour, then for twice as long each time, for a day at most. So whoever
has the password alone has a few thousand tries in a year, of a million codes of which three are right.

Whoever knows the password can keep its owner out so. A password set anew by mail reopens the factor at once: the other
one does not get to the code any more. Up to fifty wrong in a row, so that whoever reads the mail alone has no more.
"""

from datetime import datetime, timedelta

TRIES = 5
FIRST_PAUSE = timedelta(minutes=15)
LONGEST_PAUSE = timedelta(days=1)
REOPENED_UP_TO = 50  # wrong codes in a row
PROOF_LIFE = timedelta(minutes=5)  # between the password and the code


def closed_until(failures: int, now: datetime) -> datetime | None:
    """Until when the next code is not looked at, after so many wrong ones in a row; None: it is looked at."""
    rounds, tries = divmod(failures, TRIES)
    if not rounds or tries:
        return None
    return now + min(FIRST_PAUSE * (1 << min(rounds - 1, 10)), LONGEST_PAUSE)


def is_closed(until: datetime | None, now: datetime) -> bool:
    """Whether it is still closed."""
    return until is not None and now < until
