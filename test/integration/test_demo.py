# SPDX-License-Identifier: BSD-3-Clause
"""The demonstration, in a network namespace of its own: it works, and it cleans up whatever happens."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from guest import CACHE
from sluice import TOP, binary

STATE = Path("/run/sluice-demo")


@pytest.fixture
def demo(folder):
    """demo(*options): the running demonstration; nothing of it may be left at the end."""
    if STATE.exists():
        pytest.skip(f"{STATE} exists: somebody's demonstration is running")
    log = folder / "demo.log"
    started = []

    def start(*options):
        env = {**os.environ, "SLUICE_BUILD": str(binary().parents[2])}
        with log.open("wb") as out:
            started.append(subprocess.Popen(["unshare", "-n", TOP / "usertools/demo", *options], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, env=env))
        return started[0], log

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
    assert not STATE.exists()
    assert subprocess.run(["pgrep", "-f", "file-prefix sluice-demo"], capture_output=True).stdout == b""


def test_it_works(demo):
    process, log = demo("--seconds", "2")
    status = process.wait(240)
    text = log.read_text()
    assert status == 0, text
    for row in ("ping vm1 to vm2", "ping vm1 to the host", "TCP vm1 to vm2"):
        assert any(line.startswith(row) and " ok " in line for line in text.splitlines()), text
    assert "NIC statistics for port 0" in text


def await_step(process, log, step):
    deadline = time.monotonic() + 120
    while step not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_a_step_that_fails(demo):
    """A guest that dies: the table says so, with what its QEMU said, and the status is 1."""
    process, log = demo()
    await_step(process, log, "boot vm1")
    os.kill(json.loads((STATE / "vm1/guest.json").read_text())["pid"], signal.SIGKILL)
    assert process.wait(60) == 1
    text = log.read_text()
    assert re.search(r"^boot vm1 +FAILED +vm1: QEMU has ended by signal 9", text, re.M), text
    assert "The last lines of sluice.log:\n" in text and "The last lines of vm2/qemu.log:\n" in text


@pytest.mark.parametrize("step, sig", [("install what", signal.SIGTERM), ("start sluice", signal.SIGHUP),
                                       ("boot vm1", signal.SIGINT)])
def test_interrupted(demo, step, sig):
    process, log = demo()
    await_step(process, log, step)
    process.send_signal(sig)
    assert process.wait(30) == 1
    assert "interrupted" in log.read_text()


@pytest.mark.parametrize("seconds", ["0", "3601", "1x", "-1"])
def test_a_length_that_is_none(demo, seconds):
    process, log = demo("--seconds", seconds)
    assert process.wait(30) == 2
    assert log.read_text().endswith(f"--seconds: 1 to 3600, not '{seconds}'\n")


def test_guest_image_interrupted(tmp_path):
    """A demonstration that is interrupted passes the signal on, and no scratch folder stays."""
    kernel = next(CACHE.glob("kernel-*"))
    (tmp_path / kernel.name).symlink_to(kernel)
    for turn, sig in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP) * 4):
        argv = [TOP / "usertools/guest-image", "--cache", tmp_path]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(0.03 * turn)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sig)
        process.wait(30)
        assert not list(tmp_path.glob("work.*"))
