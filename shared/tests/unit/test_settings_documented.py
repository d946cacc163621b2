"""Every setting of every service stands in ``.env.example``."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from koinonia.cli.partitions import ArchiveSettings
from koinonia.db.roles import SERVICES
from koinonia.settings import ServiceSettings, variable

_ROOT = next(parent for parent in Path(__file__).parents if (parent / ".env.example").is_file())


def _shapes() -> list[type[msgspec.Struct]]:
    found: list[type[msgspec.Struct]] = [ServiceSettings, ArchiveSettings]
    for service in SERVICES:
        if find_spec(f"koinonia_{service}.settings") is not None:
            module = import_module(f"koinonia_{service}.settings")
            found += [
                each
                for each in vars(module).values()
                if isinstance(each, type) and each.__module__ == module.__name__ and issubclass(each, ServiceSettings)
            ]
    return found


@pytest.mark.parametrize("shape", _shapes(), ids=lambda each: each.__name__)
def test_every_setting_is_documented(shape: type[msgspec.Struct]) -> None:
    documented = (_ROOT / ".env.example").read_text("utf-8")
    wanted = [variable(field.name) for field in msgspec.structs.fields(shape)]
    assert [name for name in wanted if f"{name}=" not in documented] == []
