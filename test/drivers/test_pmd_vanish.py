# SPDX-License-Identifier: BSD-3-Clause
"""A guest that takes its memory away from stock testpmd with our driver."""

import signal

from testpmd import Testpmd, backend_eal, frontend_eal

PARKED = "all rings are parked: guest memory has vanished"


def test_the_others_go_on(driver, sockets):
    """Stock testpmd with our driver goes on, with its other port at once and with this one when it has a guest again."""
    paths = [sockets / "a", sockets / "b"]
    vdevs = [f"net_sluice{n},iface={path}" for n, path in enumerate(paths)]
    with Testpmd("back", backend_eal(driver, *vdevs), ["--port-topology=loop", "--forward-mode=io"]) as back:
        def guest(n):
            return Testpmd(f"guest{n}", frontend_eal(f"net_virtio_user0,path={paths[n]}"), ["--port-topology=loop"])

        def echoes(pmd):
            before = pmd.stats()["RX-packets"]
            pmd.wait_until(lambda _: pmd.stats()["RX-packets"] > before + 1000, "echo of its packets")

        with guest(0) as good:
            back.command("start")
            for n in range(2):
                with guest(1) as bad:
                    back.wait_link("up", 1)
                    bad.command("set fwd io")
                    bad.command("start tx_first 1")
                    echoes(bad)
                    bad.process.send_signal(signal.SIGSTOP)
                    bad.truncate()
                    back.wait_link("down", 1)
                    assert back.log.count(PARKED) == n + 1
                    if n == 0:
                        good.command("set fwd io")
                        good.command("start tx_first 1")
                    echoes(good)
                    bad.kill()
        assert back.quit() == 0
