"""`koinonia dead-letters` where the letters cannot be given back."""

from typing import Any

import pytest

from koinonia.bus import dead_letters
from koinonia.cli import main


def test_letters_that_are_too_old_are_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(*_: Any) -> int:
        raise dead_letters.LetterTooOld("billing.usage: 0198 died long ago")

    monkeypatch.setattr(dead_letters, "replay", refuse)
    monkeypatch.setenv("KOINONIA_AMQP_URL", "amqp://127.0.0.1:1/")
    with pytest.raises(SystemExit) as ended:
        main(["dead-letters", "replay", "billing.usage"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "koinonia: billing.usage: 0198 died long ago\n"
