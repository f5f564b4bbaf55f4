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
    from layerfs.cli.main import build_parser

    try:
        import shtab
    except ImportError:
        raise Unsupported("completion needs the Python package shtab", "pip install shtab") from None
    print(shtab.complete(build_parser(), arguments.shell))
    return 0
