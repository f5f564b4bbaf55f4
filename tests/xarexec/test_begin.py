"""The beginning of a shared mount: who is asked, with what, and what becomes of answers."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from layerfs.mounts.standby_client import BROKEN
from layerfs.sys.locks import lock_file
from layerfs.xarexec import SERVER, begin, serve
from layerfs.xarexec.begin import Maker, mount_anew
from layerfs.xarexec.home import LOCK, make_mountpoint
from layerfs.xarexec.xarfile import examine, mountpoint_of

TIMEOUT = 12.5


class Scene:
    """A XAR, and what was asked and done to have it mounted."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = file
        self.answer: int | None = None
        self.mounts = True
        self.asked: list[list[bytes]] = []
        self.done: list[tuple[bytes, ...]] = []
        monkeypatch.setattr(begin, "ask", self.ask)
        monkeypatch.setattr(serve, "mount_here", self.mount_here)

    def ask(self, words: Sequence[bytes], streams: Sequence[int]) -> int | None:
        self.asked.append(list(words))
        targets = [os.readlink(f"/proc/self/fd/{stream}") for stream in streams]
        assert targets == [os.fsdecode(words[1] + LOCK), os.devnull, os.devnull]
        if self.answer == 0:
            make_mountpoint(words[1])
        return self.answer

    def mount_here(self, file: bytes, lowers: tuple[bytes, ...], path: bytes, timeout: float) -> bool:
        self.done.append((file, *lowers, b"%r" % timeout))
        make_mountpoint(path)
        return self.mounts

    def mount(self, file: Path | None = None) -> Maker | None:
        xar = examine(bytes(file or self.file))
        path = mountpoint_of(xar)
        lock = lock_file(path + LOCK)
        try:
            return mount_anew(bytes(file or self.file), xar, path, TIMEOUT, lock)
        finally:
            os.close(lock)

    @property
    def mountpoint(self) -> Path:
        return Path(os.fsdecode(mountpoint_of(examine(bytes(self.file)))))


@pytest.fixture
def scene(xar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(xar("a.xar"), monkeypatch)


def test_who_stands_by_is_asked_for_the_very_file(scene: Scene) -> None:
    scene.answer = 0
    assert scene.mount() is Maker.OTHER
    st = scene.file.stat()
    stamp = b"-".join(b"%x" % n for n in (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns))
    assert scene.asked == [[SERVER.encode(), bytes(scene.mountpoint), b"12.5", stamp, bytes(scene.file)]]
    assert scene.done == []
    assert scene.mountpoint.is_dir()


@pytest.mark.parametrize("answer", [None, 1, 2, BROKEN])
def test_without_an_answer_it_is_mounted_here(scene: Scene, answer: int | None) -> None:
    scene.answer = answer
    assert scene.mount() is Maker.OURSELVES
    assert scene.done == [(bytes(scene.file), bytes(scene.file), b"12.5")]


def test_what_leads_elsewhere_in_another_process_is_not_asked_for(scene: Scene) -> None:
    scene.answer = 0
    with open(scene.file) as file:
        assert scene.mount(Path(f"/proc/self/fd/{file.fileno()}")) is Maker.OURSELVES
    assert scene.asked == []


def test_a_mount_of_other_files_is_taken_away(scene: Scene) -> None:
    scene.mounts = False
    where = scene.mountpoint
    assert scene.mount() is None
    assert not where.exists() and not Path(f"{where}.lock").exists()


@pytest.mark.parametrize("answer", [0, None], ids=["asked", "alone"])
def test_a_file_that_changes_meanwhile_is_not_mounted(
    scene: Scene, answer: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = scene.mountpoint

    def change(*_words: object, **_: object) -> int | None:
        os.utime(scene.file, (1, 1))
        return answer

    monkeypatch.setattr(begin, "ask", change)
    assert scene.mount() is None
    assert not where.exists() and not Path(f"{where}.lock").exists()
