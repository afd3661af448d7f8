# SPDX-License-Identifier: BSD-3-Clause
"""The other side: one process with a virtio-user port for each VM's, polling on the guests' CPU."""

import contextlib
import json
import os
import time
from dataclasses import dataclass

from . import TOP  # noqa: F401
from .cells import OUTSIDE, PATHS, QUEUE_SIZE, TSO, TSO_BYTES, mergeable, vectorized
from .machine import favour, poller
from .peers import quiet

from testpmd import Testpmd

PORTS_PER_GUEST = 32
QUIET_QUEUE = 256
SEEDS = 512  # frames a port under way at most, so that no ring runs dry or over


@dataclass
class Traffic:
    """What a guest counted; differences of two are a window's."""

    time: float  # seconds, of the TSC
    packets: int  # that got through, as the plan counts them
    octets: int
    refused: int
    busy: float = None  # seconds


def mac(port):
    return f"52:54:00:00:00:{port + 1:02x}"


def arguments(sockets, path, first=0, queue=QUEUE_SIZE, listens=False):
    """Of virtio-user ports."""
    server = ",server=1" if listens else ""
    for n, sock in enumerate(sockets):
        yield f"path={sock},mac={mac(first + n)},queue_size={queue},{PATHS[path]}{server}"


def devices(ports):
    """EAL options for virtio-user ports."""
    return [word for n, port in enumerate(ports) for word in ("--vdev", f"net_virtio_user{n},{port}")]


def eal(setting, name, path, memory):
    words = [setting.lcores(setting.first), "--no-pci", "-m", str(memory), "--single-file-segments",
             "--in-memory", f"--file-prefix=slb{os.getpid()}{name}"]
    return words + (["--force-max-simd-bitwidth=512"] if vectorized(path) else [])


def pages(cell):
    """Hugepages of 2 MiB a guest takes."""
    big = room(cell)
    ports = len(cell.plan.roles)
    return 16 + mbufs(cell, ports) * (big + 384) // (2 << 20) + ports // 2 + cell.plan.quiet // 2


def scattered(cell):
    """Whether the guest's driver takes large frames in several buffers."""
    return mergeable(cell.path) and cell.guest != "lean"


def room(cell):
    """Bytes of a buffer."""
    return 9216 if cell.kind == "jumbo" and not scattered(cell) else 2048


def mbufs(cell, ports):
    if room(cell) > 2048:
        return 8192
    return 16384 + 2048 * max(ports - 4, 0)


def seeds(cell):
    """Frames a port: all of them may meet in one ring."""
    buffers = 1
    if scattered(cell):
        buffers = -(-(TSO_BYTES if cell.size == TSO else cell.size if isinstance(cell.size, int) else 64) // 2048)
    return max(SEEDS // buffers, 8)


class _Programs:
    """They run from enter to exit; the first one polls for the guests."""

    def __init__(self, *programs):
        self.programs, self.stack = programs, contextlib.ExitStack()

    def __enter__(self):
        try:
            for program in self.programs:
                self.stack.enter_context(quiet(program))
            self.poller = poller(self.programs[0].pid)
            favour(self.programs[0].pid)
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    @property
    def pids(self):
        return [program.pid for program in self.programs]


class OwnGuest(_Programs):
    """test/bench/guest.c"""

    def __init__(self, setting, name, cell, sockets, listens=False):
        plan = cell.plan
        self.setting, self.cell, self.plan = setting, cell, plan
        active = len(plan.roles)
        app = ["--room", str(room(cell)), "--mbufs", str(mbufs(cell, active))]
        if cell.kind == "tso":
            app += ["--tso"]
        elif setting.offloads:
            app += ["--offloads"]
        ports = list(arguments(sockets[:active], cell.path, listens=listens))
        if cell.guest == "lean":
            app += [word for port in ports for word in ("--lean", port)]
        self.guest = _Guest(f"{name}guest", eal(setting, name, cell.path, 64) + (
            [] if cell.guest == "lean" else devices(ports)), app, setting.build / "test/bench/guest")
        idle = []
        for i in range(active, len(sockets), PORTS_PER_GUEST):
            group = sockets[i:i + PORTS_PER_GUEST]
            idle.append(_Guest(f"{name}idle{i}", [
                *eal(setting, f"{name}idle{i}", cell.path, 32), *devices(arguments(group, cell.path, i, QUIET_QUEUE))],
                ["--mbufs", str(QUIET_QUEUE * len(group) + 4096)], setting.build / "test/bench/guest"))
        super().__init__(self.guest, *idle)

    def absorb(self, seconds=0.05):
        """Take what circulates out of the rings; how many frames that were."""
        tell = self.guest.tell
        tell("stop", "set role all receive", "clear", "start")
        time.sleep(seconds)
        tell("stop")
        return sum(port["rx"] for port in self.guest.ask("stats")["ports"])

    def prepare(self, cell):
        """Everything for a cell, and start; the switch already forwards."""
        tell, self.cell = self.guest.tell, cell
        size = TSO_BYTES if cell.size == TSO else cell.size
        tell(f"set frame {size}", f"set touch {'on' if cell.touch else 'off'}", "set rate 0",
             f"set filter {'on' if self.plan.addressed else 'off'}")
        for port, role in enumerate(self.plan.roles):
            tell(f"set role {port} {role}")
            if role == "send":
                tell(f"set peer {port} {OUTSIDE}")
        for a, b in self.plan.pairs:
            tell(f"set peer {a} {mac(b)}", f"set peer {b} {mac(a)}")
        # One first: a learning switch then knows where everybody is, and floods no more.
        self.sow(1 if self.plan.seeds or self.plan.oneway else 0)
        if self.plan.seeds:
            self.sow(seeds(cell))

    def circling(self):
        return seeds(self.cell) * len(self.plan.roles) if self.plan.seeds else 0

    def sow(self, count):
        """Let every port make some frames, and go on."""
        ports = range(len(self.plan.roles)) if count else ()
        self.guest.tell("stop", *(f"seed {port} {count}" for port in ports), "start")
        time.sleep(0.02)

    def pace(self, rate):
        """Frames a second (0: as fast as possible), all counters from zero."""
        self.guest.tell("stop", f"set rate {rate:.0f}", "clear", "start")
        self.sow(1)

    def latency(self):
        return self.guest.ask("latency")

    def ports(self):
        return self.guest.ask("stats")["ports"]

    def read(self):
        stats = self.guest.ask("stats")
        ports = stats["ports"]
        return Traffic(stats["tsc"] / stats["tsc_hz"], sum(ports[p][way] for p, way in self.plan.count),
                       sum(ports[p][f"{way}_bytes"] for p, way in self.plan.count), sum(p["refused"] for p in ports),
                       stats["busy"] / stats["tsc_hz"])


class _Guest(Testpmd):
    """The program behind testpmd's prompt."""

    def __init__(self, name, words, app, program):
        super().__init__(name, words, program=str(program))
        self._argv = [str(program), *words, "--", *app]

    def tell(self, *lines):
        for line in lines:
            answer = self.command(line)
            if answer.startswith("expected"):
                self._fail(f"'{line}': {answer.strip()}")

    def ask(self, line):
        return json.loads(self.command(line))


class TestpmdGuest(_Programs):
    """Stock testpmd: never looks at payload."""

    def __init__(self, setting, name, cell, sockets, listens=False):
        self.cell, self.plan = cell, cell.plan
        self.sockets = sockets
        reflect = "reflect" in self.plan.roles
        app = ["--total-num-mbufs=16384", f"--rxd={QUEUE_SIZE}", f"--txd={QUEUE_SIZE}", "--no-flush-rx",
               f"--port-topology={'loop' if reflect else 'paired'}"]
        for a, b in self.plan.pairs:
            app += [f"--eth-peer={a},{mac(b)}", f"--eth-peer={b},{mac(a)}"]
        if room(cell) > 2048:
            app += ["--mbuf-size=9344"]
        if setting.offloads:
            app += ["--rx-offloads=0xc", "--tx-offloads=0xc"]
        self.pmd = Testpmd(f"{name}guest", [*eal(setting, name, cell.path, 64),
                                            *devices(arguments(sockets, cell.path, listens=listens))], app)
        super().__init__(self.pmd)

    def absorb(self, seconds=0.05):
        before = self._stats()
        for line in ("stop", "set fwd rxonly", "start"):
            self.pmd.command(line)
        time.sleep(seconds)
        self.pmd.command("stop")
        return sum(new["RX-packets"] - old["RX-packets"] for new, old in zip(self._stats(), before))

    def circling(self):
        return 0  # stop and start lose some

    def _stats(self):
        return [self.pmd.stats(n) for n in range(len(self.sockets))]

    def prepare(self, cell):
        role = self.plan.roles[0]
        mode = {"send": "txonly", "receive": "rxonly", "quiet": "rxonly", "reflect": "macswap"}.get(role, "macswap")
        self.pmd.command("stop")
        self.pmd.command(f"set fwd {mode}")
        self.pmd.command(f"set txpkts {cell.size}")
        if self.plan.seeds:
            self.pmd.command(f"start tx_first {max(seeds(cell) // 32, 1)}")
        else:
            self.pmd.command("start")

    def read(self):
        now, ports = time.monotonic(), self._stats()
        return Traffic(now, sum(ports[p][f"{way.upper()}-packets"] for p, way in self.plan.count),
                       sum(ports[p][f"{way.upper()}-bytes"] for p, way in self.plan.count),
                       sum(p.get("TX-errors", 0) for p in ports))


def make(setting, name, cell, sockets, listens):
    return (TestpmdGuest if cell.guest == "testpmd" else OwnGuest)(setting, name, cell, sockets, listens)
