"""The contracts as files under ``proto-schemas/``: generated from the code, checked for drift and for breaking changes.

``last/`` holds the schemas and the API page of the last released version; ``release`` makes the present ones the last.
"""

import shutil
from pathlib import Path
from typing import Any

import msgspec

from koinonia.contracts import api_compatibility
from koinonia.contracts.compatibility import breaking_changes
from koinonia.contracts.events import event_files
from koinonia.contracts.lint import lint
from koinonia.contracts.openapi import document as openapi

_PAGE = "openapi.json"
_GENERATED = ("*.json", "events/*.json")


def generate(folder: Path) -> list[str]:
    """Write every file of the contracts, and remove what is none any more; answers what changed."""
    wanted = _files()
    changed = drift(folder)
    for name, content in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in _present(folder) - wanted.keys():
        (folder / name).unlink()
    return changed


def check(folder: Path) -> list[str]:
    """What is wrong: files that differ from the code, a careless API page, changes that break the last version."""
    stale = [f"{name}: differs from the code; run `make contracts`" for name in drift(folder)]
    return [*stale, *(f"{_PAGE}: {line}" for line in lint(openapi())), *breaks(folder)]


def drift(folder: Path) -> list[str]:
    """The files that differ from what the code says."""
    wanted = _files()
    stale = {name for name, content in wanted.items() if not _equals(folder / name, content)}
    return sorted(stale | (_present(folder) - wanted.keys()))


def breaks(folder: Path) -> list[str]:
    """Where the code's events and API would break consumers and clients of the last released version."""
    present = event_files()
    found = []
    for path in sorted((folder / "last").glob("*.schema.json")):
        schema = present.get(f"events/{path.name}")
        last = msgspec.json.decode(path.read_bytes())
        reasons = ["the event is gone"] if schema is None else breaking_changes(last, schema)
        found += [f"{path.name}: {reason}" for reason in reasons]
    page = folder / "last" / _PAGE
    if page.is_file():
        reasons = api_compatibility.breaking_changes(msgspec.json.decode(page.read_bytes()), openapi())
        found += [f"{_PAGE}: {reason}" for reason in reasons]
    return found


def release(folder: Path) -> None:
    """Make the present schemas the ones that later changes are held against."""
    last = folder / "last"
    shutil.rmtree(last, ignore_errors=True)
    last.mkdir(parents=True)
    for path in [folder / _PAGE, *(folder / "events").glob("*.schema.json")]:
        shutil.copy(path, last / path.name)


def _files() -> dict[str, bytes]:
    documents: dict[str, Any] = {**event_files(), _PAGE: openapi()}
    return {name: _render(document) for name, document in documents.items()}


def _render(document: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=2) + b"\n"


def _present(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for pattern in _GENERATED for path in folder.glob(pattern)}


def _equals(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
