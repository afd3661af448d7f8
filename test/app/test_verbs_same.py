# SPDX-License-Identifier: BSD-3-Clause
"""testpmd's verbs: what the switch answers, beside what stock testpmd answers to the same.

Stock testpmd with two net_vhost ports, and then the switch with two VM ports, get the same guest (a testpmd with
two virtio-user ports) and the same commands. Where nothing moved, the texts must be the same to the byte, but for
the values named in MASKS.
"""

import re

import pytest
from testpmd import Testpmd, backend_eal
from verbs import NEEDS, guests

pytestmark = NEEDS

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
    (r"(?m)^\w+_(drop_\w+|guest_notifications_error|mbuf_alloc_failed|zero_copy_\w+|direct_packets|(recovered|repeated)_chains): 0\n", ""),
    (r"(?m)^drop_\w+: 0\n|^left_out_polls: \d+\n", ""),
    # Only testpmd's: a step that is not needed here.
    (r"(?m)^Port was not closed\n", ""),
]


def masked(text):
    for pattern, replacement in MASKS:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.fixture(scope="module")
def stock(folder):
    """Stock testpmd's answers to SAME, without the blank lines before."""
    vdevs = [f"net_vhost{i},iface={folder}/vm{i}" for i in range(2)]
    with Testpmd("stock", backend_eal(None, *vdevs), app=["--no-flush-rx"]) as pmd, guests(folder):
        for port in (0, 1):
            pmd.wait_link("up", port)
        return [(line, pmd.command(line).lstrip("\n")) for line in SAME]


@pytest.fixture(scope="module")
def switch(stock, switch):
    """After stock: they use the same sockets."""
    return switch


@pytest.fixture(scope="module")
def ours(switch, guest):
    """The switch's answers to SAME, the same way."""
    return [(line, switch.run(line).lstrip("\n")) for line in SAME]


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
