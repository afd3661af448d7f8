# SPDX-License-Identifier: BSD-3-Clause
"""usertools/bench from end to end, in the smallest run there is: a function check, its figures mean nothing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sluice import TOP, binary

BENCH = TOP / "usertools/bench"
# A busy machine shall not keep any window from counting.
TINY = ["--rounds", "1", "--seconds", "0.1", "--wait", "1", "--build", str(binary().parents[2])]


@pytest.fixture(autouse=True)
def machine():
    """Nothing of it may be left at the end: folders, sockets, processes."""
    if os.geteuid() != 0:
        pytest.skip("DPDK needs root here")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a switch and a guest need a CPU each")
    pytest.importorskip("matplotlib", reason="python3-matplotlib is missing (usertools/setup installs it)")
    yield
    for pid in started:
        left = [p for where in (Path("/run"), Path("/run/dpdk")) for p in where.glob(f"slb{pid}_*")]
        assert not left, "the benchmark left files behind"
        assert subprocess.run(["pgrep", "-f", f"slb{pid}_"], capture_output=True, check=False).stdout == b""
    started.clear()


started = []


def bench(*argv):
    with subprocess.Popen([BENCH, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as running:
        started.append(running.pid)
        running.said, running.errors = running.communicate(timeout=120)
    return running


def rows(path):
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_one_cell_of_everybody(tmp_path):
    out = tmp_path / "out"
    prefix = f"stranger{os.getpid()}"
    theirs = ("stranger=dpdk-testpmd --lcores=0@{first},1@{lcore} --no-pci --in-memory -m 64 --vdev net_vhost0,iface={sock0} "
              "--vdev net_vhost1,iface={sock1} --file-prefix=" + prefix + " -- -i --auto-start --total-num-mbufs=8192")
    names = ["net_sluice", "sluice-bridge", "ovs-normal", "net_vhost", "stranger"]
    done = bench("--scenario", "v2v", "--peer", ",".join(names), "--peer-cmd", theirs, "--out", out, *TINY)
    shutil.rmtree(f"/run/dpdk/{prefix}", ignore_errors=True)
    assert done.returncode == 0, done.errors
    assert str(out / "report.html") in done.said
    windows = rows(out / "windows.csv")
    assert {w["peer"] for w in windows} == set(names)
    for w in windows:
        assert float(w["pps"]) > 0 and float(w["seconds"]) > 0.09
        assert not w["cost"] or float(w["cost"]) > 5  # none: a torn reading, which happens
        assert float(w["refused"]) < 0.5
    assert len({w["peer"] for w in windows if w["cost"]}) >= 3
    meta = json.loads((out / "run.json").read_text())
    assert meta["skipped"] == [] and meta["machine"]["tsc_mhz"] > 100 and not meta["ended"]
    assert {row["peer"] for row in json.loads((out / "summary.json").read_text())} == set(names)
    page = (out / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>") and "stranger" in page
    assert "Host DPDK version" in (out / "results.txt").read_text()


def test_lean_guest(tmp_path):
    """Its own driver over each kind of ring, as a client and as a server."""
    done = bench("--scenario", "v2v", "--path", "split-inorder-mrg,packed-inorder", "--size", "300", "--guest", "lean",
                 "--peer", "sluice,ovs", "--base", "ovs", "--out", tmp_path, *TINY)
    assert done.returncode == 0, done.errors
    windows = rows(tmp_path / "windows.csv")
    assert len(windows) >= 4 and {w["guest"] for w in windows} == {"lean"}
    assert all(float(w["pps"]) > 0 for w in windows)
    assert json.loads((tmp_path / "run.json").read_text())["skipped"] == []


def test_latency_and_loss(tmp_path):
    done = bench("--only-figure", "latency,loss", "--peer", "sluice,net_vhost", "--quick", "--out", tmp_path, *TINY)
    assert done.returncode == 0, done.errors
    latency, loss = rows(tmp_path / "latency.csv"), rows(tmp_path / "loss.csv")
    assert {(r["peer"], r["load"]) for r in latency} == {(p, l) for p in ("sluice", "net_vhost") for l in ("0.1", "0.5", "0.9")}
    for r in latency:
        # The floor is of rounds that find nothing, of which a guest that is short of CPU may have none.
        assert float(r["floor50"]) > 0 or r["load"] != "0.1"
        assert 0 < float(r["p50"]) <= float(r["p90"]) <= float(r["p99"])
        assert float(r["sent"]) > 0
    assert {(r["peer"], r["phase"]) for r in loss} == {(p, s) for p in ("sluice", "net_vhost")
                                                      for s in ("quiet", "statistics", "ports")}
    assert all(int(r["calls"]) > 0 and 0 <= int(r["lost"]) <= int(r["sent"]) for r in loss)


def test_interrupted(tmp_path):
    """The end comes at once, what was measured is kept, and nothing polls or stays frozen."""
    out = tmp_path / "out"
    argv = [BENCH, "--scenario", "v2v", "--peer", "sluice,net_vhost", "--out", out, *TINY, "--rounds", "1000"]
    with subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as running:
        started.append(running.pid)
        deadline = time.monotonic() + 60
        while not ((out / "windows.csv").exists() and len(rows(out / "windows.csv")) > 1):
            assert running.poll() is None and time.monotonic() < deadline, running.stderr.read()
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 1
    assert errors.splitlines()[-1] == f"bench: interrupted; what was measured until then is in {out}"
    assert (out / "report.html").exists()


@pytest.mark.parametrize("argv, said", [
    (["--scenario", "v3v"], "v3v: no such scenario"),
    (["--size", "59"], "59: a size is 60 to 9000 bytes"),
    (["--peer", "nobody"], "--peer nobody: no such peer"),
    (["--peer", "net_vhost@/x"], "--peer net_vhost@/x: only our own driver and switch"),
    (["--peer", "net_sluice@/nonexistent"], "there is no /nonexistent/drivers"),
    (["--peer-cmd", "x"], "x: expected NAME='COMMAND'"),
    (["--cpus", "0,0", "--quick"], "--cpus 0,0: expected two different ones"),
    (["--build", "/proc/x", "--quick"], "meson failed"),
    (["report", "/nonexistent"], "/nonexistent: no run.json there"),
    (["again"], "the only such words are: report DIR"),
    (["--scenario", "v2v", "--guest", "fat"], "invalid choice: 'fat'"),
    (["--scenario", "v2v", "--peer", "x", "--peer-cmd", "x=true {sock9}"], "{sock9} is not known here"),
])
def test_one_line_for_each_mistake(argv, said, tmp_path):
    done = bench(*argv, "--out", tmp_path / "out") if argv[0] != "report" else bench(*argv)
    assert done.returncode == 1
    lines = [line for line in done.errors.splitlines() if line.startswith("bench: ")]
    assert len(lines) == 1 and said in lines[0], done.errors
    assert "Traceback" not in done.errors
