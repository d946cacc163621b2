"""From a seed to a plan: which faults, when, on whom. No I/O; the same seed is the same plan.

Seeds come in blocks of eight (0-7, 8-15 …). The first four of a block run with idempotency keys at the carrier, the
others without; each half kills every process once, so that a block kills every process twice.
"""

import random
from dataclasses import dataclass
from typing import Literal

PROCESSES = (
    "gateway",
    "messaging-1",
    "messaging-2",
    "delivery",
    "delivery-worker-1",
    "delivery-worker-2",
    "conversation",
    "billing",
    "compliance",
    "rabbitmq",
    "redis",
    "postgres",
)
WORKERS = ("delivery-worker-1", "delivery-worker-2")
BLOCK = 8
HALF = BLOCK // 2
KILLS = len(PROCESSES) // HALF  # in a run

PEOPLE = 1000
SECOND_PEOPLE = 120  # who get the second broadcast too
RATE = 85  # segments a second of the church's number: what lets a broadcast last
LATENCY_SECONDS = 0.05
STOPS = 6

Deed = Literal["kill", "relay", "pause", "storm", "stops", "second", "chunk", "repeat"]

STORMS: tuple[tuple[str, int, dict[str, float | int]], ...] = (
    ("rate_limited", 8, {"seconds": 1}),
    ("error", 10, {"status": 503}),
    ("reset", 8, {}),
    ("answer_slow", 8, {"seconds": 4}),  # longer than a lease
    ("answer_lost", 12, {}),
    ("answer_error", 8, {"status": 502}),
    ("answer_garbled", 6, {}),
)
"""Kind, how many calls in a row, and more, as the simulated carrier's faults have it."""
LOST_CALLS = frozenset({"error", "reset"})
"""Storms that leave a call without a readable answer and nothing at the carrier."""
STORMS_IN_A_RUN = 3

RECEIPTS: tuple[tuple[str, int, dict[str, str | float]], ...] = (
    ("receipt_dropped", 8, {"event": "finalized"}),
    ("receipt_dropped", 4, {"event": "any"}),
    ("receipt_doubled", 60, {"event": "any"}),
    ("receipt_early", 30, {}),
    ("receipt_reordered", 30, {}),
    ("receipt_late", 20, {"event": "any"}),  # held until the end of the run
    ("receipt_late", 40, {"event": "any", "seconds": 2.0}),
    ("final_status", 8, {"final_status": "delivery_failed", "code": "40006"}),
)
"""Kind, how many people, and more."""


@dataclass(frozen=True)
class Step:
    """One deed, when the carrier has accepted this share of the broadcast.

    ``whom`` is a process (kill, pause), the service whose outbox is looked at (relay), or the fault's kind (storm).
    """

    at: float
    deed: Deed
    whom: str = ""

    def __str__(self) -> str:
        return f"{self.deed} {self.whom}".rstrip()


@dataclass(frozen=True)
class Plan:
    """What happens in one run."""

    seed: int
    idempotency: bool
    steps: tuple[Step, ...]  # in the order of their time

    @property
    def kills(self) -> tuple[str, ...]:
        """The processes killed by name; a relay's kill finds its own."""
        return tuple(step.whom for step in self.steps if step.deed == "kill")

    def chance(self) -> random.Random:
        """The chance by which the run chooses people and events: the same for the same seed."""
        return random.Random(f"people of {self.seed}")


def plan(seed: int) -> Plan:
    """Make the plan of a seed."""
    chance = random.Random(seed)
    place = seed % BLOCK
    kills = _deal(seed // BLOCK, place)
    deeds = [Step(0, "kill", process) for process in kills]
    deeds += [Step(0, "storm", kind) for kind in _storms(seed)]
    deeds += [Step(0, "stops"), Step(0, "chunk"), Step(0, "repeat")]
    deeds.append(Step(0, "relay", chance.choice(("delivery", "delivery", "messaging"))))
    if awake := [worker for worker in WORKERS if worker not in kills]:
        deeds.append(Step(0, "pause", chance.choice(awake)))
    if "gateway" not in kills:  # else the second broadcast is what the gateway dies on
        deeds.append(Step(0, "second"))
    chance.shuffle(deeds)
    deeds = _workers_before_storms(deeds)
    moments = sorted(chance.uniform(0.02, 0.75) for _ in deeds)
    steps = tuple(Step(round(at, 3), step.deed, step.whom) for at, step in zip(moments, deeds, strict=True))
    return Plan(seed, place < HALF, steps)


def _workers_before_storms(deeds: list[Step]) -> list[Step]:
    """The same deeds, where a storm that may open a worker's breaker comes after the workers' kills.

    A worker whose breaker is open holds nobody for longer than the rest of a broadcast may last, so that no kill falls.
    """

    def is_kill(step: Step) -> bool:
        return step.deed == "kill" and step.whom in WORKERS

    def may_open(step: Step) -> bool:
        return step.deed == "storm" and step.whom != "rate_limited"

    moved = iter(sorted((step for step in deeds if is_kill(step) or may_open(step)), key=may_open))
    return [next(moved) if is_kill(step) or may_open(step) else step for step in deeds]


def _deal(block: int, place: int) -> list[str]:
    """The kills of one run: each half of a block deals out all processes."""
    deck = list(PROCESSES)
    random.Random(f"half {block} {place // HALF}").shuffle(deck)
    first = place % HALF * KILLS
    return deck[first : first + KILLS]


def _storms(seed: int) -> list[str]:
    """Some kinds, another window of them for each seed, so that three runs in a row have met all."""
    kinds = [kind for kind, _, _ in STORMS]
    return [kinds[(seed * STORMS_IN_A_RUN + number) % len(kinds)] for number in range(STORMS_IN_A_RUN)]
