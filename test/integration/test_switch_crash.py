# SPDX-License-Identifier: BSD-3-Clause
"""A switch that is killed under load, between stock testpmds whose virtio-user ports wait for the next one.

(QEMU's guests with split rings: test_guests.py. Neither of the two keeps an in-flight region for network devices;
with a region: test/vhost_user/test_crash.c.)"""

import time

import pytest
from sluice import Sluice
from testpmd import Testpmd, frontend_eal


def moving(switch, more=2000):
    """Both ports have got some more."""
    def sent():
        return [switch.json(f"port show {port}")["counters"]["tx_packets"] for port in ("vm1", "vm2")]
    before = sent()
    switch.wait_until(lambda: all(now > then + more for now, then in zip(sent(), before)), "traffic", timeout=30)


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_killed_under_load(folder, states, ring):
    options = "server=1,queue_size=256" + (",packed_vq=1" if ring == "packed" else "")
    paths = [folder / f"{ring}{n}" for n in (1, 2)]
    vdevs = [f"net_virtio_user{n},path={path},mac=02:00:00:00:02:{n:02x},{options}" for n, path in enumerate(paths)]
    ports = [f"port add vm{n} connect {path}" for n, path in enumerate(paths, 1)]
    switch = Sluice(folder, ["--state-dir", states], commands=ports)
    try:
        switch.start()
        with Testpmd("front", frontend_eal(*vdevs), ["--port-topology=paired"], timeout=40) as pmd:
            pmd.command("set fwd flowgen")
            for port in ("vm1", "vm2"):
                switch.wait_link(port)
            pmd.command("start")
            for _ in range(5):
                moving(switch)
                switch.kill()
                time.sleep(0.1)
                switch.start()
                for port in ("vm1", "vm2"):
                    switch.wait_link(port)
            moving(switch)
            for port in ("vm1", "vm2"):
                rings = [drop["reason"] for drop in switch.json(f"port show {port}")["drops"]]
                assert "tx_ring_parked" not in rings
            pmd.command("stop")
    finally:
        switch.close()
        for path in paths:
            path.unlink(missing_ok=True)
