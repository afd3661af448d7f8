# SPDX-License-Identifier: BSD-3-Clause
"""Packets over guest memory on a NIC that frees late and looks twice: every frame arrives as it was sent, no guest starves.

Frames come in by a NIC (net_nicsim makes and marks them), go to a guest, which sends them back from the very same
buffers, and leave by the NIC, which verifies them when it "transmits": later than they were handed over. A buffer
that went back to the guest too early would by then hold another frame.
"""

import contextlib
import os
import time

import pytest
from nicsim import WRONG, Nicsim, nicsim_plugin, nicsim_prefix
from sluice import Sluice
from testpmd import Testpmd, backend_eal, frontend_eal

RING = 256
# packed rings, and those that keep order: the ring's columns
RINGS = {"split": "in_order=0", "packed": "in_order=0,packed_vq=1", "split-in-order": "in_order=1,mrg_rxbuf=0"}


@pytest.fixture(scope="module")
def plugin():
    with nicsim_plugin() as path:
        yield path


class Bench:
    """A switch with a NIC of these arguments, cross-connected with a VM; or a bridge of the two and a TAP."""

    def __init__(self, plugin, folder, args="", options="", tap=None):
        self.prefix = nicsim_prefix()
        self.socket = folder / "vm.sock"
        self.switch = Sluice(folder, eal=[*backend_eal(plugin), "--iova-mode=va", f"--file-prefix={self.prefix}"], commands=[
            f"port add vm listen {self.socket}{options}", f"port add nic dev net_nicsim0,{args}",
            *([f"port add tap dev net_tap0,iface={tap}"] if tap else ["cross add vm nic", "set fwd cross"])])
        self.nic = Nicsim(self.prefix, "net_nicsim0")

    def __enter__(self):
        self.switch.start()
        return self

    def __exit__(self, *what):
        self.switch.close()

    @contextlib.contextmanager
    def guest(self, ring="in_order=0"):
        """A guest that sends back what it gets."""
        vdev = f"net_virtio_user0,path={self.socket},queue_size={RING},{ring}"
        with Testpmd("guest", frontend_eal(vdev), ["--port-topology=loop", "--forward-mode=io", f"--rxd={RING}",
                                                   f"--txd={RING}"]) as pmd:
            self.switch.wait_link("vm")
            pmd.command("start")
            yield pmd

    def ring(self):
        return self.switch.json("port show vm")["rings"][1]

    def wait_sent(self, frames, timeout=20):
        start = self.nic.stats()["tx_sent_packets"]
        self.switch.wait_until(lambda: self.nic.stats()["tx_sent_packets"] >= start + frames, f"{frames} frames", timeout)

    def floods(self, pmd):
        """The guest sends many times what its ring holds, and all of it is taken."""
        for word in "stop", "set fwd txonly", "set txpkts 1500", "start":
            pmd.command(word)
        start = self.ring()["packets"]
        self.switch.wait_until(lambda: self.ring()["packets"] >= start + 20 * RING, "frames from the guest")

    def right(self, others=False):
        """@others: the host sends, too, on its TAP"""
        stats = self.nic.stats()
        assert {key: stats[key] for key in WRONG if stats[key] and not (others and key == "tx_unmarked")} == {}
        return stats


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("nic", ["", "rs_thresh=1,fastfree=1", "lazy=1,delay_us=50", "nocleanup=1,lazy=1"])
def test_every_frame_arrives(plugin, folder, ring, nic):
    """Also from a ring that keeps order, which is copied at once: the NIC is to hold none of its buffers.

    A NIC that offers to free without looking would count whom that is wrong for: it is not asked to.
    """
    with Bench(plugin, folder, f"rxgen=4,rxlen=1500,{nic}") as bench, bench.guest(RINGS[ring]):
        bench.wait_sent(20000)
        assert bench.right()["dma_mapped"] > 0
        assert (bench.ring()["zero_copy"] > 0) == ("order" not in ring)


@pytest.mark.parametrize("ring", RINGS)
def test_nic_beside_one_that_takes_all(plugin, folder, ring):
    """The bridge does not know whom a packet goes to: it is lent, and of a ring that keeps order copied for the NIC alone."""
    with Bench(plugin, folder, "rxgen=4,rxlen=1500", tap=f"slzc{os.getpid()}") as bench, bench.guest(RINGS[ring]):
        bench.wait_sent(5000)
        bench.right(others=True)
        assert bench.ring()["zero_copy"] > 0
        bench.nic.stall(True)
        if "order" in ring:
            bench.switch.wait_until(lambda: bench.ring()["lent_now"] == 0, "the buffers")


@pytest.mark.parametrize("nic, why", [
    ("nodma=1", "a device does not map"),
    ("maxdma=1", None),
    ("nosegs=1", "takes no packet of several segments"),
])
def test_copies_for_those_that_cannot(plugin, folder, nic, why):
    """A NIC that maps nothing, or not enough, or takes one segment only, gets copies, and 'port show' says why."""
    with Bench(plugin, folder, f"rxgen=4,rxlen=1500,{nic}") as bench, bench.guest():
        bench.wait_sent(5000)
        bench.right()
        if why:
            assert why in bench.switch.json("port show vm")["zero_copy"] + bench.switch.json("port show nic")["zero_copy"]
            assert bench.ring()["zero_copy"] == 0, "lent, and then copied for the NIC"


def test_small_frames_are_copied(plugin, folder):
    with Bench(plugin, folder, "rxgen=4,rxlen=128") as bench, bench.guest():
        bench.wait_sent(5000)
        bench.right()
        assert bench.ring()["zero_copy"] == 0


def test_port_that_copies(plugin, folder):
    with Bench(plugin, folder, "rxgen=4,rxlen=1500", " copy") as bench, bench.guest():
        bench.wait_sent(5000)
        bench.right()
        shown = bench.switch.json("port show vm")
        assert shown["zero_copy"] == "off: copy"
        assert "zero_copy" not in bench.ring()


@pytest.mark.parametrize("nic, keeps", [("rs_thresh=1", 0), ("", 31), ("nocleanup=1,lazy=1", 100)])
def test_idle_nic_starves_no_guest(plugin, folder, nic, keeps):
    """The NIC keeps the last frames it was given; the guest, whose ring is smaller, goes on towards others."""
    with Bench(plugin, folder, f"rxgen=0,{nic}") as bench, bench.guest() as pmd:
        assert bench.nic.inject(100, 1500) == 100
        bench.switch.wait_until(lambda: bench.nic.stats()["tx_sent_packets"] == 100, "the frames")
        bench.switch.wait_until(lambda: bench.ring()["lent_now"] <= keeps, "the buffers")
        if "nocleanup" in nic:
            assert bench.ring()["lent_now"] > 0
        bench.right()
        bench.switch.run("set fwd rxonly")
        bench.floods(pmd)


def test_stalled_nic_does_not_stop_the_guest(plugin, folder):
    """A NIC stands still: the guest's packets are lost there, but taken from its ring; then it moves again."""
    with Bench(plugin, folder, "rxgen=0,rs_thresh=1") as bench, bench.guest() as pmd:
        bench.nic.stall(True)
        bench.floods(pmd)
        assert bench.ring()["lent_now"] <= RING // 2
        drops = {row["reason"]: row["packets"] for row in bench.switch.json("port show nic")["drops"]}
        assert drops.get("tx_nic_full", 0) > 0
        bench.nic.stall(False)
        pmd.command("stop")
        bench.switch.wait_until(lambda: bench.ring()["lent_now"] == 0, "the buffers")
        stats = bench.nic.stats()
        assert stats["tx_changed"] == stats["dma_fault"] == 0


def test_guest_that_dies(plugin, folder):
    """Its memory stays mapped while the NIC has its buffers, and goes when they have come home."""
    with Bench(plugin, folder, "rxgen=4,rxlen=1500,delay_us=100,rs_thresh=1") as bench:
        for _ in range(3):
            with bench.guest() as pmd:
                bench.wait_sent(2000)
                bench.nic.stall(True)
                bench.switch.wait_until(lambda: bench.nic.held() > 0 and bench.ring()["lent_now"] > 0, "lent buffers")
                pmd.process.kill()
                bench.switch.wait_link("vm", "down")
                time.sleep(0.3)
                stats = bench.nic.stats()
                assert stats["dma_mapped"] > 0
                assert stats["dma_unmap_busy"] == 0
            bench.nic.stall(False)
            bench.switch.wait_until(lambda: bench.nic.stats()["dma_mapped"] == 0, "the end of the mapping")
            bench.right()


def test_nic_that_leaves(plugin, folder):
    """The NIC is deleted and added again under traffic."""
    with Bench(plugin, folder, "rxgen=4,rxlen=1500,lazy=1") as bench, bench.guest():
        for _ in range(3):
            bench.wait_sent(2000)
            bench.right()
            bench.switch.run("port del nic")
            bench.switch.run("port add nic dev net_nicsim0,rxgen=4,rxlen=1500,lazy=1")
            bench.switch.run("cross add vm nic")
        bench.wait_sent(2000)
        assert bench.right()["dma_mapped"] > 0
