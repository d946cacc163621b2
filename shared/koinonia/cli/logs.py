"""``koinonia logs``: the processes' logs, merged by time."""

import heapq
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import click

from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.state import StateDirectory

_LOOK_SECONDS = 0.3


@click.command("logs")
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on, until Ctrl-C.")
@state_directory
def command(name: str | None, follow: bool, state: Path) -> None:
    """Print the logs, of the process NAME or of all, by time.

    A NAME such as gateway stands for gateway-1, gateway-2, too.
    """
    folder = StateDirectory(state).logs
    files = {path.stem: path for path in sorted(folder.glob("*.log"))}
    chosen = {stem: path for stem, path in files.items() if name in (None, stem) or _is_replica(stem, name)}
    if not chosen:
        known = f"; there are {', '.join(files)}" if files else ""
        raise CommandFailed(f"no log of {name or 'anything'} in {folder}{known}")
    opened = {stem: path.open(errors="replace") for stem, path in chosen.items()}
    try:
        for _, stem, line in heapq.merge(*(stamped(stem, file) for stem, file in opened.items())):
            _print(stem, line, len(opened) > 1)
        while follow:
            _print_new(opened)
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # its reader, such as head, has seen enough
        sys.stderr.close()
    finally:
        for file in opened.values():
            file.close()


def stamped(stem: str, file: TextIO) -> Iterator[tuple[str, str, str]]:
    """Each line with its time; one without, such as a trace's, belongs to the line above it."""
    stamp = ""
    for line in file:
        stamp = max(stamp, time_of(line) or stamp)
        yield stamp, stem, line


def time_of(line: str) -> str | None:
    """The time that a line begins with (a server's) or has in its ``timestamp`` (ours), comparable as text."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return None
        found = entry.get("timestamp")
        return str(found).replace("T", " ") if found else None
    head = line[:23]
    return head if len(head) == 23 and head[4] == head[7] == "-" and head[13] == ":" else None


def _print_new(opened: Mapping[str, TextIO]) -> None:
    fresh = [entry for stem, file in opened.items() for entry in stamped(stem, file)]
    for _, stem, line in sorted(fresh, key=lambda entry: entry[0]):
        _print(stem, line, len(opened) > 1)


def _print(stem: str, line: str, named: bool) -> None:
    click.echo(f"{stem:<18} {line.rstrip()}" if named else line.rstrip())


def _is_replica(stem: str, name: str | None) -> bool:
    head, _, number = stem.rpartition("-")
    return head == name and number.isdigit()
