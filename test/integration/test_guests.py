# SPDX-License-Identifier: BSD-3-Clause
"""Two Linux guests, stock kernel driver, on one running switch."""

import time

from talk import fetch, ping, rebind


def counters(switch, port):
    return switch.json(f"port show {port}")["counters"]


def test_ping(guests):
    ping(guests[0], "10.0.0.2")
    ping(guests[1], "10.0.0.1")


def test_addresses_are_learnt(switch, guests):
    ping(guests[0], "10.0.0.2")
    ports = {row["port"] for row in switch.json("fdb show")}
    assert {"vm1", "vm2"} <= ports


def test_tcp_with_64k_frames(switch, guests):
    """TSO is negotiated end to end: frames far larger than the MTU cross the switch whole."""
    assert "tcp-segmentation-offload: on" in guests[0].check("ethtool -k eth0")
    before = counters(switch, "vm2")
    server = guests[1].popen("iperf3 -s -1")
    status, output = guests[0].run("for i in 1 2 3 4 5; do iperf3 -c 10.0.0.2 -t 3 && exit 0; sleep 1; done; exit 1", 60)
    assert status == 0, output
    server.wait(20)
    after = counters(switch, "vm2")
    packets = after["tx_packets"] - before["tx_packets"]
    assert (after["tx_bytes"] - before["tx_bytes"]) / packets > 4000, "frames were cut on their way"


def test_file_arrives_intact(guests):
    fetch(guests[1], guests[0], "10.0.0.2")


def test_file_arrives_intact_without_offloads(guests):
    """One guest computes everything itself, the other gets what it did not ask for in software."""
    guests[0].check("ethtool -K eth0 tso off gso off tx off sg off")
    try:
        fetch(guests[1], guests[0], "10.0.0.2", 2)
        fetch(guests[0], guests[1], "10.0.0.1", 2)
    finally:
        guests[0].check("ethtool -K eth0 tx on sg on tso on gso on")


def test_driver_unbind_and_bind(switch, guests):
    """The guest's driver goes and comes back: new rings on the same connection."""
    rebind(switch, guests[0])


def test_guest_reboots(switch, guests):
    guests[0].reboot(90)
    switch.wait_link("vm1", "up")
    ping(guests[0], "10.0.0.2")
    fetch(guests[1], guests[0], "10.0.0.2", 2)


def test_switch_restarts(switch, guests):
    """The switch dies; the guests reconnect by themselves and go on without a reset."""
    switch.kill()
    time.sleep(0.5)
    switch.start()
    for vm in ("vm1", "vm2"):
        switch.wait_link(vm, "up", 30)
    ping(guests[0], "10.0.0.2")
    fetch(guests[1], guests[0], "10.0.0.2", 2)


def driver_counts(vm):
    """Packets the guest's own driver received and sent."""
    return [int(vm.check(f"cat /sys/class/net/eth0/statistics/{way}_packets")) for way in ("rx", "tx")]


def switch_counts(switch, port):
    """Packets the switch sent to a guest, and received from it or dropped on the way in."""
    shown = switch.json(f"port show {port}")
    lost = sum(drop["packets"] for drop in shown["drops"] if drop["reason"].startswith("rx_"))
    return [shown["counters"]["tx_packets"], shown["counters"]["rx_packets"] + lost]


def test_every_packet_is_accounted_for(switch, guests):
    """Guest and switch agree, to the packet, on what passed between them under load."""
    ping(guests[0], "10.0.0.2")
    names = ("vm1", "vm2")

    def offsets():
        """Driver's minus switch's counts: whatever they are, load must not change them."""
        return [[d - s for d, s in zip(driver_counts(vm), switch_counts(switch, name))]
                for vm, name in zip(guests, names)]

    def settled():
        first, second = offsets(), offsets()
        return first if first == second else None

    before = switch.wait_until(settled, "quiet")
    fetch(guests[1], guests[0], "10.0.0.2", 4)
    guests[0].check("ping -c 200 -i 0.01 -s 1000 10.0.0.2", 60)
    # The driver counts what it sent when it reaps it: a ping makes it look.
    switch.wait_until(lambda: guests[0].run("ping -c 1 10.0.0.2") and settled() == before, "agreement", 30)
