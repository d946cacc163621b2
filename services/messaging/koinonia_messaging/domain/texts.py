"""What is sent, as it follows from what was asked for: one text for previews, bounds, chunks and bills."""

import msgspec

from koinonia import sms
from koinonia.api.messages import ReplacedCharacter
from koinonia_messaging.domain.approvals import SendingRules
from koinonia_messaging.domain.audience import Text


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked to be sent, with what the church has said about all of its texts."""

    content: str  # the request's own, or its template's
    template_version: int | None
    has_media: bool
    smart: bool
    church_name: str
    opt_out_line: str | None
    rules: SendingRules

    @property
    def has_line_added(self) -> bool:
        return self._whole != self.content

    @property
    def _whole(self) -> str:
        return sms.with_opt_out_line(self.content, self.opt_out_line)

    def write(self) -> Text:
        """The text that goes out."""
        return Text(sms.smart(self._whole) if self.smart else self._whole, self.has_media, self.smart)

    def replaced(self) -> list[ReplacedCharacter]:
        """What smart encoding replaces in the text; what it replaces in people's values is not told."""
        return [
            ReplacedCharacter(character=each.character, replacement=each.replacement, count=each.count)
            for each in (sms.replacements(self._whole) if self.smart else ())
        ]
