# SPDX-License-Identifier: BSD-3-Clause
"""What the driver's tests share: where the driver is, a folder for sockets, a pair of testpmds."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/support"))

from testpmd import Testpmd, backend_eal, frontend_eal, loadable  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def machine():
    if os.geteuid() != 0:
        pytest.skip("DPDK needs root here")
    with open("/proc/meminfo", encoding="ascii") as f:
        free = next(int(line.split()[1]) for line in f if line.startswith("HugePages_Free"))
    if free < 128:
        pytest.skip(f"{free} free hugepages, 128 are needed (usertools/setup reserves them)")


@pytest.fixture(scope="session")
def built_driver():
    build = Path(os.environ.get("SLUICE_BUILD", TOP / "build"))
    path = build / "drivers/net/sluice/librte_net_sluice.so"
    assert path.exists(), f"{path} is missing: build first, or set SLUICE_BUILD"
    return path


@pytest.fixture(scope="session")
def driver(built_driver):
    """The driver where EAL accepts it."""
    path, folder = loadable(built_driver)
    yield path
    if folder:
        shutil.rmtree(folder)


@pytest.fixture
def sockets():
    """A folder with a path short enough for sockets; it must be empty again at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sl-", dir="/run"))
    yield folder
    left = [p.name for p in folder.iterdir()]
    shutil.rmtree(folder)
    assert not left, f"left behind: {left}"


class Pair:
    """A back-end's port and a virtio-user front-end, both in testpmd."""

    def __init__(self, backend, frontend, port=0):
        self.backend, self.frontend, self._port = backend, frontend, port

    def _stats(self, pmd):
        return pmd.stats(self._port if pmd is self.backend else 0)

    def send(self, sender, receiver, bursts=4):
        """32 packets a burst and queue, one way. (sent, received) as their ports count."""
        before = self._stats(sender)["TX-packets"], self._stats(receiver)["RX-packets"]

        def counts():
            return self._stats(sender)["TX-packets"] - before[0], self._stats(receiver)["RX-packets"] - before[1]

        self.backend.command(f"set portlist {self._port}")
        for pmd in receiver, sender:
            pmd.command("set fwd rxonly")
        receiver.command("start")
        sender.command(f"start tx_first {bursts}")
        receiver.wait_until(lambda _: counts()[0] == counts()[1] > 0, "every packet's arrival")
        sent = sender.forwarded()
        receiver.command("stop")
        assert sent["TX-packets"] == counts()[0], "testpmd and the driver disagree on what was sent"
        return counts()

    def both_ways(self, queues=1, bursts=4):
        """Exactly as many arrive as were sent, and none was refused: rings are larger than this."""
        offered = 32 * bursts * queues
        assert self.send(self.frontend, self.backend, bursts) == (offered, offered)
        assert self.send(self.backend, self.frontend, bursts) == (offered, offered)


@pytest.fixture
def start_pair(driver, sockets):
    """start_pair(devargs="queues=2", front="mrg_rxbuf=0", ...): a Pair whose link is up."""
    with contextlib.ExitStack() as stack:

        def start(devargs="", front="", backend_app=(), frontend_app=(), client=False, vdevs=()):
            path = sockets / "s"
            back = backend_eal(driver, f"net_sluice0,iface={path},client={int(client)}" + (devargs and "," + devargs), *vdevs)
            fore = frontend_eal(f"net_virtio_user0,path={path},server={int(client)}" + (front and "," + front))
            backend = stack.enter_context(Testpmd("backend", back, backend_app))
            frontend = stack.enter_context(Testpmd("frontend", fore, frontend_app))
            backend.wait_link("up")
            return Pair(backend, frontend)

        yield start
