"""The command line, all but what needs a cluster: exit codes, sentences, and that nothing is written by mistake."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import webbrowser
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from emoray import __version__
from emoray.commands import cli
from emoray.commands.as_json import told_as_json
from emoray.commands.cli import main
from emoray.commands.named_reader import named_reader
from emoray.commands.run import _again
from emoray.errors import UserError
from emoray.report import figures
from emoray.run_folder import manifest
from emoray.run_folder.folder import RunFolder
from emoray.spec import shipped
from emoray.spec.models import Hosted
from emoray.spec.readers import JudgeReader, ScriptedReader
from emoray.spec.shipped import shipped_specs
from emoray.study.goemotions import LABELS, label_map_from
from tests import runs, tiny_models
from tests.buckets import bucket
from tests.programs import ROOT
from tests.spec.test_document import BASE, MISTAKES

JOBS = ROOT / "jobs"
COMMANDS = [
    "init",
    "plan",
    "run",
    "experiments",
    "score",
    "status",
    "report",
    "compare",
    "export",
    "sample",
    "validate",
    "rehearse",
    "compact",
    "completion",
]
OF_A_RUN = [["status"], ["report"], ["compact"], ["score", "--reader", "embedded"], ["sample", "--out", "s.csv"]]
OF_A_RUN += [["export", "--to", "d", "--license", "CC0-1.0", "--cite", "me"]]
SECRET = "canary-0c4d91ee"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everybody works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longest of a report, and none is looked at here."""
    for form, nothing in (("png", b""), ("svg", b""), ("inline_svg", "")):
        monkeypatch.setattr(figures, form, lambda *_, nothing=nothing: nothing)


def spec(text: str = BASE) -> str:
    Path("my.yaml").write_text(text)
    return "my.yaml"


def left() -> list[str]:
    """What lies in the folder beside the spec."""
    return sorted(path.name for path in Path().iterdir() if path.name != "my.yaml")


def refused(capsys: Captured, *arguments: str) -> str:
    """The one line that a refused command says; nothing else is said or written."""
    before = left()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert left() == before
    assert said.err.startswith("emoray: ")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("emoray: ").rstrip("\n")


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=os.environ | environment)


# ── mistakes ──


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_spec_is_one_sentence_exit_code_2_and_no_folder(
    mistake: str, command: str, capsys: Captured
) -> None:
    text, sentence = MISTAKES[mistake]
    assert refused(capsys, command, spec(text)) == f"my.yaml: {sentence}"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--set", "repetitions=0"], "my.yaml: repetitions must be at least 1, got 0"),
        (
            ["--set", "=3"],
            "my.yaml: --set =3 is not path=value, such as --set repetitions=3 or --set models[0].actors=2",
        ),
        (["--set", "models[7].id=x"], "my.yaml: --set models[7].id=x: the spec has no models[7].id"),
        (
            ["--set", "label_map=x.csv"],
            "my.yaml: label_map: 'x.csv' is neither a file nor one of russell, octants, ratings",
        ),
    ],
)
def test_a_mistake_in_a_flag_is_one_too(flags: list[str], sentence: str, capsys: Captured) -> None:
    assert refused(capsys, "run", spec(), *flags) == sentence


def test_money_that_is_none_is_a_mistake(capsys: Captured) -> None:
    for text, sentence in {
        "free": "--max-cost must be US dollars, such as 20 or 2.5, got 'free'",
        "$20": "--max-cost must be US dollars, such as 20 or 2.5, got '$20'; write 20",
        "1k": "--max-cost must be US dollars, such as 20 or 2.5, got '1k'; write 1000",
        "": "--max-cost must be US dollars, such as 20 or 2.5, got ''",
        "0": "--max-cost must be more than 0 and at most 1,000,000,000 US dollars, got '0'",
        "nan": "--max-cost must be more than 0 and at most 1,000,000,000 US dollars, got 'nan'",
        "1e400": "--max-cost must be more than 0 and at most 1,000,000,000 US dollars, got '1e400'",
    }.items():
        assert refused(capsys, "run", spec(), f"--max-cost={text}") == sentence


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_spec_that_is_not_there_is_a_mistake(command: str, capsys: Captured) -> None:
    assert refused(capsys, command, "no.yaml").startswith("no.yaml: cannot be read (No such file or directory)")


@pytest.mark.parametrize("flag", ["--out", "--set", "--max-cost", "--address"])
def test_bytes_that_are_no_text_are_a_mistake(flag: str, capsys: Captured) -> None:
    said = refused(capsys, "run", spec(), flag, "caf\udce9")
    assert said == "the argument 'caf\\udce9' is not UTF-8 text; give the file or folder another name"


@pytest.mark.parametrize("name", ["", "  ", "x" * 5000])
def test_a_reader_that_has_no_name_or_a_novel_for_one_is_a_mistake(name: str, capsys: Captured) -> None:
    assert " is no reader; give one of the spec by name, a hub id" in refused(
        capsys, "validate", name, "--data", data()
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "my.yaml", "--out", "x" * 300],
        ["status", "x" * 300],
        ["validate", "x" * 300, "--data", "data.tsv"],
        ["plan", "x" * 300],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_name_that_no_file_can_have_is_a_mistake(arguments: list[str], capsys: Captured) -> None:
    spec()
    data()
    assert "too long" in refused(capsys, *arguments)


VAST = "more than 1,000,000 want --yes, or --limit N for the first N of each model"


def test_a_run_of_very_many_cells_is_asked_for_twice_with_hours_bytes_and_money(capsys: Captured) -> None:
    said = refused(capsys, "run", spec(BASE + "repetitions: 10_000_000"))
    assert said == (
        "t would ask 1,200,000,000 cells: at least 20 h 0 min beside the models' own time, about 1.2 TB on disk, "
        f"no money; {VAST}"
    )
    account = "accounts: {o: {requests_per_minute: 60000}}\n"
    hosted = "name: t\nmodels: [{name: a, host: hosted_api, id: gpt-4o, account: o}]\n" + account
    said = refused(capsys, "run", spec(hosted + "repetitions: 100_000"))
    assert said.startswith("t would ask 12,000,000 cells: at least 3 h 20 min beside the models' own time, about ")
    assert re.search(r" GB on disk, about \$[\d,]+\.\d\d; more than", said)


@pytest.mark.parametrize("flags", [["--yes"], ["--limit", "2000000"]])
def test_who_says_how_many_is_not_asked_twice(flags: list[str], capsys: Captured) -> None:
    text = BASE.replace("host: scripted", "host: hosted_api, id: x, account: o", 1)
    text += "repetitions: 10_000_000\naccounts: {o: {key_env: NO_SUCH_KEY}}"
    assert "NO_SUCH_KEY, which is not set" in refused(capsys, "run", "-v", spec(text), *flags)


def test_what_is_settled_already_is_not_counted_as_much(capsys: Captured) -> None:
    assert main(["plan", spec(BASE + "repetitions: 10_000"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"]["cells"] == 1_200_000


def test_somebody_at_a_terminal_is_asked(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["run", spec(BASE + "repetitions: 10_000_000")]) == 2
    said = capsys.readouterr().err
    assert "ask them all? [y/N] " in said
    assert said.endswith(f"emoray: nothing was asked; {VAST}\n")
    assert left() == []


def test_an_id_that_is_no_model_is_refused_by_run_and_told_by_plan(capsys: Captured) -> None:
    text = "name: t\nmodels: [{name: a, host: transformers, id: ./no/such}]\n"
    sentence = (
        "models[0].id is './no/such', which is no folder here; give a hub id (owner/model) or the folder of a model"
    )
    assert refused(capsys, "run", "-v", spec(text)) == sentence
    assert main(["plan", spec(text)]) == 0
    assert f"  warning: {sentence}\n" in capsys.readouterr().out


def test_plan_without_a_spec_says_what_it_needs(capsys: Captured) -> None:
    assert refused(capsys, "plan") == "plan needs a spec, such as jobs/quickstart.yaml (or --schema)"


@pytest.mark.parametrize("command", OF_A_RUN)
@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_a_folder_that_is_no_run_is_a_mistake(command: list[str], folder: str, capsys: Captured) -> None:
    said = refused(capsys, *command, folder)
    assert said.endswith("is no run folder (it has no run.json); give the folder that `emoray run` wrote")


def test_a_broken_manifest_is_told_and_not_a_crash(capsys: Captured) -> None:
    Path("run.json").write_text("{")
    assert "run.json is broken" in refused(capsys, "status", ".")


def test_a_place_that_no_storage_knows_is_a_mistake(capsys: Captured) -> None:
    refused(capsys, "plan", spec(), "--out", "ftp://example.com/run")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask"],
        ["run"],
        ["run", "my.yaml", "--limit", "0"],
        ["run", "my.yaml", "--limit", "few"],
        ["run", "my.yaml", "--limit", "99999999999999999999"],
        ["run", "my.yaml", "--limit", "9" * 5000],
        ["sample", ".", "--out", "s.csv", "--seed", "9" * 5000],
        ["rehearse", "my.yaml", "--latency", "nan"],
        ["rehearse", "my.yaml", "--faster", "inf"],
        ["rehearse", "my.yaml", "--kills", "1000000000"],
        ["plan", "my.yaml", "--wibble"],
        ["validate", "embedded"],
        ["validate", "embedded", "--data", "x.tsv", "--limit", "0"],
        ["score", "."],
        ["report", ".", "--neutral", "half"],
        ["sample", "."],
        ["sample", ".", "--out", "s.csv", "--cells", "few"],
    ],
)
def test_a_command_that_is_none_ends_with_2_and_a_hint(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: emoray" in capsys.readouterr().err
    assert left() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["run", "my.yaml", "--limt", "3"],
            "emoray run: error: unrecognized arguments: --limt 3; did you mean '--limit'?",
        ),
        (["plan", "my.yaml", "--limit", "3"], "emoray plan: error: unrecognized arguments: --limit 3"),
        (["status", "one", "two"], "emoray status: error: unrecognized arguments: two"),
    ],
)
def test_what_a_command_does_not_take_is_told_by_its_own_usage(
    arguments: list[str], said: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    told = capsys.readouterr().err
    assert told.startswith(f"usage: emoray {arguments[0]} ")
    assert told.endswith(f"\n{said}\n")


INSTALLED_FROM_A_CLONE = f"""
import sys
from importlib.machinery import PathFinder
class Finder:  # as `pip install -e` makes one: it is asked after Python's own
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name == "emoray" or name.startswith("emoray.") and name.count(".") == 1
        places = {{"emoray": [{str(JOBS.parent)!r}]}}.get(name, [{str(JOBS.parent / "emoray")!r}])
        return PathFinder.find_spec(name, places) if top else None
sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, Finder)
"""


def test_a_folder_called_emoray_where_it_is_started_is_not_taken_for_the_program(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(INSTALLED_FROM_A_CLONE)
    (tmp_path / "emoray" / "emoray").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "emoray", "status", "nowhere"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr.startswith("emoray: ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


@pytest.mark.parametrize(
    "start", [["-m", "emoray", "run"], ["-m", "emoray", "plan"], [str(JOBS / "run.py")]], ids=["run", "plan", "job"]
)
def test_as_a_process_a_mistake_is_exit_code_2_as_well(start: list[str]) -> None:
    done = process(*start, spec(BASE + "repetition: 3"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "emoray: my.yaml: repetition is not a setting; did you mean 'repetitions'?\n"
    assert left() == []


def test_a_mistake_is_told_fast_for_nothing_heavy_is_loaded() -> None:
    code = "import sys; from emoray.commands.cli import main; main(['run', 'no.yaml']); print(*sys.modules)"
    loaded = set(process("-c", code).stdout.split())
    assert loaded >= {"emoray.spec.load"}
    assert not {"ray", "torch", "openai", "scipy", "pandas", "matplotlib"} & loaded


# ── help ──


def test_help_names_every_command_and_says_what_spec_and_run_are(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert re.findall(r"^    ([a-z]+)  ", said, re.MULTILINE) == COMMANDS
    assert re.findall(r"^    ([A-Z]+)  +\S", said, re.MULTILINE) == ["SPEC", "RUN", "READER"]
    assert len(re.findall(r"^    emoray \w+ .*  +\S", said, re.MULTILINE)) == 3
    assert max(map(len, said.splitlines())) <= 120


def test_emoray_alone_says_the_same_and_loads_nothing_for_it(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    assert usage.startswith("usage: emoray COMMAND")
    assert main([]) == 0
    assert capsys.readouterr().out == rest


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("raport", "there is no command 'raport'; did you mean 'report'?"),
        ("Status", "there is no command 'Status'; did you mean 'status'?"),
        ("xyzzy", "there is no command 'xyzzy'"),
    ],
)
def test_a_command_that_is_misspelt_is_guessed(word: str, said: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main([word, "runs/x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"usage: emoray COMMAND …\nemoray: error: {said}\n"


def test_every_command_takes_json() -> None:
    for name in COMMANDS:
        command = cli._Command(prog=f"emoray {name}")
        with pytest.raises(SystemExit):
            command.parse_known_args(["--help"])
        assert "--json" in command._option_string_actions


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: emoray {command}")
    flags = re.findall(r"^  -.*(?:\n {10}.*)*", said, re.MULTILINE)  # with what stands below them
    assert [flag.split()[0] for flag in flags[:2]] == ["-h,", "-v,"]
    assert [flag for flag in flags if not re.search(r"\S(?: {2,}|\n +)\S", flag)] == []


def test_the_version_is_the_packages(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"emoray {__version__}\n"


# ── plan ──


def test_a_spec_that_ships_is_found_by_its_name_from_anywhere(capsys: Captured) -> None:
    told = []
    for given in ("quickstart", str(JOBS / "quickstart.yaml")):
        assert main(["plan", given, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert set(shipped_specs()) == {path.stem for path in [*JOBS.glob("*.yaml"), *JOBS.glob("experiments/*.yaml")]}


def test_a_file_of_that_name_comes_before_what_ships_and_a_misspelt_name_is_guessed(capsys: Captured) -> None:
    assert refused(capsys, "plan", "quikstart").endswith("words_vs_parameters); did you mean 'quickstart'?")
    Path("quickstart").write_text(BASE.replace("name: t", "name: mine"))
    assert main(["plan", "quickstart"]) == 0
    assert capsys.readouterr().out.startswith("mine: ")


def test_an_installed_package_has_its_specs_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies beside it: a `jobs` in site-packages is somebody else's."""
    for place in ("jobs/other.yaml", "emoray/specs/one.yaml", "emoray/specs/experiments/two.yaml"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "emoray")
    assert list(shipped_specs()) == ["one", "two"]


@pytest.mark.campaign
def test_a_wheel_plans_what_ships_outside_of_the_checkout(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in ("emoray", "jobs"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, clone)
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(clone)]
    done = process(*build)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("emoray-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site-packages")

    def told(*words: str) -> str:
        done = process("-P", "-m", "emoray", *words, PYTHONPATH=str(tmp_path / "site-packages"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert told("plan", "quickstart").startswith("quickstart: 12 states × ")
    assert "Llama3 70B Instruct" in told("plan", "intensity", "--models", "open")
    assert "\n  emoray run intensity\n" in told("experiments")


@pytest.mark.parametrize("name", ["paper.yaml", "overnight.yaml", "quickstart.yaml"])
def test_a_shipped_spec_is_planned_without_keys_gpus_and_traces(
    name: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY", "CO_API_KEY", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["plan", str(JOBS / name)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{name.removesuffix('.yaml')}: 12 states × ")
    assert "What does freedom mean to you?" in said.out or "user: " in said.out
    assert left() == []


def test_a_plan_for_programs_is_json(capsys: Captured) -> None:
    assert main(["plan", spec(), "--json", "--set", "repetitions=3", "--out", "there"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["cells"], data["repetitions"]) == (360, 3)
    assert data["folder"] == str(Path("there").absolute())
    assert left() == []


def test_without_out_the_folder_is_named_after_the_spec(capsys: Captured) -> None:
    assert main(["plan", spec(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(Path("runs/t").absolute())


@pytest.mark.parametrize("arguments", [["plan", "my.yaml", "--out", "file"], ["status", "file"], ["report", "file"]])
def test_a_file_is_no_run_folder(arguments: list[str], capsys: Captured) -> None:
    spec()
    Path("file").write_text("")
    assert refused(capsys, *arguments) == "file: is a file, not a folder"


@pytest.mark.parametrize("place", ["model=x/run", "runs/Key=1"])
def test_no_run_begins_where_the_path_would_stand_in_place_of_a_column(place: str, capsys: Captured) -> None:
    said = refused(capsys, "run", "-v", spec(), "--out", place)
    name = next(part for part in place.split("/") if "=" in part)
    assert said == (
        f"{Path(place).absolute()} lies in a folder called {name!r}, which DuckDB and others would take for the column "
        f"{name.partition('=')[0]!r} of all its rows; give it another name, without ="
    )


def test_a_uri_stays_a_uri(capsys: Captured) -> None:
    assert main(["plan", spec(), "--json", "--out", f"file://{Path('x').absolute()}"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"].startswith("file:///")


def test_a_reader_that_stops_listening_is_no_error() -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m emoray plan {spec()} | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


# ── the command that resumes ──


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "my.yaml"],
        ["run", "my spec.yaml", "--out", "a folder/run", "--limit", "7", "--extend"],
        ["run", "my.yaml", "--yes"],
        ["run", "s.yaml", "--set", "models[0].lines=['it''s', a b]", "--set", "name=x y", "--address", "h:1"],
        ["run", "s.yaml", "--out", "s3://bucket/$run?endpoint_override=http://x&scheme=http", "--max-cost", "2.5"],
    ],
)
def test_the_command_that_resumes_survives_a_shell_and_means_the_same(arguments: list[str]) -> None:
    before = cli._parser().parse_args(arguments)
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {_again(before)}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[0] == "emoray"
    assert cli._parser().parse_args(words[1:]) == before


# ── keys in a URI ──


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with bucket(SECRET) as uri:
        yield uri


@pytest.mark.parametrize("command", OF_A_RUN)
def test_a_folder_that_is_no_run_is_told_of_without_the_key_in_its_uri(
    command: list[str], s3: str, capsys: Captured
) -> None:
    said = refused(capsys, *command, s3 % "none")
    assert said.startswith("s3://bucket/none: is no run folder (it has no run.json)")
    assert SECRET not in said


def test_a_slice_to_label_is_drawn_and_refused_without_a_word_of_the_key(s3: str, capsys: Captured) -> None:
    folder = RunFolder(s3 % "sampled")
    folder.write_manifest(manifest.fresh(runs.study()).as_json())
    said = refused(capsys, "sample", folder.uri, "--out", "slice.csv")
    assert said == "s3://bucket/sampled: holds no answers yet, so there is nothing to label"

    runs.say(folder, runs.asked())
    assert main(["sample", folder.uri, "--out", "slice.csv"]) == 0
    told = capsys.readouterr()
    assert "emoray report 's3://…@bucket/sampled?" in told.out
    assert SECRET not in told.out + told.err + Path("slice.csv").read_text()


def test_a_plan_and_a_rehearsal_name_a_folder_without_its_key(s3: str, capsys: Captured) -> None:
    RunFolder(s3 % "planned").write_manifest(manifest.fresh(runs.study()).as_json())
    for more in ([], ["--json"]):
        assert main(["plan", spec(), "--out", s3 % "planned", *more]) == 0
        told = capsys.readouterr()
        assert "s3://bucket/planned" in told.out
        assert SECRET not in told.out + told.err
    said = refused(capsys, "rehearse", "-v", spec(), "--out", s3 % "planned")
    assert said.startswith("s3://bucket/planned is there already; ")


# ── status ──


def test_status_tells_a_person_and_a_program_the_same(capsys: Captured) -> None:
    folder = runs.begun(Path("run"))
    runs.say(folder, runs.asked()[:5])
    assert main(["status", "run"]) == 0
    assert "a    settled 5 of 12  owed 7  failed none" in capsys.readouterr().out
    assert main(["status", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["settled"] == 5


# ── validate ──


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.classifier(tmp_path_factory.mktemp("tiny"), LABELS)


def data(text: str = "I love it\t18\tid1\nSo sad\t25\tid2\nTwo\t1,2\tid3\nHm\t27\tid4\n") -> str:
    Path("data.tsv").write_text(text)
    return "data.tsv"


def test_validate_measures_a_reader(tiny: str, capsys: Captured) -> None:
    assert main(["validate", tiny, "--data", data(), "--label-map", "octants"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{tiny} on 3 single-label comments, label map octants (ours)\n")
    assert "accuracy" in said
    assert "macro-F1" in said
    assert "mean cosine" in said


def test_validate_refuses_a_reader_that_is_not_there(capsys: Captured) -> None:
    said = refused(capsys, "validate", "./nobody", "--data", data())
    assert said == (
        "the reader is './nobody', which is no folder here; give a hub id (owner/model) or the folder of a model"
    )


def test_validate_refuses_a_folder_for_its_figures_before_it_reads(capsys: Captured) -> None:
    said = refused(capsys, "validate", "embedded", "--data", data(), "--save", ".")
    assert said == ".: is a folder; give a file in it"


def test_validate_refuses_data_that_is_none(capsys: Captured) -> None:
    assert refused(capsys, "validate", "embedded", "--data", "no.tsv").startswith("no.tsv: cannot be read")
    assert "is no GoEmotions TSV" in refused(capsys, "validate", "embedded", "--data", data("hello\n"))


def test_validate_refuses_a_label_map_that_is_none(capsys: Captured) -> None:
    said = refused(capsys, "validate", "embedded", "--data", data(), "--label-map", "rusell")
    assert said.endswith("did you mean 'russell'?")
    Path("mine.yaml").write_text("joy: {term: happy}\n")
    said = refused(capsys, "validate", "embedded", "--data", "data.tsv", "--label-map", "mine.yaml")
    assert said.startswith("mine.yaml: label map 'mine' misses admiration, amusement, ")


def test_validate_keeps_its_figures_for_a_report_and_fits_a_temperature(tiny: str, capsys: Captured) -> None:
    arguments = ["validate", tiny, "--data", data(), "--limit", "2"]
    Path("dev.tsv").write_text("I adore it\t18\tid5\nSo sorry\t25\tid6\n")
    assert main([*arguments, "--save", "kept.json", "--calibrate", "dev.tsv"]) == 0
    assert "(fitted to dev.tsv, judged on others)" in capsys.readouterr().out
    kept = json.loads(Path("kept.json").read_text())
    assert (kept["reader"]["reads_as"]["model"], kept["quality"]["comments"], kept["data"]) == (tiny, 2, "data.tsv")


def test_validate_reads_with_the_reader_that_a_file_describes(capsys: Captured) -> None:
    said = json.dumps({"valence": 1, "arousal": 0.5, "confidence": 1})
    model = {"host": "scripted", "name": "m", "lines": [said]}
    Path("judge.yaml").write_text(json.dumps({"kind": "judge", "name": "j", "model": model}))
    assert main(["validate", "judge.yaml", "--data", data(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quality"]["comments"] == 3
    assert found["accuracy"] is None
    assert found["quality"]["cosine_neutral_zero"] is not None


def test_figures_that_cannot_be_kept_are_told_all_the_same(capsys: Captured) -> None:
    said = json.dumps({"valence": 1, "arousal": 0.5, "confidence": 1})
    model = {"host": "scripted", "name": "m", "lines": [said]}
    Path("judge.yaml").write_text(json.dumps({"kind": "judge", "name": "j", "model": model}))
    assert main(["validate", "judge.yaml", "--data", data(), "--json", "--save", "/proc/kept.json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["quality"]["comments"] == 3
    assert re.fullmatch(r"emoray: /proc/kept.json: cannot be written \([A-Z][a-z ]+\)\n", told.err)


def test_validate_refuses_what_it_cannot_use(tiny: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(capsys, "validate", tiny, "--data", data(), "--save", "no/x.json") == (
        "no/x.json: the folder for it is not there"
    )
    assert refused(capsys, "validate", tiny, "--data", "data.tsv", "--calibrate", "no.tsv").startswith("no.tsv: cannot")
    assert refused(capsys, "validate", "no.yaml", "--data", "data.tsv").startswith("no.yaml: cannot be read")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judge = {"kind": "judge", "name": "j", "model": {"host": "hosted_api", "name": "m", "id": "gpt-4o", "account": "o"}}
    Path("j.yaml").write_text(json.dumps(judge | {"accounts": {"o": {"key_env": "NO_SUCH_KEY"}}}))
    assert "NO_SUCH_KEY" in refused(capsys, "validate", "j.yaml", "--data", "data.tsv")


# ── one, and several ──


def test_one_of_a_thing_is_told_in_the_singular(capsys: Captured) -> None:
    one = runs.SPEC.replace(", {name: b b, host: scripted}", "").replace("[freedom, art]", "[art]")
    assert main(["plan", spec(one.replace("repetitions: 2", "repetitions: 1"))]) == 0
    said = capsys.readouterr().out
    assert "3 states × 1 intensity × 1 template × 1 question × 1 repetition = 3 cells for one model\n" in said
    assert re.findall(r"\b1 [a-z]+s\b", said) == []
    folder = runs.begun(Path("run").absolute())
    runs.say(folder, runs.asked()[:1])
    assert main(["compact", "run"]) == 0
    assert main(["status", "run"]) == 0
    assert re.findall(r"\b1 [a-z]+s\b", capsys.readouterr().out.replace("1 is", "")) == []


# ── for programs ──


def test_what_commands_of_a_run_found_is_json_on_request_and_a_page_is_opened(
    read: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(webbrowser, "open", seen.append)

    def told(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        said = capsys.readouterr()
        assert (said.err == "emoray: no browser was found here; open that page in one of yours\n") == bool(seen)
        return json.loads(said.out)

    report = told("report", str(read), "--open")
    assert report.pop("report") == str(read.absolute() / "report/report.html")
    assert seen.pop() == (read.absolute() / "report/report.html").as_uri()
    assert report == json.loads((read / "report/summary.json").read_text())
    assert told("sample", str(read), "--out", "s.csv", "--cells", "2") == {"file": "s.csv", "answers": 2}
    assert [part["files"] for part in told("compact", str(read))] == [1, 1, 1, 1]


def test_a_run_says_in_json_how_it_ended_and_its_table_goes_to_people(read: Path, capsys: Captured) -> None:
    def ends() -> int:
        print("a table")
        return 3

    assert told_as_json(ends, str(read.absolute())) == 3
    said = capsys.readouterr()
    assert said.err == "a table\n"
    found = json.loads(said.out)
    assert (found["exit_code"], [model["settled"] for model in found["models"]]) == (3, [12, 12])
    assert told_as_json(ends, "nowhere") == 3
    assert json.loads(capsys.readouterr().out) == {"exit_code": 3}


def test_what_a_run_tells_is_refused_where_it_cannot_be_written(read: Path, capsys: Captured) -> None:
    said = refused(capsys, "sample", str(read), "--out", "/proc/s.csv")
    assert re.fullmatch(r"/proc/s.csv: cannot be written \([A-Z][a-z ]+\)", said)
    assert refused(capsys, "report", str(read), "--out", "/proc/there").startswith("cannot write /proc/there/")


def test_a_page_in_a_folder_that_a_uri_names_is_opened(
    read: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(webbrowser, "open", seen.append)
    assert main(["report", read.absolute().as_uri(), "--open"]) == 0
    assert seen == [(read.absolute() / "report/report.html").as_uri()]


def test_a_page_in_a_bucket_is_opened_nowhere_and_not_written_either(capsys: Captured) -> None:
    said = refused(capsys, "report", "s3://bucket/run", "--open")
    assert said.startswith("--open: a browser opens no page in s3://bucket/run; add --out")


# ── report and sample ──


@pytest.fixture
def read(here: Path) -> Path:
    """A run whose answers at 0 degrees were read as joy, all others as neutral."""
    folder = runs.begun(here / "run")
    for prompts in (runs.asked(), runs.asked(model="b b")):
        runs.say(folder, prompts)
        runs.feel(folder, [prompt for prompt in prompts if prompt.cell.state.angle_deg == 0])
        runs.feel(folder, [prompt for prompt in prompts if prompt.cell.state.angle_deg != 0], "neutral")
    return Path("run")


def reported() -> dict[str, object]:
    found: dict[str, object] = json.loads(Path("out/summary.json").read_text())
    return found


def test_another_map_and_rule_score_stored_readings_anew_and_ask_no_reader(read: Path, capsys: Captured) -> None:
    assert main(["report", str(read), "--out", "out", "--label-map", "octants", "--neutral", "drop"]) == 0
    assert "label map octants (ours), neutral is left out" in capsys.readouterr().out
    found = reported()
    assert found["settings"]["neutral"] == "drop"  # type: ignore[index]
    beside = found["beside"][0]  # type: ignore[index]
    assert beside["here"]["estimate"] != beside["own"]["estimate"]


def test_beside_another_map_stands_what_the_runs_own_gives(read: Path, capsys: Captured) -> None:
    assert main(["report", str(read), "--out", "out"]) == 0
    plainly = [one["scores"]["whole"]["group"]["cosine"] for one in reported()["models"]]  # type: ignore[attr-defined]
    Path("low.yaml").write_text(yaml.safe_dump({label: {"angle": 180} for label in LABELS}))
    assert main(["report", str(read), "--out", "out", "--label-map", "low.yaml"]) == 0
    beside: Any = reported()["beside"]
    assert len(plainly) == 2
    assert [one["own"] for one in beside] == plainly
    assert all(one["here"]["estimate"] < one["own"]["estimate"] for one in beside)


OWN = {"glad": {"angle": 0}, "Un-glad": {"angle": 180}}


@pytest.fixture
def plural(here: Path) -> Path:
    """A run read by two readers: one of two labels of its own, by which the first state was met, one of GoEmotions'."""
    own = {"kind": "goemotions", "name": "own", "model": "someones", "label_map": OWN}
    spec = runs.SPEC.replace("[{kind: scripted, name: r}]", json.dumps([own, {"kind": "scripted", "name": "r"}]))
    folder = runs.begun(here / "run", spec)
    for prompts in (runs.asked(), runs.asked(model="b b")):
        runs.say(folder, prompts)
        runs.feel(folder, prompts)
        own_map = label_map_from(OWN, name="own", labels=None)
        for label, met in (("glad", True), ("Un-glad", False)):
            some = [prompt for prompt in prompts if (prompt.cell.state.angle_deg == 0) is met]
            runs.feel(folder, some, label, reader="own", own=own_map)
    return Path("run")


def test_a_readers_own_labels_are_moved_by_its_name_and_no_others(plural: Path, capsys: Captured) -> None:
    Path("moved.csv").write_text("label,angle\nun_glad,0\nGlad,90\n")
    assert main(["report", str(plural), "--out", "out", "--label-map", "own=moved.csv"]) == 0
    assert "label map russell (ours), the labels of own moved" in capsys.readouterr().out
    found: Any = reported()
    assert found["settings"]["own_maps"] == {
        "own": {"glad": {"valence": pytest.approx(0), "arousal": 1}, "Un-glad": {"valence": 1, "arousal": 0}}
    }
    means = {one["reader"]: (one["own"]["estimate"], one["here"]["estimate"]) for one in found["beside"]}
    assert means["own"] == pytest.approx((2 / 3, -1 / 3))
    assert means["r"][0] == means["r"][1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("r=moved.csv", "label_map: reader 'r' has no labels of its own; a map without a reader's name places the 28"),
        ("nobody=moved.csv", "label_map: the run has no reader 'nobody' for moved.csv; it has own, r"),
        (
            "own=moved.csv",
            "moved.csv: label map 'moved' misses glad, Un-glad and has the unknown label 'joy'; it must place exactly",
        ),
        ("onw=moved.csv", "label_map: the run has no reader 'onw' for moved.csv; it has own, r; did you mean 'own'?"),
        ("own=no.csv", "label_map: no.csv cannot be read"),
    ],
)
def test_a_map_that_is_not_of_the_reader_is_one_sentence(
    plural: Path, given: str, sentence: str, capsys: Captured
) -> None:
    Path("moved.csv").write_text("label,angle\njoy,0\n")
    assert refused(capsys, "report", str(plural), "--out", "out", "--label-map", given).startswith(sentence)


def test_a_slice_is_drawn_labelled_and_corrects_the_means(read: Path, capsys: Captured) -> None:
    assert main(["sample", str(read), "--out", "slice.csv", "--cells", "12", "--seed", "5"]) == 0
    assert "emoray report run --human slice.csv" in capsys.readouterr().out
    Path("slice.csv").write_text(Path("slice.csv").read_text().replace(",,,", ",sadness,,"))
    assert main(["report", str(read), "--out", "out", "--human", "slice.csv"]) == 0
    corrected = reported()["corrections"][0]["corrected"]  # type: ignore[index]
    assert corrected["labelled"] == 6
    assert corrected["shift"] != 0


def test_a_slice_that_is_there_is_not_drawn_over_for_it_may_hold_labels(read: Path, capsys: Captured) -> None:
    Path("slice.csv").write_text("mine")
    said = refused(capsys, "sample", str(read), "--out", "slice.csv")
    assert said == "slice.csv: is there already, and may hold labels; choose another file"
    assert Path("slice.csv").read_text() == "mine"


def test_what_a_validated_reader_scores_on_human_text_divides_the_scores(read: Path, capsys: Captured) -> None:
    """The run's reader is a scripted one, and so is the validated."""
    Path("r.yaml").write_text("{kind: scripted, name: r}")
    assert main(["validate", "r.yaml", "--data", data(), "--save", "kept.json"]) == 0
    assert main(["report", str(read), "--out", "out", "--ceilings", "kept.json"]) == 0
    capsys.readouterr()
    assert reported()["settings"]["human_text"] == ["r"]  # type: ignore[index]
    said = refused(capsys, "report", str(read), "--out", "no", "--ceilings", "kept.json", "--label-map", "octants")
    assert said.startswith("kept.json: was made with the label map 'russell'")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--label-map", "rusell"], "label_map: 'rusell' is neither a file nor one of russell, octants, ratings"),
        (["--ceilings", "no.json"], "no.json: cannot be read (No such file or directory)"),
        (["--human", "no.csv"], "no.csv: cannot be read as CSV"),
        (["--human", "other.csv"], "other.csv: 1 of its 1 keys are of no answer in this run, such as 'k1'"),
    ],
)
def test_a_mistake_in_a_flag_of_a_report_is_one_sentence_and_nothing_is_written(
    read: Path, flags: list[str], sentence: str, capsys: Captured
) -> None:
    Path("other.csv").write_text("key,label\nk1,joy\n")
    assert refused(capsys, "report", str(read), "--out", "out", *flags).startswith(sentence)
    assert not Path("out").exists()


def test_score_refuses_another_reader_under_a_name_that_is_taken(read: Path, capsys: Captured) -> None:
    Path("r.yaml").write_text("{kind: goemotions, name: r}")
    said = refused(capsys, "score", "-v", str(read), "--reader", "r.yaml")
    assert said == "the run has another reader called 'r' already; give this one a name of its own"


def test_a_run_refuses_another_reader_under_a_name_that_has_readings(read: Path, capsys: Captured) -> None:
    other = spec(runs.SPEC.replace("{kind: scripted, name: r}", "{kind: goemotions, name: r, model: org/two}"))
    for more in ([], ["--extend"]):
        said = refused(capsys, "run", "-v", other, "--out", str(read), *more)
        assert said == "the run has another reader called 'r' already; give this one a name of its own"


def test_a_reader_that_came_later_is_found_by_its_name(read: Path) -> None:
    later = [ScriptedReader(kind="scripted", name="late")]
    assert named_reader("late", runs.study().spec, later) == (later[0], {})


def test_a_judge_whose_account_nobody_knows_needs_its_file() -> None:
    model = Hosted(host="hosted_api", name="m", id="x", account="o")
    with pytest.raises(UserError, match="reader 'j' needs the account 'o'; give the YAML file that has both"):
        named_reader("j", runs.study().spec, [JudgeReader(kind="judge", name="j", model=model)])


def test_validate_warns_of_a_judge_that_brings_code_of_its_own(capsys: Captured) -> None:
    model = {"host": "transformers", "name": "m", "id": "./no/such", "trust_remote_code": True}
    Path("j.yaml").write_text(json.dumps({"kind": "judge", "name": "j", "model": model}))
    assert main(["validate", "j.yaml", "--data", data()]) == 2
    assert "warning: model 'm' runs the Python code that comes with ./no/such" in capsys.readouterr().err
