#include "ingest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"

void ingest_init(struct ingest *g, unsigned points, uint32_t blocks, uint32_t changes,
		 uint64_t segment_bytes, uint64_t seed)
{
	LB_ASSERT(points <= INGEST_MAX && points % 2 == 0);
	*g = (struct ingest){.env = fix_env(seed), .points = points};
	g->cfg.segment_bytes = segment_bytes;
	g->point = calloc(points, sizeof(*g->point));
	LB_ASSERT(g->point != NULL);
	for (unsigned i = 0; i < INGEST_GROUPS; i++)
		sf_group_init(&g->group[i], i, 1, blocks, seed);
	for (unsigned i = 0; i < points; i++) {
		struct sf_group *x = &g->group[i % INGEST_GROUPS];

		sf_group_write(x, changes);
		sf_point_cut(x, &g->point[i]);
		sf_point_accepted(x, &g->point[i]);
	}
}

void ingest_fini(struct ingest *g)
{
	for (unsigned i = 0; i < g->points; i++)
		sf_point_free(&g->point[i]);
	for (unsigned i = 0; i < INGEST_GROUPS; i++)
		sf_group_fini(&g->group[i]);
	free(g->point);
}

static bool visible(struct rep_store *s, const struct sf_point *p)
{
	struct rep_point out;

	return rep_store_point_find(s, &p->hash, &out);
}

/* Part @k of point @p unless it is there. */
static int send_part(struct rep_store *s, const struct sf_point *p, uint32_t k, struct lb_err *err)
{
	const struct sf_layer *l = &p->layer[0];

	if (k >= l->parts || visible(s, p) ||
	    rep_store_have_part(s, &l->header.layer, l->part[k].kind, l->part[k].number))
		return 0;
	return sf_part_send(s, l, &l->part[k], err);
}

static int seal(struct rep_store *s, const struct sf_point *p, struct lb_err *err)
{
	int rc = visible(s, p) ? 0 : sf_point_seal(s, p, err);

	return rc == LB_EEXIST ? 0 : rc;
}

static int append_receipt(struct ingest *g, struct rep_store *s, unsigned i, struct lb_err *err)
{
	uint8_t receipt[REP_RECEIPT_BYTES];

	if (rep_store_read_receipt(s, &g->point[i].hash, receipt, sizeof(receipt), NULL) == 0)
		return 0;
	sf_receipt(receipt, s, &g->group[i % INGEST_GROUPS], &g->point[i]);
	return rep_store_append_receipt(s, receipt, sizeof(receipt), err);
}

static void note(struct ingest_log *log, unsigned i, bool receipt)
{
	bool *at = receipt ? &log->receipt[i] : &log->acked[i];

	if (*at)
		return;
	*at = true;
	if (log->on_ack != NULL)
		log->on_ack(log->arg, i, receipt);
}

/* Points @i and @i + 1: their parts by turns, a few of the next round's, seal, commit, receipts. */
static int run_round(struct ingest *g, struct rep_store *s, unsigned i, struct ingest_log *log,
		     struct lb_err *err)
{
	int rc = 0;

	for (uint32_t k = 0; k < SF_MAX_PARTS && rc == 0; k++) {
		rc = send_part(s, &g->point[i], k, err);
		if (rc == 0)
			rc = send_part(s, &g->point[i + 1], k, err);
	}
	for (uint32_t k = 0; k < 2 && rc == 0 && i + 2 < g->points; k++)
		rc = send_part(s, &g->point[i + 2], k, err);
	for (unsigned k = i; k < i + 2 && rc == 0; k++)
		rc = seal(s, &g->point[k], err);
	if (rc == 0)
		rc = rep_store_commit(s, err);
	if (rc != 0)
		return rc;
	for (unsigned k = 0; k < i; k++)
		note(log, k, true);
	for (unsigned k = i; k < i + 2; k++)
		note(log, k, false);
	for (unsigned k = i; k < i + 2 && rc == 0; k++)
		rc = append_receipt(g, s, k, err);
	return rc;
}

int ingest_run(struct ingest *g, struct rep_store *s, struct ingest_log *log, struct lb_err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < g->points && rc == 0; i += 2)
		rc = run_round(g, s, i, log, err);
	if (rc == 0)
		rc = rep_store_commit(s, err);
	for (unsigned k = 0; k < g->points && rc == 0; k++)
		note(log, k, true);
	return rc;
}

/* ---- the checker ---- */

struct checker {
	struct ingest *g;
	const struct ingest_log *log;
	struct rep_store *s;
	bool loud;
	unsigned violations;
};

static void violation(struct checker *c, const char *what, unsigned point, const char *why)
{
	c->violations++;
	if (c->loud)
		(void)fprintf(stderr, "  violation: %s, point %u: %s\n", what, point, why);
}

static void on_damage(void *arg, const struct rep_damage *d)
{
	struct checker *c = arg;

	violation(c, "damage", 0, d->what);
}

static int key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct checker *c = arg;

	return sf_key_of(c->g->group, site, out);
}

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	struct checker *c = arg;

	return sf_dek_of(c->g->group, id, out);
}

static void check_point(struct checker *c, unsigned i)
{
	uint8_t receipt[REP_RECEIPT_BYTES];
	const struct sf_point *p = &c->g->point[i];
	struct rep_point out;

	if (!rep_store_point_find(c->s, &p->hash, &out)) {
		if (c->log->acked[i])
			violation(c, "an acknowledged point is lost", i, "");
		return;
	}
	if (out.damaged)
		violation(c, "a visible point is damaged", i, "");
	if (c->log->receipt[i] &&
	    rep_store_read_receipt(c->s, &p->hash, receipt, sizeof(receipt), NULL) != 0)
		violation(c, "a committed receipt is lost", i, "");
}

/* What a resume would build on is really there. */
static void check_held(struct checker *c, unsigned i)
{
	const struct sf_layer *l = &c->g->point[i].layer[0];

	for (uint32_t k = 0; k < l->parts; k++) {
		const struct sf_part *part = &l->part[k];
		struct lb_err err = {.code = 0};
		struct lb_buf *b = NULL;

		if (!rep_store_have_part(c->s, &l->header.layer, part->kind, part->number))
			continue;
		if (rep_store_read_part(c->s, &l->header.layer, part->kind, part->number, &b,
					&err) != 0)
			violation(c, "a held part does not read", i, err.msg);
		else if (b->len != part->body->len || memcmp(b->p, part->body->p, b->len) != 0)
			violation(c, "a held part has other bytes", i, "");
		lb_buf_unref(b);
	}
}

static int known_point(void *arg, const struct rep_point *p)
{
	struct checker *c = arg;

	for (unsigned i = 0; i < c->g->points; i++)
		if (lb_hash_equal(&p->manifest, &c->g->point[i].hash))
			return 0;
	violation(c, "a point nobody sent", 0, p->group_name);
	return 0;
}

unsigned ingest_check(struct ingest *g, struct lb_fs *fs, const struct ingest_log *log, bool loud,
		      struct rep_store **out)
{
	struct checker c = {.g = g, .log = log, .loud = loud};
	struct rep_scrub_opts o = {
		.on_damage = on_damage, .key_of = key_of, .dek_of = dek_of, .arg = &c};
	struct lb_err err = {.code = 0};
	int rc = rep_store_open(&c.s, &g->env.env, fs, &g->cfg, &err);

	if (rc != 0) {
		violation(&c, "the store does not open", 0, err.msg);
		return c.violations;
	}
	(void)rep_store_damage(c.s, on_damage, &c);
	rc = rep_store_scrub(c.s, &o, NULL, &err);
	if (rc != 0 && rc != LB_ECORRUPT)
		violation(&c, "scrub", 0, err.msg);
	(void)rep_store_points(c.s, NULL, known_point, &c);
	for (unsigned i = 0; i < g->points; i++) {
		check_point(&c, i);
		check_held(&c, i);
	}
	if (out != NULL && c.violations == 0)
		*out = c.s;
	else
		rep_store_close(c.s);
	return c.violations;
}
