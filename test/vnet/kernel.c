/* SPDX-License-Identifier: BSD-3-Clause */
/* What Linux makes of a virtio-net header: two TAP devices and a bridge in a namespace. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>

/*
 * Theory of operation
 *
 * The first TAP device takes frames with headers in front, as a virtio-net driver's are. The
 * bridge passes them to the second one, which is told that its reader takes no offloads: so the
 * kernel computes the checksums, and cuts, by the same code as for a NIC that cannot. All this
 * happens inside write(), but a frame of our own behind each case makes sure.
 */

#define FRAME_ROOM 70000
#define MTU        65521 /* the most a TAP device takes */
#define MARK_TYPE  "\x88\xb5"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

void pieces_clear(struct pieces *p)
{
	p->n = 0;
	p->used = 0;
}

uint8_t *pieces_add(struct pieces *p, uint32_t len)
{
	uint8_t *at = p->byte + p->used;

	if (p->n == PIECES_MAX || len > PIECES_ROOM - p->used)
		return NULL;
	p->at[p->n] = at;
	p->len[p->n++] = len;
	p->used += len;
	return at;
}

/* ---- building ---- */

static int fail(char *why, size_t why_len, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_len, fmt, ap);
	va_end(ap);
	snprintf(why + strlen(why), why_len - strlen(why), ": %s", strerror(err));
	return -err;
}

/* A setting of this namespace; a kernel without the file has nothing to set. */
static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		perror(path);
	close(fd);
}

/* IPv6 would speak up by itself, and a firewall's view of the bridge mend frames. */
static void settings(void)
{
	set("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	set("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
	set("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0");
	set("/proc/sys/net/bridge/bridge-nf-call-arptables", "0");
}

static struct ifreq request(const char *name)
{
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	return r;
}

static int tap(const char *name, short flags)
{
	struct ifreq r = request(name);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), err;

	if (fd < 0)
		return -1;
	r.ifr_flags = IFF_TAP | IFF_NO_PI | flags;
	if (ioctl(fd, TUNSETIFF, &r) == 0 && ioctl(fd, TUNSETOFFLOAD, 0) == 0)
		return fd;
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

static int up(int ctl, const char *name)
{
	struct ifreq r = request(name);

	r.ifr_flags = IFF_UP;
	return ioctl(ctl, SIOCSIFFLAGS, &r);
}

static int join(int ctl, const char *bridge, const char *port)
{
	struct ifreq r = request(port), b = request(bridge);

	r.ifr_mtu = MTU;
	if (ioctl(ctl, SIOCSIFMTU, &r) < 0)
		return -1;
	r = request(port);
	if (ioctl(ctl, SIOCGIFINDEX, &r) < 0)
		return -1;
	b.ifr_ifindex = r.ifr_ifindex;
	return ioctl(ctl, SIOCBRADDIF, &b) < 0 ? -1 : up(ctl, port);
}

static int build(struct kernel *k, int ctl, char *why, size_t why_len)
{
	k->in = tap("in", IFF_VNET_HDR);
	if (k->in < 0)
		return fail(why, why_len, "no TAP device can be made");
	k->has_uso = ioctl(k->in, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6) == 0;
	k->out = tap("out", 0);
	if (k->out < 0)
		return fail(why, why_len, "no second TAP device can be made");
	if (ioctl(ctl, SIOCBRADDBR, "bridge") < 0)
		return fail(why, why_len, "no bridge can be made");
	if (join(ctl, "bridge", "in") < 0 || join(ctl, "bridge", "out") < 0 ||
		up(ctl, "bridge") < 0)
		return fail(why, why_len, "the TAP devices cannot be bridged");
	return 0;
}

int kernel_open(struct kernel *k, char *why, size_t why_len)
{
	int ctl, err;

	*k = (struct kernel){.in = -1, .out = -1};
	if (unshare(CLONE_NEWNET) < 0)
		return fail(why, why_len, "no network namespace can be made");
	settings();
	ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ctl < 0)
		return fail(why, why_len, "no socket can be made");
	err = build(k, ctl, why, why_len);
	close(ctl);
	if (err)
		kernel_close(k);
	return err;
}

void kernel_close(struct kernel *k)
{
	if (k->in >= 0)
		close(k->in);
	if (k->out >= 0)
		close(k->out);
	k->in = k->out = -1;
}

/* ---- passing ---- */

static ssize_t put(
	struct kernel *k, const struct virtio_net_hdr *h, const void *frame, uint32_t len)
{
	struct iovec iov[] = {
		{(void *)(uintptr_t)h, sizeof(*h)},
		{(void *)(uintptr_t)frame, len},
	};

	return writev(k->in, iov, 2);
}

static int put_mark(struct kernel *k, const uint8_t *addresses, uint8_t *mark, uint32_t len)
{
	const struct virtio_net_hdr none = {0};

	k->mark++;
	memset(mark, 0, len);
	memcpy(mark, addresses, 12);
	memcpy(mark + 12, MARK_TYPE, 2);
	memcpy(mark + 14, &k->mark, sizeof(k->mark));
	return put(k, &none, mark, len) < 0 ? -errno : 0;
}

/* One frame, with patience. @return its length, 0: nothing came, or a negative errno */
static ssize_t get(struct kernel *k, uint8_t *to, size_t room)
{
	struct pollfd p = {.fd = k->out, .events = POLLIN};
	ssize_t n = read(k->out, to, room);

	if (n < 0 && errno == EAGAIN) {
		if (poll(&p, 1, 2000) <= 0)
			return 0;
		n = read(k->out, to, room);
	}
	return n < 0 ? -errno : n;
}

int kernel_pass(struct kernel *k, const struct virtio_net_hdr *h, const uint8_t *frame,
	uint32_t len, struct pieces *out)
{
	static uint8_t buf[FRAME_ROOM];
	uint8_t mark[60], *to;
	int err;

	pieces_clear(out);
	if (put(k, h, frame, len) < 0 && errno != EINVAL)
		return -errno;
	err = put_mark(k, frame, mark, sizeof(mark));
	while (!err) {
		ssize_t n = get(k, buf, sizeof(buf));

		if (n <= 0)
			return n == 0 ? -ETIMEDOUT : (int)n;
		if (n < 12 || memcmp(buf, frame, 12) != 0)
			continue; /* a stranger's */
		if ((size_t)n == sizeof(mark) && memcmp(buf, mark, sizeof(mark)) == 0)
			return 0;
		to = pieces_add(out, (uint32_t)n);
		if (!to)
			return -ENOBUFS;
		memcpy(to, buf, (size_t)n);
	}
	return err;
}
