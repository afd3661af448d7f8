/* SPDX-License-Identifier: BSD-3-Clause */
/* Generated cases: one port that is done wrong, and two neighbours that must not notice. */
#ifndef FAULT_H
#define FAULT_H

#include "ts_log.h"
#include "vd_msg.h"

/*
 * Theory of operation
 *
 * Three devices have one control thread, which is the test's, and one lcore, a thread that polls all
 * their rings in turn. The neighbours live as long as the program. What one of them sends the other
 * receives; the lcore is their guests as well, so that it can tell exactly, on the slowest machine,
 * that no turn left frames of theirs lying, that all that was sent came, and (by what the kernel
 * says of the thread) that it was never asleep. The third is the port, made anew for each case.
 *
 * A case is a function and what it is about. Rows of the fault matrix generate them in loops:
 * message by message, fault by fault, phase by phase. What all of them assert is in the harness:
 * fault_end().
 */

/* How far a front-end has come when its fault comes. */
enum fault_phase {
	FAULT_NEW,       /* connected, protocol features negotiated */
	FAULT_RUNNING,   /* rings of two pairs run */
	FAULT_MIGRATING, /* and the dirty log is on */
	FAULT_PHASES
};

enum fault_format {
	FAULT_EITHER, /* the case's name says, the same in each run */
	FAULT_SPLIT,
	FAULT_PACKED
};

extern const char *const fault_phase_names[FAULT_PHASES];

struct fault;

struct fault_case {
	void (*run)(struct fault *f, const struct fault_case *c);
	enum fault_phase phase;
	enum fault_format format;
	const struct vd_msg *msg; /* NULL: it is about no message in particular */
	uint64_t arg[3];
	const void *data;
	uint16_t timeout_ms; /* the port's patience; 0: its own */
	bool slow;           /* never in the short run */
	char name[112];      /* row_what[message,fault,phase] */
};

/* What a case works with. */
struct fault {
	struct vd *t; /* the port; its polling is the harness's */
	struct vd *near[2];
	struct ts_log *log; /* of a case that migrates; or NULL */
	const struct fault_case *c;
	bool may_sleep;   /* the lcore: that is what the case is about */
	bool quarantined; /* the port is not polled by it; changed while it rests */
};

/** Add a case: a copy of c with this name. */
void fault_add(const struct fault_case *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * Generate and run: main() of a program of cases. A short run takes a case of each kind and message,
 * always the same; SLUICE_ALL=1 takes all of them, and so does naming some.
 */
int fault_main(void (*const rows[])(void), unsigned n, int argc, char **argv);

/** The running case is so many in one, of which the figures at the end shall tell. */
void fault_count(unsigned n);

/** A number of the case's own, the same in every run. */
uint32_t fault_hash_of(const struct fault_case *c);

#define FAULT_EACH_MSG(row) for (const struct vd_msg *row = vd_msgs; row->id; row++)

/* ---- for cases ---- */

/** The port's front-end, connected again after it has gone, and as far as this. */
void fault_enter(struct fault *f, enum fault_phase phase);

/** The port anew, as conf says by now: nobody is connected. */
void fault_again(struct fault *f);

/** The same, with so many pairs; elsewhere: this lcore does not poll them. */
void fault_pairs(struct fault *f, uint16_t pairs, bool elsewhere);

/** The guest sends n frames, or posts n buffers and there are n frames for it. */
void fault_post(struct fault *f, unsigned ring, unsigned n);

/** Frames in both directions of both pairs, by the lcore. */
void fault_traffic(struct fault *f);

/** The port has closed the connection, and says this why (NULL: anything); with a bounded wait. */
void fault_closed(struct fault *f, const char *why);

/** The port's front-end goes away, and the port notices. */
void fault_leave(struct fault *f);

/** Send with NEED_REPLY; the acknowledgement: 0 or -EREMOTEIO, or -ECONNRESET if it closed. */
int fault_ask(struct fault *f, struct ts_msg *m);

/**
 * The message must be refused: acknowledged so and nothing changed, or the connection ended where
 * there is no acknowledgement. Running rings go on then.
 */
void fault_refused(struct fault *f, struct ts_msg *m);

/** Both neighbours' front-ends are answered meanwhile. */
void fault_neighbours_answer(struct fault *f);

/** The lcore rests, and works again; its counters go on. */
void fault_rest(struct fault *f);
void fault_work(struct fault *f);

/** Share a log of the whole guest, and begin to log. */
void fault_migrate(struct fault *f);

/**
 * n chains on each ring, by the lcore: I10, every page that changed and has a bit in the log is
 * marked, and nothing beside the log in its file was written.
 */
struct ts_log_result fault_logged(struct fault *f, unsigned n);

/** Resident memory of this process that is its own, KiB. */
long fault_rss(void);

/** It grew by less than this since `before`; sanitizers keep what was freed and are not asked. */
void fault_rss_flat(long before, long kib);

#endif
