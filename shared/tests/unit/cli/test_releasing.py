"""`koinonia contracts release`, and what it refuses."""

from pathlib import Path

import pytest

from koinonia import contracts
from koinonia.cli import main


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["contracts", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_release_makes_the_present_schemas_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contracts.generate(tmp_path)
    gone = tmp_path / "last" / "billing.thing.gone.v1.schema.json"
    gone.parent.mkdir()
    gone.write_text("{}")
    assert _run("check", "--folder", str(tmp_path)) == 1
    assert _run("release", "--folder", str(tmp_path)) == 0
    schemas = {path.name: path.read_bytes() for path in (tmp_path / "events").glob("*.schema.json")}
    schemas["openapi.json"] = (tmp_path / "openapi.json").read_bytes()
    assert {path.name: path.read_bytes() for path in (tmp_path / "last").iterdir()} == schemas
    assert _run("check", "--folder", str(tmp_path)) == 0


def test_files_that_differ_from_the_code_are_not_released(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contracts.generate(tmp_path)
    (tmp_path / "openapi.json").write_text("{}")
    assert _run("release", "--folder", str(tmp_path)) == 1
    assert "openapi.json: differs from the code" in capsys.readouterr().err
    assert not (tmp_path / "last").exists()
