# SPDX-License-Identifier: BSD-3-Clause
"""Two neighbours on one lcore with three guests that are as dear to it as they can: they lose nothing, and get their part.

Windows of each kind of attack take turns with windows in which the three are idle, and honest: they send each other full Ethernet frames
as fast as they can. SLUICE_WINDOWS is how many there are of each (default 12), and has them once more without shares; the figures are
printed (pytest -s).
"""

import itertools
import json
import os
import subprocess

import pytest
from loop import lost
from sluice import Sluice, binary

WINDOWS = int(os.environ.get("SLUICE_WINDOWS", 12))
WINDOW_MS = 20
SHARE = 50  # what it is at first
SHARES = [SHARE, 0] if "SLUICE_WINDOWS" in os.environ else [SHARE]
NEIGHBOURS, OTHERS = ("a", "b"), ("x1", "x2", "x3")
ATTACKS = {
    "pieces": "frames in 100 descriptors of a byte each",
    "empty": "chains of 128 empty descriptors, which are dropped",
    "large": "frames of 60000 bytes that have to be cut into 112",
    "tiny": "full frames, to one whose receive buffers are of 8 descriptors of 8 bytes",
}
KINDS = {"idle": "nothing", "honest": "full frames, to each other", **ATTACKS}


class ShareGuest:
    """share_guest.c on these ports of a switch."""

    def __init__(self, folder, *ports):
        argv = [binary().parents[2] / "test/support/share_guest", *(folder / port for port in ports)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "up\n"
        return self

    def window(self, kind, ms):
        """What the neighbours saw while the others did this for so long."""
        self.process.stdin.write(f"{kind} {ms}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def switch(folder):
    with Sluice(folder, commands=[f"port add {port} listen {folder}/{port}" for port in NEIGHBOURS + OTHERS]) as running:
        yield running


def left_out(switch):
    return sum(switch.json(f"port show {port}")["counters"]["left_out_polls"] for port in OTHERS)


def report(seen):
    """Of each kind the best window: what disturbs this machine besides is not the switch's doing."""
    print(f"\nof {WINDOWS} windows of {WINDOW_MS} ms each the best")
    print("| the others send | `set share` | circles/s | p50 us | p99 us | lost | put off |")
    for (kind, share), windows in seen.items():
        best = max(windows, key=lambda window: window["per_second"])
        print(f"| {KINDS[kind]} | {share} | {best['per_second']:.0f} | {best['p50']:.0f} | {best['p99']:.0f} "
              f"| {sum(window['lost'] for window in windows)} | {sum(window['put_off'] for window in windows)} |")


def test_neighbours_under_attack(folder, switch):
    """Where there are no shares no packet is lost, either, but nothing is said of the part they get."""
    seen = {(kind, share): [] for kind in KINDS for share in SHARES}
    with ShareGuest(folder, *NEIGHBOURS, *OTHERS) as guests:
        for _, (kind, share) in itertools.product(range(WINDOWS), seen):
            switch.run(f"set share {share}")
            before = left_out(switch)
            window = guests.window(kind, WINDOW_MS)
            seen[kind, share].append({**window, "put_off": left_out(switch) - before})
        states = [row["state"] for port in NEIGHBOURS + OTHERS for row in switch.json(f"port show {port}")["rings"]]
    report(seen)
    for kind, windows in seen.items():
        assert [window["lost"] for window in windows] == [0] * WINDOWS, kind
        assert [window["faults"] for window in windows] == [0] * WINDOWS, kind
    assert lost(switch, *NEIGHBOURS) == {}
    assert states == ["running"] * 10
    best = {kind: max(window["per_second"] for window in windows) for kind, windows in seen.items()}
    for kind in ATTACKS:
        assert sum(window["put_off"] for window in seen[kind, SHARE]) > 0, kind
        # One packet can be a tenth of a millisecond's work, and nobody takes less than one; the rest is this machine's.
        assert best[kind, SHARE] > best["honest", SHARE] / 10, (kind, best)
