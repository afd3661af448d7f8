/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a ring and all of guest memory, walked in both directions. */

/*
 * An input is four bytes of settings (flags and size of the ring, chains to put back, position) and
 * then pieces of the guest's memory: where, how many bytes, the bytes. fuzz_ring.h says what lies where.
 */
#include "fuzz_ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct virtq_view v;
	uint8_t settings, back;
	uint16_t base;

	if (!fuzz_guest)
		fuzz_ring_prepare();
	settings = fuzz_u8(&in);
	back = fuzz_u8(&in);
	base = fuzz_u16(&in);
	fuzz_load(&in);
	v = fuzz_view(settings);
	virtq_start(fuzz_vq, &v, fuzz_base(&v, base));
	for (unsigned i = 0; i < 4 && !fuzz_vq->fault; i++)
		fuzz_take_and_give(&v, settings & TO_GUEST ? VIRTQ_TO_GUEST : VIRTQ_FROM_GUEST,
			i == 0 ? back : 0);
	if (settings & DISCARD)
		virtq_discard(fuzz_vq, &v, UINT32_MAX);
	return 0;
}
