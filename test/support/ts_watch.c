/* SPDX-License-Identifier: BSD-3-Clause */
/* Watching guest memory, one instruction at a time. */
#include "ts_watch.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ts_watch_insn.h"

#define PAGE         4096ull
#define MAX_ACCESSES 400000u
#define TRAP_FLAG    0x100
#define WROTE        0x2 /* in the page fault's error code */

extern const char __executable_start[];

#ifdef TS_WATCH_CAN
#include <ucontext.h>

/* What the one instruction under way has opened: its source and its target, each across pages. */
static struct {
	struct ts_watch *w;
	uint8_t *page[4];
	unsigned n;
	unsigned first; /* of its accesses */
	struct sigaction segv, trap;
} now;

static void die(const char *what, const uint8_t *ip)
{
	char text[160];
	int n = snprintf(text, sizeof(text), "ts_watch: %s at %#lx:", what,
		(unsigned long)(ip - (const uint8_t *)__executable_start));

	for (unsigned i = 0; i < 12; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " %02x", ip[i]);
	text[n++] = '\n';
	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		_exit(98);
	_exit(98);
}

/* The second page of an access that is known already. */
static bool goes_on(const struct ts_watch *w, uint64_t gpa, bool write)
{
	for (unsigned i = now.first; i < w->n; i++)
		if (w->access[i].write == write && gpa - w->access[i].gpa < w->access[i].len)
			return true;
	return false;
}

static void note(struct ts_watch *w, uint64_t gpa, bool write, const uint8_t *ip)
{
	struct ts_insn insn;

	if (goes_on(w, gpa, write))
		return;
	if (!ts_insn_of(ip, &insn))
		die("an instruction of unknown width, teach ts_watch_insn.c", ip);
	if (w->n == MAX_ACCESSES)
		die("too many accesses", ip);
	w->access[w->n++] = (struct ts_access){
		gpa, insn.width, !write || !insn.only_stores, write, (uintptr_t)ip};
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	const uint8_t *ip = (const uint8_t *)uc->uc_mcontext.gregs[REG_RIP];
	uint8_t *page = (uint8_t *)((uintptr_t)info->si_addr & ~(PAGE - 1));
	uint64_t gpa = ts_gpa(now.w->guest, info->si_addr);

	(void)sig;
	if (gpa == TS_NOMEM || now.n == 4) {
		sigaction(SIGSEGV, &now.segv, NULL); /* not ours: it will happen again */
		return;
	}
	if (now.n == 0)
		now.first = now.w->n;
	note(now.w, gpa, uc->uc_mcontext.gregs[REG_ERR] & WROTE, ip);
	now.page[now.n++] = page;
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void protect_all(const struct ts_guest *g, int how)
{
	for (unsigned i = 0; i < g->n; i++)
		mprotect(g->r[i].va, g->r[i].size, how);
}

static void tell(struct ts_watch *w)
{
	unsigned n = w->n;

	protect_all(w->guest, PROT_READ | PROT_WRITE);
	for (unsigned i = now.first; i < n; i++)
		w->after(w->arg, &w->access[i]);
	protect_all(w->guest, PROT_NONE);
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig, (void)info;
	uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	if (now.w->after) {
		tell(now.w);
		now.n = 0;
	}
	while (now.n > 0)
		mprotect(now.page[--now.n], PAGE, PROT_NONE);
}

static void take_over(struct ts_watch *w)
{
	struct sigaction segv = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

	now.w = w;
	now.n = 0;
	sigaction(SIGSEGV, &segv, &now.segv);
	sigaction(SIGTRAP, &trap, &now.trap);
	protect_all(w->guest, PROT_NONE);
}

static void release(struct ts_watch *w)
{
	protect_all(w->guest, PROT_READ | PROT_WRITE);
	sigaction(SIGSEGV, &now.segv, NULL);
	sigaction(SIGTRAP, &now.trap, NULL);
}
#else
static void take_over(struct ts_watch *w)
{
	(void)w;
}

static void release(struct ts_watch *w)
{
	(void)w;
}
#endif

struct ts_watch *ts_watch_new(const struct ts_guest *g)
{
	struct ts_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->guest = g;
	w->access = calloc(MAX_ACCESSES, sizeof(*w->access));
	for (unsigned i = 0; i < g->n && w->access; i++) {
		w->reads[i] = calloc(1, g->r[i].size);
		w->allowed[i] = calloc(1, g->r[i].size);
		if (w->reads[i] && w->allowed[i])
			continue;
		ts_watch_free(w);
		return NULL;
	}
	return w;
}

void ts_watch_free(struct ts_watch *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < w->guest->n; i++) {
		free(w->reads[i]);
		free(w->allowed[i]);
	}
	free(w->access);
	free(w);
}

/* The counter of a byte. What was recorded is guest memory. */
static uint8_t *counter(const struct ts_watch *w, uint8_t *const *of, uint64_t gpa)
{
	static uint8_t none;

	for (unsigned i = 0; i < w->guest->n; i++)
		if (gpa - w->guest->r[i].gpa < w->guest->r[i].size)
			return &of[i][gpa - w->guest->r[i].gpa];
	return &none;
}

void ts_watch_allow(struct ts_watch *w, uint64_t gpa, uint64_t len, uint8_t more)
{
	while (len-- > 0)
		*counter(w, w->allowed, gpa + len) = more;
}

/* Forget (by 0), or count. */
static void count(struct ts_watch *w, unsigned by)
{
	for (unsigned i = 0; i < w->n; i++) {
		const struct ts_access *a = &w->access[i];

		for (unsigned k = 0; k < a->len && a->read; k++) {
			uint8_t *c = counter(w, w->reads, a->gpa + k);

			*c = by ? (uint8_t)(*c + (*c < 255)) : 0;
		}
	}
}

void ts_watch_begin(struct ts_watch *w)
{
	count(w, 0);
	w->n = 0;
	take_over(w);
}

void ts_watch_end(struct ts_watch *w)
{
	release(w);
	count(w, 1);
}

unsigned ts_watch_reads(const struct ts_watch *w, uint64_t gpa)
{
	return *counter(w, w->reads, gpa);
}

static void explain(const struct ts_watch *w, uint64_t gpa, char *why, size_t cap)
{
	int n = snprintf(why, cap, "byte %#llx of the guest is read %u times, by",
		(unsigned long long)gpa, ts_watch_reads(w, gpa));

	for (unsigned i = 0; i < w->n && n > 0 && (size_t)n < cap; i++)
		if (w->access[i].read && gpa - w->access[i].gpa < w->access[i].len)
			n += snprintf(why + n, cap - (size_t)n, " %#lx(%u)",
				(unsigned long)(w->access[i].ip - (uintptr_t)__executable_start),
				w->access[i].len);
}

bool ts_watch_once(const struct ts_watch *w, char *why, size_t cap)
{
	for (unsigned i = 0; i < w->n; i++) {
		const struct ts_access *a = &w->access[i];

		for (uint64_t at = a->gpa; at < a->gpa + a->len && a->read; at++) {
			if (ts_watch_reads(w, at) <= 1u + *counter(w, w->allowed, at))
				continue;
			explain(w, at, why, cap);
			return false;
		}
	}
	return true;
}
