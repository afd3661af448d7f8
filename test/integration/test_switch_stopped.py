# SPDX-License-Identifier: BSD-3-Clause
"""Row P2 of the fault matrix: somebody stands still, as in a debugger. (A worker alone: test_switch_late.py.)"""

import os
import re
import signal
import subprocess
import time

import pytest
from loop import Loop, front, lost
from sluice import ALL, TOP, Sluice, SluiceError, crossed

STOPPED_S = 10 if ALL else 2


@pytest.fixture
def switch(folder):
    names = ["near1", "near2", "far1", "far2"]
    with Sluice(folder, commands=crossed({name: folder / name for name in names})) as running:
        yield running


def ctl(switch, command, timeout):
    return subprocess.run([TOP / "usertools/sluicectl", "-s", switch.control, "-t", str(timeout), *command.split()],
                          capture_output=True, text=True, timeout=timeout + 10, check=False)


def test_the_switch(folder, switch):
    """Who asks it is told that there is no answer; when it goes on, so does every packet, and no connection has ended."""
    with front(folder / "near1", folder / "near2") as pmd:
        loop = Loop(switch, pmd, "near1", "near2")
        os.kill(switch.pid, signal.SIGSTOP)
        try:
            end = time.monotonic() + STOPPED_S
            asked = ctl(switch, "port show", 1)
            assert asked.returncode != 0 and re.fullmatch(
                rf"sluicectl: no answer from {switch.control} within 1 s .*\n", asked.stderr), asked
            time.sleep(max(0, end - time.monotonic()))
        finally:
            os.kill(switch.pid, signal.SIGCONT)
        assert ctl(switch, "port show", 20).returncode == 0
        loop.moving()
        assert [switch.json(f"port show {port}")["connections"] for port in ("near1", "near2")] == [1, 1]
        assert min(loop.stop()) > 1000
    assert lost(switch, "near1", "near2") == {}


@pytest.mark.long
@pytest.mark.parametrize("end", ["goes on", "port deleted", "killed"])
def test_a_front_end(folder, switch, end):
    """It is not waited for, and its neighbours lose nothing; it goes on where it was, or its port goes without it."""
    with front(folder / "near1", folder / "near2") as pmd, front(folder / "far1", folder / "far2") as bad:
        loop = Loop(switch, pmd, "near1", "near2")
        far = Loop(switch, bad, "far1", "far2")
        bad.process.send_signal(signal.SIGSTOP)
        try:
            until = time.monotonic() + (STOPPED_S if end == "goes on" else 0.5)
            while time.monotonic() < until:
                loop.moving()
                assert ctl(switch, "port show far1", 20).returncode == 0
            if end == "port deleted":
                switch.run("port del far1")
                with pytest.raises(SluiceError, match="there is no port 'far1'"):
                    switch.run("port show far1")
            if end == "killed":
                bad.process.kill()
        finally:
            bad.process.send_signal(signal.SIGCONT)
        if end == "goes on":
            far.moving()
            assert min(far.stop()) > 1000
        if end == "killed":
            switch.wait_link("far1", "down")
            bad.kill()
        loop.moving()
        assert min(loop.stop()) > 1000
    assert lost(switch, "near1", "near2") == {}
