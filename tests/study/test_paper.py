"""Facts of the paper: each marked, and in step with what ships."""

from __future__ import annotations

import pytest

from emoray.study import paper
from emoray.study.paper import Fact

FACTS = {name: fact for name, fact in vars(paper).items() if isinstance(fact, Fact)}


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_says_where_it_comes_from_and_how_firm_it_is(name: str) -> None:
    fact = FACTS[name]
    assert fact.mark in ("verified", "secondary", "inferred")
    assert fact.where


def test_the_classifiers_accuracy_is_the_fraction_that_its_card_shows() -> None:
    assert paper.CLASSIFIER_ACCURACY.value == 0.5888888888888889


def test_the_papers_grid_is_120_texts_for_each_of_nine_models() -> None:
    assert paper.STATES.value * paper.QUESTIONS.value * paper.REPETITIONS.value == 120
    assert len(set(paper.MODELS.value)) == 9
