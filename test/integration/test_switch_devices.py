# SPDX-License-Identifier: BSD-3-Clause
"""DPDK devices as ports of a running switch, where they are unlike a VM's."""

import ctypes
import os
import threading
import time

import pytest

from sluice import Sluice, SluiceError

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


def test_more_queues_than_net_tap_survives(folder):
    """It says it has 16, and destroys its stack with more than four."""
    def body():
        with Sluice(folder) as switch:
            for queues in (5, 16):
                with pytest.raises(SluiceError, match=rf"^device 'net_tap0' has only 4 receive queues, not {queues}$"):
                    switch.run(f"port add t dev net_tap0 queues {queues}")
            assert switch.stop() == 0

    in_namespace(body)


def test_an_empty_port_list_is_not_every_port(folder):
    """The last port of the list is deleted: the others, which were not in it, do not begin to forward."""
    with Sluice(folder) as switch:
        switch.run("set fwd io")
        switch.run("set portlist none")
        for n in range(4):
            switch.run(f"port add p{n} dev net_null{n}")
        switch.run("set portlist 0,1")
        for port in ("p0", "p1"):
            switch.run(f"port del {port}")
        time.sleep(0.1)
        assert [switch.json(f"port show {port}")["queues"][0]["packets"] for port in ("p2", "p3")] == [0, 0]
        assert "\nset portlist none\n" in switch.run("config show")
        switch.run("set portlist all")
        switch.wait_until(lambda: switch.json("port show p3")["queues"][0]["packets"], "packets")
        assert "portlist" not in switch.run("config show")
        assert switch.stop() == 0
