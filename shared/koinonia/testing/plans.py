"""How Postgres really ran what a service asked, as the service's own role: plans, and the buffers that were touched.

``with explained() as plans:`` runs each statement of this process twice: explained and taken back, then for good.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
import pytest

from koinonia.db.statement import Statement
from koinonia.db.transaction import Transaction


@dataclass(frozen=True)
class Plan:
    """One run of a statement."""

    root: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Every node that ran at least once."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            if node["Actual Loops"]:
                yield node

    @property
    def buffers(self) -> int:
        """Pages of tables and indexes that were touched, each touch counted.

        What changes rows and is not read from runs after the rest, and is not in its sum.
        """
        read = {node["CTE Name"] for node in self.nodes() if node["Node Type"] == "CTE Scan"}
        after = [
            node
            for node in self.nodes()
            if node["Node Type"] == "ModifyTable" and node.get("Subplan Name", "").removeprefix("CTE ") not in read
        ]
        return sum(map(_buffers, after if self.root in after else [self.root, *after]))

    @property
    def rows(self) -> int:
        return int(self.root["Actual Rows"])

    def scanned(self, few: int = 1000) -> set[str]:
        """The tables that were read from end to end, and had more than a few rows."""
        scans = (node for node in self.nodes() if node["Node Type"] == "Seq Scan")
        return {node["Relation Name"] for node in scans if _read(node) > few}

    def sorted_rows(self) -> int:
        """The most rows that were sorted at once."""
        return max((int(node["Actual Rows"]) for node in self.nodes() if "Sort" in node["Node Type"]), default=0)

    def touched(self, table: str) -> set[str]:
        """The partitions of a table that were looked into."""
        scans = (node for node in self.nodes() if "Scan" in node["Node Type"])
        names = {node["Relation Name"] for node in scans if "Relation Name" in node}
        return {name for name in names if name.startswith(f"{table}_") and name[-7:-5] == "20"}


def _buffers(node: dict[str, Any]) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def _read(node: dict[str, Any]) -> int:
    return int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


@dataclass
class Plans:
    """The plans of what ran, by the names of the statements."""

    by_name: dict[str, list[Plan]] = field(default_factory=dict)

    def of(self, name: str) -> Plan:
        """The one run of a statement."""
        (plan,) = self.by_name[name]
        return plan

    def all(self) -> Iterator[tuple[str, Plan]]:
        """Every run, with its name."""
        for name, plans in self.by_name.items():
            for plan in plans:
                yield name, plan


@contextmanager
def explained() -> Iterator[Plans]:
    """Note the plan of every statement that a transaction of this process runs."""
    plans = Plans()

    class ExplainedTransaction(Transaction):
        async def fetch(self, sql: Statement, *values: Any) -> list[asyncpg.Record]:
            await self._note(sql, values)
            return await super().fetch(sql, *values)

        async def fetch_row(self, sql: Statement, *values: Any) -> asyncpg.Record | None:
            await self._note(sql, values)
            return await super().fetch_row(sql, *values)

        async def execute(self, sql: Statement, *values: Any) -> int:
            await self._note(sql, values)
            return await super().execute(sql, *values)

        async def _note(self, sql: Statement, values: tuple[Any, ...]) -> None:
            await self._connection.execute("SAVEPOINT explained")
            told = await self._connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql.text}", *values)
            await self._connection.execute("ROLLBACK TO SAVEPOINT explained; RELEASE SAVEPOINT explained")
            (plan,) = msgspec.json.decode(told)
            plans.by_name.setdefault(sql.name, []).append(Plan(plan["Plan"]))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("koinonia.db.database.Transaction", ExplainedTransaction)
        yield plans
