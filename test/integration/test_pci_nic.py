# SPDX-License-Identifier: BSD-3-Clause
"""The switch in a machine with PCI NICs behind an IOMMU: DPDK's own drivers, VFIO, DMA; every byte is checked outside."""

import contextlib
import signal
import time

import pytest
from machine import HUGEPAGES, EchoGuest, Machine, MachineSluice, PmdGuest
from nicsim import WRONG, nicsim_built
from wire import Traffic

NICS = ("e1000e", "vmxnet3")
SIZES = [*range(60, 1514, 23), 1514]
# Shorter frames are copied in any case.
LENT = [size for size in SIZES if size >= 512]
# How the guest lays out what it sends.
LAYOUTS = {
    "split": [],
    "packed": ["packed"],
    "tables of pieces": ["indirect", "cuts=12,50,100,300"],
    "packed chains of pieces": ["packed", "cuts=11,1,100,100,100,100,100,100,100,100,100,100,100,100"],
}
# Only huge pages are mapped for devices: in others everything is copied.
MEMORY = {"small pages": [], "huge pages": ["huge"]}
# More than the NICs' rings hold.
RINGS_AROUND = 1100


@pytest.fixture(scope="module")
def pci(folder):
    with Machine(folder, NICS) as running:
        running.bind()
        yield running
        assert running.dma_faults() == []


@pytest.fixture(scope="module")
def switch(pci):
    """A bridge of both NICs and a guest."""
    ports = [f"port add {nic} dev {address}" for nic, address in zip(NICS, pci.addresses)]
    with MachineSluice(pci, [*ports, "port add vm listen /run/vm"], plugins=[nicsim_built()]) as running:
        for nic in NICS:
            running.wait_link(nic)
        running.base = running.locked
        yield running
        assert running.stop() == 0, running.log
    assert pci.check("ls /dev/hugepages; ls /run/vm || true") == "ls: /run/vm: No such file or directory\n"
    assert f"HugePages_Free:      {HUGEPAGES}\n" in pci.check("cat /proc/meminfo")


@contextlib.contextmanager
def guest(pci, switch, *words):
    """One that is right at the end."""
    vm = EchoGuest(pci, "/run/vm", *words)
    try:
        switch.wait_link("vm")
        yield vm
    except BaseException:
        vm.kill()
        raise
    said = vm.stop()
    assert (said["faults"], said["spoiled"], said["refused"], said["stopped"]) == (0, 0, 0, True), said
    switch.wait_link("vm", "down")


@contextlib.contextmanager
def port(switch, name, device):
    """One more for a while."""
    switch.run(f"port add {name} dev {device}")
    try:
        yield
    finally:
        switch.run(f"port del {name}")


def settle(machine):
    """Nothing is on its way any more, and the bridge knows where the guest is."""
    for wire in machine.wires:
        wire.settle()


def echo(machine):
    """Into each NIC, and back out of it."""
    settle(machine)
    for wire in machine.wires:
        wire.echo(SIZES)


def test_addresses_of_39_bits(folder):
    """What the IOMMU of a desktop translates: less than a process's addresses have."""
    with Machine(folder / "narrow", ["e1000"], width=39) as narrow:
        narrow.bind()
        with MachineSluice(narrow, [f"port add nic dev {narrow.addresses[0]}", "port add vm listen /run/vm"]) as switch:
            assert "Selected IOVA mode 'VA'" in switch.log
            switch.wait_link("nic")
            with guest(narrow, switch, "huge"):
                assert "VFIO does not map its memory" in switch.json("port show vm")["zero_copy"]
                echo(narrow)
            assert switch.stop() == 0, switch.log
        assert narrow.dma_faults() == []


def lent(switch):
    """Frames that were not copied, of all that guests have sent."""
    return switch.json("port show vm")["rings"][1].get("zero_copy", 0)


def flush(wires):
    """Short frames, which are copied, until a NIC that frees what it sent only when it needs the room has done so."""
    for wire in wires:
        wire.settle()
        wire.echo([60] * RINGS_AROUND)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(pci, switch, layout, memory):
    """Nobody knows yet where its own frames belong: each leaves by both NICs. Then frames come in, and go back out."""
    before = lent(switch)
    for wire in pci.wires:
        wire.clear(0.1)
    with guest(pci, switch, *LAYOUTS[layout], *MEMORY[memory], "send=300,60-1514"):
        for wire in pci.wires:
            wire.expect(range(300))
        echo(pci)
        if memory == "huge pages":
            assert lent(switch) > before


def test_mapped_as_long_as_needed(pci, switch):
    """A guest's memory is in the IOMMU from its coming until its going, or until no NIC may read it any more."""
    with guest(pci, switch):
        flush(pci.wires)
        switch.wait_until(lambda: switch.locked == switch.base, "an IOMMU without guests")
    with guest(pci, switch, "huge"):
        assert switch.json("port show vm")["zero_copy"] == "on"
        with_guest = switch.locked
        assert with_guest > switch.base
        before = lent(switch)
        echo(pci)
        assert lent(switch) > before
    # e1000e keeps what it has sent until its ring comes round; so does the mapping last.
    assert switch.locked == with_guest
    with guest(pci, switch):
        assert "not in huge pages" in switch.json("port show vm")["zero_copy"]
        assert switch.locked == with_guest
        flush(pci.wires)
        switch.wait_until(lambda: switch.locked == switch.base, "the end of the mapping")


def test_nothing_copied(pci, switch):
    """vmxnet3 says at once what it has sent: every frame of some length goes out of the guest's own memory."""
    wire = pci.wires[1]
    with guest(pci, switch, "huge"):
        flush(pci.wires)
        before = lent(switch)
        wire.echo(LENT * 4)
        assert lent(switch) - before == len(LENT * 4)
    switch.wait_until(lambda: switch.locked == switch.base, "the end of the mapping")


def test_last_nic_of_a_dead_guest(pci, switch):
    """A NIC that keeps a guest's frames gives them back when it goes; the next one finds the next guest mapped."""
    with guest(pci, switch, "huge"):
        echo(pci)
    assert switch.locked > switch.base
    switch.run(f"port del {NICS[0]}")
    switch.wait_until(lambda: switch.locked == switch.base, "the end of the mapping")
    with guest(pci, switch, "huge"):
        switch.run(f"port add {NICS[0]} dev {pci.addresses[0]}")
        switch.wait_link(NICS[0])
        echo(pci)


def test_nic_without_scatter(pci, switch):
    """None of QEMU's is one: the simulated NIC, which verifies what it transmits, gets copies, and the others do not."""
    with guest(pci, switch):
        flush(pci.wires)
    for wire in pci.wires:
        wire.clear()
    before = lent(switch)
    with port(switch, "whole", "net_nicsim0,nosegs=1"), guest(pci, switch, "huge", "send=100,512-611"):
        for wire in pci.wires:
            wire.expect(range(100))
        assert lent(switch) > before
        stats = switch.json("show port xstats whole")["xstats"]
        assert stats["tx_sent_packets"] == 100, stats
        assert {key: value for key, value in stats.items() if key in WRONG and value} == {}


def test_stock_guest(pci, switch):
    """testpmd on hugepages; buffers too small for a frame come in and go out in many pieces."""
    vm = PmdGuest(pci, "/run/vm", ",mrg_rxbuf=1", ["--mbuf-size=512", "--enable-scatter", "--tx-offloads=0x8000"])
    switch.wait_link("vm")
    echo(pci)
    assert "TX-dropped: 0 " in vm.stop()


def test_guests_come_and_go(pci, switch):
    """Under traffic, politely and not: none gets what was another's, and the NIC takes in every frame."""
    nic, wire = NICS[0], pci.wires[0]

    def taken_in():
        return switch.json(f"port show {nic}")["counters"]["rx_packets"]

    before = taken_in()
    with Traffic(wire) as traffic:
        for sig in (signal.SIGTERM, signal.SIGKILL) * 2:
            vm = EchoGuest(pci, "/run/vm", "huge", *LAYOUTS["tables of pieces"])
            traffic.flowing()
            vm.job.kill(sig)
            vm.job.wait(90)
    switch.wait_until(lambda: taken_in() - before == traffic.sent, "arrival of every frame")
    with guest(pci, switch):
        echo(pci)


def again(pci, switch):
    """Take the NICs out, and put them in as they come with the settings of now."""
    for nic in NICS:
        switch.run(f"port del {nic}")
    for nic, address in zip(NICS, pci.addresses):
        switch.run(f"port add {nic} dev {address}")
    for nic in NICS:
        switch.wait_link(nic)


def test_who_wakes_a_worker(pci, switch):
    """A vmxnet3 does. net_e1000_em claims it, but not with MSI-X, which is what VFIO gives it: it is found out."""
    def core():
        return switch.json("show config cores")[0]

    switch.run("set sleep 50")
    again(pci, switch)
    with guest(pci, switch):
        switch.wait_until(lambda: core()["asleep_per_mille"] > 900, "sleep", 60)
        for _ in range(6):
            pci.wires[0].settle()
            time.sleep(0.3)
        switch.wait_until(lambda: core()["kept_awake_by"] == NICS[0], "notice of the device without interrupts", 60)
        assert f"port {NICS[0]}: the device sends no interrupts" in switch.log
        echo(pci)
        switch.run(f"port del {NICS[0]}")
        switch.wait_until(lambda: core()["asleep_per_mille"] > 900, "sleep", 60)
        for _ in range(6):
            pci.wires[1].settle()
            time.sleep(0.3)
        assert core()["kept_awake_by"] is None
    switch.run("set sleep 0")
    switch.run(f"port add {NICS[0]} dev {pci.addresses[0]}")
    again(pci, switch)


def test_what_is_mapped(pci, switch):
    """The last NIC takes all mappings along, and the next one brings them back."""
    mapped = switch.locked
    assert mapped >= 128 << 20, "-m 128 is mapped, and nothing else would be locked"
    for nic in NICS:
        assert switch.locked == mapped
        switch.run(f"port del {nic}")
    assert switch.locked == 0
    for nic, address in zip(NICS, pci.addresses):
        switch.run(f"port add {nic} dev {address}")
        assert switch.locked == mapped
    for nic in NICS:
        switch.wait_link(nic)
    with guest(pci, switch):
        echo(pci)
