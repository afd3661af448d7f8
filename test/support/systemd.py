# SPDX-License-Identifier: BSD-3-Clause
"""systemd as the first process of namespaces of its own: units run as on a machine, and end with it.

    with Systemd(folder, {"some.service": "[Service]\\n..."}) as machine:
        machine.ctl("start", "some")
        print(machine.show("some")["ActiveState"], machine.path("/run/some.sock"))
"""

import os
import subprocess
import time
from pathlib import Path

PROGRAM = Path("/lib/systemd/systemd")
# What any service waits for; nothing of this machine's own is started.
TARGETS = ("sysinit", "basic", "shutdown", "umount", "final", "multi-user")
INIT = """
set -e
echo $$ >{cgroup}/cgroup.procs
exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child sh -ec '
mount --make-rprivate /
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t proc none /proc
exec 9<{folder}
mount -t tmpfs none /run
mkdir -p {folder}
mount -c --bind /proc/self/fd/9 {folder}
exec 9<&-
export container=test SYSTEMD_UNIT_PATH={units} SYSTEMD_LOG_TARGET=null
exec {program} --system --unit=multi-user.target'
"""


def why_not():
    """Why it cannot be run here, or None."""
    if not PROGRAM.exists():
        return "systemd is not installed"
    return None if _cgroups() else "no cgroup2 file system is mounted here"


def _cgroups():
    for line in Path("/proc/mounts").read_text(encoding="ascii").splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    return None


class Systemd:
    """units: name -> text. Of /run there is only the folder; all else is as outside."""

    def __init__(self, folder, units):
        self.folder, self.units = Path(folder), Path(folder) / "units"
        self.cgroup = _cgroups() / f"sluice-{os.getpid()}-{self.folder.name}"
        self.pid, self._outer = None, None
        self.units.mkdir()
        for name in TARGETS:
            (self.units / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
        for name, text in units.items():
            (self.units / name).parent.mkdir(exist_ok=True)
            (self.units / name).write_text(text)

    def __enter__(self):
        self.cgroup.mkdir()
        script = INIT.format(folder=self.folder, cgroup=self.cgroup, units=self.units, program=PROGRAM)
        with (self.folder / "systemd.log").open("wb") as log:
            self._outer = subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           start_new_session=True)
        try:
            self._wait_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_up(self, timeout=60):
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        deadline = time.monotonic() + timeout
        while True:
            assert self._outer.poll() is None and time.monotonic() < deadline, (self.folder / "systemd.log").read_text()
            found = children.read_text().split()
            if found and Path(f"/proc/{found[0]}/comm").read_text() == "systemd\n":
                self.pid = int(found[0])
                if self.path("/run/systemd/private").exists() and self.ctl("is-active", "multi-user.target", check=False)[0] == 0:
                    return
            time.sleep(0.05)

    def __exit__(self, *error):
        if self._outer.poll() is None:
            self._outer.kill()  # which kills the first process, and that all else in there
        self._outer.wait(20)
        # Emptied a little later.
        deadline = time.monotonic() + 20
        while self.cgroup.exists():
            for path, _, _ in os.walk(self.cgroup, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    assert time.monotonic() < deadline, f"{path} stays"
                    time.sleep(0.02)

    def path(self, path):
        """A path of in there, for us."""
        return Path(f"/proc/{self.pid}/root{path}")

    def inside(self, *argv, check=True, timeout=60):
        """Run a program in there: (status, output)."""
        done = subprocess.run(["nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-u", "-i", "--", *map(str, argv)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout, check=False)
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}: {done.stdout}"
        return done.returncode, done.stdout

    def ctl(self, *words, check=True, timeout=60):
        return self.inside("systemctl", *words, check=check, timeout=timeout)

    def show(self, unit):
        """All its properties."""
        return dict(line.split("=", 1) for line in self.ctl("show", unit)[1].splitlines() if "=" in line)
