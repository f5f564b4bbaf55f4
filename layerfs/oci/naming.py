"""Which names the images of a source get in a store."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

from layerfs.errors import InvalidArgument
from layerfs.oci.documents import Descriptor
from layerfs.oci.reference import parse_reference
from layerfs.oci.sources import SourceImage


def name_roots(
    roots: Sequence[SourceImage], path: bytes, wanted: str | None
) -> Iterator[tuple[tuple[str, ...], Descriptor]]:
    """Yield the images to take with their names. Raises InvalidArgument where it is not clear what is meant.

    wanted: one of the source's own names, or a new one if the source has one image only. An image that says only a tag
    is called by its file; one that says nothing, by its digest.
    """
    if not roots:
        raise InvalidArgument(f"{os.fsdecode(path)} holds no image")
    twice = [name for name, count in Counter(name for root in roots for name in root.names).items() if count > 1]
    if wanted is not None:
        yield _one(roots, path, wanted, twice), _top(roots, wanted)
        return
    if twice:
        raise InvalidArgument(f"{os.fsdecode(path)} has several images called {twice[0]}", "have it made anew")
    for root in roots:
        yield _full(root.names, path), root.top


def _one(roots: Sequence[SourceImage], path: bytes, wanted: str, twice: list[str]) -> tuple[str, ...]:
    if wanted in twice:
        raise InvalidArgument(f"{os.fsdecode(path)} has several images called {wanted}")
    return (str(parse_reference(wanted)),)


def _top(roots: Sequence[SourceImage], wanted: str) -> Descriptor:
    for root in roots:
        if wanted in root.names:
            return root.top
    if len(roots) > 1:
        said = ", ".join(name for root in roots for name in root.names)
        raise InvalidArgument(
            f"there are several images, and none is called {wanted}", f"they are {said}" if said else ""
        )
    return roots[0].top


def _full(names: Sequence[str], path: bytes) -> tuple[str, ...]:
    found = []
    for name in names:
        with suppress(InvalidArgument):
            if ":" in name or "/" in name:
                found.append(str(parse_reference(name)))
    if not found and names and path != b"-":
        base = os.path.basename(os.path.abspath(path)).decode("utf-8", "replace").partition(".")[0].lower()
        with suppress(InvalidArgument):
            found.append(str(parse_reference(f"{base}:{names[0]}")))
    return tuple(dict.fromkeys(found))
