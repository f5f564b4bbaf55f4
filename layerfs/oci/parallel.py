"""Blobs handled side by side: a few threads, the largest blob first, the first error ends all of it."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from layerfs.oci.digest import Digest
from layerfs.oci.documents import Descriptor

WORKERS: Final = 3  # blobs at once

Progress = Callable[[str, Digest, int, int], None]  # what is done, to which blob, bytes so far, bytes in all


def silent(word: str, digest: Digest, done: int, total: int) -> None:
    """Tell nobody."""


def for_each_blob(blobs: Iterable[Descriptor], work: Callable[[Descriptor], None]) -> None:
    """Call `work` once for each digest, in threads, and return when all calls have ended.

    Raises what a call raised, after the calls that had begun have ended; the others are not begun.
    """
    unique = {blob.digest: blob for blob in blobs}.values()
    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = [pool.submit(work, each) for each in sorted(unique, key=lambda each: -each.size)]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
