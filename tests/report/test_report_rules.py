"""Which rows count, and what each scores: refusals, controls and conditions, in every number of a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from emoray.analysis.paper_claims import claims
from emoray.readers.protocol import Reading
from emoray.report import Summary, chosen, looked, terminal_table
from emoray.report.page import _cautions
from emoray.report.phrasing import headline
from emoray.report.summary import summarize
from emoray.report.tables import as_csv, tables
from emoray.run_folder import columns
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.parquet import encoded
from emoray.study import paper
from emoray.study.circumplex import Affect
from emoray.study.goemotions import LABELS, label_map
from emoray.study.ratings import Rating
from emoray.study.scoring import RefusalRule
from tests.report.synthetic import RUSSELL, Run, run

NUMBERS = ("comparisons", "agreement", "corrections", "watched")
RULES: tuple[RefusalRule, ...] = get_args(RefusalRule)


@pytest.fixture(scope="module")
def two() -> Run:
    """Two models, two readers, a fifth of the answers refused."""
    return run(
        {"steady": 0.9, "blank": 0.3},
        readers=("one", "two"),
        states=6,
        questions=3,
        repetitions=2,
        refusals=0.2,
        failures=0.15,
    )


def report(source: Any, **settings: Any) -> Summary:
    """Without figures and files, which take longer than all else."""
    return summarize(source, chosen(source.manifest() or {}, shuffles=20, **settings))


def numbers(summary: Summary, *names: str) -> dict[str, Any]:
    """All that is computed from scores, as JSON has it."""
    found = json.loads(json.dumps(summary.as_json()))
    scores = {f"{one['reader']}/{one['model']}": one["scores"] for one in found["models"]}
    return {"order": list(scores), "scores": scores, **{name: found[name] for name in names or NUMBERS}}


def changed(source: Run, change: Callable[[pa.Table], pa.Table]) -> Run:
    """The same run, the rows of every reader changed."""
    return Run(source.said, {who: change(table) for who, table in source.felt.items()}, source.settings)


def refused(table: pa.Table) -> Any:
    return columns.flags(table["refused"])


def put(table: pa.Table, name: str, values: Any) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def without_flags(table: pa.Table) -> pa.Table:
    return put(table, "refused", [False] * len(table))


def without_readings(table: pa.Table) -> pa.Table:
    """Refused answers that nobody read."""
    pairs = zip(table["probabilities"].to_pylist(), refused(table), strict=True)
    return without_flags(put(table, "probabilities", [None if gone else p for p, gone in pairs]))


def read_as_neutral(table: pa.Table) -> pa.Table:
    nothing = np.eye(28, dtype=np.float32)[LABELS.index("neutral")].tolist()
    pairs = zip(table["probabilities"].to_pylist(), refused(table), strict=True)
    return without_flags(put(table, "probabilities", [nothing if p and gone else p for p, gone in pairs]))


SAME_AS: dict[RefusalRule, Callable[[pa.Table], pa.Table]] = {
    "zero": read_as_neutral,
    "drop": without_readings,
    "as_read": without_flags,
}


@pytest.mark.parametrize("rule", RULES)
def test_every_number_follows_the_rule_for_refusals(two: Run, rule: RefusalRule) -> None:
    labelled = human_labels(two)
    found = numbers(report(two, refusals=rule, human_labels=labelled))
    kept = {key: affect for key, affect in labelled.items() if rule == "as_read" or key not in refused_keys(two)}
    zeros = {key: None for key in labelled if rule == "zero" and key in refused_keys(two)}
    other = numbers(report(changed(two, SAME_AS[rule]), human_labels=kept | zeros))
    if rule == "drop":  # that a label was given is counted, whether or not it counts
        for side in (found, other):
            for one in side["corrections"]:
                del one["corrected"]["labelled"]
    assert found == other


def refused_keys(source: Run) -> set[str]:
    return {key for table in source.said.values() for key in table.filter(table["refused"])["key"].to_pylist()}


def human_labels(source: Run) -> dict[str, Affect | None]:
    """Every third answer, in turn as asked, elsewhere, and without a direction."""
    found: dict[str, Affect | None] = {}
    for table in source.said.values():
        answers = table.filter(pc.equal(table["outcome"], columns.ANSWERED)).to_pylist()
        for place, row in enumerate(answers[::3]):
            found[row["key"]] = (Affect(row["valence"], row["arousal"]), Affect(0.0, 1.0), None)[place % 3]
    return found


def test_the_three_rules_differ_and_zero_is_the_one_that_nobody_chose(two: Run) -> None:
    means = {rule: [one.scores.whole.group.cosine for one in report(two, refusals=rule).models] for rule in RULES}
    assert len({str(found) for found in means.values()}) == 3
    assert [one.scores.whole.group.cosine for one in report(two).models] == means["zero"]
    own = Run(two.said, two.felt, {"spec": {"name": "own", "refusals": "drop"}})
    assert [one.scores.whole.group.cosine for one in report(own).models] == means["drop"]


def test_a_model_that_refuses_everything_scores_nothing_where_remorse_was_asked_for() -> None:
    source = run({"mute": 0.5}, states=12, questions=3, refusals=1.0, failures=0.0)
    remorse = np.eye(28, dtype=np.float32)[LABELS.index("remorse")]
    said = source.said["mute"]
    felt = columns.with_readings(said, [Reading(remorse)] * len(said), reader="embedded", revision=None)
    found = {
        rule: report(
            Run(source.said, {("embedded", "mute"): columns.scored(felt, RUSSELL, "zero")}), refusals=rule
        ).models[0]
        for rule in RULES
    }
    at_210 = {rule: one.scores.states[7].cosine.estimate for rule, one in found.items()}
    assert at_210["as_read"] > 0.99
    assert at_210["zero"] == 0.0
    assert np.isnan(at_210["drop"])
    assert (found["zero"].scores.whole.group.scored, found["drop"].scores.whole.group.scored) == (108, 0)


def test_a_table_shows_every_rule_and_the_worst_case_of_failures(two: Run) -> None:
    summary = report(two)
    for one in summary.models:
        for rule in RULES:
            alone = next(m for m in report(two, refusals=rule).models if (m.model, m.reader) == (one.model, one.reader))
            assert getattr(one.weighed, rule) == alone.scores.whole.group.cosine
        scored = two.felt[one.reader, one.model].to_pandas()
        scored.loc[scored["outcome"] != columns.ANSWERED, "cosine"] = -1.0
        by_prompt = scored.groupby(["question_id", "state_deg"])["cosine"].mean()
        assert one.weighed.worst.estimate == pytest.approx(by_prompt.groupby("question_id").mean().mean())
        assert one.weighed.failed == one.counts.failures > 0
    lines = as_csv(next(table for table in tables(summary) if table.name == "refusals")).splitlines()
    assert len(lines) == 1 + len(summary.models)


def test_the_same_run_under_another_rule_stands_beside_its_own(two: Run) -> None:
    summary = report(two, refusals="as_read")
    assert [one.own for one in summary.beside] == [one.weighed.zero for one in summary.models]
    assert [one.here for one in summary.beside] == [one.weighed.as_read for one in summary.models]


# ── conditions ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def varied() -> Run:
    """Three templates, one of them a control, at two intensities, in the order of no alphabet."""
    made = run(
        {"steady": 0.9, "blank": 0.3},
        readers=("one", "two"),
        states=6,
        questions=3,
        templates=("words", "none", "parameters"),
        intensities=(0.5, 1.0),
        repetitions=2,
        refusals=0.05,
    )
    return Run(made.said, made.felt, {"spec": {"name": "varied", "templates": ["none", "words", "parameters"]}})


def only(source: Run, template: str, intensity: float) -> Run:
    def mine(table: pa.Table) -> pa.Table:
        return table.filter(pc.and_(pc.equal(table["template"], template), pc.equal(table["intensity"], intensity)))

    said = {model: mine(table) for model, table in source.said.items()}
    return Run(said, {who: mine(table) for who, table in source.felt.items()}, source.settings)


def of_one(summary: Summary) -> dict[str, Any]:
    found = numbers(summary, "comparisons", "agreement")
    for scores in found["scores"].values():
        del scores["templates"], scores["intensities"]
    found["comparisons"] = [one for one in found["comparisons"] if one["of"] != "templates"]
    return found


def test_the_headline_is_of_the_first_template_that_is_no_control_at_the_highest_intensity(varied: Run) -> None:
    summary = report(varied)
    assert of_one(summary) == of_one(report(only(varied, "words", 1.0)))
    assert str(summary.design.headline) == "template words, intensity 1"
    assert headline(summary).endswith("All of it with template words, at intensity 1.")
    assert "template words" in terminal_table(summary)


@pytest.mark.parametrize(
    ("wanted", "template", "intensity"),
    [
        ({"template": "parameters"}, "parameters", 1.0),
        ({"intensity": 0.5}, "words", 0.5),
        ({"template": "parameters", "intensity": 0.5}, "parameters", 0.5),
    ],
)
def test_the_spec_may_name_another_condition(
    varied: Run, wanted: dict[str, Any], template: str, intensity: float
) -> None:
    own = Run(varied.said, varied.felt, {"spec": {**varied.settings["spec"], "headline": wanted}})
    assert of_one(report(own)) == of_one(report(only(own, template, intensity)))


def test_a_control_beside_changes_no_mean() -> None:
    settings = {"states": 12, "questions": 4, "repetitions": 1}
    alone = report(run({"a": 0.8}, templates=("parameters",), **settings))  # type: ignore[arg-type]
    source = run({"a": 0.8}, templates=("parameters", "none"), **settings)  # type: ignore[arg-type]
    beside = report(source)
    assert of_one(beside) == of_one(report(only(source, "parameters", 1.0)))
    assert beside.models[0].scores.whole.group.scored == pytest.approx(alone.models[0].scores.whole.group.scored, abs=3)


def test_each_condition_is_shown_by_itself_and_a_mean_over_them_is_called_one(varied: Run) -> None:
    summary = report(varied)
    one = summary.models[0]
    for line in one.conditions:
        same = report(only(varied, line.template, line.intensity)).models
        alone = next(m for m in same if (m.model, m.reader) == (one.model, one.reader))
        mean, other = line.group.cosine, alone.scores.whole.group.cosine
        assert (mean.estimate, mean.low, mean.high) == pytest.approx((other.estimate, other.low, other.high))
        assert line.control == (line.template == "none")
    told = [line.group.scored for line in one.conditions if not line.control]
    assert one.over_conditions is not None
    assert one.over_conditions.scored == sum(told)
    shown = as_csv(next(table for table in tables(summary) if table.name == "conditions"))
    assert "mean over all but controls" in shown
    assert sum(",control," in line for line in shown.splitlines()[1:]) == 2 * len(summary.models)


def test_templates_are_told_apart_at_one_intensity_and_intensities_within_one_template(varied: Run) -> None:
    one = report(varied).models[0]
    by = {(line.template, line.intensity): line.group.cosine for line in one.conditions}
    assert [group.cosine for group in one.scores.templates] == [
        by[name, 1.0] for name in ("none", "parameters", "words")
    ]
    assert [group.cosine for group in one.scores.intensities] == [by["words", x] for x in (0.5, 1.0)]


def test_people_agree_on_the_answers_that_a_mean_is_corrected_by_and_on_no_others(varied: Run) -> None:
    """Two raters; elsewhere than in the headline's condition, and on refusals, they never agree."""
    labels: dict[str, Any] = {}
    answered = [row for said in varied.said.values() for row in said.to_pylist() if row["outcome"] == columns.ANSWERED]
    for row in answered:
        inside = row["template"] == "words" and row["intensity"] == 1.0 and not row["refused"]
        turned = 0.0 if inside else 180.0
        asked = Affect(row["valence"], row["arousal"]).angle_deg
        labels[row["key"]] = (Rating("a", Affect.at(asked)), Rating("b", Affect.at(asked + turned)))
    alike = report(varied, human_labels=labels, refusals="zero").raters
    assert alike is not None
    assert alike.alpha.estimate == pytest.approx(1.0)
    mixed = report(varied, human_labels=labels, refusals="as_read").raters
    assert mixed is not None
    assert mixed.alpha.estimate < 1.0
    assert mixed.answers < len(labels) / 4


def test_where_all_templates_are_controls_the_page_says_so() -> None:
    summary = report(run({"a": 0.5}, templates=("none",), states=4, questions=2, intensities=(0.5, 1.0)))
    assert "template none, a control, at intensity 1" in headline(summary)


# ── old rows ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_of_an_older_detector_are_flagged_anew_from_their_texts(two: Run) -> None:
    def older(table: pa.Table) -> pa.Table:
        return put(put(table, "refused", [None] * len(table)), "flagged_by", [None] * len(table))

    old = Run({model: older(table) for model, table in two.said.items()}, changed(two, older).felt)
    found, now = report(old), report(two)
    said = found.as_json()
    assert set(said.pop("earlier")) == {"steady", "blank"}  # the page says so
    assert said == now.as_json()
    assert sum(one.counts.refused for one in found.models) > 0


def test_rows_of_an_older_format_are_scored_anew(two: Run) -> None:
    def older(table: pa.Table) -> pa.Table:
        for name in ("expected_cosine", "direction_cosine", "resultant_valence", "resultant_arousal", "cosine"):
            table = put(table, name, [None] * len(table))
        return table

    assert report(changed(two, older)).as_json() == report(two).as_json()


def test_an_old_run_is_told_which_of_the_new_numbers_it_cannot_have(two: Run) -> None:
    said = {model: put(table, "flagged_by", [None] * len(table)) for model, table in two.said.items()}
    summary = report(Run(said, two.felt, two.settings))
    (told,) = [one for one in _cautions(summary) if "earlier emoray" in one]
    answers = sum(summary.earlier.values())
    assert answers == sum(one.counts.answers for one in summary.of_reader("one"))
    assert told.startswith(f"{answers} answers of blank and steady were kept by an earlier emoray")
    assert not [one for one in _cautions(report(two)) if "earlier emoray" in one]


def test_the_report_that_an_earlier_emoray_wrote_is_a_look(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    assert looked(folder.read_bytes("report/summary.json")) == []
    old = {
        "models": [{"model": m, "reader": r, "counts": {"answers": n}} for m, n in (("a", 5), ("b", 7)) for r in "xy"]
    }
    for kept, looks in (
        (old, [12]),
        ({"looks": {"answers": [3, 9]}}, [3, 9]),
        ({"looks": None}, []),
        ({"models": 1}, []),
        ({"looks": {"answers": [float("inf")]}}, []),
    ):
        folder.write_bytes("report/summary.json", json.dumps(kept).encode())
        assert looked(folder.read_bytes("report/summary.json")) == looks
    folder.write_bytes("report/summary.json", b"[" * 100_000)
    assert looked(folder.read_bytes("report/summary.json")) == []


NEW = ("flagged_by", "direction_cosine", "resultant_valence", "resultant_arousal")


def test_a_folder_of_format_1_has_a_report_of_todays_numbers(
    two: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    folder.create()
    folder.write_manifest(two.settings)
    files = {f"answers/model_folder=m-{model}": table for model, table in two.said.items()}
    files |= {f"rows/reader_folder=r-{who[0]}/model_folder=m-{who[1]}": table for who, table in two.felt.items()}
    monkeypatch.setattr(columns, "SCHEMA_VERSION", "1")
    for part, table in files.items():
        old = table.drop_columns([name for name in NEW if name in table.column_names])
        folder.write_bytes(f"{part}/{Name(1_000_000, 'test', 0)}", encoded(old))
    by_name = Run(
        {model: two.said[model] for model in sorted(two.said)}, two.felt, two.settings
    )  # as a folder has them
    found, new = report(folder).as_json(), report(by_name).as_json()
    answers = {one["model"]: one["counts"]["answers"] for one in new["models"]}
    assert found.pop("earlier") == dict(sorted(answers.items()))  # the page says so, and nothing else differs
    assert found == new


def test_another_map_moves_what_is_read_and_not_what_is_refused(two: Run) -> None:
    one, other = (report(two, labels=label_map(name)).models[0].weighed for name in ("russell", "octants"))
    assert one.as_read != other.as_read
    assert (one.refused, one.failed) == (other.refused, other.failed)


# ── where the rules meet ───────────────────────────────────────────────────────────────────────────────────────────


def test_refusals_give_no_place_on_a_map_to_a_reader_that_knows_no_labels(two: Run) -> None:
    def judged(table: pa.Table) -> pa.Table:
        read = [p is not None for p in table["probabilities"].to_pylist()]
        for name in ("probabilities", "label"):
            table = put(table, name, [None] * len(table))
        for name in ("felt_valence", "felt_arousal"):
            table = put(table, name, [0.6 if one else None for one in read])
        return table

    source = Run(two.said, {(r, m): judged(t) if r == "two" else t for (r, m), t in two.felt.items()}, two.settings)
    assert {one.reader for one in report(source).by_maps} == {"one"}


def lacking(source: Run, model: str, wanted: Callable[[pa.Table], Any]) -> Run:
    """Without the answers of a model that are wanted away."""

    def kept(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(wanted(table)))

    said = {name: kept(table) if name == model else table for name, table in source.said.items()}
    felt = {who: kept(table) if who[1] == model else table for who, table in source.felt.items()}
    return Run(said, felt, source.settings)


def test_no_other_condition_fills_in_what_one_lacks(varied: Run) -> None:
    def hard(table: pa.Table) -> Any:
        headline = pc.and_(pc.equal(table["template"], "words"), pc.equal(table["intensity"], 1.0))
        first = pc.equal(table["question_id"], min(table["question_id"].to_pylist()))
        return pc.and_(pc.and_(headline, first), pc.less(table["state_deg"], 130.0))

    one = report(lacking(varied, "steady", hard)).models[0]
    mean = one.scores.whole.group.cosine
    alone = next(line.group for line in one.conditions if (line.template, line.intensity) == ("words", 1.0))
    by_template = next(group for group in one.scores.templates if group.level == "words")
    for other in (alone.cosine, by_template.cosine):
        assert (other.estimate, other.low, other.high) == pytest.approx((mean.estimate, mean.low, mean.high))
    assert one.scores.whole.group.missing > 0


def test_a_claim_on_two_models_goes_by_what_both_were_scored_on() -> None:
    """One lacks the state at which both do worst."""
    tables = np.array([0.8, 0.7, -0.5]) + 0.01 * np.arange(4)[:, None]
    best, other = paper.CLOSEST_MODELS.value[0], "another"
    found = claims({"r": {best: np.where(tables > 0, tables, np.nan), other: tables}})
    verdict = next(one for one in found if "closest" in one.conclusion.what).conclusion.verdicts["r"]
    assert verdict != "yes"


def test_what_the_provider_called_a_refusal_stays_one_whoever_stands_beside(two: Run) -> None:
    table = two.said["steady"].filter(pc.equal(two.said["steady"]["outcome"], columns.ANSWERED)).slice(0, 2)
    table = put(put(table, "answer", ["Nein.", "The sea."]), "refused", [True, False])
    table = put(table, "flagged_by", [columns.flagged(["Nein."], [True])["flagged_by"][0], None])
    assert columns.flagged_anew(table)["refused"].to_pylist() == [True, False]
    assert not columns.flagged_before(table.slice(0, 1))
