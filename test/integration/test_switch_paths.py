# SPDX-License-Identifier: BSD-3-Clause
"""The ten ring paths of DPDK's own test plan through the switch, negotiated as asked for."""

import sys
from pathlib import Path

import pytest
from testpmd import Testpmd, frontend_eal

from sluice import Sluice

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "drivers"))
from test_pmd_paths import PATHS  # noqa: E402


def expected(path):
    return {"RING_PACKED": "packed" in path, "IN_ORDER": "in-order" in path or path == "packed-vectorized",
            "MRG_RXBUF": "mergeable" in path and "non-mergeable" not in path}


@pytest.fixture(scope="module")
def switch(folder):
    with Sluice(folder, commands=[f"port add {p} listen {folder}/{p}" for p in "ab"] + ["set fwd io"]) as running:
        yield running


@pytest.mark.parametrize("path", PATHS)
def test_path(switch, folder, path):
    """One front-end of each kind after the other at the same two ports; every packet is accounted for."""
    before = [switch.json(f"port show {p}")["counters"]["rx_packets"] for p in "ab"]
    vdevs = [f"net_virtio_user{n},path={folder}/{p},{PATHS[path]}" for n, p in enumerate("ab")]
    with Testpmd("front", frontend_eal(*vdevs)) as pmd:
        for port in "ab":
            switch.wait_link(port)
            features = switch.json(f"port show {port}")["features"]
            assert {name: name in features for name in expected(path)} == expected(path)
        pmd.command("set fwd rxonly")
        for burst in range(1, 21):
            pmd.command("start tx_first 1")
            pmd.wait_until(lambda p, n=burst: all(p.stats(i)["RX-packets"] == 32 * n for i in (0, 1)), "each packet")
            pmd.command("stop")
    after = [switch.json(f"port show {p}")["counters"]["rx_packets"] for p in "ab"]
    assert [b - a for a, b in zip(before, after)] == [640, 640]
    assert [switch.json(f"port show {p}")["drops"] for p in "ab"] == [[], []]
