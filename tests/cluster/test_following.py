"""How a job ended, told from what Ray says of it, which jobs are of one run, and what silence means."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import submit
from aiohttp import web
from ray.dashboard.modules.job.pydantic_models import JobDetails
from submission.following import DIED, Ending, Jobs, connect, ending, stem
from submission.parcel import parcel

from tests.programs import ROOT

QUICKSTART = ROOT / "jobs/quickstart.yaml"


@pytest.mark.parametrize(
    ("status", "code", "error", "exit_code", "again"),
    [
        ("SUCCEEDED", 0, None, 0, False),
        ("FAILED", 2, "JOB_ENTRYPOINT_COMMAND_ERROR", 2, False),
        ("FAILED", 3, "JOB_ENTRYPOINT_COMMAND_ERROR", 3, False),
        ("FAILED", 130, "JOB_ENTRYPOINT_COMMAND_ERROR", 130, False),
        ("STOPPED", None, None, 130, False),
        ("FAILED", 137, "JOB_ENTRYPOINT_COMMAND_ERROR", 1, True),  # killed, as its shell says it
        ("FAILED", -9, "JOB_ENTRYPOINT_COMMAND_ERROR", 1, True),
        ("FAILED", 1, "JOB_ENTRYPOINT_COMMAND_ERROR", 1, True),
        ("FAILED", None, "JOB_SUPERVISOR_ACTOR_DIED", 1, True),
        ("FAILED", None, "RUNTIME_ENV_SETUP_FAILURE", 1, False),  # would fail again
    ],
)
def test_only_a_death_is_followed_by_another_driver(
    status: str, code: int | None, error: str | None, exit_code: int, again: bool
) -> None:
    end = ending(job(status=status, driver_exit_code=code, error_type=error))

    assert (end.code, end.again) == (exit_code, again)


def test_a_death_is_told_in_one_line() -> None:
    end = ending(job(status="FAILED", message="No room.\nTraceback …", error_type="RUNTIME_ENV_SETUP_FAILURE"))

    assert end.why == "the driver died (No room.)"


def test_the_same_run_has_the_same_jobs_and_another_folder_is_another_run() -> None:
    assert stem("my run", "d1", "s3://b/r") == "emoray-my-run-f568441a9e"  # whichever process asks
    assert len({stem("my run", digest, out) for digest in ("d1", "d2") for out in ("s3://b/r", "s3://b/q")}) == 4


def test_the_same_folder_is_the_same_run_with_and_without_a_slash_at_its_end() -> None:
    assert stem("my run", "d1", "s3://b/r/") == stem("my run", "d1", "s3://b/r")


def test_a_head_that_falls_silent_is_left_after_a_while() -> None:
    with head([["one\n"]], [silence]) as address:
        end, _ = followed(address, patience_s=0.2)

    assert end == Ending(DIED, "the head of the cluster has not answered for 0.2 s")


def test_a_head_that_was_replaced_behind_a_silent_connection_is_noticed() -> None:
    with head([["one\n"]], [gone]) as address:
        end, _ = followed(address)

    assert end.again
    assert "was replaced" in end.why


def test_a_log_that_falls_silent_is_asked_for_anew_and_shown_once() -> None:
    shown: list[str] = []

    def info() -> web.Response | None:
        return says("SUCCEEDED" if "".join(shown).endswith("three\n") else "RUNNING")()

    with head([["one\n"], ["one\ntwo\n", "three\n"]], [info]) as address:
        end, _ = followed(address, shown=shown)

    assert end == Ending(0)
    assert "".join(shown) == "one\ntwo\nthree\n"


def test_of_two_who_submit_at_once_one_starts_the_job_and_the_other_joins_it() -> None:
    cluster = Cluster(submitters=2)
    what, arguments = parcel(QUICKSTART), submit._parser().parse_args([str(QUICKSTART), "--out", "s3://b/r"])

    with ThreadPoolExecutor() as both:
        calls = [both.submit(submit._joined_or_started, Jobs(cluster, "t"), what, arguments) for _ in range(2)]

    assert [call.result() for call in calls] == ["t-1", "t-1"]
    assert list(cluster.jobs) == ["t-1"]


class Cluster:
    """A client of Ray's jobs, whose submitters all look before any of them starts something."""

    def __init__(self, submitters: int) -> None:
        self.jobs: dict[str, JobDetails] = {}
        self._looked, self._one_at_a_time = threading.Barrier(submitters), threading.Lock()

    def list_jobs(self) -> list[JobDetails]:
        return list(self.jobs.values())

    def submit_job(self, *, submission_id: str, **_: Any) -> str:
        self._looked.wait()
        with self._one_at_a_time:
            if submission_id in self.jobs:  # as Ray says it
                raise RuntimeError(f"Request failed with status code 400: {submission_id} already exists.")
            self.jobs[submission_id] = job(status="RUNNING", submission_id=submission_id)
        return submission_id


def followed(address: str, patience_s: float = 3600.0, shown: list[str] | None = None) -> tuple[Ending, str]:
    """What became of a job of a head, and what was shown of its log (in `shown` as it comes)."""
    client, shown = connect(address), [] if shown is None else shown
    client.answer_s = patience_s
    end = Jobs(client, "t").follow("t-1", shown.append, patience_s=patience_s, quiet_s=0.2, pause=lambda _: None)
    return end, "".join(shown)


# ── a head on loopback ─────────────────────────────────────────────────────────────────────────────────────────────

Answer = Callable[[], web.Response | None]  # None: the connection stays open, and nothing comes


@contextmanager
def head(logs: list[list[str]], answers: list[Answer]) -> Iterator[str]:
    """Its address. Every log ends in silence, every question has its answer; the last of either is given again."""
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def version(request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})

    async def tail(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for lines in logs.pop(0) if len(logs) > 1 else logs[0]:
            await socket.send_str(lines)
        await over.wait()
        return socket

    async def info(request: web.Request) -> web.Response:
        answer = (answers.pop(0) if len(answers) > 1 else answers[0])()
        if answer is None:
            await over.wait()
        return answer or web.Response(status=503)

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/api/version", version)
        app.router.add_get("/api/jobs/{id}/logs/tail", tail)
        app.router.add_get("/api/jobs/{id}", info)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    loop.call_soon_threadsafe(over.set)
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def silence() -> None:
    return None


def gone() -> web.Response:
    return web.Response(status=404, text="Job t-1 does not exist")


def says(status: str) -> Answer:
    return lambda: web.json_response(job(status=status).model_dump(mode="json"))


def job(**said: Any) -> JobDetails:
    return JobDetails(type="SUBMISSION", entrypoint="python jobs/run.py", **said)
