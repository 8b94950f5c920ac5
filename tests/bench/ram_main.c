/*
 * ram: what a cut of memory costs the source, for goal P12. Calls the product's delta maker on one
 * thread, as a group of one RAM volume would; the points go into a store and the last one is read
 * back and compared.
 *
 *   ram fake DIR MIB PAGES CUTS guest|words   fake RAM (tests/lib/fake_ram.h), PAGES changes a cut
 *   ram dumps DIR FILE FILE...                a real machine's memory at several moments
 *
 * Prints, for the first and the last point, "reads": microseconds of CPU of a 4 KiB read at random
 * through a view (median, 99 %) and MB/s of reading it all in order. And "cut" lines: CPU in ms for
 * staging the changed pages, for delta + LZ4 + seal, for digests and shadow after the receipt;
 * bytes of all parts, and of LZ4 alone over the same changed pages in 64 KiB batches (what a sender
 * of whole pages ships, without index or sealing).
 */
#include <inttypes.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "memfs.h"
#include "ram_fix.h"
#include "replicator/store.h"
#include "replicator/view.h"
#include "rnd.h"

#define BATCH 65536u

static uint8_t batch[BATCH], room[LZ4_COMPRESSBOUND(BATCH)];

static void must(int rc, const struct lb_err *err)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "ram: %s\n", err->msg);
	exit(1);
}

static uint64_t lz4_flush(uint32_t fill)
{
	int n = LZ4_compress_default((const char *)batch, (char *)room, (int)fill, sizeof(room));

	return n > 0 && (uint32_t)n < fill ? (uint64_t)n : fill;
}

/* LZ4 alone over the pages of @now that are not as in @before. */
static uint64_t whole_pages(const uint8_t *before, const uint8_t *now, uint64_t bytes)
{
	uint64_t sum = 0;
	uint32_t fill = 0;

	for (uint64_t off = 0; off < bytes; off += REP_BLOCK_BYTES) {
		if (memcmp(before + off, now + off, REP_BLOCK_BYTES) == 0)
			continue;
		memcpy(batch + fill, now + off, REP_BLOCK_BYTES);
		fill += REP_BLOCK_BYTES;
		if (fill == BATCH) {
			sum += lz4_flush(fill);
			fill = 0;
		}
	}
	return sum + (fill != 0 ? lz4_flush(fill) : 0);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void print_cut(const struct ram_fix *r, uint64_t whole)
{
	const struct rep_footer *f = &r->made.footer;

	(void)printf(
		"cut %" PRIu64 " stage %.3f delta %.3f commit %.3f bytes %" PRIu64 " whole %" PRIu64
		" data %" PRIu64 " zero %" PRIu64 " ref %" PRIu64 " patch %" PRIu64 "\n",
		r->seq, ms(r->stage_ns), ms(r->delta_ns), ms(r->commit_ns), r->made.bytes_parts,
		whole, f->data_blocks, f->zero_blocks, f->ref_blocks, f->patch_blocks);
}

/* The newest point reads as what was frozen. */
static void verify(struct ram_fix *r, struct rep_store *store)
{
	struct rep_view_cfg keys = {.dek_of = ram_fix_dek_of, .arg = r};
	struct lb_id volume = ram_fix_volume();
	struct img_dev *view = NULL;
	struct lb_err err = {0};

	must(rep_view_open(&view, store, &r->head, &volume, &keys, &err), &err);
	for (uint64_t off = 0; off < r->bytes; off += BATCH) {
		must(img_pread(view, batch, BATCH, off, &err), &err);
		if (memcmp(batch, fake_ram_frozen(r->ram) + off, BATCH) != 0) {
			(void)fprintf(stderr, "ram: the point differs at %" PRIu64 "\n", off);
			exit(1);
		}
	}
	img_dev_destroy(view);
	(void)printf("verified %" PRIu64 " bytes of point %" PRIu64 "\n", r->bytes, r->seq);
}

/* Of this thread: a busy machine does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

#define READS 4000u

static void time_reads(struct ram_fix *r, struct rep_store *store, uint64_t seq)
{
	struct rep_view_cfg keys = {.dek_of = ram_fix_dek_of, .arg = r};
	struct lb_id volume = ram_fix_volume();
	struct img_dev *view = NULL;
	static double us[READS];
	struct lb_err err = {0};
	uint64_t rnd = 1, from;

	from = cpu_ns();
	must(rep_view_open(&view, store, &r->point[seq - 1], &volume, &keys, &err), &err);
	(void)printf("reads of point %" PRIu64 ": open %.1f ms", seq, ms(cpu_ns() - from));
	for (unsigned i = 0; i < READS; i++) {
		uint64_t off = rnd_below(&rnd, r->bytes / REP_BLOCK_BYTES) * REP_BLOCK_BYTES;

		from = cpu_ns();
		must(img_pread(view, batch, REP_BLOCK_BYTES, off, &err), &err);
		us[i] = (double)(cpu_ns() - from) / 1e3;
	}
	qsort(us, READS, sizeof(us[0]), by_size);
	from = cpu_ns();
	for (uint64_t off = 0; off < r->bytes; off += BATCH)
		must(img_pread(view, batch, BATCH, off, &err), &err);
	(void)printf(", 4 KiB %.1f us (99 %% %.1f), all %.0f MB/s\n", us[READS / 2],
		     us[READS * 99 / 100], (double)r->bytes * 1e3 / (double)(cpu_ns() - from));
	img_dev_destroy(view);
}

static void load(struct ram_fix *r, const char *path)
{
	uint8_t *page = malloc(REP_BLOCK_BYTES);
	FILE *f = fopen(path, "r");

	if (f == NULL || page == NULL) {
		(void)fprintf(stderr, "ram: open %s\n", path);
		exit(1);
	}
	for (uint64_t i = 0; i < r->bytes / REP_BLOCK_BYTES; i++) {
		if (fread(page, 1, REP_BLOCK_BYTES, f) != REP_BLOCK_BYTES) {
			(void)fprintf(stderr, "ram: %s is shorter than the first\n", path);
			exit(1);
		}
		fake_ram_put(r->ram, i, page);
	}
	(void)fclose(f);
	free(page);
}

static uint64_t file_bytes(const char *path)
{
	FILE *f = fopen(path, "r");
	long n = f != NULL && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : 0;

	if (f != NULL)
		(void)fclose(f);
	return n > 0 ? (uint64_t)n / BATCH * BATCH : 0;
}

struct run {
	bool dumps;
	const char *const *file;
	unsigned cuts;
	uint64_t pages;
	enum fake_ram_edits edits;
};

static void cuts(struct ram_fix *r, struct rep_store *store, const struct run *x)
{
	uint8_t *before = malloc(r->bytes);

	LB_ASSERT(before != NULL);
	for (unsigned i = 0; i < x->cuts; i++) {
		if (x->dumps)
			load(r, x->file[i]);
		else if (i > 0)
			fake_ram_run(r->ram, x->pages, x->edits);
		memcpy(before, fake_ram_frozen(r->ram), r->bytes);
		ram_fix_cut(r, store, true);
		print_cut(r, whole_pages(before, fake_ram_frozen(r->ram), r->bytes));
	}
	free(before);
	verify(r, store);
	time_reads(r, store, 1);
	time_reads(r, store, r->seq);
}

int main(int argc, char **argv)
{
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct run x = {.dumps = argc >= 5 && strcmp(argv[1], "dumps") == 0};
	struct lb_fs *fs = NULL, *store_fs = NULL;
	struct rep_store *store = NULL;
	struct lb_err err = {0};
	static struct ram_fix r;
	uint64_t bytes;

	if (!x.dumps && (argc != 7 || strcmp(argv[1], "fake") != 0)) {
		(void)fprintf(stderr, "usage: ram fake DIR MIB PAGES CUTS guest|words\n"
				      "       ram dumps DIR FILE FILE...\n");
		return 2;
	}
	if (x.dumps) {
		bytes = file_bytes(argv[3]);
		x.file = (const char *const *)(uintptr_t)argv + 3;
		x.cuts = (unsigned)argc - 3;
	} else {
		bytes = strtoull(argv[3], NULL, 10) << 20;
		x.pages = strtoull(argv[4], NULL, 10);
		x.cuts = (unsigned)strtoul(argv[5], NULL, 10);
		x.edits = strcmp(argv[6], "words") == 0 ? FAKE_RAM_WORDS : FAKE_RAM_GUEST;
	}
	if (bytes == 0 || x.cuts < 1 || x.cuts > RAM_FIX_POINTS) {
		(void)fprintf(stderr, "ram: 1 to %u cuts of at least 64 KiB\n", RAM_FIX_POINTS);
		return 2;
	}
	must(lb_fs_dir_create(&fs, argv[2], &err), &err);
	must(lb_memfs_create(&store_fs, 1, &err), &err);
	ram_fix_init(&r, fs, bytes, 1, 1);
	r.unhashed = true; /* the last point is compared byte by byte */
	must(rep_store_open(&store, lb_env_real(), store_fs, &cfg, &err), &err);
	cuts(&r, store, &x);
	rep_store_close(store);
	ram_fix_fini(&r);
	lb_fs_destroy(store_fs);
	return 0;
}
