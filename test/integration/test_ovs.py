# SPDX-License-Identifier: BSD-3-Clause
"""The distribution's own Open vSwitch with our driver, as ports of type dpdk."""

import os
import shutil
import subprocess
import time

import pytest
from testpmd import Testpmd, frontend_eal, loadable

from sluice import TOP

VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"


class OpenVSwitch:
    """A private ovsdb-server and ovs-vswitchd in a folder of their own."""

    def __init__(self, folder, driver):
        self.folder, self.driver = folder, driver
        self.env = {**os.environ, "OVS_RUNDIR": str(folder), "OVS_LOGDIR": str(folder), "OVS_DBDIR": str(folder),
                    "OVS_SYSCONFDIR": str(folder)}
        self.processes = []

    def tool(self, *argv, timeout=30):
        done = subprocess.run([str(a) for a in argv], env=self.env, capture_output=True, text=True, timeout=timeout,
                              check=False)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def vsctl(self, *words):
        return self.tool("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "--timeout=20", *words)

    def _spawn(self, name, *argv):
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(subprocess.Popen([str(a) for a in argv], env=self.env, stdout=log, stderr=log))

    def __enter__(self):
        try:
            self.tool("ovsdb-tool", "create", self.folder / "conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
            self._spawn("ovsdb", "ovsdb-server", self.folder / "conf.db", f"--remote=punix:{self.folder}/db.sock",
                        f"--unixctl={self.folder}/db.ctl")
            self.vsctl("--retry", "--no-wait", "init")
            extra = f"-d {self.driver} --no-pci --in-memory --file-prefix=sl{os.getpid()}ovs"
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
                       "other_config:dpdk-socket-mem=512", "other_config:pmd-cpu-mask=2",
                       "other_config:dpdk-lcore-mask=1",
                       "other_config:stats-update-interval=1000", f"other_config:dpdk-extra=\"{extra}\"")
            self._spawn("vswitchd", VSWITCHD, f"unix:{self.folder}/db.sock", f"--unixctl={self.folder}/vs.ctl",
                        "--pidfile=" + str(self.folder / "vs.pid"), "--log-file=" + str(self.folder / "vs.log"))
            deadline = time.monotonic() + 20
            while not (self.folder / "vs.ctl").exists():
                assert self.processes[-1].poll() is None and time.monotonic() < deadline, self.log
                time.sleep(0.05)
            return self
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def log(self):
        path = self.folder / "vs.log"
        return path.read_text(errors="replace") if path.exists() else ""


@pytest.fixture
def ovs(folder):
    if not os.path.exists(VSWITCHD):
        pytest.skip("openvswitch-switch-dpdk is missing (usertools/setup installs it)")
    driver, copied = loadable(os.path.join(os.environ.get("SLUICE_BUILD", TOP / "build"),
                                           "drivers/net/sluice/librte_net_sluice.so"))
    run = folder / "ovs"
    run.mkdir()
    try:
        with OpenVSwitch(run, driver) as running:
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
    ovs.tool("ovs-ofctl", "add-flow", f"unix:{ovs.folder}/br0.mgmt", "in_port=p0,actions=output:p1")
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
