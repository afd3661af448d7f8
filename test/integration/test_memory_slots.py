# SPDX-License-Identifier: BSD-3-Clause
"""Memory modules that come and go in a running guest with two queue pairs."""

import pytest
from guest import Guest, Nic, together
from sluice import Sluice
from talk import fetch, ping

MODULE = 128  # MiB: what Linux on x86 adds and removes as a whole
FIRST_BLOCK = (4 << 30) // (MODULE << 20)  # the first module lies at 4 GiB


@pytest.fixture(scope="module")
def switch(folder):
    """Two pairs for the guest that is plugged into: QEMU 7.2 says each region once for every pair."""
    ports = [f"port add vm1 listen {folder}/vm1.sock queues 2", f"port add vm2 listen {folder}/vm2.sock"]
    with Sluice(folder, commands=ports) as running:
        yield running


@pytest.fixture(scope="module")
def guests(folder, switch):
    more = ["-m", "slots=8,maxmem=4G"]
    vms = [Guest("vm1", [Nic(f"{folder}/vm1.sock", address="10.0.0.1/24", queues=2)], directory=folder / "vm1", extra=more),
           Guest("vm2", [Nic(f"{folder}/vm2.sock", address="10.0.0.2/24")], directory=folder / "vm2")]
    with together(*vms) as running:
        yield running


def regions(switch):
    return switch.json("port show vm1")["memory"]


def wait_regions(switch, count):
    switch.wait_until(lambda: len(regions(switch)) == count, f"{count} regions")


def plug(vm, number):
    memory = {"qom-type": "memory-backend-memfd", "id": f"mem{number}", "size": MODULE << 20, "share": True}
    vm.qmp("object-add", **memory)
    vm.qmp("device_add", driver="pc-dimm", id=f"dimm{number}", memdev=f"mem{number}")


def unplug(vm, number):
    vm.qmp("device_del", id=f"dimm{number}")


def online(vm, number, how):
    """The guest takes a module into use; its kernel does not do so by itself."""
    state = f"/sys/devices/system/memory/memory{FIRST_BLOCK + number}/state"
    vm.check(f"for i in $(seq 100); do [ -e {state} ] && break; sleep 0.1; done; echo {how} > {state}", 30)


class Pings:
    """Pings under way while something happens; a guest may be slow to answer, but none may be lost."""

    def __init__(self, vm, address):
        self.vm, self.address, self.job = vm, address, None

    def __enter__(self):
        ping(self.vm, self.address, 1)
        self.job = self.vm.popen(f"exec ping -c 200 -i 0.03 -W 30 {self.address}")

    def __exit__(self, kind, *_):
        if kind:
            self.job.kill()
            return
        _, output = self.job.wait(90)
        assert "200 packets received, 0% packet loss" in output, output[-300:]


def test_modules_are_plugged_under_traffic(switch, guests):
    before = len(regions(switch))
    with Pings(guests[1], "10.0.0.1"):
        for number in range(4):
            plug(guests[0], number)
            wait_regions(switch, before + number + 1)
    new = regions(switch)[-4:]
    assert [r["guest_address"] for r in new] == [hex((4 << 30) + n * (MODULE << 20)) for n in range(4)]
    assert {r["mib"] for r in new} == {MODULE}


def test_packets_lie_in_a_module(switch, guests):
    """Linux allocates from the highest zone first, and that is now the module."""
    vm = guests[0]
    online(vm, 0, "online_kernel")
    vm.check("mkdir -p /srv && mount -t tmpfs -o size=80M tmpfs /srv")
    fetch(vm, guests[1], "10.0.0.1", 16)
    zone = vm.check("awk '/^Node/ { normal = $4 == \"Normal\" } normal && /nr_free_pages|managed/ { print $2 }' /proc/zoneinfo")
    free, managed = sorted(int(word) for word in zone.split())[:2]
    assert (managed - free) * 4096 > 16 << 20, f"{free} of {managed} pages are free: the file is somewhere else"
    vm.check("killall httpd; umount /srv")


def test_modules_are_unplugged_under_traffic(switch, guests):
    """Two that were never used, and one that was and that the guest empties first."""
    before = len(regions(switch))
    online(guests[0], 1, "online_movable")
    with Pings(guests[1], "10.0.0.1"):
        for gone, number in enumerate((3, 2, 1), 1):
            unplug(guests[0], number)
            wait_regions(switch, before - gone)
    fetch(guests[0], guests[1], "10.0.0.1", 4)


def test_guest_reboots_with_a_module(switch, guests):
    before = regions(switch)
    guests[0].reboot(90)
    switch.wait_link("vm1", "up")
    ping(guests[0], "10.0.0.2")
    assert [r["guest_address"] for r in regions(switch)] == [r["guest_address"] for r in before]


def test_switch_restarts_with_a_module(switch, guests):
    before = regions(switch)
    switch.kill()
    switch.start()
    for vm in ("vm1", "vm2"):
        switch.wait_link(vm, "up", 30)
    ping(guests[0], "10.0.0.2")
    assert regions(switch) == before
    fetch(guests[0], guests[1], "10.0.0.1", 4)
