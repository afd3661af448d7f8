# SPDX-License-Identifier: BSD-3-Clause
"""Packets through net_sluice between two stock testpmds, counted exactly."""

import pytest
from testpmd import Testpmd, backend_eal

QUEUES = {n: [f"--rxq={n}", f"--txq={n}"] for n in (1, 4)}


@pytest.mark.parametrize("mergeable", [0, 1])
@pytest.mark.parametrize("queues", [1, 4])
def test_both_ways(start_pair, queues, mergeable):
    pair = start_pair(f"queues={queues}", f"queues={queues},mrg_rxbuf={mergeable}", QUEUES[queues], QUEUES[queues])
    pair.both_ways(queues)
    pair.both_ways(queues, bursts=2)
    xstats = pair.backend.xstats()
    for q in range(queues):
        # testpmd's txonly spreads its bursts evenly over the queues.
        assert xstats[f"rx_q{q}_good_packets"] == xstats[f"tx_q{q}_good_packets"] == 6 * 32
        assert xstats[f"rx_q{q}_size_64_packets"] == 6 * 32
        assert xstats[f"rx_q{q}_good_bytes"] == xstats[f"tx_q{q}_good_bytes"] == 6 * 32 * 64
    assert sum(v for k, v in xstats.items() if "_drop_" in k or "error" in k) == 0
    assert not any(f"rx_q{queues}_" in k for k in xstats)


def test_more_than_a_burst(start_pair):
    """testpmd may ask for up to 512 packets at once; the library moves 64."""
    pair = start_pair(backend_app=["--burst=256"], frontend_app=["--burst=256"])
    pair.send(pair.frontend, pair.backend, bursts=1)
    pair.send(pair.backend, pair.frontend, bursts=1)


@pytest.mark.parametrize("mergeable", [0, 1])
def test_large_packets(start_pair, mergeable):
    """Five buffers long: merged at the guest, or named as too big where that was not negotiated."""
    jumbo = ["--max-pkt-len=9000", "--enable-scatter"]
    pair = start_pair(front=f"mrg_rxbuf={mergeable}", backend_app=jumbo, frontend_app=jumbo if mergeable else [])
    for pmd in pair.backend, pair.frontend:
        pmd.command("set txpkts 2000,2000,2000,1500")
    sent, received = pair.send(pair.frontend, pair.backend, bursts=1)
    assert sent == received == 32
    assert pair.backend.stats()["RX-bytes"] == 32 * 7500
    if mergeable:
        assert pair.send(pair.backend, pair.frontend, bursts=1) == (32, 32)
        assert pair.frontend.stats()["RX-bytes"] == 32 * 7500
        return
    pair.backend.command("start tx_first 1")
    pair.backend.wait_until(lambda b: b.stats()["TX-errors"] == 32, "the packets' drop")
    assert pair.backend.forwarded()["TX-dropped"] >= 32
    assert pair.backend.xstats()["tx_q0_drop_tx_too_big"] == 32
    assert pair.backend.stats()["TX-packets"] == 0


def test_no_room_at_the_guest(start_pair):
    """A guest that does not receive: what it has buffers for is sent, the rest is handed back and is no error."""
    pair = start_pair()
    pair.backend.command("set fwd txonly")
    pair.backend.command("start")
    pair.backend.wait_until(lambda b: b.xstats()["tx_q0_unsent_packets"] > 1000, "a full ring")
    forwarded = pair.backend.forwarded()
    xstats, stats = pair.backend.xstats(), pair.backend.stats()
    assert 0 < forwarded["TX-packets"] <= 256 + 32
    assert forwarded["TX-dropped"] == xstats["tx_q0_unsent_packets"]
    assert stats["TX-errors"] == 0 and sum(v for k, v in xstats.items() if "_drop_" in k) == 0


def test_fill_level(start_pair):
    """What the guest has waiting is visible without taking it."""
    pair = start_pair()
    pair.frontend.command("set fwd rxonly")
    pair.frontend.command("start tx_first 2")
    pair.frontend.wait_until(lambda f: f.stats()["TX-packets"] == 64, "sending")
    assert "used desc count = 64" in pair.backend.command("show port 0 rxq 0 desc used count").lower()


def test_statistics_reset(start_pair):
    pair = start_pair()
    pair.both_ways()
    pair.backend.command("clear port stats 0")
    assert set(pair.backend.stats().values()) == {0}
    pair.backend.command("clear port xstats 0")
    assert set(pair.backend.xstats().values()) == {0}
    pair.both_ways(bursts=1)
    stats = pair.backend.stats()
    assert (stats["RX-packets"], stats["TX-packets"]) == (32, 32)


@pytest.mark.parametrize("devargs, segments", [("", 4), ("ext-buffer=1", 1), ("linear-buffer=1,ext-buffer=1", 1),
                                               ("linear-buffer=1", 0)])
def test_buffers(start_pair, devargs, segments):
    """Packets longer than an mbuf: a chain, an external buffer, or dropped, as asked."""
    pair = start_pair(devargs)
    pair.backend.command("set verbose 1")
    pair.backend.command("set fwd rxonly")
    pair.backend.command("start")
    pair.frontend.command("set txpkts 2000,2000,2000,1500")
    pair.frontend.command("set fwd rxonly")
    pair.frontend.command("start tx_first 1")
    pair.backend.wait_until(lambda b: sum(b.stats()[k] for k in ("RX-packets", "RX-errors")) == 32, "arrival")
    pair.backend.command("stop")
    assert pair.backend.log.count(f"length=7500 - nb_segs={segments} ") == (32 if segments else 0)
    assert pair.backend.xstats()["rx_q0_drop_rx_too_big"] == (0 if segments else 32)


COUNTERS = """good_packets good_bytes multicast_packets broadcast_packets undersize_packets size_64_packets size_65_127_packets
              size_128_255_packets size_256_511_packets size_512_1023_packets size_1024_1518_packets size_1519_max_packets
              guest_notifications guest_notifications_error iotlb_hits iotlb_misses inflight_submitted
              inflight_completed""".split()
RX_OWN = ["mbuf_alloc_failed", "zero_copy_packets", "zero_copy_declined_packets", "direct_packets", "recovered_chains",
          "repeated_chains"]
TX_OWN = ["recovered_chains"]
RX_DROPS = "no_mbuf short bad_virtio_header too_big ring_disabled".split()
TX_DROPS = """no_guest_buffer not_connected ring_stopped ring_disabled iommu_wait ring_parked too_big
              offload_unsupported""".split()


def test_names(driver, sockets):
    """What dashboards and scripts hold on to: librte_vhost's names, then each reason a packet can be lost for."""
    queues = ["--rxq=2", "--txq=2"]
    with Testpmd("names", backend_eal(driver, f"net_sluice0,iface={sockets}/s,queues=2"), queues) as pmd:
        names = [name for name in pmd.xstats() if name.startswith(("rx_q", "tx_q"))]
    expected = [f"{side}_q{q}_{name}" for side, more in (("rx", ["errors"]), ("tx", [])) for q in (0, 1)
                for name in ["packets", "bytes", *more]]  # ethdev's, which OVS shows
    for q in 0, 1:
        expected += [f"rx_q{q}_{name}" for name in COUNTERS + RX_OWN]
        expected += [f"rx_q{q}_drop_rx_{name}" for name in RX_DROPS]
    for q in 0, 1:
        expected += [f"tx_q{q}_{name}" for name in COUNTERS + TX_OWN]
        expected += [f"tx_q{q}_drop_tx_{name}" for name in TX_DROPS] + [f"tx_q{q}_unsent_packets"]
    assert names == expected
