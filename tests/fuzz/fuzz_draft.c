/*
 * A draft's journal: gone on with, read, gone on with once more. Byte 0 of the input: bit 0 mends
 * the checksums of the header and of the chain of entries, so that the checks behind them are
 * reached.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "format_draft.h"
#include "memfs.h"

#define INPUT_MAX (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void mend(uint8_t *p, size_t len)
{
	size_t at = REP_DRAFT_HEADER_BYTES;
	uint32_t crc;

	if (len < at)
		return;
	put32(p + 8 + 252, lb_crc32c(0, p + 8, 252));
	put32(p + at - 4, lb_crc32c(0, p, at - 4));
	crc = lb_crc32c(0, p, at);
	while (len - at >= REP_DRAFT_ENTRY_BYTES) {
		uint32_t bytes = get32(p + at + 8);

		if (bytes > len - at - REP_DRAFT_ENTRY_BYTES)
			return;
		crc = lb_crc32c(crc, p + at + 4, REP_DRAFT_ENTRY_BYTES - 4 + bytes);
		put32(p + at, crc);
		at += REP_DRAFT_ENTRY_BYTES + bytes;
	}
}

static void file_write(struct lb_fs *fs, const uint8_t *p, size_t len)
{
	struct lb_file *f = NULL;

	LB_ASSERT(lb_fs_mkdir(fs, "drafts", NULL) == 0);
	LB_ASSERT(lb_fs_open(fs, &f, FIX_DRAFT_PATH, LB_FS_CREATE, NULL) == 0);
	LB_ASSERT(lb_file_pwrite(f, p, len, 0, NULL) == 0);
	lb_file_close(f);
}

/* What is told must fit the layer, whatever the file says. */
static void look(struct rep_draft *d)
{
	struct rep_draft_place p[FIX_DRAFT_BLOCKS + 1];

	LB_ASSERT(rep_draft_read(d, p, 0, FIX_DRAFT_BLOCKS + 1, NULL) == 0);
	for (unsigned i = 0; i <= FIX_DRAFT_BLOCKS; i++) {
		struct lb_hash leaf;
		uint32_t bytes;
		bool held;

		if (p[i].known == 0)
			continue;
		LB_ASSERT(i < FIX_DRAFT_BLOCKS && p[i].pos < 16 && p[i].pack < rep_draft_next(d));
		LB_ASSERT(rep_draft_pack(d, p[i].pack, &held, &leaf, &bytes, NULL) == 0 && held);
	}
}

/* Once more, as @run: refused where the input says that @run made part of it already. */
static void again(struct lb_fs *fs, unsigned run, uint32_t next, bool named)
{
	struct rep_draft *d = NULL;
	int rc = fix_draft_go_on(&d, fs, run);

	if (named && rc == LB_ENOTFOUND)
		return;
	LB_ASSERT(rc == 0 && rep_draft_next(d) == next);
	LB_ASSERT(rep_draft_parts_min(d, REP_RECORD_DIGESTS) >= 6);
	rep_draft_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct lb_id second = fix_id(8);
	struct rep_draft *d = NULL;
	struct lb_fs *fs = NULL;
	uint32_t next;
	uint8_t *copy;

	if (size < 2 || size > INPUT_MAX)
		return 0;
	size--;
	copy = malloc(size);
	LB_ASSERT(copy != NULL && lb_memfs_create(&fs, 1, NULL) == 0);
	memcpy(copy, data + 1, size);
	if ((data[0] & 1) != 0)
		mend(copy, size);
	file_write(fs, copy, size);
	free(copy);
	if (fix_draft_go_on(&d, fs, 7) == 0) {
		next = rep_draft_next(d);
		look(d);
		rep_draft_note_part(d, REP_RECORD_DIGESTS, 5);
		rep_draft_close(d);
		LB_ASSERT(fix_draft_go_on(&d, fs, 7) == LB_ENOTFOUND); /* by this run */
		again(fs, 8, next, memmem(data, size + 1, second.b, sizeof(second.b)) != NULL);
	}
	lb_fs_destroy(fs);
	return 0;
}
