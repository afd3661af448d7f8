# SPDX-License-Identifier: BSD-3-Clause
"""Row P9 of the fault matrix: a VM that sends what nobody should, as fast as it can.

Source addresses without end, VLAN tags without end, frames too short and too long, and broadcast. `SLUICE_ALL=1 pytest -s`
sends more of them, and prints how many came.
"""

import signal
import subprocess
from pathlib import Path

import pytest
from loop import Loop, front, lost
from machine import echo_guest
from sluice import ALL, Sluice

LIMIT = 8192  # addresses a port may have learnt, unless told otherwise
# What is sent: how many in the long form, and every day, and their lengths.
FLOODS = {
    "sources": ("m", 10_000_000, 30_000, "60-60"),
    "VLAN tags": ("v", 300_000, 10_000, "15-80"),
    "runts": ("r", 300_000, 10_000, "1-63"),
    "long frames": ("r", 10_000, 1_000, "65549-65549"),
}


@pytest.fixture(scope="module")
def switch(folder):
    """A bridge of two neighbours who know each other's address, a VM that floods, and a port to which it does."""
    ports = [f"port add {name} listen {folder}/{name}" for name in ("near1", "near2", "bad", "sink")]
    with Sluice(folder, commands=[*ports, "fdb static add 02:00:00:00:00:77 sink", "fdb set ageing 0"]) as running:
        yield running


class Flood:
    """An echo_guest at port bad."""

    def __init__(self, switch, folder, kind, frames, lengths):
        self.switch, self.frames = switch, frames
        switch.run("clear port stats all")
        self.process = subprocess.Popen([echo_guest(), folder / "bad", f"flood={kind}", f"send={frames},{lengths}"],
                                        stdout=subprocess.DEVNULL)

    def came(self):
        """Frames of its, those that were dropped as they came included."""
        shown = self.switch.json("port show bad")
        return shown["counters"]["rx_packets"] + sum(d["packets"] for d in shown["drops"] if d["reason"].startswith("rx_"))

    def __enter__(self):
        self.switch.wait_link("bad")
        return self

    def __exit__(self, *error):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.switch.wait_link("bad", "down")


def rss(switch):
    for line in Path(f"/proc/{switch.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "sources" else pytest.mark.long) for name in FLOODS])
def test_neighbours_hold(folder, switch, name):
    """They lose nothing, the table does not grow beyond what one port may have, and others still find a place in it."""
    kind, many, few, lengths = FLOODS[name]
    frames = many if ALL else few
    with front(folder / "near1", folder / "near2") as pmd:
        for n in (0, 1):
            pmd.command(f"set eth-peer {n} 02:00:00:00:01:{1 - n:02x}")
        # Each has to be known before anything is flooded.
        switch.run("fdb static add 02:00:00:00:01:00 near1")
        switch.run("fdb static add 02:00:00:00:01:01 near2")
        with Flood(switch, folder, kind, frames, lengths) as flood:
            loop = Loop(switch, pmd, "near1", "near2")
            before = rss(switch)
            while flood.came() < frames:
                loop.moving()
            stats = switch.json("fdb stats")
            bad = next(row for row in stats["ports"] if row["port"] == "bad")
            print(f"P9 {name}: {flood.came()} frames; addresses learnt {bad['learnt']}, refused {bad['refused']}")
            assert flood.came() == frames
            assert bad["learnt"] <= LIMIT and stats["learnt_now"] <= LIMIT + 2
            if name == "sources":
                assert bad["learnt"] == LIMIT and bad["refused"] >= frames - LIMIT - 300
            assert rss(switch) < before + 16384
        assert min(loop.stop()) > 1000
    assert lost(switch, "near1", "near2") == {}
    for n in (0, 1):
        switch.run(f"fdb static del 02:00:00:00:01:0{n}")


@pytest.mark.long
def test_they_age(switch, folder):
    """What nobody sends any more is forgotten, and the next flood is taken up to the limit of its port."""
    switch.run("fdb set limit bad 100")
    switch.run("fdb flush")
    with Flood(switch, folder, "m", 5000, "60-60") as flood:
        switch.wait_until(lambda: flood.came() == 5000, "every frame", 30)
        assert switch.json("fdb stats")["learnt_now"] == 100
        switch.run("fdb set ageing 1")
        switch.wait_until(lambda: switch.json("fdb stats")["learnt_now"] == 0, "oblivion", 60)
    switch.run("fdb set ageing 0")
    switch.run("fdb set limit bad 8192")


@pytest.mark.long
def test_broadcast(folder, switch):
    """All ports get it, and none of them waits for another: commands are answered meanwhile, and nothing is left after it."""
    frames = 1_000_000 if ALL else 50_000
    with Flood(switch, folder, "b", frames, "60-60") as flood:
        while flood.came() < frames:
            switch.run("port show")
            switch.run("port add more listen " + str(folder / "more"))
            switch.run("port del more")
        assert flood.came() == frames
    with front(folder / "near1", folder / "near2") as pmd:
        for n in (0, 1):
            pmd.command(f"set eth-peer {n} 02:00:00:00:01:{1 - n:02x}")
            switch.run(f"fdb static add 02:00:00:00:01:0{n} near{n + 1}")
        switch.run("clear port stats all")
        assert min(Loop(switch, pmd, "near1", "near2").stop()) > 1000
    assert lost(switch, "near1", "near2") == {}
