# SPDX-License-Identifier: BSD-3-Clause
"""Guests that come and go, ports that are stopped, attached and closed while the program runs."""

import os
from pathlib import Path

from testpmd import Pair, Testpmd, backend_eal, frontend_eal


def threads(pid):
    return [p.read_text().strip() for p in Path(f"/proc/{pid}/task").glob("*/comm")]


def resources(pid):
    """What a connection must give back: descriptors, mappings of foreign memory."""
    fds = sorted(os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir())
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return len(fds), sum("hugepages" in line or "memfd" in line for line in maps)


def frontend(path, extra=""):
    return Testpmd("frontend", frontend_eal(f"net_virtio_user0,path={path}{extra}"))


def test_five_front_ends(driver, sockets):
    """One after the other, politely and by crash; everything they brought goes with them."""
    path = sockets / "s"
    with Testpmd("backend", backend_eal(driver, f"net_sluice0,iface={path}")) as backend:
        before = resources(backend.pid)
        for i in range(5):
            with frontend(path) as front:
                backend.wait_link("up")
                Pair(backend, front).both_ways()
                if i % 2:
                    front.kill()
            backend.wait_link("down")
            assert backend.stats()["RX-packets"] == (i + 1) * 128, "statistics survive the guest"
            backend.wait_until(lambda b: resources(b.pid) == before, f"return to {before} descriptors and mappings")
        assert backend.log.count("link state change event") >= 10


def test_guest_gone_under_traffic(driver, sockets):
    """The lcore keeps polling and sending while the guest crashes and another one comes."""
    path = sockets / "s"
    with Testpmd("backend", backend_eal(driver, f"net_sluice0,iface={path}")) as backend:
        backend.command("set fwd txonly")
        backend.command("start")
        for _ in range(3):
            with frontend(path) as front:
                front.command("set fwd rxonly")
                front.command("start")
                front.wait_until(lambda f: f.stats()["RX-packets"] > 1000, "traffic")
                front.kill()
            backend.wait_link("down")
        backend.command("stop")


def test_connecting(driver, sockets):
    """client=1: the front-end owns the socket; we come when it is there, again and again."""
    path = sockets / "s"
    with Testpmd("backend", backend_eal(driver, f"net_sluice0,iface={path},client=1")) as backend:
        assert backend.link() == "down"
        for _ in range(2):
            with frontend(path, ",server=1") as front:
                backend.wait_link("up")
                Pair(backend, front).both_ways()
            backend.wait_link("down")
            path.unlink(missing_ok=True)  # testpmd's own, left behind


def test_stop_and_start(start_pair):
    """A stopped port keeps its guest and what that sends; started again it goes on where it was."""
    pair = start_pair()
    pair.both_ways()
    events = pair.backend.log.count("link state change event")
    pair.backend.command("port stop 0")
    pair.frontend.command("set fwd rxonly")
    pair.frontend.command("start tx_first 1")
    pair.frontend.wait_until(lambda f: f.stats()["TX-packets"] == 128 + 32, "sending to a stopped port")
    pair.frontend.command("stop")
    pair.backend.command("port start 0")
    pair.backend.command("set fwd rxonly")
    pair.backend.command("start")
    pair.backend.wait_until(lambda b: b.stats()["RX-packets"] == 128 + 32, "what waited meanwhile")
    pair.backend.command("stop")
    pair.both_ways()
    assert pair.backend.link() == "up" and pair.backend.log.count("link state change event") == events


def test_fewer_queues_after_restart(start_pair):
    """Reconfigured with other queues and other mbufs while the guest is connected: what it sends to a queue nobody
    reads any more is counted as missed."""
    queues = ["--rxq=2", "--txq=2"]
    pair = start_pair("queues=2", "queues=2", queues, queues)
    pair.both_ways(queues=2)
    pair.backend.command("port stop 0")
    pair.backend.command("port config all rxq 1")
    pair.backend.command("port config all txq 1")
    pair.backend.command("port start 0")
    assert pair.send(pair.backend, pair.frontend) == (128, 128)
    assert "application has set up no receive queue 1" in pair.backend.log
    before = pair.backend.stats()
    pair.backend.command("start")
    pair.frontend.command("start tx_first 4")

    def news(backend):
        now = backend.stats()
        return [now[key] - before[key] for key in ("RX-packets", "RX-missed")]

    pair.backend.wait_until(lambda b: news(b) == [128, 128], "every packet's arrival or loss")
    pair.backend.command("stop")


def test_attach_and_detach(driver, sockets):
    """Ports come and go at run time; the first one's traffic does not notice, the last one takes the thread along."""
    path, other = sockets / "s", sockets / "t"
    with Testpmd("backend", backend_eal(driver, f"net_sluice0,iface={path}")) as backend, frontend(path) as front:
        backend.wait_link("up")
        before = resources(backend.pid)
        for _ in range(2):
            assert "Port 1 is attached" in backend.command(f"port attach net_sluice1,iface={other}")
            assert other.is_socket()
            backend.command("port start 1")
            assert threads(backend.pid).count("sluice") == 1
            with frontend(other) as second:
                backend.wait_link("up", 1)
                Pair(backend, second, 1).both_ways()
                backend.command("port stop 1")
                assert "Device is detached" in backend.command("port detach 1")
                assert not other.exists()
            Pair(backend, front).both_ways()
            backend.wait_until(lambda b: resources(b.pid) == before, f"return to {before}")
        backend.command("port stop 0")
        backend.command("port close 0")
        assert "sluice" not in threads(backend.pid)
        assert not path.exists()
