# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest moves by post-copy: it runs at the new switch before its memory has come, and keeps nobody else waiting."""

import os
import time

import pytest
from hostnet import Namespace
from testpmd import Testpmd, frontend_eal

from guest import Guest, Nic
from sluice import Sluice
from test_viommu import PROPS, TranslatedGuest

HOST, VM, MAC = "10.0.8.1", "10.0.8.2", "52:54:00:08:00:02"


@pytest.fixture(scope="module")
def host():
    with Namespace(f"slpc{os.getpid()}") as namespace:
        namespace.bridge("br0", f"{HOST}/24")
        yield namespace


@pytest.fixture(scope="module")
def switches(folder, host):
    """Two switches with one worker each; b also has the neighbours c and d."""
    started = {}
    try:
        for name in "ab":
            ports = [f"port add vm listen {folder}/{name}.sock postcopy iommu", f"port add up dev net_tap_p{name},iface=tap-p{name}"]
            if name == "b":
                ports += [f"port add {port} listen {folder}/{port}" for port in "cd"]
            started[name] = Sluice(folder, commands=ports)
            with host.entered():
                started[name].start()
            # It talks before it has done all commands.
            started[name].wait_until(lambda name=name: f"tap-p{name}:" in host.run("ip", "-o", "link"), "TAP")
            host.run("ip", "link", "set", f"tap-p{name}", "master", "br0", "up")
        yield started
    finally:
        for switch in started.values():
            switch.close()


class Neighbours:
    """Packets that circle through the ports c and d, one burst each way; how long they ever stood still."""

    def __init__(self, switch, folder):
        self.switch = switch
        vdevs = [f"net_virtio_user{n},path={folder}/{port},mac=02:00:00:00:08:{n + 1:02x}" for n, port in enumerate("cd")]
        self.pmd = Testpmd("neighbours", frontend_eal(*vdevs))

    def __enter__(self):
        self.pmd.__enter__()
        for port in "cd":
            self.switch.wait_link(port)
        self.switch.run("fdb static add 02:00:00:00:08:01 c")
        self.switch.run("fdb static add 02:00:00:00:08:02 d")
        self.pmd.command("set eth-peer 0 02:00:00:00:08:02")
        self.pmd.command("set eth-peer 1 02:00:00:00:08:01")
        self.pmd.command("set fwd mac")
        self.pmd.command("start tx_first 1")
        self.switch.wait_until(lambda: self.count() > 1000, "traffic of the neighbours")
        self.switch.run("clear port stats all")  # what was lost before all queues were enabled
        return self

    def __exit__(self, *error):
        self.pmd.__exit__(*error)

    def count(self):
        return self.switch.json("port show c")["counters"]["rx_packets"]

    def watch(self, until, timeout=120):
        """Look again and again until until() is true; the longest time in seconds without a packet."""
        last, since, longest, deadline = self.count(), time.monotonic(), 0, time.monotonic() + timeout
        while not until():
            asked = time.monotonic()
            n = self.count()
            assert asked < deadline, "it does not come to an end"
            if n != last: # at some time since the last answer
                longest = max(longest, asked - since)
                last, since = n, time.monotonic()
        return max(longest, time.monotonic() - since)


def status(guest):
    return guest.qmp("query-migrate").get("status", "none")


def capable(guest):
    guest.qmp("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])


KINDS = {"split": (Guest, {}), "packed": (Guest, {"packed": True}), "iommu": (TranslatedGuest, PROPS)}


@pytest.mark.parametrize("kind", KINDS)
def test_runs_before_its_memory_has_come(folder, host, switches, kind):
    make, props = KINDS[kind]
    nics = {name: Nic(f"{folder}/{name}.sock", mac=MAC, address=f"{VM}/24", props=props) for name in "ab"}
    guest = make("post", [nics["a"]], directory=folder / f"post-{kind}", memory=192)
    twin = make("post", [nics["b"]], directory=folder / f"twin-{kind}", memory=192, extra=["-incoming", "defer"])
    twin._mark = guest._mark
    try:
        guest.start()
        guest.wait_ready(120)
        guest.check(f"ping -c 1 -w 20 {HOST}", 30)
        guest.check("dd if=/dev/urandom of=/run/file bs=1M count=24 2>/dev/null; sha256sum </run/file >/run/sum", 120)
        with Neighbours(switches["b"], folder) as neighbours:
            usual = neighbours.watch(lambda end=time.monotonic() + 3: time.monotonic() > end)
            twin.start()
            for vm in guest, twin:
                capable(vm)
            twin.qmp("migrate-incoming", uri=f"unix:{twin.directory}/incoming.sock")
            # Slowly, so that much of it is still to come when the guest runs there.
            guest.qmp("migrate-set-parameters", **{"max-bandwidth": 8 << 20, "max-postcopy-bandwidth": 4 << 20})
            guest.qmp("migrate", uri=f"unix:{twin.directory}/incoming.sock")
            time.sleep(1)
            guest.qmp("migrate-start-postcopy")
            longest = neighbours.watch(lambda: status(guest) in ("completed", "failed"))
            assert status(guest) == "completed"
            lost = {drop["reason"] for port in "cd" for drop in switches["b"].json(f"port show {port}")["drops"]}
        told = guest.qmp("query-migrate")
        twin._number = guest._number
        guest.stop()
        switches["b"].wait_link("vm")
        used = switches["b"].json("port show vm")["features"].split()
        assert ("RING_PACKED" in used, "ACCESS_PLATFORM" in used) == (kind == "packed", kind == "iommu")
        assert twin.check("sha256sum </run/file", 60).split()[0] == twin.check("cat /run/sum").split()[0]
        twin.check(f"for i in $(seq 20); do ping -c 1 -W 1 {HOST} && exit 0; done; exit 1", 40)
        print(f"{kind}: {told['total-time']} ms, down {told['downtime']} ms, {told['ram']['postcopy-requests']} pages asked for; "
              f"the neighbours stood still {longest * 1000:.0f} ms at most (before: {usual * 1000:.0f} ms)")
        assert told["ram"]["postcopy-requests"] > 0
        assert not lost, lost
        assert longest < 2
        for switch in switches.values():
            assert "refused" not in switch.log
    finally:
        guest.stop()
        twin.stop()
        (twin.directory / "incoming.sock").unlink(missing_ok=True)
