# SPDX-License-Identifier: BSD-3-Clause
"""Rows P3 and P8 of the fault matrix: guests that are killed while a NIC holds their buffers, and NICs that stand still, lose
their link, fail, ask for a reset or leave. `SLUICE_ALL=1 pytest -s` does more of each, and prints how much.

Frames come in by the NIC, go to a guest that sends them back from the same buffers, and are verified when they leave.
"""

import random
import time

import pytest
from nicsim import WRONG, nicsim_plugin
from sluice import ALL
from test_zero_copy import RING, RINGS, Bench

DEATHS = 40 if ALL else 2
TROUBLES = 100 if ALL else 8
RX = "rxgen=4,rxlen=1500,rs_thresh=1"
# A reset ends what was under way; who sees its bytes change meanwhile saw what a guest did with a buffer that came home.
AFTER_RESET = ("tx_changed", "tx_marked_bad", "tx_unmarked")


@pytest.fixture(scope="module")
def plugin():
    with nicsim_plugin() as path:
        yield path


def cases(*nics):
    """Both formats with each NIC, of which every second is for the long form."""
    return pytest.mark.parametrize("ring, nic", [
        pytest.param(ring, nic, id=f"{ring}-{nic}", marks=[] if (i + j) % 2 == 0 else pytest.mark.long)
        for i, ring in enumerate(["split", "packed"]) for j, nic in enumerate(nics)])


@cases("", "delay_us=100", "lazy=1,delay_us=20")
def test_guests_that_die(plugin, folder, ring, nic):
    """P3: at any moment. Their memory stays mapped as long as the NIC may read it, and no longer; each frame leaves as it came."""
    dice, longest = random.Random(f"{ring}{nic}"), 0
    with Bench(plugin, folder, f"{RX},{nic}") as bench:
        for _ in range(DEATHS):
            with bench.guest(RINGS[ring]) as pmd:
                bench.wait_sent(1000)
                if dice.random() < 0.3:
                    bench.nic.stall(True)
                time.sleep(dice.random() / 20)
                pmd.process.kill()
                bench.switch.wait_link("vm", "down")
                bench.nic.stall(False)
                since = time.monotonic()
                # A lazy NIC frees what it was sent when it is sent more, which nobody does now.
                bench.switch.wait_until(lambda: bench.nic.stats()["dma_mapped"] == 0, "the end of the mapping")
                longest = max(longest, time.monotonic() - since)
        stats = bench.right()
        assert stats["dma_unmap_busy"] == 0
        print(f"P3: {ring} {nic}: {DEATHS} guests killed, {stats['tx_sent_packets']} frames verified, mapped for {longest:.1f} s more")


class Trouble:
    """What a NIC does, one after the other; each leaves it at work again."""

    def __init__(self, bench, dice):
        self.bench, self.nic, self.dice = bench, bench.nic, dice

    def stalls(self):
        self.nic.stall(True)
        time.sleep(self.dice.random() / 5)
        assert self.bench.ring()["lent_now"] <= RING // 2, "more lent than a stuck NIC may hold"
        self.nic.stall(False)

    def flaps(self):
        for _ in range(self.dice.randint(1, 5)):
            self.nic.link(False)
            time.sleep(self.dice.random() / 50)
            self.nic.link(True)

    def fails(self):
        """It asks for a reset, and the switch gives it one."""
        before = self.resets()
        self.nic.fail()
        self.bench.switch.wait_until(lambda: self.resets() == before + 1, "a reset", timeout=10)

    def stalls_and_fails(self):
        self.nic.stall(True)
        time.sleep(self.dice.random() / 20)
        self.fails()
        self.nic.stall(False)

    def resets(self):
        return self.bench.switch.json("port show nic").get("resets", 0)


@cases("", "delay_us=100", "lazy=1", "nocleanup=1,lazy=1")
def test_nics_that_fail(plugin, folder, ring, nic):
    """P8: afterwards frames leave as before, counters have gone on, no buffer is held for ever, and the guest was never stuck."""
    dice = random.Random(f"{ring}{nic}")
    with Bench(plugin, folder, f"{RX},{nic}") as bench, bench.guest(RINGS[ring]) as pmd:
        trouble = Trouble(bench, dice)
        kinds = [trouble.stalls, trouble.flaps, trouble.fails, trouble.stalls_and_fails]
        shown = bench.switch.json("port show nic")["counters"]
        for n in range(TROUBLES):
            kinds[n % len(kinds)]()
            bench.wait_sent(500)
            before, shown = shown, bench.switch.json("port show nic")["counters"]
            assert all(shown[name] >= before[name] for name in ("rx_packets", "tx_packets")), "a reset took counters back"
        stats = bench.nic.stats()
        assert {key: stats[key] for key in WRONG if stats[key] and key not in AFTER_RESET} == {}
        assert trouble.resets() == TROUBLES // 2
        assert "the device asks for a reset" in bench.switch.log and "has been reset" in bench.switch.log
        assert "not ready port" not in bench.switch.log, "DPDK found a worker at queues that were gone"
        pmd.command("stop")
        keeps = 0 if not nic.startswith("nocleanup") else RING // 2
        bench.switch.run("set fwd rxonly")  # the NIC's own frames lead nowhere now
        bench.switch.wait_until(lambda: bench.ring()["lent_now"] <= keeps, "the buffers")
        print(f"P8: {ring} {nic}: {TROUBLES} troubles, {trouble.resets()} resets, {stats['tx_sent_packets']} frames left")


def test_a_reset_that_fails(plugin, folder):
    """The port says so and others go on; the next one works, and what was set is set again."""
    with Bench(plugin, folder, RX) as bench, bench.guest():
        switch = bench.switch
        bench.wait_sent(500)
        switch.run("set promisc nic off")
        before = switch.json("port show nic")["counters"]["tx_packets"]
        bench.nic.fail(resets=1)
        switch.wait_until(lambda: "has not worked yet" in switch.json("port show nic").get("trouble", ""), "a failure")
        shown = switch.json("port show nic")
        assert shown["link"] == "down" and shown["counters"]["tx_packets"] >= before
        assert switch.json("port show vm")["link"] == "up"
        assert "the reset failed: Input/output error; the next attempt is in 10 s" in switch.log
        switch.wait_until(lambda: switch.json("port show nic").get("resets") == 1, "another attempt", timeout=20)
        bench.wait_sent(500)
        assert "trouble" not in switch.json("port show nic")
        assert "set promisc nic off" in switch.run("config show")
        bench.right()


def test_a_nic_that_is_taken_out(plugin, folder):
    """Nobody polls it any more, what it held has come home once its port is deleted, and another one can be added."""
    with Bench(plugin, folder, f"{RX},lazy=1") as bench, bench.guest() as pmd:
        switch = bench.switch
        bench.wait_sent(500)
        bench.floods(pmd)
        assert switch.json("port show nic")["counters"]["tx_packets"] >= 500
        bench.nic.gone()
        switch.wait_until(lambda: "taken out" in switch.json("port show nic").get("trouble", ""), "notice")
        switch.wait_until(lambda: switch.json("show config cores")[0]["queues"] == 1, "a plan without it")
        switch.wait_until(lambda: bench.ring()["lent_now"] == 0, "the buffers")
        assert "not ready port" not in switch.log
        assert "its device is out of use" in switch.run("show config fwd")
        switch.run("set promisc nic off")
        counted = switch.json("port show nic")["counters"]
        switch.run("clear port stats nic")
        assert set(switch.json("port show nic")["counters"].values()) == {0}
        assert counted["tx_packets"] >= 500
        for word in "stop", "set fwd io":
            pmd.command(word)
        switch.run("port del nic")
        switch.run(f"port add nic dev net_nicsim1,{RX}")
        switch.run("cross add vm nic")
        pmd.command("start")
        switch.wait_until(lambda: switch.json("port show nic")["counters"]["tx_packets"] > 500, "frames by the other one")
