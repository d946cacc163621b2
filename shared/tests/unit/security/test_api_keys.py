import hashlib

import pytest

from koinonia.security import api_keys


@pytest.mark.parametrize("kind", ["live", "test"])
def test_a_key_is_known_again_by_its_public_id_and_secret(kind: api_keys.ApiKeyKind) -> None:
    text, stored = api_keys.make(kind)
    presented = api_keys.parse(text)
    assert presented == stored
    assert presented is not None
    assert text.startswith(f"koi_{kind}_{stored.public_id}_")
    assert api_keys.matches(presented, stored.secret_digest)


def test_of_the_secret_only_the_digest_is_kept() -> None:
    text, stored = api_keys.make()
    secret = text.rsplit("_", 1)[1][:43]
    assert stored.secret_digest == hashlib.sha256(secret.encode()).digest()
    assert secret not in repr(stored)


def test_a_key_shown_as_the_other_kind_does_not_match() -> None:
    for kind, other in (("live", "test"), ("test", "live")):
        text, stored = api_keys.make(kind)  # type: ignore[arg-type]
        start = text[:-6].replace(f"koi_{kind}_", f"koi_{other}_")
        presented = api_keys.parse(start + api_keys._checksum(start))
        assert presented is not None
        assert presented.kind == other
        assert not api_keys.matches(presented, stored.secret_digest)


def test_no_two_keys_are_alike_and_one_does_not_match_another() -> None:
    first, second = api_keys.make()[1], api_keys.make()[1]
    assert first.public_id != second.public_id
    assert not api_keys.matches(first, second.secret_digest)
    assert not api_keys.matches(first, b"")


def test_a_typing_error_anywhere_is_noticed() -> None:
    text, _ = api_keys.make()
    for at in range(len("koi_live_"), len(text)):
        other = "b" if text[at] == "a" else "a"
        assert api_keys.parse(text[:at] + other + text[at + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "koi_", "koi_live_abc_def", "Bearer x", "koi_prod_" + "a" * 12 + "_" + "b" * 49, "ä"]
)
def test_what_is_no_key_is_none(text: str) -> None:
    assert api_keys.parse(text) is None


def test_a_key_with_something_around_it_is_none() -> None:
    text, _ = api_keys.make()
    for wrapped in (text + "\n", " " + text, text + "a", text[:-1]):
        assert api_keys.parse(wrapped) is None
