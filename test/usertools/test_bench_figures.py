# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark's arithmetic, on windows nobody measured: what counts, what is compared, what is drawn of it."""

import math
import random
import statistics
import subprocess

import pytest
from benchlib import TOP, catalogue, cells, figures, machine, peer, peers, special, store

WAIT = 0.02


def window(peer="a", number=0, cost=100.0, placement="near", **more):
    known = {"scenario": "v2v", "size": 64, "path": "split", "guest": "own", "touch": True, "seconds": 0.2, "pps": 1e9 / cost,
             "gbps": 512 / cost, "refused": 0.0, "guest_busy": 0.5, "guest_cost": 90.0, "cycles": 10**8, "packets": 10**6,
             "batch": 32.0, "busy": 0.9, "dropped": 0, "steal": 0.0, "wait": 0.0, "trip": 140.0, "ghz": 3.0}
    return figures.Window(peer=peer, round=number, cost=cost, placement=placement, **{**known, **more})


# ---- numbers ----

def test_percentile_lies_between_neighbours():
    assert figures.percentile([4, 1, 3, 2], 0) == 1
    assert figures.percentile([4, 1, 3, 2], 1) == 4
    assert figures.percentile([4, 1, 3, 2], 0.5) == 2.5
    assert figures.percentile([7], 0.9) == 7


def test_interval_holds_the_median_and_narrows():
    dice = random.Random(2)
    few, many = ([dice.gauss(100, 10) for _ in range(n)] for n in (9, 400))
    for values in few, many:
        low, high = figures.interval(values)
        assert min(values) <= low <= statistics.median(values) <= high <= max(values)
    wide, narrow = (high - low for low, high in map(figures.interval, (few, many)))
    assert narrow < wide / 2
    # The standard error of a normal distribution's median is 1.25 s / sqrt(n).
    assert math.isclose(narrow, 2 * 1.96 * 1.25 * 10 / 20, rel_tol=0.35)


def test_interval_covers_what_it_promises():
    dice, inside = random.Random(3), 0
    for _ in range(400):
        low, high = figures.interval([dice.gauss(0, 1) for _ in range(25)])
        inside += low <= 0 <= high
    assert 370 <= inside <= 395


def test_estimate_of_nothing():
    assert figures.estimate([]) is None
    assert figures.estimate([None, None]) is None
    assert figures.estimate([None, 3]) == (3, 3, 3, 1)


# ---- what counts ----

@pytest.mark.parametrize("spoilt", [{"steal": 0.01}, {"wait": 0.05}, {"placement": "mixed"}])
def test_disturbed_windows_do_not_count(spoilt):
    windows = [window("a", n, 80) for n in range(4)] + [window("b", n) for n in range(4)]
    windows[1] = window("a", 1, 80, **spoilt)
    assert len(list(figures.pairs_of(windows, "a", "b", WAIT))) == 3


def test_only_the_same_machine_is_compared():
    near, far = window("a", 0, 80), window("b", 0, 200, "far")
    assert not list(figures.pairs_of([near, far], "a", "b", WAIT))
    fast, slow = window("a", 0, 80, ghz=3.2), window("b", 0, ghz=3.0)
    assert not list(figures.pairs_of([fast, slow], "a", "b", WAIT))
    other_round = window("b", 1)
    assert not list(figures.pairs_of([near, other_round], "a", "b", WAIT))


def test_ratios_are_of_rounds_so_that_drift_cancels():
    windows = [w for n in range(12) for w in (window("a", n, 70 * (1 + n / 4)), window("b", n, 100 * (1 + n / 4)))]
    row = next(r for r in figures.summarise(windows, "b", WAIT) if r["peer"] == "a")
    assert row["pairs"] == 12
    assert all(math.isclose(value, 0.7) for value in row["cost_ratio"][:3])


def test_too_few_pairs_make_no_ratio():
    windows = [w for n in range(2) for w in (window("a", n, 70), window("b", n))]
    rows = list(figures.summarise(windows, "b", WAIT))
    assert [r["cost_ratio"] for r in rows] == [None, None]
    assert rows[0]["cost"].median == 70
    no_base = list(figures.summarise(windows, "c", WAIT))
    assert [r["pairs"] for r in no_base] == [None, None]


def test_one_picture_has_one_placement():
    windows = [window(p, n, 50 if p == "a" else 60, "near") for p in "ab" for n in range(3)]
    windows += [window(p, n, 90, "far") for p in "ab" for n in range(3, 8)]
    windows += [window("c", 8, placement="mixed")]
    rows = figures.best_rows(figures.summarise(windows, "b", WAIT))
    assert {(r["peer"], r["placement"]) for r in rows} == {("a", "far"), ("b", "far")}


def test_placement_of_probes():
    def probes(*trips):
        return [machine.Probe(0, trip, 3, 3) for trip in trips]
    assert machine.classify(probes(140, 160)) == "near"
    assert machine.classify(probes(810, 790)) == "far"
    assert machine.classify(probes(140, 810)) == "mixed"
    assert machine.classify(probes(40, 50)) == "sibling"


# ---- what others print ----

TESTPMD = """
  RX-bursts : 200000 [84% of 0 pkts + 16% of 32 pkts]
  RX-bursts : 100000 [68% of 0 pkts + 32% of 32 pkts]
  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 2048000        RX-dropped: 0             RX-total: 2048000
  TX-packets: 2047000        TX-dropped: 1000          TX-total: 2048000
  CPU cycles/packet=100.00 (total cycles=204800000 / total io packets=2048000) at 2100 MHz Clock
"""


def test_testpmds_forward_statistics():
    seen = peers.parse_forward(TESTPMD, "RX")
    assert (seen.cycles, seen.packets, seen.dropped, seen.polls) == (204800000, 2048000, 1000, 300000)
    assert math.isclose(seen.batch, 32)
    silent = peers.parse_forward("", "RX")
    assert (silent.cycles, silent.packets, silent.batch) == (0, 0, None)


def test_counters_may_wrap():
    new, old = peer.Reading(10, 5), peer.Reading(2**64 - 10, 2)
    assert (new.since(old).cycles, new.since(old).packets, new.since(old).polls) == (20, 3, None)


def test_long_frames_are_several_segments():
    assert peers.segments(1518) == "1518"
    assert peers.segments(9000) == "2048,2048,2048,2048,808"


# ---- cells ----

@pytest.mark.parametrize("level", catalogue.LEVELS)
def test_every_cell_of_a_report_is_possible(level):
    every = [c for found in catalogue.cells_of(catalogue.FIGURES, level).values() for c in found]
    assert every
    assert not [(str(c), cells.why_not(c)) for c in every if cells.why_not(c)]


def test_plans_are_consistent():
    for name, (plan, _) in cells.SCENARIOS.items():
        ports = len(plan.roles) + plan.quiet
        ends = [e for link in plan.links for e in link]
        assert len(set(ends)) == len(ends), name
        assert all(e in ("p0", "p1") or e < ports for e in ends), name
        assert all(port < len(plan.roles) for port, _ in plan.count), name
        assert plan.count or name == "idle", name


def test_ten_ring_paths():
    assert len(cells.PATHS) == 10 == len(set(cells.PATHS.values()))


# ---- what is kept and drawn ----

def a_whole_run():
    """Rows for every figure, with two strangers among the peers."""
    dice = random.Random(4)
    names = [*peers.KINDS, "net_vhost#2", "vpp"]
    made = catalogue.cells_of(catalogue.FIGURES, "default")
    for cell in [*made["windows"], *(cells.Cell("v2v", z, "packed-mrg") for z in ("imix", 9000, "64k"))]:
        for number in range(3):
            for k, name in enumerate(names):
                cost = (80 + 15 * k + cells.frame_bytes(cell.size) / 8) * dice.uniform(0.95, 1.05)
                yield window(name, number, cost, scenario=cell.scenario, size=cell.size, path=cell.path, guest=cell.guest,
                             touch=cell.touch)
    for cell in made["latency"]:
        for load in special.LOADS:
            for k, name in enumerate(names):
                yield special.Latency(cell.scenario, cell.size, cell.path, True, name, 0, load, 1e6, 10**6, 0, 900 + 100 * k,
                                      2000, 9000, 40, 50, 130, 0.0, 0.0, "near")
    for cell in made["loss"]:
        for phase in special.PHASES:
            for name in names[:-1]:
                yield special.Loss(cell.scenario, cell.size, cell.path, True, name, 0, phase, 1e6, 1.0, 10**6, 12, 20, 0.0, 0.0,
                                   "near")


META = {"argv": ["usertools/bench"], "date": "today", "peers": [*peers.KINDS, "net_vhost#2", "vpp"], "base": "net_vhost",
        "wait": WAIT, "rounds": 3, "seconds": 0.2, "level": "full", "selection": ["--full"], "skipped": [["a", "b", "<why>"]],
        "commands": {"vpp": "vpp unix {sock0}"}, "ended": "", "device": "",
        "machine": {"cpu": "a", "cpus": 2, "first": 0, "last": 1, "hypervisor": "none", "tsc_mhz": 2000.0},
        "versions": {"sluice": "x", "dpdk": "y", "ovs": "z", "kernel": "k", "qemu": "none"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    with store.Store(path) as s:
        for row in a_whole_run():
            s.add(row)
        s.meta(META)
    return path


def test_what_is_stored_comes_back(folder):
    found, rows = store.load(folder), list(a_whole_run())
    assert found["meta"] == META
    assert len(found["windows"]) + len(found["latency"]) + len(found["loss"]) == len(rows)
    first = next(r for r in rows if isinstance(r, figures.Window))
    for kept, was in zip(found["windows"][0], first):
        assert kept == pytest.approx(was, abs=1e-6) if isinstance(was, float) else kept == was
    assert {w.size for w in found["windows"]} >= {"imix", "64k", 9000}


def test_report_draws_every_figure(folder):
    pytest.importorskip("matplotlib", reason="python3-matplotlib is missing (usertools/setup installs it)")
    said = subprocess.run([TOP / "usertools/bench", "report", folder], capture_output=True, text=True, check=True).stdout
    assert "report.html" in said and "0.7" not in said.partition("\n")[0]
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == len(catalogue.FIGURES)
    for name in catalogue.FIGURES:
        assert f"--only-figure {name} --out" in page
    assert "&lt;why&gt;" in page and "http://" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", "").replace("http://creativecommons.org", ""), "nothing is fetched from elsewhere"
    assert "Acceptable Loss" in (folder / "results.txt").read_text()
    assert (folder / "summary.json").read_text().startswith("[")


def test_columns_of_another_version_are_refused(folder, tmp_path):
    (tmp_path / "run.json").write_text((folder / "run.json").read_text())
    (tmp_path / "windows.csv").write_text("scenario,size\n")
    done = subprocess.run([TOP / "usertools/bench", "report", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "another version" in done.stderr
