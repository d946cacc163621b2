"""What a send plan is made of, besides the audience's figures: the same number of statements for any audience."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from koinonia import sms
from koinonia.db import Transaction, statement
from koinonia_messaging.domain.audience import TOGETHER, Target, Text
from koinonia_messaging.domain.weekly import WeeklyLimit
from koinonia_messaging.store import weekly
from koinonia_messaging.store.audience import FIELD_VALUES, SMART, fetch, reading

MOST_SHAPES = 5000
"""Of values in one plan: names come to some hundred, long notes to one for each person."""

# Values are grouped by what the count of segments sees of them: of plain ones, and of those that are UCS-2 in any case,
# the length. What cleaning would change, or holds pairs, stands for itself.
_SHAPES_SQL = (
    """
    WITH {limited}numbers AS (
        SELECT phone_index
        FROM members
        WHERE deleted_at IS NULL AND {audience}
        GROUP BY phone_index
        HAVING bool_or(opted_in)
    ), """
    + FIELD_VALUES
    + """, joined AS (
        SELECT phone_index, name, string_agg(DISTINCT value, $9) AS value
        FROM field_values
        WHERE value <> ''
        GROUP BY phone_index, name
    ), shaped AS (
        SELECT
            phone_index,
            jsonb_object_agg(
                name,
                CASE
                    WHEN value ~ '^ |  | $' OR length(value) > $12 THEN value
                    WHEN value ~ $10 THEN repeat('a', length(value))
                    WHEN value ~ $11 THEN repeat(U&'\\4E00', length(value))
                    ELSE value
                END
            ) AS fields
        FROM joined
        GROUP BY phone_index
    )
    SELECT coalesce(fields, '{}') AS fields, count(*) AS recipients
    FROM numbers
    LEFT JOIN shaped USING (phone_index)
    LEFT JOIN suppressions ON suppressions.phone_index = numbers.phone_index AND suppressions.suppressed
    WHERE suppressions.phone_index IS NULL{and_not_limited}
    GROUP BY 1
    LIMIT $13
    """
)
_SHAPES = reading("shapes", _SHAPES_SQL.replace("{limited}", "").replace("{and_not_limited}", ""), values=13)
# Another one, so that a church without a weekly limit pays nothing for it.
_SHAPES_WITHIN_LIMIT = reading(
    "shapes_within_limit",
    _SHAPES_SQL.replace("{limited}", f"{weekly.over_limit('texted_at > $14', '$15::int')}, ").replace(
        "{and_not_limited}", " AND numbers.phone_index NOT IN (SELECT phone_index FROM limited)"
    ),
    values=15,
)
# One UTF-16 unit each, and what no GSM alphabet has; other letters stand for themselves, too.
_OUTSIDE_GSM = "\u0100-\u024f\u0400-\u05ff\u1e00-\u1eff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3"
_ONE_UNIT = f"[ -~\u00c0-\u024f{_OUTSIDE_GSM}]*"
_WIDE = f"^{_ONE_UNIT}[{_OUTSIDE_GSM}]{_ONE_UNIT}$"


class Shape(msgspec.Struct, frozen=True):
    """Field values that count like those of so many recipients."""

    fields: dict[str, str]
    recipients: int


async def list_shapes(
    tx: Transaction, target: Target, text: Text, limit: WeeklyLimit | None = None
) -> Sequence[Shape] | None:
    """The numbers of an audience that get the text, by what its fields come to; None: that is of too many kinds."""
    names = sms.field_names(text.content)
    values = (text.smart, *SMART, TOGETHER, sms.PLAIN_PATTERN, _WIDE, sms.LONGEST_VALUE, MOST_SHAPES + 1)
    if limit is None:
        rows = await fetch(tx, _SHAPES, target, names, *values)
    else:
        rows = await fetch(tx, _SHAPES_WITHIN_LIMIT, target, names, *values, limit.since, limit.texts)
    if len(rows) > MOST_SHAPES:
        return None
    return [Shape(msgspec.json.decode(row["fields"], type=dict[str, str]), row["recipients"]) for row in rows]


_COUNT_FIRST = reading(
    "count_first",
    """
    SELECT count(DISTINCT phone_index) AS numbers
    FROM members
    WHERE deleted_at IS NULL AND opted_in AND {audience}
        AND NOT EXISTS (SELECT FROM texted_numbers WHERE phone_index = members.phone_index)
        AND NOT EXISTS (SELECT FROM suppressions WHERE phone_index = members.phone_index AND suppressed)
    """,
    values=1,
)


async def count_first(tx: Transaction, target: Target) -> int:
    """The numbers of an audience that can be texted and never were."""
    (row,) = await fetch(tx, _COUNT_FIRST, target)
    return int(row["numbers"])


# As delivery chooses.
_FIND_KIND = statement(
    "numbers.find_kind",
    """
    SELECT kind
    FROM numbers
    WHERE status IN ('active', 'held')
    ORDER BY (number_id = $1) DESC NULLS LAST, is_default DESC, number_id
    LIMIT 1
    """,
)


async def find_number_kind(tx: Transaction, number_id: UUID | None) -> str | None:
    """Of which kind the number is that would send; None: the church has none."""
    kind: str | None = await tx.fetch_value(_FIND_KIND, number_id)
    return kind


_NOTE_TEXTED = statement(
    "texted_numbers.note",
    "INSERT INTO texted_numbers SELECT $1, unnest($2::bytea[]) ON CONFLICT DO NOTHING",
)


async def note_texted(tx: Transaction, phone_indexes: Sequence[bytes]) -> None:
    """Note whom the church texts; in the order of the indexes, so that two messages wait for each other and no more."""
    await tx.execute(_NOTE_TEXTED, tx.tenant, phone_indexes)
