"""What comes from outside is data: weights, code beside weights, answers. Nothing of it is run."""

from __future__ import annotations

import ast
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emoray.hosts import HostDown
from emoray.hosts.transformers import TransformersHost
from emoray.readers import ReaderDown
from emoray.readers.goemotions import GoEmotions
from emoray.spec import GoEmotionsReader, Local
from emoray.study.goemotions import LABELS
from tests import tiny_models

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    [*(ROOT / "emoray").rglob("*.py"), *(ROOT / "jobs").glob("*.py"), *(ROOT / "jobs/submission").glob("*")]
)
UNPICKLE_OR_RUN = {
    *("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"),  # modules
    *("eval", "exec", "compile", "__import__"),  # functions
}
CODE = """
import pathlib
from transformers import LlamaConfig
pathlib.Path({mark!r}).touch()
class Own(LlamaConfig):
    model_type = "own"
"""


class Mark:
    """Pickled: makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_nothing_of_ours_unpickles_or_evaluates(file: Path) -> None:
    if file.suffix == ".py":
        assert sorted(set(used(file)) & UNPICKLE_OR_RUN) == []


def test_a_pickle_among_the_weights_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = Path(tiny_models.classifier(tmp_path / "model", LABELS))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights | {"evil": Mark(mark)}, folder / "pytorch_model.bin")

    with pytest.raises(ReaderDown, match="cannot be loaded"):
        GoEmotions(GoEmotionsReader(kind="goemotions", name="r", model=str(folder)))

    assert not mark.exists()
    pickle.loads(pickle.dumps(Mark(mark)))
    assert mark.exists()  # it would have been


def test_code_beside_the_weights_is_run_only_where_the_spec_trusts_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = own_code(tmp_path / "model", mark)

    with pytest.raises(HostDown, match="contains custom code"):
        TransformersHost(local(folder))
    assert not mark.exists()

    with pytest.raises(HostDown):  # no weights of this class
        TransformersHost(local(folder, trust_remote_code=True))
    assert mark.exists()


def test_a_classifier_with_code_of_its_own_is_refused_without_a_question(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = own_code(tmp_path / "model", mark)

    with pytest.raises(ReaderDown, match="contains custom code"):
        GoEmotions(GoEmotionsReader(kind="goemotions", name="r", model=str(folder)))

    assert not mark.exists()


@pytest.mark.parametrize("host", ["transformers", "vllm"])
@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ("", False),
        (", trust_remote_code: true", True),
        (", trust_remote_code: true, revision: abc123", True),
    ],
)
def test_plan_warns_of_models_that_bring_code(settings: str, warned: bool, host: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: t\nmodels: [{{name: a, host: {host}, id: some/model{settings}}}]\n"
        "readers: [{kind: scripted, name: r}]\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "emoray", "plan", str(spec), "--out", str(tmp_path / "run")],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip

    assert ("runs the Python code that comes with some/model" in done.stderr) == warned
    assert ("at revision abc123" in done.stderr) == ("abc123" in settings)


def used(file: Path) -> Iterator[str]:
    """The modules that a file imports, the functions it calls by name, and torch.load and its kin."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def own_code(folder: Path, mark: Path) -> Path:
    """A model whose configuration is a class of its own, in a file beside it."""
    tiny_models.generator(folder)
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.Own"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}))
    return folder


def local(folder: Path, **settings: Any) -> Local:
    return Local(host="transformers", name="a", id=str(folder), **settings)
