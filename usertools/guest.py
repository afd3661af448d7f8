#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Starts and drives the small QEMU guests of the demonstration and the tests.

    from guest import Guest, Nic

    with Guest("vm1", [Nic("/tmp/x/vm1.sock", address="10.0.0.1/24")], directory="/tmp/x/vm1") as vm:
        vm.wait_ready()
        status, output = vm.run("ping -c 1 10.0.0.2")
        server = vm.popen("iperf3 -s -1")
        ...
        status, output = server.wait(30)

The guest is the image usertools/guest-image builds; the agent inside (see usertools/guest-init) is reached through the
second serial port, so it works without any network. Guest methods may be called from any thread, one at a time per
guest. From a shell, "guest.py DIRECTORY COMMAND..." runs a command in a guest that somebody left running.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path("/var/cache/sluice")
QEMU = "qemu-system-x86_64"
SOCKETS = ("agent.sock", "console.sock", "qmp.sock", "incoming.sock")

# What makes a guest boot quickly under emulation and come back by itself after a panic. (nokaslr would save 0.2 s at
# the first boot and cost 2 s at every reboot: the same pages again, with translated code in them.)
KERNEL_WORDS = "console=ttyS0 loglevel=5 panic=-1 mitigations=off no_timer_check"


class GuestError(Exception):
    """Something about a guest went wrong; the text names the guest and says what."""


class GuestTimeout(GuestError):
    """A command ran longer than it was given; .output is what it had printed."""

    def __init__(self, text, output=""):
        super().__init__(text)
        self.output = output


@dataclass
class Nic:
    """One virtio-net device attached to a vhost-user back-end.

    socket: path of the unix socket. server: QEMU listens on it (and blocks until the back-end connects) instead of
    connecting to it (and connecting again every second after it was lost). mac: default made from the guest's name.
    queues: queue pairs. address: "10.0.0.1/24" for ethN, empty leaves it down. props: more virtio-net-pci
    properties, e.g. {"mrg_rxbuf": False, "packed": True, "rx_queue_size": 1024}.
    """

    socket: str
    server: bool = False
    mac: str = ""
    queues: int = 1
    address: str = ""
    props: dict = field(default_factory=dict)


def run_script(*argv, **kw):
    """subprocess.run() that never kills: interrupted, it asks the program to end and waits until it has cleaned up."""
    with subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          **kw) as child:
        try:
            output, errors = child.communicate()
        except BaseException:
            child.terminate()
            child.communicate()
            raise
    return subprocess.CompletedProcess(argv, child.returncode, output, errors)


def image(cache=CACHE, path=None, modules=(), programs=()):
    """Builds the guest image if it is missing or out of date; returns the paths of kernel and initrd.

    path: build another image there, with these kernel modules and programs beside the usual ones.
    """
    path = Path(path or Path(cache, "guest")).absolute()
    argv = [HERE / "guest-image", "--cache", str(cache), "--image", path]
    argv += [word for module in modules for word in ("--module", module)]
    argv += [word for program in programs for word in ("--program", program)]
    made = run_script(*argv, stderr=subprocess.PIPE)
    if made.returncode:
        raise GuestError((made.stderr.strip() or "guest-image failed").splitlines()[-1])
    return path / "vmlinuz", path / "initrd"


def _try_kvm(kernel, initrd):
    """Boots the guest under KVM; returns None if it came up, else a sentence why KVM is of no use here."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "no access to /dev/kvm"
    append = f"{KERNEL_WORDS} earlyprintk=ttyS0 sluice.modules=none sluice.run=echo $((7 * 11 * 13)) up; poweroff -f"
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log")
        argv = ["prlimit", "--core=0", "setpriv", "--pdeathsig", "KILL", QEMU, "-accel", "kvm", "-cpu", "host"]
        argv += ["-nodefaults", "-display", "none", "-m", "192", "-no-reboot", "-serial", "stdio"]
        argv += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", append]
        with log.open("wb") as out:
            qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=scratch)
        try:
            return _watch_probe(qemu, log)
        finally:
            qemu.kill()
            qemu.wait()


def _watch_probe(qemu, log):
    """The kernel has to say something within 3 s and to reach user space within 10 s."""
    begin = time.monotonic()
    while True:
        ended = qemu.poll() is not None
        text = log.read_bytes()
        if b"\n1001 up" in text:
            return None
        if ended:
            last = text.decode(errors="replace").strip().rpartition("\n")[2]
            return f"QEMU could not start a KVM guest: {last.strip() or 'it said nothing'}"
        spent = time.monotonic() - begin
        if spent > 10 or (spent > 3 and b"Linux version" not in text):
            return "/dev/kvm exists, but a Linux guest does not boot with it"
        time.sleep(0.05)


def why_not_kvm(cache=CACHE):
    """None if a Linux guest really boots under KVM here, else a sentence. Tried once per boot of this machine."""
    verdict = Path(cache, "kvm-verdict")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if verdict.exists():
        known, _, why = verdict.read_text().partition(" ")
        if known == boot:
            return why or None
    why = _try_kvm(*image(cache))
    fresh = verdict.with_name(f"kvm-verdict.{os.getpid()}")
    fresh.write_text(f"{boot} {why or ''}")
    fresh.rename(verdict)
    return why


class Job:
    """A command running in the background of a guest; made by Guest.popen()."""

    def __init__(self, guest, number, command):
        self._guest = guest
        self._number = number
        self._path = f"/run/job{number}"
        self.command = command

    def output(self):
        """What it has printed so far."""
        return self._guest.check(f"cat {self._path}.out")

    @property
    def pid(self):
        """Of the command, in the guest; its process group has the same number."""
        return int(self._guest.check(f"cat {self._path}.pid"))

    def running(self):
        return self._guest.run(f"[ -e {self._path}.rc ]")[0] != 0

    def wait(self, timeout=30):
        """Returns (exit status, output); GuestTimeout if it still runs after timeout seconds (it goes on running)."""
        try:
            status = self._guest.check(
                f"while [ ! -s {self._path}.rc ]; do sleep 0.1; done; cat {self._path}.rc", timeout)
        except GuestTimeout:
            text = f"{self._guest.name}: '{self.command}' still runs after {timeout} s"
            raise GuestTimeout(text, self.output()) from None
        return int(status), self.output()

    def kill(self, sig=signal.SIGTERM):
        """Signals the command and everything it started."""
        self._guest.run(f"kill -{int(sig)} -$(cat {self._path}.pid)")


class Guest:
    """One QEMU guest. Its files (logs, sockets) are in directory; the sockets go with stop(), the logs stay.

    memory in MiB. hugepages: guest memory comes from 2 MiB pages. share=False gives memory no back-end can map, to
    see what the back-end says. accel: "kvm" or "tcg", default: KVM if it works. modules: what the guest inserts at
    boot, "none" for no driver at all. keep: the guest outlives this process (otherwise it ends with the thread
    that called start()). extra: more QEMU arguments.
    """

    def __init__(self, name, nics=(), *, directory, memory=256, cpus=1, hugepages=False, share=True, accel="",
                 machine="pc", modules="virtio_pci,virtio_net", keep=False, extra=(), cache=CACHE):
        self.name = name
        self.nics = list(nics)
        self.directory = Path(directory).resolve()
        self.memory, self.cpus, self.hugepages, self.share = memory, cpus, hugepages, share
        self.accel, self.machine, self.modules = accel, machine, modules
        self.keep, self.extra, self.cache = keep, list(extra), cache
        self.pid = 0
        self._qemu = None
        self._mark = secrets.token_hex(8)
        self._agent = None
        self._buffer = bytearray()
        self._number = int(time.time()) % 100000 * 1000
        self._lock = threading.RLock()

    # --- life ---

    def start(self):
        """Starts QEMU; returns at once (see wait_ready). Back-ends that listen must be there within 5 s."""
        if not self.accel:
            self.accel = "tcg" if why_not_kvm(self.cache) else "kvm"
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in SOCKETS:
            if len(os.fsencode(self.directory / name)) > 107:
                raise GuestError(f"{self.name}: {self.directory} is too long for unix sockets: use a shorter directory")
            (self.directory / name).unlink(missing_ok=True)
        self._await_backends(5)
        argv = self.argv()
        if not self.keep:
            argv = ["setpriv", "--pdeathsig", "KILL"] + argv
        with (self.directory / "qemu.log").open("wb") as log:
            log.write((shlex.join(argv) + "\n").encode())
            log.flush()
            self._qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True)
        self.pid = self._qemu.pid
        (self.directory / "guest.json").write_text(
            json.dumps({"name": self.name, "pid": self.pid, "mark": self._mark}))
        try:
            self._agent = self._socket("agent.sock", 10)
        except BaseException:
            self.stop()
            raise
        return self

    def _await_backends(self, timeout):
        """QEMU as a client tries once at its start; only later it connects again and again."""
        deadline = time.monotonic() + timeout
        for nic in self.nics:
            while not nic.server and not os.path.exists(nic.socket):
                if time.monotonic() > deadline:
                    raise GuestError(f"{self.name}: no back-end listens on {nic.socket}: start it first")
                time.sleep(0.02)

    @classmethod
    def attach(cls, directory):
        """A Guest object for one that was started with keep=True by another process."""
        try:
            state = json.loads(Path(directory, "guest.json").read_text())
        except (OSError, ValueError):
            raise GuestError(f"{directory}: no guest was left running here") from None
        guest = cls(state["name"], directory=directory, keep=True)
        guest.pid, guest._mark = state["pid"], state["mark"]
        if not guest.alive():
            raise GuestError(f"{directory}: the guest {guest.name} has ended")
        guest._agent = guest._socket("agent.sock", 5)
        return guest

    def detach(self):
        """Closes our end; a guest with keep=True goes on."""
        if self._agent:
            self._agent.close()
            self._agent = None

    def alive(self):
        """Whether QEMU runs."""
        if self._qemu:
            return self._qemu.poll() is None
        try:
            return str(self.directory / "agent.sock").encode() in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False

    def stop(self):
        """Ends QEMU (whatever the guest does) and removes the sockets; may be called at any time, more than once."""
        self.detach()
        for sig, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
            deadline = time.monotonic() + patience
            if self.pid and self.alive():
                os.kill(self.pid, sig)
            while self.pid and self.alive() and time.monotonic() < deadline:
                time.sleep(0.02)
        self.pid = 0
        for name in SOCKETS + ("guest.json",):
            (self.directory / name).unlink(missing_ok=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # --- the command line ---

    def argv(self):
        """The QEMU command line."""
        kernel, initrd = image(self.cache)
        memory = f"memory-backend-memfd,id=mem,size={self.memory}M,share={'on' if self.share else 'off'}"
        if self.hugepages:
            memory += ",hugetlb=on,hugetlbsize=2M"
        addresses = ",".join(nic.address or "-" for nic in self.nics)
        append = f"{KERNEL_WORDS} hostname={self.name} sluice.agent={self._mark} sluice.modules={self.modules}"
        argv = [QEMU, "-name", self.name, "-nodefaults", "-no-user-config", "-display", "none"]
        argv += ["-accel", self.accel] + (["-cpu", "host"] if self.accel == "kvm" else [])
        argv += ["-smp", str(self.cpus), "-m", f"{self.memory}M", "-object", memory]
        argv += ["-machine", f"{self.machine},memory-backend=mem"]
        for name, kind in (("console", "-serial"), ("agent", "-serial"), ("qmp", "-qmp")):
            path = _comma(self.directory / f"{name}.sock")
            log = f",logfile={_comma(self.directory / 'console.log')}" if name == "console" else ""
            argv += ["-chardev", f"socket,id={name},path={path},server=on,wait=off{log}", kind, f"chardev:{name}"]
        for index, nic in enumerate(self.nics):
            argv += self._nic_argv(index, nic)
        argv += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", f"{append} sluice.ip={addresses}"]
        return argv + self.extra

    def _nic_argv(self, index, nic):
        mode = "server=on" if nic.server else "reconnect=1"
        number = zlib.crc32(f"{self.name}/{index}".encode())
        mac = nic.mac or "52:54:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))
        device = {"netdev": f"net{index}", "mac": mac, "romfile": ""}
        if self.accel == "tcg":
            device["vectors"] = 0   # QEMU 7.2 dies on a vhost-user device's MSI-X without KVM's irqfd
        if nic.queues > 1:
            device["mq"] = True
        device.update(nic.props)
        words = [f"{key}={_onoff(value)}" for key, value in device.items()]
        return ["-chardev", f"socket,id=vu{index},path={_comma(nic.socket)},{mode}",
                "-netdev", f"vhost-user,id=net{index},chardev=vu{index},queues={nic.queues}",
                "-device", ",".join(["virtio-net-pci"] + words)]

    # --- talking to the agent ---

    def wait_ready(self, timeout=60):
        """Waits until the guest has booted (once after start() and never after attach())."""
        with self._lock:
            try:
                self._answer("hello", timeout)
            except GuestTimeout:
                raise GuestError(f"{self.name}: not up after {timeout} s: see {self.directory}/console.log "
                                 f"and qemu.log") from None

    def run(self, command, timeout=30):
        """Runs a shell script in the guest; returns (exit status, output), stderr included, stdin empty.

        GuestTimeout if it takes longer than timeout seconds; it is killed then, with what it started.
        """
        status, output = self.run_bytes(command, timeout)
        return status, output.decode(errors="replace")

    def run_bytes(self, command, timeout=30):
        """The same with the output as the very bytes the guest wrote."""
        with self._lock:
            self._number += 1
            script = base64.b64encode(command.encode()).decode()
            self._send(f"run {self._number} {timeout} {script}\n".encode())
            status, output = self._answer(str(self._number), timeout + 10)
        if status == "late":
            text = f"{self.name}: '{command}' took longer than {timeout} s"
            raise GuestTimeout(text, output.decode(errors="replace"))
        return int(status), output

    def check(self, command, timeout=30):
        """Runs a shell script that must succeed; returns its output."""
        status, output = self.run(command, timeout)
        if status:
            raise GuestError(f"{self.name}: '{command}' failed with status {status}: {output.strip()}")
        return output

    def popen(self, command):
        """Starts a shell script in the background; returns its Job."""
        with self._lock:
            self._number += 1
            job = Job(self, self._number, command)
            script = shlex.quote(f"echo $$ >{job._path}.pid; {command}")
            self.check(f"(setsid sh -c {script} >{job._path}.out 2>&1; echo $? >{job._path}.rc) "
                       f">/dev/null 2>&1 </dev/null & while [ ! -s {job._path}.pid ]; do usleep 1000; done")
        return job

    def adopt(self, job):
        """The same job, of a guest that has moved here meanwhile."""
        return Job(self, job._number, job.command)

    def reboot(self, timeout=60):
        """Reboots through the firmware, as "reboot" in the guest does, and waits until it is up again."""
        with self._lock:
            self._send(f"run 0 5 {base64.b64encode(b'reboot -f').decode()}\n".encode())
            self.wait_ready(timeout)

    def qmp(self, command, **arguments):
        """Runs one command of QEMU's monitor protocol, e.g. qmp("system_reset"); returns its result."""
        with self._socket("qmp.sock", 10) as monitor:
            monitor.settimeout(10)
            with monitor.makefile("rw") as stream:
                for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    print(json.dumps(request), file=stream, flush=True)
                    answer = json.loads(stream.readline())
                    while "return" not in answer and "error" not in answer:
                        answer = json.loads(stream.readline())
        if "error" in answer:
            raise GuestError(f"{self.name}: {command}: {answer['error']['desc']}")
        return answer["return"]

    # --- moving to another QEMU ---

    def twin(self, directory, nics):
        """Starts a second QEMU, with other back-ends, that waits for this guest to move in; returns it."""
        twin = type(self)(self.name, nics, directory=directory, memory=self.memory, cpus=self.cpus,
                          hugepages=self.hugepages, share=self.share, accel=self.accel, machine=self.machine,
                          modules=self.modules, keep=self.keep, extra=self.extra + ["-incoming", "defer"],
                          cache=self.cache)
        twin._mark, twin._number = self._mark, self._number
        twin.start()
        twin.qmp("migrate-incoming", uri=f"unix:{twin.directory}/incoming.sock")
        return twin

    def move_to(self, twin, timeout=120, moving=lambda guest: None):
        """Moves the running guest into its twin, while it goes on; returns what QEMU tells of it (query-migrate).

        moving(self) is called again and again meanwhile. Afterwards this QEMU is ended, and commands go to the twin.
        """
        self.qmp("migrate", uri=f"unix:{twin.directory}/incoming.sock")
        deadline = time.monotonic() + timeout
        while True:
            told = self.qmp("query-migrate")
            if told["status"] == "completed":
                break
            if told["status"] == "failed":
                raise GuestError(f"{self.name}: the migration failed: {told.get('error-desc', 'see qemu.log')}")
            if time.monotonic() > deadline:
                raise GuestTimeout(f"{self.name}: still moving after {timeout} s: {told}")
            moving(self)
            time.sleep(0.05)
        twin._number = self._number
        self.stop()
        return told

    def _socket(self, name, timeout):
        """A connection to one of SOCKETS, each of which QEMU makes at its own time."""
        deadline = time.monotonic() + timeout
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.directory / name))
                return connection
            except OSError:
                connection.close()
            if not self.alive() or time.monotonic() > deadline:
                raise GuestError(f"{self.name}: {self._last_words()}")
            time.sleep(0.02)

    def _send(self, line):
        try:
            self._agent.settimeout(10)
            self._agent.sendall(line)
        except (OSError, AttributeError):
            raise GuestError(f"{self.name}: {self._last_words()}") from None

    def _answer(self, wanted, timeout):
        """Reads up to the end mark of command number `wanted` ("hello": of a boot); returns (status, bytes before)."""
        mark = re.compile(rb"\n--%s-- (\w+) (\w+)\n" % self._mark.encode())
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            found = mark.search(self._buffer, max(0, seen - 80))
            if not found:
                seen = len(self._buffer)
                self._receive(deadline)
                continue
            number, status = (word.decode() for word in found.groups())
            output = bytes(self._buffer[:found.start()])
            del self._buffer[:found.end()]
            seen = 0
            if number == wanted:
                return status, output
            if number == "hello":
                raise GuestError(f"{self.name}: the guest restarted by itself: see {self.directory}/console.log")

    def _receive(self, deadline):
        try:
            self._agent.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._agent.recv(1 << 16)
        except TimeoutError:
            text = f"{self.name}: no answer in time: see {self.directory}/console.log"
            raise GuestTimeout(text, self._buffer.decode(errors="replace")) from None
        except OSError:
            data = b""
        if not data:
            raise GuestError(f"{self.name}: {self._last_words()}")
        self._buffer += data

    def _last_words(self):
        """Why QEMU is not there, from its log."""
        deadline = time.monotonic() + 2     # its sockets close a little before it has ended
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.alive():
            return f"QEMU does not serve {self.directory}/agent.sock (is somebody else attached?)"
        try:
            lines = (self.directory / "qemu.log").read_text(errors="replace").strip().splitlines()[1:]
        except OSError:
            lines = []
        code = self._qemu.returncode if self._qemu else 0
        how = f" by signal {-code}" if code < 0 else ""
        return f"QEMU has ended{how}: {lines[-1] if lines else 'it said nothing'}"


@contextlib.contextmanager
def together(*guests, timeout=90):
    """Guests that are all ready, and none of them left afterwards."""
    with contextlib.ExitStack() as stack:
        for guest in guests:
            stack.enter_context(guest)
        for guest in guests:
            guest.wait_ready(timeout)
        yield guests


def _comma(path):
    """QEMU's option syntax: a comma inside a value is doubled."""
    return str(path).replace(",", ",,")


def _onoff(value):
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def main():
    """Runs a command in, or ends, a guest somebody left running."""
    usage = "usage: guest.py DIRECTORY COMMAND...   run a command in the guest that was left running there\n" \
            "       guest.py DIRECTORY --stop       end it\n" \
            "For a console: socat -,raw,echo=0,escape=0x1d UNIX:DIRECTORY/console.sock   (leave with Ctrl-])"
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        print(usage)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    try:
        guest = Guest.attach(sys.argv[1])
        if sys.argv[2:] == ["--stop"]:
            guest.stop()
            return 0
        status, output = guest.run_bytes(" ".join(sys.argv[2:]), 3600)
    except GuestError as error:
        print(f"guest.py: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(output)
    return status


if __name__ == "__main__":
    sys.exit(main())
