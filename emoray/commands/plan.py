"""What a spec would ask and what that takes, before anything is asked. Calls no model, writes nothing."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from emoray.commands.estimate import MOST_UNASKED, Estimate, Size, estimate, estimate_judge, likely_tokens, size, whole
from emoray.commands.options import SPEC, folder_of, precision, warn_of_code, with_grid
from emoray.commands.progress import Progress, duration
from emoray.commands.terminal import hush
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.hosts.context import as_config, lowered
from emoray.hosts.model_files import chat_template, config_file, generation_config
from emoray.hosts.reasoning import unsettled
from emoray.plurals import count
from emoray.run_folder import manifest
from emoray.run_folder.census import owed
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.recovery import has_answers
from emoray.scheduling import resources
from emoray.scheduling.demand import demand
from emoray.scheduling.packing import FreeResources, seated
from emoray.scheduling.refusal import refusal
from emoray.scheduling.resources import Actor, Bundle, Node
from emoray.spec.accounts import Account
from emoray.spec.document import json_schema
from emoray.spec.head import said_in_head
from emoray.spec.load import load
from emoray.spec.models import Hosted, Local, ModelEntry, Vllm
from emoray.spec.readers import JudgeReader
from emoray.spec.shipped import spec_file
from emoray.spec.study import Study
from emoray.spec.yaml_file import text_of
from emoray.stream import told_keys
from emoray.stream.accounts import check_budgets, missing_keys, unusable_ids
from emoray.stream.address import waits_for_ray
from emoray.study import families
from emoray.study.contrasts import Contrast
from emoray.study.experiment import Grid, Sampling
from emoray.study.prompts import Prompt, prompts, render
from emoray.study.sampling import NEUTRAL, BadDefaults, drawn, in_words, left_out, own


@dataclass(frozen=True)
class ModelPlan:
    model: str
    host: str
    cells: int
    settled: int
    needs: str  # of one lane: CPUs and GPUs
    expected: Estimate | None  # tokens and money of what is owed; None where no provider counts them
    at_least_s: float | None  # what the account's limits alone take for it
    account: str | None = None  # whose limits it shares with the account's other models
    sampling: dict[str, float | None] = field(default_factory=dict)  # as answers will be drawn; None: not ours to say
    sampling_note: str = ""  # whose defaults they are, where not the spec's
    notes: tuple[str, ...] = ()  # what is not settled
    answer_tokens: float = 0.0  # of an answer in the mean: seen, or assumed

    @property
    def owed(self) -> int:
        return self.cells - self.settled

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"owed": self.owed}

    def costs(self) -> str:
        """Tokens, money and time of what is owed; "" where nothing is known of them."""
        if self.expected is None:
            return ""
        time = f", at least {duration(self.at_least_s)} under the limits" if self.at_least_s else ""
        return f"{self.expected.money()}{time}"


@dataclass(frozen=True)
class JudgePlan:
    """What a judge has to read of all models."""

    reader: str
    model_id: str
    owed: int  # readings
    expected: Estimate | None  # None where no provider counts them
    kin: tuple[tuple[str, str], ...]  # (model it judges, family that they share)
    notes: tuple[str, ...] = ()  # what is not settled

    def flags(self) -> list[str]:
        """A sentence per family of which the judge and models that it judges are, and what else is to be known."""
        mine: dict[str, list[str]] = {}
        for model, family in self.kin:
            mine.setdefault(family, []).append(model)
        kindred = [
            f"judge {self.reader} is of the same family as {', '.join(models)} ({family}), and judges are kinder to "
            "their kin; have another reader beside it"
            for family, models in mine.items()
        ]
        return kindred + [f"judge {self.reader}: {note}" for note in self.notes]


@dataclass(frozen=True)
class Plan:
    name: str
    folder: str
    states: int
    intensities: int
    templates: int
    questions: int
    repetitions: int
    measured: int  # cells of a model: the product
    canaries: int  # of a model, beside them
    models: tuple[ModelPlan, ...]
    readers: tuple[str, ...]
    contrasts: tuple[str, ...]  # what the report will hold against what
    judges: tuple[JudgePlan, ...]
    example: Prompt
    cluster: str | None  # what the cluster has; None where none was asked
    placement: tuple[str, ...]  # of each model's engines and readers on the empty cluster; () where none was asked
    warnings: tuple[str, ...]  # for which `run` would refuse, here and now

    @property
    def size(self) -> Size:
        """Of all that is owed."""
        return _size(self.models, self.judges, len(self.readers))

    @property
    def at_least_s(self) -> float:
        """What the limits of accounts alone take."""
        return _limits_s(self.models)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        data = {key: value for key, value in asdict(self).items() if key != "example"}
        data["models"] = [model.as_json() for model in self.models]
        cells = sum(model.cells for model in self.models)
        return data | {"cells": cells, "size": asdict(self.size), "example": self.example.chat}

    def text(self) -> str:
        """For a terminal."""
        width = max(len(model.model) for model in self.models)
        grid = (
            f"{count(self.states, 'state')} × {count(self.intensities, 'intensity', 'intensities')} × "
            f"{count(self.templates, 'template')} × {count(self.questions, 'question')} × "
            f"{count(self.repetitions, 'repetition')}"
        )
        beside = f" and {count(self.canaries, 'canary', 'canaries')}" if self.canaries else ""
        whom = f"each of {len(self.models)} models" if len(self.models) > 1 else "one model"
        lines = [f"{self.name}: {grid} = {count(self.measured, 'cell')}{beside} for {whom}", ""]
        lines += [
            f"  {model.model:<{width}}  {model.host:<12}  {model.settled:>9,} settled  {model.owed:>9,} owed  "
            f"needs {model.needs}"
            for model in self.models
        ]
        lines += self._money()
        lines += ["", *self._sampling()]
        lines += [f"  readers: {', '.join(self.readers)}", f"  folder:  {self.folder}"]
        lines += [f"  contrast: {contrast}" for contrast in self.contrasts]
        lines += [f"  owed:    {self.size.text()}{_ASKS if self.size.is_very_large else ''}"]
        lines += [f"  warning: {sentence}" for sentence in self.warnings]
        lines += [f"  note:    model {model.model}: {note}" for model in self.models for note in model.notes]
        lines += [f"  note:    {flag}" for judge in self.judges for flag in judge.flags()]
        lines += [f"  cluster: {self.cluster or 'not asked (give --address to check one)'}"]
        lines += [
            f"    {model.model:<{width}}  {seats}" for model, seats in zip(self.models, self.placement, strict=False)
        ]
        lines += ["", "one prompt:"]
        lines += [f"  {message['role']}: {message['content']}" for message in self.example.chat]
        return "\n".join(lines)

    def _sampling(self) -> list[str]:
        """A line for all models that are asked alike."""
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for model in self.models:
            alike[f"{in_words(model.sampling)}{model.sampling_note}"].append(model.model)
        return [f"  sampling: {how} ({', '.join(models)})" for how, models in alike.items() if how]

    def _money(self) -> list[str]:
        costs = [(model.model, model.costs(), model.expected) for model in self.models]
        costs += [(f"judge {one.reader}", one.expected.money(), one.expected) for one in self.judges if one.expected]
        known = [(name, said, expected) for name, said, expected in costs if expected]
        if not known:
            return []
        width = max(len(name) for name, *_ in known)
        usd, unknown = whole([expected for *_, expected in known])
        but = f", and what {', '.join(unknown)} cost, whose price is unknown" if unknown else ""
        time = f", at least {duration(self.at_least_s)}" if self.at_least_s else ""
        assumed = dict.fromkeys(sentence for *_, expected in known for sentence in expected.assumed)
        return [
            "",
            *(f"  {name:<{width}}  {said}" for name, said, _ in known),
            f"  all together about ${usd:,.2f}{time}{but}",
            *(f"  assumed: {sentence}" for sentence in assumed),
        ]


_ASKS = f"; beyond {MOST_UNASKED:,} `run` asks for --yes, or for --limit"


def plan(study: Study, uri: str, *, address: str | None = None) -> Plan:
    """The plan of a study for a run folder, which need not exist.

    With an address (or RAY_ADDRESS) the cluster there is asked whether it has what every lane takes: UserError where
    it has not.
    """
    check_budgets(study.spec)
    address = address or os.environ.get("RAY_ADDRESS")

    nodes: Sequence[Node] = ()
    if address:
        from emoray.stream import cluster  # Ray takes seconds to import

        nodes = cluster.connect(address)()
        for model in study.spec.models:
            cluster.check(study.spec, model, nodes)
    folder, e = RunFolder(uri), study.experiment
    if (kept := manifest.read(folder)) is not None:
        manifest.study(kept, folder.shown)
    return Plan(
        name=study.spec.name,
        folder=folder.shown,
        states=len(e.states),
        intensities=len(e.intensities),
        templates=len(e.templates),
        questions=len(e.questions),
        repetitions=e.repetitions,
        measured=e.measured_per_model,
        canaries=e.canaries_per_model,
        models=tuple(_model(study, folder, entry) for entry in study.spec.models),
        readers=tuple(reader.name for reader in study.spec.readers),
        contrasts=tuple(map(_contrast, study.contrasts)),
        judges=tuple(_judge(study, folder, one) for one in study.spec.readers if isinstance(one, JudgeReader)),
        example=render(next(e.grid(e.models[0].name).cells())),
        cluster=resources.in_words(nodes) if address else None,
        placement=tuple(_placement(study, entry, nodes) for entry in study.spec.models) if address else (),
        warnings=(*_of_folder(folder), *_warnings(study, folder, here=not address)),
    )


def _contrast(contrast: Contrast) -> str:
    return f"{contrast}, {f'margin ±{contrast.margin:g}' if contrast.margin else 'no margin'}"


def owed_size(study: Study, folder: RunFolder) -> Size:
    """Of what is owed to a folder, by numbers alone: keys are counted, and not subtracted."""
    models = [_model(study, folder, entry, exact=False) for entry in study.spec.models]
    judges = [_judge(study, folder, one) for one in study.spec.readers if isinstance(one, JudgeReader)]
    return _size(models, judges, len(study.spec.readers))


def whole_size(study: Study) -> Size:
    """Of all that a study asks, nothing settled."""
    with tempfile.TemporaryDirectory() as nowhere:
        return owed_size(study, RunFolder(str(Path(nowhere) / "none")))


def _size(models: Sequence[ModelPlan], judges: Sequence[JudgePlan], readers: int) -> Size:
    owed = sum(model.owed for model in models)
    tokens = sum(model.answer_tokens * model.owed for model in models) / max(1, owed)
    expected = [*(model.expected for model in models), *(judge.expected for judge in judges)]
    costs = [one for one in expected if one]
    return size(owed, answer_tokens=tokens, readers=readers, limits_s=_limits_s(models), costs=costs)


def _limits_s(models: Sequence[ModelPlan]) -> float:
    """What the limits of accounts alone take: models of one account wait for one another."""
    accounts: defaultdict[str | None, float] = defaultdict(float)
    for model in models:
        accounts[model.account] += model.at_least_s or 0.0
    return max(accounts.values(), default=0.0)


def _warnings(study: Study, folder: RunFolder, *, here: bool) -> Iterator[str]:
    """What `run` would refuse in this environment and, where it is to run here, on this machine."""
    there = told_keys.in_manifest(manifest.read(folder))
    yield from unusable_ids(study.spec, here=here)
    yield from (told.refused for told in told_keys.in_spec(study.spec) if told not in there)
    yield from (told.warned for told in told_keys.in_spec(study.spec) if told in there)
    yield from missing_keys(study.spec)

    from emoray.stream import cluster  # Ray takes seconds to import

    nodes = [cluster.this_machine()] if here else []
    for entry in study.spec.models if here else ():
        if sentence := refusal(entry, study.spec.readers, nodes):
            yield sentence.replace("the cluster has", "this machine has")


def _of_folder(folder: RunFolder) -> Iterator[str]:
    if manifest.read(folder) is None and has_answers(folder):
        yield f"{folder.shown} holds answers and no run.json: `run` takes those that the spec asks for with --extend"


def _model(study: Study, folder: RunFolder, entry: ModelEntry, *, exact: bool = True) -> ModelPlan:
    """`exact` subtracts key by key; else answers are counted, of whatever cells."""
    grid = study.experiment.grid(entry.name)
    settled = folder.answers(entry.name).settled()
    left = max(0, len(grid) - len(settled))
    if exact and len(settled):
        left = sum(1 for _ in owed(prompts(grid), settled))
    needs, tokens = str(demand(entry, study.spec.readers)), _answer_tokens(study, folder, entry.name)
    sampling, note = _sampling(entry, grid.model.sampling)
    told = ModelPlan(
        entry.name, entry.host, len(grid), len(grid) - left, needs, None, None,
        sampling=sampling, sampling_note=note, answer_tokens=tokens,
        notes=(*_unsettled(entry), *_lowered(entry, grid.model.sampling)),
    )  # fmt: skip
    if not isinstance(entry, Hosted):
        return told
    expected = _expected(entry, grid, left, _seen_tokens(folder, entry.name))
    least = None if entry.host == "batch_api" else _at_least_s(study.spec.accounts[entry.account], expected)
    return replace(told, expected=expected, at_least_s=least, account=entry.account)


def _unsettled(entry: ModelEntry) -> tuple[str, ...]:
    """Of a model whose files are on this machine."""
    if not isinstance(entry, Local | Vllm):
        return ()
    more = generation_config(entry) if entry.sampling_defaults == "model" else None
    return *unsettled(entry, chat_template(entry)), *left_out(more or {})


def _lowered(entry: ModelEntry, asked: Sampling) -> list[str]:
    """Of a model that transformers holds, where its files are on this machine."""
    with suppress(TypeError, ValueError, OverflowError):  # of a broken file the host tells, which cannot load it
        return lowered(as_config(config_file(entry)), asked.max_tokens) if isinstance(entry, Local) else []
    return []


_UNKNOWN = "; and what the model's generation_config says, which is not known on this machine"
_OWN = "; with the model's generation_config where the spec leaves something open"
_ENGINES = "; with the generation_config that engine_kwargs names"


def _sampling(entry: ModelEntry, asked: Sampling) -> tuple[dict[str, float | None], str]:
    """How answers will be drawn, and whose defaults are in it; what only the provider knows is None."""
    match entry:
        case Hosted():
            return asdict(asked), ""
        case Local(sampling_defaults="model") | Vllm(sampling_defaults="model"):
            return _with_own(asked, generation_config(entry), entry)
        case Vllm():
            named = entry.engine_kwargs.get("generation_config", "vllm") != "vllm"
            return drawn(asked, _overridden(entry)), _ENGINES if named else ""
        case _:
            return drawn(asked, NEUTRAL), ""


def _with_own(
    asked: Sampling, config: Mapping[str, Any] | None, entry: Local | Vllm
) -> tuple[dict[str, float | None], str]:
    overridden = _overridden(entry) if isinstance(entry, Vllm) else {}
    if config is None:
        return drawn(asked, overridden), _UNKNOWN
    try:
        return drawn(asked, own(config) | overridden), _OWN
    except BadDefaults as wrong:
        raise UserError(f"model {entry.name!r}: {wrong}; leave sampling_defaults out") from None


def _overridden(entry: Vllm) -> dict[str, float | None]:
    """What the spec hands to vLLM past its own fields."""
    given = entry.engine_kwargs.get("override_generation_config")
    try:
        return own(given) if isinstance(given, dict) else {}
    except BadDefaults as wrong:
        raise UserError(f"model {entry.name!r}: engine_kwargs: {wrong}") from None


def _placement(study: Study, entry: ModelEntry, nodes: Sequence[Node]) -> str:
    """`engine: 4 H100 GPUs on gpu-1; paper: 0.5 CPUs on cpu-2`, were the cluster empty."""
    needs = demand(entry, study.spec.readers, nodes)
    grant = seated(needs, FreeResources(nodes))
    if grant is None:
        return f"waits until the cluster has grown to {needs}"
    crews = {"engine" if entry.host == "vllm" else "asks": grant.speakers, **grant.readers}
    hosts = {node.name: node.host for node in nodes}
    return "; ".join(f"{name}: {', '.join(_seats(actor, hosts) for actor in crew)}" for name, crew in crews.items())


def _seats(actor: Actor, hosts: Mapping[str, str]) -> str:
    """An actor's bundles, node by node."""
    there: dict[str, list[Bundle]] = {}
    for seat in actor:
        there.setdefault(seat.node, []).append(seat.bundle)
    return " + ".join(f"{resources.in_words(bundles)} on {hosts[node]}" for node, bundles in there.items())


def _judge(study: Study, folder: RunFolder, entry: JudgeReader) -> JudgePlan:
    owed_by = {model.name: _unread(study, folder, entry, model.name) for model in study.spec.models}
    expected = None
    if isinstance(entry.model, Hosted):
        tokens = {model.name: _answer_tokens(study, folder, model.name) for model in study.spec.models}
        readings = sum(owed_by.values())
        mean = sum(tokens[name] * n for name, n in owed_by.items()) / max(1, readings)
        expected = estimate_judge(entry, readings, answer_tokens=mean)
    kin = [(model.name, families.kin(entry.model.id, model.id)) for model in study.spec.models]
    related = tuple((name, family) for name, family in kin if family)
    return JudgePlan(entry.name, entry.model.id, sum(owed_by.values()), expected, related, _unsettled(entry.model))


def _unread(study: Study, folder: RunFolder, judge: JudgeReader, model: str) -> int:
    return len(study.experiment.grid(model)) - len(folder.rows(judge.name, model).settled())


def _answer_tokens(study: Study, folder: RunFolder, model: str) -> float:
    """The mean length of a model's answers: of those that are there, else as assumed of what it will say."""
    return _seen_tokens(folder, model) or likely_tokens(study.experiment.grid(model).model.sampling.max_tokens)


def _seen_tokens(folder: RunFolder, model: str) -> float | None:
    """The mean length of the answers that are there; None without any."""
    counts = folder.answers(model).counts()
    return counts.completion_tokens / counts.answered if counts.answered and counts.completion_tokens else None


def _expected(entry: Hosted, grid: Grid, cells: int, seen_tokens: float | None) -> Estimate:
    """Of `cells` cells like the grid's: every prompt is looked at once, whatever the repetitions."""
    each = [render(grid.cell(number, 0)) for number in range(grid.experiment.prompts_per_model)]
    one = estimate(entry, each, max_tokens=grid.model.sampling.max_tokens, seen_completion_tokens=seen_tokens)
    times = cells / one.cells
    return replace(
        one,
        cells=cells,
        prompt_tokens=round(one.prompt_tokens * times),
        completion_tokens=round(one.completion_tokens * times),
        most_completion_tokens=round(one.most_completion_tokens * times),
        usd=None if one.usd is None else one.usd * times,
        most_usd=None if one.most_usd is None else one.most_usd * times,
    )


def _at_least_s(account: Account, expected: Estimate) -> float | None:
    """Seconds that the account's limits alone take; None where it states none."""
    completion = expected.most_completion_tokens if account.reserves_tokens else expected.completion_tokens
    waits = [
        60.0 * amount / (limit * account.share)
        for amount, limit in (
            (expected.cells, account.requests_per_minute),
            (expected.prompt_tokens + completion, account.tokens_per_minute),
        )
        if limit
    ]
    return max(waits, default=None)


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("spec", nargs="?", metavar="SPEC", help=SPEC)
    own.add_argument("--schema", action="store_true", help="print the JSON schema of a spec")
    own.add_argument("--json", action="store_true", help="for programs")
    own.add_argument(
        "--freeze",
        nargs="?",
        const="",
        metavar="FILE",
        help="write the plan down, with its digest, to be held against the run (<name of the spec>.plan.md)",
    )
    own.add_argument(
        "--precision",
        type=precision,
        metavar="COSINE",
        help="how many repetitions, or questions, make the interval of every mean ± that",
    )
    own.add_argument("--pilot", metavar="RUN", help="a run whose spread is foreseen (shipped priors), for --precision")
    with_grid(own)


def _call(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        print(json.dumps(json_schema(), indent=2))
        return OK
    if not arguments.spec:
        raise UserError("plan needs a spec, such as jobs/quickstart.yaml (or --schema)")
    if arguments.pilot is not None and arguments.precision is None:
        raise UserError("--pilot tells --precision how far answers spread; give both, such as --precision 0.02")
    if arguments.freeze is not None and arguments.precision is not None:
        raise UserError("--precision looks for a design and --freeze keeps one; ask for one of them at a time")
    study = load(arguments.spec, arguments.set, arguments.models)
    warn_of_code(study.spec.asked)
    if arguments.precision is not None:
        return _precise(study, arguments)
    if arguments.freeze is not None:
        return _freeze(study, arguments)
    if arguments.address or os.environ.get("RAY_ADDRESS"):
        Progress().wait(waits_for_ray(arguments.address))
        if not arguments.verbose:
            hush()
    folder = folder_of(arguments.out, study.spec)
    planned = plan(study, folder, address=arguments.address)
    print(json.dumps(planned.as_json(), indent=2) if arguments.json else planned.text())
    return OK


def _precise(study: Study, arguments: argparse.Namespace) -> int:
    from emoray.commands.precise import precise

    found = precise(study, arguments.precision, arguments.pilot, whole_size(study))
    print(json.dumps(found.as_json(), indent=2) if arguments.json else found.text())
    return OK


def _freeze(study: Study, arguments: argparse.Namespace) -> int:
    from emoray.commands.freeze import freeze

    file = Path(arguments.freeze or f"{study.spec.name}.plan.md")
    head = said_in_head(text_of(spec_file(arguments.spec)))
    digest = freeze(study, file, head, whole_size(study))
    told = f"{file}: frozen, sha256 {digest}\nemoray report RUN --frozen {file} holds the run against it"
    print(json.dumps({"file": str(file), "sha256": digest}, indent=2) if arguments.json else told)
    return OK
