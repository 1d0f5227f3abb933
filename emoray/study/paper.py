"""Facts of "AI with Emotions" (Ishikawa & Yoshino 2025, arXiv 2504.14706), each with its mark.

Only the abstract, the bibliographic record and the introduction's first sentence are known to us first-hand; the rest
reached us through summaries. Marks: `verified` (a primary source says so), `secondary` (a summary or review says so),
`inferred` (our deduction). What is not here is not known, and whatever stands in for it is labelled *ours*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from emoray.study import russell

_T = TypeVar("_T")

CITATION = (
    "Ishikawa, S. & Yoshino, A. (2025). AI with Emotions: Exploring Emotional Expressions in Large Language Models. "
    "NLP4DH 2025, pp. 614-627. doi:10.18653/v1/2025.nlp4dh-1.51, arXiv:2504.14706."
)


@dataclass(frozen=True, slots=True)
class Fact(Generic[_T]):
    value: _T
    mark: Literal["verified", "secondary", "inferred"]
    where: str


STATES = Fact(12, "secondary", "evenly spaced unit vectors (reviews); the list is inferred from even spacing")
QUESTIONS = Fact(10, "secondary", "120 texts per model (review)")
REPETITIONS = Fact(1, "inferred", "120 texts per model = 12 states x 10 questions")
CLASSIFIER = Fact("jkhan447/sentiment-model-sample-27go-emotion", "inferred", "name and accuracy match its model card")
CLASSIFIER_ACCURACY = Fact(
    2703 / 4590, "verified", "the model card's 0.58888… is 2703 of the 4590 single-label comments"
)
CLASSIFIER_MEAN_COSINE = Fact(0.680, "secondary", "appendix A through a summary; which split and map is unknown")
MODEL_MEANS = Fact((0.53, 0.55), "inferred", "several models share about 0.53 to 0.55 (summary)")
BEST_COSINE = Fact(
    0.75, "secondary", "up to about 0.75 for the best models; mean, state or question is not said (summary)"
)
MODELS = Fact(
    (
        "GPT-3.5 turbo", "GPT-4", "GPT-4 turbo", "GPT-4o", "Gemini 1.5 Flash", "Gemini 1.5 Pro",
        "Llama3 8B Instruct", "Llama3 70B Instruct", "Command R+",
    ),
    "secondary",
    "reviews agree; dated versions, sampling and access route are unknown",
)  # fmt: skip

# what the paper concludes, as far as another run can put it to the test
EVERY_MODEL_EXPRESSES = Fact(
    "every model expresses the states that it is asked for, to some degree", "verified", "the gist of the abstract"
)
CAPABLE_ABOVE = Fact(0.5, "secondary", "more than 0.5 is expected of capable models (summary)")
CLOSEST_MODELS = Fact(
    ("GPT-4", "GPT-4 turbo", "Llama3 70B Instruct"), "secondary", "named as the best (summary; three reviews agree)"
)
FARTHEST_MODEL = Fact("GPT-3.5 turbo", "secondary", "named as the worst (summary)")
BELOW_THE_SMALL = Fact(
    ("GPT-3.5 turbo", "Llama3 8B Instruct"), "secondary", "the first is below the second, much smaller one (summary)"
)
LENGTH_IS_NOTHING = Fact(
    "how many words an answer has says nothing about its cosine", "secondary", "a news article on the paper"
)

# What decides a result and is not known of the paper, beside prompts, questions, label map and the versions of its
# models: what emoray does instead is *ours*, whoever runs it.
OURS: dict[str, tuple[str, ...]] = {
    "sampling": ("temperature", "top_p", "max_tokens"),
    "score": ("top label", "expected"),  # which of them the paper means; both are stored
    "refusals": ("an answer, flagged",),
    "angles": tuple(russell.DISPUTED),
    "classifier": ("label names", "long answers"),
}
