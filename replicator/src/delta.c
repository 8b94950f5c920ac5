#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/thread.h"
#include "delta_int.h"
#include "draft_int.h"
#include "imaging/extmap.h"
#include "shadow_int.h"

#define LEAVES_MEM (512u << 10) /* 16,384 packs; then to a file */

/* ---- parts ---- */

void rep_delta_fail(struct rep_delta *d, int code, const struct lb_err *err)
{
	(void)pthread_mutex_lock(&d->lock);
	if (d->code == 0) {
		d->code = code;
		if (d->err != NULL)
			*d->err = *err;
	}
	(void)pthread_mutex_unlock(&d->lock);
}

int rep_delta_part(struct rep_delta *d, enum rep_record_kind kind, uint32_t number,
		   struct lb_buf *body, const struct lb_hash *leaf, struct rep_spool *leaves,
		   struct lb_err *err)
{
	int rc = 0;

	if (d->cfg->draft != NULL && (kind == REP_RECORD_INDEX || kind == REP_RECORD_DIGESTS))
		rep_draft_note_part(d->cfg->draft, kind, number);
	(void)pthread_mutex_lock(&d->lock);
	d->bytes_parts += body->len;
	if (leaf != NULL) {
		d->layer_bytes += body->len;
		rc = rep_spool_write(leaves, (uint64_t)number * sizeof(*leaf), leaf, sizeof(*leaf),
				     err);
	}
	(void)pthread_mutex_unlock(&d->lock);
	if (rc == 0)
		rc = d->cfg->emit(d->cfg->arg, kind, number, body, err);
	lb_buf_unref(body);
	return rc;
}

/* ---- Merkle tree over leaves that are not in one array: a binary counter of finished subtrees */

struct tree {
	struct lb_hash stack[64];
	unsigned depth;
	uint64_t leaves;
};

static void tree_join(struct tree *t)
{
	uint8_t node[1 + 2 * LB_HASH_BYTES];

	node[0] = 0x01;
	memcpy(node + 1, t->stack[t->depth - 2].b, LB_HASH_BYTES);
	memcpy(node + 1 + LB_HASH_BYTES, t->stack[t->depth - 1].b, LB_HASH_BYTES);
	t->depth--;
	lb_sha256(&t->stack[t->depth - 1], node, sizeof(node));
}

static void tree_add(struct tree *t, const struct lb_hash *leaf)
{
	t->stack[t->depth++] = *leaf;
	for (uint64_t bits = t->leaves++; (bits & 1) != 0; bits >>= 1)
		tree_join(t);
}

static void tree_root(struct tree *t, struct lb_hash *out)
{
	while (t->depth > 1)
		tree_join(t);
	*out = t->stack[0];
}

/* ---- finishing ---- */

/* A worker's spool while it is read back. */
struct stream {
	struct rep_spool *spool;
	uint64_t off;
	bool have;
	struct rep_spooled_run run;
};

struct finish {
	struct rep_delta *d;
	struct rep_packer *packer; /* borrowed from worker 0 */
	struct rep_footer footer;
	struct rep_run *runs; /* of the open index part */
	uint32_t run_count;
	uint32_t src[REP_INDEX_MAX_SOURCES]; /* of the open part: the shadow's layers */
	uint32_t srcs;
	struct lb_digest *digests; /* of the open digests part */
	uint32_t digest_count;
	uint32_t digest_max; /* of one part */
	struct rep_spool digest_leaves, index_leaves;
	struct lb_hash header_leaf;
	struct tree tree;
	struct lb_hash *leaves; /* of the open leaves part */
	uint32_t leaf_count;
};

static int stream_next(struct stream *s, struct lb_err *err)
{
	int rc = 0;

	s->have = s->off < s->spool->bytes;
	if (s->have)
		rc = rep_spool_read(s->spool, s->off, &s->run, sizeof(s->run), err);
	s->off += sizeof(s->run);
	return rc;
}

static int index_flush(struct finish *f, struct lb_err *err)
{
	size_t cap = rep_index_bytes(f->run_count, f->srcs);
	struct lb_id source[REP_INDEX_MAX_SOURCES];
	uint32_t number = f->footer.index_parts;
	struct lb_buf *b = NULL;
	struct lb_hash leaf;
	int rc;

	rc = lb_buf_create(&b, cap, err);
	if (rc != 0)
		return rc;
	for (uint32_t i = 0; i < f->srcs; i++)
		source[i] = *rep_shadow_layer(f->d->cfg->shadow, f->src[i]);
	b->len = rep_index_encode(b->p, cap, number, f->runs, f->run_count, source, f->srcs);
	LB_ASSERT(b->len != 0);
	lb_merkle_leaf(&leaf, b->p, b->len);
	f->run_count = f->srcs = 0;
	f->footer.index_parts++;
	return rep_delta_part(f->d, REP_RECORD_INDEX, number, b, &leaf, &f->index_leaves, err);
}

static int digests_flush(struct finish *f, struct lb_err *err)
{
	uint32_t number = f->footer.digest_parts;
	struct lb_buf *b = NULL;
	struct lb_hash leaf;
	int rc;

	if (f->digest_count == 0)
		return 0;
	rc = rep_packer_seal_digests(f->packer, &b, &leaf, number, f->digests, f->digest_count,
				     err);
	if (rc != 0)
		return rc;
	f->digest_count = 0;
	f->footer.digest_parts++;
	return rep_delta_part(f->d, REP_RECORD_DIGESTS, number, b, &leaf, &f->digest_leaves, err);
}

static int finish_digests(struct finish *f, struct stream *s, struct lb_err *err)
{
	for (uint32_t left = s->run.count; left > 0;) {
		uint32_t n = f->digest_max - f->digest_count;
		int rc;

		if (n > left)
			n = left;
		rc = rep_spool_read(s->spool, s->off, f->digests + f->digest_count,
				    n * sizeof(*f->digests), err);
		s->off += n * sizeof(*f->digests);
		f->digest_count += n;
		left -= n;
		if (rc == 0 && f->digest_count == f->digest_max)
			rc = digests_flush(f, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static void finish_count(struct rep_footer *f, const struct rep_spooled_run *r)
{
	switch ((enum rep_run_kind)r->kind) {
	case REP_RUN_DATA:
		f->data_blocks += r->count;
		return;
	case REP_RUN_ZERO:
		f->zero_blocks += r->count;
		return;
	case REP_RUN_REF:
		f->ref_blocks += r->count;
		return;
	case REP_RUN_PATCH:
		f->patch_blocks += r->count;
		return;
	}
}

/* Place of the shadow's layer @src in the open part's source table; a full one ends the part. */
static int finish_source(struct finish *f, uint32_t src, uint32_t *out, struct lb_err *err)
{
	uint32_t i = 0;
	int rc = 0;

	while (i < f->srcs && f->src[i] != src)
		i++;
	if (i == REP_INDEX_MAX_SOURCES) {
		rc = index_flush(f, err);
		i = 0;
	}
	if (i == f->srcs)
		f->src[f->srcs++] = src;
	*out = i;
	return rc;
}

/* Take over the run @s stands at. */
static int finish_run(struct finish *f, struct stream *s, struct lb_err *err)
{
	const struct rep_spooled_run *r = &s->run;
	struct rep_run *last = f->run_count != 0 ? &f->runs[f->run_count - 1] : NULL;
	uint32_t src = 0;
	int rc = 0;

	finish_count(&f->footer, r);
	/* Zero runs end at chunks in the spools and nowhere in the index. */
	if (r->kind == REP_RUN_ZERO && last != NULL && last->kind == REP_RUN_ZERO &&
	    last->block + last->count == r->block && last->count <= UINT32_MAX - r->count) {
		last->count += r->count;
		return 0;
	}
	if (f->run_count == REP_INDEX_MAX_RUNS)
		rc = index_flush(f, err);
	if (rc == 0 && (r->kind == REP_RUN_REF || r->kind == REP_RUN_PATCH))
		rc = finish_source(f, r->src, &src, err);
	if (rc != 0)
		return rc;
	f->runs[f->run_count++] = (struct rep_run){.block = r->block,
						   .count = r->count,
						   .kind = (enum rep_run_kind)r->kind,
						   .pack = r->pack,
						   .pos = r->pos,
						   .src = src,
						   .patch_pack = r->patch_pack,
						   .patch_pos = r->patch_pos,
						   .patch_bytes = r->patch_bytes};
	return r->kind == REP_RUN_DATA ? finish_digests(f, s, err) : 0;
}

/* Merge the workers' runs in block order into index and digests parts. */
static int finish_index(struct finish *f, struct rep_scan_worker *workers, unsigned n,
			struct lb_err *err)
{
	struct stream s[REP_DELTA_MAX_WORKERS];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		s[i] = (struct stream){.spool = &workers[i].spool};
		rc = stream_next(&s[i], err);
	}
	while (rc == 0) {
		struct stream *first = NULL;

		for (unsigned i = 0; i < n; i++) {
			if (s[i].have && (first == NULL || s[i].run.block < first->run.block))
				first = &s[i];
		}
		if (first == NULL)
			break;
		rc = finish_run(f, first, err);
		if (rc == 0)
			rc = stream_next(first, err);
	}
	if (rc == 0 && f->run_count != 0)
		rc = index_flush(f, err);
	return rc != 0 ? rc : digests_flush(f, err);
}

/* No part of an earlier attempt may be left: at least as many index parts, of nothing if need be,
 * and digests parts, smaller ones if need be. */
static int digests_split(struct finish *f, struct lb_err *err)
{
	uint64_t n = f->d->data_blocks, min;

	f->digest_max = REP_DIGESTS_MAX;
	if (f->d->cfg->draft == NULL)
		return 0;
	min = rep_draft_parts_min(f->d->cfg->draft, REP_RECORD_DIGESTS);
	if (n < min)
		return lb_err_set(err, LB_ECHANGED, 0,
				  "a draft has more digests parts than the volume has data now");
	if ((n + REP_DIGESTS_MAX - 1) / REP_DIGESTS_MAX < min)
		f->digest_max = (uint32_t)(n / min);
	return 0;
}

static int index_fill(struct finish *f, struct lb_err *err)
{
	uint32_t min = f->d->cfg->draft == NULL
			       ? 0
			       : rep_draft_parts_min(f->d->cfg->draft, REP_RECORD_INDEX);
	int rc = 0;

	while (rc == 0 && f->footer.index_parts < min)
		rc = index_flush(f, err);
	return rc;
}

static int finish_parts(struct finish *f, struct rep_scan_worker *workers, unsigned n,
			struct lb_err *err)
{
	int rc = digests_split(f, err);

	if (rc == 0)
		rc = finish_index(f, workers, n, err);
	return rc != 0 ? rc : index_fill(f, err);
}

static int leaves_flush(struct finish *f, struct lb_err *err)
{
	size_t cap = rep_leaves_bytes(f->leaf_count);
	struct lb_buf *b = NULL;
	int rc = lb_buf_create(&b, cap, err);

	if (rc != 0)
		return rc;
	b->len = rep_leaves_encode(b->p, cap, f->footer.leaf_parts, f->leaves, f->leaf_count);
	LB_ASSERT(b->len != 0);
	f->leaf_count = 0;
	return rep_delta_part(f->d, REP_RECORD_LEAVES, f->footer.leaf_parts++, b, NULL, NULL, err);
}

static int leaf_add(struct finish *f, const struct lb_hash *leaf, struct lb_err *err)
{
	tree_add(&f->tree, leaf);
	f->leaves[f->leaf_count++] = *leaf;
	return f->leaf_count == REP_LEAVES_MAX ? leaves_flush(f, err) : 0;
}

static int leaves_of(struct finish *f, struct rep_spool *spool, uint32_t n, struct lb_err *err)
{
	struct lb_hash leaf[256];

	for (uint32_t i = 0; i < n;) {
		uint32_t take = n - i < 256 ? n - i : 256;
		int rc = rep_spool_read(spool, (uint64_t)i * sizeof(leaf[0]), leaf,
					take * sizeof(leaf[0]), err);

		for (uint32_t k = 0; rc == 0 && k < take; k++)
			rc = leaf_add(f, &leaf[k], err);
		if (rc != 0)
			return rc;
		i += take;
	}
	return 0;
}

static int finish_footer(struct finish *f, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	struct lb_hash tree;
	int rc = leaf_add(f, &f->header_leaf, err);

	if (rc == 0)
		rc = leaves_of(f, &f->d->leaves, f->footer.packs, err);
	if (rc == 0)
		rc = leaves_of(f, &f->digest_leaves, f->footer.digest_parts, err);
	if (rc == 0)
		rc = leaves_of(f, &f->index_leaves, f->footer.index_parts, err);
	if (rc == 0 && f->leaf_count != 0)
		rc = leaves_flush(f, err);
	if (rc == 0)
		rc = lb_buf_create(&b, REP_FOOTER_BYTES, err);
	if (rc != 0)
		return rc;
	tree_root(&f->tree, &tree);
	f->footer.layer = f->d->cfg->header->layer;
	f->footer.bytes = f->d->layer_bytes;
	rep_layer_root_of(&f->footer.root, &f->footer, &tree);
	rep_footer_encode(b->p, &f->footer);
	b->len = REP_FOOTER_BYTES;
	return rep_delta_part(f->d, REP_RECORD_FOOTER, 0, b, NULL, NULL, err);
}

static int finish_run_all(struct rep_delta *d, struct finish *f, struct rep_scan_worker *workers,
			  unsigned n, struct lb_err *err)
{
	const struct lb_id *layer = &d->cfg->header->layer;
	int rc;

	rep_spool_init(&f->digest_leaves, d->cfg->fs, layer, "d", LEAVES_MEM);
	rep_spool_init(&f->index_leaves, d->cfg->fs, layer, "x", LEAVES_MEM);
	f->d = d;
	f->packer = workers[0].packer;
	f->footer.packs = d->packs;
	f->runs = malloc(REP_INDEX_MAX_RUNS * sizeof(*f->runs));
	f->digests = malloc(REP_DIGESTS_MAX * sizeof(*f->digests));
	f->leaves = malloc(REP_LEAVES_MAX * sizeof(*f->leaves));
	if (f->runs == NULL || f->digests == NULL || f->leaves == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "allocate a layer's index");
	else
		rc = finish_parts(f, workers, n, err);
	if (rc == 0)
		rc = finish_footer(f, err);
	free(f->runs);
	free(f->digests);
	free(f->leaves);
	rep_spool_fini(&f->digest_leaves);
	rep_spool_fini(&f->index_leaves);
	return rc;
}

/* ---- packs of an earlier attempt ---- */

#define FILL_BATCH 64u

struct filling {
	uint32_t number[FILL_BATCH];
	struct lb_buf *body[FILL_BATCH];
	struct lb_hash leaf[FILL_BATCH];
	uint32_t n;
};

/* A number is given a second time: its entry is on the disk before the pack leaves. */
static int fill_send(struct rep_delta *d, struct filling *x, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < x->n; i++)
		rep_draft_note_fill(d->cfg->draft, x->number[i], &x->leaf[i],
				    (uint32_t)x->body[i]->len);
	if (x->n != 0)
		rep_draft_sync(d->cfg->draft);
	for (uint32_t i = 0; i < x->n; i++) {
		if (rc != 0)
			lb_buf_unref(x->body[i]);
		else
			rc = rep_delta_part(d, REP_RECORD_PACK, x->number[i], x->body[i],
					    &x->leaf[i], &d->leaves, err);
	}
	x->n = 0;
	return rc;
}

static int fill_one(struct rep_delta *d, struct filling *x, struct rep_packer *packer,
		    uint32_t number, struct lb_err *err)
{
	static const uint8_t zeros[REP_BLOCK_BYTES];
	uint32_t i = x->n;
	int rc = rep_packer_seal(packer, &x->body[i], &x->leaf[i], number, zeros, sizeof(zeros),
				 err);

	if (rc != 0)
		return rc;
	x->number[i] = number;
	x->n++;
	return x->n == FILL_BATCH ? fill_send(d, x, err) : 0;
}

/* The packs below the first new one: their leaves; in the place of those that never arrived, one
 * that no run names. */
static int drafted_packs(struct rep_delta *d, struct rep_packer *packer, uint32_t *filled,
			 struct lb_err *err)
{
	struct filling x = {.n = 0};
	uint32_t end = d->first_pack;
	int rc = 0;

	for (uint32_t n = 0; rc == 0 && n < end; n++) {
		struct lb_hash leaf;
		uint32_t bytes;
		bool held;

		rc = rep_draft_pack(d->cfg->draft, n, &held, &leaf, &bytes, err);
		if (rc != 0)
			break;
		if (!held) {
			(*filled)++;
			rc = fill_one(d, &x, packer, n, err);
			continue;
		}
		d->layer_bytes += bytes;
		rc = rep_spool_write(&d->leaves, (uint64_t)n * sizeof(leaf), &leaf, sizeof(leaf),
				     err);
	}
	if (rc == 0)
		rc = fill_send(d, &x, err);
	for (uint32_t i = 0; i < x.n; i++)
		lb_buf_unref(x.body[i]);
	return rc;
}

/* ---- running ---- */

static int header_part(struct rep_delta *d, struct lb_hash *leaf, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	int rc = lb_buf_create(&b, REP_LAYER_HEADER_BYTES, err);

	if (rc != 0)
		return rc;
	rep_layer_header_encode(b->p, d->cfg->header);
	b->len = REP_LAYER_HEADER_BYTES;
	d->layer_bytes = b->len;
	lb_merkle_leaf(leaf, b->p, b->len);
	return rep_delta_part(d, REP_RECORD_LAYER_HEADER, 0, b, NULL, NULL, err);
}

static void *worker_main(void *arg)
{
	rep_scan_run(arg);
	return NULL;
}

/* The caller's thread is worker 0. A thread that cannot be started is done without. */
static void workers_run(struct rep_scan_worker *w, unsigned n)
{
	pthread_t thread[REP_DELTA_MAX_WORKERS];
	bool started[REP_DELTA_MAX_WORKERS] = {false};

	for (unsigned i = 1; i < n; i++)
		started[i] = lb_thread_start(&thread[i], worker_main, &w[i], "a scan", NULL) == 0;
	rep_scan_run(&w[0]);
	for (unsigned i = 1; i < n; i++) {
		if (started[i])
			(void)pthread_join(thread[i], NULL);
	}
}

/* A small volume, or a short list of changes, is not worth a second thread. */
static unsigned worker_count(const struct rep_delta *d)
{
	const struct img_extmap *changed = d->cfg->changed;
	uint64_t blocks = changed != NULL ? img_extmap_blocks(changed) : d->blocks;
	uint64_t chunks = blocks / 1024 + 1;
	unsigned n = d->cfg->workers;

	if (n < 1)
		n = 1;
	if (n > REP_DELTA_MAX_WORKERS)
		n = REP_DELTA_MAX_WORKERS;
	return chunks < n ? (unsigned)chunks : n;
}

int rep_delta_run(struct rep_delta_result *out, const struct rep_delta_cfg *cfg, struct lb_err *err)
{
	struct rep_scan_worker workers[REP_DELTA_MAX_WORKERS];
	struct finish f = {0};
	struct rep_delta d = {.cfg = cfg,
			      .blocks = cfg->header->volume_bytes / REP_BLOCK_BYTES,
			      .compare = !cfg->header->full,
			      .err = err};
	unsigned n = worker_count(&d), made = 0;
	uint32_t filled = 0;
	int rc;

	d.first_pack = d.packs = cfg->draft != NULL ? rep_draft_next(cfg->draft) : 0;

	(void)pthread_mutex_init(&d.lock, NULL);
	rep_spool_init(&d.leaves, cfg->fs, &cfg->header->layer, "p", LEAVES_MEM);
	rc = header_part(&d, &f.header_leaf, err);
	while (rc == 0 && made < n) {
		rc = rep_scan_init(&workers[made], &d, made, err);
		made++;
	}
	if (rc == 0) {
		workers_run(workers, n);
		rc = d.code;
	}
	if (rc == 0)
		rc = drafted_packs(&d, workers[0].packer, &filled, err);
	if (rc == 0)
		rc = finish_run_all(&d, &f, workers, n, err);
	while (made > 0)
		rep_scan_fini(&workers[--made]);
	rep_spool_fini(&d.leaves);
	(void)pthread_mutex_destroy(&d.lock);
	if (rc == 0)
		*out = (struct rep_delta_result){.footer = f.footer,
						 .bytes_read = d.bytes_read,
						 .bytes_parts = d.bytes_parts,
						 .blocks_kept = d.blocks_kept,
						 .packs_filled = filled};
	return rc;
}
