"""`layerfs pack`: the layers of a plan, built or taken from what is there."""

import argparse
import os
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from layerfs.cli.screen import bar, complain, size
from layerfs.errors import WrongUsage
from layerfs.sys.terminal import json_text, one_line

if TYPE_CHECKING:
    from layerfs.plan.pack import Packed, PackOptions
    from layerfs.store.cache import Cache

DESCRIPTION: Final = """\
Build the layers of a plan that `layerfs plan -o PLAN` wrote. The same files give the same bytes, and a layer whose
contents have not changed is not built again: it is taken from the pack before (--previous) or from the package cache
(--cache). The files are read where the plan found them; a tree that has other modules, or other versions of them, is
refused.

  xar       (default) a XAR for each layer; the topmost one depends on all others: layerfs mount DIR/layer.xar MNT
  squashfs  an image for each layer, for any program that mounts them
  oci       an OCI layout, for layerfs image import DIR and others"""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
_LEVELS: Final = range(1, 23)  # of zstd
_SHOWN: Final = 10  # warnings of one kind


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "pack",
        help="build the layers of a plan",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", metavar="PLAN", help="what layerfs plan -o wrote")
    parser.add_argument("-o", "--output", metavar="DIR", help="where the layers go: a new or empty directory")
    parser.add_argument("--format", choices=("xar", "squashfs", "oci"), default="xar", help="what layers are made of")
    parser.add_argument("--previous", metavar="DIR", help="the pack before: what has not changed is taken from it")
    parser.add_argument(
        "--cache", action="store_true", help="take layers from the package cache, and add them to it (xar only)"
    )
    parser.add_argument("--name", metavar="NAME", help="of the image; file names begin with it (layer)")
    parser.add_argument("--level", type=int, metavar="N", help="how hard zstd tries (its own default)")
    parser.add_argument("--json", action="store_true", help="print what was packed as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Pack, and say what is new and what was there."""
    from layerfs.cli.sources import image_config, opened
    from layerfs.plan.pack import pack
    from layerfs.plan.record import read_plan

    options = _options_of(arguments)
    plan = read_plan(os.fsencode(arguments.plan))
    if plan.words is None:
        raise WrongUsage(
            f"{arguments.plan} does not say where the files of its modules are",
            'a graph in JSON says it by "root" and "paths" (docs/plan.md)',
        )
    with opened(plan.words) as source, bar("packing") as tell:
        if plan.words.kind == "oci":
            options = replace(options, config=image_config(plan.words.what))
        packed = pack(plan, source, options, tell)
    dropped = [f"warning: /{os.fsdecode(path)}: no {os.fsdecode(key)} in squashfs" for path, key in packed.dropped]
    complain(dropped[:_SHOWN] + [f"warning: and {len(dropped) - _SHOWN} more"] * (len(dropped) > _SHOWN))
    _report(arguments, packed)
    if options.cache is not None:
        _sweep(options.cache)
    return 0


def _sweep(cache: "Cache") -> None:
    """Evict what is beyond the cache's bound, as `layerfs cache add` does."""
    from layerfs.cli.cache import mounted_files
    from layerfs.store import eviction

    swept = eviction.sweep(cache, eviction.bound(), mounted_files())
    for entry in swept.evicted:
        print(one_line(f"evicted {os.fsdecode(entry.name)}, {size(entry.size)}"), file=sys.stderr)


def _options_of(arguments: argparse.Namespace) -> "PackOptions":
    from layerfs.plan.pack import PackOptions
    from layerfs.store.cache import Cache

    if arguments.output is None and not arguments.cache:
        raise WrongUsage("it is not said where the layers go", "give -o DIR, --cache, or both")
    if arguments.cache and arguments.format != "xar":
        raise WrongUsage("the package cache takes XARs only", "leave --format out")
    name = arguments.name
    if name is not None and arguments.format != "oci" and not _NAME.fullmatch(name):
        raise WrongUsage(f"layers cannot be called {name!r}", "take letters, digits, and . _ + - behind the first")
    if arguments.level is not None and arguments.level not in _LEVELS:
        raise WrongUsage(f"--level is {arguments.level}", "zstd has 1 to 22")
    return PackOptions(
        format=arguments.format,
        output=os.fsencode(arguments.output) if arguments.output is not None else None,
        previous=os.fsencode(arguments.previous) if arguments.previous is not None else None,
        cache=Cache.own() if arguments.cache else None,
        name=name,
        level=arguments.level,
    )


def _report(arguments: argparse.Namespace, packed: "Packed") -> None:
    layers = packed.layers
    built = [layer.record.bytes for layer in layers if layer.origin == "built"]
    reused = [layer.record.bytes for layer in layers if layer.origin != "built"]
    shown: dict[str, Any] = {
        "layers": [
            {
                "id": layer.record.id,
                "file": layer.record.file,
                "bytes": layer.record.bytes,
                "sha256": layer.record.sha256,
                "origin": layer.origin,
            }
            for layer in layers
        ],
        "built_bytes": sum(built),
        "reused_bytes": sum(reused),
    }
    if arguments.cache:
        shown["cache_new_bytes"] = sum(layer.record.bytes for layer in layers if not layer.cached)
        shown["cache_reused_bytes"] = sum(layer.record.bytes for layer in layers if layer.cached)
    if arguments.json:
        print(json_text(shown))
        return
    for layer in reversed(layers):
        origin = "built" if layer.origin == "built" else f"from the {layer.origin.replace('previous', 'previous pack')}"
        print(one_line(f"{layer.record.file}  {size(layer.record.bytes)}  {origin}"))
    count = f"{len(layers)} layer{'s' * (len(layers) != 1)}"
    print(f"built {len(built)} of {count}, {size(sum(built))}; {len(reused)} taken, {size(sum(reused))}")
    if arguments.cache:
        new, old = size(shown["cache_new_bytes"]), size(shown["cache_reused_bytes"])
        print(f"package cache: {new} new, {old} reused")
    _hint(arguments, packed)


def _hint(arguments: argparse.Namespace, packed: "Packed") -> None:
    """Say on a terminal what can be done with the layers."""
    if not sys.stdout.isatty():
        return
    if arguments.format == "xar":
        top = packed.layers[-1].record.file
        path = os.fsdecode(packed.top) if arguments.output is not None else f"$(layerfs cache path {top})"
        print(one_line(f"mount them: layerfs mount {path} MOUNTPOINT"))
    elif arguments.format == "oci":
        print(one_line(f"take the image in: layerfs image import {arguments.output}"))
