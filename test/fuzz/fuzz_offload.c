/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a virtio-net header and a frame of any content, made an mbuf, and that a header again. */

/*
 * An input is the features of guest and other guest, a byte for style and pieces, ten bytes of header,
 * and the frame. It ends where memory ends, in one piece or cut in two, so that an access outside is a fault.
 */
#include "fuzz.h"
#include "offload_checks.h"

static struct guard guard;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool prepared;
	struct fuzz_input in = {data, size};
	struct virtio_net_hdr h;
	uint64_t features, other;
	uint8_t how, frame[2048];
	struct rte_mbuf *m;
	uint32_t len, cut;

	if (!prepared)
		guard_init(&guard);
	prepared = true;
	fuzz_bytes(&in, &features, sizeof(features));
	fuzz_bytes(&in, &other, sizeof(other));
	how = fuzz_u8(&in);
	fuzz_bytes(&in, &h, sizeof(h));
	len = (uint32_t)(in.left < sizeof(frame) ? in.left : sizeof(frame));
	if (len == 0 || !(h.flags || h.gso_type))
		return 0;
	fuzz_bytes(&in, frame, len);
	cut = how >> 2 ? len * (how >> 2) / 64 : 0;
	m = guard_packet(&guard, frame, len, &cut, cut > 0 && cut < len);
	if (vnet_hdr_to_mbuf(&h, features, how & 1 ? VNET_STYLE_RECEIVE : VNET_STYLE_FORWARD, m) !=
		0)
		return 0;
	PROMISE(m->pkt_len == len);
	offload_check_mbuf(m);
	offload_check_to_guest(m, other);
	return 0;
}
