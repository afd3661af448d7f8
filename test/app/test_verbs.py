# SPDX-License-Identifier: BSD-3-Clause
"""testpmd's verbs, one by one: what they set, and the one line for each mistake."""

import os
import re
import subprocess

import pytest
from testpmd import Testpmd, cpus, frontend_eal, lcores
from verbs import CYCLES, NEEDS, NIC_STATS

from sluice import Sluice, SluiceError, binary

pytestmark = NEEDS


def test_set_values_as_json(idle):
    assert idle.json("set burst 17") == {"burst": 17}
    assert idle.json("set share 70") == {"share_us": 70} and idle.json("set share 50") == {"share_us": 50}
    assert idle.json("set txpkts 64,65") == {"segments": [64, 65]}
    assert idle.json("set portlist 1,0") == {"ports": ["vm1", "vm0"]}
    assert idle.json("set fwd mac retry") == {"engine": "mac", "retry": True}
    shown = idle.json("show config fwd")
    assert (shown["engine"], shown["burst"], shown["retry"]) == ("mac", 17, True)
    assert idle.json("show config txpkts") == {"segments": [64, 65], "split": "off"}
    core = idle.json("show config cores")[0]
    assert core["lcore"] == 1 and 0 <= core["busy_rounds"] <= core["rounds"]


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
    ("set share 1001", "set share: 1001 is out of range"),
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
           f"--file-prefix=sl{os.getpid()}_cores"]
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
    eal = [*lcores(0), "--no-pci", "--in-memory", "-m", "192", f"--file-prefix=sl{os.getpid()}_options"]
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
