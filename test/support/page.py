# SPDX-License-Identifier: BSD-3-Clause
"""doc/attach.md, carried out: its command lines, and guests made from them."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from sluice import TOP

sys.path.insert(0, str(TOP / "usertools"))

from guest import KERNEL_WORDS, Guest, image  # noqa: E402

PAGE = TOP / "doc/attach.md"


def block(name):
    """The lines of the block after <!-- name -->."""
    found = re.search(rf"^<!-- {re.escape(name)} -->\n```\w*\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert found, f"doc/attach.md has no block '{name}'"
    return found.group(1)


class Page:
    """The blocks with our paths instead of /run/sluice. Shell lines run in a namespace, the others in .switch."""

    def __init__(self, folder, namespace):
        self.folder, self.namespace, self.switch = folder, namespace, None

    def text(self, name):
        return block(name).replace("/run/sluice/", f"{self.folder}/")

    def lines(self, name):
        return [line for line in re.sub(r"\s*\\\n\s*", " ", self.text(name)).splitlines() if line]

    def words(self, name):
        """The arguments of a block that is one command line, those after "..." if it has that."""
        (line,) = self.lines(name)
        words = shlex.split(line.removeprefix("$ "))
        return words[words.index("...") + 1:] if "..." in words else words

    def commands(self, name):
        """The switch's lines of a block."""
        return [line.removeprefix("sluice> ") for line in self.lines(name) if line.startswith("sluice> ")]

    def do(self, name):
        """All lines of a block, in its order."""
        for line in self.lines(name):
            if line.startswith("sluice> "):
                self.switch.run(line.removeprefix("sluice> "))
            else:
                self.namespace.run(*shlex.split(line.removeprefix("$ ")))


def override(words, *others):
    """QEMU options, of which those in others replace the ones of the same name."""
    options = dict(zip(words[::2], words[1::2]))
    assert len(options) == len(words) / 2
    for more in others:
        options.update(zip(more[::2], more[1::2]))
    return [word for pair in options.items() for word in pair]


class PageGuest(Guest):
    """A guest whose memory and last interface are as the page has them; its nics come first."""

    def __init__(self, name, words, *, address, **kw):
        super().__init__(name, **kw)
        self.words, self.address = words, address

    def argv(self):
        argv = super().argv()
        for option in ("-m", "-object", "-machine"):
            at = argv.index(option)
            del argv[at:at + 2]
        append = argv.index("-append") + 1
        argv[append] += ("," if self.nics else "") + self.address
        words = list(self.words)
        if self.accel == "tcg":  # as the page says
            device = words.index("-device") + 1
            words[device] = re.sub(r",vectors=\d+", "", words[device]) + ",vectors=0"
        return argv + words


class UnsharedGuest(Guest):
    """A guest as QEMU makes it if nobody says anything of its memory."""

    def argv(self):
        argv = super().argv()
        at = argv.index("-object")
        del argv[at:at + 2]
        argv[argv.index("-machine") + 1] = self.machine
        return argv


DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
  {memory}
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{words}</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='none'/>
    <serial type='file'><source path='{folder}/console.log'/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path='{folder}/agent.sock'/><target port='1'/></serial>
    {interfaces}
  </devices>
  {vectors}
</domain>
"""

# For a libvirt that has no service, no user of its own and nothing on this machine to itself.
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
hugetlbfs_mount = []
"""

# It wants its user to exist, even where it does not use it: in mounts that only it sees.
WITH_ITS_USER = """
for file in passwd group; do
    cp /etc/$file "$0/$file"
    grep -q ^libvirt-qemu: "$0/$file" || echo libvirt-qemu:x:64055:64055::/nonexistent:/bin/false >>"$0/$file"
    mount --bind "$0/$file" /etc/$file
done
exec "$@"
"""


class LibvirtGuest(Guest):
    """The page's two interfaces in one domain, run by virt-qemu-run: libvirt's QEMU driver without its daemon."""

    def __init__(self, page, addresses, *, directory):
        super().__init__("vm3", directory=directory)
        self.page, self.addresses = page, addresses

    def _xml(self):
        kernel, initrd = image(self.cache)
        interfaces = ""
        for number, name in ((3, "libvirt-listen"), (4, "libvirt-connect")):
            own = f"<alias name='ua-vm{number}'/><rom enabled='no'/></interface>"
            interfaces += self.page.text(name).replace("</interface>", own)
        vectors = self.page.text("libvirt-tcg")
        device = re.search(r"<qemu:device.*</qemu:device>", vectors).group()
        return DOMAIN.strip().format(
            name=self.name, folder=self.directory, kernel=kernel, initrd=initrd, interfaces=interfaces,
            memory=self.page.text("libvirt-memory"),
            vectors=vectors.replace(device, device + device.replace("ua-vm3", "ua-vm4")),
            words=f"{KERNEL_WORDS} hostname={self.name} sluice.agent={self._mark} sluice.ip={','.join(self.addresses)}")

    def start(self):
        root, domain = self.directory / "root", self.directory / "domain.xml"
        (root / "etc").mkdir(parents=True)
        (root / "etc/qemu.conf").write_text(QEMU_CONF)
        domain.write_text(self._xml())
        argv = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "sh", "-ec", WITH_ITS_USER, str(self.directory),
                "virt-qemu-run", "-v", "-r", str(root), str(domain)]
        with Path(self.directory, "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True)
        self.pid = self._qemu.pid
        try:
            self._agent = self._socket("agent.sock", 60)
        except BaseException:
            print(Path(self.directory, "qemu.log").read_text())
            self.stop()
            raise
        return self

    def stop(self):
        """It ends its guest when it is interrupted."""
        if self.pid and self.alive():
            os.kill(self.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._qemu.wait(10)
        super().stop()
