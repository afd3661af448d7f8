# SPDX-License-Identifier: BSD-3-Clause
"""A program that does not get what it asks for: failcall.c is preloaded, and one of its calls fails.

    calls = Failcall(folder / "calls")
    with Sluice(folder, env=calls.env) as switch: ...
        with calls.failing(7) as seen:
            switch.run("port add vm listen /run/x")
        print(seen.n, seen.hit)     # how many calls there were, and "calloc at 0x1234" if the seventh came
"""

import contextlib
import mmap
import struct
from pathlib import Path

from sluice import binary

HEAD, SITES = 56, 8192
SIZE = HEAD + 8 * SITES  # struct failcall


class Failcall:
    """path: of the file it shares with the program."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.write_bytes(bytes(SIZE))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        plugin = binary().resolve().parents[2] / "test/support/failcall.so"
        assert plugin.exists(), f"{plugin} is missing: build first"
        self.env = {"LD_PRELOAD": str(plugin), "SLUICE_FAILCALL": str(self.path)}
        self.n, self.hit, self.sites = 0, None, []

    def arm(self, at):
        """From now on the at-th call fails; 0: they are only counted."""
        self._map[:] = bytes(SIZE)
        self._map[4:8] = struct.pack("=I", at)
        self._map[0:4] = struct.pack("=I", 1)

    def disarm(self):
        """None fails any more; .n and .hit say what there was, .sites from where each call was made."""
        self._map[0:4] = bytes(4)
        _, _, self.n, hit, where, name = struct.unpack("=4IQ32s", self._map[:HEAD])
        self.hit = f"{name.rstrip(bytes(1)).decode()} at {where:#x}" if hit else None
        self.sites = struct.unpack(f"={SITES}Q", self._map[HEAD:])[:self.n]

    def firsts(self):
        """Of the calls from each place the first."""
        return sorted({self.sites.index(site) + 1 for site in set(self.sites)})

    @contextlib.contextmanager
    def failing(self, at):
        self.arm(at)
        try:
            yield self
        finally:
            self.disarm()

    def close(self):
        self._map.close()
        self.path.unlink(missing_ok=True)
