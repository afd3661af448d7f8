# SPDX-License-Identifier: BSD-3-Clause
"""A front-end that takes its memory away: its ports are parked and say why, its neighbours lose nothing."""

import os
import signal

import pytest
from loop import Loop, front
from sluice import Sluice, crossed

PARKED = "all rings are parked: guest memory has vanished"


@pytest.fixture
def switch(folder):
    names = ["good0", "good1", "bad0", "bad1"]
    with Sluice(folder, commands=crossed({name: folder / name for name in names})) as running:
        yield running


@pytest.mark.parametrize("stopped", [True, False], ids=["all_at_once", "while_it_sends"])
def test_neighbours_lose_nothing(folder, switch, stopped):
    """A process that is stopped sees what becomes of its ports; one that runs dies of the same."""
    with front(folder / "good0", folder / "good1") as good:
        loop = Loop(switch, good, "good0", "good1")
        with front(folder / "bad0", folder / "bad1") as bad:
            Loop(switch, bad, "bad0", "bad1")
            if stopped:
                bad.process.send_signal(signal.SIGSTOP)
                os.waitpid(bad.process.pid, os.WUNTRACED)  # all its threads, else one of them dies of it
            bad.truncate()
            for port in "bad0", "bad1":
                switch.wait_link(port, "down")
                if stopped:
                    shown = switch.json(f"port show {port}")
                    assert "memory the VM shares has vanished" in shown["trouble"]
            switch.wait_until(lambda: PARKED in switch.log or not stopped, "line in the log")
            loop.moving()
            bad.kill()
        for port in 2, 3:
            switch.run(f"clear port stats {port}")
        with front(folder / "bad0", folder / "bad1") as again:
            assert sum(Loop(switch, again, "bad0", "bad1").stop()) > 0
        loop.moving()
        assert sum(loop.stop()) > 0
