"""What a person would call the device that a browser says it runs on."""

# The first that stands in the text: most browsers name others after themselves, to be served like them.
_BROWSERS = (
    *(("Edg", "Edge"), ("OPR/", "Opera"), ("SamsungBrowser/", "Samsung Internet"), ("Firefox/", "Firefox")),
    *(("FxiOS/", "Firefox"), ("CriOS/", "Chrome"), ("Chrome/", "Chrome"), ("Safari/", "Safari")),
)
_SYSTEMS = (
    *(("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"), ("CrOS", "ChromeOS")),
    *(("Mac OS X", "macOS"), ("Linux", "Linux")),
)
UNKNOWN = "Unknown device"


def device_of(user_agent: str) -> str:
    """``Firefox on Windows``, from the header ``User-Agent``; only names from here, never the header's own text."""
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), None)
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), None)
    if browser is not None and system is not None:
        return f"{browser} on {system}"
    return browser or system or UNKNOWN
