# SPDX-License-Identifier: BSD-3-Clause
"""What doc/attach.md says, done: its command lines are taken out of the page and run."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from guest import Guest, GuestError, Nic
from hostnet import Longest, Namespace, Web
from page import PAGE, LibvirtGuest, Page, PageGuest, UnsharedGuest, block, override
from testpmd import Testpmd, cpus, frontend_eal, loadable

from sluice import TOP, Sluice, binary

PREFIX = f"sl{os.getpid()}"
HOST, NET = "192.0.2.1", "192.0.2"  # as in the page
EVERY = ",".join(map(str, cpus()))

# One interface each of the guest with variations, after that of the page.
VARIATIONS = {
    "legacy": {"disable-modern": True},
    "nomrg": {"mrg_rxbuf": False},
    "noevent": {"event_idx": False},
    "noindirect": {"indirect_desc": False},
    "mtu": {"host_mtu": 1400},
    "bare": {"disable-modern": True, "mrg_rxbuf": False, "event_idx": False, "indirect_desc": False},
    "packed": {"packed": True},
    "packedbare": {"packed": True, "mrg_rxbuf": False, "event_idx": False, "indirect_desc": False},
    "plain": dict.fromkeys(("csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "guest_csum", "guest_tso4",
                            "guest_tso6", "guest_ecn", "guest_ufo"), False),
}

# Several interfaces of one kernel in one broadcast domain: each answers for its own addresses only.
ANSWERS_FOR_ITSELF = "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"


# ---- what the tests share ----

@pytest.fixture(scope="module")
def host():
    """The network the switch's TAP and veth are in."""
    with Namespace(PREFIX) as namespace:
        namespace.run(*ANSWERS_FOR_ITSELF.split())
        yield namespace


@pytest.fixture(scope="module")
def page(folder, host):
    return Page(folder, host)


@pytest.fixture(scope="module")
def switch(page, host):
    """A switch with two workers, the page's ports, and one for each variation and trouble."""
    ports = [line for name in ("qemu", "qemu-connect", "libvirt", "libvirt-connect", "container")
             for line in page.commands(f"{name}-port")]
    ports += [f"port add {name} listen {page.folder}/{name}"
              for name in (*VARIATIONS, "down", "private", "unshared", "few")]
    eal = [f"--lcores=0@({EVERY}),1@{cpus()[0]},2@{cpus()[-1]}", "--no-pci", "--in-memory", "-m", "256",
           f"--file-prefix={PREFIX}_attach"]
    page.switch = Sluice(page.folder, commands=ports, eal=eal)
    try:
        with host.entered():
            page.switch.start()
        page.do("tap")
        yield page.switch
    finally:
        page.switch.close()


class Guests:
    """All guests of this module, started together, so that each test waits only for what is not yet up."""

    def __init__(self, page):
        self.all, self._ready = {}, set()
        listens, connects = page.words("qemu-listen"), page.words("qemu-connect")
        queues, hugepages = page.words("qemu-queues"), page.words("qemu-hugepages")
        self._add(PageGuest("vm2", override(listens, connects, queues, hugepages), address=f"{NET}.2/24", cpus=2,
                            directory=page.folder / "vm2"))
        nics = [Nic(f"{page.folder}/{name}", address=f"10.0.{n}.1/24", props=props)
                for n, (name, props) in enumerate(VARIATIONS.items())]
        self._add(PageGuest("vm1", listens, address="10.0.9.1/24", directory=page.folder / "vm1",
                            nics=[*nics, Nic(f"{page.folder}/down")]))
        self._add(Guest("private", [Nic(f"{page.folder}/private", address=f"{NET}.7/24")], share=False, memory=128,
                        directory=page.folder / "private.d"))
        self._add(UnsharedGuest("unshared", [Nic(f"{page.folder}/unshared", address=f"{NET}.8/24")], memory=128,
                                directory=page.folder / "unshared.d"))

    def _add(self, guest):
        self.all[guest.name] = guest

    def __getitem__(self, name):
        """The guest, up."""
        if name not in self._ready:
            self.all[name].wait_ready(120)
            self._ready.add(name)
        return self.all[name]


@pytest.fixture(scope="module")
def guests(page, switch):
    started = Guests(page)
    try:
        for guest in started.all.values():
            guest.start()
        yield started
    finally:
        for guest in started.all.values():
            guest.stop()


def ping(vm, address, count=3):
    """Every answer arrives; only the first may take a while."""
    vm.check(f"for i in $(seq 40); do ping -c 1 -W 1 {address} && exit 0; sleep 0.2; done; exit 1", 60)
    status, output = vm.run(f"ping -c {count} -i 0.2 -W 5 {address}", 30)
    assert status == 0 and " 0% packet loss" in output, output


def until(condition, what, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {timeout} s"
        time.sleep(0.05)


def shown(switch, port):
    return switch.json(f"port show {port}")


def features(switch, port):
    return set(shown(switch, port)["features"].split())


def states(switch, port):
    return [ring["state"] for ring in shown(switch, port)["rings"]]


# ---- the page itself ----

def documented():
    """(block, the paragraph under it, or under the last of several blocks), for every block of commands."""
    text = PAGE.read_text()
    for match in re.finditer(r"^```\w*\n(.*?)^```\n", text, re.M | re.S):
        rest = text[match.end():]
        said = re.search(r"^\*?(Run by|All \w+ run by|Not run here)(.*?)(\*$|\*\s|\n\n)", rest, re.M | re.S)
        yield match.group(1), said.group() if said else ""


def test_every_block_says_who_runs_it():
    """And the test exists. A block that nobody runs says so."""
    blocks = list(documented())
    assert len(blocks) > 20
    named = set(re.findall(r"`(test_\w+\.(?:py|c))::(\w+)`", PAGE.read_text()))
    for text, said in blocks:
        assert said, f"doc/attach.md does not say who runs:\n{text}"
        assert "Not run here: " in said or re.search(r"`test_\w+\.py::test_\w+`", said), said
    for file, name in named:
        (path,) = (TOP / "test").rglob(file)
        assert re.search(rf"^(def|static void) {name}\(", path.read_text(), re.M), f"there is no {file}::{name}"


def test_every_trouble_is_explained():
    """The page has each of the sentences `port show` can say, word by word."""
    body = (TOP / "lib/vhost_user/vu_device.c").read_text().partition("vu_trouble_text(enum")[2].partition("\n}\n")[0]
    sentences = ["".join(re.findall(r'"([^"]*)"', words)) for words in re.findall(r"\] =\s*((?:\"[^\"]*\"\s*)+)", body)]
    assert len(sentences) > 10 and sentences[0] == "none"
    sentences[0] = "the guest has posted no receive buffer: is its interface up (ip link set eth0 up)?"
    page = PAGE.read_text()
    assert [s for s in sentences if f"\n| {s} |" not in page] == []


def test_readme_has_the_same_lines():
    readme = re.sub(r"\s+", " ", (TOP / "README.md").read_text())
    for name in ("qemu-listen", "libvirt-memory", "libvirt-listen"):
        for line in block(name).splitlines():
            line = line.strip().replace("vm3", "vm1").replace(":03'", ":01'").removeprefix("$ ")
            assert line in readme, f"README.md lacks a line of doc/attach.md: {line}"


def test_command_lines(page):
    """The switch starts as the page has it, and takes commands."""
    words = page.words("switch")
    at = words.index("--")
    words[:at] = [str(binary()), *words[1:at], "-m", "256", f"--file-prefix={PREFIX}_line"]
    done = subprocess.run([*words, "--control", "none"], input="port show\nquit\n", capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == 0, done.stderr


# ---- QEMU ----

def test_qemu_listens(switch, guests):
    """QEMU made the socket; the switch found it and comes back to it after it was lost."""
    switch.wait_link("vm2", timeout=90)
    port = shown(switch, "vm2")
    assert (port["kind"], port["mode"], port["queue_pairs"]) == ("connect", "connect", 4)
    ping(guests["vm2"], HOST)


def test_hugepages(switch, guests):
    """The guest's memory is in one region of 2 MiB pages."""
    ping(guests["vm2"], HOST)
    assert [(r["mib"], r["page_kib"]) for r in shown(switch, "vm2")["memory"]] == [(512, 2048)]


def sent_by_queue(vm, queues):
    words = vm.check("ethtool -S eth0")
    return [int(re.search(rf"tx_queue_{q}_packets: (\d+)", words).group(1)) for q in range(queues)]


def test_queues(page, switch, guests):
    """Four pairs, each used by the guest, each polled by one lcore, and counted as the guest counts."""
    vm = guests["vm2"]
    (line,) = page.lines("guest-queues")
    vm.check(line.removeprefix("$ "))
    until(lambda: states(switch, "vm2") == ["running"] * 8, "running queues")
    assert {ring["size"] for ring in shown(switch, "vm2")["rings"]} == {1024}
    port = shown(switch, "vm2")["port"]
    text = switch.run("show config rxtx").partition(f"  port {port}: ")[2].partition("\n  port ")[0]
    assert re.findall(r"RX desc=(\d+)", text) == ["1024"] * 4
    lcores = re.findall(r"polled by lcore (\d+)", text)
    assert len(lcores) == 4 and set(lcores) == {"1", "2"}, text
    # Each flow has a queue by its hash, each processor its own queues.
    flows = ("for i in $(seq 60); do "
             f"taskset $((i % 2 + 1)) traceroute -n -q 1 -m 1 -w 1 -p $((30000 + i * 7)) {HOST} & done; wait")
    for _ in range(5):
        vm.run(flows, 60)
        if min(sent_by_queue(vm, 4)) > 0:
            break
    until(lambda: [ring["packets"] for ring in shown(switch, "vm2")["rings"][1::2]] == sent_by_queue(vm, 4),
          "agreement on what each queue sent", 5)
    assert min(sent_by_queue(vm, 4)) > 0, "a queue was not used"


def test_queues_come_and_go(switch, guests):
    """The guest takes queues out of use and back while it pings; they leave and join their lcores at once."""
    vm = guests["vm2"]
    ping(vm, HOST)
    before = dropped(switch, "vm2")
    pinging = vm.popen(f"ping -c 60 -i 0.05 -W 5 {HOST}")
    for n in (1, 3, 4, 2, 4, 1):
        vm.check(f"ethtool -L eth0 combined {n}")
        until(lambda n=n: states(switch, "vm2") == ["running"] * 2 * n + ["disabled"] * (8 - 2 * n), f"{n} queues")
        streams = [s for s in switch.json("show config fwd")["streams"] if s["name"] == "vm2"]
        assert ["lcore" in stream for stream in streams] == [True] * n + [False] * (4 - n)
        unused = re.search(r"Not polled: (\d) of 4 queues of port \d+ \(vm2\)", switch.run("show config fwd"))
        assert (int(unused.group(1)) if unused else 0) == 4 - n
    status, output = pinging.wait(60)
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) packets received", output).groups())
    after = dropped(switch, "vm2")
    # What was under way in a queue that left, in either direction.
    discarded = sum(after.pop(why, 0) - before.pop(why, 0) for why in ("rx_ring_disabled", "tx_ring_disabled"))
    assert sent == 60 and sent - received <= discarded, f"{output}\nbut {discarded} were in queues taken out of use"
    assert after == before
    ping(vm, HOST)


def dropped(switch, port):
    sums = {}
    for drop in shown(switch, port)["drops"]:
        sums[drop["reason"]] = sums.get(drop["reason"], 0) + drop["packets"]
    return sums


@pytest.fixture(scope="module")
def web(guests):
    """A web server in vm2, which has an address in each of vm1's nets. The checksum of its file."""
    vm = guests["vm2"]
    vm.check("".join(f"ip addr add 10.0.{n}.254/24 dev eth0; " for n in (*range(len(VARIATIONS)), 9)) +
             "mkdir -p /srv; dd if=/dev/urandom of=/srv/file bs=64k count=24 2>/dev/null; httpd -h /srv")
    return vm.check("sha256sum < /srv/file").split()[0]


EXPECTED = {  # (features there must be, features there must not be)
    "vm1": ({"VERSION_1", "MRG_RXBUF", "EVENT_IDX", "INDIRECT_DESC", "HOST_TSO4", "GUEST_TSO4"}, set()),
    "legacy": ({"ANY_LAYOUT", "MRG_RXBUF", "EVENT_IDX", "INDIRECT_DESC"}, {"VERSION_1"}),
    "nomrg": ({"VERSION_1", "GUEST_TSO4"}, {"MRG_RXBUF"}),
    "noevent": ({"VERSION_1", "MRG_RXBUF"}, {"EVENT_IDX"}),
    "noindirect": ({"VERSION_1", "MRG_RXBUF"}, {"INDIRECT_DESC"}),
    "mtu": ({"MTU", "GUEST_TSO4"}, set()),
    "bare": ({"GUEST_TSO4"}, {"VERSION_1", "MRG_RXBUF", "EVENT_IDX", "INDIRECT_DESC"}),
    "packed": ({"RING_PACKED", "MRG_RXBUF", "EVENT_IDX", "INDIRECT_DESC", "GUEST_TSO4"}, set()),
    "packedbare": ({"RING_PACKED", "GUEST_TSO4"}, {"MRG_RXBUF", "EVENT_IDX", "INDIRECT_DESC"}),
    "plain": ({"VERSION_1", "MRG_RXBUF"}, {"CSUM", "GUEST_CSUM", "HOST_TSO4", "GUEST_TSO4", "HOST_UFO", "GUEST_UFO"}),
}


@pytest.mark.parametrize("port, net", [("vm1", 9), *((name, n) for n, name in enumerate(VARIATIONS))])
def test_variations(switch, guests, web, port, net):
    """Each kind of device talks to a modern one: ping, and a file in both directions, in 64 KiB frames where it can."""
    vm, other = guests["vm1"], guests["vm2"]
    vm.check(f"{ANSWERS_FOR_ITSELF}; httpd -h / 2>/dev/null; true")
    have, lack = EXPECTED[port]
    assert have <= features(switch, port) and not lack & features(switch, port)
    ping(vm, f"10.0.{net}.254")
    assert vm.check(f"timeout 50 wget -q -O - http://10.0.{net}.254/file | tee /got | sha256sum", 60).split()[0] == web
    assert other.check(f"timeout 50 wget -q -O - http://10.0.{net}.1/got | sha256sum", 60).split()[0] == web
    assert set(dropped(switch, port)) <= {"tx_no_guest_buffer", "no_destination", "tx_not_connected", "tx_ring_stopped"}


def test_mtu(switch, guests):
    """What the VM's command line says the guest's interface has, and nobody sends it more."""
    net = list(VARIATIONS).index("mtu")
    vm, other = guests["vm1"], guests["vm2"]
    device = vm.check(f"ip -o -4 addr show to 10.0.{net}.1 | awk '{{print $2}}'").strip()
    assert vm.check(f"cat /sys/class/net/{device}/mtu").strip() == "1400"
    assert shown(switch, "mtu")["mtu"] == 1400
    ping(vm, f"10.0.{net}.254")
    status, output = other.run(f"ping -c 3 -i 0.2 -W 5 -s {1400 - 28} 10.0.{net}.1", 30)
    assert status == 0 and " 0% packet loss" in output, output
    before = dropped(switch, "mtu").get("tx_mtu_exceeded", 0)
    status, output = other.run(f"ping -c 3 -i 0.2 -W 1 -s {1400 - 28 + 9} 10.0.{net}.1", 30)
    assert status != 0 and "100% packet loss" in output, output
    assert dropped(switch, "mtu")["tx_mtu_exceeded"] == before + 3


# ---- uplinks ----

OFFLOADS = ["tx on sg on tso on gso on", "tso off gso on", "tso off gso off tx off sg off"]


def both_ways(vm, vm_address, web, host_web, host_address):
    assert host_web.fetch(vm_address, "/file") == web
    got = vm.check(f"timeout 50 wget -q -O - http://{host_address}/ | sha256sum", 60)
    assert got.split()[0] == host_web.checksum


@pytest.mark.parametrize("offloads", OFFLOADS)
def test_offloads_towards_a_tap(switch, guests, host, web, offloads):
    """Whatever the guest leaves to the switch, the host gets correct frames that fit its MTU."""
    vm = guests["vm2"]
    vm.check(f"ethtool -K eth0 {offloads}")
    before, up_before = shown(switch, "vm2")["counters"], shown(switch, "up")
    try:
        ping(vm, HOST)
        with Web(host, HOST) as host_web, Longest(host, "sluice0") as longest:
            both_ways(vm, f"{NET}.2", web, host_web, HOST)
    finally:
        vm.check(f"ethtool -K eth0 {OFFLOADS[0]}")
    after, up = shown(switch, "vm2")["counters"], shown(switch, "up")
    size = (after["rx_bytes"] - before["rx_bytes"]) / (after["rx_packets"] - before["rx_packets"])
    assert (size > 2000) == ("tso on" in offloads), f"the guest sent frames of {size:.0f} bytes on average"
    assert 1500 < longest.bytes <= 1514
    assert up["counters"]["tx_errors"] == up_before["counters"]["tx_errors"]
    assert set(dropped(switch, "up")) <= {"no_destination", "same_port"}


def test_iperf_through_a_tap(switch, guests, host):
    """TCP for two seconds, guest to host and host to guest."""
    vm = guests["vm2"]
    ping(vm, HOST)
    for reverse, arrived in (("", "sum_received"), ("-R", "sum_sent")):
        argv = host.argv("iperf3", "-s", "-1", "-J")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
            try:
                vm.check(f"for i in 1 2 3 4 5; do iperf3 -c {HOST} -t 2 {reverse} && exit 0; sleep 0.5; done; exit 1",
                         60)
                report = json.loads(server.communicate(timeout=30)[0])
            finally:
                server.kill()
        assert report["end"][arrived]["bytes"] > 100_000, report["end"]
    assert shown(switch, "up")["counters"]["tx_errors"] == 0


def test_offloads_towards_af_packet(page, switch, guests, host, web):
    """A device without any offload: the switch cuts and computes everything."""
    vm = guests["vm2"]
    page.do("af-packet")
    vm.check("ip addr add 198.51.100.2/24 dev eth0")
    try:
        assert shown(switch, "lan")["tx_offloads"] == ["MULTI_SEGS"]
        ping(vm, "198.51.100.1")
        with Web(host, "198.51.100.1") as host_web, Longest(host, "veth1") as longest:
            both_ways(vm, "198.51.100.2", web, host_web, "198.51.100.1")
        assert 1500 < longest.bytes <= 1514
    finally:
        switch.run("port del lan")
        host.run("ip", "link", "del", "sluice1")
        vm.check("ip addr del 198.51.100.2/24 dev eth0")


# ---- libvirt ----

def test_libvirt(page, switch, host):
    """One domain with two interfaces, one in each direction, with queues and larger rings."""
    if not shutil.which("virt-qemu-run"):
        pytest.skip("virt-qemu-run is missing (usertools/setup installs libvirt-daemon-driver-qemu)")
    with LibvirtGuest(page, [f"{NET}.3/24", f"{NET}.4/24"], directory=page.folder / "vm3") as vm:
        vm.wait_ready(120)
        vm.check(f"{ANSWERS_FOR_ITSELF}; ip route add {NET}.2 dev eth0 src {NET}.3; "
                 f"ip route add {HOST} dev eth1 src {NET}.4")
        assert (shown(switch, "vm3")["mode"], shown(switch, "vm4")["mode"]) == ("listen", "connect")
        assert "on" in vm.check("ethtool -k eth1 | grep tcp-segmentation-offload")
        assert {ring["size"] for ring in shown(switch, "vm4")["rings"]} == {1024}
        until(lambda: states(switch, "vm3") == ["running"] * 2, "running queues")
        ping(vm, HOST)
        assert shown(switch, "vm4")["counters"]["rx_packets"] > 3
        host.run("ping", "-c", "2", "-W", "5", f"{NET}.3")
        assert shown(switch, "vm3")["counters"]["rx_packets"] > 1
    until(lambda: shown(switch, "vm3")["front_end"] == "not connected", "end of the connection")


def test_permissions(page, switch):
    """Another user may not connect, unless the port was added as the page has it."""
    def connect(path):
        code = f"import socket; socket.socket(socket.AF_UNIX).connect('{path}')"
        return subprocess.run(["setpriv", "--reuid=64055", "--regid=64055", "--clear-groups", "/usr/bin/python3", "-c", code],
                              capture_output=True, text=True, check=False)
    folder_mode = os.stat(page.folder)
    os.chmod(page.folder, 0o755)
    page.do("permissions")
    try:
        refused, done = connect(f"{page.folder}/vm1.sock"), connect(f"{page.folder}/vm9.sock")
        assert refused.returncode == 1 and "PermissionError" in refused.stderr
        assert done.returncode == 0, done.stderr
        assert "socket_access: owner 0 group 64055 mode 0660" in re.sub(" +", " ", switch.run("port show vm9"))
    finally:
        switch.run("port del vm9")
        os.chmod(page.folder, folder_mode.st_mode & 0o777)


# ---- other DPDK programs ----

def page_testpmd(page, name, replace=(), ring="split"):
    """A testpmd with the command line of a block; its ring is of the other format where the test says so."""
    words = page.words(name)
    assert words[0] == "dpdk-testpmd"
    at = words.index("--")
    eal, app = words[1:at], words[at + 1:]
    assert app[0] == "-i"
    for old, new in (("-l", f"--lcores=0@({EVERY}),1@{cpus()[-1]}"), *replace):
        at = eal.index(old)
        eal[at:at + 2] = new if isinstance(new, list) else [new]
    eal = [re.sub(r"^--file-prefix=", f"--file-prefix={PREFIX}", word) for word in eal]
    if ring == "packed":
        eal = [f"{word},packed_vq=1" if word.startswith("net_virtio_user") else word for word in eal]
    return Testpmd(name, eal, app[1:])


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_containers(page, switch, ring):
    """Two programs with virtio-user ports, one in each direction, through the bridge to each other."""
    with page_testpmd(page, "container-listens", ring=ring) as c2, page_testpmd(page, "container", ring=ring) as c1:
        switch.wait_link("c1")
        switch.wait_link("c2")
        assert ["RING_PACKED" in features(switch, port) for port in ("c1", "c2")] == [ring == "packed"] * 2
        sent = [r["packets"] for r in shown(switch, "c1")["rings"][1::2]]
        assert states(switch, "c1") == ["running"] * 4
        assert {ring["size"] for ring in shown(switch, "c1")["rings"]} == {1024}
        c2.command("set fwd rxonly")
        c2.command("start")
        c1.command("set eth-peer 0 52:54:00:00:00:12")
        c1.command("set fwd rxonly")
        c1.command("start tx_first 2")  # 64 packets on each queue
        c2.wait_until(lambda pmd: pmd.stats()["RX-packets"] >= 128, "128 packets")
        assert [r["packets"] - n for r, n in zip(shown(switch, "c1")["rings"][1::2], sent)] == [64, 64]


def test_stock_testpmd(page):
    """The driver in the distribution's testpmd; a container's program is on the other side."""
    built = Path(os.environ.get("SLUICE_BUILD", TOP / "build"), "drivers/net/sluice/librte_net_sluice.so")
    driver, copied = loadable(built)
    vdev = f"net_virtio_user0,path={page.folder}/vm6.sock,queues=2"
    try:
        with (page_testpmd(page, "testpmd", [("-d", ["-d", str(driver), f"--file-prefix={PREFIX}pmd"])]) as back,
              Testpmd("front", frontend_eal(vdev), ["--rxq=2", "--txq=2"]) as front):
            back.wait_link("up")
            back.command("set fwd rxonly")
            back.command("start")
            front.command("set fwd rxonly")
            front.command("start tx_first 2")
            back.wait_until(lambda pmd: pmd.stats()["RX-packets"] == 128, "128 packets")
    finally:
        if copied:
            shutil.rmtree(copied)


# ---- when a guest does not come up ----

def trouble(switch, port):
    return shown(switch, port).get("trouble", "none")


def test_trouble(page, switch, guests):
    """The sentences of the page, from guests that have each of these troubles."""
    assert trouble(switch, "few").startswith("no front-end has connected: is the VM running")
    few = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-machine", "none",
           "-chardev", f"socket,id=c0,path={page.folder}/few,reconnect=1",
           "-netdev", "vhost-user,id=n0,chardev=c0,queues=2"]
    with (page.folder / "few.log").open("wb") as log, subprocess.Popen(few, stdout=log, stderr=log) as qemu:
        try:
            until(lambda: trouble(switch, "few").startswith("the VM uses more queues than the port has"), "a reason")
        finally:
            qemu.kill()
    with (page.folder / "few.log").open(errors="replace") as log:
        assert "you are asking more queues than supported: 1" in log.readline()
    guests["private"]
    until(lambda: trouble(switch, "private").startswith("the guest's driver is at work, but not in the memory we see"),
          "a reason", 5)
    assert shown(switch, "private")["link"] == "up"
    guests["unshared"]
    until(lambda: trouble(switch, "unshared").startswith("the guest's driver has started, but no memory was shared"),
          "a reason", 5)
    vm = guests["vm1"]
    assert trouble(switch, "down").startswith("the guest has posted no receive buffer: is its interface up")
    vm.check(f"ip link set eth{len(VARIATIONS)} up")
    until(lambda: trouble(switch, "down") == "none", "end of the trouble", 5)
    # Each interface of this guest has a driver of its own, as the virtio bus numbers them.
    vm.check(f"echo virtio{len(VARIATIONS)} > /sys/bus/virtio/drivers/virtio_net/unbind")
    until(lambda: trouble(switch, "down").startswith("connected, but the guest's driver has not started"),
          "a reason", 5)
    with pytest.raises(GuestError):
        vm.check(f"ip link show eth{len(VARIATIONS)}")
