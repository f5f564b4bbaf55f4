"""`layerfs xar verify`: whether packages are whole."""

import argparse
import os
import sys

from layerfs.cli.screen import bar, size
from layerfs.cli.xar import add_offset
from layerfs.errors import LayerfsError
from layerfs.sys.terminal import one_line
from layerfs.xar.verify import Findings, verify


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "verify",
        help="look for damage in XARs and squashfs images",
        description="Read the header strictly, then every directory, inode and xattr, and uncompress every data block. "
        "Exit status 1 if anything is wrong. What only one of the reference readers accepts is a warning.",
    )
    parser.add_argument("paths", nargs="+", metavar="FILE")
    add_offset(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify each file and say OK or what is wrong where."""
    return max([_one(path, arguments.offset) for path in arguments.paths])


def _one(path: str, offset: int) -> int:
    try:
        with bar(f"verifying {path}") as progress:
            report = verify(os.fsencode(path), progress, offset)
    except LayerfsError as error:
        print(f"layerfs: {one_line(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"layerfs: {one_line(f'{path}: {error.strerror or error}')}", file=sys.stderr)
        return 1
    return _say(path, report)


def _say(path: str, report: Findings) -> int:
    for remark in report.remarks:
        said = f"{path}: warning: line {remark.line}: {remark.refuser.value} refuses it: {remark.said}"
        print(one_line(said), file=sys.stderr)
    for warning in report.warnings:
        print(one_line(f"{path}: warning: {warning}"), file=sys.stderr)
    for flaw in report.flaws:
        print(f"layerfs: {one_line(f'{path}: {flaw}')}", file=sys.stderr)
    if not report.flaws:
        what = f"{report.inodes} inodes, {report.blocks} blocks, {size(report.size)} of data"
        print(one_line(f"{path}: OK ({what})"))
    return int(bool(report.flaws))
