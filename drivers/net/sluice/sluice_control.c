/* SPDX-License-Identifier: BSD-3-Clause */
/* The one control thread behind all ports, and how other threads hand it work. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/queue.h>

#include <event2/event.h>
#include <event2/thread.h>

#include "sluice_pmd.h"

/*
 * Theory of operation
 *
 * The vhost-user devices of all ports live on one thread and in one libevent loop, and
 * nothing of theirs may be touched elsewhere. An ethdev operation, which the application
 * may call on any thread, therefore puts what it wants done into a list, wakes the loop
 * and sleeps until it is done. Nothing is allocated for that, so it cannot fail.
 *
 * The thread exists as long as there are ports. It never calls the application, so
 * nothing of the application's can keep it from its work.
 */

struct handover {
	int (*fn)(void *arg);
	void *arg;
	int result;
	sem_t done;
	STAILQ_ENTRY(handover) next;
};

static struct {
	pthread_mutex_t lock; /* users, and who starts or stops the thread */
	unsigned int users;
	struct event_base *base; /* NULL: there is no thread */
	struct event *wake;
	dpdk_thread thread;

	pthread_mutex_t list_lock;
	STAILQ_HEAD(, handover) list;
} control = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.list_lock = PTHREAD_MUTEX_INITIALIZER,
	.list = STAILQ_HEAD_INITIALIZER(control.list),
};

/* ---- handing over ---- */

static struct handover *next_handover(void)
{
	struct handover *h;

	pthread_mutex_lock(&control.list_lock);
	h = STAILQ_FIRST(&control.list);
	if (h)
		STAILQ_REMOVE_HEAD(&control.list, next);
	pthread_mutex_unlock(&control.list_lock);
	return h;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct handover *h;

	(void)fd, (void)what, (void)arg;
	while ((h = next_handover()) != NULL) {
		h->result = h->fn(h->arg);
		sem_post(&h->done); /* h is its owner's stack: gone from here on */
	}
}

int sl_control_call(int (*fn)(void *arg), void *arg)
{
	struct handover h = {.fn = fn, .arg = arg};

	sem_init(&h.done, 0, 0);
	pthread_mutex_lock(&control.list_lock);
	STAILQ_INSERT_TAIL(&control.list, &h, next);
	pthread_mutex_unlock(&control.list_lock);
	event_active(control.wake, 0, 0);
	while (sem_wait(&h.done) != 0)
		; /* interrupted by a signal */
	sem_destroy(&h.done);
	return h.result;
}

/* ---- the thread ---- */

static dpdk_thread_ret control_main(void *arg)
{
	sigset_t all;

	(void)arg;
	sigfillset(&all); /* the application's signals are for its own threads */
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	event_base_loop(control.base, EVLOOP_NO_EXIT_ON_EMPTY);
	return 0;
}

static void control_free(void)
{
	if (control.wake)
		event_free(control.wake);
	if (control.base)
		event_base_free(control.base);
	control.wake = NULL;
	control.base = NULL;
}

static int control_start(void)
{
	int err = -ENOMEM;

	if (evthread_use_pthreads() == 0)
		control.base = event_base_new();
	if (control.base)
		control.wake = event_new(control.base, -1, EV_PERSIST, on_wake, NULL);
	if (control.wake)
		err = dpdk_thread_create(&control.thread, "sluice", control_main, NULL);
	if (err)
		control_free();
	return err > 0 ? -err : err;
}

/* From inside the loop: outside, it might not have begun yet. */
static int control_break(void *base)
{
	return event_base_loopbreak(base);
}

static void control_stop(void)
{
	sl_control_call(control_break, control.base);
	dpdk_thread_join(control.thread);
	control_free();
}

int sl_control_get(void)
{
	int err = 0;

	pthread_mutex_lock(&control.lock);
	if (!control.base)
		err = control_start();
	if (!err)
		control.users++;
	pthread_mutex_unlock(&control.lock);
	return err;
}

void sl_control_put(void)
{
	pthread_mutex_lock(&control.lock);
	if (--control.users == 0)
		control_stop();
	pthread_mutex_unlock(&control.lock);
}

struct event_base *sl_control_base(void)
{
	return control.base;
}
