"""SQL with a name, by which logs, metrics, traces, budgets and ``pg_stat_statements`` know it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement; its name stands in its text as a comment. A transaction takes nothing else."""

    name: str
    text: str


def statement(name: str, sql: str) -> Statement:
    """Name a constant of SQL: ``<noun>.<verb>``, as ``messages.insert``. Values go in as $1, $2 only."""
    return Statement(name, f"/* {name} */ {sql.strip()}")
