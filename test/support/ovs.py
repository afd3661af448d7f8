# SPDX-License-Identifier: BSD-3-Clause
"""The distribution's Open vSwitch with DPDK, private: an ovsdb-server and an ovs-vswitchd in a folder of their own.

    with OpenVSwitch(folder, cpu=1) as ovs:
        ovs.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
"""

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
_serial = itertools.count()


class OvsError(AssertionError):
    """What Open vSwitch did not do."""


class OpenVSwitch:
    """folder: its own, short; cpu: where its PMD thread polls; main: everything else; plugin: a driver to load, or None."""

    preexec = None  # for the children to call before they become the programs

    def __init__(self, folder, cpu=1, main=0, plugin=None, memory=512, options=()):
        self.folder = Path(folder)
        self._prefix = f"sl{os.getpid()}ovs{next(_serial)}"
        extra = f"{f'-d {plugin} ' if plugin else ''}--no-pci --in-memory --file-prefix={self._prefix}"
        self.options = ["other_config:dpdk-init=true", f"other_config:dpdk-socket-mem={memory}",
                        f"other_config:pmd-cpu-mask={1 << cpu:x}", f"other_config:dpdk-lcore-mask={1 << main:x}",
                        "other_config:stats-update-interval=1000", "other_config:vhost-sock-dir=.",
                        f"other_config:dpdk-extra=\"{extra}\"", *options]
        self.env = {**os.environ, **dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"),
                                                  str(folder))}
        self.processes = []

    # ---- life ----

    def _spawn(self, name, *argv):
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(subprocess.Popen([str(a) for a in argv], env=self.env, stdin=subprocess.DEVNULL, stdout=log,
                                                   stderr=log, start_new_session=True, preexec_fn=self.preexec))

    def __enter__(self):
        try:
            self.tool("ovsdb-tool", "create", self.folder / "conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
            self._spawn("ovsdb", "ovsdb-server", self.folder / "conf.db", f"--remote=punix:{self.folder}/db.sock",
                        f"--unixctl={self.folder}/db.ctl")
            self.vsctl("--retry", "--no-wait", "init")
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", *self.options)
            # Its bridges' own devices would be the machine's, and a second one's in the way.
            self._spawn("vswitchd", "unshare", "--net", VSWITCHD, f"unix:{self.folder}/db.sock", f"--unixctl={self.folder}/vs.ctl",
                        "--pidfile=" + str(self.folder / "vs.pid"), "--log-file=" + str(self.folder / "vs.log"))
            deadline = time.monotonic() + 20
            while not (self.folder / "vs.ctl").exists():
                if self.processes[-1].poll() is not None or time.monotonic() > deadline:
                    raise OvsError(f"ovs-vswitchd did not start:\n{self.log}")
                time.sleep(0.05)
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End both, whatever state they are in."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(f"/var/run/dpdk/{self._prefix}", ignore_errors=True)

    # ---- talking ----

    @property
    def pid(self):
        """Of ovs-vswitchd, which is the switch."""
        return self.processes[-1].pid

    @property
    def log(self):
        path = self.folder / "vs.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def tool(self, *argv, timeout=60):
        """Run one of Open vSwitch's programs against this one; what it printed."""
        done = subprocess.run([str(a) for a in argv], env=self.env, capture_output=True, text=True, timeout=timeout,
                              check=False)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            raise OvsError(f"{argv[0]}: {said[-1]}\n" + "\n".join([" ".join(map(str, argv)), *said]))
        return done.stdout

    def vsctl(self, *words):
        return self.tool("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "--timeout=40", *words)

    def ofctl(self, command, bridge, *words):
        return self.tool("ovs-ofctl", command, f"unix:{self.folder}/{bridge}.mgmt", *words)

    def appctl(self, *words):
        return self.tool("ovs-appctl", "-t", f"{self.folder}/vs.ctl", *words)
