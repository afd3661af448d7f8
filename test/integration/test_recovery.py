# SPDX-License-Identifier: BSD-3-Clause
"""A switch that is killed again and again, or ended, under the traffic of Linux guests, which go on without a reset.

QEMU keeps no in-flight region for network devices, and says a stale base of a packed ring: what the next switch must know is in
its own state files. The number of ends of each case is SLUICE_KILLS (default 3, with SLUICE_ALL=1 100), every third in order; the
figures are printed (pytest -s). So with either side of an upgrade.
"""

import collections
import contextlib
import os
import random
import time
from pathlib import Path

import pytest
from guest import Guest, Nic, together
from handover import Upgraded

KILLS = int(os.environ.get("SLUICE_KILLS", 100 if os.environ.get("SLUICE_ALL") == "1" else 3))
UPGRADE_S = 0.6  # longer than an upgrade takes
RESUME_S = 1  # less what the machine had no CPU for: see Waiting
BURST = 64  # VIRTQ_BURST
# ping's own count takes an answer for one that comes twice if the switch was gone for 1024 requests.
COUNT = r"""awk -F 'seq=' '/^PING/ { split("", seen) } NF > 1 { n++; at = $2 + 0; if (at in seen && n - seen[at] < 500) twice++; seen[at] = n }
            END { print n + 0, twice + 0 }'"""
RINGS = ("packed", "split")
ADDRESSES = ("10.0.0.1", "10.0.0.2")


class Waiting:
    """For how long these processes had something to do and got no CPU, all their threads together, since this was made.

    Traffic goes through each of them in turn, so what one waits for, all wait for; the switch's worker, which polls without a pause,
    waits as soon as anybody else has work on its CPU. To that comes what a hypervisor took from all of them (steal).
    """

    def __init__(self, *pids):
        self.pids, self.start = pids, {}
        self.start = self._read()

    def _read(self):
        now = {}
        for pid in self.pids:
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    now[path] = int(path.read_text().split()[1]) / 1e9
                except OSError:  # a thread that has ended
                    continue
        stolen = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])
        return {**now, "steal": stolen / os.sysconf("SC_CLK_TCK")}

    def seconds(self):
        return sum(value - self.start.get(what, 0) for what, value in self._read().items())


class Pair:
    """A guest with packed rings, one with split rings, and the switch between them, which connects to their QEMUs."""

    def __init__(self, folder, states):
        self.paths = [folder / f"{ring}.sock" for ring in RINGS]
        self.switch = Upgraded(folder, options=["--state-dir", states])
        self.guests = [Guest(ring, [Nic(str(path), server=True, address=f"{address}/24", props={"packed": ring == "packed"})],
                             directory=folder / ring) for ring, path, address in zip(RINGS, self.paths, ADDRESSES)]

    def start_switch(self, options=""):
        self.switch.commands = [f"port add vm{n} connect {path}{options}" for n, path in enumerate(self.paths, 1)]
        self.switch.start()

    def counters(self):
        return [self.switch.json(f"port show {port}")["counters"][f"{way}_packets"]
                for port in ("vm1", "vm2") for way in ("rx", "tx")]

    def wait_traffic(self, more=3, timeout=20):
        """Seconds until both guests have sent and got some, from now, when the switch is up; and how many of them nobody had a CPU."""
        start, waiting = time.monotonic(), Waiting(self.switch.pid, *(vm.pid for vm in self.guests))
        for port in ("vm1", "vm2"):
            self.switch.wait_link(port)
        before = self.counters()
        self.switch.wait_until(lambda: all(now >= then + more for now, then in zip(self.counters(), before)), "traffic", timeout)
        return time.monotonic() - start, waiting.seconds()

    def recovered(self):
        """Of each ring, since the switch was started: chains that went back, and chains that may have been sent twice."""
        rings = [ring for port in ("vm1", "vm2") for ring in self.switch.json(f"port show {port}")["rings"]]
        return [(ring.get("recovered", 0), ring.get("repeated", 0)) for ring in rings]

    def load(self):
        """Large and small packets both ways, as fast as an emulated guest will. (ping ends if its link is down when it sends.)"""
        self.jobs = []
        for vm, peer in zip(self.guests, reversed(ADDRESSES)):
            vm.check("ip link set eth0 mtu 9000")
            for size in 56, 6000:
                self.jobs.append((vm, f"/run/ping{size}", vm.popen(
                    f"while :; do ping -i 0.01 -s {size} {peer}; sleep 0.1; done > /run/ping{size} 2>&1")))

    def idle(self):
        """An end to it; answers the guests got, and those they got twice or more often."""
        for _, _, job in self.jobs:
            job.kill()
            job.wait()
        return [sum(column) for column in zip(*([int(n) for n in vm.check(f"{COUNT} {path}").split()] for vm, path, _ in self.jobs))]

    def posted(self):
        """Receive buffers each guest keeps posted when nothing moves."""
        return [self.switch.json(f"port show {port}")["rings"][0]["fill"] for port in ("vm1", "vm2")]


@pytest.fixture(scope="module")
def pair(folder, states):
    two = Pair(folder, states)
    try:
        two.start_switch()
        with together(*two.guests):
            yield two
    finally:
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


def boot_ids(pair):
    return [vm.check("cat /proc/sys/kernel/random/boot_id") for vm in pair.guests]


def in_time(took):
    """What wait_traffic() said each time, less what nobody had a CPU for."""
    slowest = max(took, key=lambda one: one[0] - one[1])
    assert slowest[0] - slowest[1] < RESUME_S, f"traffic after {slowest[0]:.2f} s, {slowest[1]:.2f} of them without a CPU"


def unharmed(pair, boots):
    """No guest has been reset, has lost buffers or complains of anything."""
    # A guest posts new buffers once 32 of its 256 are used up; lost ones would add up.
    assert min(settled(pair.posted)) > 256 - 64, "receive buffers were lost"
    assert boot_ids(pair) == boots
    for vm in pair.guests:
        said = vm.check("dmesg")
        for trouble in ("is not a head", "NETDEV WATCHDOG", "bad gso", "BUG", "timed out"):
            assert trouble not in said, said[-2000:]


@pytest.mark.parametrize("copies", ["", " copy"], ids=["zero-copy", "copying"])
def test_guests_go_on(pair, copies):
    boots = boot_ids(pair)
    pair.wait_traffic(0)
    pair.load()
    took, went_back, repeated = [], 0, 0
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
            for back, again in pair.recovered():
                assert again <= BURST
                went_back, repeated = went_back + back, repeated + again
    finally:
        answers, twice = pair.idle()
    longest, late = max(took), sum(took_s > RESUME_S for took_s, _ in took)
    print(f"\n{KILLS} ends{copies}: both ways again after {longest[0]:.2f} s at most ({longest[1]:.2f} s without a CPU), {late} times "
          f"after more than {RESUME_S} s; {went_back} chains went back, {repeated} were taken again; {answers} answers, {twice} twice")
    in_time(took)
    assert twice <= repeated
    assert answers > KILLS
    unharmed(pair, boots)


def kill_one(pair, dice):
    """Begin an upgrade and kill a side of it. Which of older, newer and a third one goes on."""
    switch, older = pair.switch, pair.switch.process
    newer = switch.start_upgrade()
    time.sleep(dice.random() * UPGRADE_S)
    victim = dice.choice([older, newer or older])
    with contextlib.suppress(ProcessLookupError):
        victim.kill()
    if victim is older:
        older.wait(20)
    heir = switch.follow_heir(*(process for process in (older, newer) if process))
    if not heir:
        pair.start_switch()
    return "older" if heir is older else "newer" if heir else "a third one"


def test_either_side_of_an_upgrade_is_killed(pair):
    """Row P4, at any moment: one of the two goes on, or, if both are gone, one that is started after them."""
    boots = boot_ids(pair)
    dice, seen, took, repeated = random.Random(4), collections.Counter(), [], 0
    pair.wait_traffic(0)
    pair.load()
    try:
        pair.wait_traffic()
        for _ in range(KILLS):
            seen[kill_one(pair, dice)] += 1
            took.append(pair.wait_traffic())
            repeated += sum(again for _, again in pair.recovered())
    finally:
        answers, twice = pair.idle()
    longest = max(took)
    print(f"\nP4: {KILLS} ends, after which went on: {dict(seen)}; both ways again after {longest[0]:.2f} s at most "
          f"({longest[1]:.2f} s without a CPU); {answers} answers, {twice} twice")
    in_time(took)
    assert twice <= repeated
    assert answers > KILLS
    unharmed(pair, boots)
