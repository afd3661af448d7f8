# SPDX-License-Identifier: BSD-3-Clause
"""Packets that circle for ever between a testpmd and the switch, which counts what it loses."""

from testpmd import Testpmd, frontend_eal


def front(*paths, ring="split"):
    """A testpmd with a virtio-user port at each path."""
    more = ",packed_vq=1" if ring == "packed" else ""
    vdevs = [f"net_virtio_user{n},path={path},mac=02:00:00:00:01:{n:02x}{more}" for n, path in enumerate(paths)]
    return Testpmd("front", frontend_eal(*vdevs), ["--port-topology=paired"])


def counters(switch, *ports):
    return [switch.json(f"port show {port}")["counters"] for port in ports]


def lost(switch, *ports):
    """All the switch says it dropped at these ports: {reason: packets}."""
    drops = {}
    for port in ports:
        for drop in switch.json(f"port show {port}")["drops"]:
            drops[drop["reason"]] = drops.get(drop["reason"], 0) + drop["packets"]
    return drops


class Loop:
    """Packets that circle for ever: out of testpmd's port 0, through the switch into port 1, and back the other way.

    Never more of them than a ring holds, so that a switch that loses none delivers all, however slow the machine.
    """

    def __init__(self, switch, pmd, a, b):
        self.switch, self.pmd, self.ports = switch, pmd, (a, b)
        for port in self.ports:
            switch.wait_link(port)
        pmd.command("set fwd io")
        pmd.command("start tx_first 1")
        self.moving()

    def moving(self):
        """Wait until each port has seen some more."""
        before = [c["tx_packets"] for c in counters(self.switch, *self.ports)]
        self.switch.wait_until(lambda: all(c["tx_packets"] > b + 1000 for c, b in
                                           zip(counters(self.switch, *self.ports), before)), "traffic", timeout=20)

    def stop(self):
        """Let it come to rest; how many packets went through, each way. Every one is accounted for."""
        pmd, switch = self.pmd, self.switch
        pmd.command("stop")
        # What is under way still arrives, and is taken in by a testpmd that sends nothing.
        pmd.command("set fwd rxonly")
        pmd.command("start")
        pmd.wait_until(lambda _: all(self._settled(i) for i in (0, 1)), "the arrival of every packet")
        pmd.command("stop")
        a, b = counters(switch, *self.ports)
        sent = [pmd.stats(i)["TX-packets"] for i in (0, 1)]
        assert [a["rx_packets"], b["rx_packets"]] == sent, "the switch received other packets than were sent"
        assert lost(switch, *self.ports) == {}
        return sent

    def _settled(self, i):
        return self.pmd.stats(i)["TX-packets"] == self.pmd.stats(1 - i)["RX-packets"]
