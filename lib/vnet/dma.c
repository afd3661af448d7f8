/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory for devices: what is mapped where, and until when. */
#include "vnet_dma.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_common.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_memory.h>
#include <rte_vfio.h>

#define SMALL_PAGE 4096u

/* Where mappings are kept: the VFIO container, and every device that keeps its own. */
#define SLOTS 32
#define VFIO  0

struct slot {
	struct rte_device *dev; /* NULL: the container, or none */
	unsigned users;         /* devices */
	/* An unmapping failed. What is mapped at that address next would be taken for what was
	 * there before, so nothing is any more. */
	bool broken;
};

struct region {
	struct virtq_region_user user;
	struct region *next;
	void *at;
	size_t len;
	bool huge;       /* pages */
	bool registered; /* with the EAL */
	uint32_t in;     /* bit per slot */
	const char *why; /* it is not in one of them; static */
};

static struct slot slots[SLOTS];
static struct region *regions;

/* A region may be closed by a thread other than the one that maps. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- one region, one slot ---- */

/* The largest size of page it could have: a small one costs the EAL a record each. */
static size_t page_of(const struct region *r)
{
	size_t bits = (size_t)(uintptr_t)r->at | r->len | (size_t)1 << 30;

	return bits & -bits;
}

static bool register_region(struct region *r)
{
	if (!r->registered)
		r->registered = rte_extmem_register(r->at, r->len, NULL, 0, page_of(r)) == 0;
	return r->registered;
}

static const char *map_vfio(struct region *r)
{
	if (!r->huge)
		return "its memory is not in huge pages";
	if (rte_vfio_container_dma_map(
		    RTE_VFIO_DEFAULT_CONTAINER_FD, (uintptr_t)r->at, (uintptr_t)r->at, r->len) < 0)
		return "VFIO does not map its memory (too much of it, or at too high an address)";
	return NULL;
}

static const char *map_device(struct region *r, struct rte_device *dev)
{
	if (!register_region(r))
		return "DPDK registers no more memory";
	if (rte_dev_dma_map(dev, r->at, (uintptr_t)r->at, r->len) < 0)
		return "a device does not map its memory";
	return NULL;
}

static bool map(struct region *r, unsigned s)
{
	if (r->in & 1u << s)
		return true;
	if (slots[s].broken)
		r->why = "a device has kept memory that it should have given back: restart";
	else
		r->why = s == VFIO ? map_vfio(r) : map_device(r, slots[s].dev);
	if (!r->why)
		r->in |= 1u << s;
	return !r->why;
}

static void unmap(struct region *r, unsigned s)
{
	uintptr_t at = (uintptr_t)r->at;
	int err;

	if (!(r->in & 1u << s))
		return;
	r->in &= ~(1u << s);
	if (s == VFIO)
		err = rte_vfio_container_dma_unmap(RTE_VFIO_DEFAULT_CONTAINER_FD, at, at, r->len);
	else
		err = rte_dev_dma_unmap(slots[s].dev, r->at, at, r->len);
	if (err < 0) {
		slots[s].broken = true;
		RTE_LOG(ERR, USER1,
			"sluice: a device keeps guest memory that was unmapped (%s): nothing is "
			"lent to such devices any more\n",
			rte_strerror(rte_errno));
	}
}

static bool map_all(struct region *r)
{
	bool all = true;

	for (unsigned s = 0; s < SLOTS; s++)
		if (slots[s].users)
			all &= map(r, s);
	return all;
}

/* ---- regions ---- */

static void region_closing(struct virtq_region_user *user)
{
	struct region *r = (struct region *)user;

	pthread_mutex_lock(&lock);
	for (unsigned s = 0; s < SLOTS; s++)
		unmap(r, s);
	if (r->registered)
		rte_extmem_unregister(r->at, r->len);
	for (struct region **at = &regions; *at; at = &(*at)->next) {
		if (*at == r) {
			*at = r->next;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	free(r);
}

static struct region *region_of(const struct virtq_mem *mem, uint32_t i)
{
	struct virtq_region_user **user = virtq_mem_user(mem, i);
	struct virtq_region_info info;
	struct region *r;

	if (*user)
		return (struct region *)*user;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	virtq_mem_region(mem, i, &info);
	r->user.closing = region_closing;
	r->at = info.map;
	r->len = info.map_len;
	r->huge = info.page_size > SMALL_PAGE;
	r->next = regions;
	regions = r;
	*user = &r->user;
	return r;
}

bool vnet_dma_map(const struct virtq_mem *mem, const char **why)
{
	const char *first = NULL;

	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < virtq_mem_of_guest(mem)->n && !first; i++) {
		struct region *r = region_of(mem, i);

		if (!r)
			first = "short of memory";
		else if (!map_all(r))
			first = r->why;
	}
	pthread_mutex_unlock(&lock);
	if (first && why)
		*why = first;
	return !first;
}

/* ---- devices ---- */

static bool is_vfio(const struct rte_device *dev)
{
	static const char driver[] = "/vfio-pci";
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", rte_dev_name(dev));
	n = readlink(path, target, sizeof(target) - 1);
	if (n < (ssize_t)strlen(driver))
		return false;
	target[n] = 0;
	return strcmp(target + n - strlen(driver), driver) == 0;
}

static bool is_one_of(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(name, *list) == 0)
			return true;
	return false;
}

/* What a virtual device does with packets cannot be asked. */
static enum vnet_reach reach_of_vdev(const char *driver, char *why, size_t why_len)
{
	static const char *const by_cpu[] = {"net_tap", "net_af_packet", "net_pcap", "net_null",
		"net_sluice", "net_vhost", NULL};
	static const char *const to_others[] = {"net_virtio_user", "net_memif", "net_af_xdp", NULL};

	if (is_one_of(driver, by_cpu))
		return VNET_REACH_ALL;
	if (!is_one_of(driver, to_others))
		return VNET_REACH_MAPPED;
	snprintf(why, why_len, "%s hands memory to somebody else, who has not got the guest's",
		driver);
	return VNET_REACH_NONE;
}

static enum vnet_reach reach_of(
	const struct rte_device *dev, unsigned *slot, char *why, size_t why_len)
{
	const char *bus = rte_bus_name(rte_dev_bus(dev));

	*slot = VFIO + 1;
	if (strcmp(bus, "vdev") == 0)
		return reach_of_vdev(rte_driver_name(rte_dev_driver(dev)), why, why_len);
	if (rte_eal_iova_mode() != RTE_IOVA_VA) {
		snprintf(why, why_len,
			"DPDK uses physical addresses: bind devices to vfio-pci, behind an IOMMU");
		return VNET_REACH_NONE;
	}
	if (is_vfio(dev))
		*slot = VFIO;
	return VNET_REACH_MAPPED;
}

static bool map_for_slot(unsigned s, const char **why)
{
	for (struct region *r = regions; r; r = r->next) {
		if (!map(r, s) && s != VFIO) {
			*why = r->why;
			return false;
		}
	}
	return true;
}

static void leave_slot(unsigned s)
{
	if (--slots[s].users > 0)
		return;
	/* When the last device leaves, VFIO itself forgets; the records of it must go too. */
	for (struct region *r = regions; r; r = r->next)
		unmap(r, s);
	slots[s].dev = NULL;
	slots[s].broken = false;
}

static int free_slot(void)
{
	for (int s = VFIO + 1; s < SLOTS; s++)
		if (slots[s].users == 0)
			return s;
	return -1;
}

enum vnet_reach vnet_dma_add(struct rte_device *dev, char *why, size_t why_len)
{
	const char *reason = "too many devices";
	unsigned kind = VFIO;
	enum vnet_reach reach = reach_of(dev, &kind, why, why_len);
	int s = VFIO;

	if (reach != VNET_REACH_MAPPED)
		return reach;
	pthread_mutex_lock(&lock);
	if (kind != VFIO)
		s = free_slot();
	if (s >= 0) {
		slots[s].users++;
		slots[s].dev = s == VFIO ? NULL : dev;
		if (!map_for_slot((unsigned)s, &reason)) {
			leave_slot((unsigned)s);
			s = -1;
		}
	}
	pthread_mutex_unlock(&lock);
	if (s >= 0)
		return VNET_REACH_MAPPED;
	snprintf(why, why_len, "%s", reason);
	return VNET_REACH_NONE;
}

void vnet_dma_remove(struct rte_device *dev)
{
	pthread_mutex_lock(&lock);
	for (unsigned s = VFIO + 1; s < SLOTS; s++) {
		if (slots[s].dev == dev) {
			leave_slot(s);
			pthread_mutex_unlock(&lock);
			return;
		}
	}
	leave_slot(VFIO);
	pthread_mutex_unlock(&lock);
}
