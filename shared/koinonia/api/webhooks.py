"""What the carrier calls. The raw body is signed, so it is taken as it came."""

from koinonia.api.endpoint import KIBIBYTE, Endpoint

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
    extra_errors=("AUTH_ERROR",),
)

ENDPOINTS = (TELNYX_STATUS, TELNYX_MMS)
