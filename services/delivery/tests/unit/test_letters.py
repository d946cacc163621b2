"""What e-mails say: whole in both forms, with the platform's links, and deaf to what stands in a field."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html import escape
from uuid import UUID

import msgspec
import pytest

from koinonia.emails import TEMPLATES
from koinonia_delivery.domain import letters
from koinonia_delivery.mail.contract import Mail

URL = "https://koinonia.example/"
EVIL = 'Ann\r\nBcc: all@evil.example\x00\u2028<img src="x">\u202etxt'


def fields(template: str, value: str = "Anna") -> dict[str, str]:
    return {name: "to/ken+1" if name == "token" else value for name in TEMPLATES[template]}  # type: ignore[index]


def test_every_template_that_can_be_asked_for_has_its_words() -> None:
    assert set(letters.WORDS) == set(TEMPLATES)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_letter_has_no_gap_and_says_the_same_in_both_forms(template: str) -> None:
    letter = letters.write(template, fields(template), URL)
    assert "Hello Anna," in letter.text
    assert "<p>Hello Anna,</p>" in letter.html
    assert "{" not in letter.subject + letter.text + letter.html
    for paragraph in letter.text.strip().split("\n\n")[:-1]:
        assert escape(paragraph.split("\n")[-1]) in letter.html


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_letter_without_one_of_its_fields_is_not_written(template: str) -> None:
    for name in TEMPLATES[template]:  # type: ignore[index]
        with pytest.raises(KeyError):
            letters.write(template, {key: value for key, value in fields(template).items() if key != name}, URL)


@pytest.mark.parametrize(
    ("template", "link"),
    [
        ("password-reset", "https://koinonia.example/reset-password#token=to%2Fken%2B1"),
        ("invitation", "https://koinonia.example/invitation#token=to%2Fken%2B1"),
        ("approval-awaited", "https://koinonia.example/messages/Anna"),
        ("password-changed", "https://koinonia.example/forgot-password"),
    ],
)
def test_a_link_leads_to_the_platform_with_the_token_where_no_server_sees_it(template: str, link: str) -> None:
    letter = letters.write(template, fields(template), URL)
    assert f"\n{link}\n" in letter.text
    assert f'<a href="{link}">' in letter.html


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_field_becomes_a_header_or_markup(template: str) -> None:
    letter = letters.write(template, {**fields(template, EVIL), "token": EVIL}, URL)
    sent = parsed(letter)
    assert [name for name, _ in sent.items()] == [
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    ]  # fmt: skip
    assert sent["To"].addresses[0].addr_spec == "anna@example.org"
    assert len(sent["To"].addresses) == 1
    assert "\u202e" not in letter.text + letter.html + letter.subject
    assert "<img" not in letter.html
    assert "\nBcc:" not in letter.text + letter.html


def parsed(letter: letters.Letter) -> EmailMessage:
    content = mail(letter).to_bytes()
    found = message_from_bytes(content, policy=default)
    assert isinstance(found, EmailMessage)
    return found


def mail(letter: letters.Letter) -> Mail:
    return Mail(
        id=UUID(int=7),
        created_at=datetime(2026, 11, 22, 15, 30, tzinfo=UTC),
        sender_name="Koinonia",
        sender="no-reply@koinonia.example",
        recipient="anna@example.org",
        subject=letter.subject,
        text=letter.text,
        html=letter.html,
    )


def test_a_repeat_is_the_same_message_byte_for_byte() -> None:
    letter = letters.write("mfa-on", {"name": "Zoë", "church": "Kirche am Fluß"}, URL)
    assert mail(letter).to_bytes() == mail(letter).to_bytes()
    sent = parsed(letter)
    assert sent["Message-ID"] == "<00000000-0000-0000-0000-000000000007@koinonia.example>"
    text, html = sent.iter_parts()
    assert [text.get_content_type(), html.get_content_type()] == ["text/plain", "text/html"]
    assert "Kirche am Fluß" in str(text.get_content())


def test_a_subject_with_a_line_break_is_refused_even_if_nobody_had_cleaned_it() -> None:
    letter = letters.write("mfa-on", fields("mfa-on"), URL)
    with pytest.raises(ValueError, match="linefeed"):
        mail(msgspec.structs.replace(letter, subject="Hi\r\nBcc: x@evil.example")).to_bytes()


def test_a_field_is_cut_where_nobody_reads_on() -> None:
    assert len(letters.clean("long " * 1000)) == letters.LONGEST_FIELD


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("anna@example.org", "anna@example.org"),
        ("o'neil+news@mail.example.org", "o'neil+news@mail.example.org"),
        ("anna@bücher.example", "anna@xn--bcher-kva.example"),
    ],
)
def test_an_address_is_what_a_server_takes(given: str, sent: str) -> None:
    assert letters.address(given) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        "", "anna", "anna@", "@example.org", "anna@localhost", "a,b@example.org", "a>b@example.org", "a b@example.org",
        "anna@example.org\r\nRCPT TO:<x@evil.example>", "anna@exa_mple.org", "anna@@example.org", "änna@example.org",
        '"anna"@example.org', "anna@example..org", "x" * 65 + "@example.org", "anna@" + "a" * 250 + ".org",
    ],
)  # fmt: skip
def test_what_is_no_address_reaches_no_server(wrong: str) -> None:
    with pytest.raises(letters.AddressInvalid) as raised:
        letters.address(wrong)
    assert not str(raised.value)
