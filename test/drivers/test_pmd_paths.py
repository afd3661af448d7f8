# SPDX-License-Identifier: BSD-3-Clause
"""The ten ring paths of DPDK's own test plan: every kind of ring that stock net_virtio_user can be."""

import pytest

PATHS = {
    "split-mergeable": "mrg_rxbuf=1,in_order=0",
    "split-non-mergeable": "mrg_rxbuf=0,in_order=0",
    "split-vector-rx": "mrg_rxbuf=0,in_order=0,vectorized=1",
    "split-in-order-mergeable": "mrg_rxbuf=1,in_order=1",
    "split-in-order-non-mergeable": "mrg_rxbuf=0,in_order=1",
    "packed-mergeable": "packed_vq=1,mrg_rxbuf=1,in_order=0",
    "packed-non-mergeable": "packed_vq=1,mrg_rxbuf=0,in_order=0",
    "packed-in-order-mergeable": "packed_vq=1,mrg_rxbuf=1,in_order=1",
    "packed-in-order-non-mergeable": "packed_vq=1,mrg_rxbuf=0,in_order=1",
    "packed-vectorized": "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
}


@pytest.mark.parametrize("devargs", ["", "zero-copy=1"])
@pytest.mark.parametrize("path", PATHS)
def test_path(start_pair, path, devargs):
    """Every packet arrives, several times round the ring, large ones too."""
    pair = start_pair(devargs, front=PATHS[path])
    for bursts in (1, 7, 3, 5):
        pair.both_ways(bursts=bursts)
    for pmd in pair.backend, pair.frontend:
        pmd.command("set txpkts 1514")
    for _ in range(4):
        pair.both_ways(bursts=4)
    xstats = pair.backend.xstats()
    assert sum(value for key, value in xstats.items() if "_drop_" in key or "error" in key) == 0
    assert (xstats["rx_q0_zero_copy_packets"] > 0) == bool(devargs)
