# SPDX-License-Identifier: BSD-3-Clause
"""A worker that does not come round, as in a debugger: everything but its own packets goes on."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from testpmd import cpus

from sluice import Sluice, SluiceError

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000
EVERY = ",".join(map(str, cpus()))


def ptrace(request, tid):
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    assert call(request, tid, None, None) == 0, os.strerror(ctypes.get_errno())


@contextlib.contextmanager
def stopped(switch, lcore):
    """The thread of one lcore stands still meanwhile, and no other."""
    names = {int(task.name): (task / "comm").read_text().strip() for task in Path(f"/proc/{switch.pid}/task").iterdir()}
    tid = next(tid for tid, name in names.items() if re.fullmatch(rf"(rte|dpdk)-worker-?{lcore}", name))
    ptrace(PTRACE_SEIZE, tid)
    ptrace(PTRACE_INTERRUPT, tid)
    os.waitpid(tid, WALL)
    try:
        yield tid
    finally:
        if Path(f"/proc/{switch.pid}/task/{tid}").exists():
            ptrace(PTRACE_DETACH, tid)


@contextlib.contextmanager
def within(seconds):
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


@pytest.fixture
def switch(folder):
    """Two workers, on lcores 1 and 2."""
    eal = [f"--lcores=0@({EVERY}),1@{cpus()[0]},2@{cpus()[-1]}", "--no-pci", "--in-memory", "-m", "256",
           f"--file-prefix=sl{os.getpid()}_late"]
    with Sluice(folder, eal=eal) as running:
        yield running


def queue(switch, port):
    return switch.json(f"port show {port}")["queues"][0]


def test_commands_go_on_and_deleted_ports_wait(folder, switch):
    for port in "ab":
        switch.run(f"port add {port} listen {folder}/{port}.sock")
    with stopped(switch, 1):
        with within(2):
            switch.run("set fwd io")
        for command in (f"port add c listen {folder}/c.sock", "port show b", "set burst 32", "stop", "start",
                        "show config fwd", "set portlist 1,2", "port del c"):
            with within(2):
                if command == "port del c":
                    with pytest.raises(SluiceError, match="port 'c' is closed as soon as no worker uses it"):
                        switch.run(command)
                else:
                    switch.run(command)
        with within(2), pytest.raises(SluiceError, match="a worker|as soon as no worker"):
            switch.run("port detach a")
        assert "the worker on lcore 1 has not come round for a second" in switch.log
        assert "lcore 2 has not" not in switch.log
        # Their numbers are not given away yet, and their sockets are still there.
        switch.run(f"port add d listen {folder}/d.sock")
        assert [row["port"] for row in switch.json("port show")] == [1, 3]
        assert (folder / "a.sock").exists() and (folder / "c.sock").exists()
        with within(2), socket.socket(socket.AF_UNIX) as client:  # somebody listens, and hears
            client.connect(str(folder / "b.sock"))
            client.sendall((1).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(4))  # GET_FEATURES
            client.settimeout(2)
            assert len(client.recv(20)) == 20
    switch.wait_until(lambda: not (folder / "a.sock").exists() and not (folder / "c.sock").exists(), "end of two ports")
    assert "all workers have come round again" in switch.log
    switch.run(f"port add a listen {folder}/a.sock")
    assert [row["port"] for row in switch.json("port show")] == [0, 1, 3]
    assert switch.stop() == 0


def test_a_queue_moves_when_its_worker_is_back(switch):
    """Never do two workers poll one queue: it waits until the late one has let go."""
    switch.run("set fwd rxonly")
    switch.run("port add n dev net_null0")
    switch.run("queue pin n 0 1")
    switch.wait_until(lambda: queue(switch, "n")["packets"], "packets")
    with stopped(switch, 1):
        with within(2):
            switch.run("queue pin n 0 2")
        before = queue(switch, "n")["packets"]
        time.sleep(0.2)
        assert queue(switch, "n")["packets"] == before
        with within(1):
            switch.run("set corelist 2")
            switch.run("port add m dev net_null1")
        switch.wait_until(lambda: queue(switch, "m")["packets"], "packets on lcore 2")
    switch.wait_until(lambda: queue(switch, "n")["packets"] > before + 1000, "packets on the new worker")
    assert queue(switch, "n")["lcore"] == 2
    assert switch.stop() == 0


def test_new_queues_go_to_workers_that_answer(switch):
    """Though they are busy, and the late one has nothing to do; and to that one again when it is back."""
    switch.run("set fwd rxonly")
    for i in range(2):
        switch.run(f"port add busy{i} dev net_null{i}")
        switch.run(f"queue pin busy{i} 0 2")
    with stopped(switch, 1):
        switch.run("set burst 16")  # now it is known
        for i in range(2, 5):
            switch.run(f"port add new{i} dev net_null{i}")
            assert queue(switch, f"new{i}")["lcore"] == 2
        switch.wait_until(lambda: queue(switch, "new4")["packets"], "packets on lcore 2")
    switch.wait_until(lambda: "all workers have come round again" in switch.log, "the worker on lcore 1")
    switch.run("port add back dev net_null5")
    assert queue(switch, "back")["lcore"] == 1
    assert switch.stop() == 0


def ended(tid, timeout):
    """Wait for the end of a thread that is traced: its process waits for us to take note of it."""
    deadline = time.monotonic() + timeout
    while os.waitpid(tid, os.WNOHANG | WALL) == (0, 0):
        assert time.monotonic() < deadline, f"the switch has not ended within {timeout} s"
        time.sleep(0.05)


def test_the_switch_ends_without_its_worker(folder, switch):
    """In bounded time, with one line and a failure, and without its sockets, those of deleted ports included."""
    for port in "ab":
        switch.run(f"port add {port} listen {folder}/{port}.sock")
    with stopped(switch, 1) as tid:
        with pytest.raises(SluiceError, match="as soon as no worker uses it"):
            switch.run("port del a")
        assert (folder / "a.sock").exists() and (folder / "b.sock").exists()
        os.kill(switch.pid, signal.SIGTERM)
        time.sleep(1)
        assert switch.process.poll() is None, "it gives the worker no time"
        ended(tid, 15)
    assert switch.process.wait(5) == 1
    assert not list(folder.glob("*.sock"))
    assert re.fullmatch(r"sluice: ended without the worker on lcore 1, which has not come round for 5 seconds: .*",
                        switch.log.splitlines()[-1])


def test_a_worker_that_is_back_in_time_is_waited_for(folder, switch):
    """It ends as ever."""
    switch.run(f"port add a listen {folder}/a.sock")
    with stopped(switch, 1):
        os.kill(switch.pid, signal.SIGTERM)
        time.sleep(1)
    assert switch.process.wait(5) == 0
    assert not (folder / "a.sock").exists() and "ended without" not in switch.log
