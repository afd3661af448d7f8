/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests about the guest's memory. */
#include "vu_message.h"

int vu_on_set_mem_table(struct vu_context *c)
{
	const struct vu_mem_table *t = &c->msg->payload.mem;
	struct virtq_mem_req reqs[VU_MEM_REGIONS_MAX];
	struct vu_device *dev = c->dev;
	struct virtq_mem *mem, *old = dev->mem;
	char why[160];

	if (t->n == 0 || t->n > VU_MEM_REGIONS_MAX || t->n != c->nfds ||
		c->msg->header.size != 8 + t->n * sizeof(t->region[0]))
		return vu_refuse(dev, VU_TROUBLE_MEMORY_REJECTED,
			"a memory table of %u regions came with %u descriptors in %u bytes", t->n,
			c->nfds, c->msg->header.size);
	for (uint32_t i = 0; i < t->n; i++)
		reqs[i] = (struct virtq_mem_req){t->region[i].gpa, t->region[i].size,
			t->region[i].uva, t->region[i].mmap_offset, c->fds[i]};
	if (virtq_mem_create(reqs, t->n, old, &mem, why, sizeof(why)) != 0)
		return vu_refuse(dev, VU_TROUBLE_MEMORY_REJECTED, "%s", why);
	/* Views hold their own references; the old mappings go when the last view does. */
	dev->mem = mem;
	virtq_mem_put(old);
	return 0;
}
