# SPDX-License-Identifier: BSD-3-Clause
"""What the front-ends installed here say today is what test/vhost_user/recorded holds, which is sent again in unit tests.

SLUICE_RECORD=1 writes the files anew.
"""

import os
import re
import sys
from pathlib import Path

import pytest
from testpmd import Testpmd, frontend_eal

from sluice import TOP, Sluice

sys.path.insert(0, str(TOP / "test/support"))
from record import Recorder  # noqa: E402

RECORDED = TOP / "test/vhost_user/recorded"
USERS = {"virtio-user-split": ("", 1), "virtio-user-packed": (",packed_vq=1", 1), "virtio-user-two-pairs": (",queues=2", 2)}
QEMUS = {"qemu-split": ({}, 1), "qemu-packed": ({"packed": True}, 1), "qemu-two-pairs": ({}, 2)}


def essence(lines):
    """Without what depends on how far a ring has got, on what the back-end offers, or says once more what is so already."""
    enabled, left = {}, []
    for line in lines:
        word, *rest = line.split()
        if word == "SET_VRING_ENABLE":
            if enabled.get(rest[0]) == rest[1]:
                continue
            enabled[rest[0]] = rest[1]
        left.append(re.sub(r"^(SET_VRING_BASE \d+|SET_PROTOCOL_FEATURES) \S+", r"\1", line))
    return left


def compare(name, lines):
    path = RECORDED / name
    if os.environ.get("SLUICE_RECORD"):
        path.write_text("\n".join(lines) + "\n")
    assert essence(path.read_text().splitlines()) == essence(lines)


@pytest.mark.parametrize("name", USERS)
def test_virtio_user(folder, name):
    """DPDK's front-end: start, and end."""
    props, queues = USERS[name]
    with Sluice(folder, commands=[f"port add a listen {folder}/back queues {queues}", "set fwd icmpecho"]) as switch:
        with Recorder(folder / "front", folder / "back") as recorder:
            with Testpmd("front", frontend_eal(f"net_virtio_user0,path={folder}/front{props}"),
                         [f"--rxq={queues}", f"--txq={queues}"]) as pmd:
                switch.wait_link("a")
                pmd.wait_link("up")
                recorder.mark(f"traffic {queues}")
            switch.wait_link("a", "down")
        compare(name, recorder.lines)


@pytest.mark.parametrize("name", QEMUS)
def test_qemu(folder, name):
    """QEMU with a Linux guest: its driver comes, goes and comes again."""
    sys.path.insert(0, str(TOP / "usertools"))
    from guest import Guest, Nic
    props, queues = QEMUS[name]
    with Sluice(folder, commands=[f"port add a listen {folder}/back queues {queues}"]) as switch:
        with Recorder(folder / "front", folder / "back") as recorder:
            nic = Nic(f"{folder}/front", address="10.0.0.1/24", queues=queues, props=props)
            vm = Guest("rec", [nic], memory=128, cpus=queues, directory=Path(folder) / "rec.d")
            try:
                vm.start()
                vm.wait_ready(120)
                switch.wait_link("a")
                recorder.mark("traffic 1")
                vm.check("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 > unbind")
                switch.wait_link("a", "down")
                recorder.mark("down")
                vm.check("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 > bind && ip link set eth0 up")
                switch.wait_link("a")
                recorder.mark("traffic 1")
            finally:
                vm.stop()
        compare(name, recorder.lines[:recorder.lines.index("-- traffic 1", recorder.lines.index("-- down")) + 1])
