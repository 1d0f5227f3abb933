"""Contrasts in a spec: what can be said, and a sentence for all that cannot, before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from emoray.commands.cli import main
from emoray.run_folder import manifest
from emoray.spec.base import SpecError
from emoray.spec.document import json_schema
from emoray.spec.explored import explored
from emoray.spec.load import parse
from emoray.study import prompts
from emoray.study.conditions import Condition
from emoray.study.contrasts import STATE_GROUPS, Contrast, Part, by_when, in_group, of_spec, tags_of
from tests import runs

BASE = """
name: t
models: [{name: a, host: scripted}, {name: b, host: scripted}]
states: 12
templates: [words, parameters]
intensities: [0.25, 0.5, 1.0]
questions: [abstract-philosophical, personal-preference]
readers: [{kind: scripted, name: r}, {kind: scripted, name: s}]
"""
WORDS = "{factor: template, a: words, b: parameters}"


def read(*contrasts: str, base: str = BASE, changes: Sequence[str] = ()) -> tuple[Contrast, ...]:
    text = base + "contrasts:\n" + "".join(f"  - {one}\n" for one in contrasts)
    return parse(text, source="s.yaml", changes=changes).contrasts


def complaint(*contrasts: str, base: str = BASE, changes: Sequence[str] = ()) -> str:
    with pytest.raises(SpecError) as wrong:
        read(*contrasts, base=base, changes=changes)
    return str(wrong.value)


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        (WORDS, (Part("template", "words", "parameters"),)),
        ("{factor: intensity, a: 1, b: 0.5}", (Part("intensity", 1.0, 0.5),)),
        ("{factor: intensity, trend: linear}", (Part("intensity"),)),
        ("{factor: state, a: pleasant, b: unpleasant}", (Part("state", "pleasant", "unpleasant"),)),
        (
            "{factor: tag, a: personal-preference, b: abstract-philosophical}",
            (Part("tag", "personal-preference", "abstract-philosophical"),),
        ),
        ("{factor: model, a: b, b: a}", (Part("model", "b", "a"),)),
        ("{factor: reader, a: r, b: s}", (Part("reader", "r", "s"),)),
        (
            "{factor: condition, a: {template: words, intensity: 0.5}, b: {template: parameters, intensity: 1}}",
            (Part("condition", Condition("words", 0.5), Condition("parameters", 1.0)),),
        ),
        (
            f"{{interaction: [{WORDS}, {{factor: intensity, trend: linear}}]}}",
            (Part("template", "words", "parameters"), Part("intensity")),
        ),
    ],
)
def test_every_factor_of_a_grid_can_be_contrasted(entry: str, parts: tuple[Part, ...]) -> None:
    (found,) = read(entry)
    assert found == Contrast(parts)
    assert of_spec(json.loads(json.dumps({"contrasts": _dumped(entry)}))) == (found,)


def _dumped(entry: str) -> object:
    return parse(f"{BASE}contrasts: [{entry}]").spec.model_dump(mode="json")["contrasts"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{factor: templat, a: words, b: parameters}", ".factor must be 'template', 'intensity', 'condition', 'tag', "),
        ("{factor: template, a: wrods, b: parameters}", ": 'wrods' is none of words, parameters; did you mean"),
        ("{factor: template, a: none, b: words}", ".a: 'none' is none of words, parameters"),
        ("{factor: template, a: words, b: words}", " holds words against itself; give two levels"),
        ("{factor: template, a: words}", ".b is missing; a contrast of template is of two levels, a and b"),
        ("{factor: intensity}", ".a is missing; a contrast of intensity is of two levels, a and b, or trend: linear"),
        ("{factor: template, trend: linear}", ".trend: the levels of template have no order; a trend is"),
        ("{factor: intensity, trend: linear, a: 1}", " has a trend and a; leave one of the two out"),
        ("{factor: intensity, trend: square}", ".trend must be 'linear', got 'square'"),
        ("{factor: intensity, a: 0.3, b: 1}", ".a: 0.3 is none of 0.25, 0.5, 1"),
        ("{factor: intensity, a: '0.5', b: 1}", ".a: '0.5' is none of 0.25, 0.5, 1; '0.5' is a text, write 0.5"),
        ("{factor: model, a: a, b: c}", ".b: 'c' is none of a, b"),
        ("{factor: reader, a: r, b: t}", ".b: 't' is none of r, s"),
        ("{factor: tag, a: x, b: y}", ".a: 'x' is none of abstract-philosophical, personal-preference"),
        ("{factor: state, a: plesant, b: unpleasant}", "; did you mean 'pleasant'?"),
        (
            "{factor: state, a: pleasant, b: pleasant-activated}",
            ": the state at 30° is both pleasant and pleasant-activated; take groups that share none",
        ),
        (
            "{factor: condition, a: words, b: parameters}",
            ".a: 'words' is no condition; write {template: …, intensity: …}",
        ),
        (
            "{factor: condition, a: {template: wrds, intensity: 1}, b: {template: words, intensity: 1}}",
            ".a.template: 'wrds' is none of words, parameters; did you mean 'words'?",
        ),
        (
            "{factor: template, a: {template: words, intensity: 1}, b: parameters}",
            ".a is a template at an intensity, which is a level of condition and not of template",
        ),
        (WORDS.replace("}", ", margin: 0}"), ".margin must be more than 0, got 0"),
        (WORDS.replace("}", ", margin: -0.05}"), ".margin must be more than 0, got -0.05"),
        (WORDS.replace("}", ", marjin: 0.05}"), ".marjin is not a setting; did you mean 'margin'?"),
        (WORDS.replace("}", ", of: length}"), ".of must be 'cosine' or 'projection', got 'length'"),
        ("{a: words, b: parameters}", ".factor is missing; give one, with a and b or a trend"),
        (f"{{interaction: [{WORDS}]}}", ".interaction must have at least 2, got "),
        (
            f"{{interaction: [{WORDS}, {WORDS}]}}",
            ".interaction has template twice; an interaction is of two different factors",
        ),
        (
            f"{{interaction: [{WORDS}, {{factor: condition, a: {{template: words, intensity: 1}}, "
            "b: {template: words, intensity: 0.5}}]}",
            ".interaction has condition, which holds template and intensity already; take these",
        ),
        (
            f"{{interaction: [{WORDS}, {{factor: model, a: a, b: d}}]}}",
            ".interaction[1].b: 'd' is none of a, b",
        ),
        (
            f"{{factor: model, interaction: [{WORDS}, {{factor: model, a: a, b: b}}]}}",
            " has an interaction and factor; put factor into one of its two factors",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_contrasted_is_one_sentence(entry: str, said: str) -> None:
    found = complaint(entry)
    assert found.startswith("s.yaml: contrasts[0]")
    assert said in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("change", "entry", "said"),
    [
        ("templates=[words]", WORDS, "there is one template only (words), and nothing to hold it against"),
        ("intensities=[1]", "{factor: intensity, trend: linear}", "there is one intensity only (1), and nothing to"),
        ("models=[{name: a, host: scripted}]", "{factor: model, a: a, b: b}", "there is one model only (a), and"),
        ("readers=[{kind: scripted, name: r}]", "{factor: reader, a: r, b: s}", "there is one reader only (r), and"),
        ("questions=all", "{factor: tag, a: x, b: y}", "no question here has tags; write {id: …, text: …, tags: […]}"),
        ("questions=freedom", "{factor: model, a: a, b: b}", "questions are the sample, and there is one only"),
        ("states=[0, 30]", "{factor: state, a: pleasant, b: unpleasant}", "none of the states is unpleasant"),
    ],
)
def test_a_factor_that_the_grid_does_not_vary_is_one_sentence(change: str, entry: str, said: str) -> None:
    found = complaint(entry, changes=[change])
    assert said in found
    assert "\n" not in found


def test_groups_of_questions_share_none_and_have_two_at_least() -> None:
    tagged = BASE.replace(
        "questions: [abstract-philosophical, personal-preference]",
        "questions: [{id: x, text: Is it, tags: p}, {id: y, text: Is it so, tags: [p, q]}, "
        "{id: z, text: And now, tags: [q, o]}]",
    )
    assert complaint("{factor: tag, a: p, b: q}", base=tagged) == (
        "s.yaml: contrasts[0]: the question 'y' has both tags, p and q; a contrast needs two groups of questions that "
        "share none"
    )
    assert "one question only has the tag 'o'" in complaint("{factor: tag, a: p, b: o}", base=tagged)


def test_the_same_contrast_twice_is_one_too_many_whatever_its_sign_or_margin() -> None:
    again = "{factor: template, a: parameters, b: words, margin: 0.1}"
    assert complaint(WORDS, again) == (
        "s.yaml: contrasts[0] and contrasts[1] are the same (template: words − parameters); keep one"
    )
    assert len(read(WORDS, WORDS.replace("}", ", of: projection}"))) == 2  # of another score it is another


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WORDS, "{factor: condition, a: {template: words, intensity: 1}, b: {template: parameters, intensity: 1}}"),
        ("{factor: intensity, a: 1, b: 0.5}", "{factor: intensity, trend: linear}"),
        (
            "{factor: intensity, trend: linear}",
            "{factor: condition, a: {template: words, intensity: 0.5}, b: {template: words, intensity: 1}}",
        ),
        (
            "{interaction: [{factor: template, a: words, b: parameters}, {factor: intensity, a: 1, b: 0.5}]}",
            "{interaction: [{factor: intensity, trend: linear}, {factor: template, a: words, b: parameters}]}",
        ),
    ],
)
def test_the_same_contrast_in_other_words_is_one_too_many(one: str, other: str) -> None:
    changes = ["intensities=[0.5, 1.0]", "headline={template: words, intensity: 1}"]
    assert "are the same" in complaint(one, other, changes=changes)
    families = [read(entry, changes=changes)[0].family for entry in (one, other)]
    assert families[0] == families[1]


def test_templates_at_another_intensity_than_the_headlines_are_another_contrast_of_their_family() -> None:
    faint = "{factor: condition, a: {template: words, intensity: 0.5}, b: {template: parameters, intensity: 0.5}}"
    found = read(WORDS, faint, changes=["intensities=[0.5, 1.0]"])
    assert [one.family for one in found] == ["template", "template"]


def test_a_margin_that_no_difference_can_reach_is_one_sentence() -> None:
    trend, wide = "{factor: intensity, trend: linear, margin: %s}", WORDS.replace("}", ", margin: %s}")
    inside = "{interaction: [{factor: template, a: words, b: parameters}, {factor: model, a: a, b: b}], margin: %s}"
    for entry, below, reach in ((wide, 1.9, 2), (trend, 3.9, 4), (inside, 3.9, 4)):
        changes = ["intensities=[0.5, 1.0]"]
        assert read(entry % below, changes=changes)[0].margin == below
        said = complaint(entry % reach, changes=changes)
        assert f"margin {reach} is not below {reach}, and no such contrast of cosines can lie farther from 0" in said
    assert read(f"{(wide % 5)[:-1]}, of: projection}}")[0].margin == 5  # of lengths nobody knows


def test_a_number_that_is_a_name_is_to_be_quoted() -> None:
    assert 'a: 1 is none of 1, 2; 1 is a name, write "1", in quotes' in complaint(
        "{factor: model, a: 1, b: 2}", base=BASE.replace("name: a", 'name: "1"').replace("name: b", 'name: "2"')
    )


def test_one_contrast_needs_no_list() -> None:
    assert parse(f"{BASE}contrasts: {WORDS}").contrasts == read(WORDS)


def test_a_spec_without_contrasts_has_the_digest_that_it_always_had_and_with_some_another() -> None:
    assert parse(BASE).spec.digest == parse(f"{BASE}contrasts: []").spec.digest
    assert parse(BASE).spec.digest != parse(f"{BASE}contrasts: [{WORDS}]").spec.digest
    own = BASE.replace("abstract-philosophical, personal-preference", "{id: x, text: Is it}, {id: y, text: So}")
    assert parse(own).spec.digest == parse(own.replace("Is it}", "Is it, tags: []}")).spec.digest


def test_a_manifest_keeps_contrasts_and_tags() -> None:
    study = parse(f"{BASE}contrasts: [{WORDS}]")
    kept = json.loads(json.dumps(manifest.fresh(study).as_json()))
    assert of_spec(kept["spec"]) == study.contrasts
    assert {tag: len(ids) for tag, ids in tags_of(kept["spec"]).items()} == {
        "abstract-philosophical": 16,
        "personal-preference": 16,
    }
    assert manifest.study(manifest.parsed(kept, "/runs/x"), "/runs/x").experiment == study.experiment


def test_what_is_added_once_there_are_answers_is_told_as_looked_at_after() -> None:
    later = "{factor: model, a: a, b: b}"
    kept = manifest.fresh(parse(f"{BASE}contrasts: [{WORDS}]")).as_json()
    resumed = kept | manifest.described(parse(f"{BASE}contrasts: [{WORDS}, {later}]"))
    assert kept["contrasts_meant"]["headline"] == {"template": "words", "intensity": 1.0}
    first, after = by_when(json.loads(json.dumps(resumed)))
    assert ([str(one) for one in first], [str(one) for one in after]) == (
        ["template: words − parameters"], ["model: a − b"],
    )  # fmt: skip
    wider = kept | manifest.described(parse(f"{BASE}contrasts: [{WORDS.replace('}', ', margin: 0.5}')}]"))
    assert [[one.margin for one in some] for some in by_when(wider)] == [[None], [0.5]]  # the first stays what it was
    assert by_when(kept | manifest.described(parse(BASE))) == (first, ())  # to drop one undoes nothing
    assert by_when({"spec": kept["spec"]})[0] == ()  # of an emoray that did not write down when they were said


def test_contrasts_ask_nothing_else() -> None:
    with_some, without = parse(f"{BASE}contrasts: [{WORDS}]").experiment, parse(BASE).experiment
    keys = [[prompt.key for prompt in prompts.prompts(one.grid("a"), stop=50)] for one in (with_some, without)]
    assert keys[0] == keys[1]


def test_a_group_of_states_holds_what_lies_within_it_and_nothing_on_its_border() -> None:
    members = {name: [angle for angle in range(0, 360, 30) if in_group(name, angle)] for name in STATE_GROUPS}
    assert members["pleasant"] == [0, 30, 60, 300, 330]
    assert members["deactivated"] == [210, 240, 270, 300, 330]
    assert members["unpleasant-activated"] == [120, 150]


def test_shipped_sets_are_ours_of_fifteen_at_least_and_no_question_is_in_two() -> None:
    sets = prompts.question_sets()
    assert set(sets) == {"abstract-philosophical", "personal-preference"}
    every = [*prompts.shipped_questions().values(), *(question for some in sets.values() for question in some)]
    assert len({question.id for question in every}) == len({question.text for question in every}) == len(every)
    for name, some in sets.items():
        assert len(some) >= 15
        assert {(question.mark, question.tags) for question in some} == {("ours", (name,))}


def test_one_question_of_a_set_can_be_asked_by_its_id_and_keeps_its_tag() -> None:
    study = parse(BASE.replace("[abstract-philosophical, personal-preference]", "[freedom, truth, breakfast]"))
    assert [question.tags for question in study.experiment.questions] == [
        (), ("abstract-philosophical",), ("personal-preference",),
    ]  # fmt: skip


def test_the_schema_knows_contrasts() -> None:
    schema = json_schema()
    entry = {"$ref": "#/$defs/ContrastEntry"}
    assert [one.get("items", one) for one in schema["properties"]["contrasts"]["anyOf"]] == [entry, entry]
    assert set(schema["$defs"]["ContrastEntry"]["properties"]) >= {"factor", "a", "b", "trend", "of", "margin"}


def test_a_bad_contrast_ends_a_run_with_exit_code_2_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(f"{BASE}contrasts: [{{factor: template, a: words, b: verbal}}]\n", encoding="utf-8")
    assert main(["run", str(spec), "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().err == f"emoray: {spec}: contrasts[0].b: 'verbal' is none of words, parameters\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("factor=model,a=a,b=c", "b: 'c' is none of a, b b"),
        ("factor=model,a=a,b=b b", "is said in the spec, and told in the report already; leave it out"),
        (
            "factor=template,a=words,b=parameters",
            "it: there is one template only (parameters), and nothing to hold it ",
        ),
        ("factor=model,a=a,b=b b,margin=0", "margin must be more than 0, got 0"),
        ("model", "model is not a setting"),
        ("{factor: model", "line 1: expected ',' or '}'"),
    ],
)
def test_a_bad_exploratory_contrast_is_one_sentence_and_writes_nothing(
    given: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.begun(tmp_path / "run", f"{runs.SPEC}contrasts: [{{factor: model, a: b b, b: a}}]\n")
    assert main(["report", folder.uri, "--contrast", given]) == 2
    found = capsys.readouterr().err
    assert found.startswith(f"emoray: --contrast {given}: {said}")
    assert found.count("\n") == 1
    assert not (tmp_path / "run" / "report").exists()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("factor=model,b=a,a=x=1", "x=1"),
        ('factor=model, a="x,b=1", b = a', "x,b=1"),
        ("a='it''s, b=c', b=a, factor=model", "it's, b=c"),
        ("factor=model,a=it's,b=a", "it's"),
    ],
)
def test_a_name_of_an_exploratory_contrast_is_taken_as_it_is_written(given: str, name: str) -> None:
    study = runs.study()
    with pytest.raises(SpecError) as wrong:
        explored(study, [given], study.spec.readers)
    assert f"a: {name!r} is none of a, b b" in str(wrong.value)


def test_exploratory_contrasts_are_read_as_the_specs_are() -> None:
    study = runs.study()
    given = ["factor=model,a=a,b=b b,margin=0.05", "{factor: state, a: pleasant, b: unpleasant}"]
    assert explored(study, given, study.spec.readers) == (
        Contrast((Part("model", "a", "b b"),), margin=0.05),
        Contrast((Part("state", "pleasant", "unpleasant"),)),
    )


def test_the_same_exploratory_contrast_in_other_words_is_one_too_many() -> None:
    study = runs.study()
    given = ["factor=model,a=a,b=b b", "factor=model,a=b b,b=a,margin=0.1"]
    with pytest.raises(SpecError, match=r"is the same as another --contrast \(model: a − b b\); keep one"):
        explored(study, given, study.spec.readers)
    assert len(explored(study, [given[0], given[0]], study.spec.readers)) == 1


def test_groups_that_hold_the_same_here_are_the_same_contrast_in_other_words() -> None:
    halves = "{factor: state, a: pleasant, b: unpleasant}"
    quadrants = "{factor: state, a: pleasant-activated, b: unpleasant-activated}"
    assert len(read(halves, quadrants)) == 2
    assert "are the same (state: pleasant" in complaint(halves, quadrants, changes=["states=[45, 135]"])
    questions = ", ".join(
        f"{{id: {one}, text: {one}, tags: {tags}}}"
        for one, tags in zip("abcd", ["[x, u]"] * 2 + ["[y]"] * 2, strict=True)
    )
    said = complaint("{factor: tag, a: x, b: y}", "{factor: tag, a: y, b: u}", changes=[f"questions=[{questions}]"])
    assert "contrasts[0] and contrasts[1] are the same (tag: x − y); keep one" in said


def test_an_unknown_number_has_the_digits_by_which_it_differs() -> None:
    said = complaint("{factor: intensity, a: 0.3, b: 1}", changes=["intensities=[0.30000000000000004, 1]"])
    assert said == "s.yaml: contrasts[0].a: 0.3 is none of 0.30000000000000004, 1"
