"""What providers say of batches and files, in all their spellings; nothing that they say raises."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Batch, FileObject

from emoray.hosts.batch_told import Stage, Told, file_of, told_of, when

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    *("id", "status", "errors", "created_at", "completed_at", "output_file_id", "error_file_id", "request_counts"),
    *("metadata", "input_file_id", "job", "batch", "state"),
]


def told(**fields: Any) -> Told:
    found = told_of({"id": "b", "status": "completed"} | fields)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("word", "stage"),
    [
        *(
            (word, Stage.COMPLETED)
            for word in ("completed", "COMPLETED", "Completed", "success", "SUCCESS", "SUCCEEDED")
        ),
        *((word, Stage.COMPLETED) for word in ("ended", "JOB_STATE_SUCCEEDED", "BATCH_STATE_SUCCEEDED", "done")),
        *((word, Stage.CANCELLED) for word in ("cancelled", "canceled", "CANCELED", "JOB_STATE_CANCELLED")),
        *((word, Stage.FAILED) for word in ("failed", "FAILED", "JOB_STATE_FAILED", "error", "Invalid")),
        *((word, Stage.EXPIRED) for word in ("expired", "TIMEOUT_EXCEEDED", "JOB_STATE_EXPIRED", "timed-out")),
        *((word, Stage.OPEN) for word in ("validating", "QUEUED", "pending", "JOB_STATE_PENDING", "cancelling")),
        *((word, Stage.OPEN) for word in ("BATCH_STATE_UNSPECIFIED", "CANCELLATION_REQUESTED", "Scheduled")),
        *((word, Stage.RUNNING) for word in ("in_progress", "in-progress", "InProgress", "RUNNING", "in progress")),
        *((word, Stage.FINALIZING) for word in ("finalizing", "FINALIZING", "finalising")),
        *((word, Stage.OPEN) for word in ("a new word", "", "⏳")),
    ],
)
def test_a_status_is_known_in_every_spelling(word: str, stage: Stage) -> None:
    assert told(status=word).stage is stage


@pytest.mark.parametrize("name", ["state", "processing_status"])
def test_a_status_is_found_under_the_names_that_others_give_it(name: str) -> None:
    assert told(**{"status": None, name: "JOB_STATE_SUCCEEDED"}).stage is Stage.COMPLETED


def test_where_nobody_knows_the_word_the_fields_say_whether_it_is_over() -> None:
    counts = {"total": 3, "completed": 2, "failed": 1}
    assert told(status="fertig", output_file_id="f", request_counts=counts).stage is Stage.COMPLETED
    assert told(status="fertig", output_file_id="f").stage is Stage.OPEN
    assert told(status=7, failed_at=1_750_000_000).stage is Stage.FAILED
    assert told(status=None, completed_at=1_750_000_000).stage is Stage.COMPLETED
    assert told(status="in_progress", output_file_id="f", request_counts=counts).stage is Stage.RUNNING


def test_what_the_sdk_makes_of_an_odd_object_is_read_like_the_object() -> None:
    odd = Batch.construct(
        id="b",
        status="COMPLETED",
        created_at="2026-11-30T04:00:00Z",
        errors=["too bad", {"code": "token_limit_exceeded", "line": "3"}],
        request_counts={"completed": "4", "failed": 1.0},
        metadata={"emoray": "t"},
        output_file_id="",
    )
    found = told_of(odd)
    assert found is not None
    assert (found.stage, found.completed, found.failed, found.token) == (Stage.COMPLETED, 4, 1, "t")
    assert found.began == datetime(2026, 11, 30, 4, tzinfo=UTC)
    assert [(wrong.message, wrong.code, wrong.line) for wrong in found.errors] == [
        ("too bad", None, None),
        ("token_limit_exceeded", "token_limit_exceeded", 3),
    ]
    assert found.output is None


@pytest.mark.parametrize(
    "errors",
    [
        {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "full"}]},
        [{"code": "token_limit_exceeded", "message": "full"}],
        {"code": "token_limit_exceeded", "message": "full"},
    ],
)
def test_errors_are_found_as_a_list_under_data_as_a_list_and_as_one(errors: Any) -> None:
    assert [(wrong.code, wrong.message) for wrong in told(errors=errors).errors] == [("token_limit_exceeded", "full")]


def test_a_batch_that_is_wrapped_is_unwrapped() -> None:
    found = told_of({"job": {"id": "b", "status": "VALIDATING"}, "warning": None})
    assert found is not None
    assert (found.id, found.stage) == ("b", Stage.OPEN)


@pytest.mark.parametrize("page", ["<html></html>", None, [], [1], 7, b"x", {}, {"error": {"message": "no"}}])
def test_a_page_or_an_error_is_no_batch_and_no_file(page: Any) -> None:
    assert told_of(page) is None
    assert file_of(page) is None


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_nothing_that_is_said_of_a_batch_raises(said: dict[str, Any]) -> None:
    found = told_of({"status": "completed"} | said)
    assert found is None or found.took_s >= 0
    told_of(said)
    file_of(said)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (1_796_000_000, datetime.fromtimestamp(1_796_000_000, UTC)),
        (1_796_000_000.5, datetime.fromtimestamp(1_796_000_000.5, UTC)),
        (1_796_000_000_000, datetime.fromtimestamp(1_796_000_000, UTC)),
        ("1796000000", datetime.fromtimestamp(1_796_000_000, UTC)),
        ("2026-11-30T04:00:00+02:00", datetime(2026, 11, 30, 2, tzinfo=UTC)),
        ("2026-11-30T04:00:00", datetime(2026, 11, 30, 4, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_seconds_milliseconds_and_as_dates(value: Any, time: datetime) -> None:
    assert when(value) == time


@pytest.mark.parametrize("value", [None, 0, -1, True, "soon", "", 1e300, 10**400, float("nan"), [], {}])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert when(value) is None


@pytest.mark.parametrize(
    ("status", "waits", "broken"),
    [
        ("processed", False, False),
        ("uploaded", False, False),
        (None, False, False),
        ("pending", True, False),
        ("running", True, False),
        ("notRunning", True, False),
        ("error", False, True),
        ("deleted", False, True),
    ],
)
def test_a_file_waits_is_ready_or_broken(status: Any, waits: bool, broken: bool) -> None:
    found = file_of(FileObject.construct(id="f", status=status))
    assert found is not None
    assert (found.waits, bool(found.broken)) == (waits, broken)
