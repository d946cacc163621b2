"""What e-mails say, as plain text and as HTML out of the same words. No field can become markup or a header."""

import re
import unicodedata
from collections.abc import Mapping
from html import escape
from urllib.parse import quote

import msgspec

LONGEST_FIELD = 100

# What goes to a server without a question of quoting; of a host in other letters, its ASCII form.
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@"
    r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]"
)


class AddressInvalid(ValueError):
    """The address is none that a mail server takes."""


class Letter(msgspec.Struct, frozen=True):
    """An e-mail in words."""

    subject: str
    text: str
    html: str


class _Words(msgspec.Struct, frozen=True, kw_only=True):
    """A template: paragraphs around a button, if it has one.

    ``page`` may name fields, which go into the link as parts of its path. ``has_token``: its page gets the token behind
    ``#``, which is sent to no server: no log on the way holds it.
    """

    subject: str
    before: tuple[str, ...]
    button: str = ""
    page: str = ""
    has_token: bool = False
    after: tuple[str, ...] = ()


_NOT_YOU = (
    "If it was not you, somebody may know your password: choose a new one at once, and tell another admin of your "
    "church."
)
_ONCE = "The link works for {valid_for}, and once."

WORDS: Mapping[str, _Words] = {
    "password-reset": _Words(
        subject="Choose a new password",
        before=("Somebody, most likely you, has asked for a new password for your account at {church}.",),
        button="Choose a new password",
        page="/reset-password",
        has_token=True,
        after=(_ONCE, "If you did not ask for it, there is nothing to do: your password stays as it is."),
    ),
    "password-changed": _Words(
        subject="Your password was changed",
        before=("The password of your account at {church} was changed just now.", "If it was you, all is well."),
        button="Choose a new password",
        page="/forgot-password",
        after=(_NOT_YOU,),
    ),
    "recovery-code-used": _Words(
        subject="One of your recovery codes was used",
        before=(
            "Somebody has logged in to your account at {church} with one of your recovery codes.",
            "Recovery codes that are left: {codes_left}. You can make new ones in your account's settings.",
            _NOT_YOU,
        ),
    ),
    "mfa-on": _Words(
        subject="Logging in takes a second step now",
        before=(
            "Your account at {church} now asks for a code from your app at each login.",
            "Keep your recovery codes in a safe place: they are the way in when your phone is lost.",
            _NOT_YOU,
        ),
    ),
    "mfa-off": _Words(
        subject="Logging in takes no second step any more",
        before=("Your account at {church} does not ask for a code from your app any more.", _NOT_YOU),
    ),
    "invitation": _Words(
        subject="{inviter} invites you to {church}",
        before=("{inviter} invites you to help with the texts that {church} sends to its people.",),
        button="Accept the invitation",
        page="/invitation",
        has_token=True,
        after=(_ONCE, "If you do not know what this is about, there is nothing to do."),
    ),
    "approval-awaited": _Words(
        subject="A message of {church} waits for your approval",
        before=(
            "{asker} wants to send a message to {recipients} people of {church}. It goes when somebody else says yes.",
        ),
        button="Look at the message",
        page="/messages/{message}",
        after=("If one of you has decided about it since, there is nothing to do.",),
    ),
    "api-key-made": _Words(
        subject="A new API key for {church}",
        before=(
            "{maker} has made the API key “{key}” just now. A program that has it can act for {church}.",
            "If nobody of you needed it, revoke it at once in the settings; a person who made it needs a new password.",
            "You hear of the first key in an hour. The settings list all.",
        ),
    ),
}


def write(template: str, fields: Mapping[str, str], public_url: str) -> Letter:
    """The words of an e-mail.

    Raises:
        KeyError: there is no such template here, or it lacks a field.
    """
    words = WORDS[template]
    said = {name: clean(value) for name, value in fields.items() if name != "token"}
    before = [f"Hello {said['name']},", *(each.format_map(said) for each in words.before)]
    after = [each.format_map(said) for each in words.after]
    token = f"#token={quote(fields['token'], safe='')}" if words.has_token else ""
    page = words.page.format_map({field: quote(value, safe="") for field, value in said.items()})
    link = f"{public_url.rstrip('/')}{page}{token}" if page else None
    text = [*before, *([f"{words.button}:\n{link}"] if link else []), *after, f"Koinonia · {public_url}"]
    html = [*map(_paragraph, before), *_button(link, words.button), *map(_paragraph, after)]
    return Letter(words.subject.format_map(said), "\n\n".join(text) + "\n", _page(html))


def clean(value: str) -> str:
    """A field as it may stand in a line: without control characters, line breaks and marks that turn text around."""
    kept = "".join(_UNSEEN.get(unicodedata.category(each), each) for each in value)
    return " ".join(kept.split())[:LONGEST_FIELD]


_UNSEEN = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": "", "Cs": "", "Co": ""}


def address(value: str) -> str:
    """The address as a server takes it.

    Raises:
        AddressInvalid: there is no such address; the message shows nothing of it.
    """
    local, _, host = value.rpartition("@")
    try:
        ascii_host = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise AddressInvalid from None
    found = f"{local}@{ascii_host}"
    if len(found) > 254 or len(local) > 64 or not _ADDRESS.fullmatch(found):
        raise AddressInvalid
    return found


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _button(link: str | None, label: str) -> list[str]:
    if link is None:
        return []
    target = escape(link)
    return [f'<p><a href="{target}">{escape(label)}</a></p>', f"<p>{target}</p>"]


def _page(parts: list[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"></head>\n'
        '<body style="font-family: sans-serif; line-height: 1.5; max-width: 36em">\n' + "\n".join(parts) + "\n"
        "</body></html>\n"
    )
