# SPDX-License-Identifier: BSD-3-Clause
"""Row P7 of the fault matrix: a clock that jumps, and a single CPU. (A machine's own clock and CPUs: test_switch_machine.py.)"""

import os
import socket
import time

import pytest
from loop import Loop, front, lost
from machine import build_folder
from testpmd import cpus

from sluice import ALL, Sluice


def two_ports(folder, name):
    paths = [folder / f"{name}{n}" for n in (1, 2)]
    return [f"port add vm{n} listen {path}" for n, path in enumerate(paths, 1)], paths


def patience(folder, switch):
    """Whoever is silent in the midst of a message is waited for as long as ever, and no longer."""
    with socket.socket(socket.AF_UNIX) as late:
        switch.run(f"port add late listen {folder}/late")
        late.connect(str(folder / "late"))
        late.sendall(b"\1")
        began = time.monotonic()
        switch.wait_until(lambda: "connection ended: a message stayed incomplete" in switch.log, "an end", 60)
        assert time.monotonic() - began > 1


def test_clock_jumps(folder):
    """The time of day is another one at each reading: no timer goes by it, and no address ages by it."""
    plugin = build_folder() / "test/support/jumpclock.so"
    assert plugin.exists(), f"{plugin} is missing: build first"
    ports, paths = two_ports(folder, "clock")
    switch = Sluice(folder, ["--stats-period", "1"], commands=ports)
    switch.env = {"LD_PRELOAD": str(plugin)}
    with switch, front(*paths) as pmd:
        for n in (0, 1):
            pmd.command(f"set eth-peer {n} 02:00:00:00:01:{1 - n:02x}")
        loop = Loop(switch, pmd, "vm1", "vm2")
        if ALL:
            patience(folder, switch)
        loop.moving()
        learnt = [row for row in switch.json("fdb show") if row["kind"] == "learnt"]
        assert len(learnt) == 2 and max(row["age"] for row in learnt) < 60
        assert switch.json("fdb stats")["aged"] == 0
        switch.wait_until(lambda: "Port statistics =" in switch.log, "statistics of each second")
        assert min(loop.stop()) > 1000
        assert lost(switch, "vm1", "vm2") == {}


@pytest.mark.long
def test_one_cpu(folder):
    """All threads share it, those of the front-end as well; whoever polls does not keep the others from their turn."""
    cpu = cpus()[0]
    ports, paths = two_ports(folder, "cpu")
    eal = [f"--lcores=0@{cpu},1@{cpu},2@{cpu}", "--no-pci", "--in-memory", "-m", "256", f"--file-prefix=sl{os.getpid()}_cpu"]
    switch = Sluice(folder, commands=[*ports, "cross add vm1 vm2", "set fwd cross"], eal=eal)
    switch.preexec = lambda: os.sched_setaffinity(0, {cpu})
    with switch, front(*paths) as pmd:
        os.sched_setaffinity(pmd.process.pid, {cpu})
        loop = Loop(switch, pmd, "vm1", "vm2")
        for n in range(5):
            switch.run(f"port add more{n} listen {folder}/more{n}")
            switch.run(f"port del more{n}")
        assert min(loop.stop()) > 1000
        assert lost(switch, "vm1", "vm2") == {}
