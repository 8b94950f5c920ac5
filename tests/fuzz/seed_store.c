/*
 * Writes the seeds of the store's fuzzers below the folder given: FOLDER/{segment,viewmap}/NAME.
 * Not a test; run by hand when a format changes.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/fs.h"
#include "check.h"
#include "memfs.h"
#include "store_fix.h"
#include "store_int.h"
#include "view_int.h"

static const char *folder;

static void seed(const char *target, const char *name, uint8_t mode, const void *p, size_t len)
{
	char path[4096];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, target);
	(void)mkdir(path, 0777);
	(void)snprintf(path, sizeof(path), "%s/%s/%s", folder, target, name);
	f = fopen(path, "wb");
	LB_ASSERT(f != NULL && fputc(mode, f) == mode && fwrite(p, 1, len, f) == len);
	LB_ASSERT(fclose(f) == 0);
}

struct shape {
	const char *name;
	unsigned points;
	uint64_t segment_bytes;
	bool receipt, draft, abandon, uncommitted;
};

static void one_point(struct rep_store *s, struct sf_group *g, const struct shape *x, bool last)
{
	uint8_t receipt[REP_RECEIPT_BYTES];
	struct sf_point p;

	sf_group_write(g, 4);
	sf_point_cut(g, &p);
	LB_ASSERT(sf_point_send(s, &p, NULL) == 0);
	if (!(last && x->uncommitted))
		LB_ASSERT(rep_store_commit(s, NULL) == 0);
	sf_point_accepted(g, &p);
	if (x->receipt && !(last && x->uncommitted)) {
		sf_receipt(receipt, s, g, &p);
		LB_ASSERT(rep_store_append_receipt(s, receipt, sizeof(receipt), NULL) == 0);
	}
	if (last && !x->uncommitted) {
		uint8_t *map = NULL;
		size_t len = 0;
		char name[64];

		LB_ASSERT(rep_view_build(&map, &len, s, &p.hash, &g->vol[0].volume, NULL) == 0);
		(void)snprintf(name, sizeof(name), "%s", x->name);
		seed("viewmap", name, 0, map, len);
		(void)snprintf(name, sizeof(name), "%s_mend", x->name);
		seed("viewmap", name, 1, map, len);
		map[20] ^= 1; /* packs */
		(void)snprintf(name, sizeof(name), "%s_packs", x->name);
		seed("viewmap", name, 1, map, len);
		map[20] ^= 1;
		map[len - 24] ^= 3; /* pack or patch of the last run */
		(void)snprintf(name, sizeof(name), "%s_run", x->name);
		seed("viewmap", name, 1, map, len);
		(void)snprintf(name, sizeof(name), "%s_short", x->name);
		seed("viewmap", name, 0, map, len / 2);
		free(map);
	}
	sf_point_free(&p);
}

static void one_draft(struct rep_store *s, struct sf_group *g, bool abandon)
{
	struct sf_point p;

	sf_group_write(g, 4);
	sf_point_cut(g, &p);
	for (uint32_t k = 0; k < 2; k++)
		LB_ASSERT(sf_part_send(s, &p.layer[0], &p.layer[0].part[k], NULL) == 0);
	if (abandon)
		LB_ASSERT(rep_store_abandon(s, &p.layer[0].header.layer, NULL) == 0);
	sf_point_free(&p);
}

static void write_seeds(struct lb_fs *fs, const struct shape *x)
{
	uint8_t *p = NULL;
	size_t len = 0;
	char name[64];

	LB_ASSERT(lb_fs_read_all(fs, "seg/0000000000000001.seg", 1 << 20, &p, &len, NULL) == 0);
	(void)snprintf(name, sizeof(name), "%s_last", x->name);
	seed("segment", name, 1, p, len);
	(void)snprintf(name, sizeof(name), "%s_finished", x->name);
	seed("segment", name, 3, p, len);
	(void)snprintf(name, sizeof(name), "%s_plain", x->name);
	seed("segment", name, 0, p, len);
	(void)snprintf(name, sizeof(name), "%s_torn", x->name);
	seed("segment", name, 0, p, len - len / 5);
	(void)snprintf(name, sizeof(name), "%s_rot", x->name);
	p[len / 2] ^= 0x20;
	seed("segment", name, 2, p, len);
	free(p);
}

static void make(const struct shape *x)
{
	struct rep_store_cfg cfg = {.segment_bytes = x->segment_bytes};
	struct fix_env env = fix_env(1); /* as in fuzz_segment.c: the same id and tag */
	struct rep_store *s = NULL;
	struct lb_fs *fs = NULL;
	struct sf_group g;

	LB_ASSERT(lb_memfs_create(&fs, 1, NULL) == 0);
	sf_group_init(&g, 1, 1, 12, 5);
	g.dek = fix_key();
	LB_ASSERT(rep_store_open(&s, &env.env, fs, &cfg, NULL) == 0);
	for (unsigned i = 0; i < x->points; i++)
		one_point(s, &g, x, i + 1 == x->points);
	if (x->draft)
		one_draft(s, &g, x->abandon);
	rep_store_close(s);
	write_seeds(fs, x);
	sf_group_fini(&g);
	lb_fs_destroy(fs);
}

int main(int argc, char **argv)
{
	static const struct shape shapes[] = {
		{.name = "empty", .segment_bytes = 1 << 20},
		{.name = "draft", .segment_bytes = 1 << 20, .draft = true},
		{.name = "point", .segment_bytes = 1 << 20, .points = 1},
		{.name = "chain", .segment_bytes = 1 << 20, .points = 3, .receipt = true},
		{.name = "rolled", .segment_bytes = 6 << 10, .points = 3, .receipt = true},
		{.name = "void", .segment_bytes = 1 << 20, .points = 2, .uncommitted = true},
		{.name = "abandon",
		 .segment_bytes = 1 << 20,
		 .points = 1,
		 .draft = true,
		 .abandon = true},
	};

	if (argc != 2)
		return 2;
	folder = argv[1];
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		make(&shapes[i]);
	return 0;
}
