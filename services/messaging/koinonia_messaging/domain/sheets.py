"""A table as it comes, in pieces of any size: bytes in, rows out, in flat memory.

Encoding and delimiter are detected.
"""

import csv
import io
from collections import deque
from collections.abc import Iterator, Mapping

from koinonia.errors import ValidationFailed
from koinonia_messaging.domain.columns import Columns, known_count, match, typed
from koinonia_messaging.domain.encodings import Decoder
from koinonia_messaging.domain.rows import Cells, Row

LONGEST_LINE = 256 * 1024
"""Characters of a line, and of a row that has several: what is longer is no table."""
MOST_LINES = 1_100_000
"""A spreadsheet has at most 1,048,576 rows, and some write all of them, empty."""
_DELIMITERS = ",;\t|"
_TOO_LONG = f"A cell has more than {csv.field_size_limit():,} characters: is a quotation mark left open?"
_TOO_MANY_CELLS = "More cells than the header has"


class Sheet:
    """Reads a table. ``mapping`` and ``lenient``: as in ``columns.match``."""

    def __init__(self, mapping: Mapping[str, str | None] | None = None, *, lenient: bool = False) -> None:
        self.columns: Columns | None = None
        self._mapping = mapping or {}
        self._lenient = lenient
        self._decoder = Decoder()
        self._lines = _Lines()
        self._rest = ""
        self._number = 0
        self._reader: Iterator[list[str]] | None = None

    def feed(self, data: bytes, *, final: bool = False) -> list[Row]:
        """The rows that end in the next bytes, counted from 1; blank ones are passed over. ``final``: it is the last.

        Raises:
            ValidationFailed: this is no table, or its header cannot be right.
        """
        text = self._rest + self._decoder.decode(data, final=final)
        lines = list(io.StringIO(text, newline=""))
        # A line that ends in CR may go on with LF.
        self._rest = lines.pop() if lines and not final and not lines[-1].endswith("\n") else ""
        if len(self._rest) > LONGEST_LINE:
            raise _endless(self._lines.number + len(self._lines.waiting) + 1)
        self._lines.waiting.extend(lines)
        self._lines.final = final
        return list(self._rows())

    def _rows(self) -> Iterator[Row]:
        if self._reader is None and not self._begin():
            return
        for line, record in self._records():
            if self.columns is None:
                if record is None or any(cell.strip() for cell in record):
                    self.columns = match(record or (), self._mapping, lenient=self._lenient)
                continue
            self._number += 1
            if record is None:
                yield self._number, Cells(line, None, _TOO_LONG)
            elif any(cell.strip() for cell in record[len(self.columns.names) :]):
                yield self._number, Cells(line, None, _TOO_MANY_CELLS)
            elif any(cell.strip() for cell in record):
                yield self._number, Cells(line, typed(self.columns, record))
        if self._lines.final and self.columns is None:
            self.columns = match((), self._mapping, lenient=self._lenient)

    def _begin(self) -> bool:
        """Choose the delimiter by the first line that says something; whether it has come."""
        waiting = self._lines.waiting
        while waiting and not waiting[0].strip():
            waiting.popleft()
            self._lines.pass_over(1)
        if not waiting:
            if self._lines.final:
                self.columns = match((), self._mapping, lenient=self._lenient)
            return False
        first = waiting[0].strip("\r\n")
        if first[:4].lower() == "sep=" and len(first) == 5:  # how a spreadsheet says it itself
            waiting.popleft()
            self._lines.pass_over(1)
            delimiter = first[4]
        else:
            delimiter = max(_DELIMITERS, key=lambda each: _likeness(first, each))
        self._reader = csv.reader(self._lines, delimiter=delimiter)
        return True

    def _records(self) -> Iterator[tuple[int, list[str] | None]]:
        """The records, each with its line; None for one that cannot be read (a cell beyond the reader's limit)."""
        if self._reader is None:
            return
        while True:
            try:
                record = next(self._reader)
            except (StopIteration, _NotYetError):
                self._lines.put_back()
                return
            except csv.Error:
                yield self._lines.take(), None
            else:
                yield self._lines.take(), record


class _NotYetError(Exception):
    """The next line has not come."""


class _Lines:
    """Lines that have come. A reader that wants one more is stopped, and begins the row again when there are more."""

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()
        self.final = False
        self.number = 0  # of the last line that is done with
        self._taken: list[str] = []
        self._length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.waiting:
            raise StopIteration if self.final else _NotYetError
        line = self.waiting.popleft()
        self._taken.append(line)
        self._length += len(line)
        if self._length > LONGEST_LINE:
            raise _endless(self.number + 1)
        return line

    def take(self) -> int:
        """Be done with the lines of a row; the number of its first."""
        first = self.number + 1
        self.pass_over(len(self._taken))
        self._forget()
        return first

    def put_back(self) -> None:
        """Give the lines of a row that is not whole to whoever reads next."""
        self.waiting.extendleft(reversed(self._taken))
        self._forget()

    def pass_over(self, count: int) -> None:
        self.number += count
        if self.number > MOST_LINES:
            raise ValidationFailed.field("body", f"At most {MOST_LINES:,} lines")

    def _forget(self) -> None:
        self._taken.clear()
        self._length = 0


def _likeness(line: str, delimiter: str) -> tuple[int, int]:
    """How much a line looks like a header with this delimiter."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        return 0, 0
    return known_count(cells), len(cells)


def _endless(line: int) -> ValidationFailed:
    return ValidationFailed.field("body", f"Line {line:,} has no end: is a quotation mark left open?")
