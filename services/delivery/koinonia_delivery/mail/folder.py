"""E-mails as files, for where no server is named: what a developer reads in place of a mailbox."""

import asyncio
import os
from pathlib import Path

from koinonia_delivery.mail.contract import Away, Mail


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
