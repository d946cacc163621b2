"""The encoding of a text that comes in pieces: told by its first bytes, or found out on the way."""

import codecs

from koinonia.errors import ValidationFailed

SAMPLE_BYTES = 1024  # enough to tell an encoding without a byte order mark

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Decoder:
    """Decodes UTF-8, UTF-16 (each with or without a byte order mark) and Windows-1252.

    A text without a mark is taken for UTF-8 until that is wrong. Where nothing but ASCII came before, it is then what
    spreadsheets write on Windows; ASCII is the same in both.
    """

    def __init__(self) -> None:
        self._codec: codecs.IncrementalDecoder | None = None
        self._head = b""
        self._may_change = False

    def decode(self, data: bytes, *, final: bool = False) -> str:
        """The text of the next bytes.

        Raises:
            ValidationFailed: it is none of these encodings, or holds what cannot be stored.
        """
        if self._codec is None:
            data = self._head = self._head + data
            if len(data) < SAMPLE_BYTES and not final:
                return ""
            name, mark = _detected(data)
            self._may_change = name == "utf-8" and not mark
            self._codec, self._head, data = codecs.getincrementaldecoder(name)(), b"", data[mark:]
        text = self._decoded(self._codec, data, final=final)
        self._may_change = self._may_change and text.isascii()
        if "\0" in text:
            raise ValidationFailed.field("body", "Must not contain NUL")
        return text

    def _decoded(self, codec: codecs.IncrementalDecoder, data: bytes, *, final: bool) -> str:
        before = codec.getstate()[0]
        try:
            return codec.decode(data, final)
        except UnicodeDecodeError:
            if not self._may_change:
                raise _unknown() from None
        self._may_change = False
        self._codec = codecs.getincrementaldecoder("windows-1252")()
        try:
            return self._codec.decode(before + data, final)
        except UnicodeDecodeError:
            raise _unknown() from None


def _detected(sample: bytes) -> tuple[str, int]:
    """An encoding's name, and the length of its mark."""
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name, len(mark)
    # A header is mostly ASCII: in UTF-16 every other byte of it is zero.
    even, odd = sample[:SAMPLE_BYTES:2], sample[1:SAMPLE_BYTES:2]
    if odd.count(0) > len(odd) // 2 and not even.count(0):
        return "utf-16-le", 0
    if even.count(0) > len(even) // 2 and not odd.count(0):
        return "utf-16-be", 0
    return "utf-8", 0


def _unknown() -> ValidationFailed:
    return ValidationFailed.field("body", "Must be text in UTF-8, UTF-16 or Windows-1252")
