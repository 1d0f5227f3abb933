"""run.json: what a folder is a run of."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from emoray import __version__
from emoray.commands.described import warn_of_older
from emoray.commands.status import status
from emoray.errors import UserError
from emoray.run_folder import manifest, recovery
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.spec.base import SpecError
from emoray.spec.load import parse, with_reader
from emoray.spec.readers import own_maps
from emoray.spec.study import Study
from emoray.study.goemotions import LABELS
from emoray.study.prompts import prompts
from emoray.study.russell import ANGLES_DEG
from tests import runs

SPEC = """
name: t
accounts: {openai: {key_env: OPENAI_API_KEY}}
models: [{name: a, host: scripted, sampling: {max_tokens: 9}}, {name: b, host: hosted_api, id: x, account: openai}]
sampling: {temperature: 0.5, top_p: 0.9}
states: 3
questions: [freedom, {id: mine, text: Why not}]
templates: [words, {name: own, user: '{question} {words}'}]
label_map: octants
neutral: drop
"""


ATTEMPT = {"began": "2026-11-30T08:00:00+00:00", "host": "h"}


def written(**changes: Any) -> dict[str, Any]:
    """A manifest as it comes back from a disk."""
    back: dict[str, Any] = json.loads(json.dumps(manifest.fresh(parse(SPEC)).as_json() | changes))
    return back


def study_of(found: dict[str, Any]) -> Study:
    return manifest.study(manifest.parsed(found, "/runs/x"), "/runs/x")


def day_of(found: dict[str, Any]) -> date | None:
    return manifest.day(manifest.parsed(found, "/runs/x"))


def complaint(found: dict[str, Any]) -> str:
    with pytest.raises(UserError) as told:
        study_of(found)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_run_folder_tells_the_study_that_it_is_a_run_of() -> None:
    before, after = parse(SPEC), study_of(written())
    assert after.experiment == before.experiment
    texts = {"templates", "questions"}  # stand there in full: a later emoray may ship others under the same names
    assert after.spec.model_dump(exclude=texts) == before.spec.model_dump(exclude=texts)
    assert [place.affect for place in after.label_map.places] == [place.affect for place in before.label_map.places]
    assert [place.reason for place in after.label_map.places] == [place.reason for place in before.label_map.places]
    assert (after.label_map.name, after.label_map.mark, after.spec.neutral) == ("octants", "ours", "drop")


def test_a_run_has_one_day_however_often_it_is_resumed() -> None:
    began = written()
    assert began["day"] == datetime.now(UTC).date().isoformat()
    assert day_of(began | {"day": "2026-03-09"}) == date(2026, 3, 9)
    attempts = [ATTEMPT | {"began": f"2026-03-{at}+00:00"} for at in ("08T23:59:59", "10T08:00:00")]
    before_that_was_kept = {name: value for name, value in began.items() if name != "day"} | {"attempts": attempts}
    assert day_of(before_that_was_kept) == date(2026, 3, 8)


@pytest.mark.parametrize("kept", [{}, {"day": "someday"}, {"day": 7}, {"day": None}])
def test_where_no_day_is_kept_there_is_none(kept: dict[str, Any]) -> None:
    began = written()
    del began["day"]
    assert day_of(began | kept) is None
    assert manifest.day(None) is None


def test_the_keys_of_a_folders_study_are_those_that_were_asked() -> None:
    def keys(study: Study) -> set[str]:
        return {p.key for model in study.experiment.models for p in prompts(study.experiment.grid(model.name))}

    assert keys(study_of(written())) == keys(parse(SPEC))


def test_a_users_label_map_is_in_the_folder_and_not_needed_again(tmp_path: Any) -> None:
    (tmp_path / "mine.yaml").write_text("".join(f"{label}: {{angle: 10}}\n" for label in LABELS))
    study = parse(SPEC.replace("octants", "mine.yaml"), folder=tmp_path)
    found = json.loads(json.dumps(manifest.fresh(study).as_json()))
    (tmp_path / "mine.yaml").unlink()
    again = study_of(found).label_map
    assert (again.name, again.mark) == ("mine", "user")
    assert [place.affect for place in again.places] == [place.affect for place in study.label_map.places]


def test_a_manifest_says_what_is_quoted_ours_and_the_users() -> None:
    assert written()["marks"] == {
        "templates": {"words": "ours", "own": "user"},
        "questions": {"freedom": "quoted", "mine": "user"},
        "models": {"a": "user", "b": "user"},
        "neutral": {"drop": "ours"},
        "sampling": {"temperature": "ours", "top_p": "ours", "max_tokens": "ours"},
        "score": {"top label": "ours", "expected": "ours"},
        "refusals": {"an answer, flagged": "ours"},
        "angles": {"frustrated": "ours", "depressed": "ours", "droopy": "ours"},
        "classifier": {"label names": "ours", "long answers": "ours"},
    }


def test_which_version_of_a_model_of_the_papers_is_asked_is_ours() -> None:
    study = parse(SPEC.replace("name: b", "name: GPT-4"))
    assert manifest.fresh(study).marks["models"] == {"a": "user", "GPT-4": "ours"}


def test_a_manifest_that_knew_only_the_marks_of_texts_can_still_be_read() -> None:
    now = written()["marks"]
    before = written(marks={what: now[what] for what in ("templates", "questions")})
    assert study_of(before).experiment == parse(SPEC).experiment


def test_a_manifest_names_the_variable_of_a_key_and_never_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    whole = json.dumps(written(attempts=[manifest.attempt(["emoray", "run", "spec.yaml"]).as_json()]))
    assert "OPENAI_API_KEY" in whole
    assert "sk-very-secret" not in whole


def test_an_attempt_says_who_when_where_and_with_what() -> None:
    attempt = manifest.attempt(["emoray", "run", "spec.yaml"]).as_json()
    assert attempt["command"] == ["emoray", "run", "spec.yaml"]
    assert {"id", "began", "host", "pid", "user", "versions", "git"} <= attempt.keys()
    assert {"emoray", "python", "ray", "numpy", "pyarrow"} <= attempt["versions"].keys()
    assert manifest.attempt([]).id != attempt["id"]
    json.dumps(attempt)


def test_a_folder_without_a_manifest_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        recovery.begun(RunFolder(str(tmp_path)))
    assert str(told.value) == (
        f"{tmp_path}: is no run folder (it has no run.json); give the folder that `emoray run` wrote"
    )


def test_a_manifest_of_another_format_is_refused() -> None:
    assert complaint(written(format=99)) == "/runs/x: run.json has format 99, this emoray reads 1"


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"name": "t"}},
        {"spec": None},
        {"label_map": None},
        {"label_map": {"name": "x", "mark": "ours", "labels": {}}},
        {"spec": {"name": "t", "models": [{"name": "a", "host": "scripted"}], "templates": ["gone"]}},
    ],
)
def test_a_manifest_that_somebody_edited_is_refused_in_a_sentence(changes: dict[str, Any]) -> None:
    assert complaint(written(**changes)).startswith(f"/runs/x: run.json cannot be used by emoray {__version__} (")


@pytest.mark.parametrize("part", ["digest", "cells_per_model", "marks", "attempts", "spec", "label_map"])
def test_a_manifest_that_lost_a_part_is_refused_in_a_sentence_that_names_it(part: str) -> None:
    torn = written()
    for lost in (torn | {part: None}, {name: value for name, value in torn.items() if name != part}):
        said = complaint(lost)
        assert "run.json cannot be used" in said
        assert "; put back a good copy, or use the emoray that wrote it" in said
    assert f"{part} is missing" in complaint(torn | {"x": torn.pop(part)}).replace("'", "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"attempts": [None]}, "attempts[0] should be a valid dictionary"),
        ({"attempts": [{"host": "h"}]}, "attempts[0].began is missing"),
        ({"attempts": [{"host": "h", "began": None}]}, "attempts[0].began should be a valid string, and is None"),
        ({"attempts": [{"host": "h", "began": "yesterday"}]}, "attempts[0].began is no time with its zone"),
        ({"attempts": [{"host": "h", "began": "2026-11-30T08:00:00"}]}, "attempts[0].began is no time with its zone"),
        ({"attempts": [ATTEMPT | {"lanes": [{"error": "x"}]}]}, "attempts[0].lanes[0].model is missing"),
        ({"attempts": [ATTEMPT | {"settled_before": {"a": None}}]}, "attempts[0].settled_before.a should be"),
        ({"attempts": [ATTEMPT | {"sampling": [1]}]}, "attempts[0].sampling should be a valid dictionary"),
        ({"cells_per_model": "12"}, "cells_per_model should be a valid integer, and is '12'"),
        ({"cells_per_model": -1}, "cells_per_model should be greater than or equal to 0, and is -1"),
        ({"extended": "no"}, "extended should be a valid boolean"),
        ({"more_readers": None}, "more_readers should be a valid list"),
        (
            {"more_readers": [{"kind": "tea leaves"}]},
            "(it has the kind 'tea leaves', which no package here brings: install the one that does)",
        ),
        (
            {"spec": {"name": "t", "models": [{"name": "m", "host": "mirror", "id": "x"}]}},
            "(models[0] has the host 'mirror', which no package here brings: install the one that does)",
        ),
        ({"marks": {"templates": []}}, "marks.templates should be a valid dictionary"),
    ],
)
def test_what_is_odd_in_a_manifest_is_named(changes: dict[str, Any], why: str) -> None:
    assert why in complaint(written(**changes))


def test_what_a_later_emoray_has_written_beside_it_stays_where_a_manifest_is_written_anew() -> None:
    lane = {"model": "a", "answered": 3, "moods": {"calm": 2}}
    attempt = ATTEMPT | {"spent_before": {"a": {"prompt_tokens": 7, "watts": 2.5}}, "lanes": [lane], "room": "12"}
    later = written(attempts=[attempt], wishes=[{"x": None}])
    later["label_map"]["editor"] = "somebody"
    kept = manifest.parsed(later, "/runs/x")
    assert kept.as_json() == later
    resumed = manifest.redescribed(kept, parse(SPEC), first=True).changed(extended=True)
    assert resumed.as_json() == later | {"label_map": written()["label_map"], "extended": True}


def test_a_count_that_a_tool_has_written_as_a_float_is_the_same_count() -> None:
    costs = {"prompt_tokens": 7.0, "cost_usd": 2}
    lane = {"model": "a", "answered": 3.0, "failed": {"empty": 2.0}} | costs
    attempt = ATTEMPT | {"pid": 9.0, "settled_before": {"a": 4.0}, "spent_before": {"a": costs}, "lanes": [lane]}
    kept = manifest.parsed(written(format=1.0, cells_per_model=12.0, attempts=[attempt]), "/runs/x")
    assert kept.as_json() == written(cells_per_model=12, attempts=[attempt])
    assert '"answered": 3,' in json.dumps(kept.as_json())
    assert "cells_per_model" in complaint(written(cells_per_model=11.5))


def test_numbers_that_are_none_are_written_as_they_were_read() -> None:
    odd = '{"low": -Infinity, "none": NaN, "many": [Infinity]}'
    later = written(wishes=json.loads(odd))
    later["spec"]["wishes"] = json.loads(odd)
    back = manifest.parsed(later, "/runs/x").as_json()
    assert [json.dumps(back["wishes"]), json.dumps(back["spec"]["wishes"])] == [odd, odd]


def test_a_manifest_of_an_earlier_emoray_is_written_as_it_was_to_the_byte() -> None:
    fresh = written(attempts=[manifest.attempt(["emoray", "run"]).as_json()])
    lost = {"contrasts_first", "contrasts_meant", "day"}
    earlier = {name: value for name, value in fresh.items() if name not in lost}
    for kept in (fresh, earlier):
        assert json.dumps(manifest.parsed(kept, "/runs/x").as_json()) == json.dumps(kept)


# accepted until 30 November 2026, and refused in a new spec since
MODELS_ONCE: list[dict[str, Any]] = [
    {"name": "a", "host": "transformers", "id": "org/x", "gpus": 1.5, "cpus": 0.00001, "resources": {"GPU": 1.0}},
    {"name": "b", "host": "scripted", "cpus": 0.00001, "resources": {"CPU": 1, "memory": 1e9, "disk": 0.00001}},
]
READERS_ONCE: list[dict[str, Any]] = [
    {
        "kind": "goemotions", "name": "own", "model": "org/y", "gpus": 2.5, "cpus": 0.00001,
        "label_map": {
            "joy": {"term": "happy", "angle": 30},
            "fear": {"angle": 110, "valence": 1, "arousal": 0},
            "calm": {"none": True, "term": "calm"},
            "rage": {"term": "angry", "angle": "unsaid"},
        },
    },
    {"kind": "scripted", "name": "r", "cpus": 0.00001, "resources": {"object_store_memory": 1}},
    {"kind": "judge", "name": "j", "model": MODELS_ONCE[0]},
]  # fmt: skip


def kept_once() -> dict[str, Any]:
    kept = written()
    return kept | {"spec": kept["spec"] | {"models": MODELS_ONCE, "readers": READERS_ONCE[:2]},
                   "marks": kept["marks"] | {"models": {"a": "user", "b": "user"}},
                   "more_readers": [READERS_ONCE[2], READERS_ONCE[0] | {"name": "later"}]}  # fmt: skip


def test_what_was_accepted_when_it_was_written_is_read_for_ever_and_means_what_it_meant(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    folder.write_manifest(kept_once())

    told, study = status(folder), study_of(kept_once())

    assert [model.model for model in told.models] == ["a", "b"]
    assert study.spec.model("a").model_dump()["gpus"] == 1.5
    for name in ("own", "later"):
        places = own_maps(manifest.readers(manifest.parsed(kept_once(), "x")))[name].affects
        angles = {label: place.angle_deg if place else None for label, place in places}
        once = {"joy": ANGLES_DEG["happy"], "fear": 110, "calm": None, "rage": ANGLES_DEG["angry"]}
        assert angles == pytest.approx(once)


def test_a_reader_of_a_file_may_read_a_run_that_was_accepted_once(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("kind: scripted\nname: new\n")
    spec = with_reader(tmp_path / "r.yaml", study_of(kept_once()).spec)
    assert ([one.name for one in spec.models], [one.name for one in spec.readers]) == (["a", "b"], ["new"])


def test_the_same_is_refused_in_a_new_spec() -> None:
    scripted = {"name": "a", "host": "scripted"}
    news: list[dict[str, Any]] = [{"models": [one]} for one in MODELS_ONCE]
    news += [{"models": [scripted], "readers": [one]} for one in READERS_ONCE]
    for new in news:
        with pytest.raises(SpecError):
            parse(json.dumps({"name": "t"} | new))


def test_a_folder_whose_engines_took_the_models_own_defaults_unsaid_says_so(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text = runs.SPEC.replace("{name: a, host: scripted}", "{name: a, host: vllm, id: org/m}")
    folder = runs.begun(tmp_path, text)
    runs.say(folder, runs.asked(text)[:1])
    warn_of_older(folder, runs.study(text))
    assert capsys.readouterr().err == ""  # it was begun by this version

    before = folder.manifest() or {}
    del before["spec"]["models"][0]["sampling_defaults"]
    folder.write_manifest(before)
    assert study_of(before).experiment == runs.study(text).experiment
    warn_of_older(folder, runs.study(text))
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("warning: model 'a': its answers in ")
    assert "drawn with the model's own generation_config where the spec leaves something open" in said


@pytest.mark.parametrize("name", ["run.json", "lanes.json"])
def test_a_pipe_in_place_of_a_file_is_a_sentence_and_no_wait_for_ever(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(StoreError, match=rf"{name} is a pipe, a socket or a device, and no file: move it away"):
        RunFolder(str(tmp_path)).read_bytes(name)
