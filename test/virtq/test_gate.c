/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate under fire: a reader must never see a view after the control thread let go of it. */

/*
 * Compiled three times: as it is; with VIRTQ_GATE_SEQ_CST, the ordering that the thread sanitizer
 * understands; and with GATE_SKIP_WAIT, where the control thread does not wait and the reader must
 * be caught with a dead view. That proves that the other two would notice.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq.h"

#define ALIVE 0x600d
#define DEAD  0xdead

/* Millions on a machine that has two CPUs for us; on a busy one what fits the time. */
#define ENOUGH 20000u
#ifdef GATE_SKIP_WAIT
#define TIME_MS 20000u /* until it is caught */
#else
#define TIME_MS 1500u
#endif

#ifdef GATE_SKIP_WAIT
/* The race is wanted, so it must not be one in the language's sense. */
#define peek(p)    virtq_load(p)
#define poke(p, v) virtq_store(p, v)
#define LOOKS      400
#else
/* Plain, so that the thread sanitizer watches; volatile, so that each look is one. */
#define peek(p)    (*(const volatile __typeof__(*(p)) *)(p))
#define poke(p, v) (*(p) = (v))
#define LOOKS      32
#endif

struct fire {
	struct virtq_gate gate;
	struct virtq_view view[4];
	bool stop;
	uint64_t entered, closed, caught; /* the reader's */
};

static void *reader(void *arg)
{
	struct fire *f = arg;

	while (!virtq_load(&f->stop)) {
		const struct virtq_view *v = virtq_gate_enter(&f->gate);

		f->entered++;
		if (!v)
			f->closed++;
		for (unsigned i = 0; v && i < LOOKS; i++)
			if (peek(&v->num) != ALIVE || peek(&v->features) != (uintptr_t)v)
				virtq_count(&f->caught, 1);
		virtq_gate_leave(&f->gate);
	}
	return NULL;
}

static void revive(struct virtq_view *v)
{
	poke(&v->num, ALIVE);
	poke(&v->features, (uintptr_t)v);
}

/* What free() and the next malloc() would do to it. */
static void bury(struct virtq_view *v)
{
	poke(&v->num, DEAD);
	poke(&v->features, 0);
}

static void swap_once(struct fire *f, struct virtq_view *next)
{
	uint32_t ticket;
	struct virtq_view *old;

	if (next)
		revive(next);
	old = virtq_gate_swap(&f->gate, next, &ticket);
#ifndef GATE_SKIP_WAIT
	/* Somebody else may have both CPUs for a while: that is no failure. */
	assert_int_equal(virtq_gate_wait(&f->gate, ticket, 20000), 0);
#endif
	if (old)
		bury(old);
}

static void swap_many(struct fire *f)
{
	const uint64_t end = ts_now_ms() + TIME_MS;
	uint32_t i;

	for (i = 0; virtq_load(&f->caught) < 1000; i++) {
		if (i % 1024 == 0 && i > ENOUGH && ts_now_ms() > end)
			break;
		swap_once(f, i % 7 ? &f->view[i % 4] : NULL);
	}
	fprintf(stderr, "# %u swaps\n", i);
}

static void fire(bool fenced)
{
	struct fire *f = aligned_alloc(64, (sizeof(*f) + 63) & ~(size_t)63);
	pthread_t thread;
	uint32_t ticket;

	assert_non_null(f);
	*f = (struct fire){0};
	virtq_gate_init();
	virtq_gate_fenced |= fenced;
	assert_int_equal(pthread_create(&thread, NULL, reader, f), 0);
	swap_many(f);
	virtq_gate_swap(&f->gate, NULL, &ticket);
	virtq_store(&f->stop, true);
	pthread_join(thread, NULL);
	fprintf(stderr, "# %llu turns of the reader, %llu dead views\n",
		(unsigned long long)f->entered, (unsigned long long)f->caught);
#ifdef GATE_SKIP_WAIT
	assert_int_not_equal(f->caught, 0);
#else
	assert_true(f->entered > ENOUGH);
	assert_int_equal(f->caught, 0);
	assert_in_range(f->closed, 1, f->entered - 1);
#endif
	free(f);
}

static void fire_membarrier(void **state)
{
	(void)state;
	virtq_gate_init();
	if (virtq_gate_fenced)
		ts_skip("this kernel has no membarrier(2)");
	fire(false);
}

/* Last: there is no way back. */
static void fire_fenced(void **state)
{
	(void)state;
	fire(true);
}

/* ---- tickets ---- */

static void nobody_inside(void **state)
{
	struct virtq_view a, b;
	struct virtq_gate gate = {0};
	uint32_t ticket;

	(void)state;
	virtq_gate_init();
	assert_null(virtq_gate_swap(&gate, &a, &ticket));
	assert_int_equal(virtq_gate_wait(&gate, ticket, 0), 0);
	assert_ptr_equal(virtq_gate_view(&gate), &a);
	/* Who comes in after the swap has the new view: not waited for. */
	assert_ptr_equal(virtq_gate_swap(&gate, &b, &ticket), &a);
	assert_ptr_equal(virtq_gate_enter(&gate), &b);
	assert_int_equal(virtq_gate_wait(&gate, ticket, 0), 0);
	virtq_gate_leave(&gate);
}

static void somebody_inside(void **state)
{
	struct virtq_view a, b;
	struct virtq_gate gate = {0};
	uint32_t ticket, second;

	(void)state;
	virtq_gate_init();
	virtq_gate_swap(&gate, &a, &ticket);
	assert_ptr_equal(virtq_gate_enter(&gate), &a);
	assert_ptr_equal(virtq_gate_swap(&gate, &b, &ticket), &a);
	assert_int_equal(virtq_gate_wait(&gate, ticket, 0), -ETIMEDOUT);
	assert_ptr_equal(virtq_gate_swap(&gate, NULL, &second), &b);
	assert_int_equal(virtq_gate_wait(&gate, second, 0), -ETIMEDOUT);
	virtq_gate_leave(&gate);
	assert_int_equal(virtq_gate_wait(&gate, ticket, 0), 0);
	/* In again, but not with what the tickets stand for. */
	assert_null(virtq_gate_enter(&gate));
	assert_int_equal(virtq_gate_wait(&gate, ticket, 0), 0);
	assert_int_equal(virtq_gate_wait(&gate, second, 0), 0);
	virtq_gate_leave(&gate);
}

/* The counter comes round; a ticket is about one turn of it. */
static void turn_wraps(void **state)
{
	struct virtq_view a;
	struct virtq_gate gate = {.turn = UINT32_MAX - 1};
	uint32_t ticket;

	(void)state;
	virtq_gate_init();
	virtq_gate_swap(&gate, &a, &ticket);
	virtq_gate_enter(&gate);
	virtq_gate_swap(&gate, NULL, &ticket);
	assert_int_equal(ticket, UINT32_MAX);
	assert_int_equal(virtq_gate_wait(&gate, ticket, 0), -ETIMEDOUT);
	virtq_gate_leave(&gate);
	assert_int_equal(gate.turn, 0);
	assert_int_equal(virtq_gate_wait(&gate, ticket, 0), 0);
}

struct stuck {
	struct virtq_gate gate;
	struct virtq_view view;
	bool inside, leave;
};

static void *stuck_reader(void *arg)
{
	struct stuck *s = arg;

	virtq_gate_enter(&s->gate);
	__atomic_store_n(&s->inside, true, __ATOMIC_RELEASE);
	while (!virtq_load(&s->leave))
		ts_nap();
	virtq_gate_leave(&s->gate);
	return NULL;
}

static void stuck_inside(void **state)
{
	struct stuck s = {0};
	pthread_t thread;
	uint32_t ticket;
	uint64_t start;

	(void)state;
	virtq_gate_init();
	virtq_gate_swap(&s.gate, &s.view, &ticket);
	assert_int_equal(pthread_create(&thread, NULL, stuck_reader, &s), 0);
	assert_true(TS_WAIT(virtq_load_acquire(&s.inside), 5000));
	virtq_gate_swap(&s.gate, NULL, &ticket);
	start = ts_now_ms();
	assert_int_equal(virtq_gate_wait(&s.gate, ticket, 50), -ETIMEDOUT);
	assert_in_range(ts_now_ms() - start, 49, 5000);
	virtq_store(&s.leave, true);
	assert_int_equal(virtq_gate_wait(&s.gate, ticket, 5000), 0);
	pthread_join(thread, NULL);
}

/* ---- a burst through the gate ---- */

static uint16_t count_burst(
	struct virtq *vq, const struct virtq_view *view, void **pkts, uint16_t n)
{
	(void)pkts;
	assert_int_equal(vq->gate.turn & 1, 1);
	++*(unsigned *)(uintptr_t)view->arg;
	return n;
}

static void burst(void **state)
{
	struct virtq *vq = virtq_new();
	unsigned called = 0;
	struct virtq_view view = {.burst = count_burst, .arg = &called};
	uint32_t ticket;

	(void)state;
	virtq_gate_init();
	assert_int_equal(vq->closed, VIRTQ_DROP_TX_DISCONNECTED);
	assert_int_equal(virtq_burst(vq, NULL, 5), 0);
	virtq_gate_swap(&vq->gate, &view, &ticket);
	assert_int_equal(virtq_burst(vq, NULL, 5), 5);
	assert_int_equal(called, 1);
	assert_int_equal(vq->gate.turn, 4);
	virtq_free(vq);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_inside),
		cmocka_unit_test(somebody_inside),
		cmocka_unit_test(turn_wraps),
		cmocka_unit_test(stuck_inside),
		cmocka_unit_test(burst),
		cmocka_unit_test(fire_membarrier),
		cmocka_unit_test(fire_fenced),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}
