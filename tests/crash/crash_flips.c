/*
 * crash.flips [COUNT [SEED]] - single flipped bits over all segment files of a store.
 *
 * Each flip is one store put back as it was, one bit changed, opened and scrubbed. Every flip must
 * be told, by the open or by the scrub, at the record it is in, and by name when that is a part of
 * a layer; or lie behind the newest commit mark, where opening cuts it off and says where. Whatever
 * is not told as damaged must still read as it was written.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "memfs.h"
#include "rnd.h"
#include "store_fix.h"
#include "store_int.h"

#define POINTS    8u
#define FILES_MAX 16u

struct file {
	char path[32];
	uint64_t number;
	uint8_t *p;
	size_t len;
	struct rep_seg_scan scan;
};

struct world {
	struct lb_fs *fs;
	struct fix_env env;
	struct rep_store_cfg cfg;
	struct sf_group group[3];
	struct sf_point point[POINTS];
	struct file file[FILES_MAX];
	unsigned files;
	size_t bytes;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0) {
		(void)fprintf(stderr, "%s: %s\n", lb_err_name(rc), err->msg);
		LB_ASSERT(rc == 0);
	}
}

static void fill_store(struct world *w)
{
	struct rep_store *s = NULL;
	struct lb_err err = {.code = 0};
	struct sf_point draft;

	must(rep_store_open(&s, &w->env.env, w->fs, &w->cfg, &err), &err);
	for (unsigned i = 0; i < POINTS; i++) {
		struct sf_group *g = &w->group[i % 2];
		uint8_t receipt[REP_RECEIPT_BYTES];

		sf_group_write(g, 14);
		sf_point_cut(g, &w->point[i]);
		must(sf_point_send(s, &w->point[i], &err), &err);
		must(rep_store_commit(s, &err), &err);
		sf_point_accepted(g, &w->point[i]);
		sf_receipt(receipt, s, g, &w->point[i]);
		must(rep_store_append_receipt(s, receipt, sizeof(receipt), &err), &err);
	}
	must(rep_store_commit(s, &err), &err);
	/* A draft under no mark: what is behind the mark may be cut, but never silently. */
	sf_group_write(&w->group[0], 6);
	sf_point_cut(&w->group[0], &draft);
	for (unsigned k = 0; k < 2; k++)
		must(sf_part_send(s, &draft.layer[0], &draft.layer[0].part[k], &err), &err);
	sf_point_free(&draft);
	rep_store_close(s);
}

static int note_file(void *arg, const char *name)
{
	struct world *w = arg;
	struct file *f = &w->file[w->files++];

	LB_ASSERT(w->files <= FILES_MAX);
	(void)snprintf(f->path, sizeof(f->path), "seg/%.24s", name);
	f->number = strtoull(name, NULL, 16);
	return 0;
}

static void save_store(struct world *w)
{
	struct lb_err err = {.code = 0};
	uint8_t id[64];
	size_t got = 0;
	struct lb_file *f = NULL;

	must(lb_fs_open(w->fs, &f, "store.id", LB_FS_READ, &err), &err);
	must(lb_file_pread(f, id, sizeof(id), 0, &got, &err), &err);
	lb_file_close(f);
	must(lb_fs_list(w->fs, "seg", note_file, w, &err), &err);
	for (unsigned i = 0; i < w->files; i++) {
		struct file *x = &w->file[i];

		must(lb_fs_read_all(w->fs, x->path, 1 << 24, &x->p, &x->len, &err), &err);
		must(lb_fs_open(w->fs, &f, x->path, LB_FS_READ, &err), &err);
		must(rep_seg_scan(&x->scan, f, x->number, x->len, id + 24, &err), &err);
		lb_file_close(f);
		w->bytes += x->len;
	}
}

static void restore(struct world *w)
{
	struct lb_err err = {.code = 0};

	for (unsigned i = 0; i < w->files; i++) {
		struct lb_file *f = NULL;

		must(lb_fs_open(w->fs, &f, w->file[i].path, LB_FS_WRITE, &err), &err);
		must(lb_file_truncate(f, w->file[i].len, &err), &err);
		must(lb_file_pwrite(f, w->file[i].p, w->file[i].len, 0, &err), &err);
		lb_file_close(f);
	}
}

/* The record that holds byte @off of @f. */
static const struct rep_entry *record_at(const struct file *f, uint64_t off)
{
	for (uint32_t i = 0; i < f->scan.entries; i++) {
		const struct rep_entry *e = &f->scan.entry[i];
		uint64_t start = (uint64_t)e->off8 * 8;

		if (off >= start && off < start + rep_record_span(e->bytes))
			return e;
	}
	return NULL;
}

struct hunt {
	const struct file *file;
	const struct rep_entry *record;
	bool found, named;
	char last[160];
};

static void hunt(void *arg, const struct rep_damage *d)
{
	struct hunt *h = arg;

	(void)snprintf(h->last, sizeof(h->last), "%s", d->what);
	if (d->segment != h->file->number || d->offset != (uint64_t)h->record->off8 * 8)
		return;
	h->found = true;
	h->named |= d->kind == (enum rep_record_kind)h->record->kind &&
		    d->number == h->record->number && lb_id_equal(&d->layer, &h->record->owner);
}

static bool is_part(const struct rep_entry *e)
{
	return e->kind >= REP_RECORD_LAYER_HEADER && e->kind <= REP_RECORD_FOOTER;
}

/* Parts of a point that is not told as damaged must read as they were sent. */
static bool reads_back(struct rep_store *s, const struct sf_point *p)
{
	for (uint32_t i = 0; i < p->layers; i++) {
		for (uint32_t k = 0; k < p->layer[i].parts; k++) {
			const struct sf_part *part = &p->layer[i].part[k];
			struct lb_buf *b = NULL;
			bool same = rep_store_read_part(s, &p->layer[i].header.layer, part->kind,
							part->number, &b, NULL) == 0 &&
				    b->len == part->body->len &&
				    memcmp(b->p, part->body->p, b->len) == 0;

			lb_buf_unref(b);
			if (!same)
				return false;
		}
	}
	return true;
}

static unsigned check_points(struct world *w, struct rep_store *s, const struct hunt *h)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < POINTS; i++) {
		struct rep_point p;

		if (!rep_store_point_find(s, &w->point[i].hash, &p)) {
			/* Only its own manifest's rot may take a point away. */
			wrong += h->record->kind != REP_RECORD_MANIFEST;
			continue;
		}
		if (!p.damaged && !reads_back(s, &w->point[i]))
			wrong++;
	}
	if (wrong > 0)
		(void)fprintf(stderr, "%u points lost or wrong and not told\n", wrong);
	return wrong;
}

/* 0 when the flip is told as it must be. */
static unsigned one_flip(struct world *w, unsigned file, uint64_t off, unsigned bit)
{
	struct file *f = &w->file[file];
	struct hunt h = {.file = f, .record = record_at(f, off)};
	struct rep_scrub_opts o = {.on_damage = hunt, .arg = &h, .key_of = NULL};
	struct lb_err err = {.code = 0};
	struct rep_recovery rec;
	struct rep_store *s = NULL;
	unsigned wrong = 0;
	bool cut;
	int rc;

	LB_ASSERT(h.record != NULL);
	restore(w);
	LB_ASSERT(lb_memfs_corrupt(w->fs, f->path, off, (uint8_t)(1u << bit)) == 0);
	must(rep_store_open(&s, &w->env.env, w->fs, &w->cfg, &err), &err);
	rep_store_recovery(s, &rec);
	cut = rec.cut_bytes > 0 && rec.cut_segment == f->number &&
	      rec.cut_offset == (uint64_t)h.record->off8 * 8 &&
	      rec.cut_offset >= f->scan.mark_end - rep_record_span(REP_MARK_FIXED);
	/* ... or the newest mark itself, which its echo mends. */
	cut |= rec.mended_mark != 0 && rec.mended_mark == (uint64_t)h.record->off8 * 8;
	(void)rep_store_damage(s, hunt, &h);
	rc = rep_store_scrub(s, &o, NULL, &err);
	if (!cut && (rc != LB_ECORRUPT || !h.found || (is_part(h.record) && !h.named))) {
		(void)fprintf(stderr,
			      "flip of bit %u at %" PRIu64 " of segment %" PRIx64
			      " (record kind %u at %u): scrub says %s, last told: %s\n",
			      bit, off, f->number, h.record->kind, h.record->off8 * 8,
			      lb_err_name(rc), h.last);
		wrong++;
	}
	wrong += check_points(w, s, &h);
	rep_store_close(s);
	return wrong;
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000;
	uint64_t rnd = argc > 2 ? strtoull(argv[2], NULL, 10) : 20251122;
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {.code = 0};
	unsigned wrong = 0;

	LB_ASSERT(w != NULL);
	must(lb_memfs_create(&w->fs, 1, &err), &err);
	w->env = fix_env(1);
	w->cfg = (struct rep_store_cfg){.segment_bytes = 24 << 10};
	for (unsigned i = 0; i < 2; i++)
		sf_group_init(&w->group[i], i, 1, 48, 5);
	fill_store(w);
	save_store(w);
	for (unsigned long i = 0; i < count; i++) {
		uint64_t at = rnd_below(&rnd, w->bytes);
		unsigned f = 0;

		while (at >= w->file[f].len)
			at -= w->file[f++].len;
		wrong += one_flip(w, f, at, (unsigned)rnd_below(&rnd, 8));
	}
	(void)printf("%lu flips over %zu bytes in %u segments: %u not told as they must be\n",
		     count, w->bytes, w->files, wrong);
	for (unsigned i = 0; i < w->files; i++) {
		rep_seg_scan_fini(&w->file[i].scan);
		free(w->file[i].p);
	}
	for (unsigned i = 0; i < POINTS; i++)
		sf_point_free(&w->point[i]);
	for (unsigned i = 0; i < 2; i++)
		sf_group_fini(&w->group[i]);
	lb_fs_destroy(w->fs);
	free(w);
	return wrong == 0 ? 0 : 1;
}
