"""Signals that tell a server to end: all that would kill it."""

import signal

import pytest

from layerfs.fuse.config import ending_signals

NOT = {"KILL", "STOP", "CHLD", "CONT", "URG", "WINCH", "TSTP", "TTIN", "TTOU", "PIPE", "XFSZ"}
FAULTS = {"ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "SYS"}


def test_every_signal_that_kills_is_an_order_to_end() -> None:
    named = {number.name.removeprefix("SIG") for number in signal.Signals} & {
        signal.Signals(number).name.removeprefix("SIG") for number in ending_signals() if number < signal.SIGRTMIN
    }
    assert {"HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "VTALRM", "PROF"} <= named
    assert not named & (NOT | FAULTS)
    assert {signal.SIGRTMIN, signal.SIGRTMAX} <= ending_signals()


@pytest.mark.parametrize(("number", "kept"), [(signal.SIGHUP, False), (signal.SIGINT, True)])
def test_under_nohup_the_terminal_may_close(number: signal.Signals, kept: bool) -> None:
    former = signal.signal(number, signal.SIG_IGN)
    try:
        assert (number in ending_signals()) is kept
    finally:
        signal.signal(number, former)
