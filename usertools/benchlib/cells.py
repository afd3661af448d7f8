# SPDX-License-Identifier: BSD-3-Clause
"""What can be measured: scenarios, frame sizes and ring paths, and the cells they make."""

import re
from dataclasses import dataclass

QUEUE_SIZE = 1024
OUTSIDE = "52:54:00:00:ff:01"  # a station behind the device that takes frames
IMIX = "imix"  # 64, 570 and 1518 bytes, 7 : 4 : 1
TSO = "64k"  # one segment of TCP, to be cut by whoever has to
TSO_BYTES = 64294  # 44 x 1460 and headers
IMIX_MEAN = (7 * 64 + 4 * 570 + 1518) / 12
SIZES = (64, 128, 256, 512, 1024, 1518, IMIX, 9000, TSO)

# DTS's ten (perf_virtio_user_loopback): how the guest's driver and the back-end use the rings.
PATHS = {
    "split": "packed_vq=0,mrg_rxbuf=0,in_order=0",
    "split-mrg": "packed_vq=0,mrg_rxbuf=1,in_order=0",
    "split-inorder": "packed_vq=0,mrg_rxbuf=0,in_order=1",
    "split-inorder-mrg": "packed_vq=0,mrg_rxbuf=1,in_order=1",
    "split-vector": "packed_vq=0,mrg_rxbuf=0,in_order=0,vectorized=1",
    "packed": "packed_vq=1,mrg_rxbuf=0,in_order=0",
    "packed-mrg": "packed_vq=1,mrg_rxbuf=1,in_order=0",
    "packed-inorder": "packed_vq=1,mrg_rxbuf=0,in_order=1",
    "packed-inorder-mrg": "packed_vq=1,mrg_rxbuf=1,in_order=1",
    "packed-vector": "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
}


def mergeable(path):
    return "mrg_rxbuf=1" in PATHS[path]


def vectorized(path):
    return "vectorized=1" in PATHS[path]


def frame_bytes(size):
    """What a size is on average."""
    return {IMIX: IMIX_MEAN, TSO: TSO_BYTES}.get(size, size)


@dataclass(frozen=True)
class Plan:
    """Who is connected to whom, and what the guest does at each port.

    An end is the number of a VM port, or "p0" (where frames come from) or "p1" (where they go); links are pairs of ends.
    """

    roles: tuple  # of the guest's ports
    links: tuple = ()
    count: tuple = ()  # (port, "rx" or "tx"): together, what got through
    engine: str = "cross"  # of the switch: cross, drop (receive and free) or make (make and send)
    pairs: tuple = ()  # VM ports whose addresses send to each other
    quiet: int = 0  # ports beyond those of roles, connected, where nothing happens
    note: str = ""

    @property
    def physical(self):
        return sorted({end for link in self.links for end in link if isinstance(end, str)})

    @property
    def seeds(self):
        """Whether frames circulate, which somebody has to make first."""
        return "reflect" in self.roles and not self.physical

    @property
    def oneway(self):
        return "send" in self.roles and "receive" in self.roles

    @property
    def addressed(self):
        """Whether all frames carry the addresses of VM ports, so that a switch can learn them."""
        return "p0" not in self.physical and self.engine != "make"


def circle(ports, quiet=0):
    links = tuple((i, i + 1) for i in range(0, ports + quiet, 2))
    return Plan(("reflect",) * ports, links, tuple((i, "rx") for i in range(ports)), pairs=links[:ports // 2], quiet=quiet)


def chain(vms):
    """NIC, VM, VM, ..., NIC: each VM takes at one port and gives at the other."""
    roles = tuple(f"forward:{i + 1}" if i % 2 == 0 else "quiet" for i in range(2 * vms))
    links = (("p0", 0), *((i, i + 1) for i in range(1, 2 * vms - 1, 2)), (2 * vms - 1, "p1"))
    return Plan(roles, links, ((2 * vms - 1, "tx"),))


SCENARIOS = {
    "dequeue": (Plan(("send",), (), ((0, "tx"),), "drop"), "the guest sends, the switch receives and frees"),
    "enqueue": (Plan(("receive",), (), ((0, "rx"),), "make"), "the switch makes frames and sends, the guest receives"),
    "v2v": (circle(2), "frames circle between two VMs, both of which send back what they get"),
    "oneway": (Plan(("send", "receive"), ((0, 1),), ((1, "rx"),), pairs=((0, 1),)), "one VM sends, the other receives"),
    "idle": (Plan(("quiet",), (), (), "drop"), "the switch polls one port where nothing arrives"),
    "p2v": (Plan(("receive",), (("p0", 0),), ((0, "rx"),)), "from a device to a VM"),
    "v2p": (Plan(("send",), ((0, "p1"),), ((0, "tx"),)), "from a VM to a device"),
    "pvp": (Plan(("reflect",), (("p0", 0),), ((0, "tx"),)), "from a device to a VM and back"),
    **{f"chain{n}": (chain(n), f"from a device through {n} VM{'s' * (n > 1)} to another") for n in range(1, 5)},
    **{f"ports{n}": (circle(n), f"v2v between {n // 2} pairs of VMs") for n in (4, 8, 16, 32)},
    **{f"idle{n}": (circle(2, n), f"v2v beside {n} ports where nothing happens") for n in (8, 32, 128)},
}

FIELDS = ("scenario", "size", "path", "guest", "touch")


@dataclass(frozen=True)
class Cell:
    """One row: everything but who is measured."""

    scenario: str
    size: object = 64
    path: str = "split"
    guest: str = "own"
    touch: bool = True

    @property
    def plan(self):
        return SCENARIOS[self.scenario][0]

    @property
    def rig(self):
        """Cells that can share running processes."""
        made = self.size if "p0" in self.plan.physical else 0  # a device that makes frames makes one size
        return self.scenario, self.path, self.guest, self.kind, made

    @property
    def kind(self):
        """plain, jumbo or tso: what ports must be prepared for."""
        return "tso" if self.size == TSO else "jumbo" if self.size == 9000 else "plain"

    def __str__(self):
        return " ".join((self.scenario, str(self.size), self.path, "touched" if self.touch else "untouched",
                         *([f"{self.guest} guest"] if self.guest != "own" else [])))


def why_not(cell):
    """What is wrong with this combination, or nothing."""
    plan = cell.plan
    if cell.guest == "testpmd":
        if cell.touch:
            return "testpmd as a guest never touches payload"
        if cell.size in (IMIX, TSO):
            return f"testpmd as a guest cannot send {cell.size}"
        if plan.quiet:
            return "testpmd as a guest is not used for idle ports"
    if cell.guest == "lean":
        if not set(plan.roles) <= {"send", "receive", "reflect", "quiet"}:
            return "a lean guest forwards nothing from one of its ports to another"
        if cell.size == TSO:
            return "a lean guest's buffers take no 64 KB"
        if vectorized(cell.path):
            return "a lean guest has one way to use a ring"
    if cell.size == IMIX and ("p0" in plan.physical or plan.engine == "make"):
        return "the device's frames have one size"
    if cell.size == TSO and (plan.physical or plan.engine != "cross"):
        return "only a guest makes segments to be cut"
    if cell.size == TSO and not mergeable(cell.path):
        return "64 KB need mergeable buffers"
    if vectorized(cell.path) and cell.kind != "plain":
        return "the guest's vectorised driver takes no frames of several buffers"
    return ""


def parse_size(text):
    if text.lower() in (IMIX, TSO):
        return text.lower()
    if not re.fullmatch(r"\d+", text) or not 60 <= int(text) <= 9000:
        raise ValueError(f"{text}: a size is 60 to 9000 bytes, imix or 64k")
    return int(text)
