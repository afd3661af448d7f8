# SPDX-License-Identifier: BSD-3-Clause
"""The command line of usertools/bench."""

import argparse
import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import TOP, figures, guests, peers, special
from .catalogue import FIGURES, LEVELS, cells_of
from .cells import PATHS, SCENARIOS, SIZES, Cell, parse_size, why_not
from .machine import FAR, NEAR, BenchError, Prober, cpu_model, favour, hugepages, hypervisor, spread, stolen, versions
from .peer import Setting
from .runner import Runner, first_line, say
from .store import Store, load

from sluice import SluiceError
from nicsim import nicsim_built
from ovs import OvsError
from testpmd import TestpmdError, cpus, loadable

ABOUT = """Measures Sluice beside its peers on this machine, with no NIC, and writes a report.

  usertools/bench                     some minutes; bench-DATE/report.html
  usertools/bench --quick             about two
  usertools/bench --full              hours: every figure with every size and ring path
  usertools/bench --scenario v2v --size 64,1518 --path split,packed --peer net_sluice,net_vhost
  usertools/bench report DIR          the report anew from DIR's raw data
"""

# rounds, seconds of a window, seconds of a latency and a loss window
PATIENCE = {"quick": (5, 0.15, 0.5, 0.5), "default": (7, 0.2, 0.5, 1), "full": (15, 0.3, 1, 2)}
PEERS = list(peers.KINDS)
TARGETS = ("app/sluice/sluice", "drivers/net/sluice/librte_net_sluice.so", "test/bench/guest", "test/bench/placement",
           "test/support/nicsim/librte_net_nicsim.so")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        sys.exit(f"bench: {message} (--help tells more)")


def positive(kind):
    def parse(text):
        if not re.fullmatch(r"\d+(\.\d+)?", text) or kind(float(text)) <= 0:
            raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
        return kind(float(text))
    return parse


def some_of(known, what):
    def parse(text):
        names = text.split(",")
        wrong = [n for n in names if n not in known]
        if wrong:
            raise argparse.ArgumentTypeError(f"{wrong[0]}: no such {what}; there are {', '.join(map(str, known))}")
        return names
    return parse


def sizes(text):
    try:
        return [parse_size(word) for word in text.split(",")]
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def named(text):
    name, equals, command = text.partition("=")
    if not equals or not re.fullmatch(r"[\w.-]+", name) or not command.strip():
        raise argparse.ArgumentTypeError(f"{text}: expected NAME='COMMAND'")
    return name, command


def add_selection(p):
    p.add_argument("--quick", dest="level", action="store_const", const="quick", default="default",
                   help="few cells, short windows")
    p.add_argument("--full", dest="level", action="store_const", const="full", help="all cells, long windows")
    p.add_argument("--only-figure", action="append", metavar="NAME", type=some_of(FIGURES, "figure"),
                   help=f"measure only what this figure shows: {', '.join(FIGURES)}")
    p.add_argument("--scenario", type=some_of([*SCENARIOS], "scenario"), metavar="NAME,...",
                   help="these instead of a level's cells (--list has them)")
    p.add_argument("--size", type=sizes, metavar="BYTES,...", help="frame sizes without FCS, imix or 64k (with --scenario: 64)")
    p.add_argument("--path", type=some_of(PATHS, "ring path"), metavar="NAME,...", help="ring paths (with --scenario: split)")
    p.add_argument("--peer", metavar="NAME,...", type=lambda text: text.split(","),
                   help=f"whom to measure (default: all of {','.join(PEERS)}); net_vhost#2 is a second net_vhost, "
                        "net_sluice@FOLDER ours of another build folder")
    p.add_argument("--peer-cmd", action="append", default=[], type=named, metavar="NAME='COMMAND'",
                   help="another back-end, which listens at {sock0}, {sock1}, ... and polls on CPU {lcore}")
    p.add_argument("--peer-stats", action="append", default=[], type=named, metavar="NAME='COMMAND'",
                   help="prints busy TSC cycles and packets of that back-end so far ({pid}, {dir})")
    p.add_argument("--guest", choices=["own", "lean", "testpmd"],
                   help="with --scenario: the guest's driver: virtio-user in a program of ours (own) or in testpmd, or "
                        "one that does the least (lean) (default: own)")
    p.add_argument("--offloads", action="store_true", help="guests negotiate checksum offloads, as Linux does, but ask for none")
    p.add_argument("--untouched", action="store_true", help="with --scenario: the guest does not look at payload")


def parse_args(argv):
    p = Parser(prog="bench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("report", nargs="*", help=argparse.SUPPRESS)
    p.add_argument("--list", action="store_true", help="say what there is to measure, and how much each level has of it")
    add_selection(p)
    p.add_argument("--rounds", type=positive(int), help="rounds that count for each cell")
    p.add_argument("--seconds", type=positive(float), help="length of a window")
    p.add_argument("--wait", type=positive(float), default=0.02,
                   help="share of a window a polling thread may wait for its CPU (default: %(default)s)")
    p.add_argument("--base", default="net_vhost", help="whom ratios refer to (default: %(default)s)")
    p.add_argument("--cpus", metavar="GUESTS,SWITCH",
                   help="which CPU polls for the guests, which for the switch (default: first, last)")
    p.add_argument("--build", type=Path, default=Path(os.environ.get("SLUICE_BUILD", TOP / "build")),
                   help="build folder (default: $SLUICE_BUILD or build/); made if it is not there")
    p.add_argument("--out", type=Path, help="folder of the report (default: bench-DATE-TIME)")
    args = p.parse_args(argv)
    if args.report and (args.report[0] != "report" or len(args.report) != 2):
        p.error(f"{' '.join(args.report)}: the only such words are: report DIR")
    check_args(p, args)
    return args


def check_args(p, args):
    rounds, seconds, args.latency_seconds, args.loss_seconds = PATIENCE[args.level]
    args.rounds, args.seconds = args.rounds or rounds, args.seconds or seconds
    args.peer_cmd, args.peer_stats = dict(args.peer_cmd), dict(args.peer_stats)
    args.peer = args.peer or [*PEERS, *args.peer_cmd]
    known = {*PEERS, *args.peer_cmd}
    for name in args.peer:
        if peers.kind_of(name) not in known:
            p.error(f"--peer {name}: no such peer; there are {', '.join(sorted(known))}")
        if wrong := peers.why_no_build(name):
            p.error(f"--peer {name}: {wrong}")
    if len(set(args.peer)) < len(args.peer):
        p.error("--peer: the same twice; call the second NAME#2")
    if (args.size or args.path or args.guest or args.untouched) and not (args.scenario or args.only_figure):
        args.scenario = ["v2v"]
    if args.guest == "testpmd":
        args.untouched = True
    args.only_figure = [name for names in args.only_figure or [] for name in names]


# ---- what to measure ----

def chosen(args):
    """Cells by kind."""
    if not args.scenario:
        cells = cells_of(args.only_figure or FIGURES, args.level)
        return cells if any(cells.values()) else cells_of(args.only_figure, "default")
    if args.only_figure:
        # Of one's own choice what this figure shows.
        shown = {c.scenario for name in args.only_figure for c in FIGURES[name].cells("full")}
        args.scenario = [s for s in args.scenario if s in shown]
    cells = [Cell(s, z, path, args.guest or "own", not args.untouched) for s in args.scenario
             for path in args.path or ["split"] for z in (args.size or [64] if s != "idle" else [64])]
    special_cells = [c for c in cells if c.scenario == "oneway" and args.only_figure]
    return {"windows": [c for c in cells if c not in special_cells],
            "latency": special_cells if "latency" in args.only_figure else [],
            "loss": special_cells if "loss" in args.only_figure else []}


def selection(args):
    """The arguments that choose the same again, but for figure and folder."""
    words = [] if args.level == "default" else [f"--{args.level}"]
    for name in ("scenario", "size", "path"):
        if getattr(args, name):
            words += [f"--{name}", ",".join(map(str, getattr(args, name)))]
    words += ["--peer", ",".join(args.peer)] if set(args.peer) != {*PEERS, *args.peer_cmd} else []
    for option, given in (("--peer-cmd", args.peer_cmd), ("--peer-stats", args.peer_stats)):
        for name, command in given.items():
            words += [option, f"{name}={command}"]
    words += ["--offloads"] if args.offloads else []
    if args.guest:
        words += ["--guest", args.guest]
    elif args.untouched:
        words += ["--untouched"]
    return [*words, "--rounds", str(args.rounds), "--seconds", str(args.seconds)]


def print_list():
    print("scenarios:")
    for name, (_, about) in SCENARIOS.items():
        print(f"  {name:<10} {about}")
    print("\nsizes: " + ", ".join(map(str, SIZES)) + ", or any other from 60 to 9000 bytes")
    print("\nring paths (the guest's virtio-user options):")
    for name, options in PATHS.items():
        print(f"  {name:<20} {options}")
    print("\npeers:")
    for name, about in peers.ABOUT.items():
        print(f"  {name:<14} {about}")
    print("\nfigures, and cells at each level (" + ", ".join(LEVELS) + "):")
    for name, figure in FIGURES.items():
        print(f"  {name:<11} {' '.join(f'{len(figure.cells(level)):3}' for level in LEVELS)}  {figure.title}: {figure.about}")


# ---- the machine ----

def choose_cpus(args):
    """(guests' CPU, switch's CPU, CPUs of everything else)"""
    there = cpus()
    if args.cpus:
        words = args.cpus.split(",")
        if len(words) != 2 or not all(w.isdigit() and int(w) in there for w in words) or words[0] == words[1]:
            raise BenchError(f"--cpus {args.cpus}: expected two different ones of {','.join(map(str, there))}")
        first, last = map(int, words)
        return first, last, tuple(c for c in there if c not in (first, last)) or (first,)
    if len(there) < 2:
        raise BenchError("two CPUs are needed, one for the switch and one for the guests")
    return spread(there)


def build(args):
    """Compile what is missing or older than its source."""
    folder = args.build
    if not (folder / "build.ninja").exists():
        say(f"building in {folder} ...")
        _quietly("meson", "setup", folder, TOP)
    _quietly("ninja", "-C", folder, *TARGETS)


def _quietly(*argv):
    try:
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as e:
        raise BenchError(f"{argv[0]}: {e.strerror}: usertools/setup installs what is needed") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        wrong = [line for line in lines if "error" in line.lower()] or lines or ["it said nothing"]
        raise BenchError(f"{argv[0]} failed: {wrong[0]}")


def check_machine(args):
    if os.geteuid() != 0:
        raise BenchError("DPDK and real-time threads need root here: use sudo")
    if "constant_tsc" not in Path("/proc/cpuinfo").read_text(encoding="ascii"):
        raise BenchError("this CPU's TSC is not constant: cycles would mean nothing")
    if not shutil.which("dpdk-testpmd"):
        raise BenchError("dpdk-testpmd is missing: usertools/setup installs it")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BenchError("python3-matplotlib is missing: usertools/setup installs it") from None


def memory_for(args, cells, setting):
    """A context in which there are hugepages for the greediest cell; before a folder is made."""
    def need(cell, of_peer):
        taking = [peers.find(name, setting) for name in args.peer]
        return sum(of_peer(peer, cell) + guests.pages(cell) for peer in taking if not peer.why_not(cell, setting))
    there = [c for kind in cells.values() for c in kind if not why_not(c)]
    return hugepages(max((need(c, lambda peer, cell: peer.pages(cell.plan)) for c in there), default=0),
                     max((need(c, lambda peer, cell: peer.pages(cell.plan) + peer.greed(cell)) for c in there), default=0))


# ---- a run ----

def describe_machine(prober, setting, began, steal):
    probes = prober.seen()
    trips, clocks = [p.trip for p in probes], [p.last_ghz for p in probes]
    seen = {"cpu": cpu_model(), "cpus": len(os.sched_getaffinity(1)), "first": setting.first, "last": setting.last,
            "hypervisor": hypervisor(), "tsc_mhz": prober.tsc_hz / 1e6, "took": time.monotonic() - began,
            "stolen": stolen() - steal, "load": os.getloadavg()[0], "probes": len(trips)}
    if trips:
        seen |= {"trip": statistics.median(trips), "near": sum(t < NEAR for t in trips), "far": sum(t > FAR for t in trips),
                 "ghz": statistics.median(clocks), "ghz_low": figures.percentile(clocks, 0.1),
                 "ghz_high": figures.percentile(clocks, 0.9)}
    return seen


def measure(args, cells, runner, store):
    """Everything, each row stored as soon as it is there."""
    for window in runner.run(cells["windows"]):
        store.add(window)
    for cell in dict.fromkeys(cells["latency"] + cells["loss"]):
        for row in special.run(runner, cell, args.latency_seconds * (cell in cells["latency"]),
                               args.loss_seconds * (cell in cells["loss"])):
            store.add(row)


def find_nicsim(folder):
    path = nicsim_built(folder)
    return path if path.exists() else None


@contextlib.contextmanager
def setting_of(args, chosen_cpus):
    """Folders and drivers, gone afterwards."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f"slb{os.getpid()}_", dir="/run"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        found = []
        for path in (peers.driver_in(args.build), find_nicsim(args.build)):
            driver, copied = loadable(path) if path else (None, None)
            if copied:
                stack.callback(shutil.rmtree, copied)
            found.append(driver)
        yield Setting(args.build, folder, *chosen_cpus, args.offloads, *found, args.peer_cmd, args.peer_stats)


def run(args, argv):
    check_machine(args)
    chosen_cpus = choose_cpus(args)
    cells = chosen(args)
    if not any(cells.values()):
        raise BenchError("nothing to measure: that figure has no cells at this level or in this selection")
    build(args)
    favour(os.getpid())
    began, steal, reason = time.monotonic(), stolen(), ""
    args.out = args.out or Path(time.strftime("bench-%Y%m%d-%H%M%S"))
    meta = {"argv": ["usertools/bench", *argv], "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"), "peers": args.peer,
            "base": args.base, "offloads": args.offloads, "wait": args.wait, "rounds": args.rounds, "seconds": args.seconds,
            "level": args.level, "selection": selection(args), "commands": args.peer_cmd, "versions": versions(TOP)}
    with contextlib.closing(Prober(args.build / "test/bench/placement", *chosen_cpus[:2])) as prober, \
            setting_of(args, chosen_cpus) as setting, memory_for(args, cells, setting), Store(args.out) as store:
        os.sched_setaffinity(0, setting.rest)
        runner = Runner(setting, prober, args.peer, args)
        try:
            measure(args, cells, runner, store)
        except (BenchError, TestpmdError, SluiceError, OvsError) as e:
            reason = first_line(e)
        except KeyboardInterrupt:
            reason = "interrupted"
        finally:
            meta |= {"machine": describe_machine(prober, setting, began, steal), "ended": reason,
                     "skipped": [[str(c), p, why] for c, p, why in runner.skipped],
                     "device": device_note(cells, setting)}
            store.meta(meta)
    report(args.out)
    if reason:
        sys.exit(f"bench: {reason}; what was measured until then is in {args.out}")
    if runner.failed:
        sys.exit(f"bench: {runner.failed} failures, see 'Not measured' in the report; the first: " +
                 next(f"{cell}, {name}: {why}" for cell, name, why in runner.skipped if why.startswith("failed")))


def device_note(cells, setting):
    if not any(c.plan.physical for c in cells["windows"]):
        return ""
    return ("frames come from net_null and go to net_nicsim, which frees them late" if setting.nicsim else
            "frames come from and go to net_null, which frees them at once: a NIC frees them late (net_nicsim was not built)")


def report(folder):
    from . import report as pages  # matplotlib takes a second, and --help none
    import json
    try:
        found = load(folder)
    except FileNotFoundError:
        raise BenchError(f"{folder}: no run.json there: expected the folder of an earlier run") from None
    except ValueError as e:
        raise BenchError(str(e)) from None
    found["meta"]["files"] = [f.name for f in sorted(folder.glob("*.csv"))] + ["run.json", "summary.json", "results.txt"]
    data = pages.prepare(found)
    pages.write(folder, data)
    summary = json.dumps([pages.plain(r) for r in data["summary"]], indent=1)
    (folder / "summary.json").write_text(summary + "\n", encoding="utf-8")
    print("\n".join(pages.text(data)))
    print(f"\n{folder / 'report.html'}")


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)

    def end(*_):
        # Once: cleaning up is not to be interrupted.
        for sig in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(sig, signal.SIG_IGN)
        raise KeyboardInterrupt
    for sig in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        if sig != signal.SIGHUP or signal.getsignal(sig) != signal.SIG_IGN:  # nohup
            signal.signal(sig, end)
    try:
        if args.list:
            print_list()
        elif args.report:
            report(Path(args.report[1]))
        else:
            run(args, argv)
    except (BenchError, OSError) as e:
        sys.exit(f"bench: {first_line(e)}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
