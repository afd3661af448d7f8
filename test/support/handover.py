# SPDX-License-Identifier: BSD-3-Clause
"""A switch that is another process now and then, and the frames in which it tells the next one (app/sluice/handover_wire.h)."""

import array
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time

from sluice import TOP, Sluice, SluiceError

(ORIGIN, EARLY, PORT, COMMANDS, ADDRESSES, PREPARE, PREPARED, STATE, CONTROL, ALL, READY, COMMIT, TAKEN, ABORT) = range(1, 15)
MAGIC, VERSION = 0x70756c73, 2


class Upgraded(Sluice):
    """A switch that is another process now and then."""

    def upgrade(self, binary=None):
        """`sluicectl upgrade`; what it said as JSON."""
        before = self.process
        command = [TOP / "usertools/sluicectl", "-s", self.control, "-j", "upgrade", *([binary] if binary else [])]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SluiceError(done.stderr)
        result = json.loads(done.stdout)
        assert before.wait(20) == 0
        self._follow(result["pid"])
        return result

    def _follow(self, pid):
        self._hang_up()
        self.process = Other(pid)
        assert self._connect()

    def start_upgrade(self):
        """The newer process, or None: it has ended at once."""
        with contextlib.suppress(ProcessLookupError):
            return Other(self.json("upgrade start")["pid"])
        return None

    def follow_heir(self, *processes, timeout=20):
        """Wait until one of these goes on, with the control socket, and be that; None: none does."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            living = [process for process in processes if process.poll() is None]
            if not living:
                return None
            self._hang_up()
            with contextlib.suppress(SluiceError, OSError):
                if len(living) == 1 and self._connect() and self.json("upgrade show")["state"] != "running":
                    time.sleep(0.2)
                    if living[0].poll() is None:  # else it had handed over to who was killed, and was about to end
                        self.process = living[0]
                        return living[0]
            time.sleep(0.01)
        for process in living:
            process.kill()
        raise SluiceError(f"{self.name}: {len(living)} owners, of {len(processes)}:\n{self.log}")

    def close(self):
        super().close()
        for option in self.eal:
            if option.startswith("--file-prefix="):
                subprocess.run(["rm", "-rf", f"/var/run/dpdk/{option.partition('=')[2]}-next"], check=True)


class Other:
    """As much of Popen as Sluice needs, of a process that is not our child."""

    def __init__(self, pid):
        self.pid, self.fd = pid, os.pidfd_open(pid)

    def wait(self, timeout=20):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("sluice", timeout)
            time.sleep(0.01)
        return 0

    def poll(self):
        """0: all its threads have ended, and nothing of it is open any more."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return 0 if poll.poll(0) else None

    def __del__(self):
        os.close(self.fd)

    def send_signal(self, number):
        signal.pidfd_send_signal(self.fd, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


# ---- the frames ----

def send(sock, kind, payload=b"", fds=()):
    sock.sendall(struct.pack("=5I", MAGIC, VERSION, kind, len(payload), len(fds)))
    for at in range(0, len(fds), 128):
        sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds[at:at + 128]))])
    if payload:  # with its head a frame without one is complete, and whoever gets it may answer and be gone
        sock.sendall(payload)


def exactly(sock, n):
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def receive(sock):
    """kind, payload, descriptors"""
    _, _, kind, length, nfds = struct.unpack("=5I", exactly(sock, 20))
    fds = []
    while len(fds) < nfds:
        _, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(4 * 128))
        for _, _, data in ancillary:
            fds += array.array("i", data)
    return kind, exactly(sock, length), fds


def close_all(frames):
    for _, _, fds in frames:
        for fd in fds:
            os.close(fd)
