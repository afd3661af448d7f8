# SPDX-License-Identifier: BSD-3-Clause
"""What Linux guests say to each other, and what a test has them do."""


def ping(vm, address, count=3, patience=20):
    """Every answer arrives; the first may take a while (ARP, a link that comes up)."""
    vm.check(f"for i in $(seq {patience * 2}); do ping -c 1 -W 1 {address} && exit 0; sleep 0.5; done; exit 1",
             patience * 2 + 10)
    status, output = vm.run(f"ping -c {count} -i 0.2 -w 10 {address}", 20)
    assert status == 0 and f"{count} packets received, 0% packet loss" in output, output


def fetch(server, client, address, megabytes=8):
    """A file over HTTP; its checksum must survive."""
    server.check(f"mkdir -p /srv && dd if=/dev/urandom of=/srv/file bs=1M count={megabytes} 2>/dev/null", 60)
    # One that runs is left alone: another could not listen before it has ended.
    server.check("killall -0 httpd 2>/dev/null || httpd -h /srv")
    want = server.check("sha256sum < /srv/file; stat -c %s /srv/file", 60)
    client.check(f"wget -q -O /run/file http://{address}/file", 120)
    got = client.check("sha256sum < /run/file; stat -c %s /run/file; rm /run/file", 60)
    assert got == want, f"sent as {want}, arrived as {got}"


def rebind(switch, vm, port="vm1"):
    """The driver of 10.0.0.1 goes and comes back."""
    vm.check("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 > unbind")
    switch.wait_link(port, "down")
    vm.check("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 > bind && "
             "ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up")
    switch.wait_link(port, "up")
    ping(vm, "10.0.0.2")


def link_changes(guests):
    """How often each link went up or down."""
    return [vm.check("cat /sys/class/net/eth0/carrier_changes") for vm in guests]


def talking(guests, seconds):
    """A server and a client of TCP, for so long."""
    guests[0].check("for i in $(seq 40); do ping -c 1 -W 1 10.0.0.2 && exit 0; sleep 0.5; done; exit 1", 60)
    server = guests[1].popen("iperf3 -s -1")
    guests[1].check("for i in $(seq 50); do netstat -ltn | grep -q :5201 && exit 0; sleep 0.2; done; exit 1", 30)
    return server, guests[0].popen(f"iperf3 -c 10.0.0.2 -t {seconds}")
