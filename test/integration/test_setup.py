# SPDX-License-Identifier: BSD-3-Clause
"""usertools/setup on a machine that is set up already: it changes nothing, and --check names what would be missing."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from sluice import TOP

HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


def setup(*options, **env):
    """(exit status, the lines it printed)"""
    done = subprocess.run([TOP / "usertools/setup", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, env={**os.environ, **env}, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(autouse=True)
def complete():
    """Here everything is there, as after the first line of test/run; and so it must be afterwards."""
    status, lines = setup("--check")
    if status:
        pytest.skip(f"not everything is there: {lines[0]}")
    assert lines == ["setup: nothing is missing"]
    before = HUGEPAGES.read_text()
    yield
    assert HUGEPAGES.read_text() == before


def test_a_second_run():
    assert setup() == (0, ["setup: nothing to do"])


def test_what_is_missing(tmp_path):
    """One line for each thing, with the command that mends it; nothing is made."""
    cache = tmp_path / "cache"
    status, lines = setup("--check", "--hugepages", "999999", "--cache", str(cache))
    assert status == 1 and len(lines) == 2
    assert re.fullmatch(rf"missing: guest image \(not built yet\) +mend: sudo .*/guest-image --cache {cache}", lines[0])
    assert re.fullmatch(r"missing: hugepages \(\d+ of 999999 reserved\) +mend: sudo .*/setup --hugepages 999999",
                        lines[1])
    assert not cache.exists()


def test_a_program_is_missing(tmp_path):
    """The guest image needs iperf3: still one line."""
    for folder in ("/usr/sbin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if program.name != "iperf3" and not (tmp_path / program.name).is_symlink():
                (tmp_path / program.name).symlink_to(program)
    status, lines = setup("--check", PATH=str(tmp_path))
    assert status == 1 and len(lines) == 1
    assert lines[0].startswith("missing: guest image (needs iperf3: apt-get install iperf3)")


@pytest.mark.parametrize("options, line", [
    (["--fnord"], "setup: unknown option '--fnord': see setup --help"),
    (["--hugepages", "many"], None),
    (["--hugepages"], None),
    (["--cache"], None),
])
def test_wrong_options(options, line):
    status, lines = setup(*options)
    assert status == 1 and len(lines) == 1
    assert line is None or lines[0] == line
