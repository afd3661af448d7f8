# SPDX-License-Identifier: BSD-3-Clause
"""Ports of a running switch: many of them, coming and going under traffic, saved and loaded, refused, ended."""

import contextlib
import glob
import itertools
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from loop import Loop, counters, front, lost
from sluice import Sluice, SluiceError, binary, crossed
from testpmd import cpus, lcores

_serial = itertools.count()
EVERY = ",".join(map(str, cpus()))
TWO_WORKERS = f"--lcores=0@({EVERY}),1@{cpus()[0]},2@{cpus()[-1]}"


def eal(lcore_option=None, memory=("--in-memory", "-m", "256")):
    """EAL options for a switch that is not started through the class Sluice, or not with its usual ones."""
    return [*([lcore_option] if lcore_option else lcores(0)), "--no-pci", *memory,
            f"--file-prefix=sl{os.getpid()}_p{next(_serial)}"]


@pytest.fixture(scope="module")
def many(folder):
    """A switch with 40 VM ports."""
    with Sluice(folder, commands=[f"port add vm{n} listen {folder}/many{n}" for n in range(40)]) as running:
        yield running


@pytest.fixture(scope="module")
def last_two(folder, many):
    """A testpmd on the last two of them."""
    with front(folder / "many38", folder / "many39") as pmd:
        for port in ("vm38", "vm39"):
            many.wait_link(port)
        yield pmd


# ---- many, and coming and going ----

def test_more_than_32_ports(many, last_two):
    """DPDK's 32 ethdevs are no limit for VM ports, and the last are as good as the first."""
    assert [row["port"] for row in many.json("port show")] == list(range(40))
    last_two.command("set fwd rxonly")
    for n in (1, 0):
        last_two.command(f"set eth-peer {n} 02:00:00:00:01:{1 - n:02x}")
    last_two.command("start tx_first 4")  # txonly: 128 packets from each port
    last_two.wait_until(lambda pmd: pmd.stats(0)["RX-packets"] == pmd.stats(1)["RX-packets"] == 128, "every arrival")
    last_two.command("stop")
    assert [c["rx_packets"] for c in counters(many, "vm38", "vm39")] == [128, 128]
    assert [c["tx_packets"] for c in counters(many, "vm38", "vm39")] == [128, 128]
    assert lost(many, *(f"vm{n}" for n in range(40))) == {}


@pytest.fixture
def loop(many, last_two):
    """Traffic on the last two ports, connected to each other."""
    many.run("cross add vm38 vm39")
    many.run("set fwd cross")
    for port in ("38", "39"):
        many.run(f"clear port stats {port}")
    last_two.command("clear port stats all")
    running = Loop(many, last_two, "vm38", "vm39")
    try:
        yield running
    finally:
        many.run("set fwd bridge")
        many.run("cross del vm38")


def test_trap_5_14_add_and_delete_200_times_under_traffic(folder, many, loop):
    """Ports come, are connected to, and go; two others lose nothing meanwhile."""
    path = folder / "churn"
    for n in range(200):
        many.run(f"port add churn {'connect' if n % 3 == 2 else 'listen'} {path} queues {1 + n % 4}")
        if n % 3 == 0:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                many.run("port del churn")
        else:
            many.run("port del churn")
        assert not path.exists()
    loop.moving()
    assert min(loop.stop()) > 2000
    assert len(many.json("port show")) == 40


def test_trap_5_14_neighbours_reconnect_under_traffic(folder, many, loop):
    """A front-end comes and goes ten times, link and queues with it; two others lose nothing meanwhile."""
    for _ in range(2):
        with front(folder / "many0"):
            many.wait_link("vm0")
        many.wait_link("vm0", "down")
    assert min(loop.stop()) > 2000


# ---- who polls ----

@pytest.fixture(scope="module")
def pair(folder):
    """A switch with two workers and two ports, a and b, and a testpmd on them."""
    ports = [f"port add {port} listen {folder}/{port}" for port in ("a", "b")]
    with Sluice(folder, commands=ports, eal=eal(TWO_WORKERS)) as switch, front(folder / "a", folder / "b") as pmd:
        for port in ("a", "b"):
            switch.wait_link(port)
        yield switch, pmd


def polled(switch):
    """Who polls what, as `show config rxtx` says it: {port number: (lcore, pinned)}."""
    text = switch.run("show config rxtx")
    found = {}
    for part in re.split(r"^  port ", text, flags=re.M)[1:]:
        match = re.search(r"polled by lcore (\d+)( \(pinned\))?", part)
        found[int(part.split(":")[0])] = (int(match.group(1)), bool(match.group(2))) if match else None
    return found


def test_new_queues_are_spread(pair):
    assert {lcore for lcore, _ in polled(pair[0]).values()} == {1, 2}


def test_pin_under_traffic(pair):
    """A queue is moved to and fro, while it is polled, and loses nothing."""
    switch, pmd = pair
    switch.run("cross add a b")
    switch.run("set fwd cross")
    loop = Loop(switch, pmd, "a", "b")
    for n in range(40):
        lcore = 1 + n % 2
        switch.run(f"queue pin a 0 {lcore}")
        assert polled(switch)[0] == (lcore, True)
    loop.moving()
    assert switch.json("show config fwd")["streams"][0]["lcore"] == 2
    assert "Logical Core 2" in switch.run("show config cores")
    switch.run("queue unpin a 0")
    assert polled(switch)[0] == (2, False), "an unpinned queue stays where it is"
    assert min(loop.stop()) > 2000


def test_cross_connect(pair, folder):
    """Connected ports hear each other and nobody else; without a partner everything is dropped for that reason."""
    switch, pmd = pair
    switch.run("port add c listen " + str(folder / "c"))
    for command in ("clear port stats all", "set fwd cross"):
        switch.run(command)
    pmd.command("clear port stats all")
    pmd.command("set fwd rxonly")
    pmd.command("start tx_first 2")
    pmd.wait_until(lambda p: p.stats(0)["RX-packets"] == p.stats(1)["RX-packets"] == 64, "every arrival")
    assert switch.json("cross show") == [{"a": "a", "b": "b"}]
    assert counters(switch, "c")[0]["tx_packets"] == 0 and lost(switch, "a", "b", "c") == {}
    with pytest.raises(SluiceError, match=r"^port 'a' is connected to 'b': `cross del a` first$"):
        switch.run("cross add c a")
    switch.run("cross del a")
    pmd.command("stop")
    pmd.command("start tx_first 2")
    switch.wait_until(lambda: lost(switch, "a", "b") == {"no_destination": 128}, "drops with a reason")
    pmd.command("stop")
    assert [pmd.stats(n)["RX-packets"] for n in (0, 1)] == [64, 64]
    assert [c["rx_packets"] for c in counters(switch, "a", "b")] == [128, 128], "rx + drops = offered"
    switch.run("port del c")


# ---- saved and loaded ----

SETTINGS = """
port add gone listen {f}/gone
port add one listen {f}/one queues 3
port add two connect {f}/two queues 128
port add up dev net_null0,size=100
port add ring dev net_ring0
port del gone
set promisc ring off
set link-down port ring
queue pin one 2 2
set eth-peer one 52:54:00:00:00:99
cross add one two
csum set udp hw up
fdb set ageing 17
fdb set limit one 100
fdb set limit two none
fdb static add 52:54:00:00:00:01 one
set portlist 3,1
set topology chained
set burst 17
set burst tx delay 5 retry 7
set share 70
set corelist 1
set txpkts 64,128
set txsplit rand
set txonly ip 10.1.2.3 10.4.5.6
set txonly udp 1000 2000
set txonly multi-flow on
set flowgen flows 77
set record-core-cycles on
set verbose 1
set fwd mac retry
stop
""".strip()


def test_save_and_load(folder):
    """A file made by `config save` starts a switch that would save the same; nothing of ours is forgotten."""
    conf = folder / "saved.conf"
    with Sluice(folder, eal=eal(TWO_WORKERS)) as before:
        usual = before.run("config show")
        for line in SETTINGS.format(f=folder).splitlines():
            before.run(line)
        shown = before.run("config show")
        before.run(f"config save {conf}")
    assert conf.read_text() == shown
    for line in ("set corelist 1", "set promisc ring off", "set link-down port ring", "queue pin one 2 2",
                 "cross add one two", "fdb set ageing 17", "set burst 17", "set share 70", "set fwd mac retry"):
        assert f"\n{line}\n" in shown and f"\n{line}\n" not in usual
    assert not list(folder.glob("saved.conf.*")), "a temporary file is left"
    with Sluice(folder, ["--commands", conf], eal=eal(TWO_WORKERS)) as after:
        assert after.run("config show") == shown
        assert after.run("show config fwd").startswith("mac packet forwarding with retry")
    with Sluice(folder, eal=eal(TWO_WORKERS)) as later:
        later.run(f"commands {conf}")
        assert later.run("config show") == shown


# ---- refused ----

LONG = "/run/" + "x" * 103  # the last name: 86 bytes are one too many where the path has 108

REFUSED = [
    ("prot add vm", "unknown command 'prot'; did you mean 'port'? ('help' lists all)"),
    ("port add vm", "port add: expected 'listen', 'connect' or 'dev' after NAME, but the line ends"),
    ("port add vm lissen {f}/s", "port add: expected 'listen', 'connect' or 'dev' after NAME, got 'lissen'"),
    ("port add vm listen {f}/s queues 129", "queues: 129 is out of range, 1 to 128"),
    ("port add vm listen {f}/s queues many", "queues: 'many' is not a number, 1 to 128"),
    ("port add taken listen {f}/s",
     "there is a port 'taken' already: choose another name or `port del taken` first"),
    ("port add 1vm listen {f}/s",
     "'1vm' cannot name a port: use up to 31 letters, digits, '.', '_' or '-', a letter first"),
    (f"port add vm listen {LONG}", "the socket path has 108 bytes and its last name 103, at most 85 are possible there: choose a shorter one"),
    (f"port add vm connect {LONG}", "the socket path has 108 bytes and its last name 103, at most 85 are possible there: choose a shorter one"),
    ("port add vm listen {f}/taken", "another program serves {f}/taken: stop it or choose another path"),
    ("port add vm listen {f}/file", "{f}/file exists and is not a socket: choose another path"),
    ("port add vm listen {f}/link", "{f}/link exists and is not a socket: choose another path"),
    ("port add vm listen {f}", "{f} exists and is not a socket: choose another path"),
    ("port add vm listen {f}/theirs", "{f}/theirs is a stale socket of user 1000: remove it or choose another path"),
    ("port add vm listen {f}/file/s", "cannot listen at {f}/file/s: Not a directory: choose another path"),
    ("port add vm listen {f}/none/s",
     "cannot listen at {f}/none/s: No such file or directory: make its directory, or choose another path"),
    ("port add vm listen {f}/s owner nobody2", "there is no user 'nobody2': give the name or number of one"),
    ("port add vm listen {f}/s group 4294967295", "there is no group '4294967295': give the name or number of one"),
    ("port add vm listen {f}/s mode 888",
     "mode '888': expected up to three octal digits in which the owner may write, such as 0660"),
    ("port add up dev net_null9", "device 'net_null9' is a port already"),
    ("port add up dev net_nothing0", "DPDK cannot probe device 'net_nothing0' (Bad address): check name and arguments, "
     "for PCI the address and its binding to vfio-pci"),
    ("port add up dev net_af_packet0,iface=nothing", "DPDK cannot probe device 'net_af_packet0,iface=nothing' "
     "(Operation not permitted): check name and arguments, for PCI the address and its binding to vfio-pci"),
    ("port add up dev 0000:99:00.0", "DPDK cannot probe device '0000:99:00.0' (No such device): check name and "
     "arguments, for PCI the address and its binding to vfio-pci"),
    ("port add up dev net_null8 queues 2000", "queues: 2000 is out of range, 1 to 128"),
    ("port del vm", "there is no port 'vm': see `port show`"),
    ("port show vm", "there is no port 'vm': see `port show`"),
    ("queue pin taken 1 1", "port 'taken' has receive queues 0 to 0, no 1"),
    ("queue pin taken 0 0", "lcore 0 forwards no packets: see `show config cores` for those that do"),
    ("cross add taken taken", "a port cannot be its own partner: name two ports"),
    ("cross del taken", "port 'taken' is connected to nobody"),
    ("set fwd cros", "set fwd: unknown word 'cros'; did you mean 'cross'? ('help set fwd' lists all)"),
    ("set eth-peer taken 1", "ADDR: '1' is not a MAC address like 52:54:00:12:34:56"),
    ("config save {f}/none/file", "cannot write '{f}/none/file': No such file or directory"),
    ("commands {f}/none", "{f}/none: No such file or directory"),
    ("commands {f}", "{f}: not a regular file"),
]


@pytest.fixture(scope="module")
def alone(folder):
    """A switch with one port, and a folder with what can be in the way of another."""
    folder = folder / "alone"
    folder.mkdir()
    (folder / "file").write_text("precious")
    (folder / "link").symlink_to(folder / "nowhere")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "theirs"))
        stale.listen()
    os.chown(folder / "theirs", 1000, 1000)
    commands = [f"port add taken listen {folder}/taken", "port add nic dev net_null9"]
    try:
        with Sluice(folder, commands=commands) as running:
            yield running
    finally:
        (folder / "theirs").unlink()


def state(switch):
    """What a refused command must leave as it was."""
    return (switch.run("config show"), len(os.listdir(f"/proc/{switch.pid}/fd")),
            sorted(p.name for p in switch.folder.iterdir()))


@pytest.mark.parametrize("command, line", REFUSED, ids=[command.replace(LONG, "LONG") for command, _ in REFUSED])
def test_refused_with_one_line(alone, command, line):
    before = state(alone)
    with pytest.raises(SluiceError) as refusal:
        alone.run(command.format(f=alone.folder))
    assert str(refusal.value) == line.format(f=alone.folder)
    assert state(alone) == before


def test_stale_socket_is_replaced(alone):
    """What a switch that crashed left is not in the way, and what somebody else put there is not removed."""
    path = alone.folder / "stale"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()
    alone.run(f"port add vm listen {path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        alone.wait_until(lambda: alone.json("port show vm")["front_end"] == "connected", "the new socket")
    path.unlink()
    path.write_text("precious")
    alone.run("port del vm")
    assert path.read_text() == "precious", "a file that is not the port's was removed with it"
    path.unlink()


@pytest.mark.parametrize("length", [107, 108, 1023])
def test_longest_path(alone, length):
    """Also one that does not fit into a socket's address."""
    path = alone.folder
    while length - len(str(path)) > 86:
        path /= "x" * min(length - len(str(path)) - 3, 80)
    path.mkdir(parents=True, exist_ok=True)
    path /= "x" * (length - len(str(path)) - 1)
    assert len(str(path)) == length
    alone.run(f"port add vm listen {path}")
    assert path.is_socket()
    alone.run(f"port add other connect {path}")
    alone.wait_until(lambda: alone.json("port show vm")["front_end"] == "connected", "the other port")
    alone.run("port del other")
    alone.run("port del vm")
    assert not path.exists()


def test_who_may_connect(alone):
    """Nobody but whom the port was given to."""
    path = alone.folder / "given"
    for folder in alone.folder, alone.folder.parent:
        folder.chmod(0o711)
    alone.run(f"port add vm listen {path} owner nobody group 1234 mode 0620")
    now = path.stat()
    assert (now.st_uid, now.st_gid, now.st_mode & 0o777) == (pwd.getpwnam("nobody").pw_uid, 1234, 0o620)
    assert alone.json("port show vm")["socket_access"] == f"owner {now.st_uid} group 1234 mode 0620"
    assert f"port add vm listen {path} queues 1 owner {now.st_uid} group 1234 mode 0620\n" in alone.run("config show")
    powers = "-dac_override,-dac_read_search"
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    for user, allowed in ((now.st_uid, True), (now.st_uid - 1, False)):
        done = subprocess.run(["setpriv", f"--reuid={user}", "--clear-groups", "--regid=4321", f"--bounding-set={powers}",
                               "/usr/bin/python3", "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == allowed and ("PermissionError" in done.stderr) != allowed, done.stderr
    alone.run("port del vm")
    assert not path.exists()


# ---- started wrongly ----

def eal_files():
    """What DPDK programs put outside their own folders."""
    found = glob.glob("/dev/hugepages/*") + glob.glob("/var/run/dpdk/*")
    return {path for path in found if f"sl{os.getpid()}_" in path}


def run_sluice(arguments, options=(), wrapper=(), script="", timeout=20):
    """sluice, run to its end with commands from standard input. (exit status, its own lines, all it said)"""
    before = eal_files()
    argv = [*wrapper, binary(), *arguments, "--", "--control", "none", *options]
    done = subprocess.run([str(a) for a in argv], input=script, capture_output=True, text=True, timeout=timeout,
                          check=False)
    assert eal_files() == before, "files left behind"
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("sluice: ")], done


def private_mounts(commands):
    """A wrapper that runs these shell commands first, in a mount namespace of its own."""
    return ["unshare", "--mount", "sh", "-c", f'{commands}\nexec "$@"', "sh"]


WRONG = [
    (None, ["--fnord"], "there is no option --fnord (EAL options stand before --; see --help)"),
    (None, ["--burst", "65"], "--burst wants a number from 1 to 64, not '65'"),
    (None, ["fnord"], "'fnord' is no option (see --help)"),
    (None, ["--commands", "/nonexistent"], "/nonexistent: No such file or directory"),
    (["-l", "0"], [], "no lcore left to forward packets: give two or more, as in -l 0,1"),
    (["--fnord"], [], "DPDK did not start (Invalid argument): see its message above; our own options stand after --"),
]


@pytest.mark.parametrize("arguments, options, line", WRONG)
def test_wrong_options(arguments, options, line):
    arguments = ["--no-pci", "--in-memory", "-m", "256", f"--file-prefix=sl{os.getpid()}_w", *(arguments or lcores(0))]
    status, said, _ = run_sluice(arguments, options)
    assert status == 1 and said == [f"sluice: {line}"]


def test_file_prefix_in_use(folder):
    """A second switch with the prefix of the first goes, and takes nothing of the first with it."""
    options = eal(memory=("-m", "256"))
    with Sluice(folder, eal=options) as running:
        status, said, _ = run_sluice(options)
        assert status == 1 and said == ["sluice: DPDK did not start: another program has this --file-prefix: choose "
                                        "another one, or --in-memory"]
        assert running.json("port show") == []


def test_wrong_line_in_the_configuration(folder):
    conf = folder / "wrong.conf"
    conf.write_text(f"# a comment\nport add vm1 listen {folder}/vm1\n\nport dal vm1\n")
    status, said, _ = run_sluice(eal(), ["--commands", conf])
    assert status == 1 and len(said) == 1
    assert re.fullmatch(rf"sluice: {conf}:4: port: expected 'add', 'del', 'show'.* got 'dal'", said[0])
    assert not (folder / "vm1").exists()


def test_configuration_after_a_reboot(tmp_path):
    """/run is empty then; the configuration may name sockets in /run/sluice all the same."""
    conf = tmp_path / "conf"
    conf.write_text("port add vm1 listen /run/sluice/vm1.sock\n")
    argv = [*private_mounts("mount -t tmpfs none /run"), binary(), *eal(), "--", "-i", "--commands", conf]
    done = subprocess.run([str(a) for a in argv], input="quit\n", capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_control_socket_in_use(folder):
    with Sluice(folder) as running:
        argv = [binary(), *eal(), "--", "--control", running.control]
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1 and done.stderr.splitlines()[-1] == \
            f"sluice: control socket: another program serves {running.control}: " \
            "stop it or choose another path"
        assert running.json("port show") == []


def test_unreadable_path(folder):
    """A root without the power to override permissions, in somebody else's folder."""
    locked = folder / "locked"
    locked.mkdir(mode=0o700)
    os.chown(locked, 1000, 1000)
    powers = "-dac_override,-dac_read_search"
    status, said, done = run_sluice(
        eal(), ["-i"], wrapper=["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"],
        script=f"port add vm1 listen {locked}/s\nport add vm1 connect {locked}/s\nport show vm1\nquit\n")
    assert status == 1, "a script of which a command failed"
    assert f"cannot listen at {locked}/s: Permission denied: choose a path this user may write to\n" in done.stdout
    assert said == [f"sluice: port vm1: cannot connect to {locked}/s yet: Permission denied"]
    assert re.search(r"^trouble: +the front-end's socket cannot be reached: is the VM running with server=on, is the "
                     r"path right, may we open it\? \(Permission denied\)$", done.stdout, re.M)


def test_no_hugepages(folder):
    """A kernel that says it has none and gives none: a hugetlbfs of one page, and what the kernel says replaced."""
    fake = folder / "hugepages"
    pages = fake / "hugepages-2048kB"
    pages.mkdir(parents=True)
    for name in ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages"):
        (pages / name).write_text("0\n")
    wrapper = private_mounts(f"umount /dev/hugepages\nmount -t hugetlbfs -o pagesize=2M,size=2M none /dev/hugepages\n"
                             f"mount --bind {fake} /sys/kernel/mm/hugepages")
    status, said, _ = run_sluice(eal(memory=("-m", "256")), wrapper=wrapper)
    assert status == 1 and said == ["sluice: DPDK did not start: no hugepage is free; reserve some with "
                                    "`usertools/setup`, or run with --no-huge"]


def test_too_few_hugepages():
    """More than there are, as a start and as a pool of mbufs in a hugetlbfs of four pages."""
    status, said, done = run_sluice(eal(memory=("--in-memory", "--socket-mem", "1000000")))
    assert status == 1 and re.search(r"EAL: Not enough memory available.*1000000MB", done.stderr)
    assert said == ["sluice: DPDK did not start (Cannot allocate memory): see its message above; our own options stand "
                    "after --"]
    wrapper = private_mounts("umount /dev/hugepages\nmount -t hugetlbfs -o pagesize=2M,size=8M none /dev/hugepages")
    status, said, _ = run_sluice(eal(memory=()), wrapper=wrapper)
    assert status == 1
    assert said == ["sluice: not enough memory for 32768 mbufs on NUMA node 0 (76 MB): reserve more hugepages with "
                    "usertools/setup, give --no-huge more with -m, or lower --mbufs"]


def small_switch(folder, size):
    """A switch with two neighbours and so many MB for DPDK."""
    ports = {port: folder / port for port in ("near1", "near2")}
    return Sluice(folder, ["--mbufs", "4096"], commands=crossed(ports), eal=eal(memory=("--no-huge", "-m", str(size))))


@pytest.fixture(scope="module")
def least(folder):
    """MB with which a switch starts."""
    for size in range(24, 64):
        try:
            with small_switch(folder, size):
                return size
        except SluiceError as error:
            assert "not enough memory" in str(error) or "DPDK did not start" in str(error)
    raise AssertionError("64 MB are too little")


@pytest.mark.parametrize("driver", ["net_ring", "net_null", "net_tap"])
def test_memory_used_up(folder, least, driver):
    """Devices are added until there is no memory for another one: a line says so, neighbours go on, and who goes gives back."""
    def add(n):
        more = f",iface=slu{os.getpid() % 10000}_{n}" if driver == "net_tap" else ""
        switch.run(f"port add d{n} dev {driver}{n}{more}")

    with small_switch(folder, least + 2) as switch, front(folder / "near1", folder / "near2") as pmd:
        loop = Loop(switch, pmd, "near1", "near2")
        with pytest.raises(SluiceError, match="DPDK's memory is nearly used up: reserve more hugepages with usertools/setup, "
                                              "give --no-huge more with -m, or lower --mbufs$"):
            for n in range(32):
                add(n)
        loop.moving()
        if n > 0:
            switch.run("port del d0")
            add(0)
        loop.stop()
        assert switch.stop() == 0


# ---- ended ----

@pytest.mark.parametrize("sig, again", [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_signals_leave_nothing_behind(folder, sig, again):
    """With a front-end connected and sending: no socket, hugepage file or run-time folder is left, however often it is told to end."""
    own = folder / f"{sig.name}{again}"
    own.mkdir()
    options = eal(memory=("-m", "256"))
    prefix = options[-1].split("=")[1]
    commands = [f"port add {port} listen {own}/{port}" for port in ("vm1", "vm2")]
    with Sluice(own, commands=commands, eal=options) as switch, front(own / "vm1") as pmd:
        switch.wait_link("vm1")
        assert glob.glob(f"/dev/hugepages/{prefix}*") and os.path.isdir(f"/var/run/dpdk/{prefix}")
        pmd.command("set fwd txonly")
        pmd.command("start")
        switch.wait_until(lambda: counters(switch, "vm1")[0]["rx_packets"] > 1000, "traffic")
        switch.process.send_signal(sig)
        while again and switch.process.poll() is None:
            switch.process.send_signal(sig)
            time.sleep(0.0005)
        assert switch.process.wait(10) == 0
        pmd.command("stop")
        assert not [p for p in own.iterdir() if p.is_socket()]
        assert not glob.glob(f"/dev/hugepages/{prefix}*")
        assert not os.path.exists(f"/var/run/dpdk/{prefix}")


def test_run_time_folder_of_two(folder):
    """Two programs with the same --file-prefix: it goes with the last of them."""
    options = eal(memory=("-m", "128"))
    prefix = options[-1].split("=")[1]
    with Sluice(folder, eal=options):
        other = [*lcores(0), "--no-pci", "--in-memory", "-m", "256", options[-1]]
        assert run_sluice(other, ["-i"], script="quit")[0] == 0
        assert {"config", "mp_socket", "dpdk_telemetry.v2"} <= set(os.listdir(f"/var/run/dpdk/{prefix}"))
    assert not os.path.exists(f"/var/run/dpdk/{prefix}")


def test_end_during_a_command(folder):
    """Clients that keep it busy do not keep it alive."""
    with Sluice(folder) as switch:
        stop = threading.Event()

        def busy():
            with contextlib.suppress(SluiceError, OSError, ValueError):
                while not stop.is_set():
                    switch.run("show config fwd")

        client = threading.Thread(target=busy)
        client.start()
        time.sleep(0.2)
        os.kill(switch.pid, signal.SIGTERM)
        try:
            assert switch.process.wait(5) == 0
        finally:
            stop.set()
            client.join()
        assert not switch.control.exists()
