# SPDX-License-Identifier: BSD-3-Clause
"""A switch that is killed again and again, or ended, under the traffic of Linux guests, which go on without a reset.

QEMU keeps no in-flight region for network devices, and says a stale base of a packed ring: what the next switch must know is in
its own state files. The number of ends of each case is SLUICE_KILLS (default 3), every third in order; the figures are printed (pytest -s).
"""

import os
import random
import time

import pytest
from guest import Guest, Nic
from sluice import Sluice

KILLS = int(os.environ.get("SLUICE_KILLS", 3))
RESUME_S = 5  # of emulated guests on a busy machine; the figure that is printed says what it was
RINGS = ("packed", "split")
ADDRESSES = ("10.0.0.1", "10.0.0.2")


class Pair:
    """A guest with packed rings, one with split rings, and the switch between them, which connects to their QEMUs."""

    def __init__(self, folder, states):
        self.paths = [folder / f"{ring}.sock" for ring in RINGS]
        self.switch = Sluice(folder, options=["--state-dir", states])
        self.guests = [Guest(ring, [Nic(str(path), server=True, address=f"{address}/24", props={"packed": ring == "packed"})],
                             directory=folder / ring) for ring, path, address in zip(RINGS, self.paths, ADDRESSES)]

    def start_switch(self, options=""):
        self.switch.commands = [f"port add vm{n} connect {path}{options}" for n, path in enumerate(self.paths, 1)]
        self.switch.start()

    def counters(self):
        return [self.switch.json(f"port show {port}")["counters"][f"{way}_packets"]
                for port in ("vm1", "vm2") for way in ("rx", "tx")]

    def wait_traffic(self, more=3, timeout=20):
        """Seconds until both guests have sent and got some, from when both are connected."""
        for port in ("vm1", "vm2"):
            self.switch.wait_link(port)
        start = time.monotonic()
        before = self.counters()
        self.switch.wait_until(lambda: all(now >= then + more for now, then in zip(self.counters(), before)), "traffic", timeout)
        return time.monotonic() - start

    def load(self):
        """Large and small packets both ways, as fast as an emulated guest will."""
        for vm, peer in zip(self.guests, reversed(ADDRESSES)):
            vm.check("ip link set eth0 mtu 9000")
            vm.popen(f"ping -q -i 0.01 -s 6000 {peer}")
            vm.popen(f"ping -q -i 0.01 {peer}")

    def idle(self):
        for vm in self.guests:
            vm.run("killall ping")

    def posted(self):
        """Receive buffers each guest keeps posted when nothing moves."""
        return [self.switch.json(f"port show {port}")["rings"][0]["fill"] for port in ("vm1", "vm2")]


@pytest.fixture(scope="module")
def pair(folder, states):
    two = Pair(folder, states)
    try:
        two.start_switch()
        for vm in two.guests:
            vm.start()
        for vm in two.guests:
            vm.wait_ready(90)
        yield two
    finally:
        for vm in two.guests:
            vm.stop()
        two.switch.close()
        for path in two.paths:
            path.unlink(missing_ok=True)


def settled(read):
    """What read() says twice in a row."""
    last = None
    while (now := read()) != last:
        last = now
        time.sleep(0.3)
    return now


@pytest.mark.parametrize("copies", ["", " copy"], ids=["zero-copy", "copying"])
def test_guests_go_on(pair, copies):
    boots = [vm.check("cat /proc/sys/kernel/random/boot_id") for vm in pair.guests]
    pair.wait_traffic(0)
    pair.load()
    took = []
    try:
        pair.wait_traffic()
        for n in range(KILLS):
            time.sleep(random.uniform(0, 0.3))
            if n % 3 == 2:
                pair.switch.stop()
            else:
                pair.switch.kill()
            pair.start_switch(copies)
            took.append(pair.wait_traffic())
    finally:
        pair.idle()
    longest, late = max(took), sum(t > 1 for t in took)
    print(f"\n{KILLS} ends{copies}: both ways again after {longest:.2f} s at most, "
          f"{late} times after more than 1 s")
    assert longest < RESUME_S
    # A guest posts new buffers once 32 of its 256 are used up; lost ones would add up.
    assert min(settled(pair.posted)) > 256 - 64, "receive buffers were lost"
    for vm, boot in zip(pair.guests, boots):
        said = vm.check("dmesg")
        assert vm.check("cat /proc/sys/kernel/random/boot_id") == boot
        for trouble in ("is not a head", "NETDEV WATCHDOG", "bad gso", "BUG", "timed out"):
            assert trouble not in said, said[-2000:]
