# SPDX-License-Identifier: BSD-3-Clause
"""Row P5 of the fault matrix: nowhere to write. Forwarding goes on, without what could not be kept, and a line says so.

(What is in the way of a socket: test_switch_ports.py; of a state file: test/vhost_user/test_state.c.)
"""

import ctypes
import os
import shutil
import socket
import subprocess

import pytest
from loop import Loop, front, lost
from sluice import ALL, Sluice, SluiceError, crossed

CLONE_NEWNS, MS_RDONLY, MS_REC, MS_PRIVATE = 0x20000, 1, 1 << 14, 1 << 18


def call(name, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), name)


def private_tmpfs(path, options, flags=0):
    """For the child to call: it, and nobody else, has a file system of its own there."""
    def mount():
        call("unshare", CLONE_NEWNS)
        call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
        call("mount", b"none", os.fsencode(path), b"tmpfs", ctypes.c_ulong(flags), options.encode())
    return mount


def packed(*paths):
    """Of their rings most must be kept."""
    return front(*paths, ring="packed")


def two_ports(folder, name):
    return [folder / f"{name}{n}" for n in (1, 2)]


def ports(paths):
    return crossed({f"vm{n}": path for n, path in enumerate(paths, 1)})


def forwards(switch, paths):
    switch.run("clear port stats all")
    with packed(*paths) as pmd:
        assert min(Loop(switch, pmd, "vm1", "vm2").stop()) > 1000
    assert lost(switch, "vm1", "vm2") == {}


def warnings(switch):
    """By port."""
    said = [line for line in switch.log.splitlines() if "cannot go on after a crash" in line or "no room" in line]
    return {port: [line for line in said if f"port {port}:" in line] for port in ("vm1", "vm2")}


NO_ROOM = {"4k": ("size=4k", 0), "8k": ("size=8k", 0), "16k": ("size=16k", 0), "32k": ("size=32k", 0),
           "one file": ("nr_inodes=2", 0), "read-only": ("", MS_RDONLY)}


@pytest.mark.parametrize("options, flags", [pytest.param(*how, id=name, marks=[] if name == "8k" else pytest.mark.long)
                                            for name, how in NO_ROOM.items()])
def test_no_room_for_state(folder, options, flags):
    """The rings run all the same, and the log has a line for each port that goes without, or ring of it, not for each try."""
    states, paths = folder / "states", two_ports(folder, "full")
    states.mkdir()
    switch = Sluice(folder, ["--state-dir", str(states)], commands=ports(paths))
    switch.preexec = private_tmpfs(states, options, flags)
    with switch:
        for _ in range(2 if ALL else 1):
            forwards(switch, paths)
        said = warnings(switch)
        assert sum(said.values(), []), switch.log
        for port, lines in said.items():
            assert len(lines) == len(set(lines)) <= 2, lines
        assert switch.stop() == 0
    states.rmdir()


@pytest.mark.long
def test_socket_folder_removed(folder):
    """Who is connected stays so; ports go, and come where there is a folder."""
    home = folder / "home"
    home.mkdir()
    paths = two_ports(home, "vm")
    with Sluice(folder, commands=ports(paths)) as switch:
        with packed(*paths) as pmd:
            loop = Loop(switch, pmd, "vm1", "vm2")
            shutil.rmtree(home)
            loop.moving()
            switch.run("port add other listen " + str(folder / "other"))
            assert min(loop.stop()) > 1000
        switch.run("port del vm1")
        with pytest.raises(SluiceError, match="No such file or directory: make its directory, or choose another path"):
            switch.run(f"port add vm1 listen {paths[0]}")
        home.mkdir()
        with socket.socket(socket.AF_UNIX) as theirs:
            theirs.bind(str(paths[1]))
            switch.run("port del vm2")
            assert paths[1].is_socket(), "somebody else's socket was removed"
        paths[1].unlink()
        for line in ports(paths):
            switch.run(line)
        forwards(switch, paths)
        assert switch.stop() == 0
        assert not list(home.iterdir())
    home.rmdir()


@pytest.mark.long
def test_control_folder_removed(folder):
    home = folder / "control"
    home.mkdir()
    paths = two_ports(folder, "ctl")
    with Sluice(home, commands=ports(paths)) as switch:
        switch.log_path.rename(folder / "log")
        shutil.rmtree(home)
        forwards(switch, paths)
        home.mkdir()
        assert switch.stop() == 0
    (folder / "log").unlink()
    home.rmdir()


class Mute(Sluice):
    """One that cannot write its log, nor what it prints every second."""

    log = ""

    def start(self):
        self.log_path = "/dev/full"
        self.log_path = type(self.folder)(self.log_path)
        return super().start()


@pytest.mark.long
def test_no_room_for_log(folder):
    paths = two_ports(folder, "mute")
    with Mute(folder, ["--stats-period", "1"], commands=ports(paths)) as switch:
        for _ in range(20):
            with pytest.raises(SluiceError):
                switch.run(f"port add vm1 listen {paths[0]}")
        forwards(switch, paths)
        assert switch.stop() == 0


def test_no_room_for_configuration(folder):
    """What was saved before stays as it was."""
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", small], check=True)
    try:
        with Sluice(folder, commands=[f"port add vm listen {folder}/conf"]) as switch:
            switch.run(f"config save {small}/saved")
            before = (small / "saved").read_text()
            (small / "more").write_bytes(bytes(4096 - len(before) % 4096) if not before else b"")
            for n in range(100):
                switch.run(f"fdb static add 02:00:00:00:01:{n:02x} vm")
            with pytest.raises(SluiceError, match=rf"cannot write '{small}/saved': No space left on device"):
                switch.run(f"config save {small}/saved")
            assert (small / "saved").read_text() == before
            assert sorted(p.name for p in small.iterdir()) == ["more", "saved"]
    finally:
        subprocess.run(["umount", small], check=True)
        small.rmdir()
