"""Running a dataset whose blocks nobody needs afterwards, so that the driver holds the same however many they are."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from typing import Any

from ray.data import Dataset
from ray.data._internal.execution.execution_callback import ExecutionCallback

_log = logging.getLogger(__name__)
_AHEAD = 64  # blocks that a task may be ahead of the driver, which looks ten times a second (Ray's default: 2)
_AHEAD_BYTES = 16 << 20


def drain(dataset: Dataset, block_bytes: float) -> None:
    """Runs the dataset; its blocks are durable already, so the references are simply let go."""
    context = dataset.context
    # a block leaves its buffer as soon as it is about as large as it was meant (Ray's default waits for 128 MiB)
    context.target_max_block_size = max(1, int(block_bytes * 0.8))
    context.target_min_block_size = 0
    context._max_num_blocks_in_streaming_gen_buffer = max(2, min(_AHEAD, int(_AHEAD_BYTES / max(1.0, block_bytes))))
    context.enable_progress_bars = _log.isEnabledFor(logging.INFO)  # -v: also what Ray shows
    context.print_on_execution_start = False
    # a pool with a range grows when all its actors are busy (Ray's default waits for a queue, which ours never have)
    context.autoscaling_config = replace(context.autoscaling_config, actor_pool_util_upscaling_threshold=1.0)
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, _Forgetting]
    for _ in dataset.iter_internal_ref_bundles():
        pass


class _Forgetting(ExecutionCallback):  # type: ignore[misc]
    """Ray Data keeps statistics of every block until the end, some kilobytes each: here only of the latest."""

    def before_execution_starts(self, executor: Any) -> None:
        for operator in executor._topology:
            if hasattr(operator, "_output_blocks_stats"):  # Ray has no setting for it
                operator._output_blocks_stats = deque(maxlen=1)
