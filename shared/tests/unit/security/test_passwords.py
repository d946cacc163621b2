import asyncio
import threading
import unicodedata
from collections.abc import Iterator
from unittest.mock import patch

import argon2
import pytest

from koinonia.security.passwords import PasswordCost, Passwords, problem

CHEAP = PasswordCost(memory_kib=64, passes=1)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(CHEAP)
    yield made
    made.close()


async def test_a_password_is_verified_against_its_salted_hash(passwords: Passwords) -> None:
    first, second = await passwords.hash("a good long one"), await passwords.hash("a good long one")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert await passwords.verify(first, "a good long one")
    assert not await passwords.verify(first, "a good long onf")
    assert not await passwords.verify(first, "")


async def test_an_unknown_account_has_no_right_password_but_costs_a_hash_too(passwords: Passwords) -> None:
    with patch.object(argon2.PasswordHasher, "verify", autospec=True, side_effect=argon2.PasswordHasher.verify) as spy:
        assert not await passwords.verify(None, "nobody")
    assert spy.call_count == 1


@pytest.mark.asvs("v5.0.0-6.2.9")
async def test_the_end_of_a_long_password_counts_and_beyond_the_longest_none_is_right(passwords: Passwords) -> None:
    longest = "x" * 127 + "y"
    hashed = await passwords.hash(longest)
    assert await passwords.verify(hashed, longest)
    assert not await passwords.verify(hashed, "x" * 128)
    assert not await passwords.verify(hashed, longest + "z")


@pytest.mark.asvs("v5.0.0-6.2.8")
async def test_a_password_is_right_exactly_as_it_was_chosen(passwords: Passwords) -> None:
    chosen = " G\u00e4rtnerplatz \ufb01ve  12 "
    hashed = await passwords.hash(chosen)
    assert await passwords.verify(hashed, chosen)
    others = (
        chosen.lower(),
        chosen.swapcase(),
        chosen.strip(),
        chosen.rstrip(),
        chosen.replace("  ", " "),
        chosen[:-1],
    )
    for form in (*others, *(unicodedata.normalize(form, chosen) for form in ("NFD", "NFKC", "NFKD"))):
        assert form != chosen
        assert not await passwords.verify(hashed, form)


async def test_a_lone_surrogate_is_a_wrong_password_and_no_error(passwords: Passwords) -> None:
    assert not await passwords.verify(await passwords.hash("a good long one"), "\ud800" * 12)


async def test_a_hash_of_another_cost_is_due_for_a_new_one(passwords: Passwords) -> None:
    dearer = Passwords(PasswordCost(memory_kib=128, passes=1))
    hashed = await passwords.hash("a good long one")
    assert not passwords.needs_rehash(hashed)
    assert dearer.needs_rehash(hashed)
    assert await dearer.verify(hashed, "a good long one")
    dearer.close()


async def test_by_default_a_hash_costs_what_owasp_asks_for() -> None:
    made = Passwords()
    assert (await made.hash("a good long one")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    made.close()


async def test_one_is_hashed_at_a_time_beside_the_loop(passwords: Passwords) -> None:
    running, most, threads = 0, 0, set[int]()
    real = argon2.PasswordHasher.hash

    def watched(hasher: argon2.PasswordHasher, password: str | bytes) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threads.add(threading.get_ident())
        try:
            return real(hasher, password)
        finally:
            running -= 1

    with patch.object(argon2.PasswordHasher, "hash", watched):
        await asyncio.gather(*(passwords.hash(f"a good long one {number}") for number in range(20)))
    assert most == 1
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    "password",
    [
        *(
            "sunflower garden",
            "x7#Kq9!mZp2$",
            "Grüße aus München",
            "日本語のパスワードです長い",
            "q" * 5 + "Wm7/ " * 24,
        ),
        *("my faith is in the lamp", "205555019283 tulips", "748392650174"),
    ],
)
@pytest.mark.asvs("v5.0.0-6.2.5", "v5.0.0-6.2.9")
def test_a_good_password_has_no_problem(password: str) -> None:
    assert problem(password, church_name="Grace Chapel", email="ann.lee@example.org") is None


@pytest.mark.parametrize("password", ["", "elevenchars", "\u00e4" * 11])
@pytest.mark.asvs("v5.0.0-6.2.1")
def test_a_short_password_is_refused(password: str) -> None:
    assert problem(password) == "A password has at least 12 characters."


def test_a_password_beyond_the_longest_is_refused() -> None:
    assert problem("ab1 cd2 ef3 " * 11) == "A password has at most 128 characters."


@pytest.mark.parametrize(
    "password",
    [
        *(
            "password1234",
            "Password123!",
            "PASSWORD!!!!2026",
            "123456789012",
            "987654321098",
            "aaaaaaaaaaaa",
            "abababababab",
        ),
        *(
            "qwertyuiop12",
            "qwertyuiopasdf",
            "abcdefghijklm",
            "1q2w3e4r5t6y",
            "passwordpassword",
            "Iloveyou!2026",
            "JesusChrist1!",
        ),
        *("p a s s w o r d 1", "correct horse battery staple", "!!!!!!!!!!!!"),
        *("unbelievable", "Christopher1", "mAnchesterUnited", "liverpoolfc1", "teamomuchisimo"),  # breached
    ],
)
@pytest.mark.asvs("v5.0.0-6.2.4", "v5.0.0-6.2.12")
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    assert problem(password) == "This password is among the first that are guessed."


@pytest.mark.parametrize(
    "password", ["gracechapel#77", "we love Grace-Chapel", "annlee!1990xyz", "xx ann.lee@example.org"]
)
@pytest.mark.asvs("v5.0.0-6.2.11")
def test_a_password_of_the_church_or_the_address_is_refused(password: str) -> None:
    found = problem(password, church_name="Grace Chapel", email="ann.lee@example.org")
    assert found == "A password contains neither the church's name nor your e-mail address."


def test_a_name_of_few_letters_forbids_nothing() -> None:
    assert problem("the good shepherd walks", church_name="Good", email="hep@x.de") is None
