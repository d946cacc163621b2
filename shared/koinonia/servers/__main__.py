"""``python -m koinonia.servers``: the servers' programs or images are there, or are got, before anybody starts one.

Tests that run at the same time start servers of their own: what is missing is said and got once, before them.
"""

import os
import signal
import sys
from types import FrameType

from koinonia.servers import ServersUnavailable, provide


def main() -> int:
    """Return the exit status: 2, after one line, where the programs cannot be had. A signal waits for the packages."""
    signals: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    try:
        provide(os.environ)
    except ServersUnavailable as unavailable:
        sys.stderr.write(f"koinonia: {unavailable}\n")
        return 2
    return 128 + signals[0] if signals else 0


if __name__ == "__main__":
    sys.exit(main())
