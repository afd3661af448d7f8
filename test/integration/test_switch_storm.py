# SPDX-License-Identifier: BSD-3-Clause
"""Row P10 of the fault matrix: as many ports as there can be, two queue pairs each, whose front-ends attach and leave in storms.

Every day there are fewer of them. `SLUICE_ALL=1 pytest -s` prints how long an attachment took, from the connection to running rings.
"""

import contextlib
import os
import resource
import subprocess

import pytest
from loop import Loop, front, lost
from machine import build_folder
from sluice import ALL, Sluice, SluiceError, crossed

PORTS = 1024 if ALL else 32
STORMS = 3 if ALL else 1
ATTACH_MS = 100  # judged in the long form only: it says nothing on a machine that is busy with other tests


# Of either side, for each port: two sockets, memory, and three for a ring (kick, call, and what tells the switch that it was kicked).
EACH = 16
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def many_descriptors():
    """As many as there may be."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))


class Crowd:
    """crowd.c at so many ports; .do() says how many milliseconds the median of them and the slowest took."""

    def __init__(self, prefix, n, pairs):
        self.process = subprocess.Popen([build_folder() / "test/support/crowd", prefix, str(n), str(pairs)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=many_descriptors)

    def do(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the crowd could not {what}"
        return [int(us) / 1000 for us in line.split()]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


@pytest.fixture(scope="module")
def switch(folder):
    near = crossed({name: folder / name for name in ("near1", "near2")})
    crowd = [f"port add vm{n} listen {folder}/crowd{n} queues 2" for n in range(PORTS - 2)]
    if PORTS * EACH + 500 > HARD:
        pytest.skip(f"{PORTS} ports need {PORTS * EACH + 500} descriptors, and the limit (ulimit -Hn) is {HARD}")
    with Sluice(folder, commands=[*near, *crowd], timeout=60) as running:
        assert len(running.json("port show")) == PORTS  # it has made all of them
        yield running
        running.timeout = 120
        assert running.stop() == 0


def held(switch):
    """Descriptors, but for those of DPDK's own memory, of which it keeps what it once had."""
    fds = 0
    for fd in os.listdir(f"/proc/{switch.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            fds += "memfd:seg_" not in os.readlink(f"/proc/{switch.pid}/fd/{fd}")
    return fds


def test_attach_and_leave(folder, switch):
    """Neighbours lose nothing, nothing stays behind, and nobody waits long."""
    with front(folder / "near1", folder / "near2") as pmd:
        loop = Loop(switch, pmd, "near1", "near2")
        before = held(switch)
        with Crowd(folder / "crowd", PORTS - 2, 2) as crowd:
            for _ in range(STORMS):
                median, worst = crowd.do("attach")
                print(f"P10: {PORTS} ports of 2 queue pairs: attached within {median:.1f} ms (median), {worst:.1f} ms (worst)")
                assert switch.json(f"port show vm{PORTS - 3}")["link"] == "up"
                loop.moving()
                assert not ALL or median < ATTACH_MS
                crowd.do("leave")
                switch.wait_until(lambda: held(switch) == before, "return of every descriptor", timeout=120)
                loop.moving()
        assert min(loop.stop()) > 2000
    assert lost(switch, "near1", "near2") == {}


@pytest.mark.long
def test_no_more_than_there_can_be(folder, switch):
    """One too many is refused in words, and has a place when another has gone."""
    with pytest.raises(SluiceError, match="^there are 1024 ports already: delete one first$"):
        switch.run(f"port add more listen {folder}/more")
    switch.run("port del vm1021")
    switch.run(f"port add more listen {folder}/more")
    switch.run("port del more")
