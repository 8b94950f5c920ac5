/*
 * tests/lib/format_draft.h - a sample of a draft's journal (docs/formats/draft.md), the same in
 * each run. For tests that see replicator/src.
 */
#ifndef TESTS_FORMAT_DRAFT_H
#define TESTS_FORMAT_DRAFT_H

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"
#include "draft_int.h"
#include "format_fix.h"
#include "replicator/frame.h"

#define FIX_DRAFT_PATH   "drafts/55555555555555555555555555555555"
#define FIX_DRAFT_BLOCKS 256u

static inline struct rep_draft_facts fix_draft_facts(unsigned run)
{
	struct rep_draft_facts f = {
		.header = {.deployment = fix_id(0x11),
			   .site = fix_id(0x22),
			   .group = fix_id(0x33),
			   .machine = fix_id(0x44),
			   .volume = fix_id(0x55),
			   .layer = fix_id(0x66),
			   .key = fix_id(0x77),
			   .epoch = 7,
			   .seq = 1,
			   .volume_bytes = (uint64_t)FIX_DRAFT_BLOCKS * REP_BLOCK_BYTES,
			   .pack_raw_bytes = 65536,
			   .kind = REP_VOLUME_DISK,
			   .codec = REP_CODEC_LZ4,
			   .full = true},
		.prev = fix_hash(0x88),
		.run = fix_id(run),
	};

	memset(f.probe.b, 0x99, sizeof(f.probe.b));
	return f;
}

/* Go on with what the journal in @fs knows, as if the peer held all of it, as @run. */
static inline int fix_draft_go_on(struct rep_draft **out, struct lb_fs *fs, unsigned run)
{
	struct rep_draft_facts f = fix_draft_facts(run);
	static struct rep_admit a;
	int rc = rep_draft_resume(out, fs, &f, NULL);

	if (rc != 0)
		return rc;
	memset(&a, 0, sizeof(a));
	a.layers = 1;
	a.layer[0].first_missing = rep_draft_next(*out);
	while (a.layer[0].first_missing > 0 && rep_draft_hold(*out, &a, 0, NULL) != 0)
		a.layer[0].first_missing--;
	rc = a.layer[0].first_missing > 0 ? rep_draft_go_on(*out, NULL) : LB_ENOTFOUND;
	if (rc != 0) {
		rep_draft_close(*out);
		*out = NULL;
	}
	return rc;
}

/* Packs 0 and 2, 1 filled, an index part; then another run. */
static inline void fix_draft_write(struct lb_fs *fs)
{
	struct rep_draft_facts f = fix_draft_facts(1);
	const uint64_t block[] = {5, 6, 9};
	struct lb_digest digest[3];
	struct lb_hash leaf[3] = {fix_hash(0xa0), fix_hash(0xa1), fix_hash(0xa2)};
	struct rep_draft *d = NULL;

	for (unsigned i = 0; i < 3; i++)
		memset(digest[i].b, (int)(0xb0 + i), sizeof(digest[i].b));
	LB_ASSERT(rep_draft_create(&d, fs, &f, NULL) == 0);
	rep_draft_note_pack(d, 0, &leaf[0], 4000, block, digest, 2);
	rep_draft_note_pack(d, 2, &leaf[2], 2000, block + 2, digest + 2, 1);
	rep_draft_note_fill(d, 1, &leaf[1], 91);
	rep_draft_note_part(d, REP_RECORD_INDEX, 0);
	rep_draft_close(d);
	LB_ASSERT(fix_draft_go_on(&d, fs, 2) == 0);
	rep_draft_close(d);
}

#endif
