"""A secret's file is read again when it changes, and what is wrong in it does no harm."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from koinonia.secret import LONGEST_BYTES, LOOK_SECONDS, Secret
from koinonia.settings import SettingsError, load


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    key: Secret
    other: Secret | None = None


class Mount:
    """A secret in a file, and a clock that the test moves."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seconds = 0.0
        self.replace("first")
        self.secret = Secret("first", setting="KOINONIA_KEY", file=file, clock=lambda: self.seconds)

    def replace(self, text: str) -> None:
        """As a mount does it: another file under the same name."""
        draft = self.file.with_name("draft")
        draft.write_text(text)
        os.replace(draft, self.file)

    def read(self) -> str:
        """The value once the file was looked at again."""
        self.seconds += LOOK_SECONDS
        return self.secret.value


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path / "key")


def test_a_replaced_file_is_read_again_within_a_second_and_not_before(mount: Mount) -> None:
    mount.replace("second\n")
    mount.seconds += LOOK_SECONDS / 2
    assert mount.secret.value == "first"
    mount.seconds += LOOK_SECONDS / 2
    assert mount.secret.value == "second"


def test_a_file_that_is_written_in_place_or_reached_by_another_link_is_read_again(mount: Mount) -> None:
    assert mount.read() == "first"
    mount.file.write_text("second")
    assert mount.read() == "second"
    # As Kubernetes swaps a mounted secret: the link leads elsewhere, to a file as old and as long.
    old, new = (mount.file.with_name(name) for name in ("old", "new"))
    old.write_text("AAA")
    new.write_text("BBB")
    os.utime(old, ns=(1, 1))
    os.utime(new, ns=(1, 1))
    mount.file.unlink()
    mount.file.symlink_to(old)
    assert mount.read() == "AAA"
    mount.file.unlink()
    mount.file.symlink_to(new)
    assert mount.read() == "BBB"


def test_a_file_that_stays_is_not_read_again(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mount.read() == "first"
    monkeypatch.setattr("koinonia.secret._read", lambda _file: pytest.fail("read again"))
    assert mount.read() == "first"


def _become_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


WRONG: list[Callable[[Path], Any]] = [
    lambda file: file.unlink(),
    lambda file: file.write_text(""),
    lambda file: file.write_text(" \n"),
    lambda file: file.write_bytes(b"\xff\xfe\x00"),
    lambda file: file.write_text("two\nlines"),
    lambda file: file.write_text("schlüssel"),
    lambda file: file.write_text("x" * (LONGEST_BYTES + 1)),
    _become_a_folder,
]


@pytest.mark.parametrize("spoil", WRONG)
def test_a_wrong_file_changes_nothing_and_is_told_once(mount: Mount, spoil: Callable[[Path], Any]) -> None:
    assert mount.read() == "first"
    spoil(mount.file)
    with capture_logs() as logs:
        assert [mount.read() for _ in range(3)] == ["first"] * 3
    (line,) = logs
    assert (line["event"], line["log_level"], line["setting"]) == ("secret_not_readable", "error", "KOINONIA_KEY")
    if mount.file.is_dir():
        mount.file.rmdir()
    mount.replace("second")
    assert mount.read() == "second"
    with capture_logs() as logs:
        mount.file.unlink()
        mount.read()
    assert len(logs) == 1, "a new trouble is told anew"


def test_what_the_setting_refuses_is_not_taken(mount: Mount) -> None:
    mount.secret.check_by(int_like)
    mount.replace("garbage")
    assert mount.read() == "first"
    mount.replace("first12")
    assert mount.read() == "first12"
    with pytest.raises(ValueError, match="not like that"):
        Secret("garbage").check_by(int_like)


def int_like(value: str) -> None:
    if not value.startswith("first"):
        raise ValueError("not like that")


def test_neither_its_looks_nor_a_log_line_show_a_value(mount: Mount) -> None:
    with capture_logs() as logs:
        mount.replace("second")
        mount.read()
    assert "second" not in repr(logs)
    assert "second" not in f"{mount.secret!r}{mount.secret}"


def test_settings_make_secrets_of_values_and_of_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from the file\n")
    settings = load(Shape, {"KOINONIA_KEY_FILE": str(file), "KOINONIA_OTHER": "as it is"}, None)
    assert settings.other is not None
    assert (settings.key.value, settings.other.value) == ("from the file", "as it is")
    assert "file" not in repr(settings)
    with pytest.raises(SettingsError, match="KOINONIA_KEY is not set"):
        load(Shape, {}, None)
    with pytest.raises(SettingsError, match="KOINONIA_KEY: a secret is one line of ASCII"):
        load(Shape, {"KOINONIA_KEY": "two\nlines"}, None)
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"KOINONIA_KEY_FILE: .* holds no text"):
        load(Shape, {"KOINONIA_KEY_FILE": str(file)}, None)
