"""The Celery application: a task per recipient, which posts the text and writes down the answer.

Set for this work: acknowledged late, so that a killed worker loses none; a quorum queue and publisher confirms, as the
platform has; a prefetch for short tasks; a connection to the database and a session to the carrier kept per process;
no results, events or gossip. ``BENCH_WORK`` has the work.
"""

import os
from functools import cache
from uuid import UUID

import msgspec
import psycopg
import requests
from celery import Celery

from bench.usual import table
from bench.work import Work, body_of, headers_of

WORK = msgspec.json.decode(os.environ["BENCH_WORK"], type=Work)
PREFETCH = 16  # tasks that a process has in hand
_MARK_SENT = table.psycopg_style(table.MARK_SENT)

app = Celery("bench", broker=WORK.amqp_url)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue_type="quorum",
    worker_prefetch_multiplier=PREFETCH,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)


@app.task  # type: ignore[untyped-decorator]
def send(recipient_id: str, to: str) -> None:
    """Send one text."""
    answer = _session().post(
        f"{WORK.carrier_url}/v2/messages",
        data=body_of(WORK, UUID(recipient_id), to),
        headers=headers_of(WORK, recipient_id),
        timeout=60,
    )
    answer.raise_for_status()
    _connection().execute(_MARK_SENT, table.places(recipient_id, answer.json()["data"]["id"]))


@cache
def _connection() -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(WORK.database_url, autocommit=True)


@cache
def _session() -> requests.Session:
    return requests.Session()
