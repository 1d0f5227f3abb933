"""What a shell completes."""

from __future__ import annotations

import subprocess

import pytest

from emoray.commands import cli, completion
from emoray.commands.cli import main


@pytest.fixture(scope="module")
def words() -> dict[str, dict[str, str]]:
    return {name: cli.flags(name) for name in cli.commands()}


def completed(script: str, *line: str) -> list[str]:
    """What bash itself makes of a line, whose last word is being typed."""
    asks = f"{script}\nCOMP_WORDS=({' '.join(map(repr, line))}); COMP_CWORD={len(line) - 1}; _emoray"
    shown = subprocess.run(
        ["bash", "-uc", f'{asks}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'], capture_output=True, text=True
    )
    assert shown.stderr == ""
    return shown.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["emoray", "sta"], ["status"]),
        (["emoray", "re"], ["report", "rehearse"]),
        (["emoray", "status", "--w"], ["--watch"]),
        (["emoray", "plan", "my.yaml", "--fr"], ["--freeze"]),
        (["emoray", "status", "runs"], []),
        (["emoray", "nothing", "--"], []),
    ],
)
def test_bash_completes_commands_and_their_flags_and_leaves_files_to_itself(
    line: list[str], expected: list[str], words: dict[str, dict[str, str]]
) -> None:
    assert completed(completion.bash(words), *line) == expected


def test_every_flag_of_every_command_is_in_every_script(words: dict[str, dict[str, str]]) -> None:
    in_bash, in_fish = completion.bash(words), completion.fish(words)
    assert in_bash in completion.zsh(words)
    for name, flags in words.items():
        assert {"--help", "--json"} <= set(flags)
        assert f'{name}) words="{" ".join(flags)}" ;;' in in_bash
        assert in_fish.count(f"seen_subcommand_from {name}'") == len(flags)


def test_what_a_quote_or_a_backslash_means_to_fish_is_quoted() -> None:
    assert completion.fish({"run": {"--x": r"it's a \\"}}).endswith(r"-l x -d 'it\'s a \\\\'" + "\n")


def test_the_command_prints_the_script_of_a_shell(
    capsys: pytest.CaptureFixture[str], words: dict[str, dict[str, str]]
) -> None:
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == completion.bash(words)
