"""The grammar of a verb's parts as values: argparse is told of it, or it takes a well-formed line apart by itself.

Importing argparse and building parsers for the twelve parts of `layerfs snapshot` takes 20 ms of CPU time, half of all
that `layerfs snapshot prepare` does.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from layerfs.cli.argv import Words, take_apart
from layerfs.value import value

if TYPE_CHECKING:
    import argparse


@value
class Word:
    """An argument that is no option. `count` is that of argparse: one, `?` for at most one, `*` any, `+` at least one.

    Only the last one may have a count; `default` is for `?`.
    """

    name: str
    metavar: str
    about: str = ""
    count: str = ""
    default: str | None = None


@value
class Option:
    """An option: a switch without `metavar`, else with a value; `many` may be given several times, as a list."""

    spelling: str
    about: str
    metavar: str = ""
    default: str | None = None
    many: bool = False

    @property
    def name(self) -> str:
        """What the option is called among the arguments."""
        return self.spelling.removeprefix("--").replace("-", "_")


@value
class Grammar:
    """What one part of a verb understands."""

    words: tuple[Word, ...] = ()
    options: tuple[Option, ...] = ()


def add_to(parser: "argparse.ArgumentParser", grammar: Grammar) -> None:
    """Tell argparse, which explains what is wrong with a line, and prints help."""
    for option in grammar.options:
        given: dict[str, Any] = {"help": option.about}
        if not option.metavar:
            given |= {"action": "store_true"}
        elif option.many:
            given |= {"metavar": option.metavar, "action": "append", "default": []}
        else:
            given |= {"metavar": option.metavar, "default": option.default}
        parser.add_argument(option.spelling, **given)
    for word in grammar.words:
        counted = {"nargs": word.count, "default": word.default} if word.count == "?" else {}
        counted = counted or ({"nargs": word.count} if word.count else {})
        parser.add_argument(word.name, metavar=word.metavar, help=word.about or None, **counted)  # type: ignore[arg-type]


def read(arguments: Sequence[str], grammar: Grammar) -> SimpleNamespace | None:
    """Return what argparse would make of a well-formed line; None if argparse must look at it."""
    switches = {option.spelling: option.name for option in grammar.options if not option.metavar}
    valued = {option.spelling: option.name for option in grammar.options if option.metavar}
    found = take_apart(arguments, switches, valued)
    if found is None:
        return None
    places = _places(found.paths, grammar.words)
    return None if places is None else SimpleNamespace(**places, **_options(found, grammar.options))


def _options(found: Words, options: tuple[Option, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option in options:
        if not option.metavar:
            values[option.name] = option.name in found.switches
        elif option.many:
            values[option.name] = found.values.get(option.name, [])
        else:
            last = found.last(option.name)
            values[option.name] = option.default if last is None else last
    return values


def _places(given: list[str], words: tuple[Word, ...]) -> dict[str, Any] | None:
    """Return each word's argument; None where there are too few or too many."""
    values: dict[str, Any] = {}
    rest = list(given)
    for word in words:
        if word.count in ("*", "+"):
            if word.count == "+" and not rest:
                return None
            values[word.name], rest = rest, []
        elif rest:
            values[word.name] = rest.pop(0)
        elif word.count == "?":
            values[word.name] = word.default
        else:
            return None
    return None if rest else values
