"""What comes from outside is data: weights, code beside weights, answers. Nothing of it is run."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emoray.commands.cli import main
from emoray.hosts.protocol import HostDown
from emoray.hosts.transformers import TransformersHost
from emoray.readers.goemotions import GoEmotions
from emoray.readers.protocol import ReaderDown
from emoray.spec.models import Local
from emoray.spec.readers import GoEmotionsReader
from emoray.study.goemotions import LABELS
from tests import tiny_models

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "emoray").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])
UNPICKLE_OR_RUN = {
    *("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"),  # modules
    *("eval", "exec", "compile", "__import__"),  # functions
    *("torch.load", "torch.jit.load", "pandas.read_pickle", "yaml.unsafe_load", "yaml.full_load", "allow_pickle"),
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
    found = set(used(file))
    assert sorted(found & UNPICKLE_OR_RUN) == []
    assert found or not file.read_text(encoding="utf-8").count("import ")  # it was looked at


def test_every_source_of_ours_is_looked_at() -> None:
    looked_at = {file.relative_to(ROOT).as_posix() for file in SOURCES}
    assert looked_at >= {"emoray/readers/encoder.py", "jobs/submit.py", "jobs/submission/parcel.py"}
    assert all(set(used(file)) >= {"torch"} for file in SOURCES if file.name == "encoder.py")


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("def late():\n    import cloudpickle.fast", "cloudpickle"),
        ("eval('1')", "eval"),
        ("import torch as t\nt.load('x')", "torch.load"),
        ("import torch\ntorch.jit.load('x')", "torch.jit.load"),
        ("from torch import load as weights\nweights('x')", "torch.load"),
        ("import pandas as pd\npd.read_pickle('x')", "pandas.read_pickle"),
        ("import yaml\nyaml.unsafe_load('x')", "yaml.unsafe_load"),
        ("import builtins\nbuiltins.exec('x')", "exec"),
        ("np.load('x', allow_pickle=True)", "allow_pickle"),
        ("import importlib\nimportlib.import_module('dill')", "dill"),
    ],
)
def test_what_unpickles_or_evaluates_is_seen_however_it_is_written(code: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(code)
    assert set(used(file)) & UNPICKLE_OR_RUN == {what}


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
def test_plan_warns_of_models_that_bring_code(
    settings: str, warned: bool, host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: t\nmodels: [{{name: a, host: {host}, id: some/model{settings}}}]\n"
        "readers: [{kind: scripted, name: r}]\n"
    )

    assert main(["plan", str(spec), "--out", str(tmp_path / "run")]) == 0

    said = capsys.readouterr().err
    assert ("runs the Python code that comes with some/model" in said) == warned
    assert ("at revision abc123" in said) == ("abc123" in settings)


def used(file: Path) -> Iterator[str]:
    """The modules that a file imports, also by name, and the functions it calls, by their full names."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = dict(named for node in nodes for named in imported(node))
    yield from (full.split(".")[0] for full in names.values())
    for node in nodes:
        if isinstance(node, ast.Call):
            first, *rest = ast.unparse(node.func).split(".")
            full = ".".join([names.get(first, first), *rest])
            yield full.removeprefix("builtins.")
            yield from (word.arg for word in node.keywords if word.arg)
            if full.endswith("import_module"):
                yield from (str(name.value).split(".")[0] for name in node.args[:1] if isinstance(name, ast.Constant))


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """What a statement imports: its name in the file, and its full one."""
    if isinstance(node, ast.Import):
        yield from ((alias.asname or alias.name.split(".")[0], alias.name) for alias in node.names if alias.asname)
        yield from ((alias.name.split(".")[0],) * 2 for alias in node.names if not alias.asname)
    elif isinstance(node, ast.ImportFrom):
        yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


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
