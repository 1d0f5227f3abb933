"""A run's job on a cluster: started or joined, followed to its end, told apart by how it ended."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from emoray.exit_codes import INTERRUPTED, OK, OWED, WRONG
from emoray.spec import SpecError

DIED = 1  # beside the exit codes of a run
_LOOK_S = 1.0
_DEATHS = {"JOB_ENTRYPOINT_COMMAND_ERROR", "JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"}
LOST = (ConnectionError, requests.exceptions.RequestException, aiohttp.ClientError)


@dataclass(frozen=True)
class Ending:
    """How a job ended."""

    code: int
    why: str = ""  # a sentence, where the log does not say it
    again: bool = False  # the driver died: another may go on


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

    def follow(self, id: str, show: Callable[[str], None], *, patience_s: float) -> Ending:
        """Shows the job's log until the job has ended, or the head was silent for so long."""
        shown, heard = 0, time.monotonic()
        while True:
            shown = asyncio.run(self._show(id, shown, show))
            try:
                job = self._client.get_job_info(id)
            except AuthenticationError:
                return Ending(DIED, "the head of the cluster was replaced by one with another token")
            except (RuntimeError, *LOST) as wrong:
                if "status code 404" in str(wrong):
                    return Ending(DIED, f"the head of the cluster was replaced; job {id} died with the old one", True)
                if time.monotonic() - heard > patience_s:
                    return Ending(DIED, f"the head of the cluster has not answered for {patience_s:g} s")
            else:
                heard = time.monotonic()
                if job.status.is_terminal():
                    return ending(job)
            time.sleep(_LOOK_S)

    async def _show(self, id: str, shown: int, show: Callable[[str], None]) -> int:
        """The log from a character on; how many characters of it have been shown when it ends or breaks off."""
        seen = 0
        with suppress(RuntimeError, *LOST):
            async for lines in self._client.tail_job_logs(id):
                new = lines[max(0, shown - seen) :]
                seen += len(lines)
                if new:
                    show(new)
        return max(shown, seen)


def connect(address: str | None) -> JobSubmissionClient:
    """SpecError where no head answers, or it wants another token."""
    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise SpecError(
            "the head asks for a token and was given none, or another: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "~/.ray/auth_token to the token that the cluster was started with"
        ) from None
    except (ConnectionError, ValueError, requests.exceptions.RequestException):
        raise SpecError(
            f"no Ray head answers at {address or 'RAY_API_SERVER_ADDRESS'}: give the address of its dashboard with "
            "--address, such as http://127.0.0.1:8265 at the end of an ssh tunnel"
        ) from None


def stem(name: str, digest: str, folder: str) -> str:
    """Of the ids of a run's jobs: the same whenever the same spec is submitted for the same folder."""
    mark = hashlib.blake2b(f"{digest}\n{folder}".encode(), digest_size=5).hexdigest()
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
