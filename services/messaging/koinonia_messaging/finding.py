"""Finding members: what somebody types may be a phone, an e-mail address, an external id, or words of a name."""

import re

from koinonia.api.members import RESTORE, MemberQuery
from koinonia.db import Transaction
from koinonia.errors import Forbidden
from koinonia.security import Identity, Keys
from koinonia.security.phones import PhoneInvalid, normalise
from koinonia_messaging.domain.people import name_key
from koinonia_messaging.store import member_lists
from koinonia_messaging.store.member_lists import Filters, Place, Search
from koinonia_messaging.store.members import MemberRow

# Seven digits or more, and no letter: fewer are no whole phone.
_LIKE_A_PHONE = re.compile(r"\W*(?:\d\W*){7,15}")


async def find(
    tx: Transaction, actor: Identity, query: MemberQuery, keys: Keys, *, after: Place | None
) -> list[MemberRow]:
    """Members from a place on, one more than the page has, in at most two statements.

    Raises:
        Forbidden: the deleted ones are not for this role.
    """
    if query.deleted and actor.role not in RESTORE.roles:
        raise Forbidden
    search = None if query.search is None else await _search(tx, query.search, keys)
    candidates = None
    if search is not None and not (search.phone_index or search.email_index or query.deleted):
        candidates = await member_lists.find_candidates(tx, search)
    filters = Filters(
        search=search,
        branch_id=query.branch_id,
        group_id=query.group_id,
        may_be_texted=query.opt_in,
        deleted=query.deleted,
    )
    return await member_lists.list_page(
        tx, filters, query.limit + 1, sort=query.sort, after=after, candidates=candidates
    )


async def _search(tx: Transaction, text: str, keys: Keys) -> Search:
    phone = await _phone(tx, text.strip()) if _LIKE_A_PHONE.fullmatch(text) else None
    return Search(
        words=name_key(text, ""),
        external_id=text.strip(),
        phone_index=None if phone is None else keys.index(phone, tx.tenant, "phone"),
        email_index=keys.index(text, tx.tenant, "email") if "@" in text else None,
    )


async def _phone(tx: Transaction, text: str) -> str | None:
    """The phone in E.164; None: an external id of digits, say."""
    region = None if text.startswith("+") else await member_lists.find_region(tx)
    try:
        return normalise(text, region or "US")
    except PhoneInvalid:
        return None
