/*
 * What is true, and the invariants of design 02 that follow from it:
 *
 *   I1  a visible point is complete and reads as its cut did: each when it becomes visible, the
 *       newest after every restart, the whole chain at the end
 *   I2  what was acknowledged is there after any restart
 *   I3  every point continues the newest one; (epoch, seq) once
 *   I4  a delta's base is the newest point, by hash
 *   I7  no receipt after a failed sync
 *   I10 no ADMIT, no point in an epoch other than the recorded one; none below a failover's
 *   I17 a cut's age is never told too small
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim_layer.h"

struct sim_truth *oracle_find(struct sim *s, const struct lb_hash *manifest)
{
	for (unsigned i = s->oracle.n; i-- > 0;)
		if (lb_hash_equal(&s->oracle.t[i].manifest, manifest))
			return &s->oracle.t[i];
	return NULL;
}

void oracle_cut(struct sim *s, const struct sim_cut *c)
{
	struct sim_oracle *o = &s->oracle;

	if (o->n == o->cap) {
		o->cap = o->cap ? 2 * o->cap : 64;
		o->t = realloc(o->t, o->cap * sizeof(*o->t));
		LB_ASSERT(o->t);
	}
	o->t[o->n++] = (struct sim_truth){
		.manifest = c->hash,
		.prev = c->place.prev,
		.base = c->place.base,
		.epoch = c->place.epoch,
		.seq = c->place.seq,
		.captured_at = c->captured_at,
		.v = c->frozen,
	};
}

/* ---- images ---- */

/* Read the layers of point @t from the store over @v, which holds its base. */
static bool read_point(struct sim *s, const struct sim_truth *t, struct sim_versions *v)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	struct lb_buf *b = NULL;
	const char *bad = NULL;

	LB_ASSERT(m);
	if (rep_store_read_manifest(s->tgt.store, &t->manifest, &b, NULL) ||
	    rep_manifest_decode(m, b->p, b->len, NULL))
		bad = "manifest cannot be read";
	for (unsigned i = 0; !bad && i < SIM_VOLUMES; i++)
		bad = sim_layer_read(s, s->tgt.store, &m->volume[i], v, &t->v, i);
	if (bad)
		sim_violate(s, "visible point epoch %" PRIu64 " seq %" PRIu64 ": %s (I1)", t->epoch,
			    t->seq, bad);
	s->count.images++;
	lb_buf_unref(b);
	free(m);
	return bad == NULL;
}

static void check_image(struct sim *s, struct sim_truth *t)
{
	struct sim_versions v = {.of = {{0}}};
	const struct sim_truth *base;

	if (!lb_hash_is_zero(&t->base)) {
		base = oracle_find(s, &t->base);
		if (!base || !base->visible) {
			sim_violate(s, "visible point %" PRIu64 " has no visible base (I4)",
				    t->seq);
			return;
		}
		v = base->v;
	}
	(void)read_point(s, t, &v);
	memcpy(t->v.ram, v.ram, sizeof(v.ram));
}

/* The whole chain of the newest point, from its full layer up. */
static void check_chain(struct sim *s)
{
	struct sim_oracle *o = &s->oracle;
	struct sim_truth **chain = calloc(o->n + 1, sizeof(*chain));
	struct sim_truth *t = oracle_find(s, &o->head);
	struct sim_versions v = {.of = {{0}}};
	unsigned n = 0;

	LB_ASSERT(chain);
	while (t && n < o->n) {
		chain[n++] = t;
		t = lb_hash_is_zero(&t->base) ? NULL : oracle_find(s, &t->base);
	}
	while (n > 0 && read_point(s, chain[n - 1], &v))
		n--;
	free(chain);
}

/* ---- events ---- */

/* The oracle's head moves to @t. */
static void becomes_visible(struct sim *s, struct sim_truth *t)
{
	struct sim_oracle *o = &s->oracle;
	const struct sim_truth *head = oracle_find(s, &o->head);

	if (t->visible)
		return;
	if (!lb_hash_equal(&t->prev, &o->head))
		sim_violate(s, "point %" PRIu64 " does not continue the newest one (I3)", t->seq);
	if (!lb_hash_is_zero(&t->base) && !lb_hash_equal(&t->base, &o->head))
		sim_violate(s, "point %" PRIu64 " is a delta on another base (I4)", t->seq);
	if (head && (t->epoch < head->epoch || (t->epoch == head->epoch && t->seq <= head->seq)))
		sim_violate(s, "epoch %" PRIu64 " seq %" PRIu64 " comes after a higher one (I3)",
			    t->epoch, t->seq);
	if (t->epoch < o->fenced_below)
		sim_violate(s, "point of epoch %" PRIu64 " after the failover to %" PRIu64,
			    t->epoch, o->fenced_below);
	t->visible = true;
	memset(s->tgt.draft, 0, sizeof(s->tgt.draft));
	o->head = t->manifest;
	check_image(s, t);
}

static void check_age(struct sim *s, const struct sim_truth *t, const struct rep_receiver_action *a)
{
	uint64_t since_ns, age;

	if (!a->age_known) {
		s->count.age_unknown++;
		return;
	}
	/* receive_boot_ns is now: the store's answer is handed over at once */
	since_ns = s->now - t->captured_at;
	age = (uint64_t)((int64_t)since_ns + (int64_t)(since_ns / 1000000) * s->tgt.env.drift_ppm);
	s->count.ages++;
	if (a->age_ns + 1000 < age)
		sim_violate(s, "cut is %" PRIu64 " ns old and told to be %" PRIu64 " (I17)", age,
			    a->age_ns);
	else if (a->age_ns > age && a->age_ns - age > s->count.age_error_max_ns)
		s->count.age_error_max_ns = a->age_ns - age;
}

void oracle_point(struct sim *s, const struct rep_receiver_action *a)
{
	struct sim_truth *t = oracle_find(s, &a->point.manifest);

	s->count.points++;
	if (!t) {
		sim_violate(s, "a point became visible that was never made");
		return;
	}
	if (t->epoch != s->tgt.role.epoch)
		sim_violate(s, "point of epoch %" PRIu64 " while %" PRIu64 " is recorded (I10)",
			    t->epoch, s->tgt.role.epoch);
	if (!t->visible)
		sim_violate(s, "a point is told of that is not visible");
	check_age(s, t, a);
}

void oracle_receipt(struct sim *s, const uint8_t *receipt)
{
	struct rep_receipt r;
	struct rep_point p;
	struct sim_truth *t;

	s->count.receipts++;
	LB_ASSERT(rep_receipt_decode(&r, receipt, REP_RECEIPT_BYTES, NULL) == 0);
	t = oracle_find(s, &r.manifest);
	if (!t || !rep_store_point_find(s->tgt.store, &r.manifest, &p)) {
		sim_violate(s, "receipt for a point that is not visible (I2)");
		return;
	}
	if (s->tgt.ack_stopped)
		sim_violate(s, "receipt after a failed sync (I7)");
	t->acked = true;
	memcpy(s->old_receipt, receipt, sizeof(s->old_receipt));
	s->has_receipt = true;
}

void oracle_admit(struct sim *s, const struct rep_admit *a)
{
	if (a->epoch != s->tgt.role.epoch)
		sim_violate(s, "ADMIT in epoch %" PRIu64 " while %" PRIu64 " is recorded (I10)",
			    a->epoch, s->tgt.role.epoch);
	for (unsigned v = 0; v < SIM_VOLUMES && a->layers == SIM_VOLUMES; v++) {
		if (lb_id_equal(&a->layer[v].layer, &s->tgt.draft[v]))
			continue;
		s->tgt.gone[v] = s->tgt.draft[v];
		s->tgt.draft[v] = a->layer[v].layer;
	}
}

/* One draft a volume: what an older offer left is forgotten. */
static void check_drafts(struct sim *s)
{
	struct rep_have have;

	for (unsigned v = 0; v < SIM_VOLUMES; v++)
		if (!lb_id_is_zero(&s->tgt.gone[v]) &&
		    rep_store_have(s->tgt.store, &s->tgt.gone[v], &have))
			sim_violate(s, "an older draft is kept beside the new one");
}

void oracle_abandoned(struct sim *s, const struct rep_sender_action *a)
{
	const struct sim_target *t = &s->tgt;
	uint64_t since = s->src.cut.captured_at;

	if (a->alarm && t->error_at < since)
		sim_violate(s, "parts went missing at POINT without cause: %s", a->err.msg);
	if (a->err.code == LB_ECHANGED && t->lost_at < since && t->error_at < since)
		sim_violate(s, "credited parts were lost without cause: %s", a->err.msg);
}

void oracle_acked(struct sim *s, const struct rep_sender_action *a)
{
	struct sim_truth *t = oracle_find(s, &a->manifest);

	if (!t || !t->visible) {
		sim_violate(s, "source believes a point that is not visible");
		return;
	}
	if (t->captured_at > s->oracle.last_acked_capture)
		s->oracle.last_acked_capture = t->captured_at;
	s->oracle.acked++;
}

/* ---- after a restart, and at the end ---- */

struct listing {
	struct sim *s;
	struct lb_hash last;
	unsigned n;
};

static int on_listed(void *arg, const struct rep_point *p)
{
	struct listing *l = arg;
	struct sim_truth *t = oracle_find(l->s, &p->manifest);

	if (!t)
		sim_violate(l->s, "a visible point that was never made");
	else if (!lb_hash_equal(&t->prev, &l->last))
		sim_violate(l->s, "visible points are no chain at seq %" PRIu64 " (I3)", p->seq);
	l->last = p->manifest;
	l->n++;
	return 0;
}

/* A point may have become durable without anybody having heard of it. */
static void look(struct sim *s)
{
	struct rep_point p;
	struct sim_truth *t;

	if (!rep_store_head(s->tgt.store, &s->group, &p))
		return;
	t = oracle_find(s, &p.manifest);
	if (t)
		becomes_visible(s, t);
}

void oracle_look(struct sim *s)
{
	uint64_t held[2];

	fault_hold(s, held);
	look(s);
	if (s->tgt.op_count == 0)
		check_drafts(s);
	fault_release(s, held);
}

static void reopened(struct sim *s)
{
	struct sim_oracle *o = &s->oracle;
	struct listing l = {.s = s};
	struct sim_truth *head;
	struct rep_point p;

	look(s);
	for (unsigned i = 0; i < o->n; i++) {
		struct sim_truth *t = &o->t[i];
		bool there = rep_store_point_find(s->tgt.store, &t->manifest, &p);

		if (t->acked && !there)
			sim_violate(s, "acknowledged point %" PRIu64 " is gone (I2)", t->seq);
		else if (t->visible && !there)
			sim_violate(s, "visible point %" PRIu64 " is gone", t->seq);
		if (there && p.damaged)
			sim_violate(s, "point %" PRIu64 " is damaged", t->seq);
	}
	(void)rep_store_points(s->tgt.store, &s->group, on_listed, &l);
	if (!lb_hash_equal(&l.last, &o->head))
		sim_violate(s, "the newest point is not the one that was");
	head = oracle_find(s, &o->head);
	if (head)
		check_image(s, head);
}

void oracle_reopened(struct sim *s)
{
	uint64_t held[2];

	fault_hold(s, held);
	reopened(s);
	fault_release(s, held);
}

static void on_damage(void *arg, const struct rep_damage *d)
{
	sim_violate(arg, "scrub: %s", d->what);
}

static int scrub_key(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct sim *s = arg;

	(void)site;
	*out = s->pub[1];
	return 0;
}

void oracle_end(struct sim *s)
{
	struct rep_scrub_opts opts = {.on_damage = on_damage, .key_of = scrub_key, .arg = s};
	struct rep_scrub_stats st = {0};
	struct lb_err err = {0};

	oracle_reopened(s);
	check_chain(s);
	if (rep_store_scrub(s->tgt.store, &opts, &st, &err))
		sim_violate(s, "scrub: %s", err.msg);
	if (st.points == 0)
		sim_violate(s, "scrub saw no point");
}
