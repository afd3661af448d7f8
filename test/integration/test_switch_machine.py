# SPDX-License-Identifier: BSD-3-Clause
"""Rows P7 and T8 of the fault matrix, in a machine of our own: its clock is set, its CPUs are taken, its memory has two nodes.

Only SLUICE_ALL=1 boots it, by emulation.
"""

import contextlib
import signal
import time

import pytest
from machine import EchoGuest, Machine, MachineSluice

pytestmark = pytest.mark.long
FRAMES = 200000  # more than are sent before a test is over


@pytest.fixture(scope="module")
def machine(folder):
    with Machine(folder, [], nodes=2) as running:
        yield running


@pytest.fixture
def switch(machine):
    """On the CPUs of node 0: the main lcore on CPU 0, the worker on CPU 1."""
    with MachineSluice(machine, ["port add vm1 listen /run/vm1", "port add vm2 listen /run/vm2"]) as running:
        yield running
        assert running.stop() == 0, running.log


@contextlib.contextmanager
def talking(machine, switch, node=0):
    """Two guests of which one sends, and the other sends all back; every byte is right and nothing is lost at the end."""
    echo = EchoGuest(machine, "/run/vm2", f"node={node}", "packed")
    guest = EchoGuest(machine, "/run/vm1", f"node={node}", f"send={FRAMES},60-1500")
    try:
        for port in "vm1", "vm2":
            switch.wait_link(port)
        moving(switch)
        yield guest
        moving(switch)
        assert [switch.json(f"port show {port}")["connections"] for port in ("vm1", "vm2")] == [1, 1]
    except BaseException:
        guest.kill()
        echo.kill()
        raise
    for said in guest.stop(), echo.stop():
        assert (said["faults"], said["spoiled"], said["stopped"]) == (0, 0, True), said


def moving(switch, more=50):
    def sent():
        return [switch.json(f"port show {port}")["counters"]["tx_packets"] for port in ("vm1", "vm2")]
    before = sent()
    switch.wait_until(lambda: all(now > then + more for now, then in zip(sent(), before)), "traffic", timeout=60)


def ages(switch):
    return [row["age"] for row in switch.json("fdb show") if "age" in row]


# ---- P7 ----

def test_clock_is_set(machine, switch):
    """By a day, back and forward: nobody's patience and no address's age is measured by it."""
    day = 24 * 3600
    with talking(machine, switch):
        for step in (day, -2 * day, 2 * day, -day):
            machine.check(f"date -s @$(($(date +%s) + {step}))")
            moving(switch)
            assert max(ages(switch)) < 300
        assert switch.json("fdb stats")["aged"] == 0
        # Whoever is silent in the midst of a message is waited for as long as ever, and no longer.
        machine.check("date -s @$(($(date +%s) - 3600))")
        switch.run("port add late listen /run/late")
        late = machine.popen("(printf '\\001'; exec sleep 600) | socat -u - UNIX-CONNECT:/run/late")
        switch.wait_until(lambda: "port late: front-end connected" in switch.log, "a connection")
        began = time.monotonic()
        switch.wait_until(lambda: "port late: connection ended: a message stayed incomplete" in switch.log, "an end", 60)
        assert time.monotonic() - began > 1
        late.kill(signal.SIGKILL)
        switch.run("port del late")


def test_a_cpu_goes(machine, switch):
    """That of the worker, which the kernel then runs elsewhere; and comes back."""
    online = "/sys/devices/system/cpu/cpu1/online"
    with talking(machine, switch):
        for _ in range(2):
            machine.check(f"echo 0 >{online}")
            try:
                moving(switch)
                switch.run("port add more listen /run/more")
                switch.run("port del more")
            finally:
                machine.check(f"echo 1 >{online}")
            moving(switch)


def test_throttled(machine, switch):
    """A fifth of a CPU for all of its threads: slow, and nothing else."""
    group = "/sys/fs/cgroup/switch"
    machine.check("mount -t cgroup2 none /sys/fs/cgroup && echo +cpu >/sys/fs/cgroup/cgroup.subtree_control")
    machine.check(f"mkdir {group} && echo 20000 100000 >{group}/cpu.max")
    try:
        with talking(machine, switch):
            machine.check(f"echo {switch.pid} >{group}/cgroup.procs")
            moving(switch)
            switch.run("port add more listen /run/more")
            switch.run("port del more")
            throttled = machine.check(f"grep nr_throttled {group}/cpu.stat").split()[1]
            assert int(throttled) > 0
            moving(switch)
            machine.check(f"echo {switch.pid} >/sys/fs/cgroup/cgroup.procs")
    finally:
        machine.run(f"echo {switch.pid} >/sys/fs/cgroup/cgroup.procs")
        machine.run(f"rmdir {group}; umount /sys/fs/cgroup")


# ---- T8 ----

def warned(switch, port, memory):
    line = f"port {port}: its guest's memory lies on NUMA node {memory}, and lcore 1, which polls it, is of node"
    return switch.log.count(line)


def test_memory_of_another_node(machine, switch):
    """It says so once, forwards, and goes on while the memory moves from node to node, with everything where it was."""
    with talking(machine, switch, node=1) as guest:
        switch.wait_until(lambda: warned(switch, "vm1", 1) == warned(switch, "vm2", 1) == 1, "warnings")
        assert [switch.json(f"port show {port}")["numa_node"] for port in ("vm1", "vm2")] == [1, 1]
        for n in range(6):
            guest.job.kill(signal.SIGUSR1)
            switch.wait_until(lambda: switch.json("port show vm1")["numa_node"] == n % 2, f"node {n % 2}")
            moving(switch)
        assert "node -1" not in guest.job.output()
        assert switch.json("port show vm2")["numa_node"] == 1
        time.sleep(3)
        assert warned(switch, "vm1", 1) == 4 and warned(switch, "vm2", 1) == 1  # each time it has come there
        assert switch.log.count("link is up") == 2 and "link is down" not in switch.log


def test_a_worker_there(machine):
    """Queues go to a worker of the memory's node, and there is nothing to say."""
    with MachineSluice(machine, ["port add vm1 listen /run/vm1", "port add vm2 listen /run/vm2"], lcores="0,1,2") as switch:
        with talking(machine, switch, node=1):
            assert [stream["lcore"] for stream in switch.json("show config fwd")["streams"]] == [2, 2]
            time.sleep(3)
            assert "its guest's memory lies" not in switch.log
        assert switch.stop() == 0, switch.log
