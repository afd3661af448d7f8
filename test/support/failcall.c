/* SPDX-License-Identifier: BSD-3-Clause */
/* Preloaded into a program: the n-th call it makes itself of what may fail, fails. failcall.py says which. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Theory of operation
 *
 * The functions below take the place of libc's, libevent's, jansson's and DPDK's. Each looks where it was called from,
 * counts if that is the program itself, and fails if the count is what the test has written to a file that both map;
 * else it hands on six words, which is all that any of them takes. Processes that one becomes, or starts, share the
 * file, and so a count.
 */

/* Of the file, see failcall.py. */
struct failcall {
	uint32_t on;            /* written by the test */
	uint32_t at;            /* the call that fails, the first is 1; 0: none */
	uint32_t n;             /* calls so far */
	uint32_t hit;           /* it has come, the next two are valid */
	uint64_t where;         /* address of the call in the program's file */
	char name[32];          /* of the function */
	uint64_t at_call[8192]; /* where each was made */
};

static struct failcall *shared;
static uintptr_t text, text_end, base;

static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size, (void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
			continue;
		base = info->dlpi_addr;
		text = base + p->p_vaddr;
		text_end = text + p->p_memsz;
	}
	return 1; /* the first is the program */
}

static void __attribute__((constructor)) begin(void)
{
	const char *path = getenv("SLUICE_FAILCALL");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	dl_iterate_phdr(find_text, NULL);
	if (at != MAP_FAILED)
		shared = at;
}

static bool fails(const char *name, const void *from)
{
	const uintptr_t at = (uintptr_t)from;
	uint32_t n;

	if (!shared || !__atomic_load_n(&shared->on, __ATOMIC_ACQUIRE) || at < text ||
		at >= text_end)
		return false;
	n = __atomic_add_fetch(&shared->n, 1, __ATOMIC_RELAXED);
	if (n <= sizeof(shared->at_call) / sizeof(shared->at_call[0]))
		shared->at_call[n - 1] = at - base;
	if (n != shared->at)
		return false;
	shared->where = at - base;
	strncpy(shared->name, name, sizeof(shared->name) - 1);
	__atomic_store_n(&shared->hit, 1, __ATOMIC_RELEASE);
	return true;
}

typedef long any(long, long, long, long, long, long);

#pragma GCC visibility push(default)

/* Memory comes before anything else, also for who looks up the next function. */
any __libc_malloc, __libc_calloc, __libc_realloc, __libc_memalign;

#define FROM_HERE(name) fails(#name, __builtin_return_address(0))

#define MEMORY(name, real)                                                   \
	any failcall_##name __asm__(#name);                                  \
	long failcall_##name(long a, long b, long c, long d, long e, long f) \
	{                                                                    \
		if (FROM_HERE(name)) {                                       \
			errno = ENOMEM;                                      \
			return 0;                                            \
		}                                                            \
		return real(a, b, c, d, e, f);                               \
	}

MEMORY(malloc, __libc_malloc)
MEMORY(calloc, __libc_calloc)
MEMORY(realloc, __libc_realloc)
MEMORY(aligned_alloc, __libc_memalign)

/* What it returns then, and errno; first drops what it would have taken over. */
#define CALL(name, failure, error, first)                                    \
	any failcall_##name __asm__(#name);                                  \
	long failcall_##name(long a, long b, long c, long d, long e, long f) \
	{                                                                    \
		static any *next;                                            \
                                                                             \
		if (FROM_HERE(name)) {                                       \
			first;                                               \
			errno = (error);                                     \
			return (failure);                                    \
		}                                                            \
		if (!next)                                                   \
			next = (any *)(uintptr_t)dlsym(RTLD_NEXT, #name);    \
		return next(a, b, c, d, e, f);                               \
	}

#define NOTHING (void)0

CALL(strdup, 0, ENOMEM, NOTHING)
CALL(strndup, 0, ENOMEM, NOTHING)
CALL(open_memstream, 0, ENOMEM, NOTHING)
CALL(open64, -1, EMFILE, NOTHING)
CALL(openat64, -1, ENFILE, NOTHING)
CALL(fopen64, 0, EMFILE, NOTHING)
CALL(opendir, 0, EMFILE, NOTHING)
CALL(mkdir, -1, ENOSPC, NOTHING)
CALL(rename, -1, ENOSPC, NOTHING)
CALL(fsync, -1, EIO, NOTHING)
CALL(fflush, -1, ENOSPC, NOTHING)
CALL(ftruncate64, -1, ENOSPC, NOTHING)
CALL(posix_fallocate64, ENOSPC, ENOSPC, NOTHING)
CALL(mmap64, -1, ENOMEM, NOTHING)
CALL(memfd_create, -1, EMFILE, NOTHING)
CALL(eventfd, -1, EMFILE, NOTHING)
CALL(epoll_create1, -1, EMFILE, NOTHING)
CALL(epoll_ctl, -1, ENOSPC, NOTHING)
CALL(socket, -1, EMFILE, NOTHING)
CALL(socketpair, -1, EMFILE, NOTHING)
CALL(bind, -1, ENOMEM, NOTHING)
CALL(listen, -1, ENOBUFS, NOTHING)
CALL(connect, -1, EAGAIN, NOTHING)
CALL(accept4, -1, EMFILE, NOTHING)
CALL(fcntl64, -1, EMFILE, NOTHING)
CALL(dup, -1, EMFILE, NOTHING)
CALL(fork, -1, EAGAIN, NOTHING)
CALL(posix_spawn, EAGAIN, EAGAIN, NOTHING)
CALL(pthread_create, EAGAIN, EAGAIN, NOTHING)
CALL(getrandom, -1, EAGAIN, NOTHING)

CALL(event_base_new, 0, ENOMEM, NOTHING)
CALL(event_new, 0, ENOMEM, NOTHING)
CALL(event_add, -1, ENOMEM, NOTHING)
CALL(evbuffer_new, 0, ENOMEM, NOTHING)
CALL(evbuffer_add, -1, ENOMEM, NOTHING)
CALL(evconnlistener_new, 0, ENOMEM, NOTHING)
CALL(bufferevent_socket_new, 0, ENOMEM, NOTHING)
CALL(bufferevent_write, -1, ENOMEM, NOTHING)

CALL(rte_zmalloc, 0, ENOMEM, NOTHING)
CALL(rte_zmalloc_socket, 0, ENOMEM, NOTHING)
CALL(rte_malloc, 0, ENOMEM, NOTHING)
CALL(rte_mempool_create_empty, 0, ENOMEM, NOTHING)
CALL(rte_mempool_populate_default, -ENOMEM, ENOMEM, NOTHING)
CALL(rte_pktmbuf_pool_create, 0, ENOMEM, NOTHING)
CALL(rte_ring_create, 0, ENOMEM, NOTHING)
CALL(rte_hash_create, 0, ENOMEM, NOTHING)
CALL(rte_ctrl_thread_create, -EAGAIN, EAGAIN, NOTHING)
CALL(rte_dev_probe, -ENOMEM, ENOMEM, NOTHING)
CALL(rte_eth_dev_configure, -ENOMEM, ENOMEM, NOTHING)
CALL(rte_eth_rx_queue_setup, -ENOMEM, ENOMEM, NOTHING)
CALL(rte_eth_tx_queue_setup, -ENOMEM, ENOMEM, NOTHING)
CALL(rte_eth_dev_start, -EIO, EIO, NOTHING)

CALL(json_object, 0, ENOMEM, NOTHING)
CALL(json_array, 0, ENOMEM, NOTHING)
CALL(json_string, 0, ENOMEM, NOTHING)
CALL(json_integer, 0, ENOMEM, NOTHING)
CALL(json_loadb, 0, ENOMEM, NOTHING)
CALL(json_dumps, 0, ENOMEM, NOTHING)

/* A reference that would have been taken over is dropped by jansson itself then. */
void json_delete(void *json);

struct json {
	int type;
	volatile size_t refcount;
};

static void drop(long json)
{
	struct json *j = (struct json *)json;

	if (j && j->refcount != SIZE_MAX &&
		__atomic_sub_fetch(&j->refcount, 1, __ATOMIC_RELEASE) == 0)
		json_delete(j);
}

CALL(json_object_set_new, -1, ENOMEM, drop(c))
CALL(json_array_append_new, -1, ENOMEM, drop(b))

int failcall_asprintf(char **out, const char *fmt, ...) __asm__("asprintf");

int failcall_asprintf(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (FROM_HERE(asprintf)) {
		errno = ENOMEM;
		return -1;
	}
	va_start(ap, fmt);
	n = vasprintf(out, fmt, ap);
	va_end(ap);
	return n;
}
