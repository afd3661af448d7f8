# SPDX-License-Identifier: BSD-3-Clause
"""What the integration tests share: a folder for sockets, a switch, QEMU guests."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/support"))
sys.path.insert(0, str(TOP / "usertools"))

from guest import Guest, Nic, together  # noqa: E402
from sluice import ALL, Sluice, binary  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs with SLUICE_ALL=1 (test/run --all) only")


def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if item.get_closest_marker("long") and not ALL]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def machine():
    if os.geteuid() != 0:
        pytest.skip("DPDK needs root here")
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("qemu-system-x86_64 is missing (usertools/setup installs it)")
    assert binary().exists(), f"{binary()} is missing: build first, or set SLUICE_BUILD"


@pytest.fixture(scope="module")
def folder():
    """For sockets and logs, with a short path; no socket may be left at the end."""
    path = Path(tempfile.mkdtemp(prefix="sl-", dir="/run"))
    yield path
    left = [str(p.relative_to(path)) for p in path.rglob("*") if p.is_socket()]
    shutil.rmtree(path)
    assert not left, f"sockets left behind: {left}"


@pytest.fixture(scope="module")
def states():
    """A folder in memory for state files; a clean stop leaves none."""
    path = Path(tempfile.mkdtemp(prefix="sluice-", dir="/dev/shm"))
    yield path
    left = sorted(p.name for p in path.iterdir())
    shutil.rmtree(path)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="module")
def switch(folder):
    """A bridge with two listening VM ports, vm1 and vm2."""
    ports = [f"port add {vm} listen {folder}/{vm}.sock" for vm in ("vm1", "vm2")]
    with Sluice(folder, commands=ports) as running:
        yield running


@pytest.fixture(scope="module")
def guests(folder, switch):
    """Two Linux guests on the switch, up and addressed 10.0.0.1 and 10.0.0.2."""
    vms = [Guest(vm, [Nic(f"{folder}/{vm}.sock", address=f"10.0.0.{n}/24")], directory=folder / vm)
           for n, vm in enumerate(("vm1", "vm2"), 1)]
    with together(*vms) as running:
        yield running
