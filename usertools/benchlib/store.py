# SPDX-License-Identifier: BSD-3-Clause
"""What was measured, as CSV and JSON, and back."""

import csv
import json

from .figures import Window
from .special import Latency, Loss

TABLES = {"windows": Window, "latency": Latency, "loss": Loss}
MADE = ("run.json", "summary.json", "results.txt", "report.html")
TEXTS = {"scenario", "path", "guest", "peer", "placement", "phase"}


def _write(value):
    return repr(round(value, 6)) if isinstance(value, float) else "" if value is None else value


def _read(name, text):
    if name in TEXTS:
        return text
    if text == "":
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text  # a size such as imix


class Store:
    """A folder that is written while measuring: what is there survives whatever happens."""

    def __init__(self, folder):
        self.folder, self._open = folder, {}

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (*(f"{table}.csv" for table in TABLES), *MADE):
            (self.folder / name).unlink(missing_ok=True)
        return self

    def __exit__(self, *_):
        for f, _ in self._open.values():
            f.close()

    def add(self, row):
        name = next(name for name, kind in TABLES.items() if isinstance(row, kind))
        if name not in self._open:
            f = (self.folder / f"{name}.csv").open("w", encoding="utf-8", newline="")
            writer = csv.writer(f)
            writer.writerow(TABLES[name]._fields)
            self._open[name] = f, writer
        f, writer = self._open[name]
        writer.writerow(map(_write, row))
        f.flush()

    def meta(self, meta):
        (self.folder / "run.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def load(folder):
    """{"meta": ..., "windows": [Window], "latency": [...], "loss": [...]} of a report's folder."""
    found = {"meta": json.loads((folder / "run.json").read_text(encoding="utf-8"))}
    for name, kind in TABLES.items():
        found[name] = []
        path = folder / f"{name}.csv"
        if path.exists():
            with path.open(encoding="utf-8", newline="") as f:
                rows = csv.reader(f)
                fields = next(rows)
                if tuple(fields) != kind._fields:
                    raise ValueError(f"{path}: its columns are those of another version")
                found[name] = [kind(*map(_read, fields, row)) for row in rows]
    return found
