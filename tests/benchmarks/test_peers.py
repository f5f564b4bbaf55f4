"""`make peers` where no toolchain is."""

import shutil
from pathlib import Path

import pytest

from benchmarks import peers


def test_peers_without_a_toolchain_are_named_and_nothing_fails(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "HOME", scratch / ".peers")
    monkeypatch.setattr(Path, "home", lambda: scratch)
    monkeypatch.setattr(shutil, "which", lambda *words, **rest: None)
    assert peers.main() == 0
    assert "no cargo here" in capsys.readouterr().out


def test_a_peer_that_cargo_built_before_is_taken(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = scratch / ".cargo/bin/fuse-overlayfs"
    built.parent.mkdir(parents=True)
    built.write_text("#!/bin/sh\n")
    monkeypatch.setattr(peers, "HOME", scratch / ".peers")
    monkeypatch.setattr(Path, "home", lambda: scratch)
    assert peers.main() == 0
    assert (scratch / ".peers/bin/fuse-overlayfs").read_text() == "#!/bin/sh\n"
    assert "copied from" in capsys.readouterr().out
