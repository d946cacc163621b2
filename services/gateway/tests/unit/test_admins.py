"""Who may invite, change and remove whom."""

import itertools
from typing import get_args

from koinonia.security.identity import Role
from koinonia_gateway.domain.admins import judge

ROLES: tuple[Role, ...] = get_args(Role)
STEPS = [(before, after) for before, after in itertools.product((None, *ROLES), repeat=2) if before or after]


def test_only_owners_make_change_and_remove_owners() -> None:
    for before, after in STEPS:
        touches_an_owner = "owner" in (before, after)
        assert judge(actor="owner", before=before, after=after) is None
        expected = "only_owners" if touches_an_owner else None
        assert judge(actor="admin", before=before, after=after) == expected


def test_the_last_owner_stays_one() -> None:
    for after in (None, *ROLES):
        expected = None if after == "owner" else "last_owner"
        assert judge(actor="owner", before="owner", after=after, is_last_owner=True) == expected
    assert judge(actor="admin", before="owner", after=None, is_last_owner=True) == "only_owners"
