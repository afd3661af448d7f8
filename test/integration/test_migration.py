# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest moves from one switch to another and back while it talks in both directions.

The network is a bridge in a namespace; both switches have a TAP in it:

    guest -- switch a -- TAP --+
                               +-- bridge -- servers
    twin --- switch b -- TAP --+
"""

import fcntl
import hashlib
import http.server
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import termios
import threading
import time

import pytest
from hostnet import Namespace

from guest import Guest, Nic
from sluice import Sluice
from test_viommu import PROPS, TranslatedGuest

HOST, VM, MAC = "10.0.7.1", "10.0.7.2", "52:54:00:07:00:02"
PARKED = 1 << 20
ETH_RARP = 0x8035


# ---- the other end of the guest's connections ----

class Peer:
    """Servers on the bridge.

    /down   bytes without end, until enough() is called
    /parked a first byte, and when park() is called all others, which the guest is in no hurry to read
    port 81 takes what comes
    """

    def __init__(self, namespace):
        self.down, self.parked, self.up = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._enough, self._park, self.parking, self.was_parked = (threading.Event() for _ in range(4))
        self.up_ended = threading.Event()
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                if self.path == "/down":
                    peer.send_down(self.wfile)
                else:
                    peer.send_parked(self.wfile, self.connection)

            def log_message(self, *_):
                pass

        with namespace.entered():
            self._http = http.server.ThreadingHTTPServer((HOST, 80), Handler)
            self._sink = socket.create_server((HOST, 81))
        self._http.daemon_threads = True

    def __enter__(self):
        for run in (self._http.serve_forever, self._take):
            threading.Thread(target=run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        self._park.set()
        self._http.shutdown()
        self._http.server_close()
        self._sink.close()

    def send_down(self, out):
        while not self._enough.is_set():
            data = random.randbytes(16384)
            self.down.update(data)
            out.write(data)
            time.sleep(0.02)

    def send_parked(self, out, connection):
        self._send_parked(out, b"x")
        self.parking.set()
        self._park.wait()
        self._send_parked(out, random.randbytes(PARKED))
        # All of it has arrived when nothing is left that was not acknowledged.
        while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0]:
            time.sleep(0.01)
        self.was_parked.set()

    def _send_parked(self, out, data):
        self.parked.update(data)
        out.write(data)
        out.flush()

    def _take(self):
        try:
            with self._sink.accept()[0] as connection:
                while data := connection.recv(65536):
                    self.up.update(data)
        except OSError:
            return
        self.up_ended.set()

    def park(self):
        self._park.set()

    def enough(self):
        self._enough.set()


class Rarps:
    """When RARP frames with the guest's address came to the bridge, and by which interface they were flooded."""

    def __init__(self, namespace, interface):
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_RARP))
            self._socket.bind((interface, ETH_RARP))
        self._socket.settimeout(0.1)

    def count(self):
        """So many since the last time."""
        mac, n = bytes.fromhex(MAC.replace(":", "")), 0
        while True:
            try:
                frame = self._socket.recv(2048)
            except TimeoutError:
                return n
            n += frame[:12] == b"\xff" * 6 + mac and len(frame) >= 42

    def close(self):
        self._socket.close()


class Pings:
    """A hundred pings a second from the bridge to the guest, from enter to exit."""

    def __init__(self, namespace, log):
        self._argv, self._log = namespace.argv("ping", "-n", "-D", "-i", "0.01", VM), log

    def __enter__(self):
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(self._argv, stdout=out)
        return self

    def __exit__(self, *_):
        self._process.send_signal(2)
        self._process.wait(10)
        text = self._log.read_text()
        answers = [(float(stamp), int(number))
                   for stamp, number in re.findall(r"^\[([\d.]+)\].*icmp_seq=(\d+) ttl", text, re.M)]
        self.sent = int(re.search(r"(\d+) packets transmitted", text).group(1))
        self.lost = self.sent - len(set(number for _, number in answers))
        gaps = [later[0] - sooner[0] for sooner, later in zip(answers, answers[1:])]
        self.longest = max(gaps) if gaps else float("inf")
        self.usual = statistics.median(gaps) if gaps else float("inf")


# ---- what the tests share ----

@pytest.fixture(scope="module")
def host():
    with Namespace(f"slmig{os.getpid()}") as namespace:
        namespace.bridge("br0", f"{HOST}/24")
        yield namespace


@pytest.fixture(scope="module")
def switches(folder, host):
    made = {name: Sluice(folder, commands=["set sleep 100", f"port add vm listen {folder}/{name}.sock iommu",
                                           f"port add up dev net_tap_{name},iface=tap-{name}"]) for name in "ab"}
    try:
        for name, switch in made.items():
            with host.entered():
                switch.start()
            # It talks before it has done all commands.
            switch.wait_until(lambda name=name: f"tap-{name}:" in host.run("ip", "-o", "link"), "TAP")
            host.run("ip", "link", "set", f"tap-{name}", "master", "br0", "up")
        yield made
    finally:
        for switch in made.values():
            switch.close()


def nic(folder, switch, **props):
    return Nic(f"{folder}/{switch}.sock", mac=MAC, address=f"{VM}/24", props=props)


def reach_host(guest):
    """A ping arrives, though not every one: the host's buffers are full of others."""
    guest.check(f"for i in $(seq 20); do ping -c 1 -W 1 {HOST} && exit 0; done; exit 1", 40)


def pace(guest, bandwidth, downtime):
    """How fast the migration copies, in bytes a second, and what may be left for the end, in milliseconds of that."""
    guest.qmp("migrate-set-parameters", **{"max-bandwidth": bandwidth, "downtime-limit": downtime})


def copied_once(guest):
    """The whole of its memory has been copied; what has changed meanwhile is copied again."""
    return guest.qmp("query-migrate").get("ram", {}).get("dirty-sync-count", 0) >= 2


def talk(guest, peer):
    """Data in both directions, and a connection whose reader sleeps: its data stays in receive buffers."""
    guest.check("rm -f /run/enough /run/fifo; sysctl -q -w net.ipv4.tcp_rmem='4096 4194304 8388608'")
    down = guest.popen(f"wget -q -O - http://{HOST}/down | sha256sum")
    guest.popen("mkfifo /run/fifo; sha256sum </run/fifo >/run/up & "
                "while [ ! -e /run/enough ]; do head -c 16384 /dev/urandom; usleep 20000; done | "
                f"tee /run/fifo | nc {HOST} 81; wait")
    # Without this the migration could be over before the test has done what it wants to do meanwhile.
    guest.popen("while [ ! -e /run/enough ]; do for i in 1 2 3 4; do cat /bin/busybox; done | "
                "dd of=/run/hog bs=64k conv=notrunc; done")
    parked = guest.popen(f"wget -q -O /run/parked http://{HOST}/parked & echo $! >/run/reader; wait")
    assert peer.parking.wait(20), "the guest does not ask for what shall be parked"
    guest.check("kill -STOP $(cat /run/reader)")
    return down, parked


def sums(guest, peer, jobs):
    """Ends all connections; the guest's checksums of what it got and sent."""
    peer.enough()
    guest.check("touch /run/enough; kill -CONT $(cat /run/reader)")
    assert peer.up_ended.wait(30), "the guest's own connection did not end"
    down, parked = (guest.adopt(job).wait(60) for job in jobs)
    assert down[0] == parked[0] == 0
    texts = down[1], guest.check("sha256sum </run/parked"), guest.check("cat /run/up")
    return [text.split()[0] for text in texts]


def move(guest, folder, name, peer, props):
    """Moves the guest to another switch; its twin, and what QEMU tells of it."""
    twin = guest.twin(folder / f"vm-{name}", [nic(folder, name, **props)])
    try:
        pace(guest, 16 << 20, 1)

        def moving(vm):
            if peer.was_parked.is_set():
                pace(vm, 1 << 30, 1000)
            elif copied_once(vm):
                pace(vm, 1 << 20, 1)    # less than the guest writes: it cannot end
                peer.park()
        return twin, guest.move_to(twin, 180, moving)
    except BaseException:
        twin.stop()
        raise


KINDS = {"split": (Guest, {}), "packed": (Guest, {"packed": True}), "iommu": (TranslatedGuest, PROPS)}


@pytest.mark.parametrize("kind", KINDS)
def test_moves_there_and_back(folder, host, switches, kind):
    """All connections survive with every byte; the network learns of the move by a RARP of the switch's."""
    make, props = KINDS[kind]
    props = props | {"guest_announce": False}
    guest = make("moving", [nic(folder, "a", **props)], directory=folder / "vm-a", memory=192)
    rarps = Rarps(host, "br0")
    try:
        guest.start()
        guest.wait_ready(120)
        for name, other in ("ba", "ab"):
            with Peer(host) as peer, Pings(host, folder / "pings") as pings:
                reach_host(guest)
                jobs = talk(guest, peer)
                rarps.count()
                guest, told = move(guest, folder, name, peer, props)
                switches[name].wait_link("vm", "up")
                switches[other].wait_link("vm", "down")
                used = switches[name].json("port show vm")["features"].split()
                assert ("RING_PACKED" in used, "ACCESS_PLATFORM" in used) == (kind == "packed", kind == "iommu")
                assert peer.was_parked.is_set(), "it had moved before anything could be parked"
                assert rarps.count() > 0, "nobody told the network where the guest is now"
                reach_host(guest)
                got = sums(guest, peer, jobs)
            assert got == [peer.down.hexdigest(), peer.parked.hexdigest(), peer.up.hexdigest()]
            learnt = {row["address"]: row["port"] for row in switches[name].json("fdb show")}
            assert learnt[MAC] == "vm"
            for switch in switches.values():
                assert "refused" not in switch.log and "Event does not exist" not in switch.log
            print(f"{kind}, {other} to {name}: {told['total-time']} ms, down {told['downtime']} ms; "
                  f"{told['ram']['dirty-sync-count']} rounds, {told['ram']['transferred'] >> 20} MiB; "
                  f"{pings.lost} of {pings.sent} pings lost, the longest silence {pings.longest * 1000:.0f} ms "
                  f"(usually {pings.usual * 1000:.0f} ms)")
            assert pings.longest < 60
    finally:
        rarps.close()
        guest.stop()
