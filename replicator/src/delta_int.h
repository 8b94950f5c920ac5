/*
 * delta_int.h - stages 2 to 4 of 8: one volume of a cut becomes one layer.
 *
 *   scan workers:  chunk -> read -> zero? same digest? -> pack -> seal -> emit
 *                                  (RAM: as REF or PATCH?)\-> run + digests -> the worker's spool
 *   finish:        spools merged in block order -> index and digests parts -> leaves -> footer
 *
 * Memory is bounded whatever the volume's size: about 1 MiB a worker, and spools that go to files
 * below "spool/" when they grow. Zero blocks and holes that were zero before cost nothing.
 */
#ifndef REPLICATOR_DELTA_INT_H
#define REPLICATOR_DELTA_INT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "replicator/layer.h"
#include "replicator/record.h"

struct lb_buf;
struct lb_env;
struct lb_err;
struct lb_file;
struct lb_fs;
struct lb_key;
struct img_dev;
struct img_extmap;
struct rep_digest;
struct rep_draft;
struct rep_shadow;

#define REP_DELTA_MAX_WORKERS 16u

struct rep_delta_cfg {
	struct lb_env *env;
	struct lb_fs *fs; /* for spools */
	const struct rep_layer_header *header;
	const struct lb_key *dek;
	struct rep_digest *digest; /* begun for this cut */
	struct img_dev *dev;
	const struct img_extmap *changed; /* NULL: everything may have changed */
	struct rep_shadow *shadow; /* begun for this cut; NULL: no ref and no patch is made */
	struct rep_draft *draft;   /* of a full layer: gone on with, or begun; NULL: none is kept */
	unsigned workers;
	/* Hand a part over; may block; called by any worker. A reference is taken on success. An
	 * error (LB_ECANCELED when nobody wants the layer any more) ends the run with it. */
	int (*emit)(void *arg, enum rep_record_kind kind, uint32_t number, struct lb_buf *body,
		    struct lb_err *err);
	/* Volume bytes dealt with, since the last call; any worker. May be NULL. */
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
};

struct rep_delta_result {
	struct rep_footer footer;
	uint64_t bytes_read;  /* from the device */
	uint64_t bytes_parts; /* of all parts emitted */
	uint64_t blocks_kept; /* data that stood at the peer before */
	uint32_t packs_filled;
};

/* Scan, pack, finish: every part of the layer is emitted when it returns 0. Blocking; uses the
 * calling thread and workers - 1 more. Errors: of the device, of emit, LB_ENOMEM, LB_EIO. */
int rep_delta_run(struct rep_delta_result *out, const struct rep_delta_cfg *cfg,
		  struct lb_err *err);

/* ---- spool: bytes by offset, in memory while small, then in a file that is removed after ---- */

struct rep_spool {
	struct lb_fs *fs;
	struct lb_file *file; /* NULL: still in memory */
	char path[64];
	uint8_t *mem;
	size_t cap_bytes, max_bytes; /* max: more goes to the file */
	uint64_t bytes;              /* written so far: end of the furthest write */
};

void rep_spool_init(struct rep_spool *s, struct lb_fs *fs, const struct lb_id *layer,
		    const char *name, size_t max_bytes);
void rep_spool_fini(struct rep_spool *s);
int rep_spool_write(struct rep_spool *s, uint64_t off, const void *p, size_t len,
		    struct lb_err *err);
int rep_spool_read(struct rep_spool *s, uint64_t off, void *p, size_t len, struct lb_err *err);
/* Remove what a killed process left. */
int rep_spool_clean(struct lb_fs *fs, struct lb_err *err);

/* ---- what scan.c and delta.c share ---- */

/* One run of the layer as it stands in a worker's spool; DATA: @count digests follow. */
struct rep_spooled_run {
	uint64_t block;
	uint32_t count;
	uint32_t kind;
	uint32_t pack, pos;
	uint32_t src; /* of the shadow: rep_shadow_layer() */
	uint32_t patch_pack, patch_pos, patch_bytes;
};

struct rep_delta {
	const struct rep_delta_cfg *cfg;
	uint64_t blocks;
	bool compare; /* there is a base: digests are read */

	pthread_mutex_t lock; /* guards from here */
	uint64_t next_block;  /* where the next chunk begins */
	uint32_t first_pack;  /* those below are of an earlier attempt */
	uint32_t packs;       /* numbers given out */
	uint64_t bytes_read, bytes_parts, layer_bytes;
	uint64_t data_blocks, blocks_kept;
	struct rep_spool leaves; /* of packs, by number */
	int code;                /* first error */
	struct lb_err *err;      /* where its words go; may be NULL */
};

struct rep_scan_worker {
	struct rep_delta *delta;
	struct rep_packer *packer;
	uint8_t *buf;          /* blocks of the open pack, then room for one read */
	uint32_t fill;         /* blocks in the open pack */
	uint32_t pack;         /* its number, when fill != 0 */
	uint8_t *patches;      /* patches of the open pack of patches, then room for one; or NULL */
	uint32_t patch_fill;   /* bytes in it */
	uint32_t patch_pack;   /* its number, when patch_fill != 0 */
	struct lb_digest *old; /* digests of one chunk as of the base */
	bool have_run;
	struct rep_spooled_run run;
	struct lb_digest *run_digests; /* of the open run */
	uint64_t hole_from, hole_to;   /* cached extent: known hole, in bytes */
	uint64_t data_to;              /* known data from hole_to to here */
	uint64_t bytes_read, data_blocks, blocks_kept;
	uint64_t pack_block[REP_PACK_MAX_BLOCKS]; /* of the open pack, for the draft's journal */
	struct lb_digest pack_digest[REP_PACK_MAX_BLOCKS];
	struct rep_spool spool;
};

int rep_scan_init(struct rep_scan_worker *w, struct rep_delta *d, unsigned number,
		  struct lb_err *err);
void rep_scan_fini(struct rep_scan_worker *w);
/* Scan chunks until there are none; seals the last pack and closes the spool's last run. The error
 * is kept in the delta as well. */
void rep_scan_run(struct rep_scan_worker *w);

/* Emit a part and count it; *leaf goes to @leaves at @number unless NULL. Drops the reference. */
int rep_delta_part(struct rep_delta *d, enum rep_record_kind kind, uint32_t number,
		   struct lb_buf *body, const struct lb_hash *leaf, struct rep_spool *leaves,
		   struct lb_err *err);
void rep_delta_fail(struct rep_delta *d, int code, const struct lb_err *err);

#endif
