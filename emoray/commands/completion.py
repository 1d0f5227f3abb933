"""`emoray completion`: what a shell needs to complete commands and flags; files it completes itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from emoray.commands import cli
from emoray.exit_codes import OK

Words = Mapping[str, Mapping[str, str]]  # of each command: its flags, and what each does

_BASH = """\
_emoray() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    elif [ "${{word#-}}" != "$word" ]; then
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _emoray emoray
"""
_ZSH = """\
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
autoload -Uz bashcompinit && bashcompinit
{bash}"""


def bash(words: Words) -> str:
    """For bash."""
    cases = "\n".join(f'            {name}) words="{" ".join(flags)}" ;;' for name, flags in words.items())
    return _BASH.format(commands=" ".join(words), cases=cases)


def zsh(words: Words) -> str:
    """For zsh, which knows bash's completions."""
    return _ZSH.format(bash=bash(words))


def fish(words: Words) -> str:
    """For fish, with what each command and flag does."""
    about = cli.commands()
    lines = [f"complete -c emoray -n __fish_use_subcommand -f -a {name} -d {_quoted(about[name])}" for name in words]
    for name, flags in words.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        lines += [f"complete -c emoray {seen} {_flag(flag)} -d {_quoted(text)}" for flag, text in flags.items()]
    return "".join(f"{line}\n" for line in lines)


def _flag(flag: str) -> str:
    return f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"


def _quoted(text: str) -> str:
    r"""In fish's single quotes, where `\` and `'` alone mean something."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("shell", choices=list(_SHELLS), help="for which; bash: `source <(emoray completion bash)`")
    own.add_argument("--json", action="store_true", help="the commands and their flags, for programs")


def _call(arguments: argparse.Namespace) -> int:
    words = {name: cli.flags(name) for name in cli.commands()}
    print(json.dumps(words, indent=2) if arguments.json else _SHELLS[arguments.shell](words), end="")
    if arguments.json:
        print()
    return OK
