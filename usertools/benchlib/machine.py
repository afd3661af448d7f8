# SPDX-License-Identifier: BSD-3-Clause
"""The machine: how near its CPUs are to each other right now, its clock, stolen time, processes that wait."""

import collections
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

SIBLING, NEAR, FAR = 90, 500, 650  # TSC cycles a round trip: less is sibling, less is near, more is far
PLACEMENTS = ("near", "far", "sibling")

Probe = collections.namedtuple("Probe", "time trip first_ghz last_ghz")


class BenchError(Exception):
    """Why nothing could be measured, in one line."""


# ---- placement ----

class Prober:
    """Runs `placement` (test/bench/placement.c) and knows what it said when."""

    def __init__(self, program, first, last):
        self._process = subprocess.Popen([program, str(first), str(last)], stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True, start_new_session=True,
                                         preexec_fn=die_with_parent)
        self._probes, self._lock = [], threading.Lock()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(self._process.stderr.read().strip() or "placement ended at once")
        self.tsc_hz = float(line) * 1e6
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._process.stdout:
            with self._lock:
                self._probes.append(Probe(*map(float, line.split())))

    def seen(self):
        with self._lock:
            return list(self._probes)

    def around(self, start, end):
        """Probes from the last before start to the first after end; waits for that."""
        give_up = time.monotonic() + 2
        while True:
            probes = self.seen()
            first = [i for i, p in enumerate(probes) if p.time < start][-1:]
            last = [i for i, p in enumerate(probes) if p.time > end][:1]
            if first and last:
                return probes[first[0]:last[0] + 1]
            if time.monotonic() > give_up:
                raise BenchError("placement has stopped reporting: does another real-time program hold a CPU?")
            time.sleep(0.01)

    def close(self):
        self._process.kill()
        self._process.wait()
        self._thread.join()


def classify(probes):
    """near, far or sibling (of one core) all the time, or mixed."""
    trips = [p.trip for p in probes]
    if max(trips) < SIBLING:
        return "sibling"
    if min(trips) > FAR:
        return "far"
    return "near" if min(trips) >= SIBLING and max(trips) < NEAR else "mixed"


# ---- time that was taken away ----

def stolen():
    """Seconds the host took away from all our CPUs so far."""
    with open("/proc/stat", encoding="ascii") as f:
        return int(f.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def waited(task):
    """Seconds a thread was ready to run and had no CPU so far."""
    return int((task / "schedstat").read_text(encoding="ascii").split()[1]) / 1e9


# ---- processes ----

def die_with_parent():
    """For a child to call: whoever kills us kills it, too."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def favour(pid):
    """Let a session have the CPU before whatever else runs: by nice value and, where sessions are scheduled as
    groups, by the group's."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(task), -20)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-20", encoding="ascii")


def poller(pid, names=("rte-worker", "lcore-worker", "pmd-c")):
    """The thread of a process that polls: by its name, which is a DPDK program's only worker's or an OVS PMD's."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text(encoding="ascii").startswith(names):
            return task
    raise BenchError(f"no polling thread found in process {pid}")


def session(leader):
    """All processes of a session that its leader began."""
    found = [leader]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if int((path / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[3]) == leader:
                found += [int(path.name)] if int(path.name) != leader else []
    return found


def busiest(pids, cpu):
    """The thread of processes we know nothing about that used most of a CPU; one that is bound to it, if there is."""
    def used(task):
        return int((task / "schedstat").read_text(encoding="ascii").split()[0])
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return max([t for t in tasks if os.sched_getaffinity(int(t.name)) == {cpu}] or tasks, key=used)


def confine(pid, cpus, but):
    """All threads of a process to some CPUs, except the one that polls."""
    for task in os.listdir(f"/proc/{pid}/task"):
        if task != but.name:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task), cpus)


def siblings(cpu):
    """Hardware threads of the same core, itself among them."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    found = set()
    for word in (path.read_text(encoding="ascii").strip().split(",") if path.exists() else [str(cpu)]):
        low, _, high = word.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


def spread(there):
    """(guests' CPU, switch's CPU, all others' CPUs) of those we may use: two cores to themselves, if there are enough."""
    last = there[-1]
    apart = [c for c in there if c not in siblings(last)]
    first = apart[0] if apart else there[0]
    rest = [c for c in there if c not in siblings(first) | siblings(last)] or [first]
    return first, last, tuple(rest)


def freeze(pid):
    """Stop a process; returns when all its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    give_up = time.monotonic() + 2
    while any(_state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > give_up:
            raise BenchError(f"process {pid} does not stop")
        time.sleep(0.001)


def _state(task):
    return (task / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


def thaw(pid):
    os.kill(pid, signal.SIGCONT)


# ---- what it is ----

def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        fields = dict(re.split(r"\s*:\s*", line.strip(), maxsplit=1) for line in f if line.count(":") == 1)
    return f"{fields.get('model name', '?')}, family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"


def hypervisor():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        virtual = re.search(r"^flags.*\bhypervisor\b", f.read(), re.M)
    vendor = Path("/sys/class/dmi/id/sys_vendor")
    name = vendor.read_text(errors="replace").strip() if vendor.exists() else "unknown"
    return f"virtual machine ({name})" if virtual else "none seen"


def meminfo(name):
    """A figure of /proc/meminfo, in its unit."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name + ":"))


@contextlib.contextmanager
def hugepages(needed, welcome):
    """At least `needed` free hugepages of 2 MiB, and `welcome` if that takes at most half of the memory there is; what had to
    be reserved for it is given back at the end."""
    control = Path("/proc/sys/vm/nr_hugepages")
    before = int(control.read_text(encoding="ascii"))
    free = meminfo("HugePages_Free")
    room = meminfo("MemAvailable") // 2 // 2048
    more = max(needed - free, min(welcome - free, room))
    try:
        if more > 0:
            control.write_text(f"{before + more}\n", encoding="ascii")
        if meminfo("HugePages_Free") < needed:
            raise BenchError(f"{meminfo('HugePages_Free')} free hugepages of 2 MiB, about {needed} are needed, and there is no "
                             "memory for them: choose fewer with --peer, or a smaller --scenario")
        yield
    finally:
        if more > 0:
            control.write_text(f"{before}\n", encoding="ascii")


def output_of(*argv):
    """First line a program prints, or nothing."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return (done.stdout.strip().splitlines() or [""])[0]


def versions(top):
    return {
        "sluice": output_of("git", "-C", str(top), "describe", "--always", "--dirty") or "unknown",
        "dpdk": output_of("pkg-config", "--modversion", "libdpdk") or output_of("dpkg-query", "-Wf", "${Version}", "dpdk"),
        "ovs": output_of("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk", "--version"),
        "qemu": "none: the guests are virtio-user processes",
        "kernel": os.uname().release,
    }
