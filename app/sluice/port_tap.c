/* SPDX-License-Identifier: BSD-3-Clause */
/* TAP devices: the host's interface outlives the process that made it, if another one follows. */
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <rte_ethdev.h>

#include "port.h"

/*
 * Theory of operation
 *
 * The kernel removes the interface with the last descriptor of it, and net_tap closes all. So whoever
 * hands over makes it persistent, and who has taken over makes it an ordinary one again; or, where
 * nobody is there yet, a descriptor that gets no packets is kept by somebody else. The descriptors are
 * the driver's: the kernel tells which interface each is of.
 */

bool port_tap_is(const struct rte_eth_dev_info *info)
{
	return strcmp(info->driver_name, "net_tap") == 0;
}

static bool is_of(const char *number, const char *interface)
{
	char path[64], line[128], name[IF_NAMESIZE];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%.20s", number);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "iff: %15s", name) == 1 && strcmp(name, interface) == 0;
	if (f)
		fclose(f);
	return found;
}

/* A descriptor of the driver's, or -1. */
static int find(const char *interface)
{
	DIR *all = opendir("/proc/self/fd");
	struct dirent *entry;
	int fd = -1;

	while (all && fd < 0 && (entry = readdir(all)) != NULL)
		if (entry->d_name[0] != '.' && is_of(entry->d_name, interface))
			fd = atoi(entry->d_name);
	if (all)
		closedir(all);
	return fd;
}

/* The number of its interface, if it is a TAP. */
static unsigned interface_of(const struct port *port)
{
	struct rte_eth_dev_info info;

	if (port->kind != PORT_DEV || rte_eth_dev_info_get(port->dev.eth, &info) < 0 ||
		!port_tap_is(&info))
		return 0;
	return info.if_index;
}

void port_tap_persist(const struct port *port, bool on)
{
	unsigned index = interface_of(port);
	char name[IF_NAMESIZE];
	int fd;

	if (!index || !if_indextoname(index, name) || strstr(port->dev.devargs, ",persist"))
		return;
	fd = find(name);
	if (fd >= 0)
		ioctl(fd, TUNSETPERSIST, (unsigned long)on);
}

int port_tap_spare(const struct port *port, unsigned *index)
{
	struct ifreq detached = {.ifr_flags = IFF_DETACH_QUEUE};
	char name[IF_NAMESIZE];
	int fd;

	*index = interface_of(port);
	if (!*index || !if_indextoname(*index, name))
		return -1;
	fd = find(name);
	if (fd >= 0)
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		ioctl(fd, TUNSETQUEUE, &detached); /* fails if it is detached */
	return fd;
}

void port_tap_address(uint16_t eth, const char *devargs)
{
	const char *at = strstr(devargs, ",mac=");
	char text[RTE_ETHER_ADDR_FMT_SIZE];
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;

	if (!at || rte_eth_dev_info_get(eth, &info) < 0 || !port_tap_is(&info))
		return;
	snprintf(text, sizeof(text), "%s", at + strlen(",mac="));
	if (rte_ether_unformat_addr(text, &mac) == 0)
		rte_eth_dev_default_mac_addr_set(eth, &mac);
}
