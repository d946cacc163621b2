import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia import clock
from koinonia.errors import AuthenticationFailed
from koinonia.security import (
    Identity,
    Keys,
    base64url,
    read_receipt_token,
    receipt_token,
    sign_identity,
    verify_identity,
)
from koinonia.security.tokens import (
    SessionToken,
    digest_opaque,
    issue,
    make_csrf,
    make_opaque,
    read,
    verify_csrf,
)

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OLD, NEW = (f"{name}:{base64.b64encode(bytes([number]) * 32).decode()}" for name, number in (("old", 1), ("new", 2)))


def make(tokens: str) -> Keys:
    return Keys.parse(encryption_keys=OLD, token_keys=tokens, blind_index_key=OLD.partition(":")[2])


BEFORE, AFTER, LATER = make(OLD), make(f"{NEW},{OLD}"), make(NEW)


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    with clock.frozen(NOON):
        yield


@given(st.binary(max_size=80))
def test_base64url_comes_back(data: bytes) -> None:
    assert base64url.decode(base64url.encode(data)) == data


@pytest.mark.parametrize("text", ["A", "AB", "AA==", "AA ", "AA\n", "A*A", "ä", "++++", "\ud800"])
def test_only_the_one_text_of_some_bytes_is_decoded(text: str) -> None:
    assert base64url.decode(text) is None


# Receipts


def test_a_receipt_token_finds_its_recipient_through_a_rotation() -> None:
    recipient_id = uuid4()
    token = receipt_token(BEFORE, recipient_id)
    assert read_receipt_token(BEFORE, token) == recipient_id
    assert read_receipt_token(AFTER, token) == recipient_id
    assert read_receipt_token(LATER, token) is None


def test_a_receipt_token_is_the_same_again_under_the_key_of_the_first_attempt() -> None:
    recipient_id = uuid4()
    first = receipt_token(BEFORE, recipient_id)
    assert receipt_token(AFTER, recipient_id, key_id="old") == first
    assert receipt_token(AFTER, recipient_id) != first
    with pytest.raises(LookupError, match="old"):
        receipt_token(LATER, recipient_id, key_id="old")


def test_an_altered_receipt_token_is_none() -> None:
    token = base64url.decode(receipt_token(BEFORE, uuid4())) or b""
    for at in range(len(token)):
        altered = token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :]
        assert read_receipt_token(BEFORE, base64url.encode(altered)) is None
    for length in range(len(token)):
        assert read_receipt_token(BEFORE, base64url.encode(token[:length])) is None


@given(st.text() | st.binary(max_size=60).map(base64url.encode))
def test_any_other_text_is_no_receipt_token(text: str) -> None:
    assert read_receipt_token(BEFORE, text) is None


# Identity


def identity(**changes: object) -> Identity:
    whole = Identity(
        church_id=UUID(int=1),
        principal_id=UUID(int=2),
        principal_kind="session",
        role="owner",
        mfa_verified=True,
        address="198.51.100.7",
        request_id="r-1",
        expires_at=NOON + timedelta(seconds=30),
        method="POST",
        path="/api/messages/send",
    )
    return msgspec.structs.replace(whole, **changes)


def check(keys: Keys, header: str, method: str = "POST", path: str = "/api/messages/send") -> Identity:
    return verify_identity(keys, header, method=method, path=path)


def test_a_signed_identity_is_read_for_its_request_through_a_rotation() -> None:
    header = sign_identity(BEFORE, identity())
    assert check(BEFORE, header) == identity()
    assert check(AFTER, header) == identity()
    with pytest.raises(AuthenticationFailed):
        check(LATER, header)


def test_an_identity_holds_for_its_method_path_and_time_only() -> None:
    header = sign_identity(BEFORE, identity())
    with pytest.raises(AuthenticationFailed):
        check(BEFORE, header, method="GET")
    with pytest.raises(AuthenticationFailed):
        check(BEFORE, header, path="/api/messages")
    with clock.frozen(NOON + timedelta(seconds=30)), pytest.raises(AuthenticationFailed):
        check(BEFORE, header)


def test_a_forged_identity_is_refused() -> None:
    header = sign_identity(BEFORE, identity(role="viewer"))
    payload, _, signature = header.partition(".")
    better = base64url.encode((base64url.decode(payload) or b"").replace(b"viewer", b"owner"))
    receipt = base64url.encode(BEFORE.sign("receipt", base64url.decode(payload) or b""))
    for bad in (f"{better}.{signature}", f"{payload}.{receipt}", payload, "", ".", "ä.ö", header + "A", "x" * 9000):
        with pytest.raises(AuthenticationFailed):
            check(BEFORE, bad)


def test_a_signed_identity_of_another_form_is_refused() -> None:
    for payload in (b"{}", b"no json", b"\xff", b'{"role": "god"}'):
        header = f"{base64url.encode(payload)}.{base64url.encode(BEFORE.sign('identity', payload))}"
        with pytest.raises(AuthenticationFailed):
            check(BEFORE, header)


# Sessions


def session(**changes: object) -> SessionToken:
    whole = SessionToken(
        type="access",
        admin_id=UUID(int=1),
        session_id=UUID(int=2),
        church_id=UUID(int=3),
        role="sender",
        mfa_verified=False,
        expires_at=NOON + timedelta(minutes=10),
    )
    return msgspec.structs.replace(whole, **changes)


@pytest.mark.asvs("v5.0.0-9.2.1")
def test_an_access_token_is_read_until_it_expires_through_a_rotation() -> None:
    token = issue(BEFORE, session())
    assert read(AFTER, token) == session()
    with clock.frozen(NOON + timedelta(minutes=10, microseconds=-1)):
        assert read(BEFORE, token) == session()
    with clock.frozen(NOON + timedelta(minutes=10)), pytest.raises(AuthenticationFailed):
        read(BEFORE, token)
    with pytest.raises(AuthenticationFailed):
        read(LATER, token)


@pytest.mark.asvs("v5.0.0-9.2.1")
def test_a_token_from_the_future_is_refused_beyond_a_second() -> None:
    token = issue(BEFORE, session())
    with clock.frozen(NOON - timedelta(seconds=1)):
        assert read(BEFORE, token) == session()
    with clock.frozen(NOON - timedelta(seconds=2)), pytest.raises(AuthenticationFailed):
        read(BEFORE, token)


@pytest.mark.asvs("v5.0.0-9.2.2")
def test_a_token_before_the_second_factor_is_no_access_token_nor_the_other_way_round() -> None:
    pending = session(type="mfa")
    assert read(BEFORE, issue(BEFORE, pending), "mfa") == pending
    with pytest.raises(AuthenticationFailed):
        read(BEFORE, issue(BEFORE, pending))
    with pytest.raises(AuthenticationFailed):
        read(BEFORE, issue(BEFORE, session()), "mfa")


KEY = BEFORE.token_key("session/access", "old") or b""


def forge(
    key: bytes = KEY, algorithm: str = "HS256", kid: str | None = "old", changes: dict[str, object] | None = None
) -> str:
    claims = jwt.decode(issue(BEFORE, session()), options={"verify_signature": False}) | (changes or {})
    present = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": kid} if kid else {}
    if algorithm == "none":
        return jwt.encode(present, None, algorithm, headers=headers)  # type: ignore[arg-type]
    return jwt.encode(present, key, algorithm, headers=headers)


def test_the_forger_of_these_tests_can_make_a_good_token() -> None:
    assert read(BEFORE, forge()) == session()


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"typ": "mfa"},
        {"typ": "refresh"},
        {"role": "god"},
        {"sub": "1"},
        {"mfa": "yes"},
        {"exp": int(NOON.timestamp())},
        {"exp": "soon"},
        *({name: None} for name in ("iss", "aud", "iat", "nbf", "exp", "typ", "sub", "sid", "church", "role", "mfa")),
    ],
)
@pytest.mark.asvs("v5.0.0-9.2.1", "v5.0.0-9.2.2", "v5.0.0-9.2.3")
def test_a_well_signed_token_with_wrong_claims_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(AuthenticationFailed):
        read(BEFORE, forge(changes=changes))


@pytest.mark.asvs("v5.0.0-9.1.1", "v5.0.0-9.1.2", "v5.0.0-9.1.3")
def test_a_token_of_another_algorithm_or_key_is_refused() -> None:
    header = base64url.encode(json.dumps({"alg": "HS256", "kid": 7}).encode())
    brought = {
        "kid": "old",
        "jku": "https://evil.example/keys",
        "jwk": {"kty": "oct", "k": base64url.encode(b"x" * 32)},
    }
    claims = jwt.decode(forge(), options={"verify_signature": False})
    for token in (
        forge(b"", "none"),
        forge(KEY * 2, "HS512"),
        forge(KEY * 2, "HS384"),
        forge(bytes([1]) * 32),
        forge(b"x" * 32),
        jwt.encode(claims, b"x" * 32, "HS256", headers=brought),
        forge(kid="gone"),
        forge(kid=None),
        header + forge()[forge().index(".") :],
        forge()[:-2],
        "",
        "a.b.c",
        "ä" * 20,
        "\ud800.a.b",
        "x" * 5000,
    ):
        with pytest.raises(AuthenticationFailed):
            read(BEFORE, token)


@pytest.mark.asvs("v5.0.0-6.4.1", "v5.0.0-7.2.3")
def test_opaque_tokens_are_random_and_found_by_their_digest() -> None:
    token = make_opaque()
    assert token.digest == digest_opaque(token.text) == hashlib.sha256(token.text.encode()).digest()
    assert len(token.text) == 43
    assert make_opaque() != token
    assert digest_opaque("\ud800") != token.digest


def test_a_csrf_token_belongs_to_its_session_through_a_rotation() -> None:
    session_id = uuid4()
    token = make_csrf(BEFORE, session_id)
    assert token != make_csrf(BEFORE, session_id)
    assert verify_csrf(BEFORE, token, session_id)
    assert verify_csrf(AFTER, token, session_id)
    assert not verify_csrf(LATER, token, session_id)
    assert not verify_csrf(BEFORE, token, uuid4())
    for bad in ("", token[:-1], token + "A", "A" + token[1:-1], "ä", "x" * 9000):
        assert not verify_csrf(BEFORE, bad, session_id)
