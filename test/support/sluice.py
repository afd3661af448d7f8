# SPDX-License-Identifier: BSD-3-Clause
"""A running switch for tests: starts it in a folder of its own, sends it commands, ends it and what it left.

    with Sluice(folder) as switch:
        switch.run(f"port add vm1 listen {folder}/vm1.sock")
        print(switch.json("port show vm1")["features"])
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from testpmd import lcores

TOP = Path(__file__).resolve().parents[2]
ALL = os.environ.get("SLUICE_ALL") == "1"  # generated cases: all of them, not a sample
_serial = itertools.count()


def crossed(ports):
    """Commands for VM ports (name: path) every two of which are connected."""
    names = list(ports)
    return [*(f"port add {name} listen {path}" for name, path in ports.items()),
            *(f"cross add {a} {b}" for a, b in zip(names[::2], names[1::2])), "set fwd cross"]


class SluiceError(AssertionError):
    """A command failed (the switch's one line), or the switch itself did; what it printed follows."""


def binary(build=None):
    """The switch under test: SLUICE_BUILD names the build folder, or build does."""
    return Path(build or os.environ.get("SLUICE_BUILD", TOP / "build")) / "app/sluice/sluice"


class Sluice:
    """One switch. folder: for its control socket and log; options: sluice's own; eal, program: instead of the usual."""

    preexec = None  # for the child to call before it becomes the switch
    pass_fds = ()  # descriptors it gets beside
    env = None  # more of its environment

    def __init__(self, folder, options=(), eal=None, commands=(), timeout=20, program=None):
        self.folder, self.options, self.timeout = Path(folder), list(options), timeout
        self.name = f"sluice{next(_serial)}"
        self.control = self.folder / f"{self.name}.ctl"
        self.log_path = self.folder / f"{self.name}.log"
        self.conf = self.folder / f"{self.name}.conf"
        self.eal = eal or [*lcores(0), "--no-pci", "--in-memory", "-m", "256",
                           f"--file-prefix=sl{os.getpid()}_{self.name}"]
        self.program = program or binary()
        self.commands, self.process, self._client = list(commands), None, None

    # ---- life ----

    def argv(self):
        more = ["--commands", self.conf] if self.commands else []
        return [str(word) for word in (self.program.resolve(), *self.eal, "--", "--control", self.control, *self.options, *more)]

    def start(self):
        if self.commands:
            self.conf.write_text("\n".join(self.commands) + "\n")
        with self.log_path.open("ab") as log:
            # A session of its own, as the guests have: where the kernel shares CPUs out among sessions, a switch in that of
            # a favoured shell would starve them.
            self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=self.preexec, pass_fds=self.pass_fds,
                                            env={**os.environ, **(self.env or {})})
        deadline = time.monotonic() + self.timeout
        while not self._connect():
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self.log
                self.close()
                raise SluiceError(f"{self.name} did not start:\n{log}")
            time.sleep(0.02)
        return self

    def _connect(self):
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(self.control))
        except OSError:
            client.close()
            return False
        client.settimeout(self.timeout)
        self._client = client.makefile("rwb")
        client.close()
        return True

    def _hang_up(self):
        if self._client:
            try:
                self._client.close()
            except OSError:
                pass
            self._client = None

    def stop(self):
        """End it politely; its exit status."""
        self._hang_up()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(self.timeout)

    def kill(self):
        """As in a crash."""
        self._hang_up()
        self.process.kill()
        self.process.wait()

    def close(self):
        """End it whatever state it is in and remove our files."""
        self._hang_up()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        for path in self.folder.glob(f"{self.name}.*"):
            path.unlink()
        for option in self.eal:
            if option.startswith("--file-prefix="):
                shutil.rmtree(f"/var/run/dpdk/{option.partition('=')[2]}", ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        log = self.log if kind else ""
        self.close()
        if kind:
            print(f"--- {self.name} said:\n{log}")

    # ---- talking ----

    @property
    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    def _ask(self, request):
        self._client.write(request)
        self._client.flush()
        return self._client.readline()

    def _call(self, command):
        request = {"jsonrpc": "2.0", "id": 1, "method": "run", "params": {"command": command}}
        line = self._ask(json.dumps(request).encode() + b"\n")
        if not line.endswith(b"\n"):
            raise SluiceError(f"{self.name} hung up on '{command}':\n{self.log}")
        answer = json.loads(line)
        if "error" in answer:
            raise SluiceError(answer["error"]["message"])
        return answer["result"]

    def run(self, command):
        """The text a command prints; SluiceError with the switch's own line if it fails."""
        return self._call(command).get("text", "")

    def json(self, command):
        """The value a command answers with."""
        return self._call(command).get("data")

    def wait_until(self, condition, what, timeout=10):
        """Poll condition() until it is true; its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise SluiceError(f"{self.name}: no {what} within {timeout} s:\n{self.log[-2000:]}")
            time.sleep(0.05)

    def wait_link(self, port, state="up", timeout=None):
        self.wait_until(lambda: self.json(f"port show {port}")["link"] == state, f"link {state} on {port}",
                        timeout or self.timeout)
