"""The cache of uncompressed blocks: each loaded once, bounded in bytes, safe to ask from any thread."""

import threading

import pytest

from layerfs.pysquashfs.blockcache import BlockCache
from tests.waiting import PATIENCE


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE), "waited in vain"


def test_a_block_is_loaded_once_however_many_threads_ask() -> None:
    cache, begun, go = BlockCache(), threading.Event(), threading.Event()
    loads, found = [], []

    def load() -> bytes:
        loads.append(threading.get_ident())
        begun.set()
        wait_for(go)
        return b"block"

    threads = [threading.Thread(target=lambda: found.append(cache.take((0, 0, 9), load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_for(begun)
    go.set()
    for thread in threads:
        thread.join()
    assert found == [b"block"] * 8 and len(loads) == 1


def test_the_bound_is_in_bytes_and_the_least_recently_used_goes_first() -> None:
    cache = BlockCache(limit=30)
    for number in range(3):
        cache.take((0, number, 9), lambda: bytes(10))
    assert cache.peek((0, 0, 9)) is not None  # used last now
    cache.take((0, 3, 9), lambda: bytes(10))
    assert cache.peek((0, 1, 9)) is None
    assert [cache.peek((0, number, 9)) is not None for number in (0, 2, 3)] == [True] * 3
    assert cache.size == 30


def test_one_block_above_the_bound_is_still_served() -> None:
    cache = BlockCache(limit=5)
    assert cache.take((0, 0, 9), lambda: bytes(10)) == bytes(10)
    assert cache.take((0, 1, 9), lambda: bytes(10)) == bytes(10)
    assert cache.size == 10


def test_a_failure_reaches_whoever_asks_and_is_not_kept() -> None:
    cache = BlockCache()

    def fail() -> bytes:
        raise OSError(5, "corrupt")

    with pytest.raises(OSError, match="corrupt"):
        cache.take((0, 0, 9), fail)
    assert cache.take((0, 0, 9), lambda: b"well") == b"well"


def test_what_is_prefetched_is_there_without_being_asked_for() -> None:
    cache, loaded = BlockCache(), threading.Event()

    def load() -> bytes:
        loaded.set()
        return b"ahead"

    cache.prefetch([((0, 0, 9), load)])
    wait_for(loaded)
    assert cache.take((0, 0, 9), lambda: b"asked for") == b"ahead"


def test_a_prefetched_failure_harms_nobody_and_is_told_to_who_asks() -> None:
    cache, tried = BlockCache(), threading.Event()

    def fail() -> bytes:
        tried.set()
        raise OSError(5, "corrupt")

    cache.prefetch([((0, 0, 9), fail)])
    wait_for(tried)
    cache.prefetch([((0, 1, 9), lambda: b"next")])
    assert cache.take((0, 1, 9), lambda: b"next") == b"next"
    with pytest.raises(OSError, match="corrupt"):
        cache.take((0, 0, 9), fail)


def test_forgetting_an_image_waits_for_what_is_being_loaded_and_spares_the_others() -> None:
    cache, begun, go = BlockCache(), threading.Event(), threading.Event()

    def load() -> bytes:
        begun.set()
        wait_for(go)
        return b"late"

    cache.take((1, 0, 9), lambda: b"other")
    cache.prefetch([((0, 0, 9), load)])
    wait_for(begun)
    forgetting = threading.Thread(target=cache.forget, args=(0,))
    forgetting.start()
    forgetting.join(0.05)
    assert forgetting.is_alive()
    go.set()
    forgetting.join(PATIENCE)
    assert cache.peek((0, 0, 9)) is None and cache.peek((1, 0, 9)) == b"other" and cache.size == len(b"other")
