# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: a peer is a process that polls on the switch's CPU and listens at the sockets it is given.

What it has to offer is small: start for a plan, say how many cycles it was busy with how many packets so far, and
end. All of it is frozen but in its own windows, so only what happens while it polls matters.
"""

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from .machine import confine, favour, poller


@dataclass
class Reading:
    """Counters of a peer; differences of two are a window's. None: it does not say."""

    cycles: int = None
    packets: int = None
    polls: int = None
    dropped: int = None
    batch: float = None  # packets a poll that found some; not a sum
    time: float = field(default_factory=time.monotonic)

    def since(self, before):
        sums = [None if new is None or old is None else (new - old) % 2**64
                for new, old in ((getattr(self, k), getattr(before, k)) for k in ("cycles", "packets", "polls", "dropped"))]
        return Reading(*sums, self.batch, self.time - before.time)


@dataclass
class Setting:
    """What peers share: the machine's CPUs, where things are."""

    build: Path
    folder: Path
    first: int  # CPU of the guests
    last: int  # CPU of the switch
    rest: tuple  # CPUs of all that does not poll
    offloads: bool = False  # guests negotiate checksum offloads, as Linux does
    driver: Path = None  # net_sluice, where DPDK loads it
    nicsim: Path = None
    commands: dict = field(default_factory=dict)  # name: template
    stats: dict = field(default_factory=dict)  # name: command that prints cycles and packets

    def lcores(self, cpu):
        """EAL's option for a main lcore that waits and a worker that polls."""
        return f"--lcores=0@({','.join(map(str, self.rest))}),1@{cpu}"


class Peer:
    """Common to all: life, and what they are asked."""

    kind = ""
    guest_listens = False
    controlled = True  # it can be asked for statistics, and to add and delete ports

    def __init__(self, name, setting, plan, sockets, cell):
        self.name, self.setting, self.plan, self.sockets, self.cell = name, setting, plan, sockets, cell
        self.stack = contextlib.ExitStack()
        self.poller = None

    @classmethod
    def why_not(cls, cell, setting):
        """Why it cannot take part in this cell, or nothing."""
        return ""

    @property
    def pids(self):
        """What to freeze."""
        return [self.pid]

    def __enter__(self):
        try:
            self.start()
            self.poller = self.find_poller()
            for pid in self.pids:
                confine(pid, self.setting.rest, self.poller)
                favour(pid)
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def find_poller(self):
        return poller(self.pid)

    @property
    def prefix(self):
        """For EAL's own files."""
        return f"slb{os.getpid()}_{Path(self.sockets[0]).parent.name}"

    def patient(self):
        """A context in which the guest connects."""
        return contextlib.nullcontext()

    def ready(self):
        """Called when the guest is connected."""

    def resize(self, size):
        """Called before each cell, while the guest absorbs what circulates."""

    def refresh(self):
        """Called at the beginning of each window."""

    def mbufs(self):
        return 16384 + 1024 * max(len(self.plan.roles) - 2, 0)

    @classmethod
    def pages(cls, plan):
        """Hugepages of 2 MiB it takes."""
        return 40 + len(plan.roles)

    @classmethod
    def greed(cls, cell):
        """And how many more it takes if they are there."""
        return 0

    def device(self, end):
        """Devargs of the frames' source or destination, whichever this plan wants of it."""
        source = end == "p0"
        size = self.cell.size if isinstance(self.cell.size, int) else 64
        if end == "p1" and self.setting.nicsim:
            return "net_nicsim0,blind=1"
        no_rx = "" if source else ",no-rx=1"
        return f"net_null{int(end[1])},size={size}{no_rx}"

    @property
    def plugins(self):
        return [p for p in (self.setting.nicsim if "p1" in self.plan.physical else None,) if p]
