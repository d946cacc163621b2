"""What people call the devices that browsers name."""

import pytest

from koinonia_gateway.domain.devices import UNKNOWN, device_of

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Windows"),
        (f"Mozilla/5.0 (Windows NT 10.0) {_WEBKIT} Chrome/126.0 Safari/537.36 Edg/126.0", "Edge on Windows"),
        (f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/126.0 Safari/537.36 OPR/112.0", "Opera on Linux"),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) {_WEBKIT} Chrome/126.0 Safari/537.36", "Chrome on macOS"),
        (f"Mozilla/5.0 (X11; CrOS x86_64 1) {_WEBKIT} Chrome/126.0 Safari/537.36", "Chrome on ChromeOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) CriOS/126.0 Safari/604.1", "Chrome on iPhone"),
        (f"(Linux; Android 14) {_WEBKIT} SamsungBrowser/25.0 Chrome/121.0 Safari", "Samsung Internet on Android"),
        ("Opened on Windows", "Windows"),
        ("Firefox/1", "Firefox"),
        ("", UNKNOWN),
        ("<script>alert(1)</script>", UNKNOWN),
    ],
)
def test_a_device_is_named_as_people_would(user_agent: str, device: str) -> None:
    assert device_of(user_agent) == device
