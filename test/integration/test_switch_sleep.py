# SPDX-License-Identifier: BSD-3-Clause
"""Workers that sleep (`set sleep`): they do, every packet wakes them, none is lost, and who keeps them awake is named."""

import contextlib
import os
import subprocess
import sys
import time

import pytest
from record import Recorder
from testpmd import Testpmd, cpus, frontend_eal

from sluice import Sluice, SluiceError

RINGS = {"split": "packed_vq=0", "packed": "packed_vq=1"}


def guest(folder, ring):
    vdevs = [f"net_virtio_user{n},path={folder}/{port},{RINGS[ring]},mac=02:00:00:00:07:{n:02x}"
             for n, port in enumerate("ab")]
    return Testpmd("guest", frontend_eal(*vdevs), ["--port-topology=paired"])


def core(switch):
    return switch.json("show config cores")[0]


def asleep(switch):
    """Wait until the worker has slept for most of a second."""
    switch.wait_until(lambda: core(switch)["asleep_per_mille"] > 900, "sleep")


def cpu_seconds(switch):
    """CPU time of the worker's thread so far."""
    for task in os.listdir(f"/proc/{switch.pid}/task"):
        with open(f"/proc/{switch.pid}/task/{task}/stat", encoding="ascii") as f:
            name, _, rest = f.read().rpartition(")")
        if "worker" in name:
            fields = rest.split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("no worker thread")


def received(switch, port):
    return switch.json(f"port show {port}")["counters"]["rx_packets"]


def bursts(switch, pmd, n):
    """So many, one when the last has arrived: no packet of them is lost."""
    pmd.command("set fwd rxonly")
    for burst in range(1, n + 1):
        pmd.command("start tx_first 1")
        switch.wait_until(lambda frames=32 * burst: all(received(switch, port) == frames for port in "ab"), "burst", timeout=5)
        pmd.command("stop")
    # The last one may have been sent on after its stop.
    pmd.command("start")
    pmd.wait_until(lambda p: all(p.stats(i)["RX-packets"] >= n * 32 for i in (0, 1)), "the last burst")
    pmd.command("stop")
    assert pmd.stats(0)["RX-packets"] == pmd.stats(1)["RX-packets"] == n * 32


@pytest.mark.parametrize("ring", RINGS)
def test_a_burst_wakes_and_none_is_lost(folder, ring):
    """Forty bursts with a nap between them: all arrive, and the worker slept in between."""
    ports = [f"port add {port} listen {folder}/{port}" for port in "ab"]
    with Sluice(folder, commands=["set sleep 50", *ports, "set fwd io"]) as switch, guest(folder, ring) as pmd:
        for port in "ab":
            switch.wait_link(port)
        asleep(switch)
        used = cpu_seconds(switch)
        time.sleep(1)
        assert cpu_seconds(switch) - used < 0.1, "it says it sleeps, and does not"
        bursts(switch, pmd, 40)
        assert [switch.json(f"port show {port}")["drops"] for port in "ab"] == [[], []]
        asleep(switch)


@pytest.mark.parametrize("ring", RINGS)
def test_a_rarp_wakes(folder, ring):
    """SEND_RARP and nothing else: the guest itself sends no packet. The other guest has it at once."""
    mac, rarp = bytes.fromhex("525400070901"), 1 << 2
    ports = [f"port add a listen {folder}/back", f"port add b listen {folder}/b"]
    with Sluice(folder, commands=["set sleep 50", *ports]) as switch:
        with Recorder(folder / "a", folder / "back") as recorder, guest(folder, ring) as pmd:
            for port in "ab":
                switch.wait_link(port)
            (known,) = (int(line.split()[1], 16) for line in recorder.lines if line.startswith("SET_PROTOCOL_FEATURES"))
            recorder.say("SET_PROTOCOL_FEATURES", (known | rarp).to_bytes(8, "little"))
            pmd.command("set fwd rxonly")
            pmd.command("start")
            for n in range(1, 6):
                asleep(switch)
                recorder.say("SEND_RARP", mac + b"\0\0")
                switch.wait_until(lambda n=n: received(switch, "a") == n, "RARP", timeout=5)
                pmd.wait_until(lambda p, n=n: p.stats(1)["RX-packets"] == n, "RARP at the other guest")
            learnt = {row["address"]: row["port"] for row in switch.json("fdb show")}
            assert learnt[":".join(f"{byte:02x}" for byte in mac)] == "a"
            assert "refused" not in switch.log


def test_commands_wake(folder):
    """What the control thread changes is in force at once, and `quit` ends a switch that sleeps."""
    ports = [f"port add {port} listen {folder}/{port}" for port in "ab"]
    with Sluice(folder, commands=["set sleep 0", *ports, "set fwd io"]) as switch, guest(folder, "split") as pmd:
        for port in "ab":
            switch.wait_link(port)
        assert core(switch)["asleep_per_mille"] == 0
        switch.run("set sleep 10")
        asleep(switch)
        begin = time.monotonic()
        for _ in range(20):
            switch.run("stop")
            switch.run("start")
        assert time.monotonic() - begin < 5
        switch.run("port add c listen " + str(folder / "c"))
        switch.run("port del c")
        pmd.command("set fwd io")
        pmd.command("start tx_first 1")
        switch.wait_until(lambda: received(switch, "a") > 10000, "traffic")
        switch.run("set sleep 0")
        before = received(switch, "a")
        switch.wait_until(lambda: received(switch, "a") > before + 10000, "traffic without sleep")
        switch.run("set sleep 20")
        saved = folder / "saved"
        switch.run(f"config save {saved}")
        assert "set sleep 20\n" in saved.read_text()
        pmd.command("stop")
        asleep(switch)
        assert switch.stop() == 0


@contextlib.contextmanager
def somebody(cpu):
    """A process that wants all of a CPU."""
    hog = subprocess.Popen([sys.executable, "-c", f"import os\nwhile os.getppid() == {os.getpid()}: pass"],
                           preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    try:
        yield hog
    finally:
        hog.kill()
        hog.wait()


@pytest.mark.parametrize("ring", RINGS)
def test_who_is_not_alone_sleeps(folder, ring):
    """Nothing is set: while another process wants the worker's CPU, that has it, and frames still arrive; then polling is back."""
    ports = [f"port add {port} listen {folder}/{port}" for port in "ab"]
    with Sluice(folder, commands=[*ports, "set fwd io"]) as switch, guest(folder, ring) as pmd:
        for port in "ab":
            switch.wait_link(port)
        switch.wait_until(lambda: not core(switch)["crowded"], "a CPU of its own", timeout=60)
        assert "asleep" not in switch.run("show config cores")
        with somebody(cpus()[0]):
            switch.wait_until(lambda: core(switch)["crowded"], "notice of the other process")
            asleep(switch)
            assert "waits for its CPU" in switch.run("show config cores")
            assert "shares its CPU with other threads" in switch.log
            bursts(switch, pmd, 10)
        switch.wait_until(lambda: not core(switch)["crowded"], "a CPU of its own again", timeout=60)
        assert "has its CPU for itself again" in switch.log
        switch.wait_until(lambda: core(switch)["asleep_per_mille"] == 0, "polling")


def test_who_is_to_poll_polls(folder):
    """`set sleep 0`: though another process wants its CPU, which is said."""
    with Sluice(folder, commands=["set sleep 0", f"port add a listen {folder}/a"]) as switch, somebody(cpus()[0]):
        switch.wait_until(lambda: core(switch)["waits_per_mille"] > 250, "waiting for the other process")
        switch.wait_until(lambda: "waits for its CPU" in switch.run("show config cores"), "a word of it")
        assert core(switch)["asleep_per_mille"] == 0
        assert not core(switch)["crowded"]
        saved = folder / "saved"
        switch.run(f"config save {saved}")
        assert "set sleep 0\n" in saved.read_text()
        switch.run("set sleep auto")
        switch.wait_until(lambda: core(switch)["crowded"], "notice of the other process")
        asleep(switch)
        switch.run("set sleep 0")
        switch.wait_until(lambda: not core(switch)["crowded"] and core(switch)["asleep_per_mille"] == 0, "polling again")
        switch.run("set sleep auto")
        switch.run(f"config save {saved}")
        assert "set sleep" not in saved.read_text()


def test_a_device_wakes(folder):
    """A TAP interrupts; a device without interrupts keeps its worker awake, and is named."""
    tap = f"sl{os.getpid() % 10000}z"
    with Sluice(folder, commands=["set sleep 50", f"port add t dev net_tap_z,iface={tap}", "set fwd rxonly"]) as switch:
        asleep(switch)
        before = received(switch, "t")
        subprocess.run(["ip", "link", "set", tap, "up"], check=True)
        subprocess.run(["ip", "addr", "add", "198.18.77.1/24", "dev", tap], check=True)
        for i in range(5):
            subprocess.run(["ping", "-c1", "-W1", f"198.18.77.{i + 2}"], check=False, capture_output=True)
        switch.wait_until(lambda: received(switch, "t") >= before + 5, "ARP requests")
        asleep(switch)
        switch.run("port add n dev net_null_z")
        assert core(switch)["kept_awake_by"] == "n"
        assert "kept awake by port n" in switch.run("show config cores")
        switch.run("port del n")
        asleep(switch)


def test_refused(folder):
    with Sluice(folder) as switch:
        for wrong in ("set sleep", "set sleep -1", "set sleep 1000001", "set sleep soon", "set sleep auto 5"):
            with pytest.raises(SluiceError):
                switch.run(wrong)
