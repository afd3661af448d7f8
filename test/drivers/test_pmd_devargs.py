# SPDX-License-Identifier: BSD-3-Clause
"""What the driver says of itself, and what it says to wrong arguments."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from testpmd import Testpmd, backend_eal

KEYS = ("iface", "queues", "client", "iommu-support", "postcopy-support", "tso", "linear-buffer", "ext-buffer",
        "legacy-ol-flags", "zero-copy", "state-file", "mac")
LONG = "/run/" + "x" * 103  # the last name: 86 bytes are one too many where the path has 108


@pytest.fixture(scope="module")
def testpmd(driver):
    """A program without ports, to which the tests attach some."""
    with Testpmd("devargs", backend_eal(driver)) as pmd:
        yield pmd


def attach(testpmd, sockets, devargs):
    return testpmd.command("port attach net_sluice7," + devargs.format(s=sockets / "s"))


def complaints(said):
    return re.findall(r"^net_sluice: (.*)$", said, re.M)


@pytest.mark.parametrize("devargs, line", [
    ("queues=1", "iface=<path of a unix socket> is missing"),
    ("iface=", "iface=<path of a unix socket> is missing"),
    (f"iface={LONG}", "the socket path has 108 bytes and its last name 103, at most 85 are possible there: choose a shorter one"),
    ("iface={s},queues=0", "queues=0: it takes a number of queue pairs from 1 to 128"),
    ("iface={s},queues=129", "queues=129: it takes a number of queue pairs from 1 to 128"),
    ("iface={s},queues=2x", "queues=2x: it takes a number of queue pairs from 1 to 128"),
    ("iface={s},queues=-1", "queues=-1: it takes a number of queue pairs from 1 to 128"),
    ("iface={s},client=2", "client=2: it takes 0 (listen at iface) or 1 (connect to it)"),
    ("iface={s},tso=yes", "tso=yes: it takes 0 or 1"),
    ("iface={s},tso", "tso=: it takes 0 or 1"),
    ("iface={s},iommu-support=2", "iommu-support=2: it takes 0 or 1"),
    ("iface={s},postcopy-support=2", "postcopy-support=2: it takes 0 or 1"),
    ("iface={s},zero-copy=2", "zero-copy=2: it takes 0 or 1"),
    ("iface={s},zero-copy=1,linear-buffer=1", "zero-copy=1 makes chains of mbufs, linear-buffer=1 none: use one of them"),
    ("iface={s},zero-copy=1,iommu-support=1", "zero-copy=1 does not go together with iommu-support=1: use one of them"),
    ("iface={s},zero-copy=1,postcopy-support=1", "zero-copy=1 does not go together with postcopy-support=1: use one"),
    ("iface={s},mac=01:00:00:00:00:01", "mac=01:00:00:00:00:01: it takes a unicast address as 02:00:00:00:00:01"),
    ("iface={s},mac=nonsense", "mac=nonsense: it takes a unicast address as 02:00:00:00:00:01"),
    ("iface={s},queues=1,queues=2", "queues is given twice"),
    ("iface={s},colour=red", "colour is unknown; known are: iface=<path>"),
    ("iface=/nonexistent/s", "No such file or directory"),
])
def test_refused(testpmd, sockets, devargs, line):
    attach(testpmd, sockets, devargs)  # the first device of a process opens an eventfd that stays (virtq_trap.h)
    before = len(os.listdir(f"/proc/{testpmd.pid}/fd")), len(os.listdir(f"/proc/{testpmd.pid}/task"))
    said = complaints(attach(testpmd, sockets, devargs))
    assert len(said) == 1 and said[0].startswith("net_sluice7: ") and line in said[0]
    assert (len(os.listdir(f"/proc/{testpmd.pid}/fd")), len(os.listdir(f"/proc/{testpmd.pid}/task"))) == before


def test_accepted(testpmd, sockets):
    """Everything net_vhost takes, in one go."""
    said = attach(testpmd, sockets, "iface={s},queues=128,client=0,iommu-support=1,postcopy-support=1,tso=1,"
                  "linear-buffer=1,ext-buffer=1,legacy-ol-flags=1,mac=02:00:00:00:00:42")
    assert "is attached" in said and not complaints(said)
    info = testpmd.command("show port info 0")
    assert "MAC address: 02:00:00:00:00:42" in info
    assert "Max possible RX queues: 128" in info and "Max possible TX queues: 128" in info
    testpmd.command("port detach 0")


@pytest.mark.parametrize("devargs, rx, tx", [
    ("", {"SCATTER", "UDP_CKSUM", "TCP_CKSUM", "VLAN_STRIP"},
     {"MULTI_SEGS", "VLAN_INSERT", "IPV4_CKSUM", "UDP_CKSUM", "TCP_CKSUM"}),
    (",tso=1", {"SCATTER", "UDP_CKSUM", "TCP_CKSUM", "VLAN_STRIP", "TCP_LRO"},
     {"MULTI_SEGS", "VLAN_INSERT", "IPV4_CKSUM", "UDP_CKSUM", "TCP_CKSUM", "TCP_TSO", "UDP_TSO"}),
    (",linear-buffer=1,legacy-ol-flags=1", {"VLAN_STRIP"}, {"MULTI_SEGS", "VLAN_INSERT"}),
])
def test_offloads_offered(testpmd, sockets, devargs, rx, tx):
    attach(testpmd, sockets, "iface={s}" + devargs)
    for command, names in (("rx", rx), ("tx", tx)):
        port = re.search(r"Per Port\s*:(.*)", testpmd.command(f"show port 0 {command}_offload capabilities")).group(1)
        assert set(port.split()) == names
    testpmd.command("port detach 0")


def test_busy_sockets(testpmd, sockets):
    """A live socket and somebody's file are left alone; the socket of a program that died is not in the way."""
    path = sockets / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        said = complaints(attach(testpmd, sockets, "iface={s}"))
        assert len(said) == 1 and "choose another path" in said[0]
        assert path.is_socket()
    said = attach(testpmd, sockets, "iface={s}")
    assert "is attached" in said and not complaints(said)
    testpmd.command("port detach 0")
    path.write_text("precious")
    assert len(complaints(attach(testpmd, sockets, "iface={s}"))) == 1
    assert path.read_text() == "precious"
    path.unlink()


def test_pmdinfo(built_driver):
    out = subprocess.run(["dpdk-pmdinfo.py", built_driver], check=True, capture_output=True, text=True).stdout
    (info,) = json.loads(out)
    assert info["name"] == "net_sluice"
    assert [word.split("=")[0] for word in info["params"].split()] == list(KEYS)


def test_exports_nothing(built_driver):
    out = subprocess.run(["nm", "-D", "--defined-only", built_driver], check=True, capture_output=True, text=True).stdout
    assert out == ""


def test_other_dpdk(driver, tmp_path):
    """In a DPDK of another release the driver registers nothing and says why."""
    source, shim = tmp_path / "version.c", tmp_path / "version.so"
    source.write_text("unsigned int rte_version_month(void) { return 7; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    with Testpmd("other release", backend_eal(driver), env={"LD_PRELOAD": str(shim)}) as pmd:
        said = complaints(pmd.log)
        assert len(said) == 1 and re.search(r"built for DPDK \d\d\.\d\d, this is \d\d\.07: not loaded", said[0])
        assert "Failed to attach" in pmd.command("port attach net_sluice0,iface=/run/never")
        assert not Path("/run/never").exists()
