"""``python -m bench.usual.one_by_one``: for each person an INSERT, a request, an UPDATE, one after the other."""

import psycopg
import requests

from bench.usual import table
from bench.work import body_of, headers_of, read_work, ready_steady_go, tell

_INSERT, _MARK_SENT = table.psycopg_style(table.INSERT), table.psycopg_style(table.MARK_SENT)


def main() -> None:
    """Wait for the word, send to everybody, say when the last row was written."""
    work = read_work()
    with psycopg.connect(work.database_url, autocommit=True) as connection, requests.Session() as session:
        began_at = ready_steady_go()
        for recipient_id, to, text in table.rows(work):
            connection.execute(_INSERT, table.places(recipient_id, to, text))
            answer = session.post(
                f"{work.carrier_url}/v2/messages",
                data=body_of(work, recipient_id, to),
                headers=headers_of(work, str(recipient_id)),
                timeout=60,
            )
            answer.raise_for_status()
            connection.execute(_MARK_SENT, table.places(recipient_id, answer.json()["data"]["id"]))
        tell(began_at)


if __name__ == "__main__":
    main()
