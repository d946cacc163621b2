"""The gateway's rules: rates, sessions, origins, what the carrier's events become, settings."""

from datetime import UTC, datetime, timedelta

import pytest

from koinonia.api import ENDPOINTS, Endpoint
from koinonia.carrier.webhooks import WebhookEvent
from koinonia.carrier.wire import Address, Media, WireError, WireMessage
from koinonia.ids import new_id
from koinonia.settings import SettingsError, load
from koinonia.testing.services import KEY_SETTINGS
from koinonia_gateway.budgets import SENDS
from koinonia_gateway.domain import origins, sessions, webhooks
from koinonia_gateway.domain.rates import Rate, RateInvalid, Standing, headers_of, parse_factors
from koinonia_gateway.settings import GatewaySettings

NOW = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/15m", Rate(5, 900)),
        ("1000/1m", Rate(1000, 60)),
        ("2/s", Rate(2, 1)),
        (" 7/2h ", Rate(7, 7200)),
        ("1/1d", Rate(1, 86400)),
    ],
)
def test_a_rate_is_read_as_operators_write_it(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "5", "0/1m", "5/0m", "5/m5", "5/1w", "-1/1m", "5/1m;", "1e3/1m"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(RateInvalid):
        Rate.parse(text)


def test_a_window_ends_where_the_next_begins() -> None:
    rate = Rate(5, 60)
    assert rate.window(119.9) == 1
    assert rate.window(120.0) == 2
    assert rate.seconds_left(119.9) == 1
    assert rate.seconds_left(120.0) == 60
    assert rate.times(3) == Rate(15, 60)


def test_blocks_shrink_as_a_budget_does() -> None:
    assert [Rate(1000, 60).block(left) for left in (1000, 500, 499, 100, 10, 0, -7)] == [50, 50, 49, 10, 1, 1, 1]
    assert Rate(5, 60).block(5) == 1


def test_the_factors_of_plans_are_read() -> None:
    assert parse_factors(" standard=2, large=10,") == {"standard": 2, "large": 10}
    assert parse_factors("") == {}


@pytest.mark.parametrize("text", ["standard", "standard=0", "standard=1.5", "=2", "a=2,a=3", "A=2"])
def test_what_is_no_factor_is_refused(text: str) -> None:
    with pytest.raises(RateInvalid):
        parse_factors(text)


def test_several_limits_are_told_in_one_line_and_the_nearest_in_the_old_names() -> None:
    headers = headers_of([Standing(Rate(100, 60), 90, 7), Standing(Rate(10, 60), 3, 7, "send")])
    assert headers["RateLimit"] == '"default";r=90;t=7, "send";r=3;t=7'
    assert headers["RateLimit-Policy"] == '"default";q=100;w=60, "send";q=10;w=60'
    assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("10", "3")


def test_whatever_sends_counts_against_the_limit_of_sends() -> None:
    def sends(endpoint: Endpoint) -> bool:
        act = endpoint.path.rpartition("/")[2]
        words = ("send", "reply", "broadcast")
        return endpoint.method == "POST" and (act == "phone" or any(word in act for word in words))

    assert {each for each in ENDPOINTS if sends(each)} == SENDS


def test_the_headers_never_promise_less_than_nothing() -> None:
    assert Standing(Rate(5, 60), -3, 7).exceeded
    headers = Standing(Rate(5, 60), -3, 7).headers()
    assert headers["RateLimit-Remaining"] == "0"
    assert headers["RateLimit"] == '"default";r=0;t=7'
    assert headers["RateLimit-Policy"] == '"default";q=5;w=60'
    assert not Standing(Rate(5, 60), 0, 7).exceeded


def test_no_token_outlives_its_session() -> None:
    ends = sessions.session_expiry(NOW)
    assert ends - NOW == timedelta(days=30)
    assert sessions.refresh_expiry(NOW, ends) == NOW + timedelta(hours=24)
    assert sessions.access_expiry(NOW, ends) == NOW + timedelta(minutes=10)
    late = ends - timedelta(minutes=1)
    assert sessions.refresh_expiry(late, ends) == ends
    assert sessions.access_expiry(late, ends) == ends


@pytest.mark.parametrize(
    ("expires", "replaced", "ended", "judgement"),
    [
        (1, None, None, "good"),
        (0, None, None, "over"),
        (1, -5, None, "replayed"),
        (-1, -5, None, "replayed"),
        (1, -5, -1, "over"),
        (1, None, -1, "over"),
    ],
)
def test_a_refresh_token_is_judged(
    expires: int, replaced: int | None, ended: int | None, judgement: sessions.Judgement
) -> None:
    def at(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOW + timedelta(seconds=seconds)

    assert (
        sessions.judge(
            now=NOW,
            expires_at=NOW + timedelta(seconds=expires),
            replaced_at=at(replaced),
            session_ended_at=at(ended),
        )
        == judgement
    )


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://app.example"}, False),
        ({"Origin": "https://app.example", "Host": "10.0.0.1"}, True),
        ({"Origin": "http://localhost:8080", "Host": "localhost:8080"}, True),
        ({"Origin": "https://evil.example", "Host": "localhost:8080"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
    ],
)
def test_only_our_own_pages_may_send(headers: dict[str, str], own: bool) -> None:
    assert origins.is_own(headers, "https://app.example/") is own


def test_pages_of_the_origins_that_a_setting_names_may_send() -> None:
    others = origins.parse_origins("https://app.example, http://localhost:3000,")
    assert others == {"https://app.example", "http://localhost:3000"}
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert origins.is_own({"Origin": "https://app.example", **cross}, "https://api.example", others)
    for evil in ("https://evil.example", "https://app.example.evil", "http://app.example", "null"):
        assert not origins.is_own({"Origin": evil, **cross}, "https://api.example", others)
    assert not origins.is_own(cross, "https://api.example", others)


@pytest.mark.parametrize(
    "text",
    [
        *("*", "null", "app.example", "https://app.example/", "https://*.example", "https://App.example"),
        *("ftp://a.example", "https://app.example:443", "http://app.example:80", "https://user@app.example"),
        "https://a.example?x",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        origins.parse_origins(f"https://good.example,{text}")


def event(message: WireMessage | None = None, **changes: object) -> WebhookEvent:
    values: dict[str, object] = {"id": "e1", "event_type": "message.received", "occurred_at": NOW, "message": message}
    return WebhookEvent(**{**values, **changes})  # type: ignore[arg-type]


def test_a_receipt_says_what_the_carrier_said() -> None:
    recipient_id = new_id()
    message = WireMessage(
        id="m1", to=[Address(status="delivery_failed")], parts=2, errors=[WireError(code="40008", title="x")]
    )
    receipt = webhooks.receipt_of(event(message), message, recipient_id, NOW)
    assert (receipt.status, receipt.error_code, receipt.parts) == ("delivery_failed", "40008", 2)
    assert (receipt.recipient_id, receipt.occurred_at, receipt.carrier_id) == (recipient_id, NOW, "m1")
    undated = webhooks.receipt_of(
        event(WireMessage(id="m1"), occurred_at=None), WireMessage(id="m1"), recipient_id, NOW
    )
    assert (undated.occurred_at, undated.error_code) == (NOW, None)


def test_a_repeat_of_the_carriers_event_is_the_same_event() -> None:
    assert webhooks.inbound_id(event()) == webhooks.inbound_id(event(attempt=3))
    assert webhooks.inbound_id(event()) != webhooks.inbound_id(event(id="e2"))
    assert webhooks.inbound_id(event(occurred_at=None)) == webhooks.inbound_id(event(occurred_at=None))


def test_the_carriers_date_is_not_believed_beyond_what_can_be() -> None:
    text = WireMessage(id="m")
    assert webhooks.dated(event(occurred_at=NOW - timedelta(hours=1)), text, NOW) == NOW - timedelta(hours=1)
    assert webhooks.dated(event(occurred_at=NOW + timedelta(days=9)), text, NOW) == NOW
    assert webhooks.dated(event(occurred_at=NOW - timedelta(days=90)), text, NOW) == NOW - timedelta(days=20)
    assert webhooks.dated(event(occurred_at=None), text, NOW) == NOW
    webhooks.inbound_id(event(occurred_at=datetime(1900, 1, 1, tzinfo=UTC)))


def test_an_inbound_text_is_read_with_what_may_be_missing() -> None:
    message = WireMessage(
        id="m", text=None, media=[Media(url="https://x/1"), Media(url=None)], autoresponse_type="STOP"
    )
    assert webhooks.text_of(message) == ""
    assert webhooks.media_of(message) == ("https://x/1",)
    assert webhooks.auto_response_of(message) == "STOP"
    bare = WireMessage(id="m", text="a\x00b", autoresponse_type="WHATEVER")
    assert webhooks.text_of(bare) == "ab"
    assert webhooks.media_of(bare) == ()
    assert webhooks.auto_response_of(bare) is None


def test_a_number_may_come_to_be_known_until_the_last_attempt() -> None:
    assert [webhooks.may_come_to_be_known(attempt) for attempt in (1, 2, 3, 4)] == [True, True, False, False]


ENVIRONMENT = {
    **{f"KOINONIA_{name.upper()}": value for name, value in KEY_SETTINGS.items()},
    "KOINONIA_DATABASE_URL": "postgresql://x",
    "KOINONIA_AMQP_URL": "amqp://x",
    "KOINONIA_REDIS_URL": "redis://x",
    "KOINONIA_MESSAGING_URL": "http://127.0.0.1:1/, http://127.0.0.1:2",
    **{f"KOINONIA_{name}_URL": "http://127.0.0.1:3" for name in ("DELIVERY", "CONVERSATION", "BILLING", "COMPLIANCE")},
}


def test_replicas_are_listed_with_commas() -> None:
    settings = load(GatewaySettings, ENVIRONMENT, None)
    assert settings.owner_urls["messaging"] == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert settings.rate("auth") == Rate(5, 900)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KOINONIA_RATE_LIMIT_API", "often"),
        ("KOINONIA_RATE_LIMIT_SEND", "0/1m"),
        ("KOINONIA_RATE_LIMIT_PLANS", "standard=twice"),
        ("KOINONIA_TELNYX_PUBLIC_KEY", "c2hvcnQ="),
        ("KOINONIA_STRIPE_WEBHOOK_SECRET", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
        ("KOINONIA_BILLING_URL", " , "),
        ("KOINONIA_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("KOINONIA_CORS_ORIGINS", "*"),
        ("KOINONIA_PASSWORD_PASSES", "0"),
    ],
)
def test_a_wrong_setting_is_named_at_the_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(GatewaySettings, {**ENVIRONMENT, name: value}, None)


def test_in_production_no_page_comes_unencrypted() -> None:
    production = {**ENVIRONMENT, "KOINONIA_ENVIRONMENT": "production"}
    assert load(GatewaySettings, {**production, "KOINONIA_CORS_ORIGINS": "https://a.example"}, None).origins
    with pytest.raises(SettingsError, match="KOINONIA_CORS_ORIGINS"):
        load(GatewaySettings, {**production, "KOINONIA_CORS_ORIGINS": "https://a.example,http://b.example"}, None)
