# SPDX-License-Identifier: BSD-3-Clause
"""From VM to VM without mbufs: who goes that way, who does not, and that every packet arrives whichever it is."""

import contextlib

import pytest
from sluice import Sluice
from testpmd import Testpmd, frontend_eal

MACS = {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b"}
ENGINES = {
    "io": ["set fwd io"],
    "cross": ["cross add a b", "set fwd cross"],
    "bridge": ["set fwd bridge", f"fdb static add {MACS['b']} b"],
}
FRAMES = 2000  # a burst of 32 at a time


def device(folder, port, ring, extra=""):
    return f"net_virtio_user0,path={folder}/{port},mac={MACS[port]},packed_vq={int(ring == 'packed')},mrg_rxbuf=1{extra}"


class Pair(contextlib.ExitStack):
    """A guest that sends to another one through a switch."""

    def __init__(self, folder, engine, ring):
        super().__init__()
        self.switch = self.enter_context(
            Sluice(folder, commands=[f"port add {p} listen {folder}/{p}" for p in "ab"] + ENGINES[engine]))
        receiver = self.enter_context(Testpmd("b", frontend_eal(device(folder, "b", ring))))
        self.sender = self.enter_context(Testpmd("a", frontend_eal(device(folder, "a", ring)), [f"--eth-peer=0,{MACS['b']}"]))
        for port in "ab":
            self.switch.wait_link(port)
        receiver.command("set fwd rxonly")
        receiver.command("start")

    def counted(self):
        """Sent by a, of them directly; got by b, lost on their way to it."""
        rings = {p: self.switch.json(f"port show {p}") for p in "ab"}
        sent, got = rings["a"]["rings"][1], rings["b"]["rings"][0]
        return sent["packets"], sent["direct"], got["packets"], sum(d["packets"] for d in rings["b"]["drops"])

    def all_told(self):
        sent, _, got, lost = self.counted()
        return sent == got + lost and self.switch.json("port show a")["rings"][1]["fill"] == 0

    def send(self, *commands):
        """@return how many more of each of these there are in the end, when all are accounted for"""
        before = self.counted()
        for command in ("set fwd txonly", *commands, "start"):
            self.sender.command(command)
        self.switch.wait_until(lambda: self.counted()[2] >= before[2] + FRAMES, f"{FRAMES} packets", 20)
        self.sender.command("stop")
        self.switch.wait_until(self.all_told, "an account of each packet that was sent")
        return [b - a for a, b in zip(before, self.counted())]


@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("engine", ENGINES)
def test_who_goes_directly(folder, engine, ring):
    with Pair(folder, engine, ring) as pair:
        for size in (64, 1500):
            assert pair.send(f"set txpkts {size}")[1] > FRAMES / 2, "but where buffers were short"
        # In pieces, or more than a receive buffer holds.
        for size in ("100,100", "1800,1800"):
            assert pair.send(f"set txpkts {size}")[1] == 0
        assert pair.send("set txpkts 64")[1] > FRAMES / 2, "again"


def test_not_to_several(folder):
    """What has to be flooded, or goes to nobody, does not go directly."""
    with Pair(folder, "bridge", "split") as pair:
        pair.switch.run(f"fdb static del {MACS['b']}")
        assert pair.send("set txpkts 64")[1] == 0
