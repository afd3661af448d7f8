# SPDX-License-Identifier: BSD-3-Clause
"""The figures of a report, and the cells each is made of at the three levels of patience."""

from dataclasses import dataclass

from .cells import IMIX, PATHS, SIZES, TSO, Cell, mergeable, why_not

LEVELS = ("quick", "default", "full")
BASIC = ("split", "packed")


@dataclass(frozen=True)
class Figure:
    """title and what it shows; cells by level; kind of measurement: windows, latency or loss."""

    title: str
    about: str
    cells: object
    kind: str = "windows"


def _cross(scenarios, sizes, paths, **more):
    return [Cell(s, z, p, **more) for s in scenarios for p in paths for z in sizes]


def _throughput(level):
    if level == "quick":
        return _cross(["v2v"], (64, 1518), BASIC, guest="lean")
    if level == "default":
        return _cross(["v2v"], (64, 256, 1518, 9000), BASIC, guest="lean")
    sizes = [z for z in SIZES if z != TSO]
    cells = _cross(["v2v"], sizes, ("split", "packed", "split-mrg", "packed-mrg"), guest="lean")
    cells += _cross(["v2v"], sizes, BASIC)
    cells += [Cell("v2v", TSO, p) for p in PATHS if mergeable(p) and "inorder" not in p]
    cells += _cross(["v2v"], (64, 256, 1518), BASIC, touch=False, guest="lean")
    return cells + _cross(["v2v"], (64, 256, 1518), BASIC, touch=False, guest="testpmd")


def _stages(level):
    sizes = {"quick": (), "default": (64, 1518), "full": (64, 256, 1518, 9000)}[level]
    return _cross(("dequeue", "enqueue", "v2v"), sizes, BASIC if level == "full" else ("split",), guest="lean")


def _paths(level):
    sizes = {"quick": (), "default": (64,), "full": (64, 1518)}[level]
    return [c for c in _cross(["v2v"], sizes, PATHS) if not why_not(c)]


def _device(level):
    sizes = {"quick": (), "default": (64, 1518), "full": (64, 256, 512, 1024, 1518, 9000)}[level]
    cells = _cross(("p2v", "pvp"), sizes, BASIC if level == "full" else ("split",), guest="lean")
    cells += _cross(["v2p"], sizes, BASIC, guest="lean")
    return cells + (_cross(["v2p"], (IMIX,), BASIC, guest="lean") if level == "full" else [])


def _chains(level):
    sizes = {"quick": (), "default": (64,), "full": (64, 1518)}[level]
    return _cross([f"chain{n}" for n in ((1, 4) if level == "default" else (1, 2, 3, 4))], sizes,
                  BASIC if level == "full" else ("split",))


def _ports(level):
    if level == "quick":
        return []
    names = ("v2v", "ports8", "idle8") if level == "default" else (
        "v2v", "ports4", "ports8", "ports16", "ports32", "idle8", "idle32", "idle128")
    return _cross(names, (64,), BASIC if level == "full" else ("split",), guest="lean")


def _oneway(level):
    return _cross(["oneway"], {"quick": (), "default": (64,), "full": (64, 1518)}[level], ("split",))


FIGURES = {
    "throughput": Figure("Throughput against frame size", "VM to VM, both ways; every peer on one axis", _throughput),
    "cycles": Figure("Busy cycles per packet against frame size", "the same windows; lower is better", _throughput),
    "stages": Figure("Where the cycles go", "receiving alone, sending alone, and what forwarding between two VMs costs", _stages),
    "paths": Figure("The ten ring paths", "DTS's list of what a guest's driver may negotiate", _paths),
    "device": Figure("To and from a device", "a device makes frames (p2v), takes them (v2p), or both (pvp)", _device),
    "chains": Figure("Chains of VMs", "from a device through one to four VMs to another", _chains),
    "ports": Figure("Port scaling", "more pairs of VMs, and one pair beside ports where nothing happens, on one lcore", _ports),
    "latency": Figure("Latency", "VM to VM at a share of the load net_vhost can bear", _oneway, "latency"),
    "loss": Figure("Loss while statistics are polled and ports come and go", "at half the load net_vhost can bear", _oneway,
                   "loss"),
}


def cells_of(names, level):
    """Cells by kind of measurement, each once, in order: {"windows": [...], "latency": [...], "loss": [...]}."""
    found = {"windows": {}, "latency": {}, "loss": {}}
    for name in names:
        figure = FIGURES[name]
        for cell in figure.cells(level):
            found[figure.kind][cell] = None
    return {kind: list(cells) for kind, cells in found.items()}
