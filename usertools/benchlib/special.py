# SPDX-License-Identifier: BSD-3-Clause
"""Measured at a rate below saturation: latency, and loss while the control side is at work.

One VM sends at a steady rate, the other receives. The rate is a share of what the base (net_vhost) can bear in the same
run, and the same for all peers. Latency is from the guest's stamp to its receipt; what the guest takes to look again is
in it, and is given beside it as the floor.
"""

import collections
import statistics
import time

from .figures import counts
from .machine import BenchError, classify, stolen, waited
from .runner import SETTLE, difference, say

LOADS = (0.1, 0.5, 0.9)
LOSS_LOAD = 0.5
PHASES = ("quiet", "statistics", "ports")
LOSS_WAIT = 0.0005  # share of a window the switch may wait for its CPU: more, and its guests' rings are full meanwhile
PAUSE = {"statistics": 0.05, "ports": 0.02}  # seconds between two of them

Latency = collections.namedtuple(
    "Latency", "scenario size path touch peer round load pps sent lost p50 p90 p99 floor50 floor90 floor99 steal wait placement")
Loss = collections.namedtuple(
    "Loss", "scenario size path touch peer round phase pps seconds sent lost calls steal wait placement")


def capacity(rigs, base, seconds):
    """Frames a second the base bears."""
    rig = next((r for r in rigs if r.name == base), rigs[-1])
    rates = []
    rig.thaw()
    rig.guest.pace(0)
    for _ in range(5):
        time.sleep(SETTLE)
        before = rig.guest.read()
        time.sleep(seconds)
        got = difference(rig.guest.read(), before)
        rates.append(got.packets / got.time)
    rig.freeze()
    if not statistics.median(rates):
        raise BenchError(f"not a single frame came through {rig.name}")
    return statistics.median(rates)


class _Watch:
    """What was taken away from a window."""

    def __init__(self, prober, *tasks):
        self.tasks, self.prober = tasks, prober
        self.begin, self.steal, self.wait = time.monotonic(), stolen(), [waited(t) for t in self.tasks]

    def end(self):
        end = time.monotonic()
        took = end - self.begin
        wait = max(waited(t) - w for t, w in zip(self.tasks, self.wait))
        return (stolen() - self.steal) / took, wait / took, classify(self.prober.around(self.begin, end))


def left_alone(rows, wait_max):
    """Those of some windows that count; all of them if none does, which whoever shows them has to say."""
    kept = [r for r in rows if counts(r, min(wait_max, LOSS_WAIT) if isinstance(r, Loss) else wait_max)]
    return kept or list(rows), len(kept)


def _balance(ports):
    """(sent, lost): refused by a full ring is lost, too."""
    sent = ports[0]["tx"] + ports[0]["refused"]
    return sent, sent - ports[1]["rx"]


def _round(runner, rigs, cell, number, window):
    """A window of each, in turn; whoever fails takes no further part."""
    for rig in list(rigs) if number % 2 == 0 else rigs[::-1]:
        row = runner.attempt(rig, cell, lambda rig=rig: window(rig))
        if row:
            yield row
        else:
            rigs.remove(rig)


def run(runner, cell, latency_seconds, loss_seconds):
    """Every Latency and every Loss of a cell; 0 seconds: none of these."""
    with runner.rigs(cell) as rigs:
        rigs = runner.prepared(rigs, cell)
        if not rigs:
            return
        limit = capacity(rigs, runner.base([r.name for r in rigs]), runner.args.seconds)
        if latency_seconds:
            yield from _latency(runner, rigs, cell, limit, latency_seconds)
        if loss_seconds:
            yield from _loss(runner, rigs, cell, limit * LOSS_LOAD, loss_seconds)


def _latency(runner, rigs, cell, limit, seconds):
    for load in LOADS:
        say(f"latency, {cell.size}, {load:.0%} of {limit / 1e6:.2f} Mpps")
        for number in range(runner.args.rounds):
            yield from _round(runner, rigs, cell, number,
                              lambda rig, n=number, share=load: _latency_window(runner, rig, cell, n, share, limit * share, seconds))


def _loss(runner, rigs, cell, rate, seconds):
    for phase in PHASES:
        say(f"loss, {cell.size}, {phase}")
        able = [r for r in rigs if phase == "quiet" or r.peer.controlled]
        for number in range(runner.args.rounds):
            yield from _round(runner, able, cell, number,
                              lambda rig, n=number, what=phase: _loss_window(runner, rig, cell, n, what, rate, seconds))


def _latency_window(runner, rig, cell, number, load, rate, seconds):
    rig.thaw()
    rig.guest.pace(rate)
    time.sleep(SETTLE)
    rig.guest.guest.tell("clear")  # what waited while everything was frozen is none of it
    watch = _Watch(runner.prober, rig.peer.poller, rig.guest.poller)
    time.sleep(seconds)
    ports, told = rig.guest.ports(), rig.guest.latency()
    steal, wait, placement = watch.end()
    rig.freeze()
    sent, lost = _balance(ports)
    return Latency(cell.scenario, cell.size, cell.path, cell.touch, rig.name, number, load, rate, sent, max(lost, 0),
                   *(told["latency"][p] for p in ("p50", "p90", "p99")), *(told["round"][p] for p in ("p50", "p90", "p99")),
                   steal, wait, placement)


def _busy_with(rig, phase, number, until):
    """Do what the phase is about; how often."""
    calls = 0
    while time.monotonic() < until:
        if phase == "quiet":
            time.sleep(until - time.monotonic())
        else:
            if phase == "statistics":
                rig.peer.poll_statistics()
            else:
                rig.peer.hotplug(calls, f"{rig.peer.sockets[0]}x{number}n{calls}")
            time.sleep(PAUSE[phase])
        calls += 1
    return calls


def _loss_window(runner, rig, cell, number, phase, rate, seconds):
    rig.thaw()
    rig.guest.pace(rate)
    time.sleep(SETTLE)
    rig.guest.guest.tell("clear")
    # Only the switch: a guest that waits for its CPU sends nothing meanwhile, and its ring has room for what is under way.
    watch = _Watch(runner.prober, rig.peer.poller)
    calls = _busy_with(rig, phase, number, time.monotonic() + seconds)
    took = time.monotonic() - watch.begin
    steal, wait, placement = watch.end()
    # The sender pauses, the last frames arrive, and then the sums are exact.
    rig.guest.guest.tell("stop", "set role 0 quiet", "start")
    time.sleep(SETTLE)
    ports = rig.guest.ports()
    rig.guest.guest.tell("stop", "set role 0 send", "start")
    rig.freeze()
    sent, lost = _balance(ports)
    return Loss(cell.scenario, cell.size, cell.path, cell.touch, rig.name, number, phase, rate, took, sent, max(lost, 0), calls,
                steal, wait, placement)
