"""The figures as a table: who says what, and a mark where two of them differ."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from koinonia.demo.figures import PLACES, Line, Place, Section

_HEADINGS: dict[Place, str] = {
    "file": "expected",
    "api": "API",
    "copies": "copies",
    "ledger": "ledger",
    "carrier": "carrier",
}
_LEGEND = (
    "expected: by the CSV file and the story. API: its counters. copies: the API's list of each recipient's copy, "
    "counted. ledger: billing's table, read in the database. carrier: its own record of what arrived."
)


def show(console: Console, sections: Sequence[Section]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("")
    for place in PLACES:
        table.add_column(_HEADINGS[place], justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for section in sections:
        table.add_row(f"[bold]{escape(section.title)}")
        for line in section.lines:
            figures = (_figure(line.values.get(place)) for place in PLACES)
            table.add_row(_name(line), *figures, _mark(line), style="" if line.agrees else "bold red")
        table.add_row("")
    console.print(table)
    console.print(_LEGEND, style="dim")


def _name(line: Line) -> str:
    return f"  {escape(line.name)}" + (f"\n  [dim]{escape(line.note)}[/]" if line.note else "")


def _figure(value: float | None) -> str:
    if value is None:
        return "[dim]·[/]"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _mark(line: Line) -> str:
    return "[green]✓[/]" if line.agrees else "✗"
