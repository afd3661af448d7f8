/* SPDX-License-Identifier: BSD-3-Clause */
/* A port's share of an lcore: accounts of cycles. */
#include "share.h"

#include <rte_common.h>

#include "worker.h"

/* What one port can owe, whatever happened: a worker may have been interrupted in a poll. */
#define DEBT_MAX_US 1000

static void leave_out(struct worker *w, uint16_t port)
{
	w->ports[port].share.left_out = true;
	w->left_out[w->n_left_out++] = port;
}

static bool has_debts(const struct worker *w, uint16_t port)
{
	return w->work->outlets[port].kind != PORT_DEV;
}

static uint64_t charged(const struct worker *w, const struct share *s)
{
	return RTE_MIN(s->used, DEBT_MAX_US * w->us);
}

/* How many have had work, or been left out; and what all of them cost. */
static uint32_t add_up(const struct worker *w, uint64_t *all)
{
	uint32_t n = w->n_working;

	*all = 0;
	for (uint32_t i = 0; i < w->n_working; i++)
		*all += charged(w, &w->ports[w->working[i]].share);
	for (uint32_t i = 0; i < w->n_left_out; i++)
		n += w->ports[w->left_out[i]].share.used == 0;
	return n;
}

static void settle_one(struct share *s, int64_t over, int64_t slack, int64_t most)
{
	s->debt = RTE_MAX(RTE_MIN(s->debt + over, most), -slack);
}

/* Those that have paid are polled again. Before anybody joins them. */
static void settle_left_out(struct worker *w, int64_t part, int64_t slack, int64_t most)
{
	uint16_t kept = 0;

	for (uint16_t i = 0; i < w->n_left_out; i++) {
		uint16_t port = w->left_out[i];
		struct share *s = &w->ports[port].share;

		if (s->used == 0)
			settle_one(s, -part, slack, most);
		s->left_out = s->debt > 0;
		if (s->left_out)
			w->left_out[kept++] = port;
	}
	w->n_left_out = kept;
}

/* Accounts are settled after each dear poll. */
static void fit_burst(struct worker *w, struct share *s, uint64_t slack, bool alone)
{
	if (s->used > slack && !alone && BURST_MAX >> s->halved > 1)
		w->n_halved += s->halved++ == 0;
	else if ((s->used < slack / 4 || alone) && s->halved > 0)
		w->n_halved -= --s->halved == 0;
}

static void forget_all(struct worker *w)
{
	while (w->n_working > 0) {
		struct share *s = &w->ports[w->working[--w->n_working]].share;

		s->used = 0;
		fit_burst(w, s, 0, true);
	}
	while (w->n_left_out > 0)
		share_forgive(w, w->left_out[0]);
}

void share_settle(struct worker *w, const struct plan *plan)
{
	int64_t slack = plan->conf.share_us * (int64_t)w->us, most = DEBT_MAX_US * (int64_t)w->us;
	uint64_t all;
	uint32_t n = add_up(w, &all);
	int64_t part = n ? (int64_t)(all / n) : 0;

	w->unsettled = 0;
	if (slack == 0) {
		forget_all(w);
		return;
	}
	for (uint32_t i = 0; i < w->n_working; i++) {
		struct share *s = &w->ports[w->working[i]].share;

		if (has_debts(w, w->working[i]))
			settle_one(s, (int64_t)charged(w, s) - part, slack, most);
	}
	settle_left_out(w, part, slack, most);
	for (uint32_t i = 0; i < w->n_working; i++) {
		struct share *s = &w->ports[w->working[i]].share;

		if (has_debts(w, w->working[i]))
			fit_burst(w, s, (uint64_t)slack, n == 1);
		s->used = 0;
		if (s->debt > slack && !s->left_out)
			leave_out(w, w->working[i]);
	}
	w->n_working = 0;
}

uint16_t share_next(struct worker *w)
{
	uint16_t port = w->left_out[0];

	for (uint16_t i = 1; i < w->n_left_out; i++)
		w->left_out[i - 1] = w->left_out[i];
	w->left_out[w->n_left_out - 1] = port;
	return port;
}

uint16_t share_burst(const struct worker *w, const struct plan *plan, uint16_t port)
{
	return RTE_MAX(plan->conf.burst >> w->ports[port].share.halved, 1);
}

void share_forgive(struct worker *w, uint16_t port)
{
	struct share *s = &w->ports[port].share;
	uint16_t kept = 0;

	s->debt = 0;
	s->left_out = false;
	for (uint16_t i = 0; i < w->n_left_out; i++)
		if (w->left_out[i] != port)
			w->left_out[kept++] = w->left_out[i];
	w->n_left_out = kept;
}
