"""Rows of an import: read from CSV and JSON, judged one by one."""

import pytest
from msgspec import UNSET

from koinonia.cells import guarded, unguarded
from koinonia.errors import ValidationFailed
from koinonia.ids import new_id
from koinonia.security import Keys
from koinonia_messaging.domain.formulas import harmless
from koinonia_messaging.domain.rows import ReadRows, RowContext, checked_source, read
from koinonia_messaging.domain.sheets import Sheet

BRANCH, GROUP, CHURCH = new_id(), new_id(), new_id()
HEADER = "firstName,lastName,phone,optInSms\n"


@pytest.fixture
def context(keys: Keys) -> RowContext:
    return RowContext(
        keys=keys,
        church_id=CHURCH,
        region="US",
        branch_ids=frozenset({BRANCH}),
        group_ids=frozenset({GROUP}),
    )


def read_csv(text: str, context: RowContext) -> ReadRows:
    return read(Sheet().feed(text.encode(), final=True), context)


def errors(result: ReadRows) -> list[tuple[int, str]]:
    return [(error.row, error.field) for error in result.errors]


def test_a_csv_row_becomes_a_draft(context: RowContext, keys: Keys) -> None:
    text = (
        "phone,firstName,lastName,email,groupIds,branchId,optInSms,customFields.shirt\r\n"
        f'(312) 555-0142," Anna ",Lee,anna@lee.example,{GROUP};{GROUP},{BRANCH},YES,M\r\n'
    )
    (draft,) = read_csv(text, context).drafts
    assert (draft.first_name, draft.last_name, draft.group_ids) == ("Anna", "Lee", (GROUP,))
    assert keys.decrypt(draft.phone.ciphertext, CHURCH, "phone") == "+13125550142"
    assert (draft.change.branch_id, draft.change.opted_in) == (BRANCH, True)
    assert draft.change.custom_fields == {"shirt": "M"}
    assert draft.change.email not in {None, UNSET}


def test_an_empty_cell_says_nothing(context: RowContext) -> None:
    (draft,) = read_csv(HEADER + "Anna,,3125550142,\n", context).drafts
    assert (draft.change.last_name, draft.change.opted_in, draft.change.email) == (UNSET, UNSET, UNSET)


def test_a_bad_row_is_told_by_row_and_field_and_never_by_its_value(context: RowContext) -> None:
    text = HEADER + "Anna,Lee,3125550142,yes\n,Lee,3125550143,no\nCarl,Lee,+1 555,maybe\n\nDora,Lee,12,\n"
    result = read_csv(text, context)
    assert [draft.first_name for draft in result.drafts] == ["Anna"]
    assert errors(result) == [(2, "firstName"), (3, "optInSms"), (5, "phone")]
    assert [error.line for error in result.errors] == [3, 4, 6]
    assert not any("555" in error.message or "maybe" in error.message for error in result.errors)


def test_json_rows_are_judged_alike(context: RowContext) -> None:
    rows: list[object] = [
        {"firstName": "Anna", "phone": "3125550142"},
        "no row",
        {"firstName": 5, "phone": "3125550142", "nickname": "A"},
        {"firstName": "Anna", "phone": "3125550142", "branchId": str(new_id())},
        {"firstName": "Anna", "phone": "3125550142", "groupIds": [str(new_id())]},
    ]
    result = read(enumerate(rows, start=1), context)
    assert len(result.drafts) == 1
    assert errors(result) == [(2, "row"), (3, "nickname"), (3, "firstName"), (4, "branchId"), (5, "groupIds")]


def test_an_error_does_not_name_a_person_whom_a_row_has_for_a_field(context: RowContext) -> None:
    row = {"firstName": "Anna", "phone": "3125550142", "+13125550143": "x", "anna@lee.example": "y"}
    assert sorted(errors(read([(1, row)], context))) == [(1, "[email]"), (1, "[phone]")]
    custom = {"firstName": "Anna", "phone": "3125550142", "customFields": {"+13125550143": 5, "anna@lee.example": 5}}
    assert sorted(errors(read([(1, custom)], context))) == [(1, "[email]"), (1, "customFields.[phone]")]


def test_the_groups_of_an_import_are_joined_by_every_row(keys: Keys) -> None:
    context = RowContext(
        keys=keys,
        church_id=CHURCH,
        region="US",
        branch_ids=frozenset(),
        group_ids=frozenset({GROUP}),
        all_groups=(GROUP,),
    )
    (draft,) = read_csv(HEADER + "Anna,Lee,3125550142,\n", context).drafts
    assert draft.group_ids == (GROUP,)


def test_a_row_that_cannot_be_read_does_not_end_the_file(context: RowContext) -> None:
    text = HEADER + f'"{"x" * 140_000}",Lee,1,\nAnna,Lee,3125550142,yes\nBob,Lee,3125550143,yes,more\n'
    result = read_csv(text, context)
    assert [draft.first_name for draft in result.drafts] == ["Anna"]
    assert {(row, field) for row, field in errors(result)} == {(1, "row"), (3, "row")}


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ('=HYPERLINK("http://x")', 'HYPERLINK("http://x")'),
        ("@SUM(1)", "SUM(1)"),
        ("+-=Anna", "Anna"),
        ("- =1+cmd", "1+cmd"),
        ("+1 (312) 555-0142", "+1 (312) 555-0142"),
        ("-5", "-5"),
        ("Anna-Lee", "Anna-Lee"),
    ],
)
def test_formula_cells_are_made_harmless(cell: str, kept: str) -> None:
    assert harmless(cell) == kept


def test_names_ids_and_custom_fields_are_defused(context: RowContext) -> None:
    text = "firstName,phone,externalId,customFields.note\n=Anna,3125550142,@7,=1+1\n"
    (draft,) = read_csv(text, context).drafts
    assert (draft.first_name, draft.external_id, draft.change.custom_fields) == ("Anna", "7", {"note": "1+1"})


FORMULAS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
HOSTILE = [
    "=1+1",
    "+1312",
    "-5",
    "@S(A)",
    "\t=1",
    "\r=1",
    "\n=1",
    "'=1",
    "''@x",
    "\uff1d1",
    "'t Hooft",
    "Anna",
    "",
    "'",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_guarded_is_no_formula_and_comes_back_as_it_was(text: str) -> None:
    assert guarded(text)[:1] not in FORMULAS
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize(
    ("region", "text"),
    [
        ("US", "called 205 5550123"),
        ("US", "called 205  555  0123"),
        ("GB", "texted us from 07911 123456"),
        ("GB", "0044 20 7946 0958"),
        ("DE", "Anruf von 0151 23456789, 05.12.2024"),
        ("FR", "01.42.68.53.00"),
        ("KE", "0712 345678"),
        ("US", "anna@lee.example"),
    ],
)
def test_a_source_of_consent_holds_no_phone_in_the_form_of_the_churchs_region(region: str, text: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        checked_source(text, region)
    assert [each.field for each in refused.value.details] == ["consentSource"]
    assert text not in str(refused.value.details)


@pytest.mark.parametrize("region", ["US", "GB", "DE", "FR", "NO", "SG", "KE"])
@pytest.mark.parametrize(
    "text",
    ["2024-05-12", "card of 05.12.2024 11:00", "5/12/2024, desk 3", "20240512", "form 2024-05-12 10:30", "card 4512"],
)
def test_a_date_in_a_source_of_consent_is_no_phone(region: str, text: str) -> None:
    assert checked_source(f" {text} ", region) == text
