"""The plans are what the suite promises."""

from collections import Counter
from typing import get_args

from .plan import BLOCK, KILLS, PROCESSES, RECEIPTS, STORMS, STORMS_IN_A_RUN, WORKERS, Deed, plan

SHORT = [plan(seed) for seed in range(BLOCK)]


def test_the_same_seed_is_the_same_plan_and_another_seed_another() -> None:
    assert plan(4711) == plan(4711)
    assert plan(4711).chance().random() == plan(4711).chance().random()
    assert len({plan(seed).steps for seed in range(200)}) == 200


def test_eight_runs_kill_every_process_twice_once_with_keys_and_once_without() -> None:
    for first in (0, BLOCK, 5 * BLOCK):
        runs = [plan(seed) for seed in range(first, first + BLOCK)]
        for idempotency in (True, False):
            kills = [process for run in runs if run.idempotency is idempotency for process in run.kills]
            assert Counter(kills) == dict.fromkeys(PROCESSES, 1)
        assert {len(run.kills) for run in runs} == {KILLS}


def test_the_short_form_has_every_deed_and_every_storm_with_keys_and_without() -> None:
    for idempotency in (True, False):
        steps = [step for run in SHORT if run.idempotency is idempotency for step in run.steps]
        assert {step.deed for step in steps} == set(get_args(Deed))
        assert {step.whom for step in steps if step.deed == "storm"} == {kind for kind, _, _ in STORMS}
    assert {step.whom for run in SHORT for step in run.steps if step.deed == "relay"} == {"delivery", "messaging"}


def test_every_run_has_storms_stops_a_relay_a_chunk_again_and_a_second_broadcast() -> None:
    for run in (plan(seed) for seed in range(100)):
        deeds = Counter(step.deed for step in run.steps)
        assert deeds["storm"] == STORMS_IN_A_RUN
        assert deeds["stops"] == deeds["relay"] == deeds["chunk"] == deeds["repeat"] == 1
        assert deeds["second"] + run.kills.count("gateway") == 1
        assert [step.at for step in run.steps] == sorted(step.at for step in run.steps)
        paused = {step.whom for step in run.steps if step.deed == "pause"}
        assert not paused & set(run.kills)
        killed = [step.at for step in run.steps if step.deed == "kill" and step.whom in WORKERS]
        storms = [step.at for step in run.steps if step.deed == "storm" and step.whom != "rate_limited"]
        assert max(killed, default=0) < min(storms)


def test_receipts_go_wrong_in_every_way() -> None:
    assert {kind for kind, _, _ in RECEIPTS} == {
        "receipt_dropped", "receipt_doubled", "receipt_early", "receipt_reordered", "receipt_late", "final_status"
    }  # fmt: skip
