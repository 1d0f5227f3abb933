"""The map of the house: who may import whom. The README's *rooms* as a table, held against the sources.

A room is a folder or a file directly under emoray/. To open a door, write it down here, and say in the commit why.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "emoray"

ALONE = {
    "errors",
    "hints",
    "printable",
    "home",
    "exit_codes",
    "plurals",
    "child_process",
    "processes",
    "backoff",
}  # know nobody
ROOMS: dict[str, set[str]] = {
    **{name: set[str]() for name in ALONE},
    "study": set(),  # the science knows nobody
    "reasons": {"study", "printable"},  # what a text can bear
    "embedded": set(),
    "analysis": {"study"},
    "refusals": {"study"},
    "spec": {"study", "embedded", "hints", "printable"},  # the weights that ship are part of a key
    "rate_limits": {"spec", "backoff"},  # both read headers
    "hosts": {"study", "spec", "rate_limits", "embedded", "backoff", "child_process", "home", "reasons"},
    "readers": {
        "study",
        "analysis",
        "spec",
        "embedded",
        "hosts",
        "plurals",
        "reasons",
    },  # a judge speaks through a host
    # what a host writes down before it spends has its protocol among the hosts
    "run_folder": {"study", "refusals", "spec", "hosts", "backoff", "child_process", "home", "printable", "reasons"},
    "scheduling": {"spec", "hosts"},  # whether a model has weights
    "stream": {"study", "refusals", "spec", "rate_limits", "hosts", "readers", "run_folder", "scheduling"}
    | {"home", "exit_codes", "processes", "reasons"},
    "report": {"study", "analysis", "refusals", "run_folder", "printable", "plurals"},
    "notebook": {"study", "analysis", "spec", "run_folder", "report", "hints", "printable"},
    "dataset": {"report", "run_folder", "notebook", "plurals", "printable"},
    "rehearsal": {"study", "embedded", "spec", "hosts", "run_folder", "scheduling", "stream"}
    | {"hints", "home", "exit_codes", "child_process", "processes", "plurals"},
}
ROOMS["commands"] = set(ROOMS)  # on top; nobody below knows them
ROOMS["cli"] = {"commands"}
ROOMS["__main__"] = {"commands", "home"}
ROOMS["__init__"] = {"study", "spec", "hosts", "readers", "run_folder", "notebook"}  # what is public, when asked for

ARROW = {"numpy", "pyarrow"}
LIBRARIES: dict[str, set[str]] = {  # of a room, in all its files
    "study": {"numpy"},
    "analysis": {"numpy"},
    "spec": {"pydantic"},
    "refusals": ARROW,
    "run_folder": ARROW,
    "readers": {"numpy"},
    "rehearsal": {"aiohttp"},
    "stream": ARROW | {"ray"},
    "report": ARROW | {"pandas", "matplotlib", "jinja2", "markupsafe"},
    "dataset": {"pyarrow"},
    "notebook": ARROW | {"pandas", "matplotlib"},
}
OF_ONE_FILE: dict[str, set[str]] = {  # heavy ones: each in the one file that is about it
    "commands/sample.py": ARROW,
    "analysis/student.py": {"scipy"},
    "spec/yaml_file.py": {"yaml"},
    "run_folder/json_file.py": {"pydantic"},
    "run_folder/manifest.py": {"pydantic"},
    "run_folder/run_json.py": {"pydantic"},
    "rehearsal/process_killer.py": {"ray"},
    "hosts/transformers.py": {"torch", "transformers"},
    "hosts/checkpoint.py": {"torch", "transformers", "peft"},
    "hosts/company.py": {"torch"},
    "hosts/hosted_api.py": {"openai", "aiohttp", "httpx2"},
    "hosts/batch_api.py": {"openai", "httpx2"},
    "hosts/vllm.py": {"vllm"},
    "hosts/weights.py": {"huggingface_hub"},
    "hosts/tied.py": {"safetensors"},
    "hosts/model_files.py": {"huggingface_hub"},
    "hosts/hub.py": {"huggingface_hub"},
    "readers/encoder.py": {"torch", "transformers"},
    "readers/onnx.py": {"torch", "onnxruntime"},
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}

FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [file.relative_to(PACKAGE).as_posix() for file in FILES]


def room(name: str) -> str:
    """The room of emoray.<name>…, or of a path below emoray/."""
    return name.replace("/", ".").removesuffix(".py").split(".")[0]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports(file: Path) -> tuple[str, ...]:
    """The absolute dotted names that a file imports, also inside functions, for type checking, and by import_module."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant))


def ours(name: str) -> set[str]:
    """The other rooms that a file enters."""
    found = imports(PACKAGE / name)
    names = {entered.removeprefix("emoray.") for entered in found if entered.startswith("emoray.")}
    return {room(entered) for entered in names if entered != "__version__"} - {room(name)}


def theirs(name: str) -> set[str]:
    """The libraries that a file imports."""
    return {library.split(".")[0] for library in imports(PACKAGE / name)} - sys.stdlib_module_names - {"emoray"}


def test_a_room_enters_only_the_rooms_that_the_map_says() -> None:
    """What goes wrong has one root, which all know."""
    assert len(FILES) > 100
    assert {name: more for name in NAMES if (more := ours(name) - ROOMS[room(name)] - {"errors"})} == {}


def test_a_room_uses_only_the_libraries_that_the_map_says() -> None:
    may = {name: LIBRARIES.get(room(name), set()) | OF_ONE_FILE.get(name, set()) for name in NAMES}
    assert {name: more for name in NAMES if (more := theirs(name) - may[name])} == {}


def test_an_import_by_name_is_an_import(tmp_path: Path) -> None:
    file = tmp_path / "late.py"
    file.write_text('import importlib\nimportlib.import_module("ray.data")\nimport_module("torch")\n__import__("vllm")')
    assert imports(file) == ("importlib", "ray.data", "torch", "vllm")


def test_the_map_has_no_circles() -> None:
    order = list(TopologicalSorter(ROOMS).static_order())
    assert order.index("study") < order.index("spec") < order.index("run_folder") < order.index("stream")
    assert order.index("rehearsal") < order.index("commands") < order.index("__main__")


def test_no_file_imports_itself_by_way_of_others_inside_a_room_either() -> None:
    modules = {f"emoray.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}": name for name in NAMES}

    def entered(name: str) -> set[str]:
        found = set(imports(PACKAGE / name)) - {"emoray.__version__"}  # is there before the package knows anybody
        return {one if one in modules else one.rpartition(".")[0] for one in found if one.startswith("emoray.")}

    known = {module: entered(name) & set(modules) - {module} for module, name in modules.items()}
    assert sum(map(len, known.values())) > 500
    list(TopologicalSorter(known).static_order())  # CycleError


def test_every_file_is_on_the_map() -> None:
    assert {room(name) for name in NAMES} <= set(ROOMS)


def test_a_heavy_library_has_one_owner() -> None:
    owners: dict[str, set[str]] = {}
    for name in NAMES:
        for library in theirs(name):
            owners.setdefault(library, set()).add(name)
    assert {room(name) for name in owners["ray"]} == {"stream", "rehearsal"}
    assert owners["openai"] <= {"hosts/hosted_api.py", "hosts/batch_api.py"}
    assert owners.get("vllm", set()) <= {"hosts/vllm.py"}
    assert owners["scipy"] == {"analysis/student.py"}
    assert owners["onnxruntime"] == {"readers/onnx.py"}
    here = {"hosts/transformers.py", "hosts/checkpoint.py"}
    assert owners["torch"] <= {*here, "hosts/company.py", "readers/encoder.py", "readers/onnx.py"}
    assert owners["transformers"] <= {*here, "readers/encoder.py"}
    assert owners["peft"] == {"hosts/checkpoint.py"}


def test_nobody_imports_the_command_line_but_what_starts_it() -> None:
    assert {name for name in NAMES if "commands" in ours(name)} == {"__main__.py", "cli.py"}


def test_every_file_says_what_it_is() -> None:
    assert [str(file) for file in FILES if tree(file).body and not ast.get_docstring(tree(file))] == []


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    places = [*PACKAGE.rglob("*"), *(ROOT / "jobs").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    stems = {path.stem for path in places}
    assert stems >= {"partition", "submit", Path(__file__).stem}
    assert not stems & FORBIDDEN_NAMES


def test_nothing_of_ours_imports_the_cluster_folder() -> None:
    tops = {name.split(".")[0] for file in [*FILES, *(ROOT / "jobs").rglob("*.py")] for name in imports(file)}
    assert tops >= {"emoray", "submission"}
    assert "cluster" not in tops


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh Python has after a statement."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_reading_a_spec_and_a_folder_needs_no_ray_no_torch_and_no_vendor() -> None:
    loaded = loaded_by(
        "import emoray.commands.cli, emoray.commands.status, emoray.run_folder.manifest, emoray.readers.validation, "
        "emoray.readers.protocol, emoray.hosts.protocol"
    )
    assert loaded >= {"emoray", "pydantic"}
    assert not loaded & {"ray", "torch", "transformers", "openai", "vllm", "matplotlib", "pandas"}


def test_a_command_that_estimates_nothing_loads_no_scipy() -> None:
    loaded = loaded_by("import emoray.commands.plan, emoray.commands.status, emoray.commands.validate")
    assert loaded >= {"emoray", "pydantic"}
    assert not loaded & {"ray", "scipy"}


def test_the_package_itself_needs_nothing_and_a_notebook_no_ray_and_no_models() -> None:
    loaded = loaded_by("import emoray; dir(emoray)")
    assert not loaded & {"numpy", "pydantic", "yaml", "pyarrow", "ray"}
    loaded = loaded_by("from emoray import *")
    assert loaded >= {"pandas", "matplotlib"}
    assert not loaded & {"ray", "torch", "transformers", "openai", "vllm"}


def test_the_science_needs_only_numpy() -> None:
    rooms = ", ".join(f"emoray.study.{path.stem}" for path in (PACKAGE / "study").glob("[a-z]*.py"))
    loaded = loaded_by(f"import {rooms}")
    assert loaded >= {"emoray", "numpy"}
    assert not loaded & {"pydantic", "yaml", "pyarrow", "pandas", "ray"}
