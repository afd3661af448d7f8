# SPDX-License-Identifier: BSD-3-Clause
"""A switch whose service is restarted: descriptors that systemd keeps, with this file in systemd's place.

test_systemd.py has the real one."""

import os
import select
import signal
import socket
import time

import pytest
from handover import COMMIT, STATE, Upgraded, close_all, receive, send
from hostnet import Tap
from loop import Loop, front, lost
from sluice import binary, crossed
from talk import link_changes, talking
from test_switch_late import stopped


class Service(Upgraded):
    """A switch as systemd runs it. store: name -> descriptor; said: what it has notified."""

    room = 2048

    def __init__(self, folder, **more):
        super().__init__(folder, **more)
        self.store, self.said = {}, []
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.folder / f"{self.name}.notify"))

    def argv(self):
        """Through a shell that puts the store's descriptors where they belong, and becomes the switch."""
        at = range(3, 3 + len(self.store))
        moves = " ".join(f"{n}<&{fd} {fd}<&-" for n, fd in zip(at, self.pass_fds))
        env = {"NOTIFY_SOCKET": self.notify.getsockname(), "FDSTORE": self.room, "LISTEN_FDS": len(self.store),
               "LISTEN_FDNAMES": ":".join(self.store)}
        sets = "; ".join(f"export {key}='{value}'" for key, value in env.items())
        return ["bash", "-c", f'{sets}; export LISTEN_PID=$$; exec "$@" {moves}', "-", *super().argv()]

    def start(self):
        high = [os.dup2(fd, 500 + n) for n, fd in enumerate(self.store.values())]
        self.pass_fds = tuple(high)
        try:
            super().start()
        finally:
            for fd in high:
                os.close(fd)
        self.run("upgrade show")  # its socket answers before it does
        self.hear()
        return self

    def hear(self):
        """Take what has been sent so far."""
        while select.select([self.notify], [], [], 0)[0]:
            text, fds, _, _ = socket.recv_fds(self.notify, 4096, 16)
            words = dict(line.split("=", 1) for line in text.decode().splitlines())
            self.said.append(words)
            if "FDSTORE" in words and self.room:
                assert words["FDNAME"] not in self.store and words["FDPOLL"] == "0"
                self.store[words["FDNAME"]] = fds.pop()
            elif "FDSTOREREMOVE" in words and words["FDNAME"] in self.store:
                os.close(self.store.pop(words["FDNAME"]))
            for fd in fds:
                os.close(fd)

    def stop(self):
        status = super().stop()
        self.hear()
        return status

    def restart(self):
        assert self.stop() == 0
        return self.start()

    def forget(self):
        for fd in self.store.values():
            os.close(fd)
        self.store = {}

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # an end that nobody comes after
            self.process.wait(20)
        super().close()
        self.hear()
        self.forget()
        self.notify.close()
        for path in self.folder.glob(f"{self.name}.*"):
            path.unlink()


def service(folder, name, lines=(), **more):
    paths = [folder / f"{name}{n}" for n in (1, 2)]
    return Service(folder, commands=[*crossed(dict(zip(("vm1", "vm2"), paths))), *lines], **more), paths


def connections(switch):
    return [switch.json(f"port show {port}")["connections"] for port in ("vm1", "vm2")]


@pytest.mark.parametrize("ring", [pytest.param("split", marks=pytest.mark.long), "packed"])
def test_restart(folder, ring):
    """Connections, rings, counters, addresses and what was changed since go on: as over an upgrade."""
    switch, paths = service(folder, f"rs_{ring}")
    with switch, front(*paths, ring=ring) as pmd:
        loop = Loop(switch, pmd, "vm1", "vm2")
        switch.run("port add late listen " + str(folder / "late"))
        switch.run("fdb set ageing 77")
        before, pid = switch.run("config show"), switch.pid
        for _ in range(2):
            switch.restart()
            assert switch.pid != pid and switch.run("config show") == before
            told = switch.json("upgrade show")
            assert (told["state"], told["vm_ports"], told["lost"]) == ("done", 3, 0), told
            print(told["text"])
            loop.moving()
            # A socket for each port and the control socket; the state has been taken.
            switch.hear()
            assert sorted(name.partition("-")[0] for name in switch.store) == ["listen"] * 4
        assert min(loop.stop()) > 1000
        assert connections(switch) == [1, 1]
        assert lost(switch, "vm1", "vm2") == {}
        switch.run("port del late")
        switch.hear()
        assert len(switch.store) == 3 and not (folder / "late").exists()


def test_restart_after_an_upgrade(folder):
    """The newer process knows what the service was started with, and is the main one."""
    switch, paths = service(folder, "rs_up")
    with switch, front(*paths) as pmd:
        loop = Loop(switch, pmd, "vm1", "vm2")
        switch.upgrade()
        switch.hear()
        assert {"MAINPID": str(switch.pid)} in switch.said
        loop.moving()
        switch.restart()
        loop.moving()
        assert connections(switch) == [1, 1]
        loop.stop()
        assert lost(switch, "vm1", "vm2") == {}


def test_a_worker_comes_late(folder):
    """On a busy machine one has no CPU for a while. There is only this chance, so it is waited for."""
    switch, paths = service(folder, "rs_late")
    with switch, socket.socket(socket.AF_UNIX) as old:
        old.connect(str(paths[0]))
        switch.wait_until(lambda: connections(switch) == [1, 0], "front-end")
        switch._hang_up()
        with stopped(switch, 1):
            switch.process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
        assert switch.process.wait(20) == 0
        switch.hear()
        switch.start()
        assert switch.json("upgrade show")["state"] == "done" and connections(switch) == [1, 0], switch.log


def test_crash(folder):
    """Sockets stay: who connects meanwhile waits. Connections do not, and front-ends come again."""
    switch, paths = service(folder, "rs_crash", [f"port add vm3 listen {folder}/rs_crash3"])
    with switch, front(*paths) as pmd:
        Loop(switch, pmd, "vm1", "vm2")
        switch.run(f"port add lost listen {folder}/lost")
        switch.kill()
        switch.hear()
        files = [(folder / f"rs_crash{n}").stat().st_ino for n in (1, 2, 3)]
        with socket.socket(socket.AF_UNIX) as waits:
            waits.connect(str(folder / "rs_crash3"))
            switch.start()
            switch.wait_until(lambda: switch.json("port show vm3")["connections"] == 1, "who has waited")
        assert files == [(folder / f"rs_crash{n}").stat().st_ino for n in (1, 2, 3)]
        assert switch.json("upgrade show")["state"] == "none"
        assert not (folder / "lost").exists()  # a command had added it, and nobody listens there now
        switch.hear()
        assert len(switch.store) == 4


def changed(switch):
    switch.commands.append("fdb set ageing 99")


def older(switch):
    """Of an earlier control socket."""
    switch.control.unlink()


def rewrite(switch, edit):
    """The frames of the state, edited; what follows an edited one stays as it was."""
    frames, ours = [], socket.socketpair()
    with socket.socket(fileno=os.dup(switch.store["state"])) as sock:
        sock.settimeout(5)
        while not frames or frames[-1][0] != COMMIT:
            frames.append(receive(sock))
    ours[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    for kind, payload, fds in edit(frames):
        send(ours[0], kind, payload, fds)
    close_all(frames)
    os.dup2(ours[1].fileno(), switch.store["state"])
    for end in ours:
        end.close()


def cut(switch):
    rewrite(switch, lambda frames: frames[:-2])


def unknown(switch):
    rewrite(switch, lambda frames: [*frames[:3], (99, b"", []), *frames[3:]])


def disordered(switch):
    rewrite(switch, lambda frames: frames[:1] + frames[:0:-1])


def nothing(switch):
    os.dup2(os.open("/dev/null", os.O_RDWR), switch.store["state"])


NOT_USED = [(changed, "options or commands are others now"), (older, "it is of an earlier time"), (cut, "it is damaged"),
            (unknown, "it is damaged"), (disordered, "it is damaged"), (nothing, "it is damaged")]


def test_what_is_not_used(folder):
    """One line, and a start as if there had been no state; the sockets are the same all the same."""
    switch, paths = service(folder, "rs_unused")
    with switch:
        for damage, why in NOT_USED:
            with socket.socket(socket.AF_UNIX) as old:
                old.settimeout(10)
                old.connect(str(paths[0]))
                switch.wait_until(lambda: connections(switch) == [1, 0], "front-end")
                assert switch.stop() == 0
                file, said = paths[0].stat().st_ino, len(switch.log)
                damage(switch)
                switch.start()
                now = switch.log[said:]
                assert now.count("the state of the process before is not used: " + why) == 1, (damage, now)
                assert old.recv(1) == b""  # nobody has the connection any more
            assert switch.json("upgrade show")["state"] == "none" and connections(switch) == [0, 0]
            assert paths[0].stat().st_ino == file and len(switch.store) == 3


def spoil(kind, edit):
    """Edit the first frame of a kind."""
    def of(frames):
        at = next(n for n, frame in enumerate(frames) if frame[0] == kind)
        return [*frames[:at], edit(*frames[at]), *frames[at + 1:]]
    return lambda switch: rewrite(switch, of)


SPOILT = [(spoil(STATE, lambda kind, payload, fds: (kind, payload[:-100], fds)), "it ends too early"),
          (spoil(STATE, lambda kind, payload, fds: (kind, payload, fds[:1] + fds[:1])), "its connection is no stream socket"),
          (spoil(STATE, lambda kind, payload, fds: (kind, payload[:4], fds)), "a port's state is too short")]


def test_a_port_that_cannot_go_on(folder):
    """It begins anew, and the other goes on."""
    switch, paths = service(folder, "rs_one")
    with switch, socket.socket(socket.AF_UNIX) as second:
        second.connect(str(paths[1]))
        for damage, why in SPOILT:
            with socket.socket(socket.AF_UNIX) as first:
                first.settimeout(10)
                first.connect(str(paths[0]))
                switch.wait_until(lambda: 0 not in connections(switch), "front-ends")
                switch.stop()
                damage(switch)
                switch.start()
                assert switch.json("upgrade show")["state"] == "done"
                assert "begins anew: " in switch.log and why in switch.log, (why, switch.log)
                assert first.recv(1) == b""
                assert connections(switch) == [0, 1] and not select.select([second], [], [], 0)[0]


@pytest.mark.parametrize("by_eal", [pytest.param(False, marks=pytest.mark.long), True], ids=["command", "eal"])
def test_a_tap_stays(folder, by_eal):
    """As long as somebody follows; it goes with the store."""
    name = f"slrs{os.getpid() % 10000}"
    device = f"net_tap4,iface={name}"
    switch, paths = service(folder, "rs_tap", ["port add up dev " + (device.partition(",")[0] if by_eal else device)])
    if by_eal:
        switch.eal[1:1] = ["--vdev", device]
    with switch:
        tap = Tap(name, "198.51.100.1/24")
        for _ in range(2):
            switch.restart()
            assert switch.json("upgrade show")["devices"] == 1
            assert tap.look() == tap.before and not tap.persistent()
            assert not any(name.startswith("tap") for name in switch.store)
            switch.wait_link("up")
        switch.stop()
        assert tap.there()
        switch.forget()
        assert not tap.there()
        for path in paths:
            path.unlink()


def test_another_build(folder):
    """One that lacks what a port has offered: that port begins anew, with what there is."""
    switch, paths = service(folder, "rs_less")
    with switch, socket.socket(socket.AF_UNIX) as old:
        old.settimeout(10)
        old.connect(str(paths[0]))
        switch.wait_until(lambda: connections(switch) == [1, 0], "front-end")
        assert switch.stop() == 0
        switch.program = binary().resolve().parents[2] / "test/support/builds/sluice_lesser"
        switch.start()
        assert switch.log.count("this build lacks features that were offered: RING_PACKED") == 2, switch.log
        assert old.recv(1) == b"" and connections(switch) == [0, 0]


def test_without_a_store(folder):
    """systemd closes what it gets: as ever."""
    switch, paths = service(folder, "rs_none")
    switch.room = 0
    with switch, socket.socket(socket.AF_UNIX) as old:
        old.settimeout(10)
        old.connect(str(paths[0]))
        switch.wait_until(lambda: switch.json("port show vm1")["connections"] == 1, "front-end")
        switch.restart()
        assert old.recv(1) == b""
        assert switch.store == {} and not any("FDSTORE" in words for words in switch.said)


# ---- guests ----

@pytest.fixture(scope="module")
def switch(folder):
    """What the fixture `guests` runs on."""
    with Service(folder, commands=[f"port add {vm} listen {folder}/{vm}.sock" for vm in ("vm1", "vm2")]) as running:
        yield running


@pytest.mark.long
def test_guests_notice_nothing(switch, guests):
    """A TCP connection goes on over restarts, and the link never goes down."""
    server, tcp = talking(guests, 10)
    before = link_changes(guests)
    restarts = 0
    while tcp.running():
        switch.restart()
        told = switch.json("upgrade show")
        assert (told["state"], told["lost"]) == ("done", 0)
        restarts += 1
        time.sleep(1)
    status, said = tcp.wait(60)
    assert status == 0 and restarts > 1, said
    server.wait(20)
    assert link_changes(guests) == before and connections(switch) == [1, 1]
