"""An executor for vLLM that takes its process with it, as the kernel does where memory runs out."""

from __future__ import annotations

import os
import signal
from typing import Any

from vllm.v1.executor.uniproc_executor import UniProcExecutor


class Dies(UniProcExecutor):  # type: ignore[misc]
    def __init__(self, config: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
