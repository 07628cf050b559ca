"""Tests of ``conformergen.runtime.signals``."""

import os
import signal

from conformergen.runtime.signals import StopSignals


def test_signals_become_requests_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGUSR1)
    with StopSignals() as signals:
        assert not signals.request()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.request()
        assert not signals.request()
    assert signal.getsignal(signal.SIGUSR1) is before
