# SPDX-License-Identifier: BSD-3-Clause
"""Frames whose every byte can be checked (those of ts_pkt.h), and the far end of an emulated NIC's cable.

    with Wire(folder / "nic0") as wire:
        ... a QEMU with the words of wire.netdev("net0") ...
        wire.send(frame(7, 1514))
        assert check(wire.receive()) == 7
"""

import contextlib
import functools
import socket
import struct
import time
from pathlib import Path

HEADER = struct.Struct("!6s6sHLLL")
TYPE, MAGIC = 0x88b5, 0x534c5543
HERE, THERE = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")


@functools.lru_cache(4096)
def _pattern(number, size):
    start = number * 65599
    return bytes(((start + i) * 2654435761 >> 24) & 0xff for i in range(HEADER.size, size))


def frame(number, size, to=THERE, by=HERE):
    """A frame of size bytes without its checksum, at least 60."""
    return HEADER.pack(to, by, TYPE, MAGIC, number, size) + _pattern(number, size)


def check(data):
    """The number of a frame that is as it was made; AssertionError says what is not. Addresses may differ."""
    assert len(data) >= HEADER.size, f"a frame of {len(data)} bytes: {data.hex()}"
    _, _, kind, magic, number, size = HEADER.unpack_from(data)
    assert (kind, magic) == (TYPE, MAGIC), f"none of ours: {data[:64].hex()}"
    assert size == len(data), f"frame {number} of {size} bytes has {len(data)}"
    expected = _pattern(number, size)
    if data[HEADER.size:] != expected:
        at = next(i for i, (a, b) in enumerate(zip(data[HEADER.size:], expected)) if a != b) + HEADER.size
        raise AssertionError(f"frame {number}: byte {at} of {size} is {data[at]:#x}, not {expected[at - HEADER.size]:#x}")
    return number


class Wire:
    """Datagrams over a pair of unix sockets, one a frame, both ways; nothing is lost, whoever is slow holds up the other."""

    def __init__(self, path):
        self.path = Path(path)
        self._near, self._far = self.path.with_suffix(".near"), self.path.with_suffix(".far")
        self._socket = None

    def netdev(self, name):
        """QEMU's side."""
        return (f"dgram,id={name},local.type=unix,local.path={self._far},"
                f"remote.type=unix,remote.path={self._near}")

    def __enter__(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._near))
        return self

    def __exit__(self, *_):
        self._socket.close()
        for path in self._near, self._far:
            path.unlink(missing_ok=True)

    def send(self, data, timeout=10):
        """TimeoutError if the NIC takes nothing."""
        self._socket.settimeout(timeout)
        self._socket.sendto(data, str(self._far))

    def receive(self, timeout=10):
        """The next frame, whatever it is; TimeoutError."""
        self._socket.settimeout(timeout)
        return self._socket.recv(1 << 17)

    def clear(self, quiet=0.2):
        """Forget what has come so far, and what comes until it is quiet; the frames."""
        frames = []
        with contextlib.suppress(TimeoutError):
            while True:
                frames.append(self.receive(quiet))
        return frames

    def expect(self, numbers, timeout=20):
        """Receive these frames, in any order, each once, and check every byte; others are an error."""
        missing, deadline = set(numbers), time.monotonic() + timeout
        while missing:
            try:
                number = check(self.receive(max(0.01, deadline - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"{len(missing)} frames are missing, of numbers {sorted(missing)[:10]}...") from None
            assert number in missing, f"frame {number} came twice, or was none of those"
            missing.remove(number)

    def echo(self, frames, window=32, timeout=20):
        """Send these frames while taking in what comes back, no more than window of them on their way: each must."""
        deadline, out = time.monotonic() + timeout, set()
        frames = iter(frames)
        data = next(frames, None)
        while data or out:
            while data and len(out) < window:
                out.add(check(data))
                self.send(data)
                data = next(frames, None)
            try:
                number = check(self.receive(max(0.01, deadline - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"{len(out)} frames did not come back, {sorted(out)[:10]}...") from None
            assert number in out, f"frame {number} came back twice, or was not sent"
            out.remove(number)
