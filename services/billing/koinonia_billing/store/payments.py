"""What Stripe has told."""

from koinonia.db import Transaction, statement
from koinonia.events.gateway import PaymentReported

_INSERT = statement(
    "payment_reports.insert",
    """
    INSERT INTO payment_reports (stripe_event_id, stripe_type, object_id, customer_id, occurred_at, live)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (stripe_event_id) DO NOTHING
    """,
)


async def insert(tx: Transaction, report: PaymentReported) -> None:
    """Keep a report; one that is there stays as it is."""
    await tx.execute(
        _INSERT,
        report.stripe_event_id,
        report.stripe_type,
        report.object_id,
        report.customer_id,
        report.occurred_at,
        report.live,
    )
