# SPDX-License-Identifier: BSD-3-Clause
"""The switch in a machine with PCI NICs behind an IOMMU: DPDK's own drivers, VFIO, DMA."""

import itertools

import pytest
from machine import EchoGuest, Machine, MachineSluice
from wire import frame

NICS = ["e1000e", "vmxnet3"]
_numbers = itertools.count(1)


def frames(*sizes):
    return [frame(next(_numbers), size) for size in sizes]


@pytest.fixture(scope="module")
def pci(folder):
    with Machine(folder, NICS) as running:
        running.bind()
        yield running
        assert running.dma_faults() == []


@pytest.fixture
def switch(pci):
    ports = [f"port add {nic} dev {address}" for nic, address in zip(NICS, pci.addresses)]
    with MachineSluice(pci, [ports[0], "port add vm listen /run/vm"]) as running:
        yield running


def test_echo(pci, switch):
    vm = EchoGuest(pci, "/run/vm")
    switch.wait_link("vm")
    switch.wait_link("e1000e")
    pci.wires[0].echo(frames(*range(60, 1515, 13)))
    print(vm.stop(), switch.locked)
    assert switch.stop() == 0
