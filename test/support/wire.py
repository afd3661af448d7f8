# SPDX-License-Identifier: BSD-3-Clause
"""Frames whose every byte can be checked (those of ts_pkt.h), and the far end of an emulated NIC's cable.

    with Wire(folder / "nic0") as wire:
        ...                         # a QEMU with the words of wire.netdev("net0")
        wire.echo([60, 1514])       # frames of these lengths go in and come back
"""

import contextlib
import functools
import itertools
import socket
import struct
import threading
import time
from pathlib import Path

HEADER = struct.Struct("!6s6sHLLL")
TYPE, MAGIC = 0x88b5, 0x534c5543
GUEST = bytes.fromhex("020000000001")   # whom ts_pkt_fill() says it is by
_numbers = itertools.count(1)


@functools.lru_cache(4096)
def _pattern(number, size):
    start = number * 65599
    return bytes(((start + i) * 2654435761 >> 24) & 0xff for i in range(HEADER.size, size))


def frame(number, size, to, by):
    """size counts all but the frame check sequence: 60 and more on a wire."""
    return HEADER.pack(to, by, TYPE, MAGIC, number, size) + _pattern(number, size)


def check(data):
    """The number of a frame that is as it was made; AssertionError says what is not. Addresses may differ."""
    assert len(data) >= HEADER.size, f"a frame of {len(data)} bytes: {data.hex()}"
    _, _, kind, magic, number, size = HEADER.unpack_from(data)
    assert (kind, magic) == (TYPE, MAGIC), f"none of ours: {data[:64].hex()}"
    assert size == len(data), f"frame {number} of {size} bytes has {len(data)}"
    expected = _pattern(number, size)
    if data[HEADER.size:] != expected:
        at = next(i for i, (a, b) in enumerate(zip(data[HEADER.size:], expected)) if a != b)
        raise AssertionError(f"frame {number} of {size} bytes: byte {HEADER.size + at} is {data[HEADER.size + at]:#x}, "
                             f"not {expected[at]:#x}")
    return number


class Wire:
    """Datagrams over a pair of unix sockets, one a frame, both ways. Nothing is lost: who is slow holds up the other."""

    def __init__(self, path, mac):
        self.path, self.mac = Path(path), bytes.fromhex(mac.replace(":", ""))
        self._near, self._far = self.path.with_suffix(".near"), self.path.with_suffix(".far")
        self._socket = None

    def netdev(self, name):
        """QEMU's side."""
        return f"dgram,id={name},local.type=unix,local.path={self._far},remote.type=unix,remote.path={self._near}"

    def __enter__(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._near))
        return self

    def __exit__(self, *_):
        self._socket.close()
        for path in self._near, self._far:
            path.unlink(missing_ok=True)

    def send(self, size, to=GUEST, timeout=60):
        """A fresh frame from our address; its number. TimeoutError if the NIC takes nothing."""
        number = next(_numbers)
        self._socket.settimeout(timeout)
        self._socket.sendto(frame(number, size, to, self.mac), str(self._far))
        return number

    def receive(self, timeout=60):
        """The number of the next frame, which must be right; TimeoutError."""
        self._socket.settimeout(timeout)
        return check(self._socket.recv(1 << 17))

    def settle(self, timeout=60):
        """Forget what is on its way: send until the last one comes back, behind all that was before it."""
        deadline = time.monotonic() + timeout
        last = self.send(60)
        with contextlib.suppress(TimeoutError):
            while self.receive(2) != last:
                pass
            return
        assert time.monotonic() < deadline, "no frame comes back"
        self.settle(deadline - time.monotonic())

    def clear(self, quiet=0.2):
        """Take in frames until there were none for a while; their numbers."""
        numbers = []
        with contextlib.suppress(TimeoutError):
            while True:
                numbers.append(self.receive(quiet))
        return numbers

    def expect(self, numbers, timeout=60):
        """These frames and no others come, in any order, each once."""
        missing, deadline = set(numbers), time.monotonic() + timeout
        while missing:
            self._strike(missing, deadline)

    def _strike(self, missing, deadline):
        try:
            number = self.receive(max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            raise AssertionError(f"{len(missing)} frames are missing, {sorted(missing)[:10]} the first") from None
        assert number in missing, f"frame {number} came twice, or is none of {sorted(missing)[:10]}..."
        missing.remove(number)

    def echo(self, sizes, window=32, timeout=60):
        """Frames of these lengths go in, no more than window at a time, and each comes back once, and no other."""
        deadline, out = time.monotonic() + timeout, set()
        for size in sizes:
            if len(out) == window:
                self._strike(out, deadline)
            out.add(self.send(size))
        while out:
            self._strike(out, deadline)


class Traffic(threading.Thread):
    """Frames without end into a wire, 200 a second at most; what comes back must be right, and come once.

    After the with block .sent frames have gone in, and .back have come.
    """

    def __init__(self, wire, size=1000):
        super().__init__()
        self.wire, self.size = wire, size
        self.sent, self.back, self.wrong = 0, 0, None
        self._out, self._ending = set(), threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self.join()
        if self.wrong:
            raise self.wrong

    def run(self):
        try:
            while not self._ending.is_set():
                self._out.add(self.wire.send(self.size))
                self.sent += 1
                self._take_in(0.005)
        except (AssertionError, TimeoutError) as wrong:
            self.wrong = wrong

    def _take_in(self, quiet):
        for number in self.wire.clear(quiet):
            assert number in self._out, f"frame {number} came back twice, or was never sent"
            self._out.remove(number)
            self.back += 1

    def flowing(self, timeout=60):
        """Wait until some more have come back."""
        before, deadline = self.back, time.monotonic() + timeout
        while self.back < before + 20 and not self.wrong:
            assert time.monotonic() < deadline, "no more frames come back"
            time.sleep(0.02)
