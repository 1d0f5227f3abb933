"""How a job ended, told from what Ray says of it, and which jobs are of one run."""

from __future__ import annotations

from typing import Any

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails
from submission.following import ending, stem


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
    assert stem("my run", "d1", "s3://b/r") == stem("my run", "d1", "s3://b/r")
    assert len({stem("my run", digest, out) for digest in ("d1", "d2") for out in ("s3://b/r", "s3://b/q")}) == 4
    assert stem("my run", "d1", "s3://b/r").startswith("emoray-my-run-")


def job(**said: Any) -> JobDetails:
    return JobDetails(type="SUBMISSION", entrypoint="python jobs/run.py", **said)
