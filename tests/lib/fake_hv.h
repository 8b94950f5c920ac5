/*
 * tests/lib/fake_hv.h - a hypervisor and its view servers that live in memory: all of
 * siteagent/hv.h and the sa_view_* functions, linked in place of the real ones. It outlives the
 * agent and counts, so that a test can kill the agent at any instant and see what was done twice.
 *
 * Every call is two operations of @fs, one before and one after its effect: with
 * lb_memfs_cut_at_op() the agent dies at either side of it. While @fs is cut nothing has an effect.
 * A machine that is no drill's and is started beside one of a drill is something that must not be.
 * Thread: any.
 */
#ifndef TESTS_FAKE_HV_H
#define TESTS_FAKE_HV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent_int.h"

#define FH_MACHINES 8u
#define FH_VIEWS    8u

struct fh_machine {
	char name[SA_NAME_BYTES];
	char dir[SA_PATH_BYTES];
	bool defined, running;
	unsigned prepares, starts, stops; /* starts: off to running */
	struct lb_hash point;             /* of its first disk's view when it was prepared */
	unsigned adopts;
};

struct fh_view {
	char dir[SA_PATH_BYTES];
	char volume[SA_NAME_BYTES];
	struct lb_hash point;
	bool alive;
	unsigned serves;
};

struct fake_hv {
	struct lb_fs *fs;
	pthread_mutex_t lock;
	struct fh_machine machine[FH_MACHINES];
	struct fh_view view[FH_VIEWS];
	bool hang_probes;     /* until they are cancelled */
	unsigned probes;      /* that began */
	unsigned fail_probes; /* so many probes fail first */
	const char *said;     /* what those say; NULL: something */
	unsigned fail_stops;  /* so many stops fail first */
	int stop_code;        /* with this code; 0: LB_EAGAIN */
	unsigned fail_serves; /* so many views fail first */
	bool hold_stops;      /* nothing is stopped as long as it is set */
	char broken[200];     /* first thing seen that must never be, "" none */
};

void fake_hv_init(struct fake_hv *f, struct lb_fs *fs); /* becomes THE hypervisor */
void fake_hv_fini(struct fake_hv *f);
struct sa_hv *fake_hv_handle(struct fake_hv *f); /* for sa_agent.hv */
/* NULL: no machine of that name was ever defined. */
const struct fh_machine *fake_hv_find(const struct fake_hv *f, const char *name);
/* Any number that must be what it is while workers run. */
unsigned fake_hv_running(struct fake_hv *f);
unsigned fake_hv_views(struct fake_hv *f); /* alive */
unsigned fake_hv_probes(struct fake_hv *f);

#endif
