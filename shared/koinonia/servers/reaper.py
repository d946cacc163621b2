"""``python -m koinonia.servers.reaper OWNER``: wait for the end of the input, then remove the containers of OWNER."""

import sys

from koinonia.servers import engine


def main() -> None:
    """Remove them, once who started this process is gone."""
    sys.stdin.buffer.read()
    engine.remove_of(engine.connect(), sys.argv[1])


if __name__ == "__main__":
    main()
