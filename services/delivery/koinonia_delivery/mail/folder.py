"""E-mails as files, for where no server is named: what a developer reads in place of a mailbox."""

import asyncio
import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from koinonia import clock
from koinonia_delivery.mail.contract import Away, Mail

log = structlog.get_logger()


class FolderMailer:
    """Writes ``<id>.eml``, whole or not at all; a repeat is the same file. Only its owner can read it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, mail: Mail) -> None:
        """Write one e-mail; see ``Mailer.send``."""
        try:
            await asyncio.to_thread(self._write, f"{mail.id}.eml", mail.to_bytes())
        except OSError as error:
            raise Away(type(error).__name__) from error

    async def close(self) -> None:
        """Nothing is kept open."""

    async def forget(self, days: int) -> None:
        """Delete the files that were written so many days ago, drafts of killed workers included."""
        try:
            await asyncio.to_thread(self._forget, clock.now() - timedelta(days=days))
        except OSError as error:
            log.warning("email_files_kept", reason=type(error).__name__)

    def _forget(self, before: datetime) -> None:
        if not self._folder.is_dir():
            return
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another worker has deleted it
                if ".eml" in file.name and file.stat().st_mtime < before.timestamp():
                    file.unlink()

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / f".{name}.{os.getpid()}"
        with open(draft, "wb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._folder / name)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
