"""What the carrier and Stripe call. The raw body is signed, so it is taken as it came."""

from typing import Any

from koinonia.api.endpoint import KIBIBYTE, Endpoint


def _event(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    """An event as the carrier writes it, less what we do not read."""
    at = "2026-11-22T14:30:00.000+00:00"
    event_id = "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0"
    data = {"record_type": "event", "event_type": kind, "id": event_id, "occurred_at": at, "payload": payload}
    return {"data": data, "meta": {"attempt": 1, "delivered_to": "https://texts.example/api/webhooks/telnyx"}}


_TEXT_ID = "40385f64-5717-4562-b3fc-2c963f66afa6"
TELNYX_STATUS = Endpoint(
    name="webhooks.telnyxStatus",
    method="POST",
    path="/api/webhooks/telnyx/status",
    owner="gateway",
    summary="Delivery receipts",
    description="Signed with Ed25519 over timestamp and body; answered 200 once the receipt is safe.",
    access="public",
    body_limit=256 * KIBIBYTE,
    raw_body=True,
    raw_example=_event(
        "message.finalized",
        {
            "id": _TEXT_ID,
            "from": {"phone_number": "+12055550100"},
            "to": [{"phone_number": "+13125550142", "status": "delivered"}],
            "parts": 1,
        },
    ),
    extra_errors=("AUTH_ERROR",),
)
TELNYX_MMS = Endpoint(
    name="webhooks.telnyxMms",
    method="POST",
    path="/api/webhooks/telnyx/mms",
    owner="gateway",
    summary="Inbound texts and pictures",
    description="Signed with Ed25519 over timestamp and body; answered 200 once the text is safe.",
    access="public",
    body_limit=256 * KIBIBYTE,
    raw_body=True,
    raw_example=_event(
        "message.received",
        {
            "id": _TEXT_ID,
            "from": {"phone_number": "+13125550142"},
            "to": [{"phone_number": "+12055550100"}],
            "text": "I can bring soup.",
        },
    ),
    extra_errors=("AUTH_ERROR",),
)
STRIPE = Endpoint(
    name="webhooks.stripe",
    method="POST",
    path="/api/webhooks/stripe",
    owner="gateway",
    summary="Payments",
    description="Signed with HMAC-SHA256 over time and body (`Stripe-Signature`); answered 200 once it is stored.",
    access="public",
    body_limit=256 * KIBIBYTE,
    raw_body=True,
    raw_example={
        "id": "evt_1SWQ2mKoinonia0000000000",
        "object": "event",
        "type": "invoice.paid",
        "created": 1795358400,
        "livemode": True,
        "data": {
            "object": {"id": "in_1SWQ2mKoinonia0000000000", "object": "invoice", "customer": "cus_Koinonia000000"}
        },
    },
    extra_errors=("AUTH_ERROR",),
)

ENDPOINTS = (TELNYX_STATUS, TELNYX_MMS, STRIPE)
