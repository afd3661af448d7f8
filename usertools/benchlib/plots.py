# SPDX-License-Identifier: BSD-3-Clause
"""The figures, as SVG text. Each takes what figures.best_rows() gives (or latency and loss rows) and returns None if
there is too little to draw."""

import collections
import io
import statistics

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

from .cells import PATHS, SCENARIOS, SIZES  # noqa: E402
from .special import LOADS, PHASES, left_alone  # noqa: E402

# Okabe and Ito's, which people with any colour vision can tell apart, in an order that keeps ours and theirs apart; each
# with a marker of its own for paper.
STYLES = {
    "net_sluice": ("#0072B2", "o"),
    "net_sluice-zc": ("#332288", "p"),
    "sluice": ("#56B4E9", "s"),
    "sluice-copy": ("#999933", "<"),
    "sluice-bridge": ("#009E73", "D"),
    "net_vhost": ("#D55E00", "^"),
    "ovs": ("#E69F00", "v"),
    "ovs-normal": ("#CC79A7", "P"),
}
SPARE = (("#000000", "X"), ("#7F7F7F", "*"), ("#8C564B", "h"))

plt.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "sluice", "font.family": "sans-serif", "font.size": 10,
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"], "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.titlesize": 11,
    "axes.titleweight": "bold", "legend.frameon": False, "figure.dpi": 100})


def style(peer, peers):
    if peer in STYLES:
        return STYLES[peer]
    strangers = [p for p in peers if p not in STYLES]
    return SPARE[strangers.index(peer) % len(SPARE)]


def svg(fig):
    out = io.StringIO()
    fig.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(fig)
    text = out.getvalue()
    return text[text.index("<svg"):]


def png(fig, path):
    fig.savefig(path, format="png", bbox_inches="tight", dpi=110)


def _peers(rows):
    found = list(dict.fromkeys(row["peer"] for row in rows))
    return [p for p in STYLES if p in found] + [p for p in found if p not in STYLES]


def _legend(fig, peers, extra=(), below=-0.02):
    handles = [Line2D([], [], color=style(p, peers)[0], marker=style(p, peers)[1], linestyle="-", label=p) for p in peers]
    handles += list(extra)
    fig.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, below), ncol=min(len(handles), 4))


def _plain_log(axis):
    """1, 10, 100 and what is between in plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def _ticks(ax, wanted):
    """Those of some that the data reach."""
    low, high = ax.get_ylim()
    ax.set_yticks([t for t in wanted if low <= t <= high])


def _errors(estimates, scale=1.0):
    return [[max(e.median - e.low, 0) * scale for e in estimates], [max(e.high - e.median, 0) * scale for e in estimates]]


def _sizes(rows):
    found = {row["cell"][1] for row in rows}
    known = [z for z in SIZES if z in found]
    return sorted([z for z in found if isinstance(z, int) and z not in SIZES] + [z for z in known if isinstance(z, int)]) + \
        [z for z in known if not isinstance(z, int)]


def _of_a_guest(rows, *first):
    """Rows with the first of these guests, touching payload, there are any of; else with whichever there are most."""
    kinds = collections.Counter((r["cell"][3], r["cell"][4]) for r in rows)
    if not kinds:
        return []
    kind = next((k for k in ((guest, True) for guest in first) if kinds[k]), kinds.most_common(1)[0][0])
    return [r for r in rows if (r["cell"][3], r["cell"][4]) == kind]


def _saturated(rows, scenarios):
    return _of_a_guest([r for r in rows if r["cell"][0] in scenarios], "lean", "own")


def _lines(ax, rows, peers, xs, x_of, what, scale=1.0):
    """One line with intervals for each peer over xs; what: an estimate's name in a row."""
    for n, peer in enumerate(peers):
        points = {x_of(r): r[what] for r in rows if r["peer"] == peer and r[what]}
        at = [x for x in xs if x in points]
        if not at:
            continue
        colour, marker = style(peer, peers)
        shift = (n - (len(peers) - 1) / 2) * 0.04
        values = [points[x] for x in at]
        ax.errorbar([xs.index(x) + shift for x in at], [v.median * scale for v in values], yerr=_errors(values, scale),
                    color=colour, marker=marker, markersize=6, linewidth=1.6, capsize=2.5, elinewidth=1)
    ax.set_xticks(range(len(xs)), [str(x) for x in xs])
    ax.set_xlim(-0.4, len(xs) - 0.6)
    ax.margins(y=0.1)


def _columns(n, rows=1, width=4.6, height=3.5):
    fig, axes = plt.subplots(rows, n, figsize=(width * n + 0.6, height * rows), squeeze=False, layout="constrained")
    return fig, axes


# ---- figures ----

def throughput(data):
    rows = _saturated(data["rows"], {"v2v"})
    paths, sizes = [p for p in PATHS if any(r["cell"][2] == p for r in rows)], _sizes(rows)
    paths = [p for p in paths if len({r["cell"][1] for r in rows if r["cell"][2] == p}) > 1][:4]
    if not paths:
        return None
    peers = _peers(rows)
    fig, axes = _columns(len(paths), 2)
    for column, path in enumerate(paths):
        here = [r for r in rows if r["cell"][2] == path]
        for row, (what, scale, unit) in enumerate((("gbps", 1, "Gbit/s"), ("pps", 1e-6, "million frames/s"))):
            ax = axes[row][column]
            _lines(ax, here, peers, sizes, lambda r: r["cell"][1], what, scale)
            ax.set_ylim(bottom=0)
            ax.set_ylabel(f"throughput, {unit}")
            ax.set_xlabel("frame, bytes")
            ax.set_title(f"{path} ring")
    _legend(fig, peers)
    return fig


def cycles(data):
    rows = _saturated([r for r in data["rows"] if r["cost"]], {"v2v"})
    paths, sizes = [p for p in PATHS if any(r["cell"][2] == p for r in rows)], _sizes(rows)
    paths = [p for p in paths if len({r["cell"][1] for r in rows if r["cell"][2] == p}) > 1][:4]
    if not paths:
        return None
    peers = _peers(rows)
    fig, axes = _columns(len(paths))
    for ax, path in zip(axes[0], paths):
        _lines(ax, [r for r in rows if r["cell"][2] == path], peers, sizes, lambda r: r["cell"][1], "cost")
        ax.set_yscale("log")
        _plain_log(ax.yaxis)
        _ticks(ax, (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000))
        ax.set_ylabel("busy TSC cycles a frame")
        ax.set_xlabel("frame, bytes")
        ax.set_title(f"{path} ring")
    _legend(fig, peers)
    return fig


STAGES = (("dequeue", "receive from a guest", "#4477AA"), ("enqueue", "send to a guest", "#EE9944"))


def stages(data):
    rows = _saturated(data["rows"], {"dequeue", "enqueue", "v2v"})
    cost = {(*r["cell"][:3], r["peer"]): r["cost"].median for r in rows if r["cost"]}
    groups = [(path, size) for path in PATHS for size in _sizes(rows)
              if any(("dequeue", size, path, p) in cost for p in _peers(rows))]
    if not groups:
        return None
    peers = [p for p in _peers(rows) if any(("dequeue", z, path, p) in cost for path, z in groups)]
    across = min(len(groups), 2)
    fig, axes = _columns(across, -(-len(groups) // across), width=5.2, height=0.9 + 0.5 * len(peers))
    for ax, (path, size) in zip(axes.flat, groups):
        for y, peer in enumerate(peers[::-1]):
            left, known = 0, {s: cost.get((s, size, path, peer)) for s in ("dequeue", "enqueue", "v2v")}
            for stage, _, colour in STAGES:
                if known[stage]:
                    ax.barh(y, known[stage], left=left, color=colour, height=0.6)
                    ax.text(left + known[stage] / 2, y, f"{known[stage]:.0f}", ha="center", va="center", fontsize=8,
                            color="white" if stage == "dequeue" else "black")
                    left += known[stage]
            if known["v2v"]:
                ax.plot([known["v2v"]] * 2, [y - 0.38, y + 0.38], color="black", linewidth=2.5)
                ax.text(known["v2v"], y + 0.4, f"{known['v2v']:.0f}", ha="center", va="bottom", fontsize=8)
        ax.set_yticks(range(len(peers)), peers[::-1])
        ax.set_ylim(-0.6, len(peers) - 0.2)
        ax.set_xlabel("busy TSC cycles a frame")
        ax.set_title(f"{path} ring, {size} bytes")
        ax.grid(axis="y", visible=False)
    for ax in list(axes.flat)[len(groups):]:
        ax.set_visible(False)
    handles = [Patch(color=colour, label=f"{label}, alone") for _, label, colour in STAGES]
    handles.append(Line2D([], [], color="black", linewidth=2.5, label="both and what is between, VM to VM"))
    fig.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncol=3)
    return fig


def paths(data):
    rows = _of_a_guest([r for r in data["rows"] if r["cell"][0] == "v2v" and r["cost"]], "own")
    sizes = [z for z in _sizes(rows) if len({r["cell"][2] for r in rows if r["cell"][1] == z}) >= 5][:2]
    if not sizes:
        return None
    peers, names = _peers(rows), [p for p in PATHS if any(r["cell"][2] == p for r in rows)]
    fig, axes = _columns(len(sizes), width=5.4, height=0.42 * len(names) + 1.2)
    for ax, size in zip(axes[0], sizes):
        for n, peer in enumerate(peers):
            colour, marker = style(peer, peers)
            here = {r["cell"][2]: r["cost"] for r in rows if r["peer"] == peer and r["cell"][1] == size}
            at = [i for i, name in enumerate(names) if name in here]
            values = [here[names[i]] for i in at]
            shift = (n - (len(peers) - 1) / 2) * 0.11
            ax.errorbar([v.median for v in values], [i + shift for i in at], xerr=_errors(values), color=colour, marker=marker,
                        markersize=6, linestyle="none", elinewidth=1, capsize=2)
        for i in range(len(names) - 1):
            ax.axhline(i + 0.5, color="#bbbbbb", linewidth=0.6)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("busy TSC cycles a frame")
        ax.set_title(f"VM to VM, {size} bytes")
    _legend(fig, peers)
    return fig


def device(data):
    names = {"p2v": "device to VM", "v2p": "VM to device", "pvp": "device to VM to device"}
    rows = _saturated(data["rows"], names)
    groups = [(s, p) for p in PATHS for s in names if any(r["cell"][0] == s and r["cell"][2] == p for r in rows)]
    if not groups:
        return None
    peers, sizes = _peers(rows), _sizes(rows)
    across = min(len(groups), 3)
    fig, axes = _columns(across, -(-len(groups) // across), width=3.9)
    for ax, (scenario, path) in zip(axes.flat, groups):
        here = [r for r in rows if r["cell"][0] == scenario and r["cell"][2] == path]
        _lines(ax, here, peers, sizes, lambda r: r["cell"][1], "cost")
        ax.set_ylim(bottom=0)
        ax.set_ylabel("busy TSC cycles a frame")
        ax.set_xlabel("frame, bytes")
        ax.set_title(f"{names[scenario]}, {path} ring")
    for ax in list(axes.flat)[len(groups):]:
        ax.set_visible(False)
    _legend(fig, peers)
    return fig


def chains(data):
    rows = [r for r in data["rows"] if r["cell"][0].startswith("chain")]
    groups = [(p, z) for p in PATHS for z in _sizes(rows) if any(r["cell"][1:3] == (z, p) for r in rows)]
    if not groups:
        return None
    peers = _peers(rows)
    lengths = sorted({int(r["cell"][0][5:]) for r in rows})
    fig, axes = _columns(2, len(groups))
    for line, (path, size) in zip(axes, groups):
        here = [r for r in rows if r["cell"][1:3] == (size, path)]
        for ax, (what, scale, unit) in zip(line, (("pps", 1e-6, "million frames/s at its end"),
                                                  ("cost", 1, "busy TSC cycles a frame, whole chain"))):
            _lines(ax, here, peers, lengths, lambda r: int(r["cell"][0][5:]), what, scale)
            ax.set_ylim(bottom=0)
            ax.set_xlabel("VMs in the chain (all on one CPU)")
            ax.set_ylabel(unit)
            ax.set_title(f"{path} ring, {size} bytes")
    _legend(fig, peers)
    return fig


def _number(scenario, prefix, base):
    return base if scenario == "v2v" else int(scenario[len(prefix):])


def ports(data):
    rows = _saturated([r for r in data["rows"] if r["cost"] and r["cell"][1] == 64],
                      {s for s in SCENARIOS if s == "v2v" or s.startswith(("ports", "idle"))})
    shown = [(p, kind) for p in PATHS for kind in ("ports", "idle")
             if any(r["cell"][0].startswith(kind) and r["cell"][0] != kind and r["cell"][2] == p for r in rows)]
    if not shown:
        return None
    rows = [r for r in rows if r["cell"][2] in {p for p, _ in shown}]
    peers = _peers(rows)
    across = min(len(shown), 2)
    fig, axes = _columns(across, -(-len(shown) // across))
    for ax, (path, kind) in zip(axes.flat, shown):
        base = 2 if kind == "ports" else 0
        here = [r for r in rows if r["cell"][2] == path and (r["cell"][0] == "v2v" or r["cell"][0].startswith(kind))
                and r["cell"][0] != "idle"]
        counts_ = sorted({_number(r["cell"][0], kind, base) for r in here})
        what, scale, unit = ("cost", 1, "busy TSC cycles a frame") if kind == "ports" else ("pps", 1e-6, "million frames/s")
        _lines(ax, here, peers, counts_, lambda r, k=kind, b=base: _number(r["cell"][0], k, b), what, scale)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("ports that send and receive" if kind == "ports" else "idle ports beside one busy pair")
        ax.set_ylabel(unit)
        ax.set_title(f"{path} ring, 64 bytes, one lcore")
    for ax in list(axes.flat)[len(shown):]:
        ax.set_visible(False)
    _legend(fig, peers)
    return fig


def latency(data):
    places = collections.Counter(r.placement for r in data["latency"] if r.placement in ("near", "far"))
    place = places.most_common(1)[0][0] if places else ""
    rows = [r for r in data["latency"] if r.placement == place]
    sizes = list(dict.fromkeys(r.size for r in rows))
    if not rows:
        return None
    peers = _peers([{"peer": r.peer} for r in rows])
    fig, axes = _columns(len(sizes), width=6.2, height=4)
    for ax, size in zip(axes[0], sizes):
        for i, load in enumerate(LOADS):
            for n, peer in enumerate(peers):
                here, kept = left_alone([r for r in rows if (r.size, r.load, r.peer) == (size, load, peer)], data["wait"])
                if not here:
                    continue
                colour, marker = style(peer, peers)
                x = i + (n - (len(peers) - 1) / 2) * 0.13
                p50, p90, p99 = (statistics.median(getattr(r, p) for r in here) / 1000 for p in ("p50", "p90", "p99"))
                ax.plot([x, x], [p50, p99], color=colour, linewidth=1.5)
                ax.plot([x], [p50], color=colour, marker=marker, markersize=7, markerfacecolor=colour if kept else "white")
                ax.plot([x], [p90], color=colour, marker="_", markersize=10, markeredgewidth=1.5)
                ax.plot([x], [p99], color=colour, marker="_", markersize=6, markeredgewidth=1.5)
            here = [r for r in rows if r.size == size and r.load == load]
            if not here:
                continue
            floor = [statistics.median(getattr(r, f) for r in here) / 1000 for f in ("floor50", "floor99")]
            ax.fill_between([i - 0.45, i + 0.45], floor[0], floor[1], color="#cccccc", linewidth=0)
        ax.set_xticks(range(len(LOADS)), [f"{load:.0%}" for load in LOADS])
        ax.set_yscale("log")
        _plain_log(ax.yaxis)
        _ticks(ax, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000))
        ax.grid(axis="x", visible=False)
        ax.set_xlabel("load, share of what net_vhost bears")
        ax.set_ylabel("one way, microseconds")
        ax.set_title(f"VM to VM, {size} bytes, CPUs {place}")
    _legend(fig, peers, [Line2D([], [], color="black", marker="o", label="p50, above it p90 and p99"),
                         Line2D([], [], color="black", marker="o", markerfacecolor="white",
                                label="CPU taken away in every window"),
                         Patch(color="#cccccc", label="the guest's own round, p50 to p99")])
    return fig


PHASE_NAMES = {"quiet": "nothing else", "statistics": "statistics polled", "ports": "ports come and go"}


def loss(data):
    rows = data["loss"]
    if not rows:
        return None
    peers = _peers([{"peer": r.peer} for r in rows])
    fig, axes = _columns(1, width=8, height=0.9 + 0.62 * len(peers))
    ax, height, shades = axes[0][0], 0.8 / len(PHASES), ("#BBBBBB", "#4477AA", "#EE9944")
    for y, peer in enumerate(peers[::-1]):
        for k, phase in enumerate(PHASES):
            here, kept = left_alone([r for r in rows if (r.peer, r.phase) == (peer, phase) and r.sent], data["wait"])
            at = y + (1 - k) * height
            if not here:
                ax.text(0, at, " not measured", va="center", fontsize=8, color="#666666")
                continue
            value = 1e6 * sum(r.lost for r in here) / sum(r.sent for r in here)
            rate = sum(r.calls for r in here) / sum(r.seconds for r in here)
            said = f" {value:,.0f}" if value >= 10 or not value else f" {value:.2g}"
            ax.barh(at, value, height=height * 0.9, color=shades[k])
            said += f"  ({rate:.0f} a second)" if phase != "quiet" else ""
            said += "" if kept else " !"
            ax.text(value, at, said, va="center", fontsize=8)
    ax.set_yticks(range(len(peers)), peers[::-1])
    ax.set_ylim(-0.5, len(peers) - 0.5)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(0, max(ax.get_xlim()[1], 1) * 8)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("frames lost, of a million")
    _plain_log(ax.xaxis)
    handles = [Patch(color=c, label=PHASE_NAMES[p]) for p, c in zip(PHASES, shades)]
    handles.append(Line2D([], [], linestyle="none", marker="$!$", color="black", label="CPU taken away in every window"))
    fig.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncol=4)
    return fig


DRAW = {"throughput": throughput, "cycles": cycles, "stages": stages, "paths": paths, "device": device, "chains": chains,
        "ports": ports, "latency": latency, "loss": loss}
