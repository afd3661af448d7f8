# SPDX-License-Identifier: BSD-3-Clause
"""The NIC for tests, in programs that know nothing of it: stock testpmd and the switch."""

import pytest
from nicsim import Nicsim, NicsimError, nicsim_plugin, nicsim_prefix
from sluice import Sluice
from testpmd import Testpmd, backend_eal

WIRE = ["net_nicsim0,peer=net_nicsim1", "net_nicsim1,peer=net_nicsim0"]
# What must stay 0 whatever a correct program does.
WRONG = ["tx_marked_bad", "tx_changed", "tx_mbuf_changed", "tx_malformed_segs", "tx_malformed_len", "tx_malformed_offload",
         "tx_wrong_checksum", "tx_fast_free_wrong", "dma_fault", "tx_dma_wrong_iova", "dma_unmap_busy"]


@pytest.fixture(scope="module")
def plugin():
    with nicsim_plugin() as path:
        yield path


@pytest.fixture
def prefix():
    return nicsim_prefix()


def eal(plugin, prefix, *vdevs):
    return [*backend_eal(plugin, *vdevs), f"--file-prefix={prefix}"]


def right(nic):
    """Its statistics, after a look at those that must be 0."""
    stats = nic.stats()
    assert {key: stats[key] for key in WRONG if stats[key]} == {}
    return stats


def runs_on(pmd, nic, frames=2000):
    """It sends again, and goes on."""
    start = nic.stats()["tx_sent_packets"]
    pmd.wait_until(lambda _: nic.stats()["tx_sent_packets"] > start + frames, "traffic")


@pytest.mark.parametrize("devargs, app", [
    ("", []),
    (",lazy=1,delay_us=20", ["--rxq=2", "--txq=2"]),
    (",offloads=1,fastfree=1,rs_thresh=8", ["--enable-rx-cksum", "--tx-offloads=0x10000"]),
    ("", ["--mp-alloc=xmem"]),  # a heap of external memory, which EAL maps for every device
])
def test_frames_circle(plugin, prefix, devargs, app):
    """64 frames go round and round between two ports; none is lost, none changes on the way."""
    with Testpmd("nic", eal(plugin, prefix, *(vdev + devargs for vdev in WIRE)), app) as pmd:
        nics = [Nicsim(prefix, f"net_nicsim{i}") for i in range(2)]
        pmd.command("start tx_first 1")
        for nic in nics:
            runs_on(pmd, nic)
        pmd.command("stop")
        for nic in nics:
            stats = right(nic)
            assert stats["tx_undelivered"] == stats["rx_missed"] == stats["rx_no_mbuf"] == stats["tx_refused"] == 0
            assert stats["tx_held"] > 0


def test_interference(plugin, prefix):
    """A stall fills the ring, no more; the link, a reset and a failure are heard of."""
    with Testpmd("nic", eal(plugin, prefix, *WIRE), ["--txd=256"]) as pmd:
        nic = Nicsim(prefix, "net_nicsim0")
        pmd.command("set fwd txonly")
        pmd.command("start")
        runs_on(pmd, nic)
        nic.stall(True)
        pmd.wait_until(lambda _: nic.held() == 255, "a full ring")
        stalled = nic.stats()
        nic.reset()
        stats = nic.stats()
        assert stats["tx_dropped"] >= stalled["tx_pending"] > 0
        assert stats["tx_sent_packets"] == stalled["tx_sent_packets"]
        nic.stall(False)
        runs_on(pmd, nic)
        pmd.command("stop")
        right(nic)
        with pytest.raises(NicsimError, match="Invalid argument"):
            nic.held(queue=63)
        with pytest.raises(NicsimError, match="No such device"):
            Nicsim(prefix, "net_nicsim7").stall(True)

        since = len(pmd.log)
        nic.link(False)
        pmd.expect("link state change event", since=since)
        assert pmd.link(0) == "down"
        since = len(pmd.log)
        nic.link(True)
        pmd.expect("link state change event", since=since)
        nic.fail()
        pmd.expect("reset event", since=since)
        pmd.command("port stop 0")
        assert nic.held() == 0
        pmd.command("port reset 0")
        pmd.command("port start 0")
        pmd.command("start")
        runs_on(pmd, nic)
        pmd.command("stop")


def test_injection(plugin, prefix):
    with Testpmd("nic", eal(plugin, prefix, "net_nicsim0", "net_nicsim1")) as pmd:
        nics = [Nicsim(prefix, f"net_nicsim{i}") for i in range(2)]
        pmd.command("start")
        assert nics[0].inject(100, 1000) == 100
        pmd.wait_until(lambda _: nics[1].stats()["tx_marked_good"] == 100, "the frames' arrival")
        pmd.command("stop")
        assert right(nics[1])["tx_sent_bytes"] == 100 * 1000


def test_in_the_switch(plugin, prefix, sockets):
    """From one NIC to another through the bridge; nothing is left when they go."""
    with Sluice(sockets, eal=eal(plugin, prefix)) as switch:
        for i in range(2):
            switch.run(f"port add n{i} dev net_nicsim{i},offloads=1")
        nics = [Nicsim(prefix, f"net_nicsim{i}") for i in range(2)]
        assert nics[0].inject(100, 1000) == 100
        switch.wait_until(lambda: nics[1].stats()["tx_marked_good"] == 100, "arrival")
        right(nics[1])
        for i in range(2):
            switch.run(f"port del n{i}")
        with pytest.raises(NicsimError):
            nics[0].stats()
