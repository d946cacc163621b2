"""``make mutants``: plants one bug at a time in a copy of the code, and shows which tests turn red.

A suite proves something only if it can fail. Each mutant takes away one rule that must hold, and names the tests that
stand for it; all of those must be green without the bug, and at least one red with it. The checkout is not touched.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv", ".run", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache", ".hypothesis"),
    *("__pycache__", ".coverage", "build", "dist"),
)
CONSUMING = "shared/tests/integration/bus/test_consuming.py"
RELAYING = "shared/tests/integration/bus/test_relaying.py"
DATABASE = "shared/tests/integration/db/test_database.py"
CATALOGUE = "shared/tests/integration/db/test_catalogue.py"
REDACTION = "shared/tests/unit/security/test_redaction.py"
TELEMETRY = "shared/tests/unit/test_telemetry.py"
CHUNKS = "services/delivery/tests/integration/test_chunks.py"
CHOOSING = "services/delivery/tests/unit/test_choosing.py"
LANES = "services/delivery/tests/integration/test_lanes.py"
CONSENTS = "services/delivery/tests/integration/test_consents.py"
CANCELLING = "services/delivery/tests/integration/test_cancelling.py"
PAUSES = "services/delivery/tests/integration/test_pauses.py"
QUIET = "services/delivery/tests/integration/test_quiet_hours.py"
CLAIMS = "services/delivery/tests/integration/test_claims.py"
SETTLING = "services/delivery/tests/integration/test_settling.py"
WEBHOOKS = "services/gateway/tests/integration/test_webhooks.py"
STRIPE = "services/gateway/tests/integration/test_stripe.py"
RECEIPTS = "services/delivery/tests/integration/test_receipts.py"
APPROVALS = "services/messaging/tests/integration/test_approvals.py"
EXCLUSIONS = "services/messaging/tests/integration/test_exclusions.py"
URGENT = "services/messaging/tests/integration/test_quiet_hours.py"
RESENDING = "services/messaging/tests/integration/test_resending.py"
WEEKLY = "services/messaging/tests/integration/test_weekly_limit.py"


@dataclass(frozen=True)
class Edit:
    """What is planted: ``old``, which the file has ``times`` times, becomes ``new``."""

    path: str
    old: str
    new: str
    times: int = 1

    def plant(self, tree: Path) -> None:
        """Change the file in the copy."""
        file = tree / self.path
        file.write_text(self.find(tree).replace(self.old, self.new))

    def find(self, tree: Path) -> str:
        """The file's code, which has what is to be replaced."""
        code = (tree / self.path).read_text()
        found = code.count(self.old)
        if found != self.times:
            raise SystemExit(f"{self.path} has {found} times, not {self.times} times: {self.old.strip()!r}")
        return code


@dataclass(frozen=True)
class Mutant:
    """A rule taken away, and the tests of which at least one must notice."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "the inbox is not asked",
        (
            Edit(
                "shared/koinonia/bus/applying.py",
                "return await inbox.note(tx, self.queue, envelopes) if self._subscription.inbox else envelopes",
                "return envelopes",
            ),
        ),
        (
            f"{CONSUMING}::test_an_event_delivered_twice_is_applied_once",
            f"{CONSUMING}::test_a_replayed_dead_letter_is_applied_once",
            f"{RELAYING}::test_a_relay_killed_between_confirm_and_commit_publishes_again_and_the_consumer_applies_once",
        ),
    ),
    Mutant(
        "the end of a call counts whatever its attempt",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/outcomes.py",
                "WHERE outcome.id = work.recipient_id AND outcome.attempt = work.attempt",
                "WHERE outcome.id = work.recipient_id",
            ),
            Edit(
                "services/delivery/koinonia_delivery/store/outcomes.py",
                "ON outcome.id = before.id AND outcome.attempt = before.attempt",
                "ON outcome.id = before.id",
            ),
        ),
        (
            f"{SETTLING}::test_a_worker_that_wakes_after_its_row_was_claimed_anew_changes_nothing",
            f"{SETTLING}::test_two_ends_of_one_recipient_in_a_batch_count_by_their_attempts",
        ),
    ),
    Mutant(
        "a lease is renewed whatever its attempt",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/claims.py",
                "ON held.id = work.recipient_id AND held.attempt = work.attempt",
                "ON held.id = work.recipient_id",
            ),
        ),
        (f"{CLAIMS}::test_a_worker_that_wakes_renews_no_lease_of_a_later_attempt",),
    ),
    Mutant(
        "a doubt is given up whatever its attempt",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/doubts.py",
                " AND doubt.state = work.state AND doubt.attempt = work.attempt",
                " AND doubt.state = work.state",
            ),
        ),
        (f"{SETTLING}::test_a_look_up_that_took_long_gives_up_no_later_attempt",),
    ),
    Mutant(
        "a claim does not ask who opted out",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/claims.py",
                "WHEN {IS_SUPPRESSED} THEN 'suppressed'",
                "WHEN {IS_SUPPRESSED} THEN NULL",
            ),
        ),
        (f"{CLAIMS}::test_who_opted_out_after_the_chunk_is_closed_at_the_claim",),
    ),
    Mutant(
        "a claim does not ask whose number is held",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/claims.py",
                "WHEN {IS_HELD} THEN 'held'",
                "WHEN {IS_HELD} THEN NULL",
            ),
        ),
        (f"{CLAIMS}::test_a_held_number_waits_and_stays_queued",),
    ),
    Mutant(
        "a cancel or a resumption does not wait for the claims under way",
        (
            Edit(
                "services/delivery/koinonia_delivery/messages.py",
                "    await suppressions.lock_claims(tx, tx.tenant)\n",
                "",
                times=2,
            ),
        ),
        (
            f"{CANCELLING}::test_a_cancel_waits_for_the_claim_under_way_and_the_next_claim_for_the_cancel",
            f"{PAUSES}::test_a_resumption_waits_for_the_claim_that_sets_rows_aside",
        ),
    ),
    Mutant(
        "an older pause undoes a newer resumption",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/broadcasts.py",
                "    WHERE broadcasts.pause_version < excluded.pause_version\n",
                "",
            ),
        ),
        (f"{PAUSES}::test_of_pauses_and_resumptions_in_any_order_the_latest_version_holds",),
    ),
    Mutant(
        "a claim does not ask whose broadcast rests",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/claims.py",
                "broadcasts.paused_at IS NOT NULL THEN 'paused'",
                "broadcasts.paused_at IS NOT NULL THEN NULL",
            ),
        ),
        (
            f"{PAUSES}::test_what_the_sweep_has_not_reached_is_set_aside_by_the_claim",
            f"{PAUSES}::test_what_comes_back_while_its_broadcast_rests_is_set_aside_too",
        ),
    ),
    Mutant(
        "broadcasts go in quiet hours",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/claims.py",
                "WHEN quiet.ends_at IS NOT NULL THEN 0\n",
                "",
            ),
        ),
        (
            f"{QUIET}::test_a_broadcast_goes_by_the_clocks_of_its_church",
            f"{QUIET}::test_what_was_refused_or_lost_before_they_began_waits_for_their_end",
        ),
    ),
    Mutant(
        "a sender passes over quiet hours",
        (
            Edit(
                "services/messaging/koinonia_messaging/messages.py",
                "    if urgent and actor.role not in MANAGERS:\n",
                "    if urgent and actor.role == 'viewer':\n",
            ),
        ),
        (
            f"{URGENT}::test_a_sender_sends_and_plans_nothing_urgent",
            f"{URGENT}::test_a_scheduled_message_becomes_urgent_by_an_admin_alone",
        ),
    ),
    Mutant(
        "two messages at once both find room in somebody's week",
        (
            Edit(
                "services/messaging/koinonia_messaging/broadcasts.py",
                "        await weekly_store.lock(tx)\n",
                "        pass\n",
            ),
        ),
        (f"{WEEKLY}::test_of_two_messages_at_once_one_takes_the_last_text_of_a_week",),
    ),
    Mutant(
        "other quiet hours do not wake the lane that sleeps until the old ones end",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/lanes.py",
                "SET wake_at = least(lanes.wake_at, excluded.wake_at),\n        quiet_timezone",
                "SET quiet_timezone",
            ),
        ),
        (
            f"{QUIET}::test_other_settings_hold_at_once",
            f"{QUIET}::test_hours_that_are_switched_off_while_a_claim_looks_are_not_slept_through",
        ),
    ),
    Mutant(
        "a hold does not wait for the claims under way",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/suppressions.py",
                "SELECT pg_advisory_xact_lock(hashtextextended('delivery.church.' || $1, 0))",
                "SELECT $1::text",
            ),
        ),
        (f"{CLAIMS}::test_a_hold_waits_for_the_claim_under_way_and_the_next_claim_for_the_hold",),
    ),
    Mutant(
        "a claim does not lock its churches before it reads who opted out",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/claims.py",
                "pg_advisory_xact_lock_shared(hashtextextended('delivery.church.' || lane.church_id, 0))",
                "lane.church_id",
            ),
        ),
        (
            f"{CLAIMS}::test_a_hold_waits_for_the_claim_under_way_and_the_next_claim_for_the_hold",
            f"{CLAIMS}::test_compliances_answer_waits_for_the_claim_under_way_and_the_next_claim_for_the_answer",
            f"{CONSENTS}::test_a_withdrawal_waits_for_the_claim_under_way_and_the_next_claim_for_it",
        ),
    ),
    Mutant(
        "what becomes claimable again does not wake its lane",
        (
            Edit(
                "services/delivery/koinonia_delivery/migrations/0002_lanes.up.sql",
                "CREATE TRIGGER work_updated AFTER UPDATE ON work\n"
                "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION wake_lanes();\n",
                "",
            ),
        ),
        (
            f"{LANES}::test_a_lane_wakes_for_the_repeat_of_an_unknown_one",
            f"{LANES}::test_whatever_can_be_claimed_has_a_lane_that_wakes_for_it",
        ),
    ),
    Mutant(
        "a lane sleeps over what another has locked",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/claims.py",
                "ORDER BY work.due_at, work.recipient_id\n                OFFSET CASE WHEN taken.rows",
                "    AND work.due_at > (SELECT moment.now FROM moment)\n"
                "ORDER BY work.due_at, work.recipient_id OFFSET 0 * CASE WHEN taken.rows",
            ),
        ),
        (
            f"{LANES}::test_what_others_have_locked_keeps_the_lane_awake",
            f"{LANES}::test_whatever_can_be_claimed_has_a_lane_that_wakes_for_it",
        ),
    ),
    Mutant(
        "whoever had a turn stays in front",
        (
            Edit(
                "services/delivery/koinonia_delivery/domain/choosing.py",
                "now + timedelta(microseconds=turn)",
                "now",
            ),
        ),
        (f"{CHOOSING}::test_turns_go_on_where_the_claim_before_ended",),
    ),
    Mutant(
        "a number's clock runs at its full rate",
        (Edit("services/delivery/koinonia_delivery/domain/choosing.py", "PACE = 0.97", "PACE = 1.0"),),
        (f"{CHOOSING}::test_ten_seconds_hold_at_most_their_worth_and_one_text_and_little_less",),
    ),
    Mutant(
        "the outbox lets go of what the broker did not take",
        (
            Edit(
                "shared/koinonia/bus/relay.py",
                "confirmed = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome is None]",
                "confirmed = rows",
            ),
        ),
        (
            f"{RELAYING}::test_an_event_without_a_queue_stays_and_alarms_and_holds_up_no_other",
            f"{RELAYING}::test_an_event_that_closes_the_channel_stays_and_alarms_and_holds_up_no_other",
        ),
    ),
    Mutant(
        "an event that waits already is a conflict",
        (
            Edit(
                "shared/koinonia/bus/outbox.py",
                "        ON CONFLICT (id) DO NOTHING  -- the same event, waiting already\n",
                "",
            ),
        ),
        (f"{WEBHOOKS}::test_a_text_that_comes_again_while_the_broker_is_away_is_stored_once_and_safe",),
    ),
    Mutant(
        "what Stripe tells again goes out again",
        (
            Edit(
                "services/gateway/koinonia_gateway/payments.py",
                "add_envelopes(tx, *new)",
                "add_envelopes(tx, envelope)",
            ),
        ),
        (f"{STRIPE}::test_an_event_that_comes_again_is_published_once",),
    ),
    Mutant(
        "what Stripe signed is good for ever",
        (Edit("shared/koinonia/stripe.py", " or not is_fresh(timestamp)", ""),),
        ("shared/tests/unit/test_stripe.py::test_what_stripe_signs_is_good_for_five_minutes_either_way",),
    ),
    Mutant(
        "events are published without a confirm",
        (Edit("shared/koinonia/bus/publisher.py", "confirms=True", "confirms=False", times=2),),
        (
            f"{RELAYING}::test_an_event_without_a_queue_stays_and_alarms_and_holds_up_no_other",
            f"{RELAYING}::test_the_publisher_tells_what_has_no_queue_from_what_arrived",
        ),
    ),
    Mutant(
        "a chunk that comes again is a conflict",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/recipients.py",
                "        ON CONFLICT (id) DO NOTHING\n        RETURNING id, status, segments, phone_index",
                "        RETURNING id, status, segments, phone_index",
            ),
        ),
        (f"{CHUNKS}::test_the_same_recipients_from_two_streamers_are_stored_once",),
    ),
    Mutant(
        "a later receipt wins, whatever it weighs",
        (
            Edit(
                "services/delivery/koinonia_delivery/store/receipts.py",
                "WHEN verdict.rank <= before.rank THEN before.status",
                "WHEN verdict.rank < 0 THEN before.status",
            ),
        ),
        (f"{RECEIPTS}::test_any_order_of_receipts_ends_in_the_same_state",),
    ),
    Mutant(
        "a church sees every church's rows",
        (
            Edit(
                "shared/koinonia/db/tools.sql",
                "$tenant$church_id = nullif(current_setting('koinonia.church_id', true), '')::uuid$tenant$",
                "$tenant$true$tenant$",
            ),
        ),
        (
            f"{DATABASE}::test_a_church_sees_its_rows_and_no_others",
            f"{DATABASE}::test_a_row_of_another_church_cannot_be_written",
            f"{CATALOGUE}::test_a_migrated_database_has_no_fault",
        ),
    ),
    Mutant(
        "one table of a church is not protected",
        (
            Edit(
                "services/messaging/koinonia_messaging/migrations/0001_people_and_messages.up.sql",
                "CALL pg_temp.protect('members');",
                "GRANT SELECT, INSERT, UPDATE, DELETE ON members TO koinonia_messaging;",
            ),
        ),
        (
            f"{CATALOGUE}::test_a_migrated_database_has_no_fault",
            f"{CATALOGUE}::test_every_church_table_shows_and_takes_the_named_churchs_rows_only",
        ),
    ),
    Mutant(
        "a log line's phone is shown",
        (
            Edit("shared/koinonia/security/redaction.py", '    "national": "[phone]",', '    "national": None,'),
            Edit(
                "shared/koinonia/security/redaction.py",
                'return match[0] if match.lastgroup == "keep" else _NAMES[match.lastgroup or ""]',
                "return _NAMES.get(match.lastgroup or '') or match[0]",
            ),
        ),
        (f"{REDACTION}::test_no_american_number_passes_in_any_form",),
    ),
    Mutant(
        "a log line's private field is shown",
        (Edit("shared/koinonia/security/redaction.py", '"firstname", "lastname", ', ""),),
        (f"{REDACTION}::test_what_a_key_calls_private_is_hidden_whatever_it_looks_like",),
    ),
    Mutant(
        "a log line is redacted before it has its ids",
        (
            Edit(
                "shared/koinonia/telemetry.py",
                "        _add_ids,\n        redact_event,\n",
                "        redact_event,\n        _add_ids,\n",
            ),
        ),
        (f"{TELEMETRY}::test_what_a_log_line_is_given_on_its_way_is_redacted_too",),
    ),
    Mutant(
        "a log line of ours is written without its redaction",
        (
            Edit(
                "shared/koinonia/telemetry.py",
                "processors=[*shared, structlog.processors.JSONRenderer(_to_json)],",
                "processors=[*shared[:-1], structlog.processors.JSONRenderer(_to_json)],",
            ),
        ),
        (f"{TELEMETRY}::test_what_is_handed_to_a_log_line_is_redacted_whoever_writes_it",),
    ),
    Mutant(
        "a library's log line is not redacted",
        (
            Edit(
                "shared/koinonia/telemetry.py",
                "foreign_pre_chain=shared,",
                "foreign_pre_chain=shared[:-1],",
            ),
        ),
        (f"{TELEMETRY}::test_what_is_handed_to_a_log_line_is_redacted_whoever_writes_it",),
    ),
    Mutant(
        "an audience is approved by who asked for it",
        (
            Edit(
                "services/messaging/koinonia_messaging/approvals.py",
                "if waiting.requested_by == actor.principal_id:",
                "if waiting.requested_by is None:",
            ),
        ),
        (f"{APPROVALS}::test_a_message_to_many_waits_for_somebody_else",),
    ),
    Mutant(
        "an audience grows past its approval",
        (
            Edit(
                "services/messaging/koinonia_messaging/approvals.py",
                "if not rules.wait_for_approval(figures.textable, test=broadcast.test, "
                "approved=broadcast.approved_people):",
                "if broadcast.id:",
            ),
        ),
        (f"{APPROVALS}::test_who_schedules_for_few_and_adds_many_waits_too",),
    ),
    Mutant(
        "an audience has the family of who is excluded",
        (
            Edit(
                "services/messaging/koinonia_messaging/store/audience.py",
                "WHERE other.phone_index >= members.phone_index",
                "WHERE other.id = members.id",
            ),
        ),
        (f"{EXCLUSIONS}::test_whose_number_is_excluded_gets_nothing_and_is_not_counted",),
    ),
    Mutant(
        "an audience that was not reached is sent to twice",
        (
            Edit(
                "services/messaging/koinonia_messaging/store/resending.py",
                "AND (status <> 'cancelled' OR streamed_recipients > 0)",
                "AND status <> 'cancelled'",
            ),
        ),
        (f"{RESENDING}::test_nobody_is_sent_to_again_twice",),
    ),
)


@dataclass(frozen=True)
class Run:
    """How a run of tests ended."""

    green: frozenset[str]
    red: frozenset[str]
    output: str
    seconds: float


def main() -> None:
    """Plant each bug, and exit with 1 when one survives."""
    arguments = _parse()
    chosen = [mutant for mutant in MUTANTS if arguments.only in mutant.name]
    if not chosen:
        sys.exit(f"mutants: none has {arguments.only!r} in its name")
    for mutant in MUTANTS:
        for edit in mutant.edits:
            edit.find(ROOT)
    if arguments.check:
        return
    with tempfile.TemporaryDirectory(prefix="koinonia-mutants-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as another user
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        _see_that_the_copy_is_tested(tree)
        tests = sorted({test for mutant in chosen for test in mutant.tests})
        print(f"{len(tests)} tests without a bug …", flush=True)
        _must_be_green(tests, _run(tree, tests))
        survivors = [mutant for mutant in chosen if not _is_caught(tree, mutant)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught")
    sys.exit(1 if survivors else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="only mutants with these words in their names")
    parser.add_argument("--check", action="store_true", help="only see that the code that they replace is there")
    return parser.parse_args()


def _is_caught(tree: Path, mutant: Mutant) -> bool:
    originals = {edit.path: (tree / edit.path).read_text() for edit in mutant.edits}
    for edit in mutant.edits:
        edit.plant(tree)
    run = _run(tree, mutant.tests)
    for path, code in originals.items():
        (tree / path).write_text(code)
    print(f"\n{mutant.name}: {'caught' if run.red else 'SURVIVED'} ({run.seconds:.0f} s)")
    for test in mutant.tests:
        name = _name(test)
        print(f"  {'red   ' if name in run.red else 'green ' if name in run.green else 'no end'} {name}", flush=True)
    if not run.red:
        print(run.output)
    return bool(run.red)


def _must_be_green(tests: Sequence[str], run: Run) -> None:
    names = {_name(test) for test in tests}
    if run.red or run.green != names:
        raise SystemExit(f"{run.output}\nwithout a bug these must be green: {sorted(names - run.green)}")


def _run(tree: Path, tests: Sequence[str]) -> Run:
    """Run tests on the copy. Red is a test whose own check failed; one that could not even begin proves nothing."""
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    started = time.monotonic()
    ended = subprocess.run(command, cwd=tree, env=_environ(tree), text=True, capture_output=True, check=False)
    green: set[str] = set()
    red: set[str] = set()
    for case in ET.parse(report).iter("testcase") if report.exists() else ():
        name = case.attrib["name"].partition("[")[0]
        if case.find("failure") is not None:
            red.add(name)
        elif case.find("error") is None and case.find("skipped") is None:
            green.add(name)
    return Run(frozenset(green - red), frozenset(red), ended.stdout + ended.stderr, time.monotonic() - started)


def _name(test: str) -> str:
    return test.rpartition("::")[2].partition("[")[0]


def _environ(tree: Path) -> dict[str, str]:
    """The copy's packages go before those of the checkout."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["dev-mode-dirs"]
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(tree / folder) for folder in folders)}


def _see_that_the_copy_is_tested(tree: Path) -> None:
    command = [sys.executable, "-c", "import koinonia, koinonia_delivery as d; print(koinonia.__file__, d.__file__)"]
    asked = subprocess.run(command, cwd=tree, env=_environ(tree), text=True, capture_output=True, check=True)
    if asked.stdout.count(str(tree)) != 2:
        raise SystemExit(f"the copy is not what would be tested, but {asked.stdout.strip()}")


if __name__ == "__main__":
    main()
