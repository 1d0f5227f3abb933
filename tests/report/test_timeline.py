"""What the report says of time: a model that changed in the middle is caught, one that did not is left in peace."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from emoray.analysis.paired import holm_of_groups
from emoray.readers.protocol import Reading
from emoray.report.timeline import Heard, Rounds, Timeline, Watched, one_family, round_width, timeline
from emoray.run_folder import columns
from emoray.study.circumplex import cosine
from emoray.study.experiment import Canaries, Experiment, Model
from emoray.study.goemotions import LABELS, label_map
from emoray.study.outcomes import Answer, Failure, FailureKind, Reply
from emoray.study.prompts import Prompt, prompts
from tests.study.grids import experiment

BEGAN = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
EVERY_S = 10.0
Say = Callable[[int, Prompt], Answer | Failure]  # what is said at a place of the night
REPETITIONS = 40


def watched() -> Experiment:
    one = experiment(states=4, questions=3, repetitions=40)
    return Experiment(
        models=(Model("m", "org/m"),),
        states=one.states,
        questions=one.questions,
        templates=one.templates,
        repetitions=40,
        canaries=Canaries(20, 2),
    )


def said(say: Say) -> pa.Table:
    """A night of one model, a cell every ten seconds."""
    asked = list(prompts(watched().grid("m")))
    replies = [
        Reply(prompt.key, say(place, prompt), BEGAN + timedelta(seconds=EVERY_S * place), latency_s=0.5)
        for place, prompt in enumerate(asked)
    ]
    return columns.with_answers(columns.asked(asked), replies, host="hosted_api", revision=None, engine=None)


def the_night(say: Say) -> Timeline:
    heard = Heard()
    table = said(say)
    for start in range(0, len(table), 100):
        heard.add(table.slice(start, 100).combine_chunks())
    return timeline("m", heard, np.random.default_rng(0))


def the_scores(label: Callable[[int, Prompt], str]) -> Watched:
    table = said(lambda *_: Answer("so"))
    asked = prompts(watched().grid("m"))
    readings = [Reading(_one_hot(label(place, prompt))) for place, prompt in enumerate(asked)]
    rounds = Rounds(round_width(REPETITIONS))
    felt = columns.with_readings(table, readings, reader="r", revision=None)
    rounds.add(columns.scored(felt, label_map(), "zero"))
    return rounds.watched("m", "r", np.random.default_rng(0))


def _one_hot(label: str) -> npt.NDArray[np.float32]:
    odds = np.zeros(len(LABELS), dtype=np.float32)
    odds[LABELS.index(label)] = 1.0
    return odds


def _fitting(prompt: Prompt) -> str:
    """The label nearest to the state asked for."""
    cosines = {place.label: cosine(place.affect, prompt.cell.asked) for place in label_map().places if place.affect}
    return max(cosines, key=lambda label: cosines[label])


def _own(prompt: Prompt) -> str:
    """What a steady model at temperature 0 says to a canary: always the same."""
    return f"As ever, {prompt.sha}."


def test_the_timeline_counts_every_answer_and_failure_when_it_came() -> None:
    busy = Failure(FailureKind.OVERLOADED, "503")
    found = the_night(lambda place, prompt: busy if 100 <= place < 130 else Answer(_own(prompt)))

    cells = watched().cells_per_model
    assert (sum(found.answers), sum(found.failures)) == (cells - 30, 30)
    assert len(found.answers) <= 121
    failing = [place for place, n in enumerate(found.failures) if n]
    assert failing[0] * found.bin_s <= 1000 < (failing[0] + 1) * found.bin_s
    assert found.began == "2026-11-23T22:00:00+00:00"


def test_a_model_that_was_exchanged_at_midnight_is_caught_by_its_canaries() -> None:
    exchanged = 300
    found = the_night(lambda place, prompt: Answer(_own(prompt) + (" And yet!" if place >= exchanged else "")))

    assert found.canary_texts is not None
    assert found.canary_texts.p < 0.01
    assert found.canary_texts.contrast == 1.0
    assert abs(found.canary_texts.at * 3600 - exchanged * EVERY_S) < 25 * EVERY_S


def test_a_steady_model_is_left_in_peace() -> None:
    found = the_night(lambda _, prompt: Answer(_own(prompt)))
    assert found.canary_texts is not None
    assert (found.canary_texts.alike, found.canary_texts.p) == (1.0, 1.0)
    assert not found.voice_changed


def test_what_the_provider_said_it_was_is_told_with_its_times() -> None:
    def say(place: int, prompt: Prompt) -> Answer:
        return Answer(
            _own(prompt),
            returned_model="gpt-4o-2024-08-06" if place < 200 else "gpt-4o-2024-11-20",
            system_fingerprint=f"fp_{place % 2}",
        )

    found = the_night(say)

    assert found.voice_changed
    assert [voice.returned_model for voice in found.voices] == ["gpt-4o-2024-08-06"] * 2 + ["gpt-4o-2024-11-20"] * 2
    assert sum(voice.answers for voice in found.voices) == watched().cells_per_model
    assert found.voices[1].last < found.voices[2].first


def test_machines_that_take_turns_are_no_change() -> None:
    found = the_night(
        lambda place, prompt: Answer(_own(prompt), returned_model="gpt", system_fingerprint=f"fp_{place % 3}")
    )
    assert len(found.voices) == 3
    assert not found.voice_changed


def test_a_fingerprint_that_changes_for_good_is_a_change_though_machines_take_turns_on_either_side() -> None:
    def say(place: int, prompt: Prompt) -> Answer:
        prints = ("fp_a", "fp_b") if place < 200 else ("fp_c", "fp_d")
        return Answer(_own(prompt), returned_model="gpt", system_fingerprint=prints[place % 2])

    found = the_night(say)
    assert found.fingerprint_changed
    assert not found.voice_changed


def test_a_machine_that_answers_last_by_chance_is_no_change_of_fingerprint() -> None:
    last = watched().cells_per_model - 3
    found = the_night(
        lambda place, prompt: Answer(_own(prompt), system_fingerprint="fp_b" if place >= last else "fp_a")
    )
    assert not found.fingerprint_changed
    assert not the_night(
        lambda place, prompt: Answer(_own(prompt), system_fingerprint=f"fp_{place % 3}")
    ).fingerprint_changed


def test_models_whose_nights_do_not_overlap_stand_apart() -> None:
    heard = [Heard() for _ in range(3)]
    for one, hours in zip(heard, ((0, 2), (1, 3), (4, 5)), strict=True):
        one.seconds.update({(3600 * hour, True): 7 for hour in hours})
    rng = np.random.default_rng(0)
    early, middle, late = (timeline(name, one, rng) for name, one in zip("abc", heard, strict=True))
    assert not early.apart(middle)
    assert early.apart(late)
    assert late.apart(middle)
    assert not late.apart(timeline("d", Heard(), rng))


def cut_short(seed: int, last: int, *, repetitions: int = 4, count: int = 25) -> Rounds:
    """Rounds of four prompts, answered by chance alone; the last round has but `last` repetitions."""
    rng = np.random.default_rng(seed)
    rounds = Rounds(repetitions)
    for number in range(count):
        n = last if number == count - 1 else repetitions
        for prompt in "abcd":
            rounds.cells[number, prompt] = np.array([rng.normal(0.3, 0.4, n).sum(), n * float(number), n])
    return rounds


def test_a_last_round_of_fewer_repetitions_is_no_round() -> None:
    for last, counted in ((1, 24), (3, 24), (4, 25)):
        found = cut_short(0, last).watched("m", "r", np.random.default_rng(0)).cells
        assert found is not None
        assert found.rounds == counted


def test_a_quiet_night_whose_last_round_was_cut_short_raises_no_more_alarms_than_promised() -> None:
    found = [cut_short(seed, last=1).watched("m", "r", np.random.default_rng(seed)).cells for seed in range(300)]
    for name in ("per_hour_p", "step_p"):
        assert np.mean([getattr(one, name) <= 0.05 for one in found]) < 0.065, name


def test_all_tests_of_drift_are_one_family() -> None:
    quiet = [cut_short(seed, last=4).watched(f"m{seed}", "r", np.random.default_rng(seed)) for seed in range(9)]
    nights, found = one_family([timeline("m", Heard(), np.random.default_rng(0))], quiet)
    drifts = [drift for one in found for _, drift in one.drifts]
    pairs = [(one.per_hour_p_pair, one.step_p_pair) for one in drifts]
    assert [(one.per_hour_p_holm, one.step_p_holm) for one in drifts] == holm_of_groups(pairs)
    assert len(pairs) == 9
    assert nights[0].canary_texts is None
    assert found[0].canaries is None


def test_a_mood_that_shifts_in_the_middle_is_found_in_canaries_and_in_cells_alike() -> None:
    middle = watched().cells_per_model // 2
    found = the_scores(lambda place, prompt: _fitting(prompt) if place < middle else "neutral")

    for drift in (found.canaries, found.cells):
        assert drift is not None
        assert drift.step_p < 0.01
        assert abs(drift.step_at * 3600 - middle * EVERY_S) < 60 * EVERY_S


def test_answers_that_only_depend_on_the_prompt_do_not_drift() -> None:
    found = the_scores(lambda _, prompt: "joy" if int(prompt.sha, 16) % 2 else "anger")
    for drift in (found.canaries, found.cells):
        assert drift is not None
        assert drift.step_p == 1.0


def test_a_run_without_canaries_and_with_one_repetition_has_no_test_of_drift() -> None:
    rounds = Rounds(round_width(1))
    assert rounds.watched("m", "r", np.random.default_rng(0)) == Watched("m", "r", None, None)
    assert timeline("m", Heard(), np.random.default_rng(0)).canary_texts is None
