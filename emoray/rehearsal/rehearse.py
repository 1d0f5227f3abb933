"""A rehearsal: the user's own run with fake speakers and real kills, resumed until done, then the ledger.

The `run` command is a process of its own, as it will be at night. The provider lives here, counts, and is the one
that cannot be killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from emoray.errors import UserError
from emoray.exit_codes import OK, WRONG
from emoray.hints import did_you_mean
from emoray.home import environment, module
from emoray.hosts import rehearsed as rehearsed_host
from emoray.hosts.request_loop import Guess
from emoray.plurals import count
from emoray.rehearsal import audit
from emoray.rehearsal.audit import Audit, Event, Heard, Kept, Kill
from emoray.rehearsal.behaviour import Behaviour, Counters
from emoray.rehearsal.faults import Fault, Plan, storm
from emoray.rehearsal.heartbeat import Stall
from emoray.rehearsal.kill_schedule import Due, Target, schedule
from emoray.rehearsal.local_cluster import Nodes
from emoray.rehearsal.provider import Provider
from emoray.rehearsal.spec import ENGINES, accounts_of, rehearsed
from emoray.run_folder import columns
from emoray.run_folder.census import KeySet
from emoray.run_folder.columns import ANSWERED
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.tabs import lost_by_model
from emoray.spec.accounts import Account
from emoray.spec.document import Spec
from emoray.spec.models import Hosted, Rehearsed
from emoray.spec.prices import price_of
from emoray.spec.readers import JudgeReader
from emoray.spec.study import Study
from emoray.stream.address import waits_for_ray
from emoray.study.prompts import Prompt, prompts

_LOOK_S = 0.02
_TRIES = 3  # runs one after another that end by themselves and settle nothing
_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True)
class Options:
    """How a rehearsal goes."""

    run: str  # URI of its run folder
    kill: Sequence[Target] = (Target.DRIVER, Target.ACTOR, Target.ENGINE, Target.READER)
    kills: int = 10
    seed: int = 0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    latency_s: float = 0.3
    slots: int | None = None  # answers that a provider works on at once; all others queue
    faster: float = 60.0  # how much wider than in the spec the accounts' limits are
    limit: int | None = None
    address: str | None = None  # of the user's cluster; None starts one here
    listen: str = "127.0.0.1"  # where the provider listens; the cluster's nodes must reach it
    real_readers: bool = False


def options(run: str, *, kill: str, faults: str, **others: Any) -> Options:
    """Options from the words of a command line; UserError says which of them is none."""
    targets = [_chosen("--kill", word, Target) for word in kill.split(",") if word.strip()]
    return Options(run, kill=targets, faults=_faults(faults), **others)


def _faults(text: str) -> dict[Fault, float]:
    """`reset=0.01,busy=0.05`, or `storm=0.3`: a share of all kinds together."""
    chances: dict[Fault, float] = {}
    for name, _, share in (word.strip().partition("=") for word in text.split(",") if word.strip()):
        try:
            chance = float(share)
        except ValueError:
            chance = -1.0
        if not 0 <= chance <= 1:
            raise UserError(f"--faults {name}={share}: a fault needs its share, from 0 to 1, such as busy=0.05")
        chances |= storm(chance) if name == "storm" else {_chosen("--faults", name, Fault): chance}
    return chances


def _chosen(flag: str, word: str, of: type[_E]) -> _E:
    try:
        return of(word.strip())
    except ValueError:
        raise UserError(
            f"{flag}: {word.strip()!r} is none of {', '.join(of)}{did_you_mean(word.strip(), of)}"
        ) from None


def rehearse(study: Study, folder: Path, options: Options, say: Callable[[str], None]) -> Audit:
    """The ledger; `folder` is the spec's own, `say` is told what happens."""
    if (there := RunFolder(options.run)).exists():
        raise UserError(f"{there.shown} is there already; a rehearsal wants a new folder, give one with --out")
    with ExitStack() as stack:
        accounts = accounts_of(study.spec, options.faster)
        providers = {name: stack.enter_context(_provider(options, accounts.get(name))) for name in (*accounts, ENGINES)}
        urls = {name: provider.base_url for name, provider in providers.items()}
        spec = rehearsed(study.spec, accounts, urls, folder, real_readers=options.real_readers)
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emoray-rehearsal-")))
        (place / "rehearsal.yaml").write_text(json.dumps(spec.model_dump(mode="json"), indent=1))
        say(f"{waits_for_ray(options.address or 'local')} …")
        nodes = stack.enter_context(Nodes()) if options.address is None else None
        stage = _Stage(Study(spec), options, list(providers.values()), nodes, place / "rehearsal.yaml", say)
        with stage.joined():
            stage.play()
            stage.rest()
        return stage.ledger()


class Log(Counter[str]):
    """A counter by key that remembers when each count came."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def __setitem__(self, key: str, count: int) -> None:
        self.events.append((time.monotonic(), key))
        super().__setitem__(key, count)


@contextmanager
def _provider(options: Options, account: Account | None) -> Iterator[Provider]:
    """One per account, so that each has its own limits; engines meet no faults but death."""
    behaviour = Behaviour(Plan(options.seed), latency_s=options.latency_s)
    if account is not None:
        behaviour = Behaviour(
            Plan(options.seed, options.faults),
            latency_s=options.latency_s,
            slots=options.slots,
            requests_per_minute=account.requests_per_minute,
            tokens_per_minute=account.tokens_per_minute,
        )
    provider = Provider(behaviour, host=options.listen)
    provider.counters = Counters(asked=Log(), answered=Log())
    with provider:
        yield provider


class _Stage:
    """One rehearsal while it goes on."""

    def __init__(
        self,
        study: Study,
        options: Options,
        providers: Sequence[Provider],
        nodes: Nodes | None,
        spec: Path,
        say: Callable[[str], None],
    ) -> None:
        self._study, self._options, self._providers = study, options, providers
        self._nodes, self._spec, self._say = nodes, spec, say
        self._folder = RunFolder(options.run)
        self._address = nodes.address if nodes else options.address or ""
        self._grid = {model.name: self._cells(model.name) for model in study.experiment.models}
        cells = sum(self._grid.values())
        self._due = schedule(self._targets(), options.kills, cells, options.seed)
        self._chance = random.Random(options.seed)
        self._kills: list[Kill] = []
        self._stalls: list[list[Stall]] = []

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Joins the cluster, to find and kill what runs there."""
        os.environ.update(self._nodes.environment if self._nodes else {})
        from emoray.rehearsal.process_killer import ProcessKiller

        self._hunter = ProcessKiller(self._address, self._nodes.workers if self._nodes else 0)
        numbers = (signal.SIGINT, signal.SIGTERM)  # Ray has put its own handler there, which would let the run live
        before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
        try:
            yield
        finally:
            self._hunter.leave()
            for number, handler in before.items():
                signal.signal(number, handler)

    def play(self) -> None:
        """Runs, kills and resumes until the run ends by itself with nothing owed, or does not get further."""
        tries = settled = 0
        while tries < _TRIES:
            ended = self._run()
            if ended in (OK, WRONG):
                return
            before, settled = settled, len(self._durable())
            tries = tries + 1 if ended is not None and settled == before else 0
        self._say("the run does not get further")

    def rest(self) -> None:
        """Notes when the cluster's machines stood still, while they can be asked."""
        self._stalls = self._hunter.stalls()

    def ledger(self) -> Audit:
        """What the providers counted and what is on disk."""
        heard = Heard(self._events("asked"), self._events("answered"), self._charged_usd())
        return audit.audit(heard, self._kills, self._kept(), self._stalls)

    # ── running and killing ────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> int | None:
        """One `run` command; its exit code, None where it was killed."""
        log = self._spec.with_name("run.log")
        with log.open("wb") as sink:
            driver = subprocess.Popen(
                self._command(), stdout=sink, stderr=sink, env=environment(), start_new_session=True
            )
        try:
            killed = self._watch(driver)
        finally:
            driver.kill()
            driver.wait()
        if killed:
            return None
        if driver.returncode != OK:
            self._say(log.read_text(errors="replace").strip()[-1000:])
        return driver.returncode

    def _command(self) -> list[str]:
        command = [*module("emoray"), "run", str(self._spec), "--out", self._options.run, "--yes"]
        limit = ["--limit", str(self._options.limit)] if self._options.limit else []
        return [*command, "--address", self._address, *limit]

    def _watch(self, driver: subprocess.Popen[bytes]) -> bool:
        """Makes the kills that fall due until the driver ends; whether it was killed."""
        while driver.poll() is None:
            done = self._one_that_is_due(driver)
            if done:
                self._due.remove(done)
                self._say(f"killed {done.target} after {count(self._answered(), 'answer')}")
                if done.target is Target.DRIVER:
                    return True
            time.sleep(_LOOK_S)
        return False

    def _one_that_is_due(self, driver: subprocess.Popen[bytes]) -> Due | None:
        """The first kill that is due and could be made; one without a victim just now does not hold up the others."""
        answered = self._answered()
        return next((due for due in self._due if due.answered <= answered and self._strike(driver, due)), None)

    def _strike(self, driver: subprocess.Popen[bytes], due: Due) -> bool:
        """False where there is no such process just now."""
        for victim in self._victims(driver, due.target):
            actors = len(self._hunter.actors(driver.pid))
            began = time.monotonic()
            if not self._killed(driver, due.target, victim):
                continue
            for provider in self._providers:
                provider.catch_up()  # what the dead had sent was sent before
            ended = time.monotonic()
            self._kills.append(Kill(str(due.target), began, ended, self._in_flight(ended), actors))
            if due.target is Target.NODE and self._nodes:
                self._nodes.add()
            return True
        return False

    def _victims(self, driver: subprocess.Popen[bytes], target: Target) -> list[Any]:
        """Who could be killed, in random order."""
        found: list[Any]
        match target:
            case Target.DRIVER:
                begun = self._hunter.actors(driver.pid)
                found = [[one for one in begun if one.works]] if begun else []
            case Target.ACTOR | Target.ENGINE:
                found = self._hunter.actors(driver.pid, "GenerateActor")
            case Target.READER:
                found = self._hunter.actors(driver.pid, "ReadActor")
            case Target.NODE:
                busy = {one.node for one in self._hunter.actors(driver.pid)}
                found = sorted(busy & set(self._hunter.workers()))
        self._chance.shuffle(found)
        return found

    def _killed(self, driver: subprocess.Popen[bytes], target: Target, victim: Any) -> bool:
        """Whether it was there to be killed; returns when all that dies of it is dead."""
        match target:
            case Target.DRIVER:
                driver.kill()
                driver.wait()
                self._hunter.wait_until_gone(victim)
                return True
            case Target.ENGINE:
                return self._hunter.kill_child(victim, rehearsed_host.MODULE)
            case Target.NODE:
                return self._hunter.kill_node(victim)
            case _:
                return self._hunter.kill(victim)

    def _in_flight(self, until: float) -> int:
        """Cells asked and not durable: what may have to be asked again."""
        asked = {key for when, key in self._events("asked") if when <= until}
        keys = sorted(asked)
        return len(keys) - int(self._durable().has(keys).sum()) if keys else 0

    def _durable(self) -> KeySet:
        return KeySet().union(*(self._folder.answers(name).settled() for name in self._grid))

    # ── counting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _answered(self) -> int:
        return sum(len(provider.counters.answered) for provider in self._providers)

    def _events(self, what: str) -> list[Event]:
        logs = [getattr(provider.counters, what) for provider in self._providers]
        return [event for log in logs if isinstance(log, Log) for event in list(log.events)]

    def _cells(self, model: str) -> int:
        cells = len(self._study.experiment.grid(model))
        return min(cells, self._options.limit or cells)

    def _targets(self) -> list[Target]:
        """What of the asked-for targets this run has."""
        spec: Spec = self._study.spec
        has = {Target.ENGINE: any(isinstance(entry, Rehearsed) for entry in spec.models)}
        missing = [target for target in self._options.kill if not has.get(target, True)]
        for target in missing:
            self._say(f"this spec has no {target} to kill")
        return [target for target in self._options.kill if target not in missing]

    def _kept(self) -> Kept:
        answers: Counter[str] = Counter()
        cost: dict[str, float] = {}
        attempts: Counter[str] = Counter()
        rows: dict[str, Counter[str]] = {reader.name: Counter() for reader in self._study.spec.readers}
        spare = torn = 0
        paid_usd = 0.0
        for model in self._grid:
            part = self._folder.answers(model)
            said = part.read(["key", "outcome", "cost_usd", "attempts"])
            for key, outcome, usd, tries in zip(*(said[name].to_pylist() for name in said.column_names), strict=True):
                answers[key] += outcome == ANSWERED
                cost[key] = usd or 0.0
                attempts[key] += tries or 0
            for reader, found in rows.items():
                felt = self._folder.rows(reader, model).read(["key", "outcome"]).to_pylist()
                found.update(row["key"] for row in felt if row["outcome"] == ANSWERED)
            counts = part.counts()
            spare, torn, paid_usd = spare + counts.spare, torn + counts.torn, paid_usd + counts.cost_usd
        asked = {prompt.key for model, cells in self._grid.items() for prompt in self._asked(model, cells)}
        kept = Counter({key: count for key, count in answers.items() if count and key in asked})
        lost_usd = sum(lost_by_model(self._folder).values())
        cells, dearest_usd = sum(self._grid.values()), self._dearest_usd()
        return Kept(cells, kept, rows, cost, spare, torn, paid_usd, lost_usd, attempts, dearest_usd)

    def _charged_usd(self) -> float:
        """What the providers' answers cost, by the prices of the spec; engines are nobody's account."""
        prices = {entry.name: price_of(entry) for entry in self._study.spec.models if isinstance(entry, Hosted)}
        charged = {
            prompt.key: price
            for model, price in prices.items()
            if price is not None
            for prompt in self._asked(model, self._grid[model])
        }
        return sum(
            (asked * charged[key].input + said * charged[key].output) / 1e6
            for provider in self._providers
            for key, asked, said in provider.counters.billed
            if key in charged
        )

    def _dearest_usd(self) -> float | None:
        """What one call may cost at most; None where a judge pays as well, whose prompts are not known, or a batch, of
        which cells are booked that were never called.
        """
        spec = self._study.spec
        if any(isinstance(reader, JudgeReader) for reader in spec.readers):
            return None
        if any(entry.host == "batch_api" for entry in spec.models):
            return None
        return max(
            (
                Guess(price_of(entry)).of(ask)[1]
                for entry in self._study.spec.models
                if isinstance(entry, Hosted)
                for ask in columns.asks(columns.asked(list(self._asked(entry.name, self._grid[entry.name]))))
            ),
            default=0.0,
        )

    def _asked(self, model: str, cells: int) -> Iterator[Prompt]:
        yield from prompts(self._study.experiment.grid(model), 0, cells)
