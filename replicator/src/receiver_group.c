/*
 * receiver_group.c - what becomes of a group's points at the backup.
 *
 *   OFFER: role and epoch [may_write] -> QUERY -> head fits [place_fault] -> older drafts abandoned
 *          -> open, ADMIT
 *   RECORD of an open offer -> APPEND -> CREDIT, in order. A credit is always true: when a part
 *          could not be kept, the offer is refused and the connection that carried it is closed.
 *          Records of a cut that was given up (still on their way) are dropped in their turn.
 *   POINT -> COMMIT -> RECEIPT; of a point that is visible already, whatever is open: its receipt
 */
#include <stdlib.h>
#include <string.h>

#include "receiver_int.h"

/* ---- small helpers ---- */

static struct rgroup *group_find(struct rep_receiver *r, const struct lb_id *id)
{
	struct rgroup *g;

	TAILQ_FOREACH(g, &r->groups, link)
	if (lb_id_equal(&g->id, id))
		return g;
	return NULL;
}

static struct rgroup *group_get(struct rep_receiver *r, const struct lb_id *id)
{
	struct rgroup *g = group_find(r, id);

	if (g || r->group_count >= REP_RECEIVER_MAX_GROUPS)
		return g;
	g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	g->id = *id;
	TAILQ_INSERT_TAIL(&r->groups, g, link);
	r->group_count++;
	return g;
}

void rgroup_free(struct rep_receiver *r, struct rgroup *g)
{
	TAILQ_REMOVE(&r->groups, g, link);
	r->group_count--;
	free(g->asked);
	free(g->offer);
	free(g);
}

static struct rep_offer *offer_copy(const struct rep_offer *o)
{
	struct rep_offer *c = malloc(sizeof(*c));

	if (c)
		*c = *o;
	return c;
}

static const struct rep_offer_layer *offer_layer(const struct rep_offer *o,
						 const struct lb_id *layer)
{
	for (uint32_t i = 0; o && i < o->layers; i++)
		if (lb_id_equal(&o->layer[i].layer, layer))
			return &o->layer[i];
	return NULL;
}

static void alarm_push(struct rep_receiver *r, const char *ev, const struct lb_err *err)
{
	struct rep_receiver_action *a = receiver_push(r, REP_RECEIVER_ALARM);

	a->ev = ev;
	a->err = *err;
}

static void refuse(struct rep_receiver *r, struct rconn *k, const struct lb_id *group, uint64_t seq,
		   enum rep_refuse_reason reason, const char *text)
{
	struct rep_frame f = {.type = REP_FRAME_REFUSE};
	struct rep_group_role role = {0};

	r->stats.refused++;
	if (!k)
		return;
	r->cfg.ops->role_of(r->cfg.ops_arg, group, &role);
	f.refuse.group = *group;
	f.refuse.seq = seq;
	f.refuse.reason = reason;
	f.refuse.epoch = role.epoch;
	strncpy(f.refuse.text, text, sizeof(f.refuse.text) - 1);
	receiver_send(r, k, &f);
}

static enum rep_refuse_reason reason_of(int code)
{
	if (code == LB_ENOSPC)
		return REP_REFUSE_SPACE;
	if (code == LB_ESUSPECT || code == LB_EIO)
		return REP_REFUSE_SUSPECT;
	if (code == LB_EBASE)
		return REP_REFUSE_BASE;
	if (code == LB_ECORRUPT || code == LB_ENOTFOUND || code == LB_EINPUT)
		return REP_REFUSE_CORRUPT;
	return REP_REFUSE_BUSY;
}

/* I7: from the first failed sync on nothing is acknowledged by this process. */
static void note_suspect(struct rep_receiver *r, const struct lb_err *err)
{
	if (r->suspect || REP_BUG(suspect_forgotten))
		return;
	r->suspect = true;
	alarm_push(r, "store_suspect", err);
}

static struct rpending *pending_add(struct rep_receiver *r, struct rconn *k, int type,
				    const struct lb_id *group)
{
	struct rpending *p;

	if (k->pending >= RECEIVER_MAX_PENDING) {
		receiver_doom(k, LB_EPROTO, "too much is asked at once");
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		receiver_doom(k, LB_ENOMEM, "no memory for what is asked");
		return NULL;
	}
	p->type = type;
	p->cookie = ++r->cookie;
	p->conn = k->id;
	p->group = *group;
	k->pending++;
	TAILQ_INSERT_TAIL(&r->pending, p, link);
	return p;
}

static struct rep_store_op *run(struct rep_receiver *r, const struct rpending *p)
{
	struct rep_store_op *op = &receiver_push(r, REP_RECEIVER_RUN)->op;

	op->type = (enum rep_store_op_type)p->type;
	op->cookie = p->cookie;
	op->group = p->group;
	return op;
}

/* Forget a draft; nobody waits for the answer. */
static void abandon(struct rep_receiver *r, const struct lb_id *group, const struct lb_id *layer)
{
	struct rpending *p = calloc(1, sizeof(*p));
	struct rep_store_op *op;

	if (!p)
		return; /* the draft stays until retention finds it */
	p->type = REP_STORE_ABANDON;
	p->cookie = ++r->cookie;
	p->group = *group;
	TAILQ_INSERT_TAIL(&r->pending, p, link);
	op = run(r, p);
	op->layer = *layer;
}

/* ---- STATUS ---- */

void rgroup_on_status_req(struct rep_receiver *r, struct rconn *k, const struct lb_id *group)
{
	struct rpending *p = pending_add(r, k, REP_STORE_QUERY, group);

	if (p)
		run(r, p);
}

static bool is_writer(const struct rep_group_role *role, const struct lb_id *peer)
{
	return lb_id_is_zero(&role->writer) || lb_id_equal(&role->writer, peer);
}

static void on_status_answer(struct rep_receiver *r, struct rconn *k, const struct lb_id *group,
			     const struct rep_store_answer *a)
{
	struct rep_frame f = {.type = REP_FRAME_STATUS};
	struct rep_group_role role = {0};

	if (a->err.code != 0) {
		receiver_doom(k, (enum lb_code)a->err.code, a->err.msg);
		return;
	}
	r->cfg.ops->role_of(r->cfg.ops_arg, group, &role);
	f.status.group = *group;
	f.status.epoch = role.epoch;
	f.status.has_head = a->has_head;
	if (a->has_head) {
		f.status.head_epoch = a->head.epoch;
		f.status.head_seq = a->head.seq;
		f.status.head = a->head.manifest;
		if (a->head.epoch > f.status.epoch)
			f.status.epoch = a->head.epoch;
	}
	f.status.writable = role.epoch == 0 || (role.writable && is_writer(&role, &k->peer));
	receiver_send(r, k, &f);
}

/* ---- OFFER ---- */

/* Role and epoch: may @k write point (epoch, seq) now? Refuses, or fences, where not. An epoch
 * higher than recorded is recorded first (I10). */
static bool may_write(struct rep_receiver *r, struct rconn *k, const struct rep_offer *o)
{
	const struct rep_receiver_ops *ops = r->cfg.ops;
	struct rep_group_role role = {0};
	struct lb_err err = {0};
	int rc = 0;

	ops->role_of(r->cfg.ops_arg, &o->group, &role);
	if (role.epoch != 0 && !is_writer(&role, &k->peer)) {
		refuse(r, k, &o->group, o->seq, REP_REFUSE_DENIED,
		       "another site writes this group");
		return false;
	}
	if (o->epoch < role.epoch && !REP_BUG(skip_epoch_check)) {
		refuse(r, k, &o->group, o->seq, REP_REFUSE_EPOCH, "a higher epoch exists");
		return false;
	}
	if (role.epoch == 0)
		rc = ops->adopt(r->cfg.ops_arg, &o->group, o->group_name, o->epoch, &k->peer, &err);
	else if (o->epoch > role.epoch && !REP_BUG(epoch_not_raised))
		rc = ops->raise_epoch(r->cfg.ops_arg, &o->group, o->epoch, &k->peer, &err);
	else if (!role.writable && !REP_BUG(skip_epoch_check))
		rc = lb_err_set(&err, LB_EBUSY, 0,
				"this site does not take the group's points now");
	if (rc == 0)
		return true;
	refuse(r, k, &o->group, o->seq,
	       rc == LB_EDENIED || rc == LB_EINPUT ? REP_REFUSE_DENIED : reason_of(rc), err.msg);
	return false;
}

void rgroup_on_offer(struct rep_receiver *r, struct rconn *k, const struct rep_offer *o)
{
	struct rep_offer *asked, *copy;
	struct rep_store_op *op;
	struct rpending *p;
	struct rgroup *g;

	if (r->suspect) {
		refuse(r, k, &o->group, o->seq, REP_REFUSE_SUSPECT, "a sync failed at this store");
		return;
	}
	if (o->layers == 0 || o->epoch == 0 || o->seq == 0) {
		receiver_doom(k, LB_EPROTO, "OFFER of nothing");
		return;
	}
	if (!may_write(r, k, o))
		return;
	g = group_get(r, &o->group);
	if (!g) {
		refuse(r, k, &o->group, o->seq, REP_REFUSE_BUSY, "no room for another group");
		return;
	}
	asked = offer_copy(o);
	copy = offer_copy(o);
	p = asked && copy ? pending_add(r, k, REP_STORE_QUERY, &o->group) : NULL;
	if (!p) { /* what is pending is always run, or the answers would be out of step */
		free(asked);
		free(copy);
		receiver_doom(k, LB_ENOMEM, "no memory for an offer");
		return;
	}
	free(g->asked);
	g->asked = asked;
	g->cookie = p->cookie;
	p->offered = true;
	op = run(r, p);
	op->offer = copy;
}

/* I3, I4: does the offer continue exactly what is visible? NULL: it does. */
static const char *place_fault(const struct rep_offer *o, const struct rep_store_answer *a)
{
	static const struct lb_hash none;
	const struct lb_hash *head = a->has_head ? &a->head.manifest : &none;

	if (a->has_head && o->epoch < a->head.epoch)
		return "epoch is lower than the newest point's";
	if (a->has_head && o->epoch == a->head.epoch && o->seq != a->head.seq + 1)
		return "seq does not follow the newest point's";
	if (REP_BUG(base_by_number))
		return NULL;
	if (!lb_hash_equal(&o->prev, head))
		return "prev is not the newest point";
	if (!lb_hash_is_zero(&o->base) && !lb_hash_equal(&o->base, head))
		return "base is not the newest point";
	return NULL;
}

static void refuse_base(struct rep_receiver *r, struct rconn *k, const struct rep_offer *o,
			const struct rep_store_answer *a, const char *why)
{
	struct rep_frame f = {.type = REP_FRAME_REFUSE};

	r->stats.refused++;
	f.refuse.group = o->group;
	f.refuse.seq = o->seq;
	f.refuse.reason = REP_REFUSE_BASE;
	f.refuse.epoch = o->epoch;
	f.refuse.has_head = a->has_head;
	if (a->has_head)
		f.refuse.head = a->head.manifest;
	strncpy(f.refuse.text, why, sizeof(f.refuse.text) - 1);
	receiver_send(r, k, &f);
}

/* Drafts of the offer before this one that this one does not go on with. */
static void abandon_older(struct rep_receiver *r, struct rgroup *g, const struct rep_offer *o)
{
	if (REP_BUG(draft_not_abandoned))
		return;
	for (uint32_t i = 0; g->offer && i < g->offer->layers; i++)
		if (!offer_layer(o, &g->offer->layer[i].layer))
			abandon(r, &g->id, &g->offer->layer[i].layer);
}

static void send_admit(struct rep_receiver *r, struct rconn *k, const struct rep_offer *o,
		       const struct rep_store_answer *a)
{
	struct rep_frame f = {.type = REP_FRAME_ADMIT};

	f.admit = *a->admit;
	f.admit.group = o->group;
	f.admit.epoch = o->epoch;
	f.admit.seq = o->seq;
	receiver_send(r, k, &f);
}

static void on_offer_answer(struct rep_receiver *r, struct rconn *k, const struct rpending *p,
			    const struct rep_store_answer *a)
{
	struct rgroup *g = group_find(r, &p->group);
	const char *fault;

	if (!g || !g->asked || g->cookie != p->cookie)
		return; /* a newer offer has taken its place */
	if (a->err.code == 0 && !may_write(r, k, g->asked))
		goto out; /* the role changed meanwhile */
	if (a->err.code != 0 || !a->admit) {
		if (reason_of(a->err.code) == REP_REFUSE_SUSPECT)
			note_suspect(r, &a->err);
		refuse(r, k, &p->group, g->asked->seq, reason_of(a->err.code), a->err.msg);
		goto out;
	}
	fault = place_fault(g->asked, a);
	if (fault) {
		refuse_base(r, k, g->asked, a, fault);
		goto out;
	}
	abandon_older(r, g, g->asked);
	free(g->offer);
	g->offer = g->asked;
	g->asked = NULL;
	g->session = k->site->session;
	g->open = true;
	send_admit(r, k, g->offer, a);
	return;
out:
	g->open = false;
	free(g->asked);
	g->asked = NULL;
}

/* ---- RECORD ---- */

/* The header is clear: what it says must be what was offered, before more is taken (I4). */
static const char *header_fault(const struct rep_offer *o, const struct rep_offer_layer *l,
				const struct rep_record_frame *f)
{
	struct rep_layer_header h;

	if (rep_layer_header_decode(&h, f->body, f->bytes, NULL))
		return "layer header does not decode";
	if (!lb_id_equal(&h.group, &o->group) || !lb_id_equal(&h.machine, &l->machine) ||
	    !lb_id_equal(&h.volume, &l->volume) || !lb_id_equal(&h.layer, &l->layer))
		return "layer header names other ids than the offer";
	if (h.epoch != o->epoch || h.seq != o->seq || h.volume_bytes != l->volume_bytes ||
	    h.kind != l->kind)
		return "layer header differs from the offer";
	if (!h.full && (lb_hash_is_zero(&o->base) || !lb_hash_equal(&h.base, &o->base)))
		return "layer header names another base than the offer";
	return NULL;
}

static bool has_leaf(enum rep_record_kind kind)
{
	return kind == REP_RECORD_LAYER_HEADER || kind == REP_RECORD_PACK ||
	       kind == REP_RECORD_DIGESTS || kind == REP_RECORD_INDEX;
}

static bool fits_window(const struct rep_receiver *r, struct rconn *k, uint64_t bytes)
{
	if (k->unstored_bytes + bytes <= r->cfg.max_unstored_bytes)
		return true;
	receiver_doom(k, LB_EPROTO, "peer sends more than its window");
	return false;
}

static void drop_record(struct rep_receiver *r, struct rconn *k, const struct rep_record_frame *f)
{
	struct rpending *p;

	if (k->pending == 0) {
		rconn_take(r, k, f->bytes);
		return;
	}
	if (!fits_window(r, k, f->bytes))
		return;
	p = pending_add(r, k, ROP_DROP, &f->group);
	if (!p)
		return;
	p->bytes = f->bytes;
	k->unstored_bytes += f->bytes;
}

static void append_record(struct rep_receiver *r, struct rconn *k, const struct rep_record_frame *f,
			  const struct rep_receiver_event *e)
{
	struct rep_store_op *op;
	struct rpending *p;

	if (!fits_window(r, k, f->bytes))
		return;
	p = pending_add(r, k, REP_STORE_APPEND, &f->group);
	if (!p)
		return;
	p->bytes = f->bytes;
	p->layer = f->layer;
	k->unstored_bytes += f->bytes;
	op = run(r, p);
	op->buf = lb_buf_ref(e->frame.payload);
	op->kind = f->kind;
	op->layer = f->layer;
	op->number = f->number;
	op->body = f->body;
	op->bytes = f->bytes;
	op->has_leaf = has_leaf(f->kind);
	if (op->has_leaf && e->frame.leaf)
		op->leaf = *e->frame.leaf;
	else if (op->has_leaf)
		lb_merkle_leaf(&op->leaf, f->body, f->bytes);
}

/* Part of the group's cut failed: no more of it, and what was kept is of no use. */
static void give_up(struct rep_receiver *r, struct rgroup *g, struct rconn *control,
		    const struct lb_err *err)
{
	alarm_push(r, "part_corrupt", err);
	refuse(r, control, &g->id, g->offer->seq, REP_REFUSE_CORRUPT, err->msg);
	for (uint32_t i = 0; i < g->offer->layers; i++)
		abandon(r, &g->id, &g->offer->layer[i].layer);
	free(g->offer);
	g->offer = NULL;
	g->open = false;
}

void rgroup_on_record(struct rep_receiver *r, struct rconn *k, const struct rep_record_frame *f,
		      const struct rep_receiver_event *e)
{
	struct rgroup *g = group_find(r, &f->group);
	const struct rep_offer_layer *l;
	const char *fault = NULL;

	if (!g || (!lb_id_equal(&g->session, &k->site->session) && !REP_BUG(old_session_kept))) {
		receiver_doom(k, LB_EPROTO, "RECORD of a group that was not offered");
		return;
	}
	r->stats.records++;
	r->stats.bytes += f->bytes;
	l = offer_layer(g->offer, &f->layer);
	if (!l) {
		drop_record(r, k, f); /* of a cut given up before */
		return;
	}
	if (!g->open) {
		receiver_doom(k, LB_ECLOSED, "offer was refused");
		return;
	}
	if (f->kind < REP_RECORD_LAYER_HEADER || f->kind > REP_RECORD_FOOTER)
		fault = "RECORD is no part of a layer";
	else if (f->kind == REP_RECORD_LAYER_HEADER)
		fault = header_fault(g->offer, l, f);
	if (fault) {
		struct lb_err err;

		r->stats.corrupt++;
		lb_err_set(&err, LB_ECORRUPT, 0, "%s", fault);
		give_up(r, g, rconn_find(r, k->site->control), &err);
		receiver_doom(k, LB_ECORRUPT, fault);
		return;
	}
	if (REP_BUG(credit_before_append))
		rconn_take(r, k, f->bytes);
	append_record(r, k, f, e);
}

static void append_failed(struct rep_receiver *r, struct rconn *k, const struct rpending *p,
			  const struct lb_err *err)
{
	struct rgroup *g = group_find(r, &p->group);
	enum rep_refuse_reason reason = reason_of(err->code);
	struct rconn *control = k && k->site ? rconn_find(r, k->site->control) : NULL;

	if (reason == REP_REFUSE_SUSPECT)
		note_suspect(r, err);
	if (g && g->open && offer_layer(g->offer, &p->layer)) {
		if (reason == REP_REFUSE_CORRUPT) {
			r->stats.corrupt++;
			give_up(r, g, control, err);
		} else {
			refuse(r, control, &g->id, g->offer->seq, reason, err->msg);
		}
	}
	if (k)
		receiver_doom(k, (enum lb_code)err->code, err->msg);
}

static void on_append_answer(struct rep_receiver *r, struct rconn *k, const struct rpending *p,
			     const struct rep_store_answer *a)
{
	if (a->duplicate)
		r->stats.duplicates++;
	if (k)
		k->unstored_bytes -= p->bytes;
	if (a->err.code != 0 && !REP_BUG(credit_failed_append))
		append_failed(r, k, p, &a->err);
	else if (k && !REP_BUG(credit_before_append))
		rconn_take(r, k, p->bytes);
}

/* ---- POINT ---- */

/* @m as the peer may send it: its own, of a role that may write. */
static bool point_allowed(struct rep_receiver *r, struct rconn *k, const struct rep_manifest *m)
{
	struct rep_group_role role = {0};

	if (!lb_id_equal(&m->deployment, &r->cfg.deployment) || !lb_id_equal(&m->site, &k->peer)) {
		receiver_doom(k, LB_EPROTO, "manifest is of another site");
		return false;
	}
	r->cfg.ops->role_of(r->cfg.ops_arg, &m->group, &role);
	if (role.epoch != 0 && !is_writer(&role, &k->peer)) {
		refuse(r, k, &m->group, m->seq, REP_REFUSE_DENIED,
		       "another site writes this group");
		return false;
	}
	if (m->epoch < role.epoch && !REP_BUG(skip_epoch_check)) {
		refuse(r, k, &m->group, m->seq, REP_REFUSE_EPOCH, "a higher epoch exists");
		return false;
	}
	if (r->suspect) {
		refuse(r, k, &m->group, m->seq, REP_REFUSE_SUSPECT, "a sync failed at this store");
		return false;
	}
	return true;
}

static void run_commit(struct rep_receiver *r, struct rconn *k, const struct rep_manifest *m,
		       const struct rep_point_frame *f)
{
	struct rgroup *g = group_find(r, &m->group);
	bool open = g && g->open && lb_id_equal(&g->session, &k->site->session);
	struct rep_offer *copy = open ? offer_copy(g->offer) : NULL;
	struct rep_store_op *op;
	struct rpending *p;
	struct lb_buf *b;

	if ((open && !copy) || lb_buf_copy_of(&b, f->manifest, f->bytes, &k->why)) {
		free(copy);
		receiver_doom(k, LB_ENOMEM, "no memory for a manifest");
		return;
	}
	p = pending_add(r, k, REP_STORE_COMMIT, &m->group);
	if (!p) {
		free(copy);
		lb_buf_unref(b);
		return;
	}
	p->epoch = m->epoch;
	p->seq = m->seq;
	p->capture_boot_ns = m->capture_boot_ns;
	p->boot = m->boot_id;
	p->writer = k->peer;
	op = run(r, p);
	op->offer = copy;
	op->buf = b;
	op->writer = k->peer;
}

void rgroup_on_point(struct rep_receiver *r, struct rconn *k, const struct rep_point_frame *f)
{
	struct rep_manifest *m = malloc(sizeof(*m));

	if (!m) {
		receiver_doom(k, LB_ENOMEM, "no memory for a manifest");
		return;
	}
	if (rep_manifest_decode(m, f->manifest, f->bytes, &k->why))
		k->doomed = true;
	else if (point_allowed(r, k, m))
		run_commit(r, k, m, f);
	free(m);
}

static void commit_failed(struct rep_receiver *r, struct rconn *k, const struct rpending *p,
			  const struct lb_err *err)
{
	struct rgroup *g = group_find(r, &p->group);
	enum rep_refuse_reason reason = reason_of(err->code);

	if (reason == REP_REFUSE_SUSPECT)
		note_suspect(r, err);
	if (g && g->open && g->offer->epoch == p->epoch && g->offer->seq == p->seq) {
		if (reason == REP_REFUSE_CORRUPT) {
			give_up(r, g, k, err);
			return;
		}
		g->open = false;
	}
	refuse(r, k, &p->group, p->seq, reason, err->msg);
}

static void tell_point(struct rep_receiver *r, const struct rpending *p,
		       const struct rep_store_answer *a)
{
	struct rep_receiver_action *act = receiver_push(r, REP_RECEIVER_POINT);

	act->site = p->writer;
	act->point = a->head;
	act->again = a->again;
	act->receive_boot_ns = a->receive_boot_ns;
	act->age_known = rep_receiver_age_bound(r, &p->writer, &p->boot, p->capture_boot_ns,
						a->receive_boot_ns, &act->age_ns);
}

static void on_commit_answer(struct rep_receiver *r, struct rconn *k, const struct rpending *p,
			     const struct rep_store_answer *a)
{
	struct rep_frame f = {.type = REP_FRAME_RECEIPT};
	struct rgroup *g = group_find(r, &p->group);

	if (a->err.code != 0) {
		commit_failed(r, k, p, &a->err);
		return;
	}
	if (g && g->offer && g->offer->epoch == p->epoch && g->offer->seq == p->seq) {
		free(g->offer); /* complete: no draft any more */
		g->offer = NULL;
		g->open = false;
	}
	r->stats.points += !a->again;
	tell_point(r, p, a);
	if (!k || r->suspect)
		return;
	f.receipt.bytes = a->receipt;
	f.receipt.len = REP_RECEIPT_BYTES;
	receiver_send(r, k, &f);
}

/* ---- KEY, answers, failover ---- */

void rgroup_on_key(struct rep_receiver *r, struct rconn *k, const struct rep_key_frame *key)
{
	struct rep_frame f = {.type = REP_FRAME_KEY_OK, .key_ok = key->key_id};
	struct rep_group_role role = {0};
	struct lb_err err = {0};

	r->cfg.ops->role_of(r->cfg.ops_arg, &key->group, &role);
	if (role.epoch != 0 && !is_writer(&role, &k->peer)) {
		receiver_doom(k, LB_EDENIED, "KEY of a group that another site writes");
		return;
	}
	if (r->cfg.ops->store_key(r->cfg.ops_arg, key, &err)) {
		receiver_doom(k, (enum lb_code)err.code, err.msg);
		return;
	}
	receiver_send(r, k, &f);
}

/* What was dropped behind the answered op has its turn now: one CREDIT for all of a connection,
 * there may be thousands. */
static void drop_in_turn(struct rep_receiver *r)
{
	struct rpending *p = TAILQ_FIRST(&r->pending);

	if (!p || p->type != ROP_DROP)
		return;
	while ((p = TAILQ_FIRST(&r->pending)) && p->type == ROP_DROP) {
		struct rconn *k = rconn_find(r, p->conn);

		TAILQ_REMOVE(&r->pending, p, link);
		if (k) {
			k->pending--;
			k->unstored_bytes -= p->bytes;
			k->taken_bytes += p->bytes;
		}
		free(p);
	}
	for (unsigned i = 0; i < r->cfg.max_connections; i++)
		if (r->conn[i].id != 0)
			rconn_take(r, &r->conn[i], 0);
}

void rgroup_on_answer(struct rep_receiver *r, const struct rep_store_answer *a)
{
	struct rpending *p = TAILQ_FIRST(&r->pending);
	struct rconn *k;

	LB_ASSERT(p && p->cookie == a->cookie && p->type == (int)a->type);
	TAILQ_REMOVE(&r->pending, p, link);
	k = rconn_find(r, p->conn);
	if (k)
		k->pending--;
	switch (a->type) {
	case REP_STORE_QUERY:
		if (k && p->offered)
			on_offer_answer(r, k, p, a);
		else if (k)
			on_status_answer(r, k, &p->group, a);
		break;
	case REP_STORE_APPEND:
		on_append_answer(r, k, p, a);
		break;
	case REP_STORE_COMMIT:
		on_commit_answer(r, k, p, a);
		break;
	case REP_STORE_ABANDON:
		break;
	}
	free(p);
	if (k)
		rconn_take(r, k, 0); /* what waited for the last of several */
	drop_in_turn(r);
}

void rgroup_on_raised(struct rep_receiver *r, const struct lb_id *group, uint64_t epoch)
{
	struct rep_frame f = {.type = REP_FRAME_FENCE};
	struct rgroup *g = group_find(r, group);

	f.fence.group = *group;
	f.fence.epoch = epoch;
	if (g && g->offer && g->offer->epoch < epoch)
		g->open = false;
	for (unsigned i = 0; i < r->cfg.max_connections; i++)
		if (r->conn[i].id != 0 && rconn_is_control(&r->conn[i]))
			receiver_send(r, &r->conn[i], &f);
}
