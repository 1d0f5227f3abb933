"""The ledger of a rehearsal: from what was heard and what was kept to a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emoray.rehearsal.audit import Audit, Event, Heard, Kept, Kill, audit
from emoray.rehearsal.heartbeat import Stall
from emoray.rehearsal.kill_schedule import Target, schedule


def ledger(
    asked: list[Event],
    answered: list[Event],
    *kills: Kill,
    kept: Mapping[str, int] | None = None,
    rows: Mapping[str, int] | None = None,
    cells: int = 1,
    stalls: Sequence[Sequence[Stall]] = (),
) -> Audit:
    there = {"a": 1} if kept is None else kept
    return audit(Heard(asked, answered), kills, Kept(cells, there, {"r": rows or there}, cost_usd={"a": 0.5}), stalls)


def kill(at: float, in_flight: int = 1) -> Kill:
    return Kill("actor", at, at + 0.1, in_flight)


def test_a_run_without_kills_has_a_clean_ledger() -> None:
    found = ledger([(0.0, "a")], [(1.0, "a")])

    assert found.wrong == []
    assert (found.calls, found.answered, found.repeated, found.lost) == (1, 1, 0, 0)


def test_an_answer_in_flight_at_a_kill_may_be_asked_again() -> None:
    found = ledger([(0.0, "a"), (3.0, "a")], [(2.0, "a"), (4.0, "a")], kill(1.0))

    assert found.wrong == []
    assert (found.repeated, found.lost, found.double_spent_usd) == (1, 0, 0.5)


def test_an_answer_of_the_last_second_before_a_kill_may_be_asked_again() -> None:
    found = ledger([(0.0, "a"), (3.0, "a")], [(0.5, "a"), (4.0, "a")], kill(1.2))

    assert (found.wrong, found.lost, round(found.oldest_lost_s, 6)) == ([], 0, 0.7)


def test_an_older_answer_that_is_asked_again_was_lost() -> None:
    found = ledger([(0.0, "a"), (6.0, "a")], [(0.5, "a"), (7.0, "a")], kill(5.0))

    assert found.lost == 1
    assert found.wrong == ["1 answer was lost that a running machine had had for over 1 s"]


def test_what_a_machine_stood_still_does_not_count_against_the_second_and_is_told() -> None:
    """Given at 0.5, killed at 2.0: 1.5 s, of which one machine stood still for 0.75 and another for 0.25."""
    events = [(0.0, "a"), (6.0, "a")], [(0.5, "a"), (7.0, "a")]
    stalls = [[Stall(0.0, 0.75), Stall(1.25, 1.75), Stall(3.0, 9.0)], [Stall(0.75, 1.0)]]

    found = ledger(*events, kill(2.0), stalls=stalls)

    assert (found.lost, found.oldest_lost_s, found.oldest_stalled_s) == (0, 1.5, 0.75)
    assert "the oldest answer asked again      1.50 s before its kill" in found.text()
    assert "  for which the machine stood still 0.75 s" in found.text()
    assert ledger(*events, kill(2.0), stalls=stalls[1:]).lost == 1  # 1.25 s of a machine that ran
    assert ledger(*events, kill(2.0)).lost == 1


def test_an_earlier_kill_explains_nothing() -> None:
    found = ledger([(1.0, "a"), (6.0, "a")], [(2.0, "a"), (7.0, "a")], kill(0.5))

    assert found.unexplained == 1
    assert found.wrong == ["1 call was repeated though nothing was killed"]


def test_a_call_that_was_asked_again_before_its_first_answer_came_is_in_flight_too() -> None:
    found = ledger([(0.0, "a"), (2.0, "a")], [(3.0, "a"), (4.0, "a")], kill(1.0))

    assert (found.repeated, found.unexplained, found.wrong) == (1, 0, [])


def test_a_failed_request_is_a_call_and_no_answer() -> None:
    found = ledger([(0.0, "a"), (1.0, "a")], [(2.0, "a")])

    assert (found.calls, found.answered, found.repeated, found.wrong) == (2, 1, 0, [])


def test_more_repeats_than_were_in_flight_are_wrong() -> None:
    found = ledger([(0.0, "a"), (3.0, "a")], [(2.0, "a"), (4.0, "a")], kill(1.0, in_flight=0))

    assert found.wrong == ["1 call was repeated, but only 0 were in flight at the kills"]


def test_an_answer_that_is_not_on_disk_is_lost_and_its_cell_is_missing() -> None:
    found = ledger([(0.0, "a")], [(1.0, "a")], kept={})

    assert found.lost == 1
    assert "1 cell has no answer" in found.wrong


def test_two_results_for_one_cell_are_wrong_and_so_is_one_that_nobody_gave() -> None:
    found = ledger([(0.0, "a")], [(1.0, "a")], kept={"a": 2, "b": 1}, cells=2)

    assert (found.doubled, found.strangers) == (2, 1)  # once as an answer, once as a row


def test_an_answer_that_was_not_read_is_said() -> None:
    both: list[Event] = [(1.0, "a"), (1.0, "b")]
    found = ledger(both, both, kept={"a": 1, "b": 1}, rows={"a": 1}, cells=2)

    assert found.wrong == ["reader r has 1 row for 2 answers"]
    assert found.text().endswith("reader r has 1 row for 2 answers")


def test_money_that_neither_rows_nor_what_was_booked_as_lost_tell_of_is_wrong() -> None:
    def found(rows_usd: float, lost_usd: float) -> Audit:
        events = [(1.0, "a")]
        kept = Kept(1, {"a": 1}, {"r": {"a": 1}}, usd=rows_usd, lost_usd=lost_usd)
        return audit(Heard(events, events, usd=1.0), [], kept)

    assert found(0.75, 0.25).wrong == found(0.75, 0.5).wrong == []
    assert found(0.75, 0.24).wrong == [
        "the provider charged $1.0000, and rows ($0.7500) and what was booked as lost ($0.2400) are less"
    ]
    assert "  booked as lost, at most          $0.2500" in found(0.75, 0.25).text()


def test_more_money_booked_as_lost_than_the_calls_that_no_row_tells_of_may_cost_is_wrong() -> None:
    def found(lost_usd: float, *kills: Kill) -> Audit:
        asked, answered = [(1.0, "a"), (1.5, "a"), (2.0, "a"), (2.5, "b")], [(2.5, "a"), (3.0, "b")]
        rows = {"a": 1, "b": 1}
        kept = Kept(2, rows, {"r": rows}, usd=1.0, lost_usd=lost_usd, attempts={"a": 1, "b": 3}, dearest_usd=0.5)
        return audit(Heard(asked, answered, usd=1.0), kills, kept)

    assert found(1.0).nobodys == 2  # three calls for "a", and its row tells of one
    assert found(1.0).wrong == found(2.0, Kill("driver", 1.2, 1.3, 1, actors=2)).wrong == []
    assert found(1.25).wrong == [
        "$1.2500 were booked as lost, and the 2 calls that no row tells of may cost $1.0000 at most"
    ]
    assert "calls that no row tells of         2" in found(1.0).text()


def test_the_same_seed_kills_alike_and_every_target_as_often() -> None:
    plan = schedule(list(Target), 20, 3000, seed=7)

    assert plan == schedule(list(Target), 20, 3000, seed=7) != schedule(list(Target), 20, 3000, seed=8)
    assert all(sum(due.target is target for due in plan) == 4 for target in Target)
    assert plan == sorted(plan, key=lambda due: due.answered)
    assert 0 <= plan[0].answered < plan[-1].answered < 3000


def test_nothing_to_kill_is_no_plan() -> None:
    assert schedule([], 20, 3000, seed=0) == []
