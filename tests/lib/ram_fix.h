/*
 * tests/lib/ram_fix.h - a primary with memory and without a network: one machine whose fake RAM
 * (fake_ram.h) goes through the product's digest store, shadow and delta maker, and straight into a
 * store as signed memory points.
 *
 * Failures of the fixture itself abort: they are the test's bugs.
 */
#ifndef TESTS_RAM_FIX_H
#define TESTS_RAM_FIX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/seal.h"
#include "delta_int.h"
#include "fake_ram.h"
#include "format_fix.h"
#include "shadow_int.h"

struct rep_store;

#define RAM_FIX_POINTS 256u

struct ram_fix {
	struct fix_env env;
	struct lb_fs *fs; /* of the source */
	struct rep_digest *digest;
	struct rep_shadow *shadow;
	struct fake_ram *ram;
	struct lb_key dek;
	struct lb_signer *signer;
	uint64_t bytes, seq;
	unsigned workers;
	bool unhashed;              /* image[] is not made */
	void (*before_layer)(void); /* may be NULL: the product's code begins now */
	uint32_t seed_pack_bytes, delta_pack_bytes;
	struct lb_hash head;                    /* zero: the next point is full */
	struct rep_delta_result made;           /* of the last cut */
	uint64_t stage_ns, delta_ns, commit_ns; /* of the last cut: CPU of the calling thread, with
						   one worker; the store's share left out */
	uint64_t store_ns;
	/* of every point: its manifest and the SHA-256 of its RAM; point n - 1 is of seq n */
	struct lb_hash point[RAM_FIX_POINTS], image[RAM_FIX_POINTS];
	pthread_mutex_t lock; /* a store has one writer */
	struct rep_store *store;
};

/* Takes @fs, which the source's files go to; NULL: one in memory. */
void ram_fix_init(struct ram_fix *r, struct lb_fs *fs, uint64_t bytes, unsigned workers,
		  uint64_t seed);
void ram_fix_fini(struct ram_fix *r);
struct lb_id ram_fix_machine(void);
struct lb_id ram_fix_volume(void);
/* Cut, send into @store, commit. @acked: as if the receipt had come; otherwise the point is in the
 * store's drafts only, without a manifest, and the source does not know whether it arrived. */
void ram_fix_cut(struct ram_fix *r, struct rep_store *store, bool acked);
/* Make the next cut's layer, whose point is never made: what a failure in the middle leaves. */
int ram_fix_try(struct ram_fix *r, struct rep_store *store, struct lb_err *err);
/* rep_view_cfg.dek_of and scrub's, @arg is the fixture. */
int ram_fix_dek_of(void *arg, const struct lb_id *key_id, struct lb_key *out);

#endif
