"""Secrets that may change while a process runs: one that comes from a file is read again when the file is replaced.

A file is best replaced as a whole, by a rename, as Kubernetes and Docker do it with mounted secrets.
"""

import time
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger()

LOOK_SECONDS = 1.0
LONGEST_BYTES = 65_536


class Secret:
    """A setting's value; whoever uses it asks each time.

    At most once a second the file is looked at, and read when it is another or was written to. What is missing, empty,
    or refused by the setting's own check changes nothing: the last good value stays, and the log says so once.
    """

    def __init__(
        self,
        value: str,
        *,
        setting: str = "",
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._value = value
        self._setting = setting
        self._file = file
        self._clock = clock
        self._check: Callable[[str], object] = check_line
        self._looked_at = clock()
        # None: what was written while the process started is read once more.
        self._signature: tuple[int, ...] | None = None
        self._complained = False

    @property
    def value(self) -> str:
        """The value as it is now."""
        if self._file is not None and self._clock() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._clock()
            self._look(self._file)
        return self._value

    def check_by(self, check: Callable[[str], object]) -> None:
        """Take only values that ``check`` lets pass, the present one included.

        Raises:
            ValueError: as ``check`` does of a wrong one.
        """
        check(self._value)
        self._check = check

    def _look(self, file: Path) -> None:
        try:
            before = _signature(file)
            if before == self._signature:
                return
            text = _read(file)
            self._check(text)
            if _signature(file) != before:
                return  # it is being written: the next look reads it
        except (OSError, ValueError) as error:
            self._complain(error)
            return
        self._signature = before
        self._complained = False
        if text != self._value:
            self._value = text
            log.info("secret_read_again", setting=self._setting)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.error("secret_not_readable", setting=self._setting, reason=type(error).__name__)

    def __repr__(self) -> str:
        return f"Secret({self._setting})"


def read_file(file: Path) -> str:
    """What a secret's file holds, without the space around it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, or too long for a secret.
    """
    with file.open("rb") as opened:
        content = opened.read(LONGEST_BYTES + 1)
    if len(content) > LONGEST_BYTES:
        raise ValueError("too long for a secret")
    return content.decode("utf-8").strip()


def check_line(value: str) -> None:
    """Refuse what can stand in no header of a request.

    Raises:
        ValueError: it has a line break, or another character that cannot be seen.
    """
    if not (value.isascii() and value.isprintable()):
        raise ValueError("a secret is one line of ASCII")


def _read(file: Path) -> str:
    text = read_file(file)
    if not text:
        raise ValueError("the file is empty")
    return text


def _signature(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
