"""The contract holds together, and every field of every request refuses rubbish by its name."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any, get_args

import msgspec
import pytest

from koinonia.api import ENDPOINTS, EVERYONE, MANAGERS, SENDERS, Endpoint, Owner, Request, owned_by
from koinonia.api.common import example_of
from koinonia.errors import ValidationFailed
from koinonia.web import decoding


def struct_fields(endpoint: Endpoint) -> tuple[msgspec.structs.FieldInfo, ...]:
    assert endpoint.request is not None
    return msgspec.structs.fields(endpoint.request)


REQUESTS = [endpoint for endpoint in ENDPOINTS if endpoint.request is not None]
FIELDS = [
    pytest.param(endpoint, field.encode_name, id=f"{endpoint.name}-{field.encode_name}")
    for endpoint in REQUESTS
    for field in struct_fields(endpoint)
]
RUBBISH: list[Any] = [{"rubbish": [1]}, [[[{}]]], 5.5, -(10**15), "\u202e" * 3, ""]


def send(endpoint: Endpoint, value: object) -> Any:
    return decoding.body(endpoint, json.dumps(value).encode(), "application/json")


def example(endpoint: Endpoint) -> dict[str, Any]:
    value = msgspec.to_builtins(example_of(endpoint.request))
    assert isinstance(value, dict)
    return value


def named_fields(endpoint: Endpoint, name: str, value: object) -> list[str]:
    """The fields that are refused when this one has that value."""
    try:
        send(endpoint, {**example(endpoint), name: value})
    except ValidationFailed as refused:
        return [detail.field for detail in refused.details]
    return []


def test_names_and_routes_are_unique() -> None:
    assert max(Counter(endpoint.name for endpoint in ENDPOINTS).values()) == 1
    assert max(Counter((endpoint.method, endpoint.path) for endpoint in ENDPOINTS).values()) == 1


def test_every_route_has_an_owner_and_the_owners_know_it() -> None:
    assert sum(len(owned_by(owner)) for owner in get_args(Owner)) == len(ENDPOINTS)


def test_viewers_change_nothing_but_what_is_their_own_and_senders_only_texts() -> None:
    for endpoint in ENDPOINTS:
        if endpoint.method == "GET" or endpoint.access == "public":
            continue
        if endpoint.name.startswith(("mfa.", "passwords.", "sessions.")):
            assert (endpoint.roles, endpoint.people_only) == (EVERYONE, True), endpoint.name
            continue
        if endpoint.name.startswith("ownPhone."):  # of those who may send something to it; who may no more, removes it
            allowed = EVERYONE if endpoint.name == "ownPhone.remove" else SENDERS
            assert (endpoint.roles, endpoint.people_only) == (allowed, True), endpoint.name
            continue
        if endpoint.name in {"messages.approve", "messages.reject"}:  # nobody's own text, and no program's decision
            assert (endpoint.roles, endpoint.people_only) == (MANAGERS, True), endpoint.name
            continue
        texting = endpoint.name.startswith(("messages.", "recurringMessages.", "conversations.", "templates."))
        assert endpoint.roles == ({"owner", "admin", "sender"} if texting else {"owner", "admin"}), endpoint.name


def test_without_the_second_factor_one_can_turn_it_on_and_no_more() -> None:
    open_to_all = {endpoint.name for endpoint in ENDPOINTS if endpoint.before_mfa}
    assert open_to_all == {"auth.me", "mfa.enable", "mfa.confirm"}


def test_whatever_changes_something_takes_an_idempotency_key_where_its_answer_can_be_given_again() -> None:
    without = {each.path for each in ENDPOINTS if each.method != "GET" and not each.idempotent}
    secret = ("/api/auth/", "/api/admin/mfa/")
    assert {path for path in without if not path.startswith(secret)} == {
        "/api/messages/preview",  # changes nothing
        "/api/webhooks/stripe",  # of their own inboxes
        "/api/webhooks/telnyx/mms",
        "/api/webhooks/telnyx/status",
    }
    assert not [each.path for each in ENDPOINTS if each.idempotent and each.path.startswith(secret)]


def test_who_may_call_a_route_is_said_in_words_too() -> None:
    route = Endpoint(name="a.b", method="GET", path="/a", owner="gateway", summary="A")
    assert route.callers == "For people and API keys of every role."
    assert replace(route, roles=MANAGERS).callers == "For people and API keys with one of the roles owner, admin."
    people = replace(route, roles=frozenset({"owner"}), people_only=True)
    assert people.callers == "For people (not API keys) with one of the roles owner."
    assert [people.may_call("owner", is_person=person) for person in (True, False)] == [True, False]
    assert not people.may_call("admin", is_person=True)
    assert replace(route, access="public").callers == "Needs no login."


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.response is not None], ids=lambda e: e.name)
def test_an_answers_example_is_an_answer(endpoint: Endpoint) -> None:
    encoded = msgspec.json.encode(example_of(endpoint.response))
    assert msgspec.json.decode(encoded, type=endpoint.response) == example_of(endpoint.response)


@pytest.mark.parametrize("endpoint", REQUESTS, ids=lambda e: e.name)
def test_a_requests_example_is_accepted(endpoint: Endpoint) -> None:
    body = send(endpoint, example(endpoint))
    assert isinstance(body, Request)
    decoding.check(body)


@pytest.mark.parametrize("endpoint", REQUESTS, ids=lambda e: e.name)
@pytest.mark.asvs("v5.0.0-2.2.1", "v5.0.0-8.2.3")
def test_an_unknown_field_is_refused_by_name(endpoint: Endpoint) -> None:
    with pytest.raises(ValidationFailed) as refused:
        send(endpoint, {**example(endpoint), "churchId": "mine"})
    assert [detail.field for detail in refused.value.details] == ["churchId"]


@pytest.mark.parametrize(("endpoint", "name"), FIELDS)
@pytest.mark.asvs("v5.0.0-2.2.1")
def test_a_value_of_the_wrong_type_is_refused_by_the_fields_name(endpoint: Endpoint, name: str) -> None:
    refused = [named for rubbish in RUBBISH if (named := named_fields(endpoint, name, rubbish))]
    assert len(refused) >= 3
    assert all(field.startswith(name) for named in refused for field in named)


@pytest.mark.parametrize(("endpoint", "name"), FIELDS)
def test_a_text_that_cannot_be_stored_is_refused_by_the_fields_name(endpoint: Endpoint, name: str) -> None:
    for text in ("a\x00b", "a\ud800b"):
        with pytest.raises(ValidationFailed) as refused:
            send(endpoint, {**example(endpoint), name: text})
        assert refused.value.details[0].field == name


@pytest.mark.parametrize("endpoint", REQUESTS, ids=lambda e: e.name)
def test_every_required_field_that_is_missing_is_named(endpoint: Endpoint) -> None:
    required = {field.encode_name for field in struct_fields(endpoint) if field.required}
    if required:
        with pytest.raises(ValidationFailed) as refused:
            send(endpoint, {})
        assert {detail.field for detail in refused.value.details} == required


@pytest.mark.parametrize("address", ["a@b.co\n", "a b@c.de", "@b.co", "a@b", "a@@b.co", "x" * 250 + "@b.co"])
def test_an_e_mail_that_is_none_is_refused(address: str) -> None:
    login = next(endpoint for endpoint in REQUESTS if endpoint.name == "auth.login")
    with pytest.raises(ValidationFailed) as refused:
        send(login, {"email": address, "password": "x"})
    assert refused.value.details[0].field == "email"


def test_a_test_key_reads_and_changes_nothing_but_tests() -> None:
    """An endpoint that is new is closed to test keys until it says what a test means there."""
    assert all(endpoint.opens_to_tests for endpoint in ENDPOINTS if endpoint.method == "GET")
    opened = {endpoint.name for endpoint in ENDPOINTS if endpoint.method != "GET" and endpoint.opens_to_tests}
    assert opened == {
        "messages.preview",
        "messages.send",
        "messages.patch",
        "messages.cancel",
        "messages.pause",
        "messages.resume",
        "messages.resendFailed",
        "conversations.reply",
    }
