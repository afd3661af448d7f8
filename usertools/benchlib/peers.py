# SPDX-License-Identifier: BSD-3-Clause
"""Who there is to be measured; what a peer is: peer.py."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

from . import TOP  # noqa: F401 (makes test/support importable)
from .cells import OUTSIDE, QUEUE_SIZE
from .machine import BenchError, busiest, die_with_parent, poller, session
from .peer import Peer, Reading

from ovs import VSWITCHD, OpenVSwitch
from sluice import Sluice, binary
from testpmd import Testpmd

# Whatever becomes of us, nobody is left behind: polling, or frozen for ever.
for _program in Testpmd, Sluice, OpenVSwitch:
    _program.preexec = staticmethod(die_with_parent)

MTU = 9200  # where frames of 9000 bytes pass
TESTPMD_PORTS = 32  # RTE_MAX_ETHPORTS


# ---- stock testpmd, with either driver ----

class TestpmdPeer(Peer):
    """dpdk-testpmd with one port of a driver for each VM's."""

    driver = ""
    program = "dpdk-testpmd"
    options = ()

    @classmethod
    def why_not(cls, cell, setting):
        ports = len(cell.plan.roles) + cell.plan.quiet + len(cell.plan.physical)
        return f"DPDK has at most {TESTPMD_PORTS} ports" if ports > TESTPMD_PORTS else ""

    def start(self):
        s = self.setting
        eal = [s.lcores(s.last), "--no-pci", "-m", "64", "--in-memory", f"--file-prefix={self.prefix}"]
        for plugin in [*self.plugins, *self.own_plugins()]:
            eal += ["-d", str(plugin)]
        for n, path in enumerate(self.sockets):
            eal += ["--vdev", f"{self.driver}{n},iface={path}{self.devargs()}"]
        for end in self.plan.physical:
            eal += ["--vdev", self.device(end)]
        app = [f"--total-num-mbufs={self.mbufs()}", f"--rxd={QUEUE_SIZE}", f"--txd={QUEUE_SIZE}", "--no-flush-rx",
               *self.options]
        self.pmd = self.stack.enter_context(quiet(Testpmd(self.name, eal, app, program=self.program)))
        for line in ("set record-core-cycles on", "set record-burst-stats on"):
            self.pmd.command(line)

    def own_plugins(self):
        return []

    def devargs(self):
        return ""

    @property
    def pid(self):
        return self.pmd.pid

    @contextlib.contextmanager
    def patient(self):
        # It has more to say of each message than a terminal holds, and waits until somebody has read it.
        done = threading.Event()

        def listen():
            while not done.is_set():
                self.pmd.listen(0.05)
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def ready(self):
        for n in range(len(self.sockets)):
            self.pmd.wait_link("up", n)
        ends = {end: len(self.sockets) + i for i, end in enumerate(self.plan.physical)}
        number = {**{n: n for n in range(len(self.sockets))}, **ends}
        order = [number[end] for link in self.plan.links for end in link]
        order += [n for n in range(len(self.sockets)) if n not in order]
        self.pmd.command("set portlist " + ",".join(map(str, order)))
        self.pmd.command({"drop": "set fwd rxonly", "make": "set fwd txonly"}.get(self.plan.engine, "set fwd io"))
        self.resize(self.cell.size)

    def resize(self, size):
        self.pmd.command("stop")
        if self.plan.engine == "make":
            self.pmd.command(f"set txpkts {segments(size)}")
        self.pmd.command("start")

    def refresh(self):
        # testpmd tells bursts in per cent of all since `start`.
        self.pmd.command("stop")
        self.pmd.command("start")

    def read(self):
        return parse_forward(self.pmd.command("show fwd stats all"), "TX" if self.plan.engine == "make" else "RX")

    def poll_statistics(self):
        self.pmd.command("show port stats all")
        self.pmd.command("show port xstats all")

    def hotplug(self, n, path):
        self.pmd.command(f"port attach {self.driver}{90 + n},iface={path}")
        number = len(self.sockets) + len(self.plan.physical)
        self.pmd.command(f"port close {number}")


def segments(size):
    """What testpmd makes of a length its buffers do not hold: several."""
    size, parts = int(size), []
    while size > 2048:
        parts.append(2048)
        size -= 2048
    return ",".join(map(str, [*parts, size]))


def parse_forward(text, direction):
    """testpmd's forward statistics: cycles and packets as it relates them, bursts, packets refused."""
    seen, moving = Reading(0, 0, 0, 0), 0
    cycles = re.search(r"(?:total|busy) cycles=(\d+) / total \S+ packets=(\d+)\)", text)
    if cycles:
        seen.cycles, seen.packets = map(int, cycles.groups())
    dropped = re.search(r"TX-dropped:\s*(\d+)", text.partition("Accumulated forward statistics")[2])
    if dropped:
        seen.dropped = int(dropped.group(1))
    for total, spread in re.findall(direction + r"-bursts : (\d+) \[([^\]]*)\]", text):
        empty = re.search(r"(\d+)% of 0 pkts", spread)
        seen.polls += int(total)
        moving += int(total) * (1 - int(empty.group(1)) / 100 if empty else 1)
    seen.batch = seen.packets / moving if moving else None
    return seen


class OurDriver(TestpmdPeer):
    kind = driver = "net_sluice"

    def own_plugins(self):
        other = build_of(self.name)
        return [driver_in(other) if other else self.setting.driver]

    def devargs(self):
        return ",tso=1,legacy-ol-flags=1" if self.cell.kind == "tso" else ""


class OurDriverLending(OurDriver):
    kind = "net_sluice-zc"
    options = ("--tx-offloads=0x8000",)  # MULTI_SEGS

    @classmethod
    def why_not(cls, cell, setting):
        if "p0" in cell.plan.physical:
            return "testpmd asks all its ports for MULTI_SEGS, which net_null has not"
        return super().why_not(cell, setting)

    def devargs(self):
        return super().devargs() + ",zero-copy=1"


class NetVhost(TestpmdPeer):
    kind = driver = "net_vhost"

    def devargs(self):
        return ",tso=1,legacy-ol-flags=1" if self.cell.kind == "tso" else ""


# ---- our switch ----

class OurSwitch(Peer):
    """sluice, pairs of ports connected."""

    kind = "sluice"
    engine = "cross"
    port = ""

    def start(self):
        s = self.setting
        eal = [s.lcores(s.last), "--no-pci", "--in-memory", "-m", "64", f"--file-prefix={self.prefix}"]
        for plugin in self.plugins:
            eal += ["-d", str(plugin)]
        folder = Path(self.sockets[0]).parent / "control"
        folder.mkdir()
        names = {n: f"vm{n}" for n in range(len(self.sockets))} | {end: end for end in self.plan.physical}
        ports = [f"port add {names[n]} listen {path}{self.port}" for n, path in enumerate(self.sockets)]
        ports += [f"port add {end} dev {self.device(end)}" for end in self.plan.physical]
        other = build_of(self.name)
        self.switch = self.stack.enter_context(Sluice(
            folder, ["--mbufs", str(self.mbufs())], eal, commands=[*ports, *self.forwarding(names)],
            program=binary(other) if other else None))

    def forwarding(self, names):
        if self.plan.engine == "drop":
            return ["set fwd rxonly"]
        if self.plan.engine == "make":
            return ["set fwd txonly"]
        if self.engine == "bridge":
            return ["set fwd bridge", *(f"fdb static add {OUTSIDE} {end}" for end in self.plan.physical)]
        return [f"cross add {names[a]} {names[b]}" for a, b in self.plan.links] + ["set fwd cross"]

    @property
    def pid(self):
        return self.switch.pid

    def ready(self):
        for n in range(len(self.sockets)):
            self.switch.wait_link(f"vm{n}")
        self.resize(self.cell.size)

    def resize(self, size):
        if self.plan.engine == "make":
            self.switch.run("stop")
            self.switch.run(f"set txpkts {segments(size)}")
            self.switch.run("start")

    def read(self):
        stats, core = self.switch.json("show fwd stats all"), self.switch.json("show config cores")[0]
        packets = stats["total"]["tx_packets" if self.plan.engine == "make" else "rx_packets"]
        return Reading(stats["busy_cycles"], packets, core["rounds"], stats["total"]["tx_dropped"])

    def poll_statistics(self):
        for line in ("show port stats all", "show port xstats all", "port show vm0"):
            self.switch.run(line)

    def hotplug(self, n, path):
        self.switch.run(f"port add extra{n} listen {path}")
        self.switch.run(f"port del extra{n}")


class OurSwitchCopying(OurSwitch):
    kind = "sluice-copy"
    port = " copy"


class OurBridge(OurSwitch):
    kind = "sluice-bridge"
    engine = "bridge"

    @classmethod
    def why_not(cls, cell, setting):
        return why_not_learning(cell)


def why_not_learning(cell):
    if cell.plan.engine != "cross":
        return "nothing is forwarded there"
    return "" if cell.plan.addressed else "a learning switch needs frames with addresses, and net_null's have none"


# ---- Open vSwitch ----

class Ovs(Peer):
    """The distribution's, a flow from each port to its partner."""

    kind = "ovs"
    normal = False

    @classmethod
    def pages(cls, plan):
        return 90 + len(plan.roles)

    @classmethod
    def greed(cls, cell):
        # 262144 mbufs for each MTU in use, or half as many, and so on, if these cannot be had.
        return 262144 * ((1500 if cell.kind == "plain" else MTU) + 1536) // (2 << 20)

    @classmethod
    def why_not(cls, cell, setting):
        if not Path(VSWITCHD).exists():
            return "openvswitch-switch-dpdk is not installed"
        return "Open vSwitch makes no frames of its own" if cell.plan.engine == "make" else ""

    def start(self):
        run = Path(self.sockets[0]).parent
        tso = ["other_config:userspace-tso-enable=true"] if self.guest_listens else []
        s = self.setting
        plugins = self.plugins
        self.ovs = self.stack.enter_context(OpenVSwitch(
            run, s.last, s.rest[0], plugins[0] if plugins else None, memory=160,
            # Frozen, it must not find its flows and addresses to be old when it goes on.
            options=["other_config:max-idle=100000000", *tso]))
        self.ovs.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure",
                       "other_config:mac-aging-time=86400")
        add, mtu = [], [] if self.cell.kind == "plain" else [f"mtu_request={MTU}"]
        for path in self.sockets:
            kind = ["type=dpdkvhostuserclient", f"options:vhost-server-path={path}"] if self.guest_listens else \
                ["type=dpdkvhostuser"]
            add += ["--", "add-port", "br0", Path(path).name, "--", "set", "Interface", Path(path).name, *kind, *mtu]
        for end in self.plan.physical:
            add += ["--", "add-port", "br0", end, "--", "set", "Interface", end, "type=dpdk",
                    f"options:dpdk-devargs={self.device(end)}"]
        self.ovs.vsctl(*add[1:])
        self._flows()

    def _flows(self):
        name = {**{n: Path(path).name for n, path in enumerate(self.sockets)}, **{e: e for e in self.plan.physical}}
        if self.normal:
            self.ovs.ofctl("add-flow", "br0", "actions=NORMAL")
            for end in self.plan.physical:
                self.ovs.appctl("fdb/add", "br0", end, "0", OUTSIDE)
            return
        for a, b in self.plan.links:
            for one, other in ((a, b), (b, a)):
                self.ovs.ofctl("add-flow", "br0", f"in_port={name[one]},actions=output:{name[other]}")
        if self.plan.engine == "drop":
            self.ovs.ofctl("add-flow", "br0", "actions=drop")

    @property
    def guest_listens(self):
        # Where it listens itself, Open vSwitch offers no offload at all.
        return self.cell.kind == "tso" or self.setting.offloads

    @property
    def pid(self):
        return self.ovs.pid

    def find_poller(self):
        return poller(self.pid, ("pmd-c",))

    def ready(self):
        give_up = time.monotonic() + 20
        for path in self.sockets:
            while self.ovs.vsctl("get", "Interface", Path(path).name, "link_state").strip() != "up":
                if time.monotonic() > give_up:
                    raise BenchError("Open vSwitch: a guest's port stays down")
                time.sleep(0.1)

    def read(self):
        stats, perf = (self.ovs.appctl(f"dpif-netdev/pmd-{what}-show").partition("pmd thread")[2] for what in ("stats", "perf"))

        def number(text, name):
            found = re.search(rf"{name}: +(\d+)", text)
            return int(found[1]) if found else 0
        batches = number(perf, "Tx batches")
        return Reading(number(stats, "processing cycles"), number(stats, "packets received"), number(perf, "Iterations"), None,
                       number(perf, "Tx packets") / batches if batches else None)

    def poll_statistics(self):
        self.ovs.vsctl("get", "Interface", Path(self.sockets[0]).name, "statistics")
        self.ovs.appctl("dpif-netdev/pmd-perf-show")
        self.ovs.ofctl("dump-ports", "br0")

    def hotplug(self, n, path):
        self.ovs.vsctl("add-port", "br0", Path(path).name, "--", "set", "Interface", Path(path).name, "type=dpdkvhostuser")
        self.ovs.vsctl("del-port", "br0", Path(path).name)


class OvsNormal(Ovs):
    kind = "ovs-normal"
    normal = True

    @classmethod
    def why_not(cls, cell, setting):
        return super().why_not(cell, setting) or why_not_learning(cell)


# ---- anything else ----

class Command(Peer):
    """A back-end given as a command line: {sock0}, {sock1}, ... are where it listens, {lcore} is where it polls."""

    controlled = False

    @classmethod
    def why_not(cls, cell, setting):
        if cell.plan.engine != "cross" or cell.plan.physical:
            return "a command connects VMs only"
        return ""

    def start(self):
        words = {f"sock{n}": path for n, path in enumerate(self.sockets)}
        template = self.setting.commands[kind_of(self.name)]
        try:
            line = template.format(lcore=self.setting.last, first=self.setting.rest[0], dir=Path(self.sockets[0]).parent,
                                   **words)
        except (KeyError, IndexError) as e:
            raise BenchError(f"peer {self.name}: {{{e.args[0]}}} is not known here (there are {len(self.sockets)} sockets, "
                             "{lcore}, {first} and {dir})") from None
        self.log = Path(self.sockets[0]).parent / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(shlex.split(line), stdin=subprocess.PIPE, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=die_with_parent)
        self.stack.callback(self._end)
        give_up = time.monotonic() + 30
        while not all(os.path.exists(path) for path in self.sockets):
            if self.process.poll() is not None or time.monotonic() > give_up:
                said = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                raise BenchError(f"peer {self.name}: no socket appeared at {self.sockets[0]}: {said[-1]}")
            time.sleep(0.05)

    def _end(self):
        for sig in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.process.stdin.close()

    @property
    def pid(self):
        return self.process.pid

    @property
    def pids(self):
        return session(self.pid)

    def find_poller(self):
        time.sleep(0.5)  # to see who is busy
        return busiest(self.pids, self.setting.last)

    def read(self):
        command = self.setting.stats.get(kind_of(self.name))
        if not command:
            return Reading()
        done = subprocess.run(shlex.split(command.format(dir=Path(self.sockets[0]).parent, pid=self.pid)), capture_output=True,
                              text=True, check=False, timeout=10)
        numbers = re.findall(r"\d+", done.stdout)
        if done.returncode or len(numbers) < 2:
            raise BenchError(f"peer {self.name}: its statistics command does not print busy cycles and packets")
        return Reading(int(numbers[0]), int(numbers[1]))


KINDS = {peer.kind: peer for peer in (OurDriver, OurDriverLending, OurSwitch, OurSwitchCopying, OurBridge,
                                       NetVhost, Ovs, OvsNormal)}
ABOUT = {
    "net_sluice": "our driver in stock dpdk-testpmd",
    "net_sluice-zc": "the same with zero-copy=1",
    "net_vhost": "DPDK's vhost driver in the same testpmd: what all ratios refer to",
    "sluice": "our switch, ports connected in pairs (set fwd cross)",
    "sluice-copy": "the same with ports that copy",
    "sluice-bridge": "our switch as a learning bridge",
    "ovs": "the distribution's Open vSwitch with DPDK, a flow from port to port",
    "ovs-normal": "the same as a learning switch (actions=NORMAL)",
}


def kind_of(name):
    """net_sluice of 'net_sluice@/other/build#2'."""
    return name.partition("#")[0].partition("@")[0]


def build_of(name):
    """The build folder a name asks for, or none."""
    folder = name.partition("#")[0].partition("@")[2]
    return Path(folder) if folder else None


def driver_in(build):
    return build / "drivers/net/sluice/librte_net_sluice.so"


def why_no_build(name):
    """What is wrong with a name that asks for another build, or nothing."""
    folder, peer = build_of(name), KINDS.get(kind_of(name))
    if not folder:
        return ""
    if not peer or not issubclass(peer, (OurDriver, OurSwitch)):
        return "only our own driver and switch can be of another build"
    needed = (driver_in if issubclass(peer, OurDriver) else binary)(folder)
    return "" if needed.exists() else f"there is no {needed}"


def find(name, setting):
    """A peer's class; 'net_vhost#2' is another net_vhost, to see what the noise is."""
    kind = kind_of(name)
    return Command if kind in setting.commands else KINDS[kind]


class quiet:
    """A Testpmd shows its whole dialogue when anything went wrong; a user of the benchmark gets one line."""

    def __init__(self, pmd):
        self.pmd = pmd

    def __enter__(self):
        with silence():
            return self.pmd.__enter__()

    def __exit__(self, *_):
        # As in a crash: nothing it holds outlives it, and a polite end takes seconds where ports are many.
        self.pmd.kill()
        with silence():
            self.pmd.close(polite=False)


@contextlib.contextmanager
def silence():
    with open(os.devnull, "w", encoding="ascii") as null, contextlib.redirect_stdout(null):
        yield
