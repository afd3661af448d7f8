/* SPDX-License-Identifier: BSD-3-Clause */
/* The handler of SIGBUS, and the table it looks addresses up in. */
#include "virtq_trap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "virtq_order.h"

#define PIECE (64u << 10)

/* One mapping. Written under the lock, turn being odd meanwhile; read by the handler. */
struct virtq_trap {
	uint32_t turn;
	bool sprung;
	uintptr_t at;
	size_t len; /* 0: free */
	size_t piece;
};

/* They are never freed, so that the handler may read on at any time. */
#define TRAPS 64

struct block {
	struct virtq_trap trap[TRAPS];
	struct block *next;
};

static struct block first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;
static int event_fd = -1;

/* This thread has handed a signal on. Of the kind of variable that a handler may touch. */
static __thread volatile bool handing_on __attribute__((tls_model("initial-exec")));

/* ---- in the handler ---- */

/* ThreadSanitizer may have faulted for us, with a lock of its own that it would take again here. */
#ifdef VIRTQ_TSAN
#define IN_HANDLER __attribute__((disable_sanitizer_instrumentation))
#else
#define IN_HANDLER
#endif

IN_HANDLER static bool holds(const struct virtq_trap *trap, uintptr_t addr, struct virtq_trap *copy)
{
	uint32_t turn = virtq_load_acquire(&trap->turn);

	copy->at = virtq_load_acquire(&trap->at);
	copy->len = virtq_load_acquire(&trap->len);
	copy->piece = virtq_load_acquire(&trap->piece);
	return !(turn & 1) && turn == virtq_load(&trap->turn) && addr - copy->at < copy->len;
}

IN_HANDLER static struct virtq_trap *find(uintptr_t addr, struct virtq_trap *copy)
{
	for (struct block *b = &first; b; b = virtq_load_acquire(&b->next))
		for (unsigned i = 0; i < TRAPS; i++)
			if (holds(&b->trap[i], addr, copy))
				return &b->trap[i];
	return NULL;
}

/* Not mmap() nor write(), which sanitizers and others replace by functions of their own. */
IN_HANDLER static bool map_zeros(uintptr_t at, size_t len)
{
	if (syscall(SYS_mmap, at, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == -1)
		return false;
	/* Else the first write would clear 2 MiB. */
	syscall(SYS_madvise, at, len, MADV_NOHUGEPAGE);
	return true;
}

IN_HANDLER static bool replace(uintptr_t addr)
{
	static const uint64_t one = 1;
	struct virtq_trap t, *trap = find(addr, &t);
	size_t off, len;

	if (!trap)
		return false;
	off = (addr - t.at) & ~(t.piece - 1);
	len = t.len - off < t.piece ? t.len - off : t.piece;
	if (!map_zeros(t.at + off, len) && !map_zeros(t.at, t.len))
		return false;
	__atomic_store_n(&trap->sprung, true, __ATOMIC_RELEASE);
	syscall(SYS_write, event_fd, &one, sizeof(one));
	return true;
}

/* Back to the default: an instruction that faulted does so again, another signal is sent again. */
IN_HANDLER static void end_process(int sig, bool again)
{
	const struct sigaction by_default = {.sa_handler = SIG_DFL};

	sigaction(sig, &by_default, NULL);
	if (!again)
		raise(sig);
}

/* A handler set after ours may call ours in turn, which has been set again since: there it ends. */
IN_HANDLER static void hand_on(int sig, siginfo_t *info, void *context, bool again)
{
	if (handing_on) {
		end_process(sig, again);
		return;
	}
	handing_on = true;
	if (previous.sa_flags & SA_SIGINFO)
		previous.sa_sigaction(sig, info, context);
	else if (previous.sa_handler == SIG_DFL || (previous.sa_handler == SIG_IGN && again))
		end_process(sig, again);
	else if (previous.sa_handler != SIG_IGN)
		previous.sa_handler(sig);
	handing_on = false;
}

IN_HANDLER static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	const int code = info->si_code, err = errno;
	bool touched = code == BUS_ADRERR || code == BUS_MCEERR_AR;

	if (!touched || !replace((uintptr_t)info->si_addr))
		hand_on(sig, info, context, touched || code == BUS_ADRALN || code == BUS_OBJERR);
	errno = err;
}

/* ---- setting traps, under the lock ---- */

/* Again, if somebody has set another. One who saved and restored ours may have lost its flags. */
static void install(void)
{
	const struct sigaction ours = {.sa_flags = SA_SIGINFO, .sa_sigaction = on_sigbus};
	struct sigaction now;

	sigaction(SIGBUS, NULL, &now);
	if (now.sa_sigaction != on_sigbus)
		previous = now;
	else if (now.sa_flags & SA_SIGINFO)
		return;
	sigaction(SIGBUS, &ours, NULL);
}

static int open_event(void)
{
	if (event_fd < 0)
		event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return event_fd < 0 ? -errno : event_fd;
}

static struct virtq_trap *find_free(void)
{
	struct block *b = &first;

	for (;; b = b->next) {
		for (unsigned i = 0; i < TRAPS; i++)
			if (b->trap[i].len == 0)
				return &b->trap[i];
		if (b->next)
			continue;
		virtq_store_release(&b->next, calloc(1, sizeof(*b)));
		if (!b->next)
			return NULL;
	}
}

static void change(struct virtq_trap *trap, uintptr_t at, size_t len, size_t piece)
{
	const uint32_t turn = trap->turn;

	virtq_store(&trap->turn, turn + 1);
	virtq_store_release(&trap->at, at);
	virtq_store_release(&trap->len, len);
	virtq_store_release(&trap->piece, piece);
	virtq_store_release(&trap->turn, turn + 2);
}

struct virtq_trap *virtq_trap_set(void *at, size_t len, size_t page)
{
	struct virtq_trap *trap = NULL;

	pthread_mutex_lock(&lock);
	install();
	if (open_event() >= 0)
		trap = find_free();
	if (trap) {
		__atomic_store_n(&trap->sprung, false, __ATOMIC_RELAXED);
		change(trap, (uintptr_t)at, len, page > PIECE ? page : PIECE);
	}
	pthread_mutex_unlock(&lock);
	return trap;
}

void virtq_trap_remove(struct virtq_trap *trap)
{
	pthread_mutex_lock(&lock);
	change(trap, 0, 0, 0);
	pthread_mutex_unlock(&lock);
}

bool virtq_trap_sprung(const struct virtq_trap *trap)
{
	return __atomic_load_n(&trap->sprung, __ATOMIC_ACQUIRE);
}

int virtq_trap_fd(void)
{
	int fd;

	pthread_mutex_lock(&lock);
	fd = open_event();
	pthread_mutex_unlock(&lock);
	return fd;
}
