"""What a judge will cost is known before it is asked."""

from __future__ import annotations

import pytest

from emoray.commands.estimate import estimate_judge
from emoray.readers.judge import rubric
from emoray.spec.accounts import Price
from emoray.spec.models import Hosted
from emoray.spec.readers import JudgeReader


def test_a_judges_cost_is_its_rubric_and_the_answer_for_every_reading() -> None:
    model = Hosted(
        host="hosted_api", name="m", id="nobody/knows", account="o", usd_per_million=Price(input=10, output=100)
    )
    entry = JudgeReader(kind="judge", name="j", model=model)
    told = rubric(entry)
    found = estimate_judge(entry, 1000, answer_tokens=80)
    characters = len(told.system) + len(told.user)
    assert (found.model, found.cells) == ("j", 1000)
    assert found.prompt_tokens == pytest.approx(1000 * (11 + characters / 4 + 80), abs=1)
    assert (found.completion_tokens, found.most_completion_tokens) == (30_000, 200_000)
    assert found.usd == pytest.approx((found.prompt_tokens * 10 + 30_000 * 100) / 1e6)
    assert found.most_usd == pytest.approx((found.prompt_tokens * 10 + 200_000 * 100) / 1e6)
    assert any("reads answers of 80 tokens and says 30" in sentence for sentence in found.assumed)
