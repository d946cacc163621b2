"""``python -m bench.usual.celery_way``: a broadcast's request: all rows at once, a task for each."""

import psycopg

from bench.usual import table
from bench.usual.celery_tasks import WORK, app, send
from bench.work import ready_steady_go, tell

_INSERT = table.psycopg_style(table.INSERT)


def main() -> None:
    """Wait for the word, store the rows, hand over the tasks, say when the broker has the last."""
    rows = list(table.rows(WORK))
    with psycopg.connect(WORK.database_url) as connection, app.connection_for_write() as broker, broker.channel():
        began_at = ready_steady_go()
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, [table.places(*row) for row in rows])
        connection.commit()
        with app.producer_pool.acquire(block=True) as producer:
            for recipient_id, to, _ in rows:
                send.apply_async((str(recipient_id), to), producer=producer)
    tell(began_at)


if __name__ == "__main__":
    main()
