# SPDX-License-Identifier: BSD-3-Clause
"""Row P6 of the fault matrix: a switch that does not get what it asks for, be it memory, descriptors, threads, events or pools.

Each call that its program makes of such a function fails once (test/support/failcall.c), in each of some operations. It then says so in a
line or does without; it goes on, its other ports lose nothing, it holds no more than before, and the next try works. What lies below
the EAL is tried more closely by test/fault. SLUICE_ALL=1 fails every call, else a few of each operation; `pytest -s` prints how many.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess

import pytest
from failcall import Failcall
from handover import Upgraded
from loop import Loop, front, lost
from machine import echo_guest
from sluice import ALL, SluiceError, crossed

_serial = itertools.count()
EVERY_DAY = ("port add listen", "handshake", "client")
SAMPLE = 3  # calls of each operation that fail, every day


def chosen(calls, sample=SAMPLE):
    """Which calls fail: all, or some spread over them."""
    return calls if ALL or len(calls) <= sample else sorted({calls[i * (len(calls) - 1) // (sample - 1)] for i in range(sample)})


class Failing(Upgraded):
    """A switch of which calls can fail; a client of its that is hung up on tries again."""

    last_log = ""

    def __init__(self, folder, **more):
        self.calls = Failcall(folder / f"calls{next(_serial)}")
        self.env = self.calls.env
        super().__init__(folder, **more)

    def _call(self, command):
        if not self._client:
            self.wait_until(self._connect, "control socket")
        try:
            return super()._call(command)
        except TimeoutError:
            self._hang_up()
            raise
        except OSError as error:
            self._hang_up()
            raise SluiceError(f"hung up: {error}") from error
        except SluiceError as error:
            if "hung up" in str(error):
                self._hang_up()
            raise

    def rests(self):
        """No upgrade is under way; followed if it is another process by now."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self.control))
                pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            if pid != self.pid:
                self._follow(pid)
            return self.json("upgrade show")["state"] != "running" and \
                [self.json(f"port show {port}")["connections"] for port in ("near1", "near2")] == [1, 1]
        except (SluiceError, OSError):  # it ends, or the other one begins
            return False

    @property
    def said(self):
        """Its last lines."""
        return self.last_log.splitlines()[-8:]

    def held(self):
        """What it must hold no more of."""
        return len(os.listdir(f"/proc/{self.pid}/fd")), len(os.listdir(f"/proc/{self.pid}/task"))

    def close(self):
        self.last_log = self.log or self.last_log
        super().close()


@pytest.fixture(scope="module")
def busy(folder):
    """Such a switch, and traffic between two of its ports."""
    near = crossed({name: folder / name for name in ("near1", "near2")})
    with Failing(folder, commands=near, timeout=10) as switch, front(folder / "near1", folder / "near2") as pmd:
        yield switch, Loop(switch, pmd, "near1", "near2")
    switch.calls.close()


class Echo:
    """A front-end that connects to a port, sends and gets a few frames of its own and leaves."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        with subprocess.Popen([echo_guest(), self.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as guest:
            try:
                line = guest.stdout.readline()
            finally:
                guest.send_signal(signal.SIGTERM)
                said, wrong = guest.communicate(timeout=20)
        if guest.returncode or line != "up\n" or not json.loads(said)["stopped"]:
            raise SluiceError(f"echo_guest: {line}{said}{wrong}")


def operations(folder):
    """name: (before, what is done, undone by, after); commands or a callable."""
    vm = f"port add vm listen {folder}/vm.sock queues 2"
    return {
        "port add listen": ([], vm, "port del vm"),
        "port add connect": ([], f"port add vm connect {folder}/vm.sock", "port del vm"),
        "port add iommu": ([], f"port add vm listen {folder}/vm.sock iommu postcopy mac 02:00:00:00:00:09", "port del vm"),
        "port add dev": ([], "port add nic dev net_null7", "port del nic"),
        "port add ring": ([], "port add nic dev net_ring7", "port del nic"),
        "port del": ([vm], "port del vm", vm),
        "handshake": ([vm], "echo", None),
        "cross add": ([vm, "port add nic dev net_null7"], "cross add vm nic", "cross del vm"),
        "fdb static add": ([vm], "fdb static add 02:00:00:00:00:77 vm", "fdb static del 02:00:00:00:00:77"),
        "config save": ([vm], f"config save {folder}/saved", None),
        "config show": ([vm], "config show", None),
        "commands": ([], f"commands {folder}/lines", "port del vm"),
        "port show": ([vm], "port show", None),
        "port show vm": ([vm], "port show vm", None),
        "show port xstats": ([vm], "show port xstats all", None),
        "show config rxtx": ([vm], "show config rxtx", None),
        "fdb stats": ([vm], "fdb stats", None),
        "help": ([], "help", None),
        "a wrong line": ([], "prot add", None),
        "set fwd": ([], "set fwd bridge", "set fwd cross"),
        "stop": ([], "stop", "start"),
        "client": ([], "connect", None),
    }


def client(switch):
    switch._hang_up()
    switch.run("show config fwd")


@pytest.fixture
def nothing_else(busy):
    """Whatever a test leaves."""
    yield
    for port in "vm", "nic":
        with contextlib.suppress(SluiceError, TimeoutError):
            busy[0].run(f"port del {port}")


@pytest.mark.usefixtures("nothing_else")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in EVERY_DAY else pytest.mark.long)
                                  for name in operations("x")])
def test_each_call(folder, busy, name):
    switch, loop = busy
    (folder / "lines").write_text(f"port add vm listen {folder}/vm.sock\nset burst 32\n")
    before, what, undo = operations(folder)[name]
    special = {"echo": Echo(folder / "vm.sock"), "connect": lambda: client(switch)}

    def do(command):
        if command:
            with contextlib.suppress(SluiceError) if name == "a wrong line" else contextlib.nullcontext():
                special[command]() if command in special else switch.run(command)

    for command in before:
        switch.run(command)
    do(what)
    do(undo)
    held = switch.held()
    with switch.calls.failing(0):
        do(what)
    n = switch.calls.n
    do(undo)
    assert n > 0
    refused, sites = 0, set()
    for at in chosen(range(1, n + 1)):
        worked = True
        log = len(switch.log)
        with switch.calls.failing(at):
            try:
                do(what)
            except SluiceError as error:
                worked, said = False, str(error)
        where = f"{name}, call {at} of {n}: {switch.calls.hit}"
        print(where, worked or said.splitlines()[0])
        sites.add(switch.calls.hit)
        assert switch.process.poll() is None, f"{where}: it is gone:\n{switch.log[log:]}"
        if not worked:
            refused += 1
            assert said, where
            with contextlib.suppress(SluiceError):  # it may be only the answer that failed
                do(undo)
            do(what)
        do(undo)
        switch.wait_until(lambda: switch.held() <= held, f"{where}: {switch.held()} descriptors and threads, not {held}")
        loop.moving()
    for command in reversed(before):
        switch.run(f"port del {command.split()[2]}")
    assert lost(switch, "near1", "near2") == {}
    print(f"P6 {name}: {len(chosen(range(1, n + 1)))} of {n} calls failed, at {len(sites)} places, {refused} times it said so")


def test_start(folder):
    """It does not start, with one line and nothing left behind, or it does and works."""
    path = folder / "first.sock"
    commands = [f"port add first listen {path}", "port add nic dev net_null7"]

    def attempt(at):
        """Its one line, or None if it runs; and where it failed."""
        switch = Failing(folder, commands=commands)
        switch.calls.arm(at)
        try:
            with contextlib.suppress(SluiceError):
                switch.start()
            switch.calls.disarm()
            started = switch.process.poll() is None
            if started:
                assert [row["name"] for row in switch.json("port show")] == ["first", "nic"] and path.is_socket()
                assert switch.stop() == 0
            else:
                assert switch.process.returncode == 1, f"call {at}, {switch.calls.hit}: {switch.process.returncode}"
        finally:
            switch.close()
            switch.calls.close()
        return None if started else switch.said, switch.calls

    said, calls = attempt(0)
    assert said is None
    firsts, n = calls.firsts(), calls.n
    refused = 0
    for at in chosen(firsts, 2):
        said, calls = attempt(at)
        where = f"call {at} of {n}, {calls.hit}"
        print(where, said)
        assert said is None or len([line for line in said if line.startswith("sluice: ")]) >= 1, f"{where}: {said}"
        assert not path.exists(), where
        refused += said is not None
    print(f"P6 start: {len(chosen(firsts, 2))} of {n} calls failed, each at another place of {len(firsts)}, {refused} times it said so")


@pytest.mark.long
def test_upgrade(folder, busy):
    """The older one goes on, or the newer one does; the next upgrade works."""
    switch, loop = busy
    switch.upgrade()
    with switch.calls.failing(0):
        switch.upgrade()
    firsts, n = switch.calls.firsts(), switch.calls.n
    refused = 0
    for at in chosen(firsts, 2):
        switch.calls.arm(at)
        print(f"upgrade, call {at}", flush=True)
        try:
            switch.upgrade()
            said = None
        except subprocess.TimeoutExpired:
            switch.calls.disarm()
            pytest.fail(f"upgrade, call {at} of {n}: {switch.calls.hit}: no end:\n{switch.log[-2000:]}")
        except SluiceError as error:
            refused, said = refused + 1, str(error).splitlines()[-1]
        switch.calls.disarm()
        where = f"upgrade, call {at} of {n}: {switch.calls.hit}"
        print(where, said)
        switch.wait_until(switch.rests, f"{where}: an end")
        try:
            loop.moving()
        except SluiceError:  # a ring of theirs was closed until there was memory for it: all that circled is lost
            loop.pmd.command("stop")
            loop = Loop(switch, loop.pmd, "near1", "near2")
    switch.upgrade()
    loop.moving()
    print(f"P6 upgrade: {len(chosen(firsts, 2))} of {n} calls failed, each at another place of {len(firsts)}, {refused} times it said so")
