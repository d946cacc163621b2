"""SendGrid's Mail Send API, version 3. It knows no idempotency keys: an unknown outcome may repeat an e-mail.

Source: www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send
"""

import aiohttp
from aiohttp import hdrs

from koinonia.resilience.backoff import RetryAfter
from koinonia.secret import Secret
from koinonia_delivery.mail.contract import Away, Mail, OutcomeUnknown, Rejected

CALL_SECONDS = 40.0
CONNECT_SECONDS = 10.0
ACCEPTED = 202
_FINAL = frozenset({400, 413})
_BUSY = frozenset({429, 503})


class SendGridMailer:
    """Hands e-mails to SendGrid under the key that the setting holds at that moment."""

    def __init__(self, base_url: str, api_key: Secret) -> None:
        self._url = f"{base_url.rstrip('/')}/v3/mail/send"
        self._api_key = api_key
        self._session: aiohttp.ClientSession | None = None

    async def send(self, mail: Mail) -> None:
        """Hand one e-mail over; see ``Mailer.send``."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, connect=CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        headers = {hdrs.AUTHORIZATION: f"Bearer {self._api_key.value}"}
        try:
            async with self._session.post(
                self._url, json=body_of(mail), headers=headers, allow_redirects=False
            ) as response:
                status, retry_after = response.status, RetryAfter.parse(response.headers.get(hdrs.RETRY_AFTER))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Away(type(error).__name__) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(type(error).__name__) from error
        if status == ACCEPTED:
            return
        if status in _FINAL:
            raise Rejected(str(status))
        if status >= 500 and status not in _BUSY:
            raise OutcomeUnknown(str(status))
        # 401 and 403: the key or the sender is not theirs. 429 and 503: nothing of ours is taken for a while.
        wait = retry_after.seconds if status in _BUSY and retry_after is not None else 0.0
        raise Away(str(status), retry_after_seconds=wait)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def body_of(mail: Mail) -> dict[str, object]:
    """The request. Links stay as they are: a token must pass through nobody's click counter."""
    return {
        "personalizations": [{"to": [{"email": mail.recipient}], "custom_args": {"email_id": str(mail.id)}}],
        "from": {"email": mail.sender, "name": mail.sender_name},
        "subject": mail.subject,
        "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
        "headers": {"Message-ID": mail.message_id, "Auto-Submitted": "auto-generated"},
        "tracking_settings": {
            "click_tracking": {"enable": False, "enable_text": False},
            "open_tracking": {"enable": False},
        },
    }
