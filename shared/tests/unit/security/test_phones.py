import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia.errors import KoinoniaError
from koinonia.security.phones import PhoneInvalid, national, normalise


@pytest.mark.parametrize(
    "text",
    [
        *("2055550123", "12055550123", "+12055550123", "(205) 555-0123", "205.555.0123", "1-205-555-0123"),
        *(" +1 205 555 0123 ", "205\u00a0555\u20110123", "２０５ ５５５ ０１２３", "+1 (205) 555-0123"),
    ],
)
def test_every_way_of_writing_a_number_is_the_same_number(text: str) -> None:
    assert normalise(text) == "+12055550123"


def test_the_region_tells_whose_national_form_it_is() -> None:
    assert normalise("020 7946 0958", "GB") == "+442079460958"
    assert normalise("011 44 20 7946 0958") == "+442079460958"
    assert normalise("+44 20 7946 0958") == "+442079460958"


@pytest.mark.parametrize(
    "text",
    [
        *("", "911", "22000", "555-0123", "205555012", "20555501234", "0055550123", "+1555555012", "+999123456789"),
        *("1-800-FLOWERS", "call 205 555 0123", "tel:+12055550123", "205-555-0123 x5", "205 555 0123;ext=5", "1" * 400),
        *("2055550123\x00\x00" * 5, "+", "٠", "((((((((((", "+1 205 055 0123", "ann@example.org"),
    ],
)
def test_what_is_no_number_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(PhoneInvalid) as invalid:
        normalise(text)
    assert isinstance(invalid.value, KoinoniaError)
    assert str(invalid.value) == "This is not a valid phone number."
    assert invalid.value.__cause__ is None
    assert (invalid.value.code, invalid.value.status) == ("VALIDATION_ERROR", 400)


@given(st.text(max_size=45) | st.text(st.sampled_from("0123456789+()-. "), max_size=20))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        phone = normalise(text)
    except PhoneInvalid:
        return
    assert normalise(phone) == phone


def test_a_number_is_shown_as_its_country_writes_it() -> None:
    assert national("+12055550123") == "(205) 555-0123"
    assert national("+442079460958") == "020 7946 0958"
