/*
 * tests/crash/ingest.h - the ingest whose power is cut, and the checker of what is left.
 *
 * Rounds of two points of three groups: their parts interleave, the next round's first parts are
 * sent before the commit, segments roll in between, receipts follow the commit. The points are made
 * once; what was acknowledged is noted in a struct ingest_log, which stands for the primary's
 * memory.
 */
#ifndef TESTS_CRASH_INGEST_H
#define TESTS_CRASH_INGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "store_fix.h"

#define INGEST_GROUPS 3u
#define INGEST_MAX    512u

struct lb_fs;

struct ingest {
	struct fix_env env;
	struct rep_store_cfg cfg;
	struct sf_group group[INGEST_GROUPS + 1];
	struct sf_point *point;
	unsigned points;
};

struct ingest_log {
	bool acked[INGEST_MAX];   /* the commit of this point returned success */
	bool receipt[INGEST_MAX]; /* and so did the commit after its receipt */
	/* Told whenever one of the above is set; may be NULL. */
	void (*on_ack)(void *arg, unsigned point, bool receipt);
	void *arg;
};

void ingest_init(struct ingest *g, unsigned points, uint32_t blocks, uint32_t changes,
		 uint64_t segment_bytes, uint64_t seed);
void ingest_fini(struct ingest *g);
/* Send what the store does not hold yet, from the first point on; stops at the first error. */
int ingest_run(struct ingest *g, struct rep_store *s, struct ingest_log *log, struct lb_err *err);
/* Open the store on @fs and look: every acknowledged point visible and whole, every visible point
 * whole (deep), every part counted as held readable, no damage. Returns the number of violations,
 * each printed when @loud. *out (may be NULL) keeps the store open. */
unsigned ingest_check(struct ingest *g, struct lb_fs *fs, const struct ingest_log *log, bool loud,
		      struct rep_store **out);

#endif
