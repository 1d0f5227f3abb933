"""The page stands alone, shows text as text, and says what is ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from emoray.report import Settings, colours, figures, first_screen, sections, to_copy
from emoray.report.looks import Looks
from emoray.report.page import page
from emoray.report.phrasing import UNKNOWN, time_sentence
from emoray.report.summary import Summary, summarize
from emoray.report.timeline import Timeline, Voice
from emoray.study import paper
from emoray.study.goemotions import DIRECT, LABELS, label_map_from
from tests.report.synthetic import RUSSELL, Run, run

_SETTINGS = Settings(RUSSELL, "zero", shuffles=50)


@pytest.fixture(scope="module")
def small() -> Run:
    return run({"steady": 0.8, "blank": 0.0}, states=4, questions=3, repetitions=2, refusals=0.1, failures=0.1)


@pytest.fixture(scope="module")
def shown(small: Run) -> str:
    return page(summarize(small, _SETTINGS))


class Structure(HTMLParser):
    """Tags, ids, text; and whether every tag is closed where it must be."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += f" {data}"


def test_it_has_the_sections_in_their_order(shown: str) -> None:
    found = Structure(shown)
    sections = [attributes["id"] for tag, attributes in found.tags if tag == "section"]
    assert sections == [
        "models", "circumplex", "states", "questions", "differences", "claims",
        "spread", "failures", "examples", "paper", "method",
    ]  # fmt: skip
    linked = [attributes["href"] for tag, attributes in found.tags if tag == "a" and "download" not in attributes]
    assert linked == [f"#{name}" for name in sections]
    assert found.text.count("steady") > 5


def test_nothing_is_loaded_and_nothing_runs_but_its_own_script(shown: str) -> None:
    found = Structure(shown)
    assert {tag for tag, _ in found.tags}.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
        targets = [attributes.get(name) or "#" for name in ("src", "href", "xlink:href", "action")]
        beside = ("tables/", "figures/") if "download" in attributes else ()
        assert all(target.startswith(("#", "data:", *beside)) for target in targets)
    assert not re.search(r"@import|url\((?!#|['\"]?data:)", shown)
    assert "default-src 'none'" in shown
    data, script = re.findall(r"<script([^>]*)>(.*?)</script>", shown, re.DOTALL)
    assert data[0] == ' type="application/json" id="answers-data"'
    assert not set(data[1]) & set("<>&")
    assert script[0] == ""
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in shown


def test_no_two_elements_share_an_id(shown: str) -> None:
    ids = [attributes["id"] for _, attributes in Structure(shown).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20


def test_every_reference_inside_a_figure_is_there(shown: str) -> None:
    ids = {attributes["id"] for _, attributes in Structure(shown).tags if "id" in attributes}
    for reference in (r"url\(#([^)]+)\)", r'xlink:href="#([^"]+)"'):
        found = set(re.findall(reference, shown))
        assert found
        assert found <= ids


def test_every_figure_says_in_words_what_it_shows(shown: str) -> None:
    drawn = [attributes for tag, attributes in Structure(shown).tags if tag == "svg"]
    labels = [one["aria-label"] or "" for one in drawn if one.get("role") == "img"]
    assert all(labels)
    assert all("aria-label" in one or one.get("aria-hidden") == "true" for one in drawn)
    assert any(label.startswith("Circumplex of steady, read by embedded. Mean cosine 0.") for label in labels)


def test_what_a_model_wrote_is_text_whatever_it_wrote(small: Run) -> None:
    evil = "</blockquote><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} \x00\u202e\x1b[2J $x^2$"
    table = small.said["steady"]
    said = table.set_column(table.schema.get_field_index("answer"), "answer", pa.array([evil] * len(table)))
    shown = page(
        summarize(Run({"steady": said}, {("embedded", "steady"): small.felt["embedded", "steady"]}), _SETTINGS)
    )
    assert [tag for tag, _ in Structure(shown).tags].count("script") == 2  # data, and ours
    assert "<img" not in shown
    assert "{{ 7 * 7 }}" in shown
    assert not any(odd in shown for odd in "\x00\x1b\u202e")


@pytest.mark.parametrize("name", ["<u>under</u>", "$\\frac{1}{0}$", "a & b", 'say "so"', "</svg><script>"])
def test_names_are_text_too(name: str) -> None:
    source = run({name: 0.5}, readers=(name,), states=3, questions=2, repetitions=1)
    found = Structure(page(summarize(source, _SETTINGS)))
    assert name in found.text
    assert "u" not in {tag for tag, _ in found.tags}
    assert [tag for tag, _ in found.tags].count("script") == 2  # data, and ours


def test_what_is_ours_is_said_and_what_is_quoted_has_its_mark(shown: str) -> None:
    text = " ".join(Structure(shown).text.split())
    assert "Label map russell ours" in text
    assert "Neutral rule a neutral reading scores 0 ours" in text
    assert "Question freedom: What does freedom mean to you? quoted" in text
    assert "Question technology: How has technology changed the way people live together? ours" in text
    assert paper.CITATION in text
    for fact in (paper.MODEL_MEANS, paper.BEST_COSINE, paper.CLASSIFIER_MEAN_COSINE):
        assert f"{fact.mark} {fact.where}" in text


def test_an_ending_that_nobody_knows_is_shown_with_how_often_it_came(small: Run) -> None:
    def ended(table: pa.Table, word: str | None, times: int) -> pa.Table:
        words = pa.array(
            [word] * times + [None, "stop", "MAX_TOKENS", "", "SAFETY"] + [None] * (len(table) - times - 5), pa.string()
        )
        return table.set_column(table.schema.get_field_index("finish_reason_raw"), "finish_reason_raw", words)

    steady = small.said["steady"].sort_by([("outcome", "ascending")])  # answers first
    summary = summarize(Run(small.said | {"steady": ended(steady, "<b>mood</b>", 3)}, small.felt), _SETTINGS)
    kept_by_another_version = {"SAFETY": {"steady": 1}}
    assert summary.odd_endings == {"<b>mood</b>": {"steady": 3}} | kept_by_another_version
    assert summary.as_json()["odd_endings"] == summary.odd_endings
    text = " ".join(Structure(page(summary)).text.split())
    assert "ended for a reason (finish_reason) that is not known here" in text
    assert re.search(r"<b>mood</b> (3 0|0 3) SAFETY (1 0|0 1) Answers with a flag", text)


def test_money_for_answers_that_nobody_has_is_said_before_the_numbers(small: Run, shown: str) -> None:
    lost = replace(summarize(small, _SETTINGS), lost_usd={"steady": 1.25})
    text = " ".join(Structure(page(lost)).text.split())
    assert "Up to $1.25 was spent on answers of steady, or readings of them, that nobody has" in text
    assert lost.as_json()["lost_usd"] == {"steady": 1.25}
    assert "that nobody has" not in shown


def test_where_every_ending_is_known_none_is_shown(small: Run, shown: str) -> None:
    assert "finish_reason" not in shown
    assert "odd_endings" not in summarize(small, _SETTINGS).as_json()


def test_how_the_models_were_asked_is_said_of_each_and_is_ours(small: Run) -> None:
    models = [{"name": "steady", "id": "gpt-4"}, {"name": "blank"}]
    cold = small.said["blank"]
    cold = cold.set_column(cold.schema.get_field_index("temperature"), "temperature", pa.array([0.25] * len(cold)))
    asked = Run(small.said | {"blank": cold}, small.felt, {"spec": {"name": "small", "models": models}})
    text = " ".join(Structure(page(summarize(asked, _SETTINGS))).text.split())
    assert "Model steady (gpt-4) ours transformers revision r1" in text
    assert "Model blank ours transformers revision r1" in text
    assert "Sampling temperature 1, top_p the host's own, max_tokens 256 ours of steady; the paper's is unknown" in text
    assert (
        "Sampling temperature 0.25, top_p the host's own, max_tokens 256 ours of blank; the paper's is unknown" in text
    )


def test_what_shaped_answers_beside_the_columns_is_said_as_run_json_has_it(small: Run) -> None:
    neutral = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 256, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    own = neutral | {"top_k": 20, "repetition_penalty": 1.05, "defaults": "model"}
    attempts = [
        {"sampling": {"blank": own}},
        {"sampling": {"blank": own, "steady": neutral | {"defaults": "spec"}}},
        {},
    ]
    asked = Run(small.said, small.felt, {"spec": {"name": "small"}, "attempts": attempts})
    summary = summarize(asked, _SETTINGS)
    text = " ".join(Structure(page(summary)).text.split())
    shaped = "top_k 20, repetition_penalty 1.05; what the spec leaves open as the model's own generation_config says"
    assert f"max_tokens 256; {shaped} ours of blank; the paper's is unknown" in text
    assert "max_tokens 256 ours of steady; the paper's is unknown" in text
    assert summary.as_json()["drawn"] == {"blank": [own], "steady": [neutral | {"defaults": "spec"}]}


def test_what_more_asking_would_buy_is_said_also_where_nothing_was_repeated_as_far_as_it_can_be(shown: str) -> None:
    assert "What more asking would buy" in Structure(shown).text
    once = summarize(run({"a": 0.8}, states=4, questions=3, repetitions=1), _SETTINGS)
    (line,) = sections.planning(once).lines
    as_asked, twice_the_repetitions, endless, twice_the_questions, enough = line["cells"]
    assert float(twice_the_questions) < 0.6 * float(as_asked)
    assert twice_the_repetitions == endless == enough == UNKNOWN
    text = " ".join(Structure(page(once)).text.split())
    assert ", with repetition" in text


def test_what_a_filter_took_stands_below_the_means_by_state_the_worst_first(small: Run) -> None:
    lost = pc.and_(pc.equal(small.felt["embedded", "blank"]["state_deg"], 270.0), _asked_of(small, "blank", "freedom"))
    felt = {**small.felt, ("embedded", "blank"): small.felt["embedded", "blank"].filter(pc.invert(lost))}
    text = " ".join(Structure(page(summarize(Run(small.said, felt), _SETTINGS))).text.split())
    assert "Prompts without any score" in text
    assert "blank 8.3 % 270° 33 %" in text


def _asked_of(source: Run, model: str, question: str) -> Any:
    return pc.equal(source.felt["embedded", model]["question_id"], question)


def test_a_prompt_is_shown_where_its_hash_says_that_it_was_sent_so(small: Run, shown: str) -> None:
    summary = summarize(small, _SETTINGS)
    (sent,) = to_copy.sent(summary)
    assert sent.messages
    chat = [{"role": role, "content": text} for role, text in sent.messages]
    told = {row["prompt"] for table in small.said.values() for row in table.to_pylist()}
    assert chat in [json.loads(prompt) for prompt in told]
    steady = small.said["steady"]
    at = steady.schema.get_field_index("prompt_sha")
    otherwise = {
        name: table.set_column(at, "prompt_sha", pa.array(["0"] * len(table))) for name, table in small.said.items()
    }
    assert to_copy.sent(summarize(Run(otherwise, small.felt), _SETTINGS))[0].messages == ()


def test_a_template_of_the_run_s_own_is_not_repeated_on_the_page(small: Run) -> None:
    marks = {"marks": {"templates": {"parameters": "user"}}}
    own = Run(small.said, small.felt, {"spec": {"name": "small"}, **marks})
    (sent,) = to_copy.sent(summarize(own, _SETTINGS))
    assert sent.messages == ()
    assert "is not repeated here" in sent.why_not


def test_methods_name_those_models_alone_that_answered(small: Run) -> None:
    failed = _all_failed(small, "blank")
    assert to_copy.methods(summarize(failed, _SETTINGS)).startswith("steady answered 3 questions")
    (sent,) = to_copy.sent(summarize(_all_failed(failed, "steady"), _SETTINGS))
    assert sent.why_not.startswith("no answer to it is kept")


def _all_failed(source: Run, model: str) -> Run:
    table = source.said[model]
    at = table.schema.get_field_index("outcome")
    failed = table.set_column(at, "outcome", pa.array(["timeout"] * len(table), pa.string()))
    felt = {(reader, name): rows for (reader, name), rows in source.felt.items()}
    return replace(
        source, said=source.said | {model: failed}, felt=felt | {("embedded", model): felt["embedded", model][:0]}
    )


def test_methods_say_of_which_condition_the_means_are_and_which_template_is_a_control() -> None:
    source = run({"a": 0.8}, states=2, questions=2, templates=("parameters", "words"), intensities=(0.5, 1.0))
    summary = summarize(source, _SETTINGS)
    assert "Means are of one condition, with template parameters, at intensity 1, and weigh" in to_copy.methods(summary)
    first, second = summary.design.templates
    design = replace(summary.design, templates=(first, replace(second, control=True)))
    assert "templates: parameters and words (a control)" in to_copy.methods(replace(summary, design=design))


def test_methods_and_limitations_place_every_reader_where_its_readings_lie() -> None:
    own = label_map_from({label: {"angle": 5 * at} for at, label in enumerate(LABELS)}, name="own", labels=None)
    source = run({"a": 0.8}, readers=("one", "two", "judge"), states=2, questions=2)
    summary = summarize(source, replace(_SETTINGS, own_maps={"two": own}))
    three = replace(summary, settings=replace(summary.settings, own_maps={"two": own, "judge": DIRECT}))
    said = to_copy.methods(three)
    assert "under the label map russell (ours) (read by one)" in said
    assert "under the reader's own map (user) (read by two)" in said
    assert "the valence and arousal read (read by judge)" in said
    assert "The label map of two is the user’s" in to_copy.limitations(three)
    alone = replace(
        summary, models=summary.of_reader("judge"), settings=replace(summary.settings, own_maps={"judge": DIRECT})
    )
    assert "most probable label" not in to_copy.methods(alone)
    assert "label" not in to_copy.limitations(alone)


def test_methods_say_the_rule_that_ended_the_asking(small: Run) -> None:
    summary = replace(summarize(small, _SETTINGS), looks=Looks(1, 1, (40,), 0.03, (), until=0.05))
    assert "until the interval of every mean was ±0.05 or narrower" in to_copy.methods(summary)


def test_a_reference_is_latex_whatever_the_run_is_called(small: Run) -> None:
    summary = replace(summarize(small, _SETTINGS), run={"name": "my_run_{2}", "digest": None})
    assert r"Run my\_run\_ 2 }" in to_copy.bibtex(summary)


def test_the_disputed_angles_are_named(shown: str) -> None:
    text = " ".join(Structure(shown).text.split())
    assert "28 terms; disputed: frustrated 141° or 141.1°, depressed 211° or 210°, droopy 256.7° or 256.6°" in text


def _night(model: str, began: int, ended: int, *prints: str) -> Timeline:
    """From hour to hour; fingerprints follow one another, twenty answers each."""
    first, last = (f"2026-11-23T{hour:02d}:00:00+00:00" for hour in (began, ended))
    voices = [
        Voice("gpt", name, 20, *(f"2026-11-23T{began:02d}:{10 * place + minute:02d}:00+00:00" for minute in (0, 9)))
        for place, name in enumerate(prints)
    ]
    return Timeline(model, first, last, 60.0, (1,), (0,), tuple(voices), None)


def test_models_that_were_asked_at_different_hours_are_said_to_be(small: Run) -> None:
    summary = summarize(small, _SETTINGS)
    apart = replace(summary, nights=(_night("a", 1, 2), _night("b", 3, 5), _night("c", 4, 6)))
    assert "Of a, b and c not all were asked at the same time: what differs may also be the hour." in time_sentence(
        apart
    )
    together = replace(summary, nights=(_night("b", 3, 5), _night("c", 4, 6)))
    assert "the hour" not in time_sentence(together)


def test_a_fingerprint_that_changed_for_good_is_said(small: Run) -> None:
    summary = replace(summarize(small, _SETTINGS), nights=(_night("a", 1, 3, "old", "new"), _night("b", 1, 3, "one")))
    assert "The provider of a returned another fingerprint from some moment on." in time_sentence(summary)


def test_a_small_model_that_ships_with_emoray_is_no_evidence(small: Run) -> None:
    table = small.said["steady"]
    said = table.set_column(table.schema.get_field_index("host"), "host", pa.array(["embedded"] * len(table)))
    summary = summarize(Run(small.said | {"steady": said}, small.felt), _SETTINGS)
    assert "steady is a small model that ships with emoray" in page(summary)


def test_templates_and_intensities_have_a_section_where_there_are_several() -> None:
    source = run({"a": 0.8}, states=4, questions=2, templates=("parameters", "words"), intensities=(0.5, 1.0))
    found = Structure(page(summarize(source, _SETTINGS)))
    assert "conditions" in [attributes.get("id") for tag, attributes in found.tags if tag == "section"]
    assert "Templates of a, read by embedded" in found.text


def test_several_readers_stand_one_after_the_other() -> None:
    found = Structure(
        page(summarize(run({"a": 0.8, "b": 0.2}, readers=("one", "two"), states=4, questions=3), _SETTINGS))
    )
    assert found.text.count("Read by one") >= 1
    assert "Readers of a" in found.text


def _summary(small: Run) -> Summary:
    return summarize(small, _SETTINGS)


def test_figures_of_the_page_follow_light_and_dark(small: Run) -> None:
    summary = _summary(small)
    one = summary.models[0]
    drawn = figures.single(lambda axes: figures.circle(axes, one, summary.design, RUSSELL), (3, 3))
    text = figures.inline_svg(drawn, "x", 'a "description" & more')
    assert "var(--ink)" in text or "var(--muted)" in text
    assert "<?xml" not in text
    assert 'aria-label="a &quot;description&quot; &amp; more"' in text
    assert not re.search(r'<svg[^>]* width="', text)


def test_russell_s_terms_stand_apart_and_near_their_angles() -> None:
    shown = figures.spread([316.2, 318.0, 319.0, 321.0, 323.0, 328.6], gap=6.0)
    assert all(b - a >= 6.0 - 1e-6 for a, b in pairwise(shown))
    assert max(abs(a - b) for a, b in zip(shown, [316.2, 318.0, 319.0, 321.0, 323.0, 328.6], strict=True)) < 16


def test_figures_are_pictures_of_some_size(small: Run) -> None:
    summary = _summary(small)
    for (only,) in (
        figures.circumplex(summary.models, summary.design, RUSSELL),
        figures.states(summary.models, summary.design),
        figures.heat(summary.models, summary.design),
    ):
        assert only.note == ""
        data = figures.png(only.figure)
        assert data.startswith(b"\x89PNG")
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        assert width > 600
        assert height > 250
        assert b"<svg" in figures.svg(only.figure)


def test_of_each_kind_of_failure_one_text_is_shown(small: Run, shown: str) -> None:
    told = summarize(small, _SETTINGS).failure_texts
    kinds = {name: {row["outcome"] for row in said.to_pylist() if row["error"]} for name, said in small.said.items()}
    assert {name: set(texts) for name, texts in told.items()} == {name: some for name, some in kinds.items() if some}
    assert {text for texts in told.values() for text in texts.values()} == {"the provider said no"}
    assert Structure(shown).text.count("the provider said no") == sum(map(len, told.values()))


def test_the_numbers_of_a_map_stand_out_on_every_shade_in_the_light_and_in_the_dark() -> None:
    shades = re.findall(r"background:(#\w{6});color:(#\w{6})", first_screen.shades())
    assert len(shades) == 2 * 41
    assert min(colours.contrast(letters, shade) for shade, letters in shades) >= 4.5
