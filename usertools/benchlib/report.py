# SPDX-License-Identifier: BSD-3-Clause
"""What a run found, as text and as one HTML file that needs nothing else."""

import html
import re
import shlex
import statistics
from pathlib import Path

from . import figures, plots
from .catalogue import FIGURES
from .machine import FAR, NEAR
from .peers import ABOUT
from .special import left_alone

CSS = """
body { font: 15px/1.5 sans-serif; color: #222; background: #fff; max-width: 76em; margin: 2em auto; padding: 0 1.5em }
h1 { font-size: 1.7em } h2 { font-size: 1.25em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: 1em }
table { border-collapse: collapse; font-size: 13px; margin: 1em 0 } th, td { padding: 2px 10px 2px 0; text-align: left;
vertical-align: top; border-bottom: 1px solid #eee; white-space: nowrap } td.n, th.n { text-align: right }
.wrap td { white-space: normal } pre { background: #f5f5f5; padding: .6em .8em; overflow-x: auto; font-size: 13px }
figure { margin: 1em 0; overflow-x: auto } figure svg { max-width: 100%; height: auto } 
.ours { font-weight: bold }
"""


def prepare(found):
    """What plots and tables need of store.load()'s answer."""
    meta = found["meta"]
    rows = list(figures.summarise(found["windows"], meta["base"], meta["wait"]))
    return {**found, "wait": meta["wait"], "summary": rows, "rows": figures.best_rows(rows)}


# ---- text ----

HEAD = ("scenario", "size", "path", "guest", "peer", "place", "pairs", "cycles/frame [95 % CI]", "ratio [95 % CI]", "Mframes/s",
        "ratio", "Gbit/s", "batch", "busy", "guest")
NUMERIC = set(HEAD[6:])


def _estimate(e, fmt, interval=True):
    if e is None:
        return "-"
    return f"{e.median:{fmt}} [{e.low:{fmt}}-{e.high:{fmt}}]" if interval else f"{e.median:{fmt}}"


def _million(e):
    return "-" if e is None else f"{e.median / 1e6:.2f}"


def cells_of_row(row):
    """A row's texts, in HEAD's order."""
    scenario, size, path, guest, touch = row["cell"]
    first = [scenario, str(size) if scenario != "idle" else "-", path,
             guest + (", untouched" if guest != "testpmd" and not touch else ""), row["peer"]]
    if not row["placement"]:
        return [*first, "none", f"0/{row['of']}", *["-"] * 8]
    # idle: nothing came through, and what is given is cycles a poll
    pairs = "-" if row["pairs"] is None else row["pairs"]
    return [*first, row["placement"], f"{pairs}/{row['of']}", _estimate(row["cost"], ".1f"), _estimate(row["cost_ratio"], ".2f"), _million(row["pps"]), _estimate(row["pps_ratio"], ".2f", False),
            _estimate(row["gbps"], ".1f", False), _estimate(row["batch"], ".0f", False), _estimate(row["busy"], ".2f", False),
            _estimate(row["guest_busy"], ".2f", False)]


def text_table(head, rows):
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    for line in [head, *rows]:
        yield "  ".join(text.ljust(w) for text, w in zip(line, widths)).rstrip()


def text(data):
    """The whole, for a terminal."""
    yield from text_table(list(HEAD), [cells_of_row(r) for r in data["summary"]])
    for title, head, rows in (("latency, microseconds", LATENCY_HEAD, latency_rows(data)), ("loss", LOSS_HEAD, loss_rows(data))):
        if rows:
            yield f"\n{title}"
            yield from text_table(list(head), rows)
    yield ""
    yield from (f"{name}: {value}" for name, value in about(data))


def about(data):
    meta = data["meta"]
    m = meta["machine"]
    yield "ratios", f"to {meta['base']} in the same rounds; below 1 in cycles and above 1 in frames is better"
    yield "CPU", f"{m['cpu']}; {m['cpus']} CPUs, guests on {m['first']}, switch on {m['last']}; hypervisor: {m['hypervisor']}"
    yield "clock", (f"TSC {m['tsc_mhz']:.1f} MHz; the switch core's {m.get('ghz', 0):.2f} GHz "
                    f"[{m.get('ghz_low', 0):.2f}-{m.get('ghz_high', 0):.2f}]")
    yield "placement", (f"a cache line's round trip takes {m.get('trip', 0):.0f} TSC cycles in the median; of {m.get('probes', 0)} "
                        f"probes {m.get('near', 0)} near (below {NEAR}), {m.get('far', 0)} far (above {FAR})")
    yield "stolen", f"{m.get('stolen', 0):.2f} s of {m.get('took', 0):.0f} s; load {m.get('load', 0):.1f} at the end"
    if data["windows"]:
        kept = sum(figures.counts(w, meta["wait"]) for w in data["windows"])
        reasons = ", ".join(f"{n} {why}" for why, n in figures.spoilt(data["windows"], meta["wait"]).items() if n)
        yield "counted", f"{kept} of {len(data['windows'])} windows" + (f"; others were spoilt: {reasons}" if reasons else "")
    v = meta["versions"]
    yield "versions", f"sluice {v['sluice']}; DPDK {v['dpdk']}; {v['ovs'] or 'no Open vSwitch'}; kernel {v['kernel']}"
    yield "windows", f"{meta['seconds']} s, at least {meta['rounds']} that count for each peer; rings of 1024, 2 MiB pages"
    if meta.get("offloads"):
        yield "guests", "checksum offloads negotiated"
    if meta.get("device"):
        yield "device", meta["device"]
    if meta.get("ended"):
        yield "incomplete", meta["ended"]


# ---- tables ----

LATENCY_HEAD = ("size", "load", "peer", "place", "Mframes/s", "p50", "p90", "p99", "floor p50", "floor p99", "lost", "windows")


def latency_rows(data):
    rows = []
    found = {(r.size, r.load, r.peer, r.placement) for r in data["latency"]}
    order = dict.fromkeys((r.size, r.load, r.peer) for r in data["latency"])
    # Of different placements medians would be of nothing.
    for size, load, peer, place in [(*key, p) for key in order for p in ("near", "far") if (*key, p) in found]:
        every = [r for r in data["latency"] if (r.size, r.load, r.peer, r.placement) == (size, load, peer, place)]
        here, kept = left_alone(every, data["wait"])
        def middle(name, here=here):
            return statistics.median(getattr(r, name) for r in here)
        rows.append([str(size), f"{load:.0%}", peer, place, f"{middle('pps') / 1e6:.2f}",
                     *(f"{middle(p) / 1000:.2f}" for p in ("p50", "p90", "p99", "floor50", "floor99")),
                     f"{sum(r.lost for r in here)}", f"{kept}/{len(every)}"])
    return rows


LOSS_HEAD = ("size", "phase", "peer", "Mframes/s", "sent", "lost", "per million", "calls/s", "windows")


def loss_rows(data):
    rows = []
    for size, phase, peer in dict.fromkeys((r.size, r.phase, r.peer) for r in data["loss"]):
        every = [r for r in data["loss"] if (r.size, r.phase, r.peer) == (size, phase, peer)]
        here, kept = left_alone(every, data["wait"])
        sent, lost = sum(r.sent for r in here), sum(r.lost for r in here)
        calls = sum(r.calls for r in here) / sum(r.seconds for r in here) if phase != "quiet" else 0
        rows.append([str(size), plots.PHASE_NAMES[phase], peer, f"{statistics.median(r.pps for r in here) / 1e6:.2f}",
                     f"{sent}", f"{lost}", f"{1e6 * lost / sent if sent else 0:.1f}",
                     f"{calls:.1f}",
                     f"{kept}/{len(every)}"])
    return rows


def template(data):
    """The fields of DPDK's PVP reference benchmark's results, for each peer's best known case."""
    meta, m, v = data["meta"], data["meta"]["machine"], data["meta"]["versions"]
    yield "Traffic Generator", "test/bench/guest of this project (by row: virtio-user, or a driver of its own), on the same machine"
    yield "Acceptable Loss", "100 % (saturated: throughput is what arrives)"
    yield "Validation run time", f"{meta['rounds']} or more windows of {meta['seconds']} s for each figure"
    yield "Host DPDK version/commit", v["dpdk"]
    yield "Guest DPDK version/commit", f"{v['dpdk']} (virtio-user)"
    yield "Patches applied", f"none to DPDK; sluice {v['sluice']}"
    yield "QEMU version/commit", v["qemu"]
    yield "Virtio features", "by row: the guest's ring path"
    yield "CPU", f"{m['cpu']}, {m.get('ghz', 0):.2f} GHz"
    yield "NIC", "none"
    for r in data["rows"]:
        if r["cell"][0] in ("v2v", "pvp") and r["pps"]:
            yield (f"Result, {r['peer']}, {r['cell'][0]}, {r['cell'][1]} bytes, {r['cell'][2]}, "
                   f"{'touched' if r['cell'][4] else 'untouched'}"), f"{r['pps'].median / 1e6:.3f} Mpps"


# ---- HTML ----

def esc(value):
    return html.escape(str(value))


def html_table(head, rows, numeric=frozenset(), kind=""):
    classes = [' class="n"' if h in numeric else "" for h in head]
    yield f'<table class="{kind}"><tr>' + "".join(f"<th{c}>{esc(h)}</th>" for c, h in zip(classes, head)) + "</tr>"
    for row in rows:
        ours = ' class="ours"' if any("sluice" in cell for cell in row[:6]) else ""
        yield f"<tr{ours}>" + "".join(f"<td{c}>{esc(cell)}</td>" for c, cell in zip(classes, row)) + "</tr>"
    yield "</table>"


def command(meta, name):
    """What makes one figure anew."""
    return shlex.join(["usertools/bench", *meta["selection"], "--only-figure", name, "--out", f"bench-{name}"])


def html_figures(data):
    for name, figure in FIGURES.items():
        fig = plots.DRAW[name](data)
        if not fig:
            continue
        yield f'<h2 id="{name}">{esc(figure.title)}</h2><p>{esc(figure.about)}. '
        yield "Bars at the points are 95 % bootstrap intervals of the median.</p>" if figure.kind == "windows" else "</p>"
        yield f"<figure>{plots.svg(fig)}</figure><p>Made anew by</p><pre>{esc(command(data['meta'], name))}</pre>"
        if name == "latency":
            yield from html_table(LATENCY_HEAD, latency_rows(data), set(LATENCY_HEAD[4:]))
        if name == "loss":
            yield from html_table(LOSS_HEAD, loss_rows(data), set(LOSS_HEAD[3:]))


def html_page(data):
    meta = data["meta"]
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Sluice benchmark</title>'
    yield f"<style>{CSS}</style></head><body>"
    yield f"<h1>Sluice and its peers</h1><p>{esc(meta['date'])}</p><pre>{esc(shlex.join(meta['argv']))}</pre>"
    yield "<p>Raw data: " + ", ".join(f'<a href="{f}">{f}</a>' for f in meta["files"]) + ".</p>"
    yield from html_table(("", ""), [(k, v) for k, v in about(data)], kind="wrap")
    yield "<p>All programs run side by side, and all but one switch and its guest are stopped; windows of all of them alternate. A "
    yield "window counts if the host took no time away, no polling thread waited for its CPU, and the two CPUs were equally far "
    yield "from each other all the time; ratios are of windows of the same round and placement. Busy cycles are each program's own "
    yield "counters, of polls that moved frames. Guests: own is a DPDK program on virtio-user ports, lean the same with a driver that "
    yield "does the least, so that the switch is the limit; both touch every line of payload.</p>"
    what = {**ABOUT, **meta["commands"]}
    yield from html_table(("peer", "what it is"), [(p, what.get(re.split("[@#]", p)[0], "")) for p in meta["peers"]], kind="wrap")
    yield from html_figures(data)
    yield '<h2 id="all">All figures</h2><p>busy: share of the window in which the switch moved frames; guest: the same of the guest. '
    yield "Where the guest is at 1, it limits the throughput, and only cycles compare switches.</p>"
    yield from html_table(HEAD, [cells_of_row(r) for r in data["summary"]], NUMERIC)
    if meta["skipped"]:
        yield "<h2>Not measured</h2>"
        yield from html_table(("cell", "peer", "why"), meta["skipped"], kind="wrap")
    yield '<h2 id="template">Results template</h2><p>The fields of DPDK\'s PVP reference benchmark.</p>'
    yield from html_table(("", ""), list(template(data)), kind="wrap")
    yield "</body></html>"


def write(folder: Path, data):
    """report.html, results.txt (DPDK's template) and summary.json."""
    folder.joinpath("report.html").write_text("\n".join(html_page(data)) + "\n", encoding="utf-8")
    folder.joinpath("results.txt").write_text("".join(f"{k}: {v}\n" for k, v in template(data)), encoding="utf-8")


def plain(row):
    """A summary's row for JSON."""
    out = dict(zip(("scenario", "size", "path", "guest", "touch"), row["cell"]))
    for key, value in row.items():
        if key != "cell":
            out[key] = value._asdict() if isinstance(value, figures.Estimate) else value
    return out
