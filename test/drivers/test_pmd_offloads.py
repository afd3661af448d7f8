# SPDX-License-Identifier: BSD-3-Clause
"""Checksums, segmentation and VLAN tags: whoever is counted on does them, in software where a guest cannot.

Frames come from a pcap file and end in one, so that they are made and judged outside DPDK.
"""

import contextlib

import pcap
import pytest
from testpmd import Testpmd, backend_eal, frontend_eal

# testpmd's start would throw away what is there already: the whole file.
KEEP = ["--no-flush-rx"]
FRAMES = [pcap.tcp(bytes([n]) * n) for n in range(1, 60)] + [pcap.udp(bytes([n]) * n) for n in range(1, 60)]
CHECKSUMS = ["tcp_cksum", "udp_cksum"]


def configure(pmd, direction, offloads, *commands):
    """Turn port offloads on (and more) with port 0 stopped."""
    pmd.command("port stop 0")
    for offload in offloads:
        pmd.command(f"port config 0 {direction}_offload {offload} on")
    for line in commands:
        pmd.command(line)
    pmd.command("port start 0")


def use_hardware(pmd, *protocols, more=()):
    """testpmd's csum engine asks for these checksums instead of computing them."""
    pmd.command("set fwd csum")
    configure(pmd, "tx", [f"{p}_cksum" if p != "ip" else "ipv4_cksum" for p in protocols],
              *[f"csum set {p} hw 0" for p in protocols], *more)


class Bench:
    """in.pcap -> back-end -> front-end -> seen.pcap or back -> out.pcap"""

    def __init__(self, folder, driver, sockets, frames, devargs="", reflect=False):
        self._in, self._out = folder / "in.pcap", folder / "out.pcap"
        path = sockets / "s"
        pcap.write(self._in, frames)
        near = f"net_pcap0,rx_pcap={self._in}" + (f",tx_pcap={self._out}" if reflect else "")
        far = [] if reflect else [f"net_pcap0,tx_pcap={self._out}"]
        self.backend = Testpmd("backend", backend_eal(driver, f"net_sluice0,iface={path}{devargs}", near), KEEP)
        self.frontend = Testpmd("frontend", frontend_eal(f"net_virtio_user0,path={path}", *far), KEEP)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.backend)
            stack.enter_context(self.frontend)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def run(self, expected):
        """Forward everything; the frames at the end, once there are as many as expected."""
        self.backend.wait_link("up")
        self.frontend.command("start")
        self.backend.command("start")
        self.backend.wait_until(lambda _: len(pcap.read(self._out)) >= expected, f"{expected} frames")
        for pmd in self.backend, self.frontend:
            pmd.command("stop")
            pmd.command("port stop all")
        return pcap.read(self._out)


@pytest.fixture
def bench(tmp_path, driver, sockets):
    return lambda frames, **kw: Bench(tmp_path, driver, sockets, frames, **kw)


@pytest.mark.parametrize("application_verifies", [False, True])
def test_guest_leaves_checksums(bench, application_verifies):
    """Computed on receive, unless the application said that it looks at the flags."""
    with bench(FRAMES, reflect=True) as b:
        use_hardware(b.frontend, "tcp", "udp")
        if application_verifies:
            configure(b.backend, "rx", CHECKSUMS)
        frames = b.run(len(FRAMES))
    assert [len(f) for f in frames] == [len(f) for f in FRAMES]
    assert [f[34:] for f in frames] != [f[34:] for f in FRAMES], "the guest touched them"
    right = sum(map(pcap.is_right, frames))
    assert right == (0 if application_verifies else len(frames))


@pytest.mark.parametrize("guest_verifies", [False, True])
def test_guest_wants_checksums(bench, guest_verifies):
    """Computed on transmit for a guest that did not negotiate VIRTIO_NET_F_GUEST_CSUM."""
    with bench(FRAMES) as b:
        use_hardware(b.backend, "tcp", "udp")
        if guest_verifies:
            configure(b.frontend, "rx", CHECKSUMS)
        frames = b.run(len(FRAMES))
        assert b.backend.stats()["TX-errors"] == 0
    assert [len(f) for f in frames] == [len(f) for f in FRAMES]
    right = sum(map(pcap.is_right, frames))
    assert right == (0 if guest_verifies else len(frames))


def test_segmentation(bench):
    """A 4000-byte TCP segment for a guest without VIRTIO_NET_F_GUEST_TSO4 arrives in pieces of 700."""
    data = bytes(range(250)) * 16
    large, small = pcap.tcp(data), pcap.tcp(b"small")
    with bench([small, large, small, large, small], devargs=",tso=1") as b:
        use_hardware(b.backend, "ip", "tcp", more=["port config 0 tx_offload tcp_tso on", "tso set 700 0"])
        frames = b.run(3 + 2 * 6)
        assert b.backend.stats()["TX-errors"] == 0
    assert all(map(pcap.is_right, frames))
    assert [len(f) for f in frames] == [59, *[754] * 5, 554, 59, *[754] * 5, 554, 59]
    parts = [pcap.tcp_parts(f) for f in frames[1:7]]
    assert b"".join(p[2] for p in parts) == data
    assert [p[0] for p in parts] == [1000 + 700 * i for i in range(6)]
    assert [p[1] & 0x08 for p in parts] == [0] * 5 + [0x08], "PSH belongs to the last"


def test_vlan(bench):
    """Tags are put in on transmit and taken out on receive."""
    with bench(FRAMES, reflect=True) as b:
        configure(b.backend, "tx", ["vlan_insert"], "tx_vlan set 0 100", "port config 0 rx_offload vlan_strip on")
        b.backend.command("set fwd mac")
        frames = b.run(len(FRAMES))
        assert b.frontend.stats()["RX-bytes"] == sum(len(f) + 4 for f in FRAMES)
    assert [f[12:] for f in frames] == [f[12:] for f in FRAMES]


def test_legacy_flags_between_guests(tmp_path, driver, sockets):
    """legacy-ol-flags=1: what one guest left to do travels as a request, and is done for a guest that cannot."""
    pcap.write(tmp_path / "in.pcap", FRAMES)
    vdevs = [f"net_sluice{i},iface={sockets}/{i},legacy-ol-flags=1" for i in (0, 1)]
    with Testpmd("backend", backend_eal(driver, *vdevs), KEEP) as backend, \
            Testpmd("sender", frontend_eal(f"net_virtio_user0,path={sockets}/0",
                                           f"net_pcap0,rx_pcap={tmp_path}/in.pcap"), KEEP) as sender, \
            Testpmd("receiver", frontend_eal(f"net_virtio_user0,path={sockets}/1",
                                             f"net_pcap0,tx_pcap={tmp_path}/out.pcap", cpu=0), KEEP) as receiver:
        use_hardware(sender, "tcp", "udp")
        for port in 0, 1:
            backend.wait_link("up", port)
        for pmd in receiver, backend, sender:
            pmd.command("start")
        receiver.wait_until(lambda _: len(pcap.read(tmp_path / "out.pcap")) >= len(FRAMES), "arrival")
        for pmd in receiver, backend, sender:
            pmd.command("stop")
        receiver.command("port stop all")
    frames = pcap.read(tmp_path / "out.pcap")
    assert len(frames) == len(FRAMES) and all(map(pcap.is_right, frames))
