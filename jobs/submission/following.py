"""A run's job on a cluster: started or joined, followed to its end, told apart by how it ended."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from emoray.errors import UserError
from emoray.exit_codes import INTERRUPTED, OK, OWED, WRONG

DIED = 1  # beside the exit codes of a run
_LOOK_S = 1.0
_QUIET_S = 45.0  # of a log: a run that lives says a line every 30 s
_ANSWER_S = 10.0
_DEATHS = {"JOB_ENTRYPOINT_COMMAND_ERROR", "JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"}
LOST = (ConnectionError, TimeoutError, requests.exceptions.RequestException, aiohttp.ClientError)


@dataclass(frozen=True)
class Ending:
    """How a job ended."""

    code: int
    why: str = ""  # a sentence, where the log does not say it
    again: bool = False  # the driver died: another may go on


class _Client(JobSubmissionClient):  # type: ignore[misc]  # Ray says nothing of its types
    """Ray's own waits for ever on a connection that is half open."""

    answer_s = _ANSWER_S

    def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
        limit = self.answer_s if method == "GET" else None  # an upload takes as long as it takes
        return super()._do_request(method, endpoint, timeout=limit, **more)


@dataclass
class _Line:
    """To the head: what has come over it so far, and when something last did."""

    shown: int = 0  # characters of the job's log
    heard: float = field(default_factory=time.monotonic)

    def silent_s(self) -> float:
        return time.monotonic() - self.heard

    def hear(self) -> None:
        self.heard = time.monotonic()


class Jobs:
    """The jobs of one run on a cluster: `<stem>-1`, `<stem>-2`, …, of which at most one is under way."""

    def __init__(self, client: JobSubmissionClient, stem: str) -> None:
        self._client, self._stem = client, stem

    def running(self) -> tuple[str, str] | None:
        """The id and the command of the job that is under way."""
        for number, job in sorted(self._numbered().items(), reverse=True):
            if not job.status.is_terminal():
                return self._id(number), job.entrypoint
        return None

    def start(self, entrypoint: str, runtime_env: Mapping[str, Any]) -> str:
        """The id of a new job; RuntimeError where somebody else started it just now."""
        number = max(self._numbered(), default=0) + 1
        started: str = self._client.submit_job(
            entrypoint=entrypoint, submission_id=self._id(number), runtime_env=dict(runtime_env)
        )
        return started

    def _numbered(self) -> dict[int, Any]:
        ids = re.compile(re.escape(self._stem) + r"-(\d+)")
        found = {job.submission_id: job for job in self._client.list_jobs() if job.submission_id}
        return {int(match[1]): job for id, job in found.items() if (match := ids.fullmatch(id))}

    def _id(self, number: int) -> str:
        return f"{self._stem}-{number}"

    def follow(
        self,
        id: str,
        show: Callable[[str], None],
        *,
        patience_s: float,
        quiet_s: float = _QUIET_S,
        pause: Callable[[float], object] = time.sleep,
    ) -> Ending:
        """Shows the job's log until the job has ended, or the head was silent for `patience_s`; a log that says nothing
        for `quiet_s` may have a connection that is half open, and is asked for anew.
        """
        line = _Line()
        while True:
            asyncio.run(self._show(id, line, show, quiet_s))
            try:
                job = self._client.get_job_info(id)
            except AuthenticationError:
                return Ending(DIED, "the head of the cluster was replaced by one with another token")
            except (RuntimeError, *LOST) as wrong:
                if "status code 404" in str(wrong):
                    return Ending(DIED, f"the head of the cluster was replaced; job {id} died with the old one", True)
                if line.silent_s() > patience_s:
                    return Ending(DIED, f"the head of the cluster has not answered for {patience_s:g} s")
            else:
                line.hear()
                if job.status.is_terminal():
                    return ending(job)
            pause(_LOOK_S)

    async def _show(self, id: str, line: _Line, show: Callable[[str], None], quiet_s: float) -> None:
        """The log from where it was left, until it ends, breaks off or says nothing for so long."""
        seen = 0
        with suppress(RuntimeError, *LOST):
            async with asyncio.timeout(quiet_s) as limit:
                async for lines in self._client.tail_job_logs(id):
                    limit.reschedule(asyncio.get_running_loop().time() + quiet_s)
                    line.hear()
                    new = lines[max(0, line.shown - seen) :]
                    seen += len(lines)
                    line.shown = max(line.shown, seen)
                    if new:
                        show(new)


def connect(address: str | None) -> JobSubmissionClient:
    """UserError where no head answers, or it wants another token."""
    try:
        return _Client(address)
    except AuthenticationError:
        raise UserError(
            "the head asks for a token and was given none, or another: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "~/.ray/auth_token to the token that the cluster was started with"
        ) from None
    except (ConnectionError, ValueError, requests.exceptions.RequestException):
        raise UserError(
            f"no Ray head answers at {address or 'RAY_API_SERVER_ADDRESS'}: give the address of its dashboard with "
            "--address, such as http://127.0.0.1:8265 at the end of an ssh tunnel"
        ) from None


def stem(name: str, digest: str, folder: str) -> str:
    """Of the ids of a run's jobs: the same whenever the same spec is submitted for the same folder."""
    mark = hashlib.blake2b(f"{digest}\n{folder.rstrip('/')}".encode(), digest_size=5).hexdigest()
    return f"emoray-{re.sub(r'[^A-Za-z0-9_-]', '-', name)}-{mark}"


def ending(job: Any) -> Ending:
    """What became of a job that is over, from what Ray says of it."""
    code, error = job.driver_exit_code, job.error_type
    if job.status is JobStatus.SUCCEEDED:
        return Ending(OK)
    if job.status is JobStatus.STOPPED:
        return Ending(INTERRUPTED, "the job was stopped")
    if code in (WRONG, OWED, INTERRUPTED):
        return Ending(code)
    said = next(iter((job.message or "").splitlines()), f"{error}")
    reason = said if code is None else f"exit code {code}"
    return Ending(DIED, f"the driver died ({reason})", again=error is None or str(error) in _DEATHS)


def show(text: str) -> None:
    """As it comes: a log is watched."""
    sys.stdout.write(text)
    sys.stdout.flush()
