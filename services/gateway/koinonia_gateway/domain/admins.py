"""Who may invite, change and remove whom among a church's admins."""

from datetime import timedelta
from typing import Literal

from koinonia.security.identity import Role

INVITATION_LIFE = timedelta(days=7)
INVITATION_LIFE_IN_WORDS = "7 days"

Refusal = Literal["only_owners", "last_owner"]
"""``only_owners``: this takes an owner; ``last_owner``: the church would have none."""


def judge(*, actor: Role, before: Role | None, after: Role | None, is_last_owner: bool = False) -> Refusal | None:
    """What forbids to take somebody from one role to another; None: nothing does.

    ``before`` is None of who is invited now, ``after`` of who is removed. ``is_last_owner``: nobody else is an owner
    who has a login; an invitation to be one is none yet.
    """
    if "owner" in (before, after) and actor != "owner":
        return "only_owners"
    if is_last_owner and after != "owner":
        return "last_owner"
    return None
