# SPDX-License-Identifier: BSD-3-Clause
"""testpmd's verbs while packets move: statistics, rates, drops."""

import re
import time

import pytest
from testpmd import Testpmd, frontend_eal
from verbs import CYCLES, NEEDS, NIC_STATS, numbers

from sluice import SluiceError

pytestmark = NEEDS


# ---- before any guest ----

def test_tx_first_without_guests_says_so(switch):
    """Must run before the guests come: the order of this file."""
    if switch.json("port show vm0")["link"] == "up":
        pytest.skip("run with the whole file: the guests are there already")
    with pytest.raises(SluiceError, match=r"no packet would arrive.*`show port summary all`"):
        switch.run("start tx_first 4")
    assert not switch.json("show config fwd")["forwarding"]
    assert switch.json("show fwd stats all")["total"]["tx_dropped"] == 0
    text = switch.run("show config fwd")
    assert "streams=0" in text
    assert "Not polled: 1 of 1 queues of port 0 (vm0), not started by its guest\n" in text
    assert "No traffic: no front-end has connected" in switch.run("show port info vm0")


# ---- traffic ----

@pytest.fixture
def running(idle, guest):
    """Two bursts of packets going round between the guests and the switch."""
    guest.command("set fwd io")
    guest.command("start")
    idle.run("start tx_first 2")
    idle.wait_until(lambda: idle.json("show port stats 0")["rx_packets"] > 1000, "traffic")
    return idle


def test_port_stats_and_rates(running):
    running.run("show port stats all")
    time.sleep(1)
    text = running.run("show port stats all")
    blocks = [[int(n) for n in block] for block in NIC_STATS.findall(text)]
    assert [block[0] for block in blocks] == [0, 1] and NIC_STATS.sub("", text) == ""
    for _, rx, missed, rx_bytes, errors, _, tx, tx_errors, tx_bytes, rx_pps, rx_bps, tx_pps, tx_bps in blocks:
        assert rx_bytes == 64 * rx and tx_bytes == 64 * tx
        assert missed == errors == tx_errors == 0
        assert 0 < rx_pps <= rx and 0 < tx_pps <= tx
        assert rx_bps == pytest.approx(rx_pps * 512, rel=0.01)
        assert tx_bps == pytest.approx(tx_pps * 512, rel=0.01)


def test_rates_are_since_the_last_show(idle, guest):
    guest.command("set fwd io")
    guest.command("start")
    idle.run("show port stats all")
    idle.run("start tx_first 2")
    time.sleep(0.5)
    idle.run("stop")
    start = time.monotonic()
    first = idle.json("show port stats 0")
    time.sleep(0.3)
    second = idle.json("show port stats 0")
    assert first["rx_packets"] > 0 and first["rx_pps"] > 0
    assert second["rx_packets"] == first["rx_packets"] and second["rx_pps"] == second["tx_bps"] == 0
    assert time.monotonic() - start < 5


def test_clear_is_for_ports_or_for_forwarding(running):
    running.run("stop")
    forward = running.json("show fwd stats all")
    assert forward["total"]["rx_packets"] > 1000
    assert running.run("clear port stats vm0") == "\n  NIC statistics for port 0 cleared\n"
    running.run("clear port xstats vm1")
    for port in (0, 1):
        shown = running.json(f"show port stats {port}")
        assert shown["rx_packets"] == shown["tx_bytes"] == shown["rx_pps"] == 0
        assert not any(running.json(f"show port xstats {port}")["xstats"].values())
    assert running.json("show fwd stats all")["total"] == forward["total"]
    running.run("clear fwd stats all")
    assert running.json("show fwd stats all")["total"]["rx_packets"] == 0


def test_xstats_add_up(running):
    running.run("stop")
    xstats = running.json("show port xstats 0")["xstats"]
    port = running.json("show port stats 0")
    for side in ("rx", "tx"):
        assert xstats[f"{side}_good_packets"] == xstats[f"{side}_q0_good_packets"] == port[f"{side}_packets"]
        assert xstats[f"{side}_q0_size_64_packets"] == port[f"{side}_packets"]
        assert xstats[f"{side}_q0_good_bytes"] == port[f"{side}_bytes"]
    text = running.run("show port xstats 0")
    assert text.startswith("###### NIC extended statistics for port 0 \n")
    assert {k: int(v) for k, v in re.findall(r"(?m)^(\w+): (\d+)$", text)} == xstats


def test_stop_prints_what_was_forwarded(running):
    running.run("set record-core-cycles on")
    text = running.run("stop")
    assert text.startswith("Telling cores to stop...\nWaiting for lcores to finish...\n\n  ----")
    assert text.endswith("\n\nDone.\n")
    rx, rx_dropped, rx_total, tx, tx_dropped, tx_total = numbers(
        text, "RX-packets", "RX-dropped", "RX-total", "TX-packets", "TX-dropped", "TX-total")
    for column in (rx, rx_dropped, rx_total, tx, tx_dropped, tx_total):
        assert len(column) == 3 and column[0] + column[1] == column[2]
    assert rx[2] + rx_dropped[2] == rx_total[2] and tx[2] + tx_dropped[2] == tx_total[2]
    # Nothing vanishes: what was made by tx_first and what was received was sent or dropped.
    assert rx[2] + 2 * 2 * 32 == tx_total[2]
    cycles, busy, engine, packets = CYCLES.search(text).groups()
    assert engine == "io" and int(packets) == rx[2]
    assert float(cycles) == pytest.approx(int(busy) / int(packets), abs=0.01)
    shown = running.json("show fwd stats all")
    assert (shown["total"]["rx_packets"], shown["total"]["tx_dropped"]) == (rx[2], tx_dropped[2])
    assert shown["cycles_per_packet"] == pytest.approx(float(cycles), abs=0.01)


def test_streams_have_lines_if_ports_have_several(idle, folder):
    """As in testpmd: Forward Stats for RX Port= 0/Queue= 1 -> TX Port= 1/Queue= 1."""
    paths = [f"{folder}/mq{i}" for i in range(2)]
    for i, path in enumerate(paths):
        idle.run(f"port add mq{i} listen {path} queues 2")
    idle.run("set portlist mq0,mq1")
    vdevs = [f"net_virtio_user{i},path={path},queues=2" for i, path in enumerate(paths)]
    try:
        with Testpmd("mq", frontend_eal(*vdevs), app=["--rxq=2", "--txq=2"]) as pmd:
            idle.wait_until(lambda: len([s for s in idle.json("show config fwd")["streams"] if s["usable"]]) == 4,
                            "four queues")
            pmd.command("start")
            assert " - streams=4 - " in idle.run("start tx_first")
            idle.wait_until(lambda: len(idle.json("show fwd stats all")["streams"]) == 4, "traffic on four queues")
            text = idle.run("stop")
        ids = [idle.json(f"show port info mq{i}")["port"] for i in range(2)]
        for queue in range(2):
            assert re.search(
                rf"\n  ------- Forward Stats for RX Port={ids[0]:2}/Queue={queue:2} -> "
                rf"TX Port={ids[1]:2}/Queue={queue:2} -------\n"
                r"  RX-packets: \d+ +TX-packets: \d+ +TX-dropped: \d+ *\n", text)
    finally:
        idle.run("stop")
        for i in range(2):
            idle.run(f"port del mq{i}")


def test_full_guest_is_tx_dropped_not_an_error(idle, guest):
    """The guests do not receive: their rings fill up."""
    idle.run("set fwd txonly")
    idle.run("start")
    idle.wait_until(lambda: idle.json("show fwd stats all")["total"]["tx_dropped"] > 0, "drops")
    text = idle.run("stop")
    assert numbers(text, "TX-dropped")[2] > 0
    shown = idle.json("show port stats 0")
    assert shown["tx_errors"] == 0 and shown["tx_dropped"] == shown["drops"]["tx_no_guest_buffer"] > 0
    assert idle.json("show port xstats 0")["xstats"]["tx_q0_drop_tx_no_guest_buffer"] == shown["tx_dropped"]


def test_ring_fill(idle, guest):
    """The guests send, and the switch does not receive."""
    guest.command("set fwd txonly")
    guest.command("start")
    fill = idle.wait_until(lambda: idle.json("show port 0 rxq 0 desc used count")["used_desc_count"], "a full ring")
    assert 1 <= fill <= 256
    assert re.fullmatch(r"Used desc count = \d+\n", idle.run("show port vm0 rxq 0 desc used count"))
    guest.command("stop")


def test_tx_first_to_half_a_pair_says_so(idle, folder):
    """A third port, paired with itself, has no guest."""
    idle.run(f"port add late listen {folder}/late")
    try:
        text = idle.run("start tx_first")
        assert re.search(r"^Warning! Nothing is sent to port 2 \(late\): it is down", text, re.M)
        assert idle.json("show port stats vm0")["tx_packets"] >= 32
        idle.run("stop")
        idle.run("set portlist late,vm0")
        with pytest.raises(SluiceError, match="no packet would arrive"):
            idle.run("start tx_first")
    finally:
        idle.run("port del late")
