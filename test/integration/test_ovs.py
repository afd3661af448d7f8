# SPDX-License-Identifier: BSD-3-Clause
"""The distribution's own Open vSwitch with our driver, as ports of type dpdk."""

import os
import shutil
import time

import pytest
from ovs import VSWITCHD, OpenVSwitch
from testpmd import Testpmd, frontend_eal, loadable

from sluice import TOP


@pytest.fixture
def ovs(folder):
    if not os.path.exists(VSWITCHD):
        pytest.skip("openvswitch-switch-dpdk is missing (usertools/setup installs it)")
    driver, copied = loadable(os.path.join(os.environ.get("SLUICE_BUILD", TOP / "build"),
                                           "drivers/net/sluice/librte_net_sluice.so"))
    run = folder / "ovs"
    run.mkdir()
    try:
        with OpenVSwitch(run, plugin=driver) as running:
            yield running
    finally:
        shutil.rmtree(run)
        if copied:
            shutil.rmtree(copied)


def test_traffic_statistics_and_hotplug(ovs, folder):
    """Ports are added, carry every packet, show our per-queue statistics, and go again."""
    ovs.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
    paths = [folder / f"ovs{n}" for n in (0, 1)]
    for n, path in enumerate(paths):
        ovs.vsctl("add-port", "br0", f"p{n}", "--", "set", "Interface", f"p{n}", "type=dpdk",
                  f"options:dpdk-devargs=net_sluice{n},iface={path}")
        assert ovs.vsctl("get", "Interface", f"p{n}", "error").strip() in ("[]", '""'), ovs.log
    ovs.ofctl("add-flow", "br0", "in_port=p0,actions=output:p1")
    front = frontend_eal(*[f"net_virtio_user{n},path={path},queue_size=1024" for n, path in enumerate(paths)], mem=256)
    with Testpmd("guests", front, ["--txd=1024", "--rxd=1024"]) as guests:
        for n in (0, 1):
            deadline = time.monotonic() + 10
            while ovs.vsctl("get", "Interface", f"p{n}", "link_state").strip() != "up":
                assert time.monotonic() < deadline, ovs.log
                time.sleep(0.2)
        guests.command("set portlist 0,1")
        guests.command("set fwd rxonly")
        guests.command("start tx_first 4")
        guests.wait_until(lambda _: guests.stats(1)["RX-packets"] >= 128, "arrival of 128 packets", timeout=10)
        guests.command("stop")
        deadline = time.monotonic() + 10
        while "rx_packets=128" not in (statistics := ovs.vsctl("get", "Interface", "p0", "statistics")):
            assert time.monotonic() < deadline, statistics
            time.sleep(0.5)
        assert "rx_q0_packets=128" in statistics or "rx_q0_good_packets=128" in statistics, statistics
    for n, path in enumerate(paths):
        ovs.vsctl("del-port", "br0", f"p{n}")
        assert not path.exists(), "the driver left its socket behind"
