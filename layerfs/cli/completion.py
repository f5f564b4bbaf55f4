"""`layerfs completion`: what bash or zsh must know to complete our command line."""

import argparse

from layerfs.errors import Unsupported


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "completion",
        help="print a completion script",
        description='Print a completion script, for `eval "$(layerfs completion bash)"` in ~/.bashrc (or zsh).',
    )
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from layerfs.cli.parser import build_parser

    try:
        import shtab
    except ImportError:
        raise Unsupported("completion needs the Python package shtab", "pip install shtab") from None
    parser = build_parser()
    _complete_paths(parser, {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE})
    print(shtab.complete(parser, arguments.shell))
    return 0


def _complete_paths(parser: argparse.ArgumentParser, kinds: dict[str, object]) -> None:
    """Say which arguments are paths, by their metavars (shtab reads `complete` off an action)."""
    for action in parser._actions:
        words = action.metavar if isinstance(action.metavar, str) else ""
        if "FILE" in words:  # before DIR: what takes both is offered both
            vars(action)["complete"] = kinds["FILE"]
        elif any(word in words for word in ("DIR", "LAYER", "MOUNTPOINT", "UPPER")):
            vars(action)["complete"] = kinds["DIR"]
        elif isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _complete_paths(verb, kinds)
