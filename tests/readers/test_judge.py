"""A language model that reads: what it is told, what it may say, and what becomes of it when it says something else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from emoray.errors import UserError
from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.openai_protocol import request_body
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.hosts.scripted import ScriptedHost
from emoray.rate_limits.local import LocalLimiter
from emoray.readers.judge import Judge, asked_of, parsed, rubric
from emoray.readers.protocol import ReaderDown, SlowReader, TellingReader
from emoray.rehearsal.responses import completion
from emoray.run_folder import columns
from emoray.spec.accounts import Account, Retry
from emoray.spec.load import parse
from emoray.spec.models import Hosted, Scripted
from emoray.spec.readers import JudgeReader
from emoray.study.circumplex import Affect
from emoray.study.families import family, kin
from emoray.study.goemotions import label_map
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome
from tests.hosts.test_hosted_api import serving
from tests.programs import ROOT
from tests.run_folder.test_columns import ANSWER, said

GOOD = '{"valence": 0.5, "arousal": -0.25, "confidence": 0.9}'
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Fake:
    """A host that says what it is told to, and remembers what it was asked."""

    name, revision, engine, in_flight = "fake", "r1", None, 8

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.outcomes, self.asked = list(outcomes), list[Ask]()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        for ask in asks:
            self.asked.append(ask)
            outcome = self.outcomes[(len(self.asked) - 1) % len(self.outcomes)]
            if isinstance(outcome, Exception):
                raise outcome
            yield Reply(ask.key, outcome, NOW, 0.1)

    def close(self) -> None:
        pass


class Loaded(Fake):
    """A host that has loaded a model."""

    defaults: Mapping[str, float | None] = {}
    notes = ("its chat template speaks of thinking",)


def entry(**settings: Any) -> JudgeReader:
    return JudgeReader(kind="judge", name="j", model=Scripted(host="scripted", name="m"), **settings)


def judge(*outcomes: Outcome | Exception, **settings: Any) -> tuple[Judge, Fake]:
    host = Fake(*outcomes)
    return Judge(entry(**settings), host), host


def test_a_judge_tells_what_is_to_be_known_of_its_model() -> None:
    told, silent = Judge(entry(), Loaded()), Judge(entry(), Fake())
    assert isinstance(told, TellingReader)
    assert (told.notes, silent.notes) == (["its chat template speaks of thinking"], [])


def test_a_judge_whose_engine_dies_tells_of_its_death() -> None:
    class Dying(Fake):
        def tell_of_death(self, tell: Callable[[str], None]) -> None:
            tell("the vLLM engine died of RuntimeError: no kernel")

    told: list[str] = []
    for host in (Dying(), Fake()):
        Judge(entry(), host).tell_of_death(told.append)

    assert told == ["the vLLM engine died of RuntimeError: no kernel"]


def test_a_judge_says_valence_arousal_and_how_sure_it_is() -> None:
    some, _ = judge(Answer(GOOD, cost_usd=0.002))
    (reading,) = some.read(["I could hug the world."])
    assert reading.affect == Affect(0.5, -0.25)
    assert (reading.confidence, reading.cost_usd, reading.error, reading.probabilities) == (0.9, 0.002, None, None)


def test_a_judge_sees_the_text_and_the_rubric_and_nothing_else() -> None:
    some, host = judge(Answer(GOOD))
    some.read(["{valence} and {text}"])
    told = rubric(entry())
    assert host.asked[0].chat == [
        {"role": "system", "content": told.system},
        {"role": "user", "content": "<text>\n{valence} and {text}\n</text>"},
    ]
    assert told.mark == "ours"
    assert (host.asked[0].temperature, host.asked[0].max_tokens) == (0.0, 200)


@pytest.mark.parametrize(
    ("said_by_it", "reason"),
    [
        ("I feel that the text is sad.", "holds no JSON object"),
        ("{", "holds no JSON object"),
        ('{"valence": 0.5, "arousal": 0.1}', "has no number for confidence"),
        ('{"valence": "high", "arousal": 0.1, "confidence": 1}', "says valence 'high'"),
        ('{"valence": true, "arousal": 0.1, "confidence": 1}', "says valence True"),
        ('{"valence": NaN, "arousal": 0.1, "confidence": 1}', "says valence nan"),
        ('{"valence": 0.5, "arousal": 3, "confidence": 1}', "says arousal 3, outside -1 … 1"),
        ('{"valence": 0.5, "arousal": 0, "confidence": -0.1}', "says confidence -0.1, outside 0 … 1"),
        ("[0.5, 0.1, 1]", "holds no JSON object"),
        ('{"valence": Infinity, "arousal": 0.1, "confidence": 1}', "says valence inf"),
        ('{"valence": "\ufffd", "arousal": 0.1, "confidence": 1}', "says valence '\ufffd'"),
    ],
)
def test_what_is_no_reading_is_an_error_and_never_a_zero(said_by_it: str, reason: str) -> None:
    some, _ = judge(Answer(said_by_it, cost_usd=0.01))
    (reading,) = some.read(["hm"])
    assert (reading.affect, reading.confidence, reading.cost_usd) == (None, None, 0.02)
    assert reading.error == f"unparsed: the judge's reply {reason}: {said_by_it}"
    table = columns.scored(
        columns.with_readings(said(ANSWER), [reading] * 12, reader="j", revision=None), label_map(), "zero"
    )
    row = table.to_pylist()[0]
    assert row["read_error"] == reading.error
    assert row["cosine"] is row["read_valence"] is row["expected_cosine"] is None
    assert row["read_cost_usd"] == 0.02


def test_a_reply_that_is_no_reading_is_asked_again_with_another_seed_and_nothing_else_changed() -> None:
    some, host = judge(Answer("Hm.", cost_usd=0.1), Answer("Well.", cost_usd=0.2), Answer(GOOD, cost_usd=0.4))
    (reading,) = some.read(["hm"])
    assert (reading.affect, reading.error) == (Affect(0.5, -0.25), None)
    assert reading.cost_usd == pytest.approx(0.7)
    assert len({ask.seed for ask in host.asked}) == len({ask.key for ask in host.asked}) == 3
    assert all(replace(ask, key="", seed=0) == replace(host.asked[0], key="", seed=0) for ask in host.asked)


def test_a_judge_is_asked_as_often_as_the_spec_says() -> None:
    for attempts in (1, 2, 5):
        host = Fake(*(Answer(f"No. {number}", cost_usd=0.5) for number in range(9)))
        (reading,) = Judge(entry(), host, Retry(refused_attempts=attempts)).read(["hm"])
        assert reading.error == f"unparsed: the judge's reply holds no JSON object: No. {attempts - 1}"
        assert (len(host.asked), reading.cost_usd) == (attempts, 0.5 * attempts)


def test_a_judge_that_says_the_same_once_more_is_asked_no_more() -> None:
    some, host = judge(Answer("I cannot say."))
    assert some.read(["hm"])[0].error == "unparsed: the judge's reply holds no JSON object: I cannot say."
    assert len(host.asked) == 2


def test_only_what_was_no_reading_is_asked_again() -> None:
    some, host = judge(Answer(GOOD), Answer("Hm."), Failure(FailureKind.CONTENT_FILTERED, "no"), Answer(GOOD))
    good, mended, failed = some.read(["a", "b", "c"])
    assert good.affect == mended.affect == Affect(0.5, -0.25)
    assert failed.error == "content_filtered: no"
    texts = [ask.chat[-1]["content"].split("\n")[1] for ask in host.asked]
    assert texts == ["a", "b", "c", "b"]


def test_what_was_paid_for_no_reading_is_kept_where_the_money_ends_before_the_next_attempt() -> None:
    some, _ = judge(Answer("Hm.", cost_usd=0.1), HostDown("the budget is spent"))
    (reading,) = some.read(["hm"])
    assert (reading.error, reading.cost_usd) == ("unparsed: the judge's reply holds no JSON object: Hm.", 0.1)
    with pytest.raises(ReaderDown, match="the budget is spent"):
        some.read(["hm"])


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-" + "9" * 5000, "[" * 5000, '{"valence":' * 5000])
def test_a_number_without_end_is_no_reading(number: str) -> None:
    some, _ = judge(Answer(f'{{"valence": {number}, "arousal": 0.1, "confidence": 1}}'))
    (reading,) = some.read(["hm"])
    assert reading.affect is None
    assert str(reading.error).startswith("unparsed: the judge's reply ")
    assert len(str(reading.error)) < 400


def test_what_a_judge_thinks_aloud_is_no_part_of_its_reading() -> None:
    """Thoughts hold numbers, too."""
    thinking = f'<think>Perhaps {{"valence": -1, "arousal": -1, "confidence": 1}}?</think>{GOOD}'
    model = Scripted(host="scripted", name="m", lines=[thinking])
    some = Judge(entry().model_copy(update={"model": model}), ScriptedHost(model))
    assert some.read(["hm"])[0].affect == Affect(0.5, -0.25)


@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here you are: {}", "{} I hope this helps.", "{{sad}} {}"])
def test_words_around_the_object_are_forgiven(around: str) -> None:
    assert parsed(around.replace("{}", GOOD)) == (Affect(0.5, -0.25), 0.9)


def test_a_failed_ask_keeps_its_kind() -> None:
    some, _ = judge(Failure(FailureKind.CONTENT_FILTERED, "no", cost_usd=0.003))
    (reading,) = some.read(["hm"])
    assert (reading.error, reading.affect, reading.cost_usd) == ("content_filtered: no", None, 0.003)


def test_equal_texts_are_asked_and_paid_once() -> None:
    some, host = judge(Answer(GOOD, cost_usd=0.5))
    readings = some.read(["a", "b", "a", "a"])
    assert len(host.asked) == 2
    assert [reading.cost_usd for reading in readings] == [0.5, 0.5, 0.0, 0.0]
    assert len({reading.affect for reading in readings}) == 1


def test_readings_come_in_groups_as_they_are_there() -> None:
    some, host = judge(Answer(GOOD))
    assert isinstance(some, SlowReader)
    groups = some.read_each([str(i) for i in range(40)])
    first = next(groups)
    assert len(first) == len(host.asked) == 16
    places = [place for group in [first, *groups] for place, _ in group]
    assert sorted(places) == list(range(40))


def test_what_came_before_the_host_broke_is_kept_and_the_rest_is_owed() -> None:
    some, _ = judge(Answer(GOOD), HostDown("the budget is spent"))
    first, second, third = some.read(["a", "b", "c"])
    assert first.affect is not None
    assert second.error == third.error == "not judged: reader 'j': the budget is spent"
    with pytest.raises(ReaderDown, match="reader 'j': the budget is spent"):
        some.read(["d"])


def test_a_host_that_is_down_at_once_ends_the_reader() -> None:
    some, _ = judge(HostDown("no key"))
    with pytest.raises(ReaderDown, match="reader 'j': no key"):
        some.read(["a"])


def test_the_same_text_is_the_same_ask_in_every_process() -> None:
    (some, one), (other, two) = judge(Answer(GOOD)), judge(Answer(GOOD))
    some.read(["x", "y"])
    other.read(["y", "x"])
    assert {ask.key: ask.seed for ask in one.asked} == {ask.key: ask.seed for ask in two.asked}
    assert len({ask.seed for ask in one.asked}) == 2
    assert all(0 <= ask.seed < 2**31 for ask in one.asked)
    code = """if True:
        from tests.readers.test_judge import GOOD, Answer, judge
        some, host = judge(Answer(GOOD))
        some.read(["x", "y"])
        print([(ask.key, ask.seed) for ask in host.asked])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"{[(ask.key, ask.seed) for ask in one.asked]}\n"


def test_a_revision_names_the_model_and_the_rubric() -> None:
    some, _ = judge(Answer(GOOD))
    assert some.revision == f"emoray/scripted@r1 rubric affect@{rubric(entry()).sha}"


def test_a_rubric_of_ones_own_is_marked_and_checked(tmp_path: Any) -> None:
    (tmp_path / "mine.toml").write_text('user = """\nRate {text} on 2 scales.\n"""\n')
    spec = "name: t\nmodels: [{name: a, host: scripted}]\nreaders: [{kind: judge, name: j, rubric: mine.toml, model: {name: m, host: scripted}}]"  # noqa: E501
    chosen = parse(spec, folder=tmp_path).spec.readers[0]
    assert isinstance(chosen, JudgeReader)
    found = rubric(chosen)
    assert (found.mark, found.system, found.chat("x")[0]["content"]) == ("user", "", "Rate x on 2 scales.")
    with pytest.raises(ReaderDown, match=r"must say \{text\} once"):
        rubric(entry(rubric='user = "rate it"\n'))
    with pytest.raises(ReaderDown, match="no rubric is called 'afect'; there are affect"):
        rubric(entry(rubric="afect"))


def test_a_hosted_judge_is_asked_for_json() -> None:
    model = Hosted(host="hosted_api", name="m", id="gpt-4o", account="o")
    ask = Ask("k", [{"role": "user", "content": "x"}], 1, 0.0, None, 100)

    def form(structured: Any, extra: dict[str, Any] | None = None) -> Any:
        made = JudgeReader(
            kind="judge", name="j", model=model.model_copy(update={"extra_body": extra or {}}), structured=structured
        )
        sent = asked_of(made)
        assert isinstance(sent, Hosted)
        return request_body(sent, ask).get("response_format")

    assert form("json_schema")["json_schema"]["schema"]["required"] == ["valence", "arousal", "confidence"]
    assert form("json_object") == {"type": "json_object"}
    assert form("none") is None
    assert form("json_schema", {"response_format": "mine"}) == "mine"


def test_a_judge_speaks_through_any_host() -> None:
    lines = [json.dumps({"valence": 0.1, "arousal": 0.2, "confidence": 0.3})]
    model = Scripted(host="scripted", name="m", lines=lines)
    some = Judge(JudgeReader(kind="judge", name="j", model=model), ScriptedHost(model))
    assert [reading.affect for reading in some.read(["a", "b"])] == [Affect(0.1, 0.2)] * 2


def test_a_judge_whose_every_ask_is_refused_alike_ends_and_says_what_to_change() -> None:
    judging = hosted_judge()

    async def refuses(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "'response_format' is not supported", "code": 400}}, status=400)

    with serving(refuses) as url:
        some = Judge(judging, hosted(judging, url), PATIENT)
        first = some.read([f"text {number}" for number in range(60)])
        assert any(str(reading.error).startswith("bad_request: 400") for reading in first)
        with pytest.raises(ReaderDown, match="response_format") as down:
            some.read(["one more"])
        some.close()
    assert "structured" in str(down.value)


def test_what_is_flagged_of_a_judges_asks_is_an_error_of_that_reading_alone() -> None:
    judging = hosted_judge()

    async def flags_two(request: web.Request) -> web.Response:
        asked = await request.json()
        if "text 2" in asked["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "no", "metadata": {"flagged_input": "text 2"}}}, status=403)
        return web.json_response(completion(asked, GOOD, ""))

    with serving(flags_two) as url:
        some = Judge(judging, hosted(judging, url))
        readings = some.read([f"text {number}" for number in range(5)])
        some.close()
    assert [reading.error is None for reading in readings] == [True, True, False, True, True]
    assert str(readings[2].error).startswith("content_filtered: 403: no")


PATIENT = Retry(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)


def hosted(judging: JudgeReader, url: str) -> HostedApi:
    model = asked_of(judging)
    assert isinstance(model, Hosted)
    return HostedApi(model, Account(base_url=f"{url}/v1"), PATIENT, LocalLimiter())


def hosted_judge() -> JudgeReader:
    model = Hosted(host="hosted_api", name="m", id="gpt-4o", account="lab")
    return JudgeReader(kind="judge", name="j", model=model)


def test_a_spec_refuses_a_judge_that_cannot_judge() -> None:
    base = "name: t\nmodels: [{name: a, host: scripted}]\naccounts: {o: {}}\nreaders: [{kind: judge, name: j, model: {name: m, %s}}]"  # noqa: E501
    for model, sentence in {
        "host: batch_api, id: x, account: o": "readers[0].model.host is batch_api, which answers within a day; a judge needs hosted_api",  # noqa: E501
        "host: hosted_api, id: x, account: p": "readers[0].model.account is 'p', which accounts does not define",
        "id: x": "readers[0].model needs host: one of embedded, transformers, vllm, hosted_api",
    }.items():
        with pytest.raises(UserError) as told:
            parse(base % model)
        assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("judge_id", "model_id", "shared"),
    [
        ("gpt-4o-2024-08-06", "gpt-3.5-turbo-0125", "OpenAI GPT"),
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Meta-Llama-3-8B-Instruct", "Meta Llama"),
        ("gpt-4o", "meta-llama/Meta-Llama-3-8B-Instruct", None),
        ("my/own-model", "my/own-model", "my/own-model"),
        ("my/own-model", "other/model", None),
    ],
)
def test_a_judge_of_its_own_family_is_known(judge_id: str, model_id: str, shared: str | None) -> None:
    assert kin(judge_id, model_id) == shared
    assert family("nobody/nothing") is None
