"""The worker's loop: claim, call, settle, without ever holding a connection to the database over a call.

Claiming, calling and settling run beside each other. How many calls are under way at once follows the carrier's answer
times; a tenth of a second's worth more is claimed ahead, so that claims are large also where few calls at once will do.
Calls end into a list, and whatever stands in it when the last settlement is done is settled next: batches grow with the
load and nobody waits for a timer.

When the process stops: nothing more is claimed; calls that have not begun give their place back; those under way are
finished, or cut off at the drain's end, which makes them unknown; all are settled, so that no lease stays.
"""

import asyncio
import heapq
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import structlog

from koinonia import metrics
from koinonia.db import Database
from koinonia.errors import is_transient
from koinonia.life import Life
from koinonia.resilience.backoff import Backoff
from koinonia_delivery.calls import Caller, attempt_of
from koinonia_delivery.claims import Call, Claim, claim
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.outcomes import Outcome
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.settling import BATCH, settle
from koinonia_delivery.store import claims as store

log = structlog.get_logger()

T = TypeVar("T")

AHEAD_SECONDS = 0.1  # less than a call may wait for its beginning
BUSY_POLL_SECONDS = 0.1  # lanes are woken by retries too, and nobody tells
IDLE_POLL_SECONDS = 1.0
IDLE_AFTER_SECONDS = 60.0
LOCKED_POLL_SECONDS = 0.01  # a claim of another worker is short
LEAST_REST_SECONDS = 0.02  # so that lanes that wake one after the other are claimed together
SETTLE_RESERVE_SECONDS = 3.0  # of the drain, for writing down how the last calls ended
_BACKOFF = Backoff(base_seconds=0.2, max_seconds=5.0)


class Sending:
    """Sends what is due, until the process stops. ``woken`` is set when there is something new."""

    def __init__(
        self, database: Database, caller: Caller, settings: DeliverySettings, life: Life, woken: asyncio.Event
    ) -> None:
        self._database = database
        self._caller = caller
        self._settings = settings
        self._life = life
        self._woken = woken
        self._claimed: list[tuple[float, int, Call]] = []  # a heap: those that have not begun, by when they shall
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._calls: dict[asyncio.Task[Outcome], Call] = {}
        self._ended: list[Outcome] = []
        self._has_ended = asyncio.Event()
        self._freed = asyncio.Event()
        self._drained = asyncio.Event()
        self._paused_until = 0.0
        self._last_work_at = 0.0
        self._begun, self._begun_since, self._per_second = 0, time.monotonic(), 0.0

    async def run(self) -> None:
        """Send until the process stops, then drain."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settle_all())
            group.create_task(self._renew_leases())
            await self._claim_all()
            await self._finish_calls()
            self._drained.set()
            self._has_ended.set()

    async def _claim_all(self) -> None:
        while not self._life.stopping.is_set():
            places = self._free_places()
            if not places:
                await self._life.pause(BUSY_POLL_SECONDS, self._freed)
                continue
            claimed = await self._retrying("claim_failed", partial(self._claim, places))
            if claimed is None:
                return
            for call in claimed.calls:
                self._count += 1
                heapq.heappush(self._claimed, (call.begins_at, self._count, call))
            self._advance()
            if not claimed.progressed:
                await self._rest(claimed.wake_seconds)

    async def _claim(self, places: int) -> Claim:
        started = time.perf_counter()
        claimed = await claim(
            self._database,
            places,
            lease_seconds=self._settings.lease_seconds,
            webhook_url=self._caller.webhook_url,
            resend=self._settings.telnyx_idempotency,
        )
        metrics.claim_seconds.record(time.perf_counter() - started)
        metrics.claims_total.add(1, {"result": "taken" if claimed.calls else "empty"})
        metrics.claimed_total.add(len(claimed.calls))
        metrics.call_limit.set(self._caller.limit.size)
        return claimed

    def _free_places(self) -> int:
        """How many recipients to claim now: none while they are so few that a claim is not worth its cost."""
        if time.monotonic() < self._paused_until or len(self._ended) > 2 * BATCH:
            return 0
        in_hand = len(self._calls) + len(self._claimed)
        if self._caller.breaker.state != "closed":
            return 0 if self._caller.breaker.state == "open" or in_hand else 1  # the probe
        wanted = min(self._caller.limit.size + round(self._begun_per_second() * AHEAD_SECONDS), BATCH)
        free = wanted - in_hand
        return free if free >= max(1, wanted // 5) else 0

    def _begun_per_second(self) -> float:
        now = time.monotonic()
        if (seconds := now - self._begun_since) >= AHEAD_SECONDS:
            self._begun, self._begun_since, self._per_second = 0, now, self._begun / seconds
        return self._per_second

    async def _rest(self, wake_seconds: float | None) -> None:
        idle = not self._calls and time.monotonic() - self._last_work_at > IDLE_AFTER_SECONDS
        seconds = IDLE_POLL_SECONDS if idle else BUSY_POLL_SECONDS
        if wake_seconds is not None and wake_seconds <= 0:
            seconds = LOCKED_POLL_SECONDS * (0.5 + random.random())
        elif wake_seconds is not None:
            seconds = min(max(wake_seconds, LEAST_REST_SECONDS), seconds)
        await self._life.pause(seconds, self._woken)

    def _advance(self) -> None:
        """Begin the calls whose time has come, as far as there are places; give back what waited too long."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        while self._claimed:
            begins_at, _, call = self._claimed[0]
            is_late = now > call.latest_at or self._life.stopping.is_set()
            if not is_late and (now < begins_at or len(self._calls) >= self._caller.limit.size):
                # A millisecond more: timers may fire that much too early.
                wait_seconds = (begins_at if now < begins_at else call.latest_at) - now + 0.001
                self._timer = asyncio.get_running_loop().call_later(wait_seconds, self._advance)
                return
            heapq.heappop(self._claimed)
            if is_late:
                self._note(outcomes.returned(attempt_of(call.claimed)))
            else:
                self._begin(call)

    def _begin(self, call: Call) -> None:
        self._last_work_at = time.monotonic()
        self._begun += 1
        task = asyncio.create_task(self._caller.call(call))
        self._calls[task] = call
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[Outcome]") -> None:
        call = self._calls.pop(task)
        if task.cancelled():
            outcome = outcomes.unknown(attempt_of(call.claimed), self._settings.unknown_outcome_wait)
        elif (error := task.exception()) is not None:
            # A bug of ours; whether the carrier has it, nobody knows. The row tells, and the log.
            log.error("call_failed", recipient_id=str(call.claimed.recipient_id), exc_info=error)
            outcome = outcomes.unknown(attempt_of(call.claimed), self._settings.unknown_outcome_wait)
        else:
            outcome = task.result()
        self._note(outcome)
        self._advance()

    def _note(self, outcome: Outcome) -> None:
        if outcome.pauses_account:
            self._paused_until = time.monotonic() + outcome.pause_seconds
            metrics.account_paused_until.set(time.time() + outcome.pause_seconds)
        self._ended.append(outcome)
        self._has_ended.set()
        if self._free_places():
            self._freed.set()

    async def _settle_all(self) -> None:
        while not (self._drained.is_set() and not self._ended):
            await self._has_ended.wait()
            self._has_ended.clear()
            while self._ended:
                batch = self._ended[:BATCH]
                await self._retrying("settle_failed", partial(self._settle, batch), forever=True)
                del self._ended[: len(batch)]

    async def _settle(self, batch: list[Outcome]) -> bool:
        await settle(self._database, batch, self._settings)
        return True

    async def _renew_leases(self) -> None:
        """Lengthen the leases of what this worker still has in hand, settled or not, until it has drained."""
        while not self._drained.is_set():
            try:
                async with asyncio.timeout(self._settings.lease_seconds / 3):
                    await self._drained.wait()
            except TimeoutError:
                await self._retrying("renew_failed", self._renew, tries=1)

    async def _renew(self) -> bool:
        in_hand = [*self._calls.values(), *(call for _, _, call in self._claimed)]
        held = [(call.claimed.recipient_id, call.claimed.attempt) for call in in_hand]
        held += [(outcome.recipient_id, outcome.attempt) for outcome in self._ended]
        if held:
            async with self._database.across_churches() as tx:
                await store.renew(tx, held, self._settings.lease_seconds)
        return True

    async def _finish_calls(self) -> None:
        self._advance()
        if not self._calls:
            return
        seconds = max(0.0, self._settings.drain_seconds - SETTLE_RESERVE_SECONDS)
        _, late = await asyncio.wait(list(self._calls), timeout=seconds)
        for task in late:
            log.warning("call_cut_off", recipient_id=str(self._calls[task].claimed.recipient_id))
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _retrying(
        self, event: str, work: Callable[[], Awaitable[T]], *, tries: int | None = None, forever: bool = False
    ) -> T | None:
        """Do it again while the database is away; None: given up, for want of tries or because the process stops.

        ``forever``: also while it stops, until the drain ends; what calls ended in must not be lost.
        """
        failed = 0
        while True:
            try:
                return await work()
            except Exception as error:
                if not is_transient(error):
                    raise
                failed += 1
                log.warning(event, reason=type(error).__name__, tries=failed)
                if failed == tries or (self._life.stopping.is_set() and not forever):
                    return None
            await asyncio.sleep(_BACKOFF.delay_seconds(failed))
