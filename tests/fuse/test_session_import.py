"""The import of the session: once, in a thread, and what it raises is raised where it is waited for."""

import os
import select
from pathlib import Path

import pytest

from layerfs.fuse import session_import
from layerfs.fuse.session_import import SessionImport


@pytest.fixture
def importing(tmp_path: Path) -> SessionImport:
    return SessionImport(os.fsencode(tmp_path))


def is_readable(fd: int, patience: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(patience))


def test_an_import_is_begun_once_and_its_end_is_told(importing: SessionImport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_import, "SERVER", "layerfs.fuse.wire")
    imported = importing.begin()
    assert importing.begin() == imported
    assert is_readable(imported, 20_000)
    importing.end()
    importing.reap()


def test_what_an_import_raises_is_raised_at_its_end(importing: SessionImport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_import, "SERVER", "layerfs.fuse.absent")
    with pytest.raises(ModuleNotFoundError):
        importing.end()
    importing.spare()
