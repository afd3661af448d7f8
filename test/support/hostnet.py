# SPDX-License-Identifier: BSD-3-Clause
"""The host's side of an uplink: a network namespace of the test's own, a web server in it, an eye on its frames.

    with Namespace("x") as host:
        host.run("ip", "link", "set", "lo", "up")
        with host.entered():
            switch.start()          # its TAP devices are in the namespace
"""

import contextlib
import ctypes
import hashlib
import http.client
import http.server
import json
import os
import socket
import subprocess
import threading
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace, from enter to exit."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def argv(self, *argv):
        """A command line that runs another one in here."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv):
        """Run a program in here; what it printed."""
        done = subprocess.run(self.argv(*argv), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def bridge(self, name, address):
        self.run("ip", "link", "add", name, "type", "bridge")
        self.run("ip", "address", "add", address, "dev", name)
        self.run("ip", "link", "set", name, "up")

    @contextlib.contextmanager
    def entered(self):
        """This thread, and what it starts and opens meanwhile, is in here."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{self.name}", "rb") as there:
            assert _libc.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert _libc.setns(home.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


class Tap:
    """An interface of the host's, as somebody has configured it."""

    def __init__(self, name, address):
        self.name = name
        self.ip("addr", "add", address, "dev", name)
        self.before = self.look()

    def ip(self, *words):
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
        return done.stdout

    def look(self):
        link = json.loads(self.ip("-j", "addr", "show", "dev", self.name))[0]
        told = [a["local"] for a in link["addr_info"] if a["family"] == "inet"]
        return link["ifindex"], link["address"], "UP" in link["flags"], told

    def received(self):
        """Frames the host has got, ever."""
        return int(Path(f"/sys/class/net/{self.name}/statistics/rx_packets").read_text())

    def persistent(self):
        return bool(int(Path(f"/sys/class/net/{self.name}/tun_flags").read_text(), 16) & 0x800)

    def there(self):
        return Path(f"/sys/class/net/{self.name}").exists()


class Web:
    """A web server: hands out random bytes whose SHA-256 is .checksum, whatever is asked for; and fetches."""

    def __init__(self, namespace, address, size=1 << 20):
        self.namespace = namespace
        data = os.urandom(size)
        self.checksum = hashlib.sha256(data).hexdigest()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        with namespace.entered():
            self.server = http.server.ThreadingHTTPServer((address, 80), Handler)
        self.server.daemon_threads = True

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def fetch(self, address, path):
        """The checksum of a file from another web server."""
        with self.namespace.entered():
            connection = http.client.HTTPConnection(address, timeout=30)
            connection.connect()
        with contextlib.closing(connection):
            connection.request("GET", path)
            return hashlib.sha256(connection.getresponse().read()).hexdigest()


class Longest:
    """How many bytes the longest frame has that arrives at an interface meanwhile."""

    def __init__(self, namespace, interface):
        with namespace.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind((interface, 0))
        self.socket.settimeout(0.2)
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        frame = bytearray(1 << 17)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                size, sender = self.socket.recvfrom_into(frame)
                if sender[2] != socket.PACKET_OUTGOING:
                    self.bytes = max(self.bytes, size)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.socket.close()
