/*
 * rb_world.h - what is outside a run, for tests: a disk that forgets, a clock, and targets that
 * count the effects they get. All of it survives the death of the engine; a boundary counter says
 * when it dies.
 *
 * A boundary is any instant between two things the outside can see: around each sync, at each start
 * of a verb, before and after its effect, before its answer. When boundary number .kill_at is
 * reached the world is dead: the disk answers LB_EIO and no verb acts, until rb_world_reboot().
 */
#ifndef TESTS_LIB_RB_WORLD_H
#define TESTS_LIB_RB_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/fs.h"
#include "run_int.h"

#define RW_FILES    4
#define RW_ATTEMPTS 16u
#define RW_STEPS    48u

struct rw_file_data {
	char name[64];
	uint8_t *cache, *durable;
	size_t cache_bytes, durable_bytes;
	bool used, name_durable, locked;
};

enum rw_fate {
	RW_OK,
	RW_FAIL,
	RW_HANG,
	RW_DEAF
}; /* HANG obeys a cancel, DEAF never answers */

struct rw_attempt {
	uint32_t starts, acts, answers;
	uint32_t top_generation;
	bool in_flight; /* in the process that is alive */
	bool cancelled;
	uint64_t ends_ns;
	struct rb_token token;
};

struct rw_target { /* one per step */
	struct rw_attempt attempts[RW_ATTEMPTS];
	bool released; /* an operator let the run go on without it */
};

struct rb_world {
	struct lb_env env;
	struct lb_fs fs;
	struct rb_verbs verbs;
	uint64_t now_ns, rng;
	struct rw_file_data files[RW_FILES];
	struct rw_target targets[RW_STEPS];
	uint64_t boundary, kill_at; /* kill_at 0: never */
	uint32_t kill_again;        /* after a reboot die again within so many boundaries; 0: no */
	bool dead;
	bool with_query, unattended;
	uint32_t cancel_pct;         /* of the operator's answers */
	uint32_t fail_pct, hang_pct; /* of attempts */
	uint64_t seed;
	uint64_t fail_sync_at, syncs; /* the n-th sync gives LB_ENOSPC; 0: none */
	char broken[200];             /* first invariant seen broken, "" when none */
	struct rb_run *run;
	uint32_t kills, commands;
};

void rb_world_init(struct rb_world *w, uint64_t seed);
void rb_world_fini(struct rb_world *w);
uint64_t rb_world_random(struct rb_world *w);
/* A cfg with everything of this world; path "run.log". */
struct rb_run_cfg rb_world_cfg(struct rb_world *w, const char *text);
/* After a death: what a kill (all writes stay) or a power cut (unsynced 512-byte pieces are lost at
 * random) leaves; then alive again. */
void rb_world_reboot(struct rb_world *w, bool power_cut);
struct rw_file_data *rb_world_file(struct rb_world *w, const char *name);
/* Serve .run until it ended (0), the world died (1), or it is stuck (2). Operators answer when
 * halted. */
int rb_world_serve(struct rb_world *w);
/* Start, kill at boundary @k (0: never) and resume until the run ends. Returns its final state, or
 * RB_RUN_NEW when an invariant broke (see .broken). */
enum rb_run_state rb_world_live(struct rb_world *w, const char *text, uint64_t k, bool power_cut,
				enum rb_test_bug bug);

#endif
