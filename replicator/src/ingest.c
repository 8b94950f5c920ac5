/*
 * ingest.c - what the store's thread does for the receiver core.
 *
 *   op -> [run_query] [run_append] [check_point] [run_abandon]
 *   checked points of a batch wait for one commit [settle], which also comes before any QUERY, so
 *   that an answer never speaks of a point that is appended but not yet visible.
 */
#include "replicator/ingest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "test_bugs.h"

struct rep_ingest {
	struct rep_ingest_cfg cfg;
	bool unsettled; /* a commit failed: its points are appended and would become visible with
			   the next one, whatever that is for */
	struct rep_manifest m; /* decoded, of the op at hand */
};

struct waiting { /* checked and appended, awaits the batch's commit */
	struct rep_store_answer *answer;
	struct lb_hash manifest;
	bool again;
};
struct batch {
	struct waiting w[REP_INGEST_MAX_BATCH];
	unsigned n;
};

int rep_ingest_create(struct rep_ingest **out, const struct rep_ingest_cfg *cfg, struct lb_err *err)
{
	struct rep_ingest *x = calloc(1, sizeof(*x));

	if (!x)
		return lb_err_set(err, LB_ENOMEM, 0, "an ingest");
	x->cfg = *cfg;
	*out = x;
	return 0;
}

void rep_ingest_destroy(struct rep_ingest *x)
{
	free(x);
}

/* ---- receipts and commit ---- */

/* The receipt of a visible point: the stored one, else a new one. */
static int receipt_of(struct rep_ingest *x, struct rep_store_answer *a, struct lb_err *err)
{
	struct rep_receipt r = {
		.deployment = x->cfg.deployment,
		.site = x->cfg.site,
		.group = a->head.group,
		.epoch = a->head.epoch,
		.seq = a->head.seq,
		.manifest = a->head.manifest,
	};
	int rc;

	a->receive_boot_ns = x->cfg.env->now_ns(x->cfg.env);
	if (a->again && rep_store_read_receipt(x->cfg.store, &a->head.manifest, a->receipt,
					       REP_RECEIPT_BYTES, NULL) == 0)
		return 0;
	r.counter = rep_store_receipt_counter(x->cfg.store);
	r.receive_boot_ns = a->receive_boot_ns;
	r.receive_wall_ns = x->cfg.env->wall_ns(x->cfg.env);
	rc = rep_receipt_encode(a->receipt, &r, x->cfg.signer, err);
	if (rc != 0)
		return rc;
	/* The point is durable whether or not its receipt can be kept too. */
	(void)rep_store_append_receipt(x->cfg.store, a->receipt, REP_RECEIPT_BYTES, NULL);
	a->head.receive_wall_ns = r.receive_wall_ns;
	return 0;
}

static int commit(struct rep_ingest *x, struct lb_err *err)
{
	int rc;

	if (REP_BUG(commit_skipped))
		return 0;
	rc = rep_store_commit(x->cfg.store, err);
	x->unsettled = rc != 0;
	return REP_BUG(ack_before_sync) ? 0 : rc;
}

int rep_ingest_settle(struct rep_ingest *x, struct lb_err *err)
{
	return x->unsettled ? commit(x, err) : 0;
}

/* Commit what waits, answer it. */
static void settle(struct rep_ingest *x, struct batch *b)
{
	struct lb_err err = {0};
	int rc = 0;

	for (unsigned i = 0; i < b->n; i++)
		if (!b->w[i].again)
			rc = 1;
	if (rc != 0 || x->unsettled)
		rc = commit(x, &err);
	for (unsigned i = 0; i < b->n; i++) {
		struct waiting *w = &b->w[i];
		struct rep_store_answer *a = w->answer;

		a->again = w->again;
		if (rc != 0) {
			a->err = err;
			continue;
		}
		if (!rep_store_point_find(x->cfg.store, &w->manifest, &a->head) &&
		    !(REP_BUG(commit_skipped) || REP_BUG(ack_before_sync))) {
			lb_err_set(&a->err, LB_ENOTFOUND, 0,
				   "point is not visible after its commit");
			continue;
		}
		a->has_head = true;
		(void)receipt_of(x, a, &a->err);
	}
	b->n = 0;
}

/* ---- QUERY ---- */

static void query_layers(struct rep_ingest *x, const struct rep_offer *o, struct rep_admit *m)
{
	uint32_t extra[REP_ADMIT_MAX_EXTRA];

	m->layers = o->layers;
	for (uint32_t i = 0; i < o->layers; i++) {
		const struct lb_id *layer = &o->layer[i].layer;
		struct rep_have h;
		uint32_t n = 0;

		m->layer[i].layer = *layer;
		if (!rep_store_have(x->cfg.store, layer, &h))
			continue;
		m->layer[i].header = h.header;
		m->layer[i].first_missing = h.first_missing;
		if (h.packs > h.first_missing)
			n = rep_store_have_extra(x->cfg.store, layer, extra,
						 REP_ADMIT_MAX_EXTRA - m->extras);
		for (uint32_t k = 0; k < n; k++) {
			m->extra[m->extras].layer = (uint16_t)i;
			m->extra[m->extras++].number = extra[k];
		}
	}
}

static void run_query(struct rep_ingest *x, const struct rep_store_op *op,
		      struct rep_store_answer *a)
{
	if (x->unsettled && op->offer && commit(x, &a->err) != 0)
		return; /* or a later commit would show a point the peer has given up */
	a->has_head = rep_store_head(x->cfg.store, &op->group, &a->head);
	if (!op->offer)
		return;
	a->admit = calloc(1, sizeof(*a->admit));
	if (!a->admit)
		lb_err_set(&a->err, LB_ENOMEM, 0, "an admission");
	else
		query_layers(x, op->offer, a->admit);
}

/* ---- APPEND, ABANDON ---- */

static void run_append(struct rep_ingest *x, const struct rep_store_op *op,
		       struct rep_store_answer *a)
{
	/* a view into the frame: the store copies or writes it before it returns */
	struct lb_buf body = {
		.p = (uint8_t *)op->body, .len = op->bytes, .cap = op->bytes, .refs = 1};
	int rc = rep_store_append(x->cfg.store, op->kind, &op->layer, op->number, &body,
				  op->has_leaf ? &op->leaf : NULL, &a->err);

	a->bytes = op->bytes;
	if (rc == LB_EEXIST) {
		a->duplicate = true;
		a->err = (struct lb_err){0};
	}
}

static void run_abandon(struct rep_ingest *x, const struct rep_store_op *op,
			struct rep_store_answer *a)
{
	int rc = rep_store_abandon(x->cfg.store, &op->layer, &a->err);

	if (rc == LB_ENOTFOUND)
		a->err = (struct lb_err){0};
}

/* ---- COMMIT ---- */

static int match_offer(const struct rep_manifest *m, const struct rep_offer *o, struct lb_err *err)
{
	bool same = m->epoch == o->epoch && m->seq == o->seq && m->volumes == o->layers &&
		    lb_id_equal(&m->group, &o->group) && lb_hash_equal(&m->prev, &o->prev) &&
		    lb_hash_equal(&m->base, &o->base) && strcmp(m->group_name, o->group_name) == 0;

	for (uint32_t i = 0; same && i < m->volumes; i++) {
		const struct rep_manifest_volume *v = &m->volume[i];
		const struct rep_offer_layer *l = &o->layer[i];

		same = lb_id_equal(&v->layer, &l->layer) && lb_id_equal(&v->volume, &l->volume) &&
		       lb_id_equal(&v->machine, &l->machine) && v->kind == l->kind &&
		       v->volume_bytes == l->volume_bytes;
	}
	if (!same)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "manifest of seq %" PRIu64 " is not the point that was offered",
				  m->seq);
	return 0;
}

static int check_signed(struct rep_ingest *x, const struct rep_store_op *op, struct lb_err *err)
{
	struct lb_pubkey key;
	int rc = x->cfg.key_of(x->cfg.arg, &op->writer, &key);

	if (rc != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "no manifest key of the writer is known");
	return rep_manifest_verify(op->buf->p, op->buf->len, &key, err);
}

/* prev, and base when there is one, must be the head now. */
static int check_head(struct rep_ingest *x, const struct rep_manifest *m, struct lb_err *err)
{
	struct lb_hash head = {{0}};
	struct rep_point p;

	if (REP_BUG(base_by_number))
		return 0;
	if (rep_store_head(x->cfg.store, &m->group, &p))
		head = p.manifest;
	if (!lb_hash_equal(&m->prev, &head) ||
	    (!lb_hash_is_zero(&m->base) && !lb_hash_equal(&m->base, &head)))
		return lb_err_set(err, LB_EBASE, 0,
				  "point %" PRIu64 " does not continue the newest one", m->seq);
	return 0;
}

static int check_point(struct rep_ingest *x, const struct rep_store_op *op, struct lb_err *err)
{
	const struct rep_manifest *m = &x->m;
	int rc;

	if (!op->offer)
		return lb_err_set(err, LB_EBASE, 0, "POINT without an offer");
	rc = match_offer(m, op->offer, err);
	if (rc == 0)
		rc = check_head(x, m, err);
	for (uint32_t i = 0; rc == 0 && i < m->volumes && !REP_BUG(skip_layer_check); i++) {
		rc = rep_store_layer_check(x->cfg.store, &m->volume[i], m, err);
		if (rc != 0)
			lb_err_wrap(err, rc, "volume %s", m->volume[i].volume_name);
	}
	if (rc == 0)
		rc = rep_store_append_manifest(x->cfg.store, op->buf, err);
	return rc;
}

static void run_commit(struct rep_ingest *x, const struct rep_store_op *op,
		       struct rep_store_answer *a, struct batch *b)
{
	struct waiting *w = &b->w[b->n];
	int rc = rep_manifest_decode(&x->m, op->buf->p, op->buf->len, &a->err);

	if (rc == 0)
		rc = check_signed(x, op, &a->err);
	if (rc != 0)
		return;
	*w = (struct waiting){.answer = a};
	rep_manifest_hash(&w->manifest, op->buf->p, op->buf->len);
	w->again = rep_store_point_find(x->cfg.store, &w->manifest, &a->head);
	if (!w->again)
		rc = check_point(x, op, &a->err);
	if (rc == LB_EEXIST) { /* appended before, when its commit failed */
		a->err = (struct lb_err){0};
		rc = 0;
	}
	if (rc == 0)
		b->n++;
}

void rep_ingest_run(struct rep_ingest *x, const struct rep_store_op *op,
		    struct rep_store_answer *answer, unsigned n)
{
	struct batch b = {.n = 0};

	LB_ASSERT(n <= REP_INGEST_MAX_BATCH);
	for (unsigned i = 0; i < n; i++) {
		struct rep_store_answer *a = &answer[i];

		*a = (struct rep_store_answer){.type = op[i].type, .cookie = op[i].cookie};
		switch (op[i].type) {
		case REP_STORE_QUERY:
			settle(x, &b);
			run_query(x, &op[i], a);
			break;
		case REP_STORE_APPEND:
			run_append(x, &op[i], a);
			break;
		case REP_STORE_COMMIT:
			run_commit(x, &op[i], a, &b);
			break;
		case REP_STORE_ABANDON:
			run_abandon(x, &op[i], a);
			break;
		}
	}
	settle(x, &b);
}
