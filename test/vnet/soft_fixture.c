/* SPDX-License-Identifier: BSD-3-Clause */
/* A vnet_soft, and packets in every shape memory can give them. */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_string_fns.h>

#include "soft_fixture.h"

struct vnet_soft *soft;
struct frame frame;
struct rte_mbuf *out[OUT_MAX];
uint8_t bytes[FRAME_MAX];

static struct rte_mempool *pool; /* of packets as a guest's come in */
static struct rte_mbuf *held;    /* what somebody else holds */

/* CWR, ACK, PSH, FIN */
#define TCP4 .proto = IPPROTO_TCP, .tcp_flags = 0x99
#define TCP6 .v6 = true, .proto = IPPROTO_TCP, .tcp_flags = 0x99

const struct frame_spec large_tcp[] = {
	{"64K", TCP4, .payload = 65535 - 60},
	{"vlan", TCP4, .tag = {0x8100}, .payload = 30001},
	{"802.1ad, options", TCP4, .tag = {0x88a8}, .options = 40, .tcp_options = 40,
		.payload = 10000},
	{"qinq, timestamps", TCP4, .tag = {0x88a8, 0x8100}, .tcp_options = 12, .payload = 4321},
	{"v6 64K", TCP6, .payload = 65535 - 60},
	{"v6 vlan", TCP6, .tag = {0x8100}, .tcp_options = 12, .payload = 30001},
	{"v6 extension", TCP6, .options = 24, .payload = 10001},
	{"v6 two vlans", TCP6, .tag = {0x8100, 0x8100}, .tcp_options = 40, .payload = 4321},
};
const size_t nlarge_tcp = RTE_DIM(large_tcp);

int soft_run(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	static char line[] = "vnet --no-huge -m 128 --no-pci --no-shconf --no-telemetry -l 0 "
			     "--log-level error";
	char *eal[16];
	int neal = rte_strsplit(line, sizeof(line), eal, RTE_DIM(eal), ' '), err = 1;

	if (rte_eal_init(neal, eal) < 0) {
		fprintf(stderr, "%s: EAL does not start: %s\n", argv[0], rte_strerror(rte_errno));
		return 1;
	}
	soft = vnet_soft_create("test_soft", SOCKET_ID_ANY);
	pool = rte_pktmbuf_pool_create("test", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (soft && pool)
		err = ts_run_tests(tests, n, argc, argv);
	vnet_soft_destroy(soft);
	rte_mempool_free(pool);
	return rte_eal_cleanup() != 0 || err;
}

void soft_no_leak(void)
{
	static const char *const names[] = {
		"test", "test_soft_dir", "test_soft_ind", "test_soft_big"};

	for (size_t i = 0; i < RTE_DIM(names); i++) {
		struct rte_mempool *mp = rte_mempool_lookup(names[i]);

		assert_non_null(mp);
		assert_int_equal(rte_mempool_in_use_count(mp), 0);
	}
}

void soft_free(uint16_t n)
{
	rte_pktmbuf_free_bulk(out, n);
}

static struct rte_mbuf *chain(uint32_t first, uint32_t piece)
{
	struct rte_mbuf *m = NULL, *tail = NULL;
	uint32_t done = 0;

	while (done < frame.len) {
		struct rte_mbuf *next = rte_pktmbuf_alloc(pool);
		uint32_t part = RTE_MIN(done == 0 ? first : piece, frame.len - done);

		assert_non_null(next);
		memcpy(rte_pktmbuf_append(next, (uint16_t)part), frame.byte + done, part);
		done += part;
		if (m) {
			tail->next = next;
			m->nb_segs++;
			m->pkt_len += part;
		} else {
			m = next;
		}
		tail = next;
	}
	return m;
}

static void external_free(void *addr, void *opaque)
{
	rte_free(addr);
}

static struct rte_mbuf *external(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	uint16_t len = UINT16_MAX;
	void *buf = rte_malloc(NULL, len, 0);
	struct rte_mbuf_ext_shared_info *info;

	assert_non_null(buf);
	info = rte_pktmbuf_ext_shinfo_init_helper(buf, &len, external_free, NULL);
	rte_pktmbuf_attach_extbuf(m, buf, 0, len, info);
	memcpy(rte_pktmbuf_append(m, (uint16_t)frame.len), frame.byte, frame.len);
	return m;
}

struct rte_mbuf *soft_packet(enum shape shape)
{
	struct rte_mbuf *m;

	switch (shape) {
	case ODD:
		return chain(1111, 1111);
	case AT_HEADERS:
		return chain(frame.data, 2048);
	case EXTERNAL:
		return external();
	case SHARED:
		held = m = chain(2048, 2048);
		for (; m; m = m->next)
			rte_mbuf_refcnt_update(m, 1);
		return held;
	case CLONED:
		held = chain(2048, 2048);
		return rte_pktmbuf_clone(held, pool);
	case EXTERNAL_CLONED:
		held = external();
		return rte_pktmbuf_clone(held, pool);
	default:
		return chain(2048, 2048);
	}
}

void soft_release(uint64_t flags)
{
	if (!held)
		return;
	assert_int_equal(mbuf_bytes(held, bytes), frame.len);
	assert_memory_equal(bytes, frame.byte, frame.len);
	flags |= held->ol_flags & RTE_MBUF_F_EXTERNAL;
	assert_true(held->ol_flags == flags || !(held->ol_flags & VNET_OFFLOAD_FLAGS));
	rte_pktmbuf_free(held);
	held = NULL;
}

uint64_t soft_request(struct rte_mbuf *m, const struct virtio_net_hdr *h)
{
	assert_int_equal(vnet_hdr_to_mbuf(h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
	assert_true(m->ol_flags & VNET_OFFLOAD_FLAGS);
	m->vlan_tci = 77;
	m->port = 5;
	return m->ol_flags;
}

void soft_check(const struct rte_mbuf *m, uint64_t offloads)
{
	assert_false(
		m->ol_flags & (VNET_OFFLOAD_FLAGS | RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL));
	assert_int_equal(m->tso_segsz, 0);
	assert_int_equal(m->vlan_tci, 77);
	assert_int_equal(m->port, 5);
	assert_true((offloads & SEGS) || m->nb_segs == 1);
	assert_int_equal(rte_mbuf_refcnt_read(m), 1);
	for (const struct rte_mbuf *s = m; s; s = s->next)
		assert_true(s->data_len > 0);
}

struct virtio_net_hdr soft_large(uint16_t mss)
{
	struct virtio_net_hdr h = frame_strip(&frame);

	h.gso_type = frame.proto == IPPROTO_UDP ? VIRTIO_NET_HDR_GSO_UDP
		     : frame.v6                 ? VIRTIO_NET_HDR_GSO_TCPV6
						: VIRTIO_NET_HDR_GSO_TCPV4;
	h.gso_size = mss;
	return h;
}
