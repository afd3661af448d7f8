/* SPDX-License-Identifier: BSD-3-Clause */
/* The IOMMU of the NIC for tests: it reads and writes what is mapped now, and nothing else. */
#include <errno.h>
#include <unistd.h>

#include <sys/mman.h>

#include <rte_dev.h>
#include <rte_errno.h>

#include "selftest_nicsim_port.h"

#define PAGE  4096u
#define PAGES 16u
#define SIZE  ((size_t)PAGES * PAGE)

/* Memory as a guest's: the EAL knows of it, but has not made it. */
static struct area {
	uint8_t *va;
	struct rte_mbuf_ext_shared_info shared;
} area;

static void not_freed(void *addr, void *opaque)
{
	(void)addr, (void)opaque;
}

static int area_setup(void **state)
{
	area.va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area.va == MAP_FAILED || rte_extmem_register(area.va, SIZE, NULL, 0, PAGE) != 0)
		return -1;
	area.shared.free_cb = not_freed;
	rte_mbuf_ext_refcnt_set(&area.shared, 1);
	return nicsim_setup(state);
}

static int area_teardown(void **state)
{
	int err = nicsim_teardown(state);

	err |= rte_extmem_unregister(area.va, SIZE);
	return err | munmap(area.va, SIZE);
}

static struct rte_device *device_of(uint16_t port)
{
	struct rte_eth_dev_info info;

	assert_int_equal(rte_eth_dev_info_get(port, &info), 0);
	return info.device;
}

static int map(uint16_t port, size_t at, uint64_t iova, size_t len)
{
	return rte_dev_dma_map(device_of(port), area.va + at, iova, len);
}

static int unmap(uint16_t port, size_t at, uint64_t iova, size_t len)
{
	return rte_dev_dma_unmap(device_of(port), area.va + at, iova, len);
}

static uint64_t va_of(size_t at)
{
	return (uintptr_t)area.va + at;
}

/* An mbuf over the area, whose IOVA is what the caller says. */
static struct rte_mbuf *over(size_t at, uint64_t iova)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(tx_pool);

	nicsim_frame(area.va + at, LEN, 1);
	rte_mbuf_ext_refcnt_update(&area.shared, 1);
	rte_pktmbuf_attach_extbuf(m, area.va + at, iova, LEN, &area.shared);
	rte_pktmbuf_append(m, LEN);
	return m;
}

static void send_over(uint16_t port, size_t at, uint64_t iova)
{
	assert_true(send_one(port, 0, over(at, iova)));
	assert_int_equal(nicsim_poll(port), 0);
}

/* ---- cases ---- */

static void test_only_what_is_mapped(void **state)
{
	uint16_t port = port_open(0, "");

	(void)state;
	send_over(port, 0, va_of(0));
	expect(port, "dma_fault", 1);
	expect(port, "tx_sent_packets", 0);
	assert_int_equal(map(port, 0, va_of(0), 2 * PAGE), 0);
	expect(port, "dma_mapped", 1);
	send_over(port, 0, va_of(0));
	send_over(port, 2 * PAGE - LEN, va_of(2 * PAGE - LEN));
	expect(port, "tx_marked_good", 2);
	send_over(port, 2 * PAGE - LEN + 1, va_of(2 * PAGE - LEN + 1)); /* one byte too far */
	expect(port, "dma_fault", 2);
	assert_int_equal(map(port, 2 * PAGE, va_of(2 * PAGE), PAGE), 0);
	send_over(port, 2 * PAGE - 10, va_of(2 * PAGE - 10)); /* over two ranges */
	expect(port, "tx_marked_good", 3);
	assert_int_equal(nicsim_reset(port), 0);
	assert_int_equal(unmap(port, 0, va_of(0), 2 * PAGE), 0);
	send_over(port, 0, va_of(0));
	expect(port, "dma_fault", 3);
	expect(port, "dma_mapped", 1);
	expect(port, "dma_maps", 2);
	expect(port, "dma_unmaps", 1);
	expect(port, "dma_unmap_busy", 0);
	assert_int_equal(unmap(port, 2 * PAGE, va_of(2 * PAGE), PAGE), 0);
}

/* What the device reads is what the IOVA leads to. */
static void test_iova(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_mbuf *m;

	(void)state;
	assert_int_equal(map(port, 0, 0x10000, PAGE), 0);
	assert_int_equal(map(port, PAGE, 0x40000, PAGE), 0);
	send_over(port, 100, 0x10000 + 100);
	expect(port, "tx_marked_good", 1);
	send_over(port, 100, va_of(100)); /* not mapped there */
	expect(port, "dma_fault", 1);
	send_over(port, 100, 0x40000 + 100);
	expect(port, "tx_dma_wrong_iova", 1);
	send_over(port, PAGE - 10, 0x10000 + PAGE - 10); /* neighbours by address, not by IOVA */
	expect(port, "dma_fault", 2);
	m = make(LEN);
	rte_mbuf_iova_set(m, rte_mbuf_iova_get(m) + 64);
	assert_true(send_one(port, 0, m));
	assert_int_equal(nicsim_poll(port), 0);
	rte_mbuf_iova_set(m, rte_mbuf_iova_get(m) - 64);
	expect(port, "tx_dma_wrong_iova", 2);
	expect(port, "tx_sent_packets", 1);
}

static void test_unmapped_too_early(void **state)
{
	uint16_t port = port_open(0, "");

	(void)state;
	assert_int_equal(map(port, 0, va_of(0), PAGE), 0);
	assert_int_equal(map(port, PAGE, va_of(PAGE), PAGE), 0);
	assert_true(send_one(port, 0, over(PAGE, va_of(PAGE))));
	assert_int_equal(unmap(port, 0, va_of(0), PAGE), 0);
	expect(port, "dma_unmap_busy", 0);
	assert_int_equal(unmap(port, PAGE, va_of(PAGE), PAGE), 0);
	expect(port, "dma_unmap_busy", 1);
	assert_int_equal(mprotect(area.va, SIZE, PROT_NONE), 0); /* must not be touched now */
	assert_int_equal(nicsim_poll(port), 0);
	assert_int_equal(mprotect(area.va, SIZE, PROT_READ | PROT_WRITE), 0);
	expect(port, "dma_fault", 1);

	/* Sent, but still held: who does not know that must not unmap either. */
	assert_int_equal(nicsim_reset(port), 0);
	assert_int_equal(map(port, 0, va_of(0), PAGE), 0);
	send_over(port, 0, va_of(0));
	expect(port, "tx_marked_good", 1);
	assert_int_equal(unmap(port, 0, va_of(0), PAGE), 0);
	expect(port, "dma_unmap_busy", 2);
}

/* A file that is truncated under a mapping: the device does not take the program down. */
static void test_memory_gone(void **state)
{
	uint16_t port = port_open(0, "");
	int fd = memfd_create("guest", 0);
	struct rte_mbuf *m;

	(void)state;
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_true(mmap(area.va, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    area.va);
	assert_int_equal(map(port, 0, va_of(0), SIZE), 0);
	send_over(port, PAGE, va_of(PAGE));
	assert_true(send_one(port, 0, over(2 * PAGE, va_of(2 * PAGE))));
	m = over(3 * PAGE, va_of(3 * PAGE));
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	assert_true(send_one(port, 0, m)); /* gone before it is posted */
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_marked_good", 1);
	expect(port, "tx_dma_gone", 2);
	assert_int_equal(close(fd), 0);
}

static void test_refusals(void **state)
{
	uint16_t port = port_open(0, "maxdma=2"), none = port_open(1, "nodma=1");

	(void)state;
	assert_true(map(none, 0, va_of(0), PAGE) < 0);
	assert_int_equal(rte_errno, ENOTSUP);
	expect(none, "dma_refused", 1);
	assert_int_equal(map(port, 0, va_of(0), 2 * PAGE), 0);
	assert_true(map(port, PAGE, va_of(PAGE), PAGE) < 0);
	assert_int_equal(rte_errno, EEXIST);
	assert_true(map(port, 8 * PAGE, UINT64_MAX - PAGE + 2, PAGE) < 0);
	assert_int_equal(rte_errno, EINVAL);
	assert_int_equal(map(port, 2 * PAGE, va_of(2 * PAGE), PAGE), 0);
	assert_true(map(port, 3 * PAGE, va_of(3 * PAGE), PAGE) < 0);
	assert_int_equal(rte_errno, ENOSPC);
	assert_true(unmap(port, 0, va_of(0), PAGE) < 0); /* not in parts */
	assert_int_equal(rte_errno, ENOENT);
	expect(port, "dma_refused", 4);
	assert_int_equal(unmap(port, 0, va_of(0), 2 * PAGE), 0);
	assert_int_equal(map(port, 3 * PAGE, va_of(3 * PAGE), PAGE), 0);
}

/* The mappings are the device's, not the port's: they outlive its closing. */
static void test_outlives_the_port(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_device *dev = device_of(port);

	(void)state;
	assert_int_equal(map(port, 0, va_of(0), PAGE), 0);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(rte_eth_dev_close(port), 0);
	assert_int_equal(rte_dev_dma_unmap(dev, area.va, va_of(0), PAGE), 0);
	assert_true(rte_dev_dma_unmap(dev, area.va, va_of(0), PAGE) < 0);
}

/* Buffers that frames are received into are mapped as well. */
static void test_receive(void **state)
{
	struct rte_pktmbuf_extmem mem = {
		.buf_ptr = area.va, .buf_iova = va_of(0), .buf_len = SIZE, .elt_size = 384};
	struct rte_mempool *pool =
		rte_pktmbuf_pool_create_extbuf("ext", 127, 0, 0, 384, SOCKET_ID_ANY, &mem, 1);
	uint16_t port = port_probe(0, "");
	uint8_t frame[200];
	struct rte_mbuf *m;

	(void)state;
	assert_non_null(pool);
	assert_int_equal(rte_eth_dev_configure(port, 1, 1, &(struct rte_eth_conf){0}), 0);
	assert_int_equal(rte_eth_rx_queue_setup(port, 0, 64, 0, NULL, pool), 0);
	assert_int_equal(rte_eth_tx_queue_setup(port, 0, 64, 0, NULL), 0);
	assert_int_equal(rte_eth_dev_start(port), 0);
	nicsim_frame(frame, sizeof(frame), 0);
	assert_int_equal(nicsim_inject(port, 0, frame, sizeof(frame)), -ENOBUFS);
	expect(port, "rx_dma_fault", 1);
	assert_int_equal(map(port, 0, va_of(0), SIZE), 0);
	assert_int_equal(nicsim_inject(port, 0, frame, sizeof(frame)), 0);
	assert_int_equal(rte_eth_rx_burst(port, 0, &m, 1), 1);
	assert_memory_equal(rte_pktmbuf_mtod(m, void *), frame, sizeof(frame));
	assert_in_range(rte_pktmbuf_mtod(m, uintptr_t), va_of(0), va_of(SIZE));
	rte_pktmbuf_free(m);
	assert_int_equal(unmap(port, 0, va_of(0), SIZE), 0);
	expect(port, "dma_unmap_busy", 1);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	assert_int_equal(rte_eth_dev_close(port), 0);
	rte_mempool_free(pool);
}

#define AREA_CASE(f) cmocka_unit_test_setup_teardown(f, area_setup, area_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		AREA_CASE(test_only_what_is_mapped),
		AREA_CASE(test_iova),
		AREA_CASE(test_unmapped_too_early),
		AREA_CASE(test_memory_gone),
		AREA_CASE(test_refusals),
		AREA_CASE(test_outlives_the_port),
		AREA_CASE(test_receive),
	};

	return nicsim_main(tests, RTE_DIM(tests), argc, argv);
}
