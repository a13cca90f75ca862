"""Tab completion of every command in bash and zsh: a shell script, and the words that it asks for.

    eval "$(samestep-train --completion=bash)"

The script is the same whichever command prints it. At the first Tab after a command it asks that
command for its words, which takes 0.3 s, and keeps them.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata

from scripts import flags, manual

WORDS = "words"  # --completion=words: what the scripts ask for
PACKAGE = "samestep"

# Readline breaks words at =, so that of --model=res only what follows it is to be replaced. Where
# no word fits, `-o default` completes names of files.
BASH = """\
declare -gA _samestep_words
_samestep() {{
    local line=${{COMP_LINE:0:COMP_POINT}} program=${{COMP_WORDS[0]}} command=
    local current=${{line##*[[:space:]]}}
    if [[ ${{COMP_WORDS[1]}} != -* && COMP_CWORD -gt 1 ]]; then command=${{COMP_WORDS[1]}}; fi
    local key="$program $command"
    if [[ -z ${{_samestep_words[$key]}} ]]; then
        _samestep_words[$key]=$("$program" $command --completion=words 2>/dev/null) || return
    fi
    local words=${{_samestep_words[$key]}} IFS=$'\\n'
    [[ $current == *=* ]] || words=$(grep -v =. <<< "$words")
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ $current == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{current%%=*}}="}}")
    fi
    [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
}}
complete -o default -F _samestep {programs}
"""
ZSH = """\
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit -u }}
typeset -gA _samestep_words
_samestep() {{
    local program=$words[1] command=
    if [[ $words[2] != -* && CURRENT -gt 2 ]]; then command=$words[2]; fi
    local key="$program $command"
    if [[ -z $_samestep_words[$key] ]]; then
        _samestep_words[$key]="$($program $command --completion=words 2>/dev/null)" || return
    fi
    local -a found=(${{(f)_samestep_words[$key]}})
    if [[ $PREFIX == *=* ]]; then
        found=(${{(M)found:#${{PREFIX%%=*}}=?*}})
        compset -P '*='
        compadd -- ${{found#*=}} || _files
    else
        compadd -S '' -- ${{(M)found:#*=}}
        compadd -- ${{found:#*=*}}
        [[ $PREFIX == -* ]] || _files
    fi
}}
compdef _samestep {programs}
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}


def script(shell: str) -> str:
    """What the shell is to run once. Raises FlagError for a shell that is none of SCRIPTS."""
    if shell not in SCRIPTS:
        raise flags.FlagError(
            f"--completion={shell}: it must be {' or '.join(SCRIPTS)}.", "completion"
        )
    return SCRIPTS[shell].format(programs=" ".join(programs()))


def programs() -> list[str]:
    """The commands of the installed package."""
    found = metadata.distribution(PACKAGE).entry_points.select(group="console_scripts")
    return sorted(each.name for each in found)


def words(config_types: Sequence[type], commands: Iterable[str] = ()) -> Iterator[str]:
    """What may be typed: commands, --name=, --name and --noname of a switch, --name=word."""
    yield from commands
    for own in flags.sections(config_types).values():
        for setting in own:
            if setting.kind is bool:
                yield from (f"--{setting.name}", f"--no{setting.name}")
                continue
            yield f"--{setting.name}="
            yield from (f"--{setting.name}={word}" for word in flags.choices(setting))
    for name in manual.EVERYWHERE:
        yield f"--{name}" + ("=" if name in ("flagfile", "completion") else "")
