# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of testpmd's verbs share: a switch with two VM ports, and two guests in one process."""

import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from sluice import Sluice  # noqa: E402
from verbs import guests  # noqa: E402


@pytest.fixture(scope="module")
def folder():
    """For sockets and logs; nothing may be left in it at the end."""
    path = Path(tempfile.mkdtemp(prefix="verbs-"))
    yield path
    path.rmdir()


@pytest.fixture(scope="module")
def switch(folder):
    """Two VM ports, vm0 and vm1; it does not forward until it is told to."""
    ports = [f"port add vm{i} listen {folder}/vm{i}" for i in range(2)]
    with Sluice(folder, options=["--stop", "--fwd", "io", "--burst", "32"], commands=ports) as sw:
        yield sw


@pytest.fixture(scope="module")
def guest(switch, folder):
    """Both guests, connected."""
    with guests(folder) as pmd:
        for port in ("vm0", "vm1"):
            switch.wait_link(port)
        yield pmd


@pytest.fixture
def idle(switch, guest):
    """A switch that does not forward, with the usual settings and counters at zero; the guests rest too."""
    def rest():
        guest.command("stop")
        switch.run("stop")
        for line in ("set fwd io", "set burst 32", "set txpkts 64", "set txsplit off", "set portlist all",
                     "set verbose 0", "set record-core-cycles off", "clear port stats all", "clear fwd stats all"):
            switch.run(line)
    rest()
    yield switch
    rest()
