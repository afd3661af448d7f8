# SPDX-License-Identifier: BSD-3-Clause
"""zero-copy=1 in stock testpmd: what a guest sends goes to a NIC as it lies in the guest's memory."""

import contextlib

import pytest
from nicsim import WRONG, Nicsim, nicsim_plugin, nicsim_prefix
from testpmd import Testpmd, backend_eal, frontend_eal


@pytest.fixture(scope="module")
def plugin():
    with nicsim_plugin() as path:
        yield path


@pytest.fixture
def start(driver, plugin, sockets):
    """start(nic): a testpmd that forwards between a NIC of these arguments and a guest that sends back what it gets."""
    with contextlib.ExitStack() as stack:

        def start(nic, later=False):
            prefix, path = nicsim_prefix(), sockets / "s"
            vdevs = [f"net_sluice0,iface={path},zero-copy=1"] + ([] if later else [f"net_nicsim0,rxlen=1500,{nic}"])
            eal = [*backend_eal(driver, *vdevs), "-d", str(plugin), "--iova-mode=va", f"--file-prefix={prefix}"]
            back = stack.enter_context(Testpmd("backend", eal, ["--tx-offloads=0x8000"]))  # MULTI_SEGS
            guest = stack.enter_context(Testpmd("guest", frontend_eal(f"net_virtio_user0,path={path},in_order=0"),
                                                ["--port-topology=loop", "--forward-mode=io"]))
            back.wait_link("up")
            guest.command("start")
            return back, Nicsim(prefix, "net_nicsim0")

        yield start


def sent(pmd, nic, frames=5000):
    """So many more frames leave by the NIC, and all that left were right."""
    before = nic.stats()["tx_sent_packets"]
    pmd.wait_until(lambda _: nic.stats()["tx_sent_packets"] >= before + frames, f"{frames} frames")
    stats = nic.stats()
    assert {key: stats[key] for key in WRONG if stats[key]} == {}
    return stats


@pytest.mark.parametrize("nic", ["", "lazy=1,delay_us=50", "nocleanup=1"])
def test_frames_are_lent(start, nic):
    back, nic = start(f"rxgen=8,{nic}")
    back.command("start")
    assert sent(back, nic)["dma_mapped"] > 0
    assert back.xstats()["rx_q0_zero_copy_packets"] > 0


def test_a_device_that_cannot(start):
    """Any device may be sent to: one that maps nothing makes everything be copied, and that is said once."""
    back, nic = start("rxgen=8,nodma=1")
    back.command("start")
    sent(back, nic)
    assert back.xstats()["rx_q0_zero_copy_packets"] == 0
    assert back.log.count("copied in spite of zero-copy=1: a device does not map its memory") == 1


def test_devices_that_come_and_go(start):
    """A NIC that is plugged while the guest runs is given its memory before it is given packets."""
    back, nic = start("", later=True)
    for _ in range(2):
        back.command("port attach net_nicsim0,rxgen=8,rxlen=1500")
        back.wait_until(lambda _: nic.stats()["dma_mapped"] > 0, "the guest's memory")
        back.command("port start 1")
        back.command("start")
        sent(back, nic)
        back.command("stop")
        back.command("port stop 1")
        back.command("port detach 1")
