# SPDX-License-Identifier: BSD-3-Clause
"""A machine with PCI NICs behind an IOMMU, by emulation: our switch runs in it, and so do the guests of that.

    with Machine(folder, ["e1000e"]) as machine:
        machine.bind()
        with MachineSluice(machine, [f"port add nic dev {machine.addresses[0]}", "port add vm listen /run/vm"]) as switch:
            vm = EchoGuest(machine, "/run/vm")
            switch.wait_link("vm")
            machine.wires[0].echo([60, 1514])
"""

import contextlib
import json
import re
import shlex
import signal
import subprocess
from pathlib import Path

from guest import Guest, GuestError, image
from nicsim import nicsim_built
from sluice import Sluice, SluiceError, binary
from wire import Wire

# What the switch and a testpmd need of DPDK's drivers, beside what they are linked with.
DRIVERS = ("bus_pci", "bus_vdev", "mempool_ring", "net_e1000", "net_virtio", "net_vmxnet3")
MODULES = ("vfio_iommu_type1", "vfio-pci")
HUGEPAGES = 320


class IommuGuest(Guest):
    """A guest with an IOMMU for every device. iommu: more of its properties; words: more for the kernel."""

    def __init__(self, *args, iommu="", words="", machine="q35,kernel-irqchip=off", **options):
        super().__init__(*args, machine=machine, **options)
        self.iommu, self.words = iommu, words

    def argv(self):
        argv = super().argv()
        argv[argv.index("-append") + 1] += f" intel_iommu=on {self.words}"
        first = argv.index("-chardev")
        device = ",".join(["intel-iommu,intremap=on,caching-mode=on", *filter(None, [self.iommu])])
        return argv[:first] + ["-device", device] + argv[first:]


def dpdk():
    """DPDK's folder of drivers, and the files a program needs that are not linked with it but loaded."""
    libdir = subprocess.run(["pkg-config", "--variable=libdir", "libdpdk"], capture_output=True, text=True, check=True)
    libdir = Path(libdir.stdout.strip())
    folder = next(libdir.glob("dpdk/pmds-*"))
    # The last one for whoever cancels a thread.
    return folder, [*(next(folder.glob(f"librte_{name}.so.*.*")) for name in DRIVERS), libdir / "libgcc_s.so.1"]


def build_folder():
    return binary().resolve().parents[2]


def echo_guest():
    return build_folder() / "test/support/echo_guest"


class Machine(IommuGuest):
    """nics: their QEMU names; wires[i] is the cable of addresses[i]. width: address bits the IOMMU translates.

    nodes=2: two NUMA nodes, of which the second has CPU 2. Whatever is run in here finds DPDK's drivers; hugepages are mounted.
    """

    def __init__(self, folder, nics, width=48, nodes=1):
        super().__init__("pci", directory=Path(folder) / "pci", memory=1280, cpus=3, accel="tcg",
                         modules=",".join(MODULES), iommu=f"aw-bits={width}", words=f"hugepages={HUGEPAGES}")
        self.nodes = nodes
        self.drivers, loaded = dpdk()
        self.extra = ["-cpu", "Nehalem"]    # the least DPDK runs on: what is emulated costs time
        self.addresses = [f"0000:00:{slot:02x}.0" for slot in range(3, 3 + len(nics))]
        self.wires = [Wire(self.directory / f"nic{n}", f"02:00:00:00:01:{n:02x}") for n in range(len(nics))]
        self.image = image(path=build_folder() / "guest-pci", modules=MODULES,
                           programs=[binary().resolve(), echo_guest(), nicsim_built(), "dpdk-testpmd", "socat", *loaded])
        for n, (nic, wire) in enumerate(zip(nics, self.wires)):
            self.extra += ["-netdev", wire.netdev(f"nic{n}"),
                           "-device", f"{nic},netdev=nic{n},addr={3 + n:#x},mac=52:54:00:00:00:{n + 1:02x},romfile="]
        self._stack = contextlib.ExitStack()

    def argv(self):
        argv = super().argv()
        for option, path in zip(("-kernel", "-initrd"), self.image):
            argv[argv.index(option) + 1] = str(path)
        if self.nodes == 2:
            shared = next(i for i, word in enumerate(argv) if word.startswith("memory-backend-memfd,"))
            argv[shared - 1:shared + 1] = []
            argv[argv.index("-machine") + 1] = self.machine
            for node, cpus in ((0, "0-1"), (1, "2")):
                argv += ["-object", f"memory-backend-ram,id=node{node},size=640M",
                         "-numa", f"node,nodeid={node},cpus={cpus},memdev=node{node}"]
        return argv

    def __enter__(self):
        self.directory.mkdir(parents=True)
        with contextlib.ExitStack() as stack:
            for wire in self.wires:
                stack.enter_context(wire)
            stack.callback(self.stop)
            self.start().wait_ready(180)
            self.check("mkdir -p /dev/hugepages /var/run && mount -t hugetlbfs none /dev/hugepages")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self._stack.__exit__(*error)

    def bind(self):
        """Every NIC to vfio-pci."""
        for address in self.addresses:
            self.check(f"echo vfio-pci >/sys/bus/pci/devices/{address}/driver_override && "
                       f"echo {address} >/sys/bus/pci/drivers_probe && [ -e /sys/bus/pci/drivers/vfio-pci/{address} ]")

    def spawn(self, argv, stdin="/dev/null"):
        """Start a program; its Job's exit status is the program's own. It never sees the end of a fifo."""
        words = shlex.join(str(word) for word in argv)
        return self.popen(f"export LD_LIBRARY_PATH={self.drivers}; exec {words} <>{stdin}")

    def dma_faults(self):
        """What devices wanted of memory nobody had mapped for them: lines of the kernel's log, which leaves some out.

        QEMU's vmxnet3 reads address 0 whenever it is started.
        """
        return [line for line in self.check("dmesg").splitlines()
                if re.search(r"DMAR: \[DMA", line) and not line.endswith("fault addr 0x0 [fault reason 0x06] PTE Read access is not set")]

    def locked(self, pid):
        """Bytes a process has pinned for its NICs' DMA: the kernel counts what VFIO maps, and what DPDK has, as locked."""
        return int(self.check(f"grep VmLck: /proc/{pid}/status").split()[1]) * 1024


class MachineSluice(Sluice):
    """The switch in a machine, where its folder is /run. plugins: more drivers, files of the machine's image."""

    def __init__(self, machine, commands=(), plugins=(), timeout=90, lcores="0,1"):
        eal = ["-l", lcores, "--in-memory", "-m", "128", *(word for path in plugins for word in ("-d", path))]
        super().__init__("/run", ["--mbufs", "8192"], eal, commands, timeout)
        self.machine, self._job = machine, None

    def start(self):
        if self.commands:
            self.machine.check(f"printf '%s\\n' {shlex.join(self.commands)} >{self.conf}")
        self._job = self.machine.spawn(self.argv())
        try:
            self.wait_until(self._is_up, "control socket", self.timeout)
        except SluiceError:
            self.close()
            raise
        return self

    def _is_up(self):
        if not self._job.running():
            raise SluiceError(f"{self.name} did not start:\n{self.log}")
        return self.machine.run(f"[ -S {self.control} ]")[0] == 0

    def stop(self):
        self._job.kill(signal.SIGTERM)
        return self._job.wait(self.timeout)[0]

    def kill(self):
        self._job.kill(signal.SIGKILL)
        self._job.wait(self.timeout)

    def close(self):
        """The folder goes with the machine."""
        if self._job and self._job.running():
            self._job.kill(signal.SIGTERM)
            with contextlib.suppress(GuestError):
                self._job.wait(10)
            if self._job.running():
                self.kill()

    @property
    def log(self):
        return self._job.output() if self._job else ""

    @property
    def pid(self):
        return self._job.pid

    def _ask(self, request):
        line = shlex.quote(request.decode().rstrip("\n"))
        return self.machine.run_bytes(f"echo {line} | socat -t {self.timeout} - UNIX-CONNECT:{self.control}")[1]

    @property
    def locked(self):
        """Bytes mapped for DMA, DPDK's own among them."""
        return self.machine.locked(self.pid)


class PmdGuest:
    """A guest of the switch: stock testpmd, which sends back every frame with its addresses swapped."""

    def __init__(self, machine, socket, devargs="", app=()):
        self.machine, self.fifo = machine, f"{socket}.in"
        words = ["dpdk-testpmd", "-l", "0,2", "--no-pci", "--single-file-segments", "-m", "64", "--file-prefix", "pmd",
                 "--vdev", f"net_virtio_user0,path={socket}{devargs}", "--", "-i", "--auto-start", "--no-mlockall",
                 "--forward-mode=macswap", "--total-num-mbufs=8192", *app]
        machine.check(f"mkfifo {self.fifo}")
        self.job = machine.spawn(words, stdin=self.fifo)

    def stop(self, timeout=90):
        """End it politely; what it said."""
        self.machine.check(f"echo quit >{self.fifo}")
        status, output = self.job.wait(timeout)
        self.machine.check(f"rm {self.fifo} /dev/hugepages/pmdmap_*")
        assert status == 0, f"testpmd ended with status {status}: {output}"
        return output


class EchoGuest:
    """A guest of the switch: echo_guest.c with these words."""

    def __init__(self, machine, socket, *words):
        self.job = machine.spawn([echo_guest(), socket, *words])

    def stop(self, sig=signal.SIGTERM, timeout=90):
        """End it politely, with what it says at the end."""
        self.job.kill(sig)
        return self.wait(timeout)

    def wait(self, timeout=90):
        status, output = self.job.wait(timeout)
        assert status == 0, f"echo_guest ended with status {status}: {output}"
        return json.loads(output.splitlines()[-1])

    def kill(self):
        """As in a crash."""
        self.job.kill(signal.SIGKILL)
        self.job.wait(90)
