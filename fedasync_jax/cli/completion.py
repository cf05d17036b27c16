"""Print what a shell needs to complete ``fedasync``: words, flags and their choices.

bash, zsh:  eval "$(fedasync completion bash)"     in ~/.bashrc, or zsh in ~/.zshrc
fish:       fedasync completion fish | source      in ~/.config/fish/config.fish
"""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence

from fedasync_jax.cli.command import COMMANDS
from fedasync_jax.cli.flag_list import SWEEP_FLAGS, TRAIN_FLAGS, Flag, list_groups
from fedasync_jax.cli.flags import fail
from fedasync_jax.experiment.settings import Settings

_SHELLS = ("bash", "zsh", "fish")
_HELP = (Flag("help", "", "Say what it takes."),)
_HELP_ALL = (*_HELP, Flag("help_all", "", "The same with all settings."))


def main() -> None:
    """Print the script for the shell of the command line."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(
            f"usage: fedasync completion {{{','.join(_SHELLS)}}}\n\n{__doc__}".strip()
        )
        return
    if len(words) != 1 or words[0] not in _SHELLS:
        shown = " ".join(words) or "none"
        fail(f"completion must be for one of {', '.join(_SHELLS)}, got {shown}")
    make_script = _make_fish if words[0] == "fish" else _make_bash
    head = ["autoload -U +X bashcompinit && bashcompinit"] * (words[0] == "zsh")
    print("\n".join([*head, *make_script(list_flags())]))


def list_flags() -> Mapping[str, Sequence[Flag]]:
    """Return the flags of every command."""
    of_plot = Flag("out", "FOLDER", "Folder for the comparison of several runs.")
    of_report = Flag("out", "FILE", "The page; default: report.html in the run.")
    known = {
        "train": [*_HELP_ALL, *_all_flags(TRAIN_FLAGS)],
        "sweep": [*_HELP_ALL, *_all_flags(SWEEP_FLAGS)],
        "plot": [*_HELP, of_plot],
        "report": [*_HELP, of_report],
    }
    return {name: known.get(name, _HELP) for name in COMMANDS}


def _all_flags(own: Sequence[Flag]) -> list[Flag]:
    groups = list_groups(own, Settings())
    return [flag for group in groups for flag in group.flags]


def _make_bash(commands: Mapping[str, Sequence[Flag]]) -> Iterator[str]:
    """Yield the lines of a script for bash, which zsh runs, too.

    The word under the cursor is a command, a flag, a choice of the last flag, or else
    a file, which the shell completes by itself.
    """
    yield "_fedasync() {"
    yield '  local current="${COMP_WORDS[COMP_CWORD]}" flag="" words="" i'
    yield "  COMPREPLY=()"
    yield "  for ((i = 2; i < COMP_CWORD; i++)); do"
    yield '    [[ "${COMP_WORDS[i]}" == --* ]] && flag="${COMP_WORDS[i]}"'
    yield "  done"
    yield "  if ((COMP_CWORD == 1)); then"
    yield f"    words={shlex.quote(' '.join([*commands, '--help', '--version']))}"
    yield '  elif [[ "$current" == -* ]]; then'
    yield '    case "${COMP_WORDS[1]}" in'
    for name, flags in commands.items():
        words = " ".join(flag.word for flag in flags)
        yield f"      {name}) words={shlex.quote(words)} ;;"
    yield "    esac"
    yield "  else"
    yield '    case "${COMP_WORDS[1]} $flag" in'
    yield f"      'completion ') words={shlex.quote(' '.join(_SHELLS))} ;;"
    for name, flags in commands.items():
        for flag in flags:
            if flag.choices:
                choices = shlex.quote(" ".join(flag.choices))
                yield f"      {shlex.quote(f'{name} {flag.word}')}) words={choices} ;;"
    yield "    esac"
    yield "  fi"
    yield '  [[ -n "$words" ]] && COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield "complete -o bashdefault -o default -F _fedasync fedasync"


def _make_fish(commands: Mapping[str, Sequence[Flag]]) -> Iterator[str]:
    """Yield the lines of a script for fish."""
    for name in commands:
        about = shlex.quote(COMMANDS[name].description)
        yield f"complete -c fedasync -n __fish_use_subcommand -f -a {name} -d {about}"
    seen = "__fish_seen_subcommand_from"
    yield f"complete -c fedasync -n '{seen} completion' -f -a '{' '.join(_SHELLS)}'"
    for name, flags in commands.items():
        for flag in flags:
            about = flag.help.split(". ")[0].rstrip(".")[:60]
            line = f"complete -c fedasync -n '{seen} {name}' -l {flag.word[2:]}"
            if flag.choices:
                line += f" -x -a {shlex.quote(' '.join(flag.choices))}"
            elif flag.metavar:
                line += " -r"
            yield f"{line} -d {_quote_for_fish(about)}"


def _quote_for_fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


if __name__ == "__main__":
    main()
