# SPDX-License-Identifier: BSD-3-Clause
"""Where the programs users call, and what tests share, are found."""

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/support"))
sys.path.insert(0, str(TOP / "usertools"))
