"""What a spec would ask, told without asking."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from emoray.commands import plan
from emoray.errors import UserError
from emoray.scheduling.resources import Node
from emoray.spec.load import load
from emoray.stream import cluster
from tests import runs
from tests.programs import ROOT

JOBS = ROOT / "jobs"


def test_everything_is_owed_to_a_folder_that_is_not_there_and_it_stays_not_there(tmp_path: Path) -> None:
    found = plan.plan(runs.study(), str(tmp_path / "run"))
    assert [(m.model, m.cells, m.settled, m.owed) for m in found.models] == [("a", 12, 0, 12), ("b b", 12, 0, 12)]
    assert list(tmp_path.iterdir()) == []


def test_what_is_settled_is_not_owed_and_failures_are(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:5])
    runs.say(folder, cells[5:8], runs.FAILURE)
    first, second = plan.plan(runs.study(), str(tmp_path)).models
    assert (first.settled, first.owed) == (5, 7)
    assert (second.settled, second.owed) == (0, 12)


def test_raising_repetitions_owes_only_the_new_cells(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    runs.say(folder, runs.asked())
    more = plan.plan(runs.study(runs.SPEC.replace("repetitions: 2", "repetitions: 7")), str(tmp_path)).models[0]
    assert (more.cells, more.settled, more.owed) == (42, 12, 30)


def test_answers_to_another_template_settle_nothing(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    runs.say(folder, runs.asked())
    other = plan.plan(runs.study(f"{runs.SPEC}templates: verbal\n"), str(tmp_path)).models[0]
    assert (other.settled, other.owed) == (0, 12)


def test_the_text_shows_the_grid_and_one_whole_prompt(tmp_path: Path) -> None:
    text = plan.plan(runs.study(), str(tmp_path / "run")).text()
    assert text.startswith(
        "t: 3 states × 1 intensity × 1 template × 2 questions × 2 repetitions = 12 cells for each of 2 models\n"
    )
    assert "  user: What" in text
    assert "arousal=" in text
    assert "readers: r" in text


def test_a_plan_lists_what_the_report_will_hold_against_what(tmp_path: Path) -> None:
    said = "contrasts: [{factor: model, a: a, b: b b, margin: 0.05}, {factor: state, a: pleasant, b: unpleasant}]\n"
    found = plan.plan(runs.study(f"{runs.SPEC}{said}"), str(tmp_path / "run"))
    assert "  contrast: model: a − b b, margin ±0.05\n" in found.text()
    assert "  contrast: state: pleasant − unpleasant, no margin\n" in found.text()
    assert found.as_json()["contrasts"] == found.contrasts


def test_canaries_stand_beside_the_product(tmp_path: Path) -> None:
    found = plan.plan(runs.study(f"{runs.SPEC}canaries: {{every: 5, prompts: 2}}\n"), str(tmp_path / "run"))
    assert "× 2 repetitions = 12 cells and 8 canaries for each of 2 models\n" in found.text()
    assert (found.measured, found.canaries, found.models[0].cells) == (12, 8, 20)


def test_a_plan_asks_nobody_on_the_internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[Any] = []

    def unreachable(*asked: Any) -> Any:
        looked_up.append(asked)
        raise OSError("nobody is there")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    for study in (load(JOBS / "paper.yaml"), runs.study(JUDGED)):
        assert plan.plan(study, str(tmp_path / "run")).models
    assert looked_up == []


def test_a_plan_says_hours_bytes_and_money_of_what_is_owed(tmp_path: Path) -> None:
    text = plan.plan(runs.study(), str(tmp_path / "run")).text()
    assert "  owed:    24 cells: at least 0 s beside the models' own time, about " in text
    vast = plan.plan(runs.study(runs.SPEC.replace("repetitions: 2", "repetitions: 1000000")), str(tmp_path / "run"))
    assert vast.size.is_very_large
    assert "12,000,000 cells: at least 12 min beside" in vast.text()
    assert "beyond 1,000,000 `run` asks for --yes, or for --limit" in vast.text()
    assert "`run` asks" not in text


WANTED = "give a hub id (owner/model) or the folder of a model"


def test_what_run_would_refuse_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setattr(cluster, "this_machine", lambda: Node(cpus=8.0))
    text = """
name: t
models:
- {name: api, host: hosted_api, id: gpt-4o, account: o}
- {name: here, host: transformers, id: org/model, gpus: 1}
- {name: lost, host: vllm, id: llama3:8b, device: cpu}
accounts: {o: {key_env: NO_SUCH_KEY}}
readers: [{kind: goemotions, name: r, model: ./nowhere}]
"""
    found = plan.plan(runs.study(text), str(tmp_path / "run"))
    assert found.warnings == (
        f"readers[0].model is './nowhere', which is no folder here; {WANTED}",
        "models[2].id is 'llama3:8b', which is neither a folder nor a hub id; a name with a colon is Ollama's, which "
        f"host: hosted_api asks; else {WANTED}",
        "accounts.o.key_env names the environment variable NO_SUCH_KEY, which is not set; export the key under that "
        "name (on a cluster: where its nodes are started)",
        "model 'here' and its readers need 1.5 CPUs and 1 GPU, but this machine has 8 CPUs; submit to a larger "
        "cluster, or ask for less in the spec",
    )
    assert all(f"  warning: {sentence}\n" in found.text() for sentence in found.warnings)


def test_a_spec_that_can_run_here_is_planned_without_a_warning(tmp_path: Path) -> None:
    assert plan.plan(runs.study(), str(tmp_path / "run")).warnings == ()


def test_for_programs_it_is_json(tmp_path: Path) -> None:
    data = json.loads(json.dumps(plan.plan(runs.study(), str(tmp_path / "run")).as_json()))
    assert data["cells"] == 24
    assert [message["role"] for message in data["example"]] == ["system", "user"]
    assert data["models"][0]["owed"] == 12


@pytest.mark.parametrize("name", ["paper.yaml", "overnight.yaml", "quickstart.yaml"])
def test_a_shipped_spec_is_planned_without_keys_and_gpus(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY", "CO_API_KEY", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    study = load(JOBS / name)
    found = plan.plan(study, str(tmp_path / "run"))
    assert sum(model.cells for model in found.models) == len(study.experiment)
    assert found.cluster is None
    for model in study.spec.models:
        assert model.name in found.text()


def test_a_plan_says_what_hosted_models_would_cost_and_what_gpus_a_lane_takes(tmp_path: Path) -> None:
    found = {model.model: model for model in plan.plan(load(JOBS / "paper.yaml"), str(tmp_path / "run")).models}
    assert found["GPT-4o"].expected is not None
    assert found["Llama3 70B Instruct"].expected is None
    assert "4 GPUs" in found["Llama3 70B Instruct"].needs


JUDGED = """
name: t
models:
- {name: GPT-4o, host: hosted_api, id: gpt-4o, account: o}
- {name: mystery, host: hosted_api, id: somebody/knows, account: o}
- {name: a, host: scripted}
accounts: {o: {}}
states: 3
questions: [freedom, art]
repetitions: 2
readers:
- {kind: scripted, name: r}
- kind: judge
  name: judge
  model: {name: m, host: hosted_api, id: gpt-4o-mini, account: o, usd_per_million: {input: 10, output: 100}}
"""


def test_what_a_judge_will_cost_is_in_the_plan_and_in_the_sum(tmp_path: Path) -> None:
    found = plan.plan(runs.study(JUDGED), str(tmp_path / "run"))
    (judge,) = found.judges
    assert (judge.reader, judge.model_id, judge.owed) == ("judge", "gpt-4o-mini", 36)
    assert judge.expected is not None
    assert judge.expected.completion_tokens == 36 * 30
    assert judge.expected.usd == pytest.approx((judge.expected.prompt_tokens * 10 + 36 * 30 * 100) / 1e6)
    model = found.models[0].expected
    assert model is not None
    assert f"judge judge  {judge.expected.money()}" in found.text()
    assert f"all together about ${(model.usd or 0) + (judge.expected.usd or 0):,.2f}" in found.text()
    assert found.as_json()["judges"][0]["owed"] == 36


def test_what_a_judge_has_read_is_not_owed_and_answers_that_are_there_say_how_long_they_are(tmp_path: Path) -> None:
    judge = "kind: judge, name: r, model: {host: hosted_api, name: m, id: x, account: o}"
    text = runs.SPEC.replace("kind: scripted, name: r", judge).replace("name: t", "name: t\naccounts: {o: {}}", 1)
    folder = runs.begun(tmp_path, text)
    before = plan.plan(runs.study(text), str(tmp_path)).judges[0]
    runs.say(folder, runs.asked())
    runs.say(folder, runs.asked(model="b b"))
    runs.feel(folder, runs.asked()[:5])
    after = plan.plan(runs.study(text), str(tmp_path)).judges[0]
    assert (before.owed, after.owed) == (24, 19)
    assert before.expected is not None
    assert after.expected is not None
    assert "a judge reads answers of 128 tokens" in " ".join(before.expected.assumed)  # half of max_tokens
    assert "a judge reads answers of 5 tokens" in " ".join(after.expected.assumed)


def test_every_price_says_whose_it_is_and_an_unknown_one_that_it_is(tmp_path: Path) -> None:
    text = plan.plan(runs.study(JUDGED), str(tmp_path / "run")).text()
    assert "assumed: price of gpt-4o: 2.5 USD per million tokens in" in text
    assert "assumed: price of gpt-4o-mini: 10 USD per million tokens in, 100 out, from the spec" in text
    assert "assumed: the price of somebody/knows is unknown, so its money is not counted" in text
    assert "and what mystery cost, whose price is unknown" in text


def test_a_judge_of_the_family_it_judges_is_flagged(tmp_path: Path) -> None:
    text = plan.plan(runs.study(JUDGED), str(tmp_path / "run")).text()
    assert "note:    judge judge is of the same family as GPT-4o (OpenAI GPT)" in text
    stranger = JUDGED.replace("gpt-4o-mini", "claude-haiku")
    assert "note:" not in plan.plan(runs.study(stranger), str(tmp_path / "run")).text()


def test_a_budget_needs_the_judges_price_too(tmp_path: Path) -> None:
    unpriced = JUDGED.replace(", usd_per_million: {input: 10, output: 100}", "").replace("gpt-4o-mini", "who/knows")
    known = unpriced.replace("- {name: mystery, host: hosted_api, id: somebody/knows, account: o}\n", "")
    with pytest.raises(UserError, match="the price of 'who/knows' is unknown, so a budget of 5 USD cannot be kept"):
        plan.plan(runs.study(known + "budget_usd: 5\n"), str(tmp_path / "run"))


def test_the_embedded_generator_takes_the_gpu_that_it_is_given(tmp_path: Path) -> None:
    study = runs.study(runs.SPEC.replace("host: scripted", "host: embedded, gpus: 0.5"))
    assert "0.5 GPUs" in plan.plan(study, str(tmp_path / "run")).models[0].needs


def test_answers_that_are_there_say_how_long_the_others_will_be(tmp_path: Path) -> None:
    study = runs.study(JUDGED)
    folder = runs.begun(tmp_path, JUDGED)
    before = plan.plan(study, str(tmp_path)).models[0].expected
    runs.say(folder, runs.asked(JUDGED, "GPT-4o")[:4])  # of 5 tokens each
    after = plan.plan(study, str(tmp_path)).models[0]
    assert before is not None
    assert after.expected is not None
    assert before.completion_tokens > after.expected.completion_tokens == 5 * after.owed


@pytest.mark.parametrize(("counted", "longer"), [("used", False), ("reserved", True)])
def test_who_reserves_tokens_lets_fewer_through(counted: str, longer: bool, tmp_path: Path) -> None:
    entry = "{name: a, host: hosted_api, id: gpt-4o, account: o}"
    text = runs.SPEC.replace("{name: a, host: scripted}", entry)
    account = f"accounts: {{o: {{tokens_per_minute: 600, tokens_counted: {counted}}}}}\n"
    found = plan.plan(runs.study(text + account), str(tmp_path / "run")).models[0]
    assert found.expected is not None
    assert found.at_least_s is not None
    assert (found.at_least_s > found.expected.tokens / 10 + 1) == longer


def test_models_of_one_account_wait_for_one_another(tmp_path: Path) -> None:
    entries = [
        f"{{name: {name}, host: hosted_api, id: gpt-4o, account: {of}}}"
        for name, of in (("a", "o"), ("b", "o"), ("c", "p"))
    ]
    accounts = "accounts: {o: {requests_per_minute: 6}, p: {requests_per_minute: 4}}\n"
    text = f"name: t\n{accounts}models: [{', '.join(entries)}]\nstates: 3\nquestions: [freedom, art]\nrepetitions: 3\n"
    found = plan.plan(runs.study(text), str(tmp_path / "run"))
    assert [model.at_least_s for model in found.models] == [180.0, 180.0, 270.0]
    assert found.at_least_s == 360.0
    assert "at least 6 min" in found.text()


OWN = """
name: t
models:
- {name: plain, host: transformers, id: FOLDER}
- {name: own, host: transformers, id: FOLDER, sampling_defaults: model, sampling: {temperature: null}}
- {name: engine, host: vllm, id: FOLDER, sampling_defaults: model, chat_template_kwargs: {enable_thinking: false}}
- {name: far, host: vllm, id: org/never-downloaded, sampling_defaults: model}
- {name: asked, host: hosted_api, id: gpt-4o, account: o}
accounts: {o: {}}
states: 3
questions: [freedom]
"""


def own_model(folder: Path) -> str:
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20, "eos_token_id": [1, 2]}')
    (folder / "chat_template.jinja").write_text("{% if enable_thinking %}<think>{% endif %}")
    return OWN.replace("FOLDER", str(folder))


def test_a_plan_says_how_answers_will_be_drawn(tmp_path: Path) -> None:
    found = plan.plan(runs.study(own_model(tmp_path)), str(tmp_path / "run"))
    text = found.text()
    from_model = "with the model's generation_config where the spec leaves something open"
    assert "  sampling: temperature 1, top_p 1, max_tokens 256 (plain)" in text
    assert f"  sampling: temperature 0.6, top_p 1, max_tokens 256, top_k 20; {from_model} (own)" in text
    assert f"  sampling: temperature 1, top_p 1, max_tokens 256, top_k 20; {from_model} (engine)" in text
    assert (
        "  sampling: temperature 1, top_p 1, max_tokens 256; and what the model's generation_config says, which is not "
        "known on this machine (far)"
    ) in text
    assert "  sampling: temperature 1, top_p the provider's own, max_tokens 256 (asked)" in text
    data = json.loads(json.dumps(found.as_json()))
    assert data["models"][1]["sampling"] == {
        "temperature": 0.6, "top_p": 1.0, "max_tokens": 256, "top_k": 20, "min_p": 0.0, "repetition_penalty": 1.0
    }  # fmt: skip


def test_a_plan_names_the_models_that_may_think_where_the_spec_does_not_settle_it(tmp_path: Path) -> None:
    found = {model.model: model for model in plan.plan(runs.study(own_model(tmp_path)), str(tmp_path / "run")).models}
    assert {name for name, model in found.items() if model.notes} == {"plain", "own"}
    (note,) = found["plain"].notes
    assert "its chat template speaks of thinking (enable_thinking), and the spec does not say whether" in note
    text = plan.plan(runs.study(own_model(tmp_path)), str(tmp_path / "run")).text()
    assert f"  note:    model plain: {note}\n" in text


def test_a_judge_that_may_think_is_named_too(tmp_path: Path) -> None:
    own_model(tmp_path)
    judge = f"- {{kind: judge, name: j, model: {{name: m, host: transformers, id: {tmp_path}}}}}"
    text = runs.SPEC.replace("readers: [{kind: scripted, name: r}]", f"readers:\n{judge}")
    assert "note:    judge j: its chat template speaks of thinking" in plan.plan(runs.study(text), str(tmp_path)).text()


def test_a_generation_config_that_nothing_can_be_drawn_by_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    text = own_model(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"top_p": 7}')
    with pytest.raises(
        UserError, match=r"^model 'own': its generation_config has top_p 7, .*; leave sampling_defaults"
    ):
        plan.plan(runs.study(text), str(tmp_path / "run"))
