"""Blocked signals, read from a descriptor."""

import os
import signal

from layerfs.sys import signals


def test_a_blocked_signal_is_read_once_and_does_nothing_else() -> None:
    numbers = {signal.SIGUSR1, signal.SIGRTMAX}
    former = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    fd = signals.open_signals(numbers)
    try:
        assert not signals.take(fd)
        for number in numbers:
            signal.raise_signal(number)
            assert signals.take(fd)
            assert not signals.take(fd)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
