"""The spec: one YAML file that is the method section of a run, parsed once and then trusted.

Every complaint is a sentence that names the file, the field and the value. Keys of accounts are never in a spec: it
names the environment variable that holds one.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from emoray.hints import did_you_mean
from emoray.spec.accounts import Account, Retry
from emoray.spec.asked import (
    CanariesSpec,
    HeadlineSpec,
    QuestionText,
    StateEntry,
    StatesInput,
    TemplateText,
    as_headline,
    as_states,
)
from emoray.spec.base import Huge, Intensity, Name, Section, Text, Usd, Word, digest, or_one
from emoray.spec.contrasts import ContrastEntry
from emoray.spec.entry import SamplingSpec
from emoray.spec.models import Hosted, ModelEntry, Vllm
from emoray.spec.readers import GoEmotionsReader, JudgeReader, ReaderEntry
from emoray.study.scoring import NeutralRule, RefusalRule


class Spec(Section):
    """One experiment: models × states × intensities × templates × questions × repetitions, and how it is run.

    A model is asked at most 10,000,000 prompts (templates × states × intensities × questions) and 10^12 cells. The
    file has at most 16 MiB, 1,000,000 values with what its anchors stand for, and 64 levels; whole numbers 64 bits.
    """

    name: Name
    """The run's name; without --out it is written to runs/<name>."""
    models: Annotated[list[ModelEntry], Field(min_length=1, max_length=1000)]
    accounts: Annotated[dict[Name, Account], Field(max_length=1000)] = {}
    states: Annotated[
        Annotated[int, Field(ge=1, le=3600)] | Annotated[list[StateEntry], Field(min_length=1, max_length=3600)],
        BeforeValidator(as_states, json_schema_input_type=StatesInput),
    ] = 12
    """A count (evenly spaced around the circle), angles in degrees, valence/arousal pairs, or Russell's terms."""
    intensities: Annotated[list[Intensity], Field(min_length=1, max_length=1000), or_one(Intensity, 1000)] = [1.0]
    """What states are scaled by, 0 < intensity ≤ 1: their distance from the origin, but of pairs that are shorter."""
    templates: Annotated[
        list[Word | TemplateText], Field(min_length=1, max_length=10_000), or_one(Word | TemplateText, 10_000)
    ] = ["parameters"]
    """Names of shipped templates, or your own texts."""
    questions: Annotated[
        list[Text | QuestionText], Field(min_length=1, max_length=100_000), or_one(Text | QuestionText, 100_000)
    ] = ["all"]
    """Ids of shipped questions, `all` of the paper's ten, a shipped set (abstract-philosophical, personal-preference),
    or your own texts; a bare text gets an id made from it.
    """
    repetitions: Huge = 1
    canaries: CanariesSpec | None = None
    """A few prompts asked again and again through the run, to see whether the model changes under it."""
    sampling: SamplingSpec = SamplingSpec()
    readers: Annotated[list[ReaderEntry], Field(min_length=1, max_length=1000)] = [
        GoEmotionsReader(kind="goemotions", name="embedded", model="embedded")
    ]
    headline: Annotated[HeadlineSpec, BeforeValidator(as_headline, json_schema_input_type=HeadlineSpec | Word)] = (
        HeadlineSpec()
    )
    """Which template at which intensity the report's means are of; a bare name is a template's."""
    label_map: Word = "russell"
    """A shipped map, or the path of your own (YAML or CSV), seen from the spec's folder."""
    neutral: NeutralRule = "zero"
    """What a reading without a direction scores: zero, or it is dropped from the means."""
    refusals: RefusalRule = "zero"
    """What an answer that declines the task scores: zero, or it is dropped from the means, or as its text was read."""
    contrasts: Annotated[list[ContrastEntry], Field(max_length=1000), or_one(ContrastEntry, 1000)] = []
    """What the report holds against what; said before the run, so that it is no choice of what came out."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the order of asking, and nothing else: a cell's own seed comes from its key."""
    retry: Retry = Retry()
    budget_usd: Usd | None = None
    """For the whole run."""

    @model_validator(mode="after")
    def _fits_together(self) -> Spec:
        for what, names in (("models", self.models), ("readers", self.readers)):
            twice = [name for name, n in Counter(entry.name for entry in names).items() if n > 1]
            if twice:
                raise ValueError(f"{what} has {twice[0]!r} twice; give each its own name")
        judges = {f"readers[{i}].model": r.model for i, r in enumerate(self.readers) if isinstance(r, JudgeReader)}
        for where, asked in ({f"models[{i}]": m for i, m in enumerate(self.models)} | judges).items():
            if isinstance(asked, Hosted) and asked.account not in self.accounts:
                raise ValueError(
                    f"{where}.account is {asked.account!r}, which accounts does not define"
                    f"{did_you_mean(asked.account, self.accounts)}"
                )
        for where, judge in judges.items():
            if judge.host == "batch_api":
                raise ValueError(f"{where}.host is batch_api, which answers within a day; a judge needs hosted_api")
            for alone in ("priority", "deadline"):
                if getattr(judge, alone):
                    raise ValueError(f"{where}.{alone} is set, but a judge has no lane of its own; set it on a model")
        for name, account in self.accounts.items():
            if account.kind == "azure" and not account.api_version:
                raise ValueError(f"accounts.{name}.api_version is missing; Azure asks for one, such as '2024-10-21'")
            if account.kind == "azure" and "base_url" not in account.model_fields_set:
                raise ValueError(f"accounts.{name}.base_url is missing; Azure's is https://<resource>.openai.azure.com")
        for index, model in enumerate(self.models):
            if isinstance(model, Vllm) and model.engines.least > model.engines.most:
                raise ValueError(f"models[{index}].replicas must be [least, most], got {model.replicas}")
        return self

    def model(self, name: str) -> ModelEntry:
        return next(entry for entry in self.models if entry.name == name)

    @property
    def asked(self) -> list[ModelEntry]:
        """All entries that are asked something: the models, then the judges."""
        return [*self.models, *(reader.model for reader in self.readers if isinstance(reader, JudgeReader))]

    @property
    def digest(self) -> str:
        """16 hex digits of the whole spec as resolved; what older ones did not know counts where it says something."""
        fields = type(self).model_fields
        usual = {
            name for name in ("headline", "refusals", "contrasts") if getattr(self, name) == fields[name].get_default()
        }
        told = self.model_dump(mode="json", exclude=usual)
        for template in told["templates"]:
            if isinstance(template, dict) and template.get("control") is None:
                template.pop("control", None)
        for question in told["questions"]:
            if isinstance(question, dict) and not question.get("tags"):
                question.pop("tags", None)
        return digest(told)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a spec, for editors; its models may be in a file of their own."""
    whole = Spec.model_json_schema()
    whole["required"].remove("models")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}
