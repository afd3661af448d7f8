# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of testpmd's verbs share: their guests, and what scripts take out of the texts."""

import re
import shutil

import pytest
from testpmd import Testpmd, frontend_eal

from sluice import binary

NEEDS = [
    pytest.mark.skipif(not binary().exists(), reason=f"{binary()} is not built"),
    pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="dpdk-testpmd is not installed"),
]

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


def guests(folder, count=2):
    """Two guests in one process, each with one queue pair, on the last CPU."""
    vdevs = [f"net_virtio_user{i},path={folder}/vm{i}" for i in range(count)]
    return Testpmd("guests", frontend_eal(*vdevs))


def numbers(text, *names):
    """All values of each name, in order: numbers(t, "RX-packets") -> [1, 2]."""
    found = [[int(n) for n in re.findall(rf"\b{name}:\s+(\d+)", text)] for name in names]
    return found[0] if len(found) == 1 else found
