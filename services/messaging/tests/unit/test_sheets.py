"""Tables: encodings, delimiters, headers, mappings, rubbish; in pieces of any size."""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinonia.errors import ValidationFailed
from koinonia_messaging.domain.pieces import packed, unpacked
from koinonia_messaging.domain.rows import Cells, Row
from koinonia_messaging.domain.sheets import Sheet

HEADER = "firstName,lastName,phone"
MEBIBYTE = 1 << 20


def fed(sheet: Sheet, data: bytes, size: int = 1 << 18) -> list[Row]:
    rows = []
    for start in range(0, len(data), size):
        rows += sheet.feed(data[start : start + size])
    return rows + sheet.feed(b"", final=True)


def values(rows: Iterable[Row]) -> list[object]:
    return [cells.values for _, cells in rows if isinstance(cells, Cells)]


def refused(pieces: Iterator[bytes], mapping: dict[str, str | None] | None = None) -> dict[str, str]:
    sheet = Sheet(mapping)
    with pytest.raises(ValidationFailed) as caught:
        for piece in pieces:
            sheet.feed(piece)
        sheet.feed(b"", final=True)
    return {detail.field: detail.message for detail in caught.value.details}


@pytest.mark.parametrize("size", [1, 7, 1 << 18])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "windows-1252"])
def test_the_encoding_is_found_out(encoding: str, size: int) -> None:
    text = f"{HEADER}\r\nAnna,Lee,1\r\n" + "Bob,Lee,2\r\n" * 200 + "José,Müller,3\r\n"
    rows = fed(Sheet(), text.encode(encoding), size)
    assert values(rows)[-1] == {"firstName": "José", "lastName": "Müller", "phone": "3"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x8d\x8f",  # in none of them
        codecs.BOM_UTF8 + HEADER.encode() + b"\nJos\xe9,L,1",  # not what its mark says
        HEADER.encode() + "\nJosé,L,1\n".encode() + b"x" * 2000 + b"\nJos\xe9,L,1",  # first one, then the other
        HEADER.encode() + b"\nA\x00,L,1",
        codecs.BOM_UTF16_LE + "firstName,phone\nA,1".encode("utf-16-le") + b"\x00\xd8",  # half a pair
    ],
)
def test_what_is_no_text_is_refused(data: bytes) -> None:
    sheet = Sheet()
    with pytest.raises(ValidationFailed):
        fed(sheet, data, 1024)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out(delimiter: str) -> None:
    lines = [["First Name", "Last, Name; or |", "Mobile"], ["Anna", "Lee;|,", "1"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(lines)
    mapping: dict[str, str | None] = {"Last, Name; or |": "lastName"}
    rows = fed(Sheet(mapping), text.getvalue().encode())
    assert values(rows) == [{"firstName": "Anna", "lastName": "Lee;|,", "phone": "1"}]


def test_a_spreadsheet_may_say_its_delimiter_itself() -> None:
    data = b"\r\nsep=;\r\nfirstName;phone\r\nA,B;1\r\n"
    assert values(fed(Sheet(), data)) == [{"firstName": "A,B", "phone": "1"}]


def test_names_of_columns_are_matched_loosely() -> None:
    header = "FIRST_NAME,Surname, Cell Phone ,E-mail,Opt-In,Member ID,customfields.Shirt Size,,"
    sheet = Sheet()
    rows = fed(sheet, f"{header}\nAnna,Lee,1,a@b.example,Yes,7,M,,\n".encode())
    assert sheet.columns is not None
    assert sheet.columns.mapping == {
        "FIRST_NAME": "firstName",
        "Surname": "lastName",
        "Cell Phone": "phone",
        "E-mail": "email",
        "Opt-In": "optInSms",
        "Member ID": "externalId",
        "customfields.Shirt Size": "customFields.Shirt Size",
    }
    (row,) = values(rows)
    assert isinstance(row, dict)
    assert (row["optInSms"], row["customFields"]) == (True, {"Shirt Size": "M"})


def test_a_mapping_holds_over_the_names() -> None:
    data = b"First,Mobile,Home,Notes\nAnna,1,2,x\n"
    mapping = {"Home": "phone", "Mobile": "customFields.mobile", "Notes": None}
    assert values(fed(Sheet(mapping), data)) == [{"firstName": "Anna", "phone": "2", "customFields": {"mobile": "1"}}]


def test_a_rehearsal_shows_what_nobody_knows() -> None:
    sheet = Sheet(lenient=True)
    fed(sheet, b"First,Mobile,Phone,Notes\nAnna,1,2,x\n")
    assert sheet.columns is not None
    assert sheet.columns.mapping == {"First": "firstName", "Mobile": "phone", "Phone": None, "Notes": None}


@pytest.mark.parametrize(
    ("header", "mapping", "field"),
    [
        ("firstName,nickname,phone", {}, "nickname"),
        ("firstName,phone,Mobile", {}, "phone"),
        ("firstName,lastName", {}, "phone"),
        ("", {}, "firstName"),
        ("firstName,phone,customFields", {}, "customFields"),
        ("firstName,phone,customFields.", {}, "customFields."),
        ("firstName,,phone", {}, "header"),
        ("firstName,phone", {"Notes": None}, "mapping"),
        ("firstName,phone", {"phone": "telephone"}, "mapping"),
        ("firstName,phone,b", {"phone": "phone", "b": "phone"}, "mapping"),
        ("Anna,+13125550142,anna@lee.example", {}, "[phone]"),  # no header: a person, who is not told again
    ],
)
def test_a_header_that_cannot_be_right_refuses_the_file(
    header: str, mapping: dict[str, str | None], field: str
) -> None:
    assert field in refused(iter([f"{header}\n".encode()]), mapping)


def test_a_row_is_told_by_its_line() -> None:
    data = f'{HEADER}\n\nAnna,"Lee\nor Li",1\n,,\nBob,Lee,2,more\n"{"x" * 140_000}",Lee,3\nCarl,Lee,4,,\n'
    cells = [(row, cells) for row, cells in fed(Sheet(), data.encode(), 1000) if isinstance(cells, Cells)]
    found = [(row, each.line, each.values is None) for row, each in cells]
    assert found == [(2, 3, False), (4, 6, True), (5, 7, True), (6, 8, False)]


@pytest.mark.parametrize("byte", [b"x", b",", b"\n", b"\0"])
def test_fifty_megabytes_of_nothing_are_refused_after_the_first(byte: bytes) -> None:
    taken = []

    def pieces() -> Iterator[bytes]:
        yield HEADER.encode() + b"\n"
        for number in range(200):
            taken.append(number)
            yield byte * (MEBIBYTE // 4)

    assert set(refused(pieces())) == {"body"}
    assert len(taken) <= 5  # nothing of the rest is read, let alone held


def test_a_quotation_mark_that_is_left_open_is_told_by_its_line() -> None:
    data = f'{HEADER}\nAnna,Lee,1\nBob,"Lee,2\n' + "Carl,Lee,3\n" * 20_000
    rows = fed(Sheet(), data.encode(), 1 << 16)
    _, broken = rows[1]
    assert isinstance(broken, Cells)
    assert (broken.line, broken.values) == (3, None)
    assert "quotation mark" in broken.reason
    assert len(rows) > 8000  # those behind it are read again


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=3, max_size=3),
        max_size=5,
    ),
    st.sampled_from([1, 3, 64]),
)
def test_a_table_in_pieces_is_read_as_one(lines: list[list[str]], size: int) -> None:
    text = io.StringIO(newline="")
    before = [["Anna", "Lee", "1"]] * 120  # more than is looked at to tell the encoding
    csv.writer(text).writerows([HEADER.split(","), *before, ["Bob", "Lee\nor\r\nLi", "2"], *lines])
    data = text.getvalue().encode()
    whole = fed(Sheet(), data)
    assert fed(Sheet(), data, size) == whole
    assert len(whole) == 121 + sum(any(cell.strip() for cell in line) for line in lines)


def test_rows_come_out_of_a_piece_as_they_went_in() -> None:
    cells: list[Row] = [(1, Cells(2, {"firstName": "Anna"})), (2, Cells(3, None, "why"))]
    json: list[Row] = [(3, {"a": 1}), (4, [1]), (5, None)]
    assert list(unpacked(packed([*cells, *json]))) == [*cells, *json]
