# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark: `usertools/bench` and the programs in test/bench are thin callers of it.

cells     what can be measured: scenarios, sizes, ring paths
machine   the machine: placement of its CPUs, its clock, stolen time, freezing and favouring processes
peers     who is measured: our driver, our switch, net_vhost, Open vSwitch, any command
guests    the other side: our own guest program, or testpmd
runner    windows of all peers in turn
figures   medians, intervals, which windows may be compared
store     CSV and JSON
plots     SVG
report    HTML and text
"""

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/support"))
