"""What a send request must hold beyond its types."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.api.messages import SendRequest

ID = UUID(int=1)
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def wrong(request: SendRequest) -> list[str]:
    with clock.frozen(NOW):
        return [error.field for error in request.check()]


@pytest.mark.asvs("v5.0.0-2.2.3")
def test_a_send_to_all_names_nobody() -> None:
    assert wrong(SendRequest(content="x", target_type="all")) == []
    assert wrong(SendRequest(content="x", target_type="all", target_ids=[ID])) == ["targetIds"]


@pytest.mark.parametrize("kind", ["individual", "groups", "branches"])
@pytest.mark.asvs("v5.0.0-2.2.3")
def test_any_other_send_names_its_targets_once_each(kind: str) -> None:
    assert wrong(SendRequest(content="x", target_type=kind, target_ids=[ID])) == []  # type: ignore[arg-type]
    assert wrong(SendRequest(content="x", target_type=kind)) == ["targetIds"]  # type: ignore[arg-type]
    assert wrong(SendRequest(content="x", target_type=kind, target_ids=[ID, ID])) == ["targetIds"]  # type: ignore[arg-type]


def test_a_schedule_lies_in_the_future() -> None:
    for seconds, expected in ((1, []), (0, ["scheduledAt"]), (-1, ["scheduledAt"])):
        at = NOW + timedelta(seconds=seconds)
        assert wrong(SendRequest(content="x", target_type="all", scheduled_at=at)) == expected


@pytest.mark.parametrize("url", ["https://user@host/a.png", "https://:80/a.png", "https://[::1/a", "https://h:99999/a"])
def test_a_picture_is_at_a_plain_https_address(url: str) -> None:
    assert wrong(SendRequest(content="x", target_type="all", media_urls=["https://h/a.png", url])) == ["mediaUrls[1]"]
