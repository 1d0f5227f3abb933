"""The spec of a rehearsal: the user's own, and nothing of it reaches a real provider."""

from __future__ import annotations

from emoray.rehearsal.spec import ENGINES, accounts_of, rehearsed
from emoray.spec.document import Spec
from emoray.spec.load import load, parse
from emoray.spec.models import Hosted, Rehearsed
from emoray.spec.prices import price_of
from emoray.spec.readers import GoEmotionsReader, ScriptedReader
from emoray.spec.study import Study
from emoray.study.prompts import prompts
from tests.programs import ROOT

PAPER = load(ROOT / "jobs/paper.yaml")
URLS = {name: f"http://127.0.0.1:{port}/v1" for port, name in enumerate([*PAPER.spec.accounts, ENGINES], start=9000)}


def rehearsal(study: Study = PAPER, *, faster: float = 1.0, real_readers: bool = False) -> Spec:
    accounts = accounts_of(study.spec, faster)
    return rehearsed(study.spec, accounts, URLS, ROOT / "jobs", real_readers=real_readers)


def test_the_grid_and_the_names_stay() -> None:
    spec = rehearsal()

    assert [entry.name for entry in spec.models] == [entry.name for entry in PAPER.spec.models]
    assert Study(spec).experiment.cells_per_model == PAPER.experiment.cells_per_model
    assert spec.retry == PAPER.spec.retry
    assert spec.name == "paper-rehearsal"


def test_what_marks_reasoning_stays() -> None:
    tags = "{name: %s, host: %s, id: x, reasoning_tags: none%s}"
    models = ", ".join([tags % ("a", "transformers", ""), tags % ("b", "hosted_api", ", account: openai")])
    text = f"name: t\nmodels: [{models}]\naccounts: {{openai: {{key_env: K}}}}\nreaders: [{{kind: scripted, name: r}}]"
    assert [entry.reasoning_tags for entry in rehearsal(parse(text)).models] == ["none", "none"]


def test_nothing_of_it_reaches_a_real_provider_or_wants_a_key() -> None:
    spec = rehearsal()

    assert all(account.base_url in URLS.values() and account.key_env is None for account in spec.accounts.values())
    assert len({account.base_url for account in spec.accounts.values()}) == 3  # each account has its own limits
    engines = [entry for entry in spec.models if isinstance(entry, Rehearsed)]
    assert [entry.name for entry in engines] == ["Llama3 8B Instruct", "Llama3 70B Instruct"]
    assert {entry.base_url for entry in engines} == {URLS[ENGINES]}


def test_no_answer_of_it_has_the_key_of_a_real_one() -> None:
    model = PAPER.spec.models[0].name
    real, fake = (
        {prompt.key for prompt in prompts(study.experiment.grid(model))} for study in (PAPER, Study(rehearsal()))
    )

    assert len(real) == len(fake) > 0
    assert not real & fake


def test_money_is_counted_at_the_real_price() -> None:
    both = zip(PAPER.spec.models, rehearsal().models, strict=True)
    prices = [(price_of(a), price_of(b)) for a, b in both if isinstance(a, Hosted) and isinstance(b, Hosted)]
    assert len(prices) == 7
    assert all(before == after and before is not None for before, after in prices)


def test_limits_may_be_wider_so_that_a_night_takes_minutes() -> None:
    before, after = PAPER.spec.accounts["openai"], rehearsal(faster=60).accounts["openai"]

    assert (before.requests_per_minute, after.requests_per_minute) == (500, 30_000)
    assert after.requests_per_day is None


def test_readers_are_scripted_unless_the_real_ones_are_wanted() -> None:
    assert isinstance(rehearsal().readers[0], ScriptedReader)
    assert isinstance(rehearsal(real_readers=True).readers[0], GoEmotionsReader)


def test_a_long_name_still_is_a_name() -> None:
    study = parse(f"name: {'n' * 64}\nmodels: [{{name: a, host: scripted}}]")

    assert rehearsal(study).name == f"{'n' * 54}-rehearsal"
