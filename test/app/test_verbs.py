# SPDX-License-Identifier: BSD-3-Clause
"""testpmd's verbs: what the switch answers, beside what stock testpmd answers to the same.

Stock testpmd with two net_vhost ports, and then the switch with two VM ports, get the same guest (a testpmd with
two virtio-user ports) and the same commands. Where nothing moved, the texts must be the same to the byte, but for
the values named in MASKS.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from sluice import Sluice, SluiceError, binary  # noqa: E402
from testpmd import Testpmd, backend_eal, cpus, frontend_eal, lcores  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not binary().exists(), reason=f"{binary()} is not built"),
    pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="dpdk-testpmd is not installed"),
]

# Commands, in order, that both programs get before anything has moved. testpmd shows a new engine only after
# `start` or `set portlist`. The answers to those with ~ may differ.
SAME = """
show port summary all
show port summary 1
show port info 0
show port info all
show port stats all
show port stats 1
show port xstats 0
show port xstats all
show fwd stats all
show config fwd
show config rxtx
show config cores
show config txpkts
set fwd mac retry
set portlist 0,1
show config fwd
set burst tx delay 2 retry 8
show config fwd
show config rxtx
set fwd rxonly
set portlist 0,1
show config fwd
set fwd txonly
set portlist 0,1
show config rxtx
set fwd io
set portlist 0,1
set burst 16
show config rxtx
set burst 32
set txpkts 64,128
show config txpkts
set txpkts 64
set txsplit rand
show config txpkts
set txsplit on
show config txpkts
set txsplit off
set portlist 1,0
show config fwd
set portlist 1
show config fwd
set portlist 0,1
set portmask 0x3
set portmask 3
set nbcore 1
set corelist 1
show config cores
set verbose 1
set verbose 0
set promisc 0 on
set promisc all on
set eth-peer 1 02:00:00:00:00:77
show config fwd
set eth-peer 1 02:00:00:00:00:01
clear port stats all
clear port stats 0
clear fwd stats all
clear port xstats 0
clear port xstats all
set record-core-cycles on
start
start
show fwd stats all
stop
stop
set fwd csum
set portlist 0,1
show fwd stats all
set fwd io
set portlist 0,1
port attach net_null7,size=64
~port start 2
show port summary 2
show port info 2
~port stop 2
port detach 2
""".split("\n")[1:-1]
DIFFER = [i for i, line in enumerate(SAME) if line[0] == "~"]
SAME = [line.lstrip("~") for line in SAME]

# What testpmd cannot know or must not be the same: regular expression, replacement. Applied to both texts.
MASKS = [
    (r"[0-9A-F]{2}(:[0-9A-F]{2}){5}(?= net| vm|$)", "MAC"),
    (r"(?m)^(\d+ +MAC) \S+ +\S+ +(?=up|down)", r"\1 NAME DRIVER "),
    (r"MAC address: \S+", "MAC address: MAC"),
    (r"Device name: \S+", "Device name: NAME"),
    (r"Driver name: net_(vhost|sluice)", "Driver name: DRIVER"),
    (r"Devargs: .*", "Devargs: ARGS"),
    (r"(?<=Max possible number of .XDs per queue: )(65535|32768)", "MAX"),
    (r"ffloads=0x[0-9a-f]+", "ffloads=X"),
    (r"(?<= desc=)\d+", "N"),
    # Only ours, after everything testpmd says.
    (r"(?m)^      (not )?polled.*\n", ""),
    (r"(?m)^Logical Core \d+ \(socket \d+\) polls.*\n", ""),
    (r"(?m)^(vhost-user socket|Negotiated features|No traffic):.*\n", ""),
    (r"(?m)^Packets are not printed here.*\n", ""),
    (r"(?m)^\w+_(drop_\w+|guest_notifications_error|mbuf_alloc_failed): 0\n", ""),
    (r"(?m)^drop_\w+: 0\n", ""),
    # Only testpmd's: a step that is not needed here.
    (r"(?m)^Port was not closed\n", ""),
]


def masked(text):
    for pattern, replacement in MASKS:
        text = re.sub(pattern, replacement, text)
    return text


def guests(folder, count=2):
    """Two guests in one process, each with one queue pair, on the last CPU."""
    vdevs = [f"net_virtio_user{i},path={folder}/vm{i}" for i in range(count)]
    return Testpmd("guests", frontend_eal(*vdevs))


def numbers(text, *names):
    """All values of each name, in order: numbers(t, "RX-packets") -> [1, 2]."""
    found = [[int(n) for n in re.findall(rf"\b{name}:\s+(\d+)", text)] for name in names]
    return found[0] if len(found) == 1 else found


@pytest.fixture(scope="module")
def folder():
    path = Path(tempfile.mkdtemp(prefix="verbs-"))
    yield path
    path.rmdir()


@pytest.fixture(scope="module")
def stock(folder):
    """Stock testpmd's answers to SAME, without the blank lines before."""
    vdevs = [f"net_vhost{i},iface={folder}/vm{i}" for i in range(2)]
    with Testpmd("stock", backend_eal(None, *vdevs), app=["--no-flush-rx"]) as pmd, guests(folder):
        for port in (0, 1):
            pmd.wait_link("up", port)
        return [(line, pmd.command(line).lstrip("\n")) for line in SAME]


@pytest.fixture(scope="module")
def switch(folder, stock):  # after stock: they use the same sockets
    ports = [f"port add vm{i} listen {folder}/vm{i}" for i in range(2)]
    with Sluice(folder, options=["--stop", "--fwd", "io", "--burst", "32"], commands=ports) as sw:
        yield sw


@pytest.fixture(scope="module")
def guest(switch, folder):
    with guests(folder) as pmd:
        for port in ("vm0", "vm1"):
            switch.wait_link(port)
        yield pmd


@pytest.fixture(scope="module")
def ours(switch, guest):
    """The switch's answers to SAME, the same way."""
    return [(line, switch.run(line).lstrip("\n")) for line in SAME]


@pytest.fixture
def idle(switch, guest):
    """A switch that does not forward, with the usual settings and counters at zero; the guests rest too."""
    def rest():
        guest.command("stop")
        switch.run("stop")
        for line in ("set fwd io", "set burst 32", "set txpkts 64", "set txsplit off", "set portlist all", "set verbose 0", "set record-core-cycles off",
                     "clear port stats all", "clear fwd stats all"):
            switch.run(line)
    rest()
    yield switch
    rest()


# ---- before any guest ----

def test_tx_first_without_guests_says_so(switch, stock):
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


# ---- the same text ----

@pytest.mark.parametrize("i", [i for i in range(len(SAME)) if i not in DIFFER], ids=lambda i: f"{i}: {SAME[i]}")
def test_same_text_as_testpmd(stock, ours, i):
    assert masked(ours[i][1]) == masked(stock[i][1])


def test_masks_hide_little(stock, ours):
    """The texts that scripts take numbers from are compared without any mask."""
    plain = [i for i, line in enumerate(SAME) if line.startswith(
        ("show port stats", "show fwd stats", "show config fwd", "show config txpkts", "stop", "clear port stats"))]
    assert len(plain) > 12
    for i in plain:
        assert ours[i] == stock[i]


@pytest.mark.parametrize("line", sorted(set(SAME)))
def test_every_verb_has_json(switch, ours, line):
    if line.startswith(("set eth-peer", "port ", "show port summary 2", "show port info 2")):
        line = {"port detach 2": "port start all", "port attach net_null7,size=64": "port stop 0"}.get(
            line, "show port info all")
    try:
        value = switch.json(line)
        assert isinstance(value, (dict, list))
        assert not isinstance(value, dict) or "text" not in value
    finally:
        switch.run("stop")


def test_set_values_as_json(idle):
    assert idle.json("set burst 17") == {"burst": 17}
    assert idle.json("set txpkts 64,65") == {"segments": [64, 65]}
    assert idle.json("set portlist 1,0") == {"ports": ["vm1", "vm0"]}
    assert idle.json("set fwd mac retry") == {"engine": "mac", "retry": True}
    shown = idle.json("show config fwd")
    assert (shown["engine"], shown["burst"], shown["retry"]) == ("mac", 17, True)
    assert idle.json("show config txpkts") == {"segments": [64, 65], "split": "off"}
    assert idle.json("show config cores")[0]["lcore"] == 1


def test_silent_like_testpmd(idle):
    for line in ("set txpkts 64", "set txsplit off", "set portlist 0,1", "set record-core-cycles on",
                 "clear fwd stats all", "clear port xstats all", "set promisc all on", "set corelist 1"):
        assert idle.run(line) == "", line


# ---- ports by number and by name ----

@pytest.mark.parametrize("line", ["show port stats {}", "show port xstats {}", "show port info {}",
                                  "show port summary {}", "show port {} rxq 0 desc used count",
                                  "clear port stats {}", "port stop {}", "set promisc {} on"])
def test_port_by_number_or_name(idle, line):
    assert idle.run(line.format("1")) == idle.run(line.format("vm1"))
    with pytest.raises(SluiceError, match="there is no port '9'"):
        idle.run(line.format("9"))


def test_portlist_by_name(idle):
    idle.run("set portlist vm1,0")
    assert idle.json("set portlist vm1,0")["ports"] == ["vm1", "vm0"]


# ---- wrong input: one line that says what ----

@pytest.mark.parametrize("line,message", [
    ("set burst 600", r"nb pkt per burst: 600 > 64 \(maximum packet per burst\)  ignored$"),
    ("set burst 0", "set burst: 0 is out of range"),
    ("set fwd nonsense", "set fwd: .*'nonsense'"),
    ("set txpkts 10", r"set txpkts 10: .*42 bytes"),
    ("set txpkts 64,", r"'64,' is not a list of numbers"),
    ("set txpkts 64,x", r"'64,x' is not a list of numbers"),
    ("set txpkts 60000", "set txpkts 60000: a segment does not fit an mbuf"),
    ("set txpkts 70000", "70000 in '70000' is too large"),
    ("set txpkts " + ",".join(["64"] * 17), "has more than 16 numbers"),
    ("set portlist 0,7", "Invalid port 7"),
    ("set portlist 0,0", "duplicated port 0 at index 0 and 1"),
    ("set portlist 0,,1", "Invalid port "),
    ("set portmask 0", "Invalid NULL mask of ports"),
    ("set portmask 0x10", "Invalid port 4"),
    ("set nbcore 5", r"nb fwd cores 5 > 1 \(max. number of configured lcores\) - ignored"),
    ("set nbcore 0", "set nbcore: 0 is out of range"),
    ("set corelist 0", "lcore 0 cannot be masked on for running packet forwarding"),
    ("set corelist 1,1", "duplicated core 1 at index 0 and 1"),
    ("set corelist 7", "lcore 7 not enabled"),
    ("set promisc 0 off", "Error during disabling promiscuous mode for port 0: Operation not supported"),
    ("set link-up port 0", "Set link up fail"),
    ("set link-down port vm1", "Set link down fail"),
    ("set burst tx delay 1000 retry 64", "would hold an lcore 64000 us: at most 10000"),
    ("show port 0 rxq 5 desc used count", "Invalid queueid = 5"),
    ("port attach bonkers", "Failed to attach port bonkers: "),
    ("port attach net_vhost9,queues=2", "Failed to attach port net_vhost9,queues=2: a vhost port takes iface=PATH"),
    ("port attach net_vhost9,iface=/x,queues=999", "Failed to attach port .*queues=1..128"),
    ("port attach net_vhost9,iface=/x,tso=1", "Failed to attach port "),
])
def test_one_line_says_what_is_wrong(idle, line, message):
    before = idle.run("config show")
    with pytest.raises(SluiceError, match=message) as error:
        idle.run(line)
    assert "\n" not in str(error.value)
    assert idle.run("config show") == before


def test_portmask_is_decimal_unless_0x(idle):
    """As in testpmd, where 10 is no mask of one bit."""
    assert idle.json("set portmask 2")["ports"] == ["vm1"]
    assert idle.json("set portmask 0x1")["ports"] == ["vm0"]
    with pytest.raises(SluiceError, match="Invalid port 3"):
        idle.run("set portmask 10")


# ---- traffic ----

NIC_STATS = re.compile(
    r"\n  #{24} NIC statistics for port (\d+) +#{24}\n"
    r"  RX-packets: (\d+) +RX-missed: (\d+) +RX-bytes:  (\d+)\n"
    r"  RX-errors: (\d+)\n"
    r"  RX-nombuf:  (\d+) *\n"
    r"  TX-packets: (\d+) +TX-errors: (\d+) +TX-bytes:  (\d+)\n"
    r"\n  Throughput \(since last show\)\n"
    r"  Rx-pps: +(\d+)          Rx-bps: +(\d+)\n"
    r"  Tx-pps: +(\d+)          Tx-bps: +(\d+)\n"
    r"  #{76}\n")

CYCLES = re.compile(r"\n  CPU cycles/packet=(\d+\.\d\d) \((?:busy|total) cycles=(\d+) / total (\w+) packets=(\d+)\)"
                    r" at \d+ MHz Clock\n")


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


# ---- hot plug ----

def test_attach_names_and_kinds(idle, folder):
    text = idle.run(f"port attach net_vhost5,iface={folder}/at,queues=3")
    assert text == "Attaching a new port...\nPort 2 is attached. Now total ports is 3\nDone\n"
    shown = idle.json("port show net_vhost5")
    assert (shown["mode"], shown["queue_pairs"], shown["socket"]) == ("listen", 3, f"{folder}/at")
    assert idle.json(f"port attach net_vhost5,iface={folder}/at2,client=1")["name"] == "port0"
    assert idle.json("port show port0")["mode"] == "connect"
    for line in ("port stop 2", "port close 2"):
        assert re.fullmatch(r"port \w+ is not needed here: .*\n", idle.run(line))
    assert "Port 2 is closed\nDevice is detached\nNow total ports is 3\nDone\n" in idle.run("port detach 2")
    idle.run("port detach port0")
    assert [p["name"] for p in idle.json("show port summary all")] == ["vm0", "vm1"]


def test_device_link_and_promisc(idle):
    idle.run("port attach net_null7")
    try:
        assert idle.run("set promisc net_null7 on") == ""
        with pytest.raises(SluiceError, match="Set link down fail"):
            idle.run("set link-down port net_null7")
        assert idle.json("show port info 2")["driver"] == "net_null"
        assert re.fullmatch(r"\d+ .*net_null7 +net_null +up +10 Gbps\n",
                            idle.run("show port summary 2").split("\n", 2)[2])
    finally:
        idle.run("port detach 2")


def test_more_ports_than_dpdk_has(idle, folder):
    """DPDK ends at 32; VM ports must not count."""
    for i in range(40):
        idle.run(f"port add many{i} listen {folder}/many{i}")
    try:
        assert idle.run("show port summary all").startswith("Number of available ports: 42\n")
        text = idle.run("show port stats all")
        assert [int(block[0]) for block in NIC_STATS.findall(text)] == list(range(42))
        assert len(idle.json("show fwd stats all")["ports"]) == 42
        assert idle.run("clear port stats many39") == "\n  NIC statistics for port 41 cleared\n"
    finally:
        for i in range(40):
            idle.run(f"port del many{i}")


# ---- lcores ----

def test_lcores_that_forward(folder):
    """set nbcore, set corelist, and pins, with two lcores for the queues of two ports."""
    every = ",".join(map(str, cpus()))
    eal = [f"--lcores=0@({every}),1@{cpus()[0]},2@({every})", "--no-pci", "--in-memory", "-m", "192",
           "--file-prefix=verbs_cores"]
    ports = ["port add a dev net_null0", "port add b dev net_null1,size=64"]

    def lcores_of(sw):
        return [s["lcore"] for s in sw.json("show config fwd")["streams"]]

    with Sluice(folder, eal=eal, options=["--stop", "--fwd", "rxonly"], commands=ports) as sw:
        assert sorted(lcores_of(sw)) == [1, 2]
        assert " - cores=2 - streams=2 - " in sw.run("show config fwd")
        assert sw.run("show config cores").startswith("List of forwarding lcores:  1  2\n")
        sw.run("start")
        text = sw.run("set corelist 2")
        assert text == "previous number of forwarding cores 2 - changed to number of configured cores 1\n"
        assert lcores_of(sw) == [2, 2] and sw.run("show config cores").startswith("List of forwarding lcores:  2\n")
        assert "set corelist 2\n" in sw.run("config show")
        before = sw.json("show port stats b")["rx_packets"]
        sw.wait_until(lambda: sw.json("show port stats b")["rx_packets"] > before, "traffic on lcore 2")
        sw.run("queue pin a 0 1")
        assert lcores_of(sw) == [1, 2]
        assert sw.run("set nbcore 2") == "Number of forwarding cores set to 2\n"
        assert lcores_of(sw) == [1, 2]
        sw.run("queue unpin a 0")
        assert sw.run("set nbcore 1") == "Number of forwarding cores set to 1\n" and lcores_of(sw) == [1, 1]
        assert "corelist 1\n" in sw.run("config show")


def test_verbose_logs_messages(idle, folder):
    size = len(idle.log)
    assert idle.run("set verbose 1").startswith("Change verbose level from 0 to 1\n")
    try:
        idle.run(f"port add chat listen {folder}/chat")
        vdev = f"net_virtio_user0,path={folder}/chat"
        with Testpmd("chat", frontend_eal(vdev)):
            idle.wait_link("chat")
        assert "SET_MEM_TABLE" in idle.log[size:]
    finally:
        assert idle.run("set verbose 0") == "Change verbose level from 1 to 0\n"
        idle.run("port del chat")


# ---- the command line ----

def test_options_of_testpmd(folder):
    eal = [*lcores(0), "--no-pci", "--in-memory", "-m", "192", "--file-prefix=verbs_options"]
    options = ["--stop", "-a", "--forward-mode=mac", "--port-topology=loop", "--txpkts=64,128", "--record-core-cycles",
               "--stats-period", "1"]
    with Sluice(folder, eal=eal, options=options, commands=["port add a dev net_null0"]) as sw:
        shown = sw.json("show config fwd")
        assert (shown["engine"], shown["forwarding"]) == ("mac", True)
        assert shown["streams"][0]["tx_port"] == 0
        assert sw.run("show config txpkts").startswith("Number of segments: 2\nSegment sizes: 64,128\n")
        sw.wait_until(lambda: "\nPort statistics ====================================\n" in sw.log, "statistics", 5)
        assert NIC_STATS.search(sw.log)
        assert CYCLES.search(sw.run("stop"))


@pytest.mark.parametrize("options,message", [
    (["--txpkts", "64,x"], "'64,x' is not a list of numbers"),
    (["--txpkts", "10"], "--txpkts 10: .*42 bytes"),
    (["--stats-period", "0"], "--stats-period wants a number from 1 to"),
])
def test_wrong_options(options, message):
    done = subprocess.run([binary(), "--", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and re.fullmatch(rf"sluice: .*{message}.*\n", done.stderr)
