/*
 * Somebody looks after the machines under lifeboat-vm: a run is over long before its machine is.
 * One whose guest faulted, or whose memory cannot be had any more, keeps its process so that it can
 * be looked at; it is an alarm until it is stopped or started again.
 *
 *   off <-> runs -> crashed -> off       each arrow is an event
 *            <-> silent                  its process is there and does not answer
 *            <-> starves                 the rest of its memory does not come (sa_vm_starves)
 *
 * Every few seconds each is asked, on the pool, one round at a time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"
#include "base/thread.h"
#include "vmcore/ctl.h"
#include "vmrun_int.h"
#include "vms_int.h"

#define EVERY_NS  UINT64_C(2000000000)
#define STARVE_NS UINT64_C(10000000000)
#define WHY       200

enum look {
	LOOK_OFF, /* also: never looked at */
	LOOK_RUNS,
	LOOK_SILENT,
	LOOK_STARVES,
	LOOK_CRASHED
};

struct watched {
	struct sa_vm_place place;
	enum look look;
	struct sa_vm_lazy lazy;
	char why[WHY];
};

struct sa_vmwatch {
	struct sa_agent *agent;
	struct lb_timer *timer;
	struct watched *known; /* as of the last round; the loop's */
	size_t count;
	struct watched *asked; /* the round that is under way: the pool's */
	size_t asked_count;
	bool busy;
	char trouble[WHY + 100];
};

/* ---- asking: blocking ---- */

bool sa_vm_starves(struct sa_vm_lazy *io, uint64_t left_pages, uint64_t now_ns)
{
	if (left_pages == 0 || left_pages != io->left_pages)
		*io = (struct sa_vm_lazy){.left_pages = left_pages, .since_ns = now_ns};
	return left_pages > 0 && now_ns - io->since_ns >= STARVE_NS;
}

/* One that is up. */
static void look_at_memory(struct watched *m, struct vm_ctl *c)
{
	const struct vm_ctl_msg rq = {.type = VM_CTL_GET_STATS};
	uint64_t now = lb_monotonic_ns(), left;
	struct vm_ctl_msg answer;

	if (!vm_ctl_info(c)->restored)
		return; /* all of its memory is its own */
	if (vm_ctl_call(c, &rq, VM_CTL_STATS, &answer, NULL, NULL) != 0)
		return; /* another round will tell */
	left = answer.stats.lazy_left_pages;
	if (!sa_vm_starves(&m->lazy, left, now))
		return;
	m->look = LOOK_STARVES;
	(void)snprintf(m->why, sizeof(m->why),
		       "%" PRIu64 " pages of its memory have not come for %" PRIu64
		       " s: does nbdkit of %.80s/ram.sock hang?",
		       left, (now - m->lazy.since_ns) / 1000000000u, m->place.dir);
}

/* What a machine says of itself may be no text. */
static void note_why(struct watched *m, const char *text)
{
	(void)snprintf(m->why, sizeof(m->why), "%.190s", text);
	(void)lb_utf8_clean(m->why);
}

static void look_at(struct watched *m)
{
	struct vm_ctl *c = NULL;
	struct lb_err err = {0};
	int rc = sa_vmrun_open(&c, m->place.dir, &err);

	if (rc == LB_ENOTFOUND || rc == LB_ECLOSED) {
		m->look = LOOK_OFF;
	} else if (rc != 0) {
		m->look = LOOK_SILENT;
		note_why(m, err.msg);
	} else if (vm_ctl_info(c)->state == VM_CRASHED) {
		m->look = LOOK_CRASHED;
		note_why(m, vm_ctl_info(c)->last);
	} else if (vm_ctl_info(c)->state == VM_OFF) {
		m->look = LOOK_OFF;
	} else {
		m->look = LOOK_RUNS;
		look_at_memory(m, c);
	}
	vm_ctl_close(c);
}

static void ask(void *arg)
{
	struct sa_vmwatch *w = arg;

	for (size_t i = 0; i < w->asked_count; i++)
		look_at(&w->asked[i]);
}

/* ---- telling ---- */

static const struct watched *known_at(const struct sa_vmwatch *w, const char *dir)
{
	for (size_t i = 0; w != NULL && i < w->count; i++)
		if (strcmp(w->known[i].place.dir, dir) == 0)
			return &w->known[i];
	return NULL;
}

static enum look look_before(const struct sa_vmwatch *w, const struct watched *m)
{
	const struct watched *before = known_at(w, m->place.dir);

	return before != NULL ? before->look : LOOK_OFF;
}

bool sa_vmwatch_starves(const struct sa_vmwatch *w, const char *dir)
{
	const struct watched *m = known_at(w, dir);

	return m != NULL && m->look == LOOK_STARVES;
}

static const char *of(const struct watched *m)
{
	return m->place.group != NULL ? m->place.group->name : m->place.run;
}

static void tell(const struct watched *m, enum look before)
{
	if (m->look == before)
		return;
	switch (m->look) {
	case LOOK_CRASHED:
		lb_log(LB_LOG_ERROR, "vm", "machine_crashed", "vm=%s", m->place.name, "of=%s",
		       of(m), "err=%s", m->why, NULL);
		break;
	case LOOK_STARVES:
		lb_log(LB_LOG_ERROR, "vm", "machine_starves", "vm=%s", m->place.name, "of=%s",
		       of(m), "err=%s", m->why, NULL);
		break;
	case LOOK_SILENT:
		lb_log(LB_LOG_WARN, "vm", "machine_silent", "vm=%s", m->place.name, "of=%s", of(m),
		       "err=%s", m->why, NULL);
		break;
	case LOOK_OFF:
		lb_log(LB_LOG_INFO, "vm", "machine_off", "vm=%s", m->place.name, "of=%s", of(m),
		       NULL);
		break;
	case LOOK_RUNS:
		lb_log(LB_LOG_INFO, "vm", "machine_runs", "vm=%s", m->place.name, "of=%s", of(m),
		       NULL);
		break;
	}
}

/* The worst of all. */
static void note_trouble(struct sa_vmwatch *w)
{
	static const char *const events[] = {[LOOK_SILENT] = "machine_silent",
					     [LOOK_STARVES] = "machine_starves",
					     [LOOK_CRASHED] = "machine_crashed"};
	const struct watched *worst = NULL;

	for (size_t i = 0; i < w->count; i++)
		if (w->known[i].look > (worst != NULL ? worst->look : LOOK_RUNS))
			worst = &w->known[i];
	w->trouble[0] = '\0';
	if (worst != NULL)
		(void)snprintf(w->trouble, sizeof(w->trouble), "%s: machine %.64s: %s",
			       events[worst->look], worst->place.name, worst->why);
}

static void asked(void *arg)
{
	struct sa_vmwatch *w = arg;
	struct watched *old = w->known;

	for (size_t i = 0; i < w->asked_count; i++)
		tell(&w->asked[i], look_before(w, &w->asked[i]));
	w->known = w->asked;
	w->count = w->asked_count;
	w->asked = NULL;
	w->busy = false;
	free(old);
	note_trouble(w);
}

/* ---- rounds ---- */

static void on_timer(void *arg)
{
	struct sa_vmwatch *w = arg;
	struct sa_vm_place *place;

	if (w->busy)
		return;
	place = calloc(SA_VM_PLACES_MAX, sizeof(*place));
	w->asked_count = place != NULL ? sa_vms_places(w->agent, NULL, place, SA_VM_PLACES_MAX) : 0;
	w->asked = place != NULL ? calloc(w->asked_count + 1, sizeof(*w->asked)) : NULL;
	if (w->asked != NULL) { /* no memory: next time */
		for (size_t i = 0; i < w->asked_count; i++) {
			const struct watched *before = known_at(w, place[i].dir);

			w->asked[i].place = place[i];
			if (before != NULL)
				w->asked[i].lazy = before->lazy;
		}
		w->busy = true;
		lb_pool_submit(w->agent->pool, ask, asked, w);
	}
	free(place);
}

int sa_vmwatch_create(struct sa_vmwatch **out, struct sa_agent *a, struct lb_err *err)
{
	struct sa_vmwatch *w = calloc(1, sizeof(*w));
	int rc;

	if (w == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "watch over machines");
	w->agent = a;
	rc = lb_timer_create(&w->timer, a->loop, on_timer, w, err);
	if (rc != 0) {
		free(w);
		return rc;
	}
	lb_timer_start(w->timer, EVERY_NS, EVERY_NS);
	*out = w;
	return 0;
}

void sa_vmwatch_destroy(struct sa_vmwatch *w)
{
	if (w == NULL)
		return;
	lb_timer_destroy(w->timer);
	free(w->known);
	free(w->asked);
	free(w);
}

const char *sa_vmwatch_trouble(const struct sa_vmwatch *w)
{
	return w != NULL && w->trouble[0] != '\0' ? w->trouble : NULL;
}
