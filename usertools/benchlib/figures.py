# SPDX-License-Identifier: BSD-3-Clause
"""Figures made of windows: which may be compared, medians, intervals."""

import collections
import functools
import random
import statistics

from .machine import PLACEMENTS

STEAL_MAX = 0.002  # of a window's time
CLOCK_MAX = 0.02  # difference of the switch core's clock within a pair

Window = collections.namedtuple(
    "Window",
    "scenario size path guest touch peer round seconds pps gbps refused guest_busy guest_cost cycles packets cost batch busy "
    "dropped steal wait placement trip ghz",
    defaults=(None,) * 14)


def cell_of(w):
    return w.scenario, w.size, w.path, w.guest, w.touch


def counts(w, wait_max):
    """Whether a window was left alone: nothing stolen, nobody waiting for a CPU, the CPUs where they were."""
    return w.placement in PLACEMENTS and w.steal <= STEAL_MAX and w.wait <= wait_max


def spoilt(windows, wait_max):
    """How many windows do not count for which reason; one may have several."""
    return {"stolen from": sum(w.steal > STEAL_MAX for w in windows),
            "waiting for a CPU": sum(w.wait > wait_max for w in windows),
            "moved": sum(w.placement not in PLACEMENTS for w in windows)}


def same_machine(a, b):
    """Whether two windows met the same machine: equally far apart CPUs at one clock."""
    return a.placement == b.placement and abs(a.ghz - b.ghz) <= CLOCK_MAX * b.ghz


def rounds_of(windows):
    """{round: {peer: window}} of one cell."""
    found = collections.defaultdict(dict)
    for w in windows:
        found[w.round][w.peer] = w
    return found


def pairs_of(windows, peer, base, wait_max):
    """(peer's window, base's window) of each round in which both count and met the same machine."""
    for together in rounds_of(windows).values():
        one, other = together.get(peer), together.get(base)
        if one and other and counts(one, wait_max) and counts(other, wait_max) and same_machine(one, other):
            yield one, other


def percentile(values, share):
    """Linear between the two nearest."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


@functools.lru_cache(maxsize=None)
def middles(n, resamples):
    """For so many resamples of n sorted values, which two of them are in the middle: the values do not matter."""
    dice = random.Random(1)
    found = []
    for _ in range(resamples):
        drawn = sorted(dice.choices(range(n), k=n))
        found.append((drawn[(n - 1) // 2], drawn[n // 2]))
    return found


def interval(values, resamples=2000):
    """Bootstrap 95 % confidence interval of the median."""
    ordered = sorted(values)
    medians = [(ordered[i] + ordered[j]) / 2 for i, j in middles(len(ordered), resamples)]
    return percentile(medians, 0.025), percentile(medians, 0.975)


Estimate = collections.namedtuple("Estimate", "median low high n")


def estimate(values):
    """Median with its interval; None of nothing."""
    values = [v for v in values if v is not None]
    if not values:
        return None
    return Estimate(statistics.median(values), *interval(values), len(values))


def ratios(pairs, what):
    """Peer / base of each pair, where both have a figure."""
    values = [(getattr(a, what), getattr(b, what)) for a, b in pairs]
    return [a / b for a, b in values if a and b]


def summarise(windows, base, wait_max, least=3):
    """One row for each cell, peer and placement: {"cell", "peer", "placement", "cost": Estimate, "pps": ..., ...}."""
    groups = collections.defaultdict(list)
    for w in windows:
        groups[cell_of(w)].append(w)
    for cell, group in groups.items():
        there = any(w.peer == base for w in group)
        for peer in dict.fromkeys(w.peer for w in group):
            mine = [w for w in group if w.peer == peer]
            kept = [w for w in mine if counts(w, wait_max)]
            for placement in PLACEMENTS:
                here = [w for w in kept if w.placement == placement]
                if here:
                    pairs = [p for p in pairs_of(group, peer, base, wait_max) if p[0].placement == placement]
                    yield _row(cell, peer, placement, here, len(mine), pairs if there else None, least)
            if not kept:
                yield {"cell": cell, "peer": peer, "placement": None, "windows": 0, "of": len(mine), "pairs": 0}


def _row(cell, peer, placement, here, of, pairs, least):
    row = {"cell": cell, "peer": peer, "placement": placement, "windows": len(here), "of": of,
           "pairs": None if pairs is None else len(pairs)}
    for what in ("cost", "pps", "gbps", "guest_cost", "batch", "busy", "refused", "guest_busy"):
        row[what] = estimate([getattr(w, what) for w in here])
    enough = pairs and len(pairs) >= least
    row["cost_ratio"] = estimate(ratios(pairs, "cost")) if enough else None
    row["pps_ratio"] = estimate(ratios(pairs, "pps")) if enough else None
    return row


def best_rows(rows):
    """Of each cell and peer the placement in which most of the cell's peers have most windows: never two in one picture."""
    rows = list(rows)
    weight = collections.Counter()
    for row in rows:
        if row["placement"]:
            weight[row["cell"], row["placement"]] += row["windows"]
    chosen = {}
    for (cell, placement), n in weight.items():
        if cell not in chosen or n > weight[cell, chosen[cell]]:
            chosen[cell] = placement
    return [row for row in rows if row["placement"] and row["placement"] == chosen[row["cell"]]]
