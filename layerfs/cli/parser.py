"""The command line's grammar: the verbs, and errors that say what was probably meant."""

import argparse
import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from layerfs.sys.terminal import one_line

WORK_TREE: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# The harness lies beside the package in the project's work tree, and is not installed.
_BENCH: Final = ("bench",) if os.path.exists(f"{WORK_TREE}/benchmarks/__main__.py") else ()
VERBS: Final = (
    *("mount", "umount", "status", "diff", "run", "image", "pull", "push", "cp", "xar", "plan", "pack"),
    *("cache", "snapshot", "store", "serve", "doctor"),
    *_BENCH,
    "completion",
)
GROUPS: Final = ("xar", "image")  # verbs that have verbs of their own


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are printable, and name what is nearest to a mistyped word."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit."""
        super().error(one_line(message))

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """End with what is said of arguments that nothing knows."""
        options = [option for option in self._option_string_actions if option.startswith("--")]
        near = [nearest(word.partition("=")[0], options) for word in words if word.startswith("-")]
        self.error(f"unrecognized arguments: {' '.join(words)}{''.join(near[:1])}")

    def refuse_without_verb(self, words: Sequence[str]) -> None:
        """End with what is said of a line without a verb, unless an option in it does without one."""
        known = self._option_string_actions
        unknown = [word for word in words if not any(option.startswith(word) for option in known)]
        if unknown:
            self.refuse(unknown)
        if not words:
            self.error("the following arguments are required: VERB (layerfs --help lists them)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is no choice, with the nearest one."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        hint = nearest(str(value), choices) or f" (choose from {', '.join(map(repr, choices))})"
        if isinstance(action, argparse._SubParsersAction) and self.prog != "layerfs" and value in VERBS:
            hint = f' (did you mean "layerfs {value}"?)'
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}{hint}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `(did you mean ...?)` with a blank before it, or nothing where nothing is near."""
    from difflib import get_close_matches  # 3 ms, for those who mistype

    near = get_close_matches(word, list(known), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def build_parser(verbs: Sequence[str] = VERBS, part: str = "") -> Parser:
    """Return the parser with these verbs in it; each verb is imported for it, of a group only `part` if that is one."""
    from layerfs import __version__

    parser = Parser(
        prog="layerfs", description="One directory tree made of stacked read-only layers with a writable layer on top."
    )
    parser.add_argument("--version", action="version", version=f"layerfs {__version__}")
    # Told its name, argparse does not import shutil to measure the terminal for a usage line.
    subparsers = parser.add_subparsers(prog="layerfs", metavar="VERB", required=True)
    for verb in verbs:
        module = import_module(f"layerfs.cli.{verb}")
        module.add_parser(subparsers, *([part] if verb in GROUPS else []))
    return parser


def parser_of(parser: argparse.ArgumentParser, words: Sequence[str]) -> Parser:
    """Return the parser of the verb that words name, for its usage line."""
    for word in words:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                parser = action.choices[word]
                break
    assert isinstance(parser, Parser)
    return parser
