# SPDX-License-Identifier: BSD-3-Clause
"""Windows of all peers in turn.

All processes of a cell run side by side, and all but one pair (a switch and its guest) are frozen (SIGSTOP). A window:
let a pair go, wait until caches are warm, read its counters, wait, read them again, freeze it. A round has one window of
each peer; the next has them in the opposite order (A B C, C B A, ...), so that what drifts meets all of them alike. What is
compared are windows of one round in which the machine was the same; rounds go on until enough count, within limits.
"""

import collections
import contextlib
import functools
import statistics
import sys
import time
from pathlib import Path

from . import figures, guests, peers
from .cells import frame_bytes, why_not
from .machine import BenchError, classify, freeze, stolen, thaw, waited

from ovs import OvsError
from sluice import SluiceError
from testpmd import TestpmdError

# What one peer or guest may do to itself.
TROUBLE = (TestpmdError, SluiceError, OvsError, OSError)
SETTLE = 0.03  # seconds from thawing to counting
TRIES = 3  # times as many rounds as wanted, at most


class Rig:
    """One peer and its guest."""

    def __init__(self, name, setting, cell, folder):
        self.name, self.frozen, self.stack = name, False, contextlib.ExitStack()
        self.circling = None  # (cell, frames that circle)
        try:
            self._start(setting, cell, folder, self.stack)
        except BaseException:
            self.stack.close()
            raise

    def _start(self, setting, cell, folder, stack):
        name, plan = self.name, cell.plan
        sockets = [str(folder / f"s{n}") for n in range(len(plan.roles) + plan.quiet)]
        self.peer = stack.enter_context(peers.find(name, setting)(name, setting, plan, sockets, cell))
        stack.callback(self.thaw)
        with self.peer.patient():
            self.guest = stack.enter_context(guests.make(setting, folder.name, cell, sockets, self.peer.guest_listens))
        stack.callback(self.thaw)
        self.peer.ready()

    @property
    def pids(self):
        return [*self.peer.pids, *self.guest.pids]

    def thaw(self):
        """Also when some of them are gone: whoever ends them must find them running."""
        for pid in self.pids if self.frozen else ():
            with contextlib.suppress(ProcessLookupError):
                thaw(pid)
        self.frozen = False

    def freeze(self):
        # The guest last: it must not go on alone.
        self.frozen = True
        for pid in self.pids[::-1]:
            freeze(pid)

    def prepare(self, cell):
        """Empty rings, then this cell's traffic. What was circling, and how much of it was left."""
        self.thaw()
        left = self.guest.absorb()
        self.peer.resize(cell.size)
        self.guest.prepare(cell)
        time.sleep(0.05)
        self.freeze()
        before, self.circling = self.circling, (cell, self.guest.circling())
        return before, left


class Runner:
    """Measures cells with some peers."""

    def __init__(self, setting, prober, names, args):
        self.setting, self.prober, self.names, self.args = setting, prober, names, args
        self.skipped = []  # (cell, peer, why)
        self.failed = 0
        self._serial = 0

    # ---- one window ----

    def window(self, rig, cell, number):
        tasks = [rig.peer.poller, rig.guest.poller]
        rig.thaw()
        rig.peer.refresh()
        time.sleep(SETTLE)
        back = rig.peer.read()
        steal, wait = stolen(), [waited(t) for t in tasks]
        begin, front = time.monotonic(), rig.guest.read()
        time.sleep(self.args.seconds)
        front, end = difference(rig.guest.read(), front), time.monotonic()
        steal, wait = stolen() - steal, [waited(t) - w for t, w in zip(tasks, wait)]
        back = rig.peer.read().since(back)
        rig.freeze()
        return self._judge(cell, rig.name, number, front, back, steal, max(wait), begin, end)

    def _judge(self, cell, name, number, front, back, steal, wait, begin, end):
        probes = self.prober.around(begin, end)
        elapsed = front.time
        hz = self.prober.tsc_hz
        per_second = front.packets / elapsed
        if back.cycles and back.cycles > 1.05 * back.time * hz:
            back.cycles = None  # nobody is busier than always: one of the two readings was torn
        octets = front.octets or front.packets * frame_bytes(cell.size)
        if cell.scenario == "idle":
            cost = back.time * hz / back.polls if back.polls else None
        elif "p0" in cell.plan.physical and back.cycles:
            # A device that makes frames makes too many: what is lost is paid for by what gets through.
            cost = back.cycles / back.time / per_second if per_second else None
        else:
            cost = back.cycles / back.packets if back.cycles and back.packets else None
        return figures.Window(
            cell.scenario, cell.size, cell.path, cell.guest, cell.touch, name, number, elapsed, per_second,
            octets * 8 / elapsed / 1e9, front.refused / (front.refused + front.packets) if front.refused else 0,
            None if front.busy is None else front.busy / elapsed,
            None if front.busy is None or not front.packets else front.busy * hz / front.packets,
            back.cycles, back.packets, cost, back.batch,
            None if back.cycles is None else min(back.cycles / (back.time * hz), 1), back.dropped,
            steal / elapsed, wait / elapsed, classify(probes), statistics.median(p.trip for p in probes),
            statistics.median(p.last_ghz for p in probes))

    # ---- one cell ----

    def measure_cell(self, rigs, cell):
        """Its windows, one after the other."""
        rigs = self.prepared(rigs, cell)
        windows = []
        for number in range(TRIES * self.args.rounds):
            for rig in list(rigs) if number % 2 == 0 else rigs[::-1]:
                w = self.attempt(rig, cell, lambda rig=rig: self.window(rig, cell, number))
                if w and (w.pps or cell.scenario == "idle" or w.wait > self.args.wait):
                    windows.append(w)
                    yield w
                    continue
                if w:
                    self.fail(cell, rig.name, "not a single frame came through")
                rigs.remove(rig)
            if not rigs or self._enough(windows):
                return

    def prepared(self, rigs, cell):
        """Those that are ready for a cell."""
        ready = []
        for rig in rigs:
            done = self.attempt(rig, cell, functools.partial(rig.prepare, cell))
            if done:
                ready.append(rig)
                self._compare(rig, *done)
        return ready

    def _compare(self, rig, before, left):
        """Whether about as many frames circle as began to: with fewer, nothing was saturated."""
        cell, circling = before or (None, 0)
        if left < circling / 2:
            self.skipped.append((cell, rig.name, f"measured, but only {left} of {circling} frames that circled were left at its end"))

    def attempt(self, rig, cell, work):
        """What work() returns, or None if this rig failed in it."""
        try:
            return work()
        except TROUBLE as e:
            self.fail(cell, rig.name, first_line(e))
            return None

    def fail(self, cell, name, why):
        """One peer's trouble is no reason to measure nothing."""
        say(f"{name}: {why}")
        self.failed += 1
        self.skipped.append((cell, name, f"failed: {why}"))

    def _enough(self, windows):
        base = self.base([w.peer for w in windows])
        return all(len(list(figures.pairs_of(windows, name, base, self.args.wait))) >= self.args.rounds
                   for name in {w.peer for w in windows})

    def base(self, names):
        """Whom ratios refer to: net_vhost, or whoever comes last."""
        return self.args.base if self.args.base in names else list(names)[-1]

    # ---- all of them ----

    def takes_part(self, name, cell):
        why = peers.find(name, self.setting).why_not(cell, self.setting)
        if why:
            self.skipped.append((cell, name, why))
        return not why

    @contextlib.contextmanager
    def rigs(self, cell):
        """All peers of this cell, started, connected and frozen."""
        with contextlib.ExitStack() as stack:
            rigs = []
            for name in self.names:
                if not self.takes_part(name, cell):
                    continue
                self._serial += 1
                folder = Path(self.setting.folder) / f"{self._serial}"
                folder.mkdir()
                try:
                    rigs.append(Rig(name, self.setting, cell, folder))
                except (BenchError, *TROUBLE) as e:
                    self.fail(cell, name, first_line(e))
                    continue
                stack.callback(rigs[-1].stack.close)
                rigs[-1].freeze()
            yield rigs

    def run(self, cells):
        """Every window of every cell that is possible."""
        groups = collections.defaultdict(list)
        for cell in cells:
            why = why_not(cell)
            if why:
                self.skipped.append((cell, "all", why))
            else:
                groups[cell.rig].append(cell)
        done, total = 0, sum(map(len, groups.values()))
        for group in groups.values():
            with self.rigs(group[0]) as rigs:
                for cell in group if rigs else ():
                    done += 1
                    say(f"[{done}/{total}] {cell}")
                    yield from self.measure_cell(rigs, cell)


def difference(new, old):
    return guests.Traffic(new.time - old.time, new.packets - old.packets, new.octets - old.octets,
                          new.refused - old.refused, None if new.busy is None else new.busy - old.busy)


def first_line(error):
    return str(error).partition("\n")[0]


def say(text):
    print(text, file=sys.stderr, flush=True)
