"""A service's schema in Postgres: transactions under row-level security, named statements, migrations, partitions."""

from koinonia.db.database import Database
from koinonia.db.statement import Statement, statement
from koinonia.db.transaction import Transaction

__all__ = ["Database", "Statement", "Transaction", "statement"]
