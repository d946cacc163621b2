"""One recipient per number: families, fields, who is left out, ids that come out the same again."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from koinonia import ids
from koinonia_messaging.domain.audience import AudienceMember, Text, compose_page, page_of
from koinonia_messaging.domain.weekly import WeeklyLimit, limit_at

MESSAGE = ids.new_id()
AT = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
TEXT = "Hi {{firstName}} {{lastName}}, size {{shirt}}?"


def member(number: int, digit: int, first_name: str = "Anna", **values: object) -> AudienceMember:
    given: dict[str, object] = {
        "id": UUID(int=number),
        "first_name": first_name,
        "last_name": "Lee",
        "phone_index": bytes([digit]) * 16,
        "phone_ciphertext": bytes([number]),
        "custom_fields": {},
        "opted_in": True,
        "suppressed": False,
        **values,
    }
    return AudienceMember(**given)  # type: ignore[arg-type]


def test_a_family_on_one_number_is_one_recipient_with_both_names() -> None:
    people = [member(1, 1), member(2, 1, "Bob", custom_fields={"shirt": "M"}), member(3, 2, "Carl")]
    family, carl = compose_page(people, Text(TEXT, False), MESSAGE, AT)
    assert family.member_ids == (UUID(int=1), UUID(int=2))
    assert family.fields == {"firstName": "Anna & Bob", "lastName": "Lee", "shirt": "M"}
    assert family.phone_ciphertext == b"\x01"
    assert carl.fields == {"firstName": "Carl", "lastName": "Lee"}


def test_a_recipients_id_follows_from_dispatch_message_and_number_alone() -> None:
    (first,) = compose_page([member(1, 1)], Text("Hi", False), MESSAGE, AT)
    (again,) = compose_page([member(2, 1, "Bob")], Text("Other {{firstName}}", False), MESSAGE, AT)
    assert first.recipient_id == again.recipient_id == ids.derived_id(AT, MESSAGE.bytes, bytes([1]) * 16)
    assert ids.id_time(first.recipient_id) == AT


def test_a_number_is_left_out_when_it_opted_out_or_nobody_on_it_consents() -> None:
    people = [
        member(1, 1, opted_in=False),
        member(2, 1, opted_in=True),
        member(3, 2, opted_in=False),
        member(4, 3, suppressed=True),
    ]
    assert [each.left_out for each in compose_page(people, Text("Hi", False), MESSAGE, AT)] == [
        None,
        "no_consent",
        "suppressed",
    ]


def test_a_number_that_has_had_as_many_as_allowed_gets_no_text_unless_something_else_keeps_it_from_it() -> None:
    people = [member(1, 1), member(2, 2), member(3, 3, opted_in=False), member(4, 4, suppressed=True)]
    limited = {bytes([digit]) * 16 for digit in (1, 3, 4)}
    recipients = compose_page(people, Text("Hi", False), MESSAGE, AT, limited)
    assert [(each.left_out, each.over_limit, each.gets_text) for each in recipients] == [
        (None, True, False),
        (None, False, True),
        ("no_consent", False, False),
        ("suppressed", False, False),
    ]
    assert page_of(recipients, Text("Hi", False), b"").segments == 1


def test_a_limit_holds_for_texts_that_are_neither_urgent_nor_tests() -> None:
    assert limit_at(3, AT, urgent=False, test=False) == WeeklyLimit(3, AT - timedelta(days=7))
    assert limit_at(3, AT, urgent=True, test=False) is None
    assert limit_at(3, AT, urgent=False, test=True) is None
    assert limit_at(None, AT, urgent=False, test=False) is None


def test_a_page_is_billed_for_the_copies_that_are_sent() -> None:
    text = Text("Hi {{firstName}}", has_media=False)
    people = [member(1, 1, "A" * 100), member(2, 2, "😀"), member(3, 3, opted_in=False)]
    recipients = compose_page(people, text, MESSAGE, AT)
    page = page_of(recipients, text, b"")
    assert (page.segments, page.cursor) == (2, bytes([3]) * 16)
    assert page_of((), text, b"before").cursor == b"before"


def test_a_picture_message_is_one_segment_whatever_it_says() -> None:
    assert Text("x" * 1000, has_media=True).copy_segments({}) == 1
    assert Text("x" * 161, has_media=False).copy_segments({}) == 2
    assert Text("{{shirt}}", has_media=False).copy_segments({}) == 1
