"""Files that outlive a process, in a directory or in a bucket of an S3 service: each is there whole, or not at all."""

import asyncio
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from koinonia.settings import SettingsError

_RETRIES = 3
_RETRY_SECONDS = 30
_CHUNK_BYTES = 1 << 20


class FilesUnavailable(Exception):
    """The directory or the bucket cannot be used; the message says why."""


class FileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where files are: in a bucket if one is named, else in a directory."""

    files_dir: str | None = None
    s3_url: str | None = None  # of the service, such as https://s3.eu-central-1.amazonaws.com
    s3_bucket: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    s3_secret_access_key: str | None = None


class Files(Protocol):
    """Named files; a name's parts are separated by slashes."""

    async def put(self, name: str, source: Path) -> None:
        """Store a copy under the name, in place of an older one; it lasts when this returns."""

    async def get(self, name: str, target: Path) -> None:
        """Copy the file to ``target``.

        Raises:
            FilesUnavailable: there is no such file, or it cannot be read.
        """

    async def names(self, prefix: str) -> list[str]:
        """The names below ``prefix``, sorted."""

    async def delete(self, name: str) -> None:
        """Delete the file, if it is there."""


def open_files(settings: FileSettings, default: Path, *, encrypted: bool = False) -> Files:
    """The files that the settings name, else those of a directory. ``encrypted``: a bucket is reached by TLS alone.

    Raises:
        SettingsError: the bucket is named by half.
    """
    if settings.s3_url is None and settings.s3_bucket is None:
        return Directory(Path(settings.files_dir) if settings.files_dir else default)
    if settings.s3_url is None or settings.s3_bucket is None:
        raise SettingsError("KOINONIA_S3_URL and KOINONIA_S3_BUCKET go together, and one is not set")
    if encrypted and not settings.s3_url.startswith("https://"):
        raise SettingsError("KOINONIA_S3_URL: in production the bucket must be reached by TLS (https://)")
    return Bucket(settings.s3_url, settings.s3_bucket, settings)


class Directory:
    """Files of a directory; only its owner can read them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def put(self, name: str, source: Path) -> None:
        await asyncio.to_thread(self._put, name, source)

    async def get(self, name: str, target: Path) -> None:
        try:
            await asyncio.to_thread(shutil.copyfile, self._at(name), target)
        except OSError as error:
            raise FilesUnavailable(f"{self._at(name)}: {error.strerror}") from None

    async def names(self, prefix: str) -> list[str]:
        return await asyncio.to_thread(self._names, prefix)

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._at(name).unlink, missing_ok=True)

    def _put(self, name: str, source: Path) -> None:
        target = self._at(name)
        draft = target.with_name(f".{target.name}.{uuid4().hex}")
        try:
            for folder in [*reversed(target.parents)]:
                if folder == self._path or self._path in folder.parents:
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with source.open("rb") as read, open(draft, "wb", opener=_private) as written:
                shutil.copyfileobj(read, written, _CHUNK_BYTES)
                written.flush()
                os.fsync(written.fileno())
            os.replace(draft, target)
            for folder in (target.parent, target.parent.parent):  # a new folder is an entry of the one above
                _sync(folder)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise FilesUnavailable(f"{target}: {error.strerror}") from None

    def _names(self, prefix: str) -> list[str]:
        found = (each for each in self._path.rglob("*") if each.is_file() and not each.name.startswith("."))
        names = (each.relative_to(self._path).as_posix() for each in found)
        return sorted(name for name in names if name.startswith(prefix))

    def _at(self, name: str) -> Path:
        return self._path.joinpath(*name.split("/"))


class Bucket:
    """Files of a bucket of an S3 service."""

    def __init__(self, url: str, bucket: str, settings: FileSettings) -> None:
        self._name = f"{url}/{bucket}"
        self._store = S3Store(
            bucket,
            endpoint=url,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": url.startswith("http://")},
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )

    async def put(self, name: str, source: Path) -> None:
        try:
            await obstore.put_async(self._store, name, source)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None

    async def get(self, name: str, target: Path) -> None:
        try:
            answer = await obstore.get_async(self._store, name)
            with target.open("wb") as file:
                async for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                    await asyncio.to_thread(file.write, chunk)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None

    async def names(self, prefix: str) -> list[str]:
        try:
            found = [each["path"] async for page in obstore.list(self._store, prefix) for each in page]
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None
        return sorted(found)

    async def delete(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> FilesUnavailable:
        # Its text repeats the whole request; what it begins with says what is wrong.
        return FilesUnavailable(f"{self._name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
