# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest whose driver goes through QEMU's intel-iommu, and one without, on one switch: doc/attach.md, done."""

import shlex

import pytest
from guest import Guest, Nic, together
from machine import IommuGuest
from page import block
from sluice import Sluice
from talk import fetch, ping, rebind

(IOMMU,), (NIC,) = ([word for word in shlex.split(block("qemu-iommu")) if word.startswith(kind)]
                    for kind in ("intel-iommu,", "virtio-net-pci,"))
PROPS = dict(word.split("=") for word in NIC.split(",")[3:])


class TranslatedGuest(IommuGuest):
    """As the page has it; its kernel uses the IOMMU for every device."""

    def __init__(self, *args, **options):
        super().__init__(*args, iommu=IOMMU.partition(",caching-mode=on,")[2], words="iommu.passthrough=0", **options)


@pytest.fixture(scope="module")
def switch(folder):
    (line,) = block("iommu-port").splitlines()
    ports = [line.removeprefix("sluice> ").replace("/run/sluice", str(folder)), f"port add vm2 listen {folder}/vm2.sock"]
    with Sluice(folder, commands=ports) as running:
        yield running


@pytest.fixture(scope="module")
def guests(folder, switch):
    """10.0.0.1 has the IOMMU."""
    vms = [TranslatedGuest("vm1", [Nic(f"{folder}/vm1.sock", address="10.0.0.1/24", props=PROPS)], directory=folder / "vm1"),
           Guest("vm2", [Nic(f"{folder}/vm2.sock", address="10.0.0.2/24")], directory=folder / "vm2")]
    with together(*vms, timeout=120) as running:
        yield running


def test_translations_are_used(switch, guests):
    ping(guests[0], "10.0.0.2")
    assert "ACCESS_PLATFORM" in str(switch.json("port show vm1")["features"])
    assert "DMAR: Intel(R) Virtualization Technology" in guests[0].check("dmesg")


def test_file_arrives_intact(guests):
    fetch(guests[1], guests[0], "10.0.0.2", 2)
    fetch(guests[0], guests[1], "10.0.0.1", 2)


def test_driver_unbind_and_bind(switch, guests):
    """All translations go, and others come."""
    rebind(switch, guests[0])


def test_guest_reboots(switch, guests):
    guests[0].reboot(120)
    switch.wait_link("vm1", "up")
    ping(guests[0], "10.0.0.2")
