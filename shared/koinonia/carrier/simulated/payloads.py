"""Telnyx's JSON as it is written: messages, events, records, numbers."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from koinonia.carrier.simulated.record import InboundText, Status, Text
from koinonia.carrier.simulated.registry import Number, NumberOrder, OptOut, Profile

ORGANIZATION = "b448f9cc-a842-4784-98e9-03c1a5872950"
VALID_FOR = timedelta(hours=1)  # in the carrier's queue
_COST_OF_PART = 0.004
_DETAIL_STATUSES = {
    "sent": "dlr_unconfirmed",
    "delivered": "delivered",
    "delivery_failed": "failed",
    "delivery_unconfirmed": "dlr_unconfirmed",
    "sending_failed": "gw_reject",
    "expired": "gw_timeout",
}


def moment(at: datetime | None) -> str | None:
    """A time as Telnyx writes it."""
    return None if at is None else at.isoformat(timespec="milliseconds")


def accepted(text: Text) -> dict[str, object]:
    """The answer to the POST. It is made of what was fixed then, so that a repeat's is the same, byte for byte."""
    return {
        **_message(text, "queued"),
        "valid_until": moment(text.accepted_at + VALID_FOR),
        "sent_at": None,
        "completed_at": None,
        "errors": [],
        "wait_seconds": text.wait_seconds,
    }


def outbound(text: Text, status: Status) -> dict[str, object]:
    """A text as it was when it had this status."""
    final = status not in {"queued", "sent"}
    failed = final and text.error_code is not None
    return {
        **_message(text, status),
        "valid_until": None,
        "sent_at": moment(text.sent_at),
        "completed_at": moment(text.completed_at) if final else None,
        "errors": [{"code": text.error_code, "title": text.error_title or "Undeliverable"}] if failed else [],
        "wait_seconds": None,
    }


def _message(text: Text, status: Status) -> dict[str, object]:
    return {
        "record_type": "message",
        "direction": "outbound",
        "id": text.id,
        "type": "MMS" if text.media_urls else "SMS",
        "organization_id": ORGANIZATION,
        "messaging_profile_id": text.profile_id,
        "from": {"phone_number": text.sender, "carrier": "Telnyx", "line_type": "Wireless"},
        "to": [
            {"phone_number": text.recipient, "status": status, "carrier": "T-MOBILE USA, INC.", "line_type": "Wireless"}
        ],
        "cc": [],
        "text": text.text,
        "num_chars": len(text.text or ""),
        "subject": text.subject,
        "media": [{"url": url, "content_type": None, "sha256": None, "size": None} for url in text.media_urls],
        "webhook_url": text.webhook_url,
        "webhook_failover_url": text.webhook_failover_url,
        "encoding": text.encoding,
        "parts": text.parts,
        "tags": [],
        "cost": {"amount": f"{text.parts * _COST_OF_PART:.4f}", "currency": "USD"},
        "tcr_campaign_id": None,
        "tcr_campaign_billable": False,
        "tcr_campaign_registered": None,
        "received_at": moment(text.accepted_at),
        "smart_encoding_applied": False,
    }


def inbound(text: InboundText) -> dict[str, object]:
    """A text from a person."""
    return {
        "record_type": "message",
        "direction": "inbound",
        "id": text.id,
        "type": "MMS" if text.media_urls else "SMS",
        "organization_id": ORGANIZATION,
        "messaging_profile_id": text.profile_id,
        "from": {"phone_number": text.sender, "carrier": "T-Mobile USA", "line_type": "Wireless", "status": "received"},
        "to": [
            {
                "phone_number": text.recipient,
                "carrier": "Telnyx",
                "line_type": "Wireless",
                "status": "webhook_delivered",
            }
        ],
        "cc": [],
        "text": text.text,
        "num_chars": len(text.text or ""),
        "subject": None,
        "media": [
            {"url": url, "content_type": "image/jpeg", "hash_sha256": None, "size": 0} for url in text.media_urls
        ],
        "encoding": text.encoding,
        "parts": text.parts,
        "tags": [],
        "cost": {"amount": "0.0000", "currency": "USD"},
        "received_at": moment(text.received_at),
        "sent_at": None,
        "completed_at": None,
        "autoresponse_type": text.autoresponse_type,
        "is_spam": False,
        "errors": [],
    }


def detail_record(text: Text) -> dict[str, object]:
    """A text in the detail records, which have other words for its status."""
    return {
        "record_type": "message_detail_record",
        "uuid": text.id,
        "direction": "outbound",
        "message_type": "MMS" if text.media_urls else "SMS",
        "cli": text.sender,
        "cld": text.recipient,
        "status": _DETAIL_STATUSES[text.status],
        "created_at": moment(text.accepted_at),
        "sent_at": moment(text.sent_at),
        "completed_at": moment(text.completed_at),
        "updated_at": moment(text.completed_at or text.sent_at),
        "parts": text.parts,
        "profile_id": text.profile_id,
        "delivery_status_webhook_url": text.webhook_url,
        "delivery_status_failover_url": text.webhook_failover_url,
        "cost": f"{text.parts * _COST_OF_PART:.4f}",
        "currency": "USD",
        "errors": [text.error_code] if text.error_code else [],
    }


def profile(of: Profile) -> dict[str, object]:
    """A messaging profile."""
    return {
        "record_type": "messaging_profile",
        "id": of.id,
        "name": of.name,
        "organization_id": ORGANIZATION,
        "enabled": of.enabled,
        "webhook_url": of.webhook_url,
        "webhook_failover_url": of.webhook_failover_url,
        "webhook_api_version": "2",
        "whitelisted_destinations": of.whitelisted_destinations,
        "created_at": moment(of.created_at),
        "updated_at": moment(of.updated_at),
    }


def available_number(phone: str) -> dict[str, object]:
    """A number that can be ordered."""
    return {
        "record_type": "available_phone_number",
        "phone_number": phone,
        "features": [{"name": "sms"}, {"name": "mms"}, {"name": "voice"}],
        "cost_information": {"upfront_cost": "1.00000", "monthly_cost": "1.00000", "currency": "USD"},
        "region_information": [{"region_type": "country_code", "region_name": "US"}],
        "best_effort": False,
        "quickship": True,
        "reservable": True,
    }


def number(of: Number) -> dict[str, object]:
    """A number of the account."""
    return {
        "record_type": "phone_number",
        "id": of.id,
        "phone_number": of.phone,
        "status": "active",
        "phone_number_type": "toll_free" if of.kind == "toll-free" else "local",
        "messaging_profile_id": of.profile_id,
        "created_at": moment(of.created_at),
    }


def messaging_settings(of: Number) -> dict[str, object]:
    """A number's messaging settings."""
    features = {"domestic_two_way": True, "international_inbound": True, "international_outbound": False}
    return {
        "record_type": "messaging_settings",
        "id": of.id,
        "phone_number": of.phone,
        "messaging_profile_id": of.profile_id,
        "messaging_product": "A2P",
        "type": of.kind,
        "country_code": "US",
        "features": {"sms": features, "mms": features},
        "health": None,
        "organization_id": ORGANIZATION,
        "created_at": moment(of.created_at),
        "updated_at": moment(of.created_at),
    }


def number_order(of: NumberOrder) -> dict[str, object]:
    """An order of numbers."""
    return {
        "record_type": "number_order",
        "id": of.id,
        "status": of.status,
        "phone_numbers": [
            {
                "record_type": "number_order_phone_number",
                "id": f"{of.id}-{place}",
                "phone_number": phone,
                "status": of.status,
            }
            for place, phone in enumerate(of.phones)
        ],
        "phone_numbers_count": len(of.phones),
        "messaging_profile_id": of.profile_id,
        "customer_reference": of.customer_reference,
        "requirements_met": True,
        "created_at": moment(of.created_at),
        "updated_at": moment(of.created_at),
    }


def opt_out(of: OptOut) -> dict[str, object]:
    """A block."""
    return {
        "messaging_profile_id": of.profile_id,
        "from": of.number,
        "to": of.person,
        "keyword": of.keyword,
        "created_at": moment(of.created_at),
    }


def page_of(rows: Sequence[object], number: int, size: int) -> dict[str, object]:
    """One page of a list, from 1, with its place."""
    total_pages = max(1, -(-len(rows) // size))
    meta = {"page_number": number, "page_size": size, "total_pages": total_pages, "total_results": len(rows)}
    return {"data": rows[(number - 1) * size : number * size], "meta": meta}
