"""Blobs by digest: whole or not there, once, resumable, kept while somebody holds them."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound
from layerfs.store.content import Content
from layerfs.store.eviction import sweep
from tests.store.caches import killed_at

DATA = b"layer" * 50_000


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def content(scratch: Path) -> Iterator[Content]:
    (scratch / "content").mkdir(0o700)
    yield Content(os.fsencode(scratch / "content"))


def take(content: Content, data: bytes, name: str | None = None) -> str:
    with content.ingest(name) as taking:
        taking.write(data)
        blob, held = taking.commit()
    os.close(held)
    return blob.digest


def read(content: Content, name: str) -> bytes:
    with open(content.open(name), "rb") as file:
        return file.read()


def incoming(content: Content) -> list[bytes]:
    return content.cache.names(b"incoming")


@pytest.mark.parametrize("known", [True, False])
def test_blob_is_there_once_and_can_be_read(content: Content, known: bool) -> None:
    assert take(content, DATA, digest(DATA) if known else None) == digest(DATA)
    blob = content.get(digest(DATA))
    assert blob is not None
    assert (blob.size, oct(os.stat(blob.path).st_mode & 0o777)) == (len(DATA), "0o444")
    assert read(content, digest(DATA)) == DATA
    assert take(content, DATA) == digest(DATA)
    with pytest.raises(AlreadyExists), content.ingest(digest(DATA)):
        pass
    assert [blob.digest for blob in content.all()] == [digest(DATA)]
    assert incoming(content) == []


def test_content_of_another_digest_or_size_is_refused_and_gone(content: Content) -> None:
    for name, size in ((digest(b"other"), None), (digest(DATA), 7), (None, 7)):
        with pytest.raises(Corrupt), content.ingest(name, size) as taking:
            taking.write(DATA)
            taking.commit()
        assert content.all() == []
        assert incoming(content) == []


def test_interrupted_ingest_goes_on_where_it_ended(content: Content) -> None:
    with content.ingest(digest(DATA), len(DATA)) as taking:
        taking.write(DATA[:1000])
    with content.ingest(digest(DATA), len(DATA)) as taking:
        assert taking.offset == 1000
        taking.restart()
        assert taking.offset == 0
        taking.write(DATA[:2000])
    with content.ingest(digest(DATA), len(DATA)) as taking:
        taking.write(memoryview(DATA)[taking.offset :])
        os.close(taking.commit().held)
    assert read(content, digest(DATA)) == DATA


def test_ingest_without_digest_leaves_nothing_when_it_is_given_up(content: Content) -> None:
    with content.ingest() as taking:
        taking.write(DATA)
    assert incoming(content) == []


def test_concurrent_ingests_of_one_content_store_it_once(content: Content) -> None:
    stored: list[str] = []

    def one(name: str | None) -> None:
        try:
            stored.append(take(content, DATA, name))
        except AlreadyExists:
            stored.append("there")

    threads = [threading.Thread(target=one, args=(name,)) for name in (digest(DATA), None) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(stored) <= {digest(DATA), "there"}
    assert len(content.all()) == 1
    assert incoming(content) == []


def test_adopted_file_is_copied_or_only_held(content: Content, scratch: Path) -> None:
    (scratch / "file").write_bytes(DATA)
    for name in (None, digest(DATA), None):
        blob, held = content.adopt(os.fsencode(scratch / "file"), name)
        os.close(held)
        assert blob.digest == digest(DATA)
    (scratch / "link").symlink_to("file")
    with pytest.raises(OSError):
        content.adopt(os.fsencode(scratch / "link"))


def test_what_is_held_or_wanted_is_not_collected(content: Content) -> None:
    first, second, third = (take(content, data) for data in (b"1", b"2", b"3"))
    held = content.hold(first).held
    swept = sweep(content.cache, 0, wanted={second.removeprefix("sha256:")})
    assert [blob.digest for blob in content.all()] == sorted([first, second])
    assert [entry.sha256 for entry in swept.evicted] == [third.removeprefix("sha256:")]
    assert not content.remove(first)
    os.close(held)
    assert content.remove(first)
    assert content.remove(first)


def test_what_is_not_there_or_no_digest_is_said_so(content: Content) -> None:
    for act in (content.open, content.hold):
        with pytest.raises(NotFound):
            act(digest(b"absent"))
    for name in ("", "sha256:", "md5:" + "0" * 64, "sha256:" + "A" * 64, "../" + digest(b"")):
        with pytest.raises(InvalidArgument):
            content.get(name)


@pytest.mark.parametrize("known", [True, False])
def test_killed_ingest_leaves_nothing_or_the_whole_blob(content: Content, known: bool) -> None:
    name = digest(DATA) if known else None
    step = 0
    while killed_at(step, lambda: take(content, DATA, name)):
        step += 1
        assert all(read(content, blob.digest) == DATA for blob in content.all())
        sweep(content.cache, 1 << 40)
        assert incoming(content) == []
        content.remove(digest(DATA))
    assert step > 10
    assert read(content, digest(DATA)) == DATA
