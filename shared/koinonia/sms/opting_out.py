"""The line that tells how to opt out: whether a text has it already, and where it goes."""

import re

from koinonia.sms.rendering import without_fields

# "Reply STOP to opt out", 'Text "stop" to end', "reply with END", "txt stop 2 end"; not "Don't stop to pray". The words
# that sentences have for other things count in capitals alone.
_WORDING = re.compile(
    r"(?i:\b(?:reply|text|txt|send|respond|answer|type)(?:\s+(?:with|back|the\s+word|us))*\W{1,4})"
    r"(?:(?i:stop)|STOPALL|END|QUIT|CANCEL|UNSUBSCRIBE|OPT[ -]?OUT|REVOKE)\b"
    r"|(?i:\bstop\W{1,3}(?:to|2|for)\s+(?:opt[ -]?out|end|quit|cancel|unsubscribe|stop|leave)\b)"
)
_SPACES = re.compile(r"\s+")


def says_how_to_opt_out(text: str) -> bool:
    """Whether a text tells how to opt out, by its own words: what a field may hold does not count."""
    return _WORDING.search(without_fields(text)) is not None


def with_opt_out_line(text: str, line: str | None) -> str:
    """A text with the line below it, unless there is none, or the text has this line or the like already."""
    if line is None or says_how_to_opt_out(text) or _plain(line) in _plain(without_fields(text)):
        return text
    # On a line of its own: at the end of a link it would become part of it.
    return f"{text.rstrip()}\n{line}"


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip().casefold()
