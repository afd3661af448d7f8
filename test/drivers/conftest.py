# SPDX-License-Identifier: BSD-3-Clause
"""What the driver's tests share: where the driver is, a folder for sockets, pairs of testpmds."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/support"))

from testpmd import Pair, Testpmd, backend_eal, frontend_eal, loadable  # noqa: E402


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
