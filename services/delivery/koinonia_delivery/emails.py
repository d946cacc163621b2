"""E-mails: stored once, claimed under a lease, handed over, settled. No transaction is open while a server is called.

What can happen between the steps, and what then:

1. killed before the claim commits: nothing has happened;
2. stopped so long before the handing over that another worker has it: the lease, looked at again, forbids it;
3. killed before the settling, or the server did not answer: nobody knows whether it went. It is sent again under the
   same Message-ID, as SMTP wants it, ``UNKNOWNS`` times in all, then it has failed. This is the one way to a second
   copy; a way that is a file has none.
"""

import asyncio
import time

import msgspec
import structlog
from opentelemetry.trace import SpanKind

from koinonia import metrics, telemetry
from koinonia.db import Database, Transaction
from koinonia.errors import is_transient
from koinonia.events import Envelope
from koinonia.events.delivery import EmailRequested
from koinonia.life import Life
from koinonia.resilience.backoff import Backoff
from koinonia.resilience.breaker import Breaker, BreakerOpen, Call
from koinonia.security.encryption import CiphertextInvalid
from koinonia.security.keys import Keys
from koinonia_delivery.domain import letters
from koinonia_delivery.domain.mailing import Ending, Outcome, judge
from koinonia_delivery.mail.contract import Away, Mail, Mailer, MailError, OutcomeUnknown, Refused, Rejected
from koinonia_delivery.store import emails as store
from koinonia_delivery.store.emails import Claimed

log = structlog.get_logger()

PLACES = 8
PROBE_SECONDS = 50.0  # a call that lasts longer has reached its server: connections and commands take less
LEASE_SECONDS = 60.0  # renewed during a call, which may take ten minutes
POLL_SECONDS = 1.0
KEPT_DAYS = 7
FORGET_ROWS = 1000
_BACKOFF = Backoff(base_seconds=0.2, max_seconds=5.0)
_ENDINGS: dict[type[MailError], Ending] = {
    Away: "away",
    Refused: "refused",
    Rejected: "rejected",
    OutcomeUnknown: "unknown",
}


async def request(tx: Transaction, received: Envelope[EmailRequested]) -> None:
    """Store the wish; a worker sends it."""
    await store.insert(tx, received.data)


def mail_breaker() -> Breaker:
    """The switch in front of the mail server: it opens when the server is away, not when it refuses an e-mail."""
    return Breaker("mail", is_failure=lambda error: isinstance(error, Away | OutcomeUnknown))


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Who e-mails come from, and where their links lead."""

    name: str
    address: str
    public_url: str


class Mailing:
    """Sends e-mails until the process stops. ``woken`` is set when there is a new one."""

    def __init__(
        self,
        database: Database,
        mailer: Mailer,
        keys: Keys,
        sender: Sender,
        *,
        life: Life,
        woken: asyncio.Event,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._mailer = mailer
        self._keys = keys
        self._sender = sender
        self._life = life
        self._woken = woken
        self._lease_seconds = lease_seconds
        self._breaker = mail_breaker()
        self._in_hand = 0
        self._probe: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Claim and send, a handful at once; what is under way when the process stops is finished and settled."""
        failed = 0
        async with asyncio.TaskGroup() as group:
            while not self._life.stopping.is_set():
                try:
                    claimed = await self.begin_due(group)
                except Exception as error:
                    if not is_transient(error):
                        raise
                    failed += 1
                    log.warning("email_claim_failed", reason=type(error).__name__, tries=failed)
                    await self._life.pause(_BACKOFF.delay_seconds(failed))
                    continue
                failed = 0
                if not claimed:
                    await self._life.pause(POLL_SECONDS, self._woken)

    async def begin_due(self, group: asyncio.TaskGroup) -> int:
        """Claim what is due, as far as there are places, and begin to send each; answers how many were claimed."""
        state, places = self._breaker.state, PLACES - self._in_hand
        if state == "half_open":
            places = min(places, 1) if self._probe is None or self._probe.done() else 0
        if state == "open" or not places:
            return 0
        async with self._database.across_churches() as tx:
            claimed = await store.claim(tx, places, self._lease_seconds)
        for each in claimed:
            if each.status == "sending":
                self._in_hand += 1
                task = group.create_task(self._send(each))
                self._probe = task if state == "half_open" else None
            else:
                _tell(each, each.status, each.error_code)
        return len(claimed)

    async def _send(self, claimed: Claimed) -> None:
        """Send one and settle it, whatever becomes of the others."""
        started = time.perf_counter()
        try:
            ending, code, wait = await self._try(claimed)
            metrics.email_seconds.record(time.perf_counter() - started)
            metrics.emails_total.add(1, {"template": claimed.template, "outcome": ending})
            outcome = judge(
                claimed.id,
                ending,
                attempt=claimed.attempt,
                refusals=claimed.refusals,
                unknowns=claimed.unknowns,
                code=code,
                retry_after_seconds=wait,
            )
            await self._settle(claimed, outcome)
        except Exception:
            # A bug of ours: it comes again when its lease has ended. Raised, it would cancel the others in mid-call.
            log.exception("email_not_settled", email_id=str(claimed.id))
        finally:
            self._in_hand -= 1
            self._woken.set()  # there is a place

    async def _try(self, claimed: Claimed) -> tuple[Ending, str | None, float]:
        try:
            mail = self.compose(claimed)
        except letters.AddressInvalid:
            return "rejected", "address", 0.0
        except (CiphertextInvalid, KeyError, msgspec.DecodeError):
            # A key or a template is missing here: another process, or a newer one, has it.
            log.error("email_unreadable", email_id=str(claimed.id), template=claimed.template)
            return "unreadable", None, 0.0
        if not await self._renew(claimed):
            return "returned", None, 0.0
        try:
            with (
                self._breaker.guard() as call,
                telemetry.work("send e-mail", kind=SpanKind.CLIENT, attributes={"email_id": str(claimed.id)}),
            ):
                await self._hand_over(claimed, mail, call)
        except BreakerOpen:
            return "returned", None, 0.0
        except MailError as error:
            return _ENDINGS[type(error)], error.code, error.retry_after_seconds
        except Exception:
            # A bug of ours; whether the server has it, nobody knows. One e-mail must not keep the others back.
            log.exception("email_call_failed", email_id=str(claimed.id))
            return "unknown", "bug", 0.0
        return "sent", None, 0.0

    async def _hand_over(self, claimed: Claimed, mail: Mail, call: Call) -> None:
        """Hand it over, and renew its lease meanwhile. A server that is slow over a probe holds up no other e-mail.

        Raises:
            MailError: as the server says.
        """
        sending = asyncio.ensure_future(self._mailer.send(mail))
        passing = asyncio.get_running_loop().call_later(PROBE_SECONDS, self._breaker.pass_probe, call)
        try:
            while not (await asyncio.wait([sending], timeout=self._lease_seconds / 3))[0]:
                await self._renew(claimed)
        finally:
            passing.cancel()
            sending.cancel()
        await sending

    async def _renew(self, claimed: Claimed) -> bool:
        """Whether the lease holds for certain: no other worker has the e-mail, nobody deleted it."""
        try:
            async with self._database.across_churches() as tx:
                return await store.renew(tx, claimed, self._lease_seconds)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("email_lease_not_renewed", email_id=str(claimed.id), reason=type(error).__name__)
            return False

    def compose(self, claimed: Claimed) -> Mail:
        """The e-mail in the clear, which nothing but the way to its server sees.

        Raises:
            CiphertextInvalid, KeyError, msgspec.DecodeError: it cannot be read or written here.
            AddressInvalid: it can be sent to nobody.
        """
        if claimed.email_ciphertext is None or claimed.fields_ciphertext is None:
            raise CiphertextInvalid
        fields = self._keys.decrypt(claimed.fields_ciphertext, claimed.church_id, "fields")
        letter = letters.write(
            claimed.template,
            msgspec.json.decode(fields, type=dict[str, str]),
            self._sender.public_url,
        )
        return Mail(
            id=claimed.id,
            created_at=claimed.created_at,
            sender_name=self._sender.name,
            sender=self._sender.address,
            recipient=letters.address(self._keys.decrypt(claimed.email_ciphertext, claimed.church_id, "email")),
            subject=letter.subject,
            text=letter.text,
            html=letter.html,
        )

    async def _settle(self, claimed: Claimed, outcome: Outcome) -> None:
        if not await self._write(outcome):
            log.warning("email_settled_late", email_id=str(claimed.id))
        elif outcome.status != "queued":
            _tell(claimed, outcome.status, outcome.code)
        elif outcome.code is not None:
            log.warning("email_waits", email_id=str(claimed.id), code=outcome.code, seconds=outcome.wait_seconds)

    async def _write(self, outcome: Outcome) -> bool:
        """Settle, also while the process stops: what was handed over must not be sent again for want of a row."""
        failed = 0
        while True:
            try:
                async with self._database.across_churches() as tx:
                    return await store.settle(tx, outcome)
            except Exception as error:
                if not is_transient(error):
                    raise
                failed += 1
                log.warning("email_settle_failed", reason=type(error).__name__, tries=failed)
            await asyncio.sleep(_BACKOFF.delay_seconds(failed))


def _tell(email: Claimed, status: str, code: str | None) -> None:
    """Say how an e-mail ended; only a failed one is anybody's business."""
    metrics.emails_ended_total.add(1, {"template": email.template, "status": status})
    say = log.error if status == "failed" else log.info
    say(f"email_{status}", email_id=str(email.id), church_id=str(email.church_id), template=email.template, code=code)


async def forget_old(database: Database) -> None:
    """Delete what ended days ago."""
    count = FORGET_ROWS
    while count == FORGET_ROWS:
        async with database.across_churches() as tx:
            count = await store.forget(tx, KEPT_DAYS, FORGET_ROWS)


async def read_figures(database: Database) -> None:
    """How many wait, and how many failed, for the metrics."""
    async with database.across_churches() as tx:
        metrics.emails_kept.show(await store.count(tx))
