/*
 * Somebody looks after the machines under lifeboat-vm: a run is over long before its machine is.
 * One whose guest faulted, or whose memory cannot be had any more, keeps its process so that it can
 * be looked at; it is an alarm until it is stopped or started again.
 *
 *   off <-> runs -> crashed -> off       each arrow is an event
 *            <-> silent                  its process is there and does not answer
 *
 * Every few seconds each is asked, on the pool, one round at a time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "vmcore/ctl.h"
#include "vmrun_int.h"
#include "vms_int.h"

#define EVERY_NS UINT64_C(2000000000)
#define WHY      200

enum look {
	LOOK_OFF, /* also: never looked at */
	LOOK_RUNS,
	LOOK_SILENT,
	LOOK_CRASHED
};

struct watched {
	struct sa_vm_place place;
	enum look look;
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

static void look_at(struct watched *m)
{
	struct vm_ctl *c = NULL;
	struct lb_err err = {0};
	int rc = sa_vmrun_open(&c, m->place.dir, &err);

	if (rc == LB_ENOTFOUND || rc == LB_ECLOSED) {
		m->look = LOOK_OFF;
	} else if (rc != 0) {
		m->look = LOOK_SILENT;
		(void)snprintf(m->why, sizeof(m->why), "%.190s", err.msg);
	} else if (vm_ctl_info(c)->state == VM_CRASHED) {
		m->look = LOOK_CRASHED;
		(void)snprintf(m->why, sizeof(m->why), "%.190s", vm_ctl_info(c)->last);
	} else {
		m->look = vm_ctl_info(c)->state == VM_OFF ? LOOK_OFF : LOOK_RUNS;
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

static enum look look_before(const struct sa_vmwatch *w, const struct watched *m)
{
	for (size_t i = 0; i < w->count; i++)
		if (strcmp(w->known[i].place.dir, m->place.dir) == 0)
			return w->known[i].look;
	return LOOK_OFF;
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

static void note_trouble(struct sa_vmwatch *w)
{
	w->trouble[0] = '\0';
	for (size_t i = 0; i < w->count; i++) {
		const struct watched *m = &w->known[i];
		bool crashed = m->look == LOOK_CRASHED;

		if (!crashed && (m->look != LOOK_SILENT || w->trouble[0] != '\0'))
			continue;
		(void)snprintf(w->trouble, sizeof(w->trouble), "%s: machine %.64s: %s",
			       crashed ? "machine_crashed" : "machine_silent", m->place.name,
			       m->why);
		if (crashed)
			return;
	}
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
		for (size_t i = 0; i < w->asked_count; i++)
			w->asked[i].place = place[i];
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
