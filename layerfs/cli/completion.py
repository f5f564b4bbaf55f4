"""`layerfs completion`: what bash, zsh or fish must know to complete our command line.

shtab writes the scripts for bash and zsh; fish's is written here. All three are told the names of the mount options.
"""

import argparse
from collections.abc import Iterator

from layerfs.errors import Unsupported, WrongUsage

SHELLS = ("bash", "zsh", "fish")
MOUNT_OPTIONS = "_layerfs_mount_options"  # the function that completes them, in each of the shells
_Subparsers = argparse._SubParsersAction

# What was typed before the last comma stays.
BASH = f"""
{MOUNT_OPTIONS}() {{
  local before=""
  [[ $1 == *,* ]] && before="${{1%%,*}},"
  compgen -P "$before" -W "%s" -- "${{1##*,}}"
}}
"""
ZSH = f"""
{MOUNT_OPTIONS}() {{
  compset -P '*,'
  compadd -S '' -- %s
}}
"""
FISH = f"""
function {MOUNT_OPTIONS}
    set -l before (string match --regex '^.*,' -- (commandline --current-token))
    printf '%%s\\n' "$before"{{%s}}
end
"""


def add_parser(subparsers: "_Subparsers[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "completion",
        help="print a completion script",
        description='Print a completion script: `eval "$(layerfs completion bash)"` in ~/.bashrc (or zsh), '
        "`layerfs completion fish | source` in config.fish.",
    )
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from layerfs.cli.parser import build_parser

    parser = build_parser()
    print(fish_script(parser) if arguments.shell == "fish" else _script(parser, arguments.shell))
    return 0


def _script(parser: argparse.ArgumentParser, shell: str) -> str:
    try:
        import shtab
    except ImportError:
        raise Unsupported("completion needs the Python package shtab", "pip install shtab") from None
    preamble = (BASH if shell == "bash" else ZSH) % " ".join(mount_options())
    options = {"bash": MOUNT_OPTIONS, "zsh": MOUNT_OPTIONS}
    _complete_values(parser, {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE, "OPT": options})
    return str(shtab.complete(parser, shell, preamble=preamble))


def mount_options() -> list[str]:
    """Return the names of all mount options, with `=` where a value must follow."""
    from layerfs.spec.options import known_options

    return [f"{name}=" if _needs_value(name) else name for name in known_options()]


def _needs_value(name: str) -> bool:
    from layerfs.spec.options import parse

    try:
        parse([name.encode()])
    except WrongUsage:
        return True
    return name == "lowerdir"  # may be empty, where layers are named otherwise


def _complete_values(parser: argparse.ArgumentParser, kinds: dict[str, object]) -> None:
    """Say what completes an argument (shtab reads `complete` off an action)."""
    for action in parser._actions:
        if kind := _kind_of(action):
            vars(action)["complete"] = kinds[kind]
        elif isinstance(action, _Subparsers):
            for verb in action.choices.values():
                _complete_values(verb, kinds)


def _kind_of(action: argparse.Action) -> str:
    """Return what an argument is by its metavar: OPT, FILE, DIR, or something that cannot be completed."""
    words = action.metavar if isinstance(action.metavar, str) else ""
    if words.startswith("OPT["):
        return "OPT"
    if "FILE" in words:  # before DIR: what takes both is offered both
        return "FILE"
    return "DIR" if any(word in words for word in ("DIR", "LAYER", "MOUNTPOINT", "UPPER")) else ""


def fish_script(parser: argparse.ArgumentParser) -> str:
    """Return the script for fish: a `complete` command for each verb and each option."""
    head = [FISH % ",".join(mount_options()), "complete -c layerfs -e", "complete -c layerfs -f"]
    return "\n".join([*head, *_fish_lines(parser, ())])


def _fish_lines(parser: argparse.ArgumentParser, verbs: tuple[str, ...]) -> Iterator[str]:
    seen = [f"__fish_seen_subcommand_from {verb}" for verb in verbs]
    for action in parser._actions:
        if isinstance(action, _Subparsers):
            unseen = f"not __fish_seen_subcommand_from {' '.join(action.choices)}"
            for choice in action._choices_actions:
                yield _fish([*seen, unseen], f"-a {choice.dest}", choice.help)
            for name, child in action.choices.items():
                yield from _fish_lines(child, (*verbs, name))
        elif verbs:
            yield _fish(seen, _fish_words(action), action.help)


def _fish_words(action: argparse.Action) -> str:
    """Return the flags of an option and how its value is completed; of a positional argument the latter alone."""
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in action.option_strings]
    valued = ["-r"] if flags and action.nargs != 0 else []
    values = {
        "OPT": ["-f", f"-a '({MOUNT_OPTIONS})'"],
        "FILE": ["-F"],
        "DIR": ["-f", "-a '(__fish_complete_directories (commandline -ct))'"],
        "": ["-f", f"-a '{' '.join(map(str, action.choices))}'"] if action.choices else [],
    }[_kind_of(action)]
    return " ".join([*flags, *valued, *values])


def _fish(conditions: list[str], words: str, about: str | None) -> str:
    said = (about or "").partition("\n")[0].replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'")
    return f"complete -c layerfs -n '{'; and '.join(conditions)}' {words} -d '{said}'"
