# SPDX-License-Identifier: BSD-3-Clause
"""A dpdk-testpmd to talk to: starts it, sends commands, reads what it says, ends it and what it left.

    with Testpmd("backend", eal=backend_eal(driver, "net_sluice0,iface=/run/x/s")) as pmd:
        pmd.command("start")
        pmd.expect("link state change event")
        print(pmd.stats(0)["RX-packets"])
"""

import glob
import itertools
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path

PROMPT = "testpmd> "
_serial = itertools.count()


class TestpmdError(AssertionError):
    """What a testpmd did not do."""

    __test__ = False


def cpus():
    """The CPUs we may use, first to last."""
    return sorted(os.sched_getaffinity(0))


def lcores(cpu):
    """EAL option: the main lcore may run anywhere, one worker polls on cpus()[cpu]."""
    return [f"--lcores=0@({','.join(map(str, cpus()))}),1@{cpus()[cpu]}"]


def backend_eal(driver, *vdevs, cpu=0, mem=64):
    """EAL options of a process with vhost ports; driver: a .so to load, or None."""
    plugin = ["-d", str(driver)] if driver else []
    return [*lcores(cpu), "--no-pci", "--in-memory", "-m", str(mem), *plugin,
            *[word for vdev in vdevs for word in ("--vdev", vdev)]]


def frontend_eal(*vdevs, cpu=-1, mem=64):
    """EAL options of a process with virtio-user ports, whose memory the back-end maps."""
    return [*lcores(cpu), "--no-pci", "--single-file-segments", "-m", str(mem),
            f"--file-prefix=sl{os.getpid()}_{next(_serial)}",
            *[word for vdev in vdevs for word in ("--vdev", vdev)]]


def loadable(driver):
    """EAL refuses plugins below a folder anybody may write to: if so, the path of a copy elsewhere."""
    driver = Path(driver).resolve()
    if not any(p.stat().st_mode & 0o002 for p in driver.parents):
        return driver, None
    folder = tempfile.mkdtemp(prefix="sluice-", dir="/run")
    return Path(shutil.copy(driver, folder)), folder


class Testpmd:
    """One interactive testpmd. Its whole output is in .log."""

    __test__ = False
    preexec = None  # for the child to call before it becomes the program

    def __init__(self, name, eal, app=(), env=None, program="dpdk-testpmd", timeout=20):
        self.name, self.log, self.timeout = name, "", timeout
        self.process = self._tty = None
        # Without a number testpmd takes mbufs for 128 lcores: 340 MB.
        self._argv = [program, *eal, "--", "-i", "--total-num-mbufs=8192", *app]
        self._env = {**os.environ, **(env or {})}
        self._prefix = next((a.split("=", 1)[1] for a in eal if a.startswith("--file-prefix=")), None)

    # ---- life ----

    def __enter__(self):
        """Start it and wait for its prompt."""
        self._tty, slave = pty.openpty()
        tty.setraw(slave)
        try:
            self.process = subprocess.Popen(self._argv, stdin=slave, stdout=slave, stderr=slave, env=self._env,
                                            start_new_session=True, preexec_fn=self.preexec)
            os.close(slave)
            slave = None
            self.expect(re.escape(PROMPT), since=0)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        finally:
            if slave is not None:
                os.close(slave)
        return self

    def __exit__(self, kind, value, trace):
        self.close(polite=kind is None)

    @property
    def pid(self):
        return self.process.pid

    def quit(self):
        """The polite end; its exit status."""
        self._write("quit\n")
        return self.wait()

    def wait(self):
        """Read until the program is gone; its exit status."""
        deadline = time.monotonic() + self.timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self._fail("did not end")
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def kill(self):
        """As in a crash."""
        self.process.kill()
        self.process.wait()

    def truncate(self):
        """Cut short the files of all the memory it shares."""
        files = glob.glob(f"/dev/hugepages/{self._prefix}map_*")
        assert files, "it shares no memory"
        for path in files:
            os.truncate(path, 0)

    def close(self, polite=True):
        """End it whatever state it is in and remove its hugepage files."""
        try:
            if polite and self.process and self.process.poll() is None:
                self.quit()
        finally:
            self._terminate()
            if self._tty is not None:
                os.close(self._tty)
                self._tty = None
                print(f"--- testpmd {self.name} said ---\n{self._said()}")  # pytest shows it beside a failure
            if self._prefix:
                for path in glob.glob(f"/dev/hugepages/{self._prefix}map_*"):
                    Path(path).unlink(missing_ok=True)
                shutil.rmtree(f"/var/run/dpdk/{self._prefix}", ignore_errors=True)

    def _terminate(self):
        for sig in (signal.SIGTERM, signal.SIGKILL):
            if self.process and self.process.poll() is None:
                self.process.send_signal(sig)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    pass

    # ---- talking ----

    def command(self, line, timeout=None):
        """Send a command; what it printed. Other threads' messages may be anywhere in between."""
        start = len(self.log)
        self._write(line + "\n")
        end = self.expect(re.escape(PROMPT), since=start, timeout=timeout).start()
        return self.log[start:end].replace("\r", "").removeprefix(line).lstrip("\n")

    def expect(self, pattern, since=None, timeout=None):
        """Wait for a text (regular expression) to come, or to be in the log from since on. The match."""
        start = len(self.log) if since is None else since
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            match = re.compile(pattern).search(self.log, start)
            if match:
                return match
            if self.process.poll() is not None and not self._read(0):
                words = self.log.replace(PROMPT, "").split("\n")
                self._fail(f"ended with status {self.process.returncode}, expected: {pattern}; its last words: "
                           f"{next((w.strip() for w in reversed(words) if w.strip()), 'none')}")
            if time.monotonic() > deadline:
                self._fail(f"did not say: {pattern}")
            self._read(0.1)

    def stats(self, port=0):
        """`show port stats`, as {"RX-packets": 0, ...}."""
        text = self.command(f"show port stats {port}")
        return {key: int(value) for key, value in re.findall(r"([RT]X-\w+):\s+(\d+)", text)}

    def xstats(self, port=0):
        """`show port xstats`, as {"rx_q0_good_packets": 0, ...}."""
        text = self.command(f"show port xstats {port}")
        return {key: int(value) for key, value in re.findall(r"^(\w+): (\d+)$", text, re.M)}

    def forwarded(self):
        """`stop`, and the sums it prints: {"TX-packets": 0, "TX-dropped": 0, ...}."""
        text = self.command("stop")
        accumulated = text.partition("Accumulated forward statistics")[2]
        return {key: int(value) for key, value in re.findall(r"([RT]X-\w+):\s*(\d+)", accumulated)}

    def link(self, port=0):
        return re.search(r"Link status: (\w+)", self.command(f"show port info {port}")).group(1)

    def wait_until(self, predicate, what, timeout=None):
        """Ask again and again until predicate(self) is true; its value."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            value = predicate(self)
            if value:
                return value
            if time.monotonic() > deadline:
                self._fail(f"{what} did not happen")
            self._read(0.02)

    def wait_link(self, state, port=0):
        self.wait_until(lambda pmd: pmd.link(port) == state, f"link {state} of port {port}")

    # ---- the terminal ----

    def _write(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self._tty, data):]

    def listen(self, timeout):
        """Take over what it says for a moment: one whose words nobody reads stops when its terminal is full."""
        self._read(timeout)

    def _read(self, timeout):
        """Take over what there is; whether there was any."""
        if not select.select([self._tty], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._tty, 65536)
        except OSError:  # EIO: the other side is closed
            data = b""
        if not data:
            time.sleep(timeout)
        self.log += data.decode(errors="replace")
        return bool(data)

    def _fail(self, what):
        raise TestpmdError(f"testpmd {self.name}: {what}")

    def _said(self):
        """The log, without what was asked for again and again."""
        return PROMPT.join(text for text, _ in itertools.groupby(self.log.replace("\r", "").split(PROMPT)))[-10000:]


class Pair:
    """A back-end's port and a virtio-user front-end, both in testpmd."""

    def __init__(self, backend, frontend, port=0):
        self.backend, self.frontend, self._port = backend, frontend, port

    def _stats(self, pmd):
        return pmd.stats(self._port if pmd is self.backend else 0)

    def send(self, sender, receiver, bursts=4):
        """32 packets a burst and queue, one way. (sent, received) as their ports count."""
        before = self._stats(sender)["TX-packets"], self._stats(receiver)["RX-packets"]

        def counts():
            return self._stats(sender)["TX-packets"] - before[0], self._stats(receiver)["RX-packets"] - before[1]

        self.backend.command(f"set portlist {self._port}")
        for pmd in receiver, sender:
            pmd.command("set fwd rxonly")
        receiver.command("start")
        sender.command(f"start tx_first {bursts}")
        receiver.wait_until(lambda _: counts()[0] == counts()[1] > 0, "every packet's arrival")
        sent = sender.forwarded()
        receiver.command("stop")
        assert sent["TX-packets"] == counts()[0], "testpmd and the driver disagree on what was sent"
        return counts()

    def both_ways(self, queues=1, bursts=4):
        """Exactly as many arrive as were sent, and none was refused: rings are larger than this."""
        offered = 32 * bursts * queues
        assert self.send(self.frontend, self.backend, bursts) == (offered, offered)
        assert self.send(self.backend, self.frontend, bursts) == (offered, offered)
