# SPDX-License-Identifier: BSD-3-Clause
"""DPDK devices as ports of a running switch, where they are unlike a VM's."""

import ctypes
import os
import threading

import pytest

from sluice import Sluice

CLONE_NEWNET = 0x40000000


def in_namespace(function):
    """Call it in a network namespace of its own, which ends with the processes it starts."""
    failures = []

    def body():
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            function()
        except BaseException as error:  # handed to the thread that asked
            failures.append(error)

    thread = threading.Thread(target=body)  # a thread: the namespace is its own, not the test program's
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("queues", [2, 4])
def test_more_receive_queues_than_workers(folder, queues):
    """A TAP wants as many transmit queues as receive queues, however few workers there are."""
    def body():
        with Sluice(folder) as switch:
            for _ in range(4):
                for tap in ("a", "b"):
                    switch.run(f"port add {tap} dev net_tap{ord(tap)},iface=sl{tap} queues {queues}")
                assert all(len(switch.json(f"port show {tap}")["queues"]) == queues for tap in "ab")
                for tap in ("a", "b"):
                    switch.run(f"port del {tap}")
            assert switch.stop() == 0

    in_namespace(body)
