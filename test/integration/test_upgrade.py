# SPDX-License-Identifier: BSD-3-Clause
"""A running switch hands itself over to a newer process: nothing is lost, nobody notices, and one of the two owns it.

The last tests speak the protocol of app/sluice/handover_wire.h themselves, as one of the two sides, and die at each step."""

import os
import re
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from handover import (ABORT, ALL, COMMIT, CONTROL, EARLY, MAGIC, PORT, PREPARE, PREPARED, READY, STATE, TAKEN, VERSION, Other, Upgraded,
                      close_all, exactly, receive, send)
from hostnet import Tap
from loop import Loop, counters, front, lost
from sluice import TOP, SluiceError, binary, crossed
from talk import link_changes, talking
from testpmd import Testpmd, frontend_eal

ROUNDS = int(os.environ.get("SLUICE_ROUNDS", 2))


def two_ports(folder, name, **more):
    paths = [folder / f"{name}{n}" for n in (1, 2)]
    return Upgraded(folder, commands=crossed(dict(zip(("vm1", "vm2"), paths))), **more), paths


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_nothing_is_lost(folder, ring):
    """Packets circle through the switch while it becomes one process after the other."""
    switch, paths = two_ports(folder, f"up_{ring}")
    with switch, front(*paths, ring=ring) as pmd:
        loop = Loop(switch, pmd, "vm1", "vm2")
        for _ in range(ROUNDS):
            result = switch.upgrade()
            assert (result["vm_ports"], result["lost"]) == (2, 0)
            print(f"{ring}: {result['text']}")
            loop.moving()
        assert min(loop.stop()) > 1000
        for port in ("vm1", "vm2"):
            assert switch.json(f"port show {port}")["connections"] == 1


def test_what_comes_along(folder):
    """Configuration with its gaps, addresses, counters, devices; and the control socket goes on."""
    lines = [f"port add vm{n} listen {folder}/along{n}" for n in range(4)] + [
        "port del vm1", "port add up dev net_null0", "set portlist 3,0", "set txpkts 128", "fdb set ageing 77",
        "fdb static add 02:00:00:00:00:77 vm2", "fdb set limit vm3 9", "cross add vm0 up"]
    with Upgraded(folder, commands=lines) as switch:
        before = switch.run("config show")
        result = switch.upgrade()
        assert (result["vm_ports"], result["devices"]) == (3, 1)
        assert switch.run("config show") == before
        assert [row["port"] for row in switch.json("port show")] == [0, 1, 2, 3]
        names = {row["name"]: row["port"] for row in switch.json("port show")}
        assert names == {"vm0": 0, "up": 1, "vm2": 2, "vm3": 3}
        switch.upgrade()
        assert switch.run("config show") == before


@pytest.mark.parametrize("by_eal", [pytest.param(False, marks=pytest.mark.long), True], ids=["command", "eal"])
def test_a_tap_stays(folder, by_eal):
    """Whoever configured it on the host finds it as it was; with the last process it goes."""
    name = f"slup{os.getpid() % 10000}"
    device = f"net_tap4,iface={name}"
    switch = Upgraded(folder, commands=["port add up dev " + (device.partition(",")[0] if by_eal else device)])
    if by_eal:
        switch.eal[1:1] = ["--vdev", device]
    with switch:
        tap = Tap(name, "198.51.100.1/24")
        for _ in range(2):
            assert switch.upgrade()["devices"] == 1
            assert tap.look() == tap.before and not tap.persistent()
            switch.wait_link("up")
    assert not tap.there()


def test_a_newer_process_that_fails(folder):
    """It cannot be started, ends at once, or is refused: one line, and the older one goes on."""
    switch, paths = two_ports(folder, "fails")
    with switch, front(*paths) as pmd:
        loop = Loop(switch, pmd, "vm1", "vm2")
        pid = switch.pid
        with pytest.raises(SluiceError, match="cannot start '/nonexistent'"):
            switch.upgrade("/nonexistent")
        others = folder / "others"
        others.write_text("#!/bin/sh\n")
        others.chmod(0o777)
        with pytest.raises(SluiceError, match="it must be a file of ours or root's that nobody else may write to"):
            switch.upgrade(str(others))
        with pytest.raises(SluiceError, match="has ended before it could take over"):
            switch.upgrade("/bin/false")
        loop.moving()
        assert switch.pid == pid and switch.json("upgrade show")["state"] == "failed"
        switch.upgrade()  # and after all that it works
        loop.moving()
        loop.stop()


# ---- guests ----

@pytest.fixture(scope="module")
def switch(folder):
    """What the fixture `guests` runs on."""
    with Upgraded(folder, commands=[f"port add {vm} listen {folder}/{vm}.sock" for vm in ("vm1", "vm2")]) as running:
        yield running


def test_guests_notice_nothing(switch, guests):
    """A TCP connection and a ping go on over upgrades, and the link never goes down."""
    server, tcp = talking(guests, 8)
    before = link_changes(guests)
    pings = guests[1].popen("ping -i 0.2 -c 40 -w 40 10.0.0.1")
    upgrades = 0
    while upgrades < ROUNDS:
        time.sleep(0.5)
        result = switch.upgrade()
        assert result["lost"] == 0
        print(result["text"])
        if not (tcp.running() and pings.running()):
            break
        upgrades += 1
    assert upgrades > 0, "the guests were through before the first upgrade was"
    status, said = tcp.wait(60)
    assert status == 0, said
    status, said = pings.wait(60)
    assert status == 0 and "40 packets received, 0% packet loss" in said, said
    server.wait(20)
    assert link_changes(guests) == before
    assert [switch.json(f"port show {port}")["connections"] for port in ("vm1", "vm2")] == [1, 1]


# ---- the protocol, from one of its ends ----

def ask(switch):
    """As a newer process: connected, and has asked."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(switch.control))
    sock.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "take-over"}\n')
    return sock


def until(sock, last):
    """All frames up to one of this kind."""
    frames = []
    while not frames or frames[-1][0] != last:
        frames.append(receive(sock))
    return frames


STEPS = ["asked", "configured", "another version", "prepared", "has everything", "ready", "committed", "refuses", "nonsense"]


def newer_that_dies(switch, step):
    """Go as far as a step, and close everything without a word."""
    frames = []
    with ask(switch) as sock:
        if step == "asked":
            return
        until(sock, PREPARE)
        if step == "configured":
            return
        if step == "another version":
            sock.sendall(struct.pack("=5I", MAGIC, VERSION + 1, PREPARED, 0, 0))
            assert sock.recv(1) == b""
            return
        send(sock, PREPARED)
        if step == "prepared":
            return
        frames = until(sock, ALL)
        assert [kind for kind, _, _ in frames] == [STATE, STATE, CONTROL, ALL]
        if step == "refuses":
            send(sock, ABORT, b"a test does not want it")
        elif step == "nonsense":
            sock.sendall(b"x" * 100)
        elif step != "has everything":
            send(sock, READY)
            if step == "committed":
                assert receive(sock)[0] == COMMIT
    close_all(frames)


def test_the_newer_one_dies_at_each_step(folder):
    """The older one goes on, with every packet."""
    switch, paths = two_ports(folder, "newer")
    with switch, front(*paths) as pmd:
        loop = Loop(switch, pmd, "vm1", "vm2")
        for step in STEPS:
            newer_that_dies(switch, step)
            loop.moving()
            switch.wait_until(lambda: switch.json("upgrade show")["state"] == "failed", f"an end after '{step}'")
        assert "a test does not want it" in switch.log and "it speaks another protocol" in switch.log
        loop.stop()
        assert lost(switch, "vm1", "vm2") == {}


def relay(path, old, last, listening):
    """A process of its own between an older and a newer one: hands on all frames up to one of a kind, then kills the older
    one, and ends. To the newer one it is the older."""
    pid = os.fork()
    if pid:
        return pid
    try:
        victim = Other(old.pid)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        os.write(listening, b"x")
        newer = listener.accept()[0]
        while not newer.recv(4096).endswith(b"\n"):
            pass
        older, kind = ask(old), None
        while kind != last:
            # Whose turn it is: the newer one speaks when the older one has said all.
            source, sink = (newer, older) if kind in (PREPARE, ALL, COMMIT) else (older, newer)
            kind, payload, fds = receive(source)
            send(sink, kind, payload, fds)
            for fd in fds:
                os.close(fd)
        try:
            victim.kill()
        except ProcessLookupError:  # it has ended by itself: the newer one had everything
            assert last == TAKEN
        while victim.poll() is None:
            time.sleep(0.01)
        os._exit(0)
    except BaseException:  # a child of pytest must never become a second pytest
        os._exit(1)


def moving(switch, more=2000):
    """Both ports have got some more."""
    before = [c["tx_packets"] for c in counters(switch, "vm1", "vm2")]
    switch.wait_until(lambda: all(c["tx_packets"] > b + more for c, b in zip(counters(switch, "vm1", "vm2"), before)),
                      "traffic", timeout=30)


@pytest.mark.parametrize("last", ["PREPARE", "STATE", "ALL", "READY", "COMMIT", "TAKEN"])
def test_the_older_one_is_killed_at_each_step(folder, last):
    """The newer one goes on: with the connections if it has them, else as after a crash."""
    paths = [folder / f"{last}{n}" for n in (1, 2)]
    vdevs = [f"net_virtio_user{n},path={path},mac=02:00:00:00:03:{n:02x},queue_size=256,server=1"
             for n, path in enumerate(paths)]
    switch = Upgraded(folder, commands=[f"port add vm{n} connect {path}" for n, path in enumerate(paths, 1)]).start()
    middle, (reads, writes) = folder / f"{last}.relay", os.pipe()
    try:
        with Testpmd("front", frontend_eal(*vdevs), ["--port-topology=paired"], timeout=40) as pmd:
            pmd.command("set fwd flowgen")
            for port in ("vm1", "vm2"):
                switch.wait_link(port)
            pmd.command("start")
            moving(switch)
            old = switch.process
            between = relay(middle, switch, globals()[last], writes)
            os.read(reads, 1)
            argv = [str(switch.program.resolve()), *(f"{word}-next" if word.startswith("--file-prefix") else word
                                                     for word in switch.eal), "--", "--take-over", str(middle)]
            with switch.log_path.open("ab") as log:
                newer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            try:
                assert os.waitpid(between, 0)[1] == 0
                old.wait(20)
                switch._hang_up()
                switch.process = newer
                if last in ("PREPARE", "STATE"):
                    switch.control = middle  # nobody handed a socket over: there is a new one
                switch.wait_until(switch._connect, "new owner", timeout=20)
                switch.wait_until(lambda: switch.json("upgrade show")["state"] == "done", "end")
                for port in ("vm1", "vm2"):
                    switch.wait_link(port)
                moving(switch)
                # The first of this process, or that of the older one.
                assert [switch.json(f"port show {port}")["connections"] for port in ("vm1", "vm2")] == [1, 1]
            finally:
                if newer.poll() is None and switch.process is not newer:
                    newer.kill()
                    newer.wait()
            pmd.command("stop")
    finally:
        os.close(reads)
        os.close(writes)
        switch.close()
        for path in (*paths, middle):
            path.unlink(missing_ok=True)


# ---- a build that can less, or more ----

@pytest.mark.parametrize("version", [VERSION - 1, VERSION, VERSION + 1])
def test_a_newer_process_refuses(folder, version):
    """It says what it lacks, or that it does not understand, before anything is stopped."""
    path = folder / "lacks.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(30)
    shape = Upgraded(folder)
    newer = subprocess.Popen([str(shape.program.resolve()), *shape.eal, "--", "--take-over", str(path)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with listener.accept()[0] as sock:
            sock.settimeout(10)
            while not sock.recv(4096).endswith(b"\n"):
                pass
            sock.sendall(struct.pack("=5I", MAGIC, version, EARLY, 0, 0))
            if version == VERSION:
                send(sock, PORT, struct.pack("=IIQQ", 0, 1, 1 << 60, 0) + b"port add vm1 listen " + bytes(path) + b"x")
                kind, why, _ = receive(sock)
                assert kind == ABORT and b"RSS" in why
            assert newer.wait(20) == 1
        said = "'port add vm1" if version == VERSION else "the switch there cannot hand over, or only to another version"
        assert f"cannot take over: {said}" in newer.stdout.read()
        assert not Path(f"{path}x").exists()
    finally:
        newer.kill()
        newer.wait()
        newer.stdout.close()
        listener.close()
        shape.close()
        path.unlink()


@pytest.fixture
def builds():
    """Built beside the one under test: one that knows no packed rings, and one with another version of the state."""
    folder = binary().resolve().parents[2] / "test/support/builds"
    return folder / "sluice_lesser", folder / "sluice_newer"


def refused(switch, loop, build, why):
    """In one line, and the older one goes on."""
    pid = switch.pid
    with pytest.raises(SluiceError) as error:
        switch.upgrade(build)
    said = str(error.value).strip().splitlines()
    assert len(said) == 1 and why in said[0] and said[0].endswith("; this one goes on"), said
    loop.moving()
    assert switch.pid == pid


def offers_packed(path):
    """What a front-end is told that asks (VHOST_USER_GET_FEATURES)."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(struct.pack("=3I", 1, 1, 0))
        return bool(struct.unpack("=3IQ", exactly(sock, 20))[3] >> 34 & 1)


def test_between_builds(folder, builds):
    """A port goes on with what it offered, so that there is a way back; what a new one offers must not shrink, used or not."""
    lesser, newer = builds
    switch, paths = two_ports(folder, "build", program=lesser)
    with switch, front(*paths) as pmd:
        loop = Loop(switch, pmd, "vm1", "vm2")
        switch.run(f"port add vm0 listen {folder}/build0")
        assert switch.upgrade(binary().resolve())["lost"] == 0
        loop.moving()
        switch.run(f"port add vm3 listen {folder}/build3")
        assert [offers_packed(folder / path) for path in ("build0", "build3")] == [False, True]
        refused(switch, loop, lesser, "this build lacks features that were offered: RING_PACKED")
        refused(switch, loop, newer, "the record is no good: it is of another version")
        switch.run("port del vm3")
        assert switch.upgrade(lesser)["lost"] == 0
        loop.moving()
        assert min(loop.stop()) > 1000
        assert lost(switch, "vm1", "vm2") == {} and [switch.json(f"port show {p}")["connections"] for p in ("vm1", "vm2")] == [1, 1]


def test_options_that_do_not_go_together(folder):
    done = subprocess.run([Upgraded(folder).program.resolve(), "--", "--take-over", "/x", "--commands", "/y"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "leave out --commands" in done.stderr


# ---- both sides ----

def test_both_die(folder):
    """The older one before the newer one has asked for anything: whoever waits for the upgrade is told."""
    with Upgraded(folder) as switch:
        older = switch.process
        command = subprocess.Popen([TOP / "usertools/sluicectl", "-s", switch.control, "upgrade"], stderr=subprocess.PIPE, text=True)
        switch.wait_until(lambda: "is to take over" in switch.log, "beginning")
        time.sleep(0.05)  # for the answer to who asked for it; the newer one's EAL takes longer
        older.kill()
        older.wait()
        try:
            said = command.communicate(timeout=30)[1]
        finally:
            command.kill()
        assert command.returncode == 1
        assert re.search(f"both processes, {older.pid} and [0-9]+, have ended: see their log, and start the switch again$", said)
