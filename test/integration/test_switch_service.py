# SPDX-License-Identifier: BSD-3-Clause
"""The switch as a service: what it gives up, when it says that it is ready, and its unit."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from testpmd import lcores

from sluice import Sluice, binary

KEPT = {"chown", "fowner", "dac_override", "ipc_lock", "net_admin", "net_raw", "bpf", "sys_nice", "sys_rawio", "sys_resource"}


def names(mask):
    """Capabilities of a mask in /proc, by number."""
    header = Path("/usr/include/linux/capability.h").read_text(encoding="ascii")
    known = {int(n): name.lower() for name, n in re.findall(r"^#define CAP_(\w+)\s+(\d+)$", header, re.M)}
    return {known[bit] for bit in range(64) if int(mask, 16) >> bit & 1}


def threads(switch):
    """What /proc says of each."""
    for task in Path(f"/proc/{switch.pid}/task").iterdir():
        yield dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)


@pytest.mark.parametrize("words, kept", [([], KEPT | {"sys_admin"}), (["--iova-mode=va"], KEPT)])
def test_every_thread_gives_up(folder, words, kept):
    """Also with every kind of port, which come after the start."""
    kept = kept & names(re.search(r"CapBnd:\t(\w+)", Path("/proc/self/status").read_text())[1])  # in a container there are fewer
    eal = [*lcores(0), "--no-pci", "--in-memory", "-m", "256", f"--file-prefix=sl{os.getpid()}_service", *words]
    with Sluice(folder, eal=eal) as switch:
        for port in ("vm listen {f}/vm.sock owner nobody mode 0600", "tap dev net_tap7,iface=slsvc7", "nothing dev net_null7",
                     "wire dev net_af_packet7,iface=lo"):
            switch.run(f"port add {port}".format(f=folder))
        switch.wait_until(lambda: Path("/sys/class/net/slsvc7").exists(), "the TAP device")
        seen = list(threads(switch))
        assert len(seen) > 3
        for status in seen:
            assert names(status["CapEff"]) == names(status["CapPrm"]) == names(status["CapBnd"]) == kept
            assert names(status["CapInh"]) == set()
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), status["Name"]


def test_keeps_all_if_asked(folder):
    with Sluice(folder, ["--keep-privileges"]) as switch:
        own = Path("/proc/self/status").read_text()
        for status in threads(switch):
            assert f"CapEff:\t{status['CapEff']}\n" in own and f"Seccomp:\t{status['Seccomp']}\n" in own


@pytest.mark.parametrize("group, mode", [("1234", 0o660), (None, 0o660)])
def test_control_socket_is_a_groups(folder, group, mode):
    with Sluice(folder, ["--control-group", group] if group else []) as switch:
        now = switch.control.stat()
        assert (now.st_uid, now.st_gid, now.st_mode & 0o777) == (os.geteuid(), int(group or os.getegid()), mode)


def test_no_such_group(folder):
    done = subprocess.run([str(a) for a in (binary(), "--", "--control-group", "nobody2")], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stderr) == (1, "sluice: there is no group 'nobody2': give the name or number of one\n")


def test_says_when_it_is_ready(folder):
    """systemd starts what comes after us once our ports are there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(20)
        switch = Sluice(folder, commands=[f"port add vm listen {folder}/vm.sock"])
        os.environ["NOTIFY_SOCKET"] = str(folder / "notify")
        try:
            switch.start()
            assert systemd.recv(100) == b"READY=1"
            assert (folder / "vm.sock").is_socket()
            assert switch.stop() == 0
            assert systemd.recv(100) == b"STOPPING=1"
        finally:
            del os.environ["NOTIFY_SOCKET"]
            switch.close()
            (folder / "notify").unlink()


def test_unit(folder):
    """It is correct, and as closed as it says."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    unit = (binary().parents[2] / "config/sluice.service").read_text()
    program = re.search(r"^ExecStart=(\S+)", unit, re.M)[1]
    tried = folder / "sluice.service"
    tried.write_text(unit.replace(program, str(binary().resolve())))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tried)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", str(tried)], capture_output=True,
                          text=True, check=False)
    exposure = re.search(r"Overall exposure level for sluice.service: ([\d.]+)", done.stdout)
    assert float(exposure[1]) < 5
    allowed = " ".join(re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.M)).split()
    assert {word.removeprefix("CAP_").lower() for word in allowed} == KEPT | {"sys_admin", "setpcap"}
    tried.unlink()
