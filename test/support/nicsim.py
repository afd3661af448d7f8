# SPDX-License-Identifier: BSD-3-Clause
"""The NIC for tests (test/support/nicsim) in another process: where it is, and how to interfere with it.

    with nicsim_plugin() as plugin:
        prefix = nicsim_prefix()
        eal = [*backend_eal(plugin, "net_nicsim0,delay_us=100"), f"--file-prefix={prefix}"]
        with Testpmd("nic", eal) as pmd:
            nic = Nicsim(prefix, "net_nicsim0")
            nic.stall(True)
            print(nic.stats()["tx_held"])
"""

import contextlib
import itertools
import json
import os
import shutil
import socket
from pathlib import Path

from testpmd import loadable

TOP = Path(__file__).resolve().parents[2]
_serial = itertools.count()

# Statistics that stay 0 while the program that uses the device is right.
WRONG = ("tx_marked_bad", "tx_unmarked", "tx_changed", "tx_mbuf_changed", "tx_malformed_segs", "tx_malformed_len", "dma_fault",
         "tx_dma_wrong_iova", "dma_unmap_busy", "tx_fast_free_wrong")


class NicsimError(AssertionError):
    """What a device refused to do."""


def nicsim_built(build=None):
    """Where the build puts it; build: another one's folder."""
    return Path(build or os.environ.get("SLUICE_BUILD", TOP / "build")).resolve() / "test/support/nicsim/librte_net_nicsim.so"


@contextlib.contextmanager
def nicsim_plugin():
    """What to hand to EAL's -d."""
    built = nicsim_built()
    assert built.exists(), f"{built} is missing: build first, or set SLUICE_BUILD"
    path, folder = loadable(built)
    yield path
    if folder:
        shutil.rmtree(folder)


def nicsim_prefix():
    """A --file-prefix of its own for a process, which is how its telemetry is found."""
    return f"nic{os.getpid()}_{next(_serial)}"


class Nicsim:
    """One device. What its statistics count: nicsim_stats.c."""

    def __init__(self, prefix, name):
        self.name, self._path = name, f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2"

    def _ask(self, verb, *numbers):
        request = ",".join([f"/nicsim/{verb}", self.name, *(str(int(n)) for n in numbers)])
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(20)
            client.connect(self._path)
            size = json.loads(client.recv(1024))["max_output_len"]
            client.send(request.encode())
            answer = json.loads(client.recv(size))[f"/nicsim/{verb}"]
        if answer is None:
            raise NicsimError(f"{request}: refused")
        return answer

    def _do(self, verb, *numbers):
        result = self._ask(verb, *numbers)["result"]
        if result < 0:
            raise NicsimError(f"{verb} of {self.name}: {os.strerror(-result)}")
        return result

    def stall(self, on):
        """Nothing is read, written or freed."""
        self._do("stall", on)

    def poll(self):
        """Do what is due, also if nobody polls the port."""
        self._do("poll")

    def delay(self, us):
        """Microseconds until a frame is read, from now on."""
        self._do("delay", us)

    def reset(self):
        """Give back all that transmit rings hold."""
        self._do("reset")

    def link(self, up):
        """Plug or pull the cable."""
        self._do("link", up)

    def fail(self, resets=0):
        """Stop working and ask for a reset. resets: that fail before one works."""
        self._do("fail", resets)

    def gone(self):
        """Out of the machine."""
        self._do("gone")

    def held(self, queue=0):
        """mbufs that a transmit queue holds."""
        return self._do("held", queue)

    def inject(self, count, length=256, queue=0):
        """Frames come in; how many found a buffer."""
        return self._do("inject", queue, count, length)

    def stats(self):
        """{"tx_held": 0, ...}"""
        return self._ask("stats")
