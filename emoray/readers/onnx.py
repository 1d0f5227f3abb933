"""A network exported to ONNX and run by ONNX Runtime: on a CPU it reads alike, and faster than PyTorch.

The only file that knows onnxruntime. Each actor exports once, at its start: 2 to 4 s, a BERT-base 12 s.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Tokens = npt.NDArray[np.int64]  # (2 or 3, texts, width): ids, their mask, and their types where the network reads them
PLANES = ("input_ids", "attention_mask", "token_type_ids")
Run = Callable[[Tokens], torch.Tensor]  # a padded batch through a network: (texts, outputs)
_PACKAGES = ("onnxruntime", "onnxscript", "onnx")  # the latter two are what torch exports with
_FATAL = 4  # the level of ONNX Runtime's own log: what goes wrong is raised as well


def missing() -> list[str]:
    """The packages that are not installed here."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def exported(model: Any, example: Tokens, threads: int) -> Run:
    """The network as ONNX Runtime runs it: (2 or 3, texts, width) -> (texts, outputs), for any number and width.

    Raises whatever the exporter or ONNX Runtime raises.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # a plan of memory per shape pays where shapes come again
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other actors need the core
    with tempfile.TemporaryDirectory() as folder:  # what ONNX Runtime has open stays until it is done with it
        file = Path(folder) / "network.onnx"
        _export(model, example, file)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(tokens: Tokens) -> torch.Tensor:
        (logits,) = session.run(None, dict(zip(PLANES, tokens, strict=False)))
        return torch.from_numpy(logits)

    return run


class _Logits(torch.nn.Module):
    """A classifier with what a reader gives it and takes from it, and no more."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor | None = None) -> torch.Tensor:
        more = {} if types is None else {"token_type_ids": types}
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, **more).logits
        return logits


def _export(model: Any, example: Tokens, file: Path) -> None:
    any_shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quietly():
            program = torch.onnx.export(
                _Logits(model).eval(),
                tuple(torch.from_numpy(example)),
                input_names=list(PLANES[: len(example)]),
                dynamic_shapes=(any_shape,) * len(example),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as wrong:  # a page on how to debug an export; its cause says what it is
        raise wrong.__cause__ or wrong from None
    assert program is not None  # it is None for the older exporter alone
    program.save(file, external_data=True)  # one file alone could hold 2 GB


@contextmanager
def _quietly() -> Iterator[None]:
    """Nobody is told what the exporter does without, nor shown a graph that it cannot translate."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), StringIO() as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
