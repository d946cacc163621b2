"""The order in which texts go. Rows keep these numbers, which are names: the order is that of ``IN_TURN``."""

PERSON = 0
"""One person waits for it: a reply, a confirmation, a copy that somebody sends again."""
BROADCAST = 1
"""Waits for the end of its church's quiet hours."""
URGENT_BROADCAST = 2
"""Goes in quiet hours, and before its church's other broadcasts."""

IN_TURN = (PERSON, URGENT_BROADCAST, BROADCAST)
