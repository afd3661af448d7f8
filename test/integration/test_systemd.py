# SPDX-License-Identifier: BSD-3-Clause
"""config/sluice.service under systemd itself: started, restarted, killed, upgraded, stopped, and as closed as it says."""

import os
import pwd
import re
import shutil
import socket
import threading
from pathlib import Path

import pytest
import systemd
from hostnet import Tap
from loop import Loop, front
from sluice import TOP, Sluice, SluiceError, binary
from systemd import Systemd
from testpmd import lcores

CONF = """
port add vm1 listen /run/vm1.sock owner nobody group nogroup mode 0660
port add vm2 listen /run/vm2.sock
port add vm3 listen /run/sluice/vm3.sock
port add tap dev net_tap0,iface=slsd{pid}
cross add vm1 vm2
set fwd cross
"""


class Unit(Sluice):
    """The switch of the unit, from outside."""

    def __init__(self, folder):
        super().__init__(folder, program=Path(folder) / "sluice")  # nobody's home
        shutil.copy(binary(), self.program)
        self.conf.write_text(CONF.format(pid=os.getpid()))
        text = (binary().parents[2] / "config/sluice.service").read_text()
        installed = re.search(r"^ExecStart=(\S+) .* --commands (\S+)", text, re.M)
        text = text.replace(installed[1], str(self.program)).replace(installed[2], str(self.conf))
        words = " ".join([*lcores(0), "--no-pci", "--in-memory", "-m", "256"])
        more = f'[Service]\nEnvironment="EAL_OPTIONS={words}"\nStandardOutput=append:/run/log\n'
        self.machine = Systemd(folder, {"sluice.service": text, "sluice.service.d/test.conf": more})

    def __enter__(self):
        self.machine.__enter__()
        self.control, self.log_path = self.machine.path("/run/sluice/control.sock"), self.machine.path("/run/log")
        return self

    def __exit__(self, *error):
        if error[0]:
            print(self.machine.ctl("status", "sluice", check=False)[1], self.log)
        self._hang_up()
        self.machine.__exit__()

    def ctl(self, verb):
        """start, restart or stop; what systemd says of it then."""
        self._hang_up()
        status, said = self.machine.ctl(verb, "sluice", check=False)
        if status:
            raise SluiceError(f"{said}{self.machine.ctl('status', 'sluice', check=False)[1]}{self.log}")
        assert verb == "stop" or self._connect()
        return self.machine.show("sluice")


    def restarts(self, before):
        """Wait until another process is ready."""
        def active():
            shown = self.machine.show("sluice")
            return shown["MainPID"] not in ("0", before) and shown["ActiveState"] == "active" and shown
        shown = self.wait_until(active, "restart", 30)
        assert self._connect()
        return shown


class Caller:
    """Connects to a port all the time, and keeps what goes wrong."""

    def __init__(self, path):
        self.path, self.wrong, self.ends, self.calls = path, [], threading.Event(), 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.ends.wait(0.005):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                try:
                    sock.connect(str(self.path))
                    self.calls += 1
                except BlockingIOError:  # so many wait already
                    pass
                except OSError as error:
                    self.wrong.append(error)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ends.set()
        self.thread.join()


@pytest.fixture(scope="module")
def unit(folder):
    if systemd.why_not():
        pytest.skip(systemd.why_not())
    with Unit(folder) as running:
        yield running


def check_start(unit):
    shown = unit.ctl("start")
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == ("active", "running", "0")
    for path, owner, mode in (("vm1.sock", "nobody", 0o660), ("vm2.sock", "root", 0o700), ("sluice/vm3.sock", "root", 0o700),
                              ("sluice/control.sock", "root", 0o660)):
        now = unit.machine.path(f"/run/{path}").stat()
        assert (pwd.getpwuid(now.st_uid).pw_name, now.st_mode & 0o777) == (owner, mode), path
    status = unit.machine.path(f"/proc/{shown['MainPID']}/status").read_text()
    assert "\nNoNewPrivs:\t1\n" in status and "\nSeccomp:\t2\n" in status
    assert shown["NFileDescriptorStore"] == "4"


def check_traffic_goes_on(unit):
    """Over a restart, an upgrade, and a restart of the upgraded."""
    with front(*(unit.machine.path(f"/run/vm{n}.sock") for n in (1, 2))) as pmd:
        loop = Loop(unit, pmd, "vm1", "vm2")
        tap = Tap(f"slsd{os.getpid()}", "198.51.100.5/24")
        for verb in ("restart", "upgrade", "restart"):
            before = unit.machine.show("sluice")["MainPID"]
            if verb == "restart":
                unit.ctl("restart")
            else:
                unit._hang_up()
                unit.machine.inside(TOP / "usertools/sluicectl", "upgrade")
            shown, told = unit.restarts(before), unit.json("upgrade show")
            print(f"{verb}: {told['text']}")
            assert (told["vm_ports"], told["devices"], told["lost"]) == (3, 1, 0)
            assert shown["MainPID"] == str(told["pid"]) and shown["NFileDescriptorStore"] == "4"
            loop.moving()
            assert tap.look() == tap.before
        assert min(loop.stop()) > 1000
        assert [unit.json(f"port show {port}")["connections"] for port in ("vm1", "vm2")] == [1, 1]


def check_crash(unit):
    """systemd starts another one, and nobody is refused meanwhile."""
    before = unit.machine.show("sluice")["MainPID"]
    with Caller(unit.machine.path("/run/sluice/vm3.sock")) as caller:
        unit._hang_up()
        unit.machine.inside("kill", "-KILL", before)
        shown = unit.restarts(before)
        assert (shown["NRestarts"], shown["NFileDescriptorStore"]) == ("1", "4")
        unit.wait_until(lambda: unit.json("port show vm3")["connections"] > 3, "callers")
    assert caller.calls > 3 and not caller.wrong


def check_configuration(unit):
    """Who changed it wants that now."""
    with unit.conf.open("a") as conf:
        conf.write("port add more listen /run/more.sock\n")
    before = unit.machine.show("sluice")["MainPID"]
    unit.ctl("restart")
    assert unit.restarts(before)["NFileDescriptorStore"] == "5"
    assert unit.json("port show more")["link"] == "down" and "options or commands are others now" in unit.log


def check_stop(unit):
    shown = unit.ctl("stop")
    assert (shown["ActiveState"], shown["Result"], shown["NFileDescriptorStore"]) == ("inactive", "success", "0")  # by itself
    assert not unit.machine.path("/run/sluice").exists() and not Path(f"/sys/class/net/slsd{os.getpid()}").exists()
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(str(unit.machine.path("/run/vm1.sock")))
    unit.ctl("start")  # over what lies there
    assert unit.json("upgrade show")["state"] == "none"
    assert unit.ctl("stop")["Result"] == "success"


def test_life(unit):
    """One after the other: each beginning costs time."""
    for check in (check_start, check_traffic_goes_on, check_crash, check_configuration, check_stop):
        check(unit)
