/*
 * sender_group.c - one group's way from the peer's head to an acknowledged point.
 *
 *   SYNC_NO -session up, back-off over [sgroup_advance]-> ASKED -STATUS [sgroup_on_status]-> YES
 *     head higher epoch .............. fenced, for good
 *     head = the running cut's point .. POINT again, for its receipt
 *     head = what redo logs lead to ... ACKED
 *     head = the running cut's prev ... OFFER again, same layers
 *     head = what digests describe .... READY
 *     otherwise ....................... RESYNC, READY with no base
 *
 *   cut:  NONE -CUT-> WAIT -offer-> OFFERED -ADMIT-> OPEN -all credited, sealed-> POINTED
 * -RECEIPT-> NONE a lost session or a refusal leads back to WAIT; the parts wait in limbo
 * (sender_part.c)
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sender_int.h"

struct sgroup *sgroup_find(struct rep_sender *s, const struct lb_id *id)
{
	struct sgroup *g;

	TAILQ_FOREACH(g, &s->groups, link)
	if (lb_id_equal(&g->id.group, id))
		return g;
	return NULL;
}

static struct rep_sender_action *push(struct rep_sender *s, enum rep_sender_action_type type,
				      const struct sgroup *g)
{
	struct rep_sender_action *a = sender_push(s, type);

	a->group = g->id.group;
	return a;
}

/* ---- the end of cuts and groups ---- */

static void cut_over(struct rep_sender *s, struct sgroup *g)
{
	spart_forget(s, g);
	lb_buf_unref(g->manifest);
	g->manifest = NULL;
	free(g->offer);
	free(g->layer);
	g->offer = NULL;
	g->layer = NULL;
	g->layers = 0;
	g->cut = SCUT_NONE;
	g->scan_told = g->base_refused = false;
	g->ready = false;
	g->reply_ns = NEVER;
}

static void abandon(struct rep_sender *s, struct sgroup *g, bool alarm, enum lb_code code,
		    const char *why)
{
	struct rep_sender_action *a;

	cut_over(s, g);
	a = push(s, REP_SENDER_ABANDONED, g);
	a->place = g->at;
	a->alarm = alarm;
	lb_err_set(&a->err, code, 0, "cut %" PRIu64 " of group %s: %s", g->at.seq, g->id.name, why);
}

static void fence(struct rep_sender *s, struct sgroup *g, uint64_t epoch)
{
	struct rep_sender_action *a;

	if (REP_BUG(fence_ignored))
		return;
	cut_over(s, g);
	g->over = true;
	a = push(s, REP_SENDER_FENCED, g);
	a->epoch = epoch;
	lb_err_set(&a->err, LB_EFENCED, 0,
		   "group %s has epoch %" PRIu64 " at the peer, we %" PRIu64, g->id.name, epoch,
		   g->id.epoch);
}

static void back_off(struct rep_sender *s, struct sgroup *g)
{
	g->backoff_ns = g->backoff_ns ? g->backoff_ns * 2 : s->cfg.refused_min_ns;
	if (g->backoff_ns > s->cfg.refused_max_ns)
		g->backoff_ns = s->cfg.refused_max_ns;
	g->again_ns = s->now_ns + g->backoff_ns;
	g->sync = SSYNC_NO;
	g->reply_ns = NEVER;
	if (g->cut != SCUT_NONE)
		g->cut = SCUT_WAIT;
}

int sgroup_add(struct rep_sender *s, const struct rep_sender_group *id, struct lb_err *err)
{
	struct rep_sender_action *ring;
	struct sgroup *g;
	struct skey *k;
	unsigned cap = s->act_cap + 8;

	if (sgroup_find(s, &id->group))
		return lb_err_set(err, LB_EEXIST, 0, "group %s is replicated already", id->name);
	if (s->group_count >= REP_SENDER_MAX_GROUPS)
		return lb_err_set(err, LB_EBUSY, 0, "more than %u groups", REP_SENDER_MAX_GROUPS);
	g = calloc(1, sizeof(*g));
	ring = g ? calloc(cap, sizeof(*ring)) : NULL;
	if (!ring) {
		free(g);
		return lb_err_set(err, LB_ENOMEM, 0, "group %s", id->name);
	}
	for (unsigned i = 0; i < s->act_count; i++) /* a callback may add a group half way */
		ring[i] = s->act[(s->act_first + i) % s->act_cap];
	free(s->act);
	s->act = ring;
	s->act_cap = cap;
	s->act_first = 0;
	g->id = *id;
	g->reply_ns = NEVER;
	TAILQ_FOREACH(k, &s->keys, link)
	g->keys += lb_id_equal(&k->key.group, &id->group);
	TAILQ_INSERT_TAIL(&s->groups, g, link);
	s->group_count++;
	sgroup_advance(s, g);
	return 0;
}

void sgroup_free(struct rep_sender *s, struct sgroup *g)
{
	cut_over(s, g);
	TAILQ_REMOVE(&s->groups, g, link);
	s->group_count--;
	free(g);
}

void sgroup_gone(struct rep_sender *s, const struct lb_id *id)
{
	struct sgroup *g = sgroup_find(s, id);

	if (g)
		sgroup_free(s, g);
}

/* ---- what we ask ---- */

static void ask_status(struct rep_sender *s, struct sgroup *g)
{
	struct rep_frame f = {.type = REP_FRAME_STATUS_REQ, .status_req = g->id.group};

	g->again_ns = 0;
	g->sync = SSYNC_ASKED;
	g->reply_ns = s->now_ns + s->cfg.reply_ns;
	sender_send(s, 0, &f);
}

static void send_offer(struct rep_sender *s, struct sgroup *g)
{
	struct rep_frame f = {.type = REP_FRAME_OFFER};

	f.offer.group = g->id.group;
	memcpy(f.offer.group_name, g->id.name, sizeof(f.offer.group_name));
	f.offer.epoch = g->at.epoch;
	f.offer.seq = g->at.seq;
	f.offer.base = g->at.base;
	f.offer.prev = g->at.prev;
	f.offer.layers = g->layers;
	memcpy(f.offer.layer, g->offer, g->layers * sizeof(*g->offer));
	g->cut = SCUT_OFFERED;
	g->reply_ns = s->now_ns + s->cfg.reply_ns;
	sender_send(s, 0, &f);
}

static void send_point(struct rep_sender *s, struct sgroup *g)
{
	struct rep_frame f = {.type = REP_FRAME_POINT};

	f.point.age_ns = s->now_ns > g->capture_boot_ns ? s->now_ns - g->capture_boot_ns : 0;
	f.point.manifest = g->manifest->p;
	f.point.bytes = (uint32_t)g->manifest->len;
	g->cut = SCUT_POINTED;
	sender_send(s, 0, &f);
}

void sgroup_advance(struct rep_sender *s, struct sgroup *g)
{
	if (g->over || !sender_is_up(s) || (g->again_ns && s->now_ns < g->again_ns))
		return;
	if (g->sync == SSYNC_NO) {
		ask_status(s, g);
		return;
	}
	if (g->sync == SSYNC_ASKED)
		return;
	if (g->cut == SCUT_OPEN && g->limbo > 0)
		g->cut = SCUT_WAIT; /* a connection was lost: ask again what is held */
	if (g->cut == SCUT_WAIT && g->keys == 0)
		send_offer(s, g);
	else if (g->cut == SCUT_OPEN && g->manifest &&
		 (g->parts == 0 || REP_BUG(point_before_credit)))
		send_point(s, g);
}

void sgroup_session_up(struct rep_sender *s, struct sgroup *g)
{
	g->sync = SSYNC_NO;
	sgroup_advance(s, g);
}

void sgroup_session_down(struct sgroup *g)
{
	g->sync = SSYNC_NO;
	g->reply_ns = NEVER;
	if (g->cut != SCUT_NONE)
		g->cut = SCUT_WAIT;
}

void sgroup_tick(struct rep_sender *s, struct sgroup *g)
{
	if (s->now_ns >= g->reply_ns)
		sender_break(s, LB_ETIMEDOUT, "peer does not answer");
	sgroup_advance(s, g);
}

uint64_t sgroup_deadline(const struct rep_sender *s, const struct sgroup *g)
{
	uint64_t due = g->reply_ns;

	if (g->again_ns && !g->over && sender_is_up(s) && g->again_ns < due)
		due = g->again_ns;
	return due;
}

/* ---- what the shell says ---- */

static bool same_place(const struct rep_sender_place *a, const struct rep_sender_place *b)
{
	return a->epoch == b->epoch && a->seq == b->seq && lb_hash_equal(&a->prev, &b->prev) &&
	       lb_hash_equal(&a->base, &b->base);
}

int sgroup_cut(struct rep_sender *s, const struct rep_sender_event *e, struct lb_err *err)
{
	struct sgroup *g = sgroup_find(s, &e->group);

	if (!g || g->over || g->cut != SCUT_NONE || !g->ready ||
	    !same_place(&g->place, &e->cut.place))
		return lb_err_set(err, LB_EAGAIN, 0, "no cut can be taken now");
	if (e->cut.layers == 0 || e->cut.layers > REP_OFFER_MAX_LAYERS)
		return lb_err_set(err, LB_EINVAL, 0, "cut of %" PRIu32 " layers", e->cut.layers);
	g->offer = calloc(e->cut.layers, sizeof(*g->offer));
	g->layer = calloc(e->cut.layers, sizeof(*g->layer));
	if (!g->offer || !g->layer) {
		free(g->offer);
		free(g->layer);
		g->offer = NULL;
		g->layer = NULL;
		return lb_err_set(err, LB_ENOMEM, 0, "cut of group %s", g->id.name);
	}
	memcpy(g->offer, e->cut.layer, e->cut.layers * sizeof(*g->offer));
	g->layers = e->cut.layers;
	g->at = g->place;
	g->ready = false;
	g->cut = SCUT_WAIT;
	sgroup_advance(s, g);
	return 0;
}

int sgroup_sealed(struct rep_sender *s, const struct rep_sender_event *e, struct lb_err *err)
{
	struct sgroup *g = sgroup_find(s, &e->group);

	if (!g || g->cut == SCUT_NONE || g->manifest)
		return lb_err_set(err, LB_ENOTFOUND, 0, "seal of a cut that is over");
	g->manifest = lb_buf_ref(e->sealed.manifest);
	rep_manifest_hash(&g->hash, g->manifest->p, g->manifest->len);
	g->capture_boot_ns = e->sealed.capture_boot_ns;
	sgroup_advance(s, g);
	return 0;
}

void sgroup_dropped(struct rep_sender *s, const struct lb_id *id)
{
	struct sgroup *g = sgroup_find(s, id);

	if (!g || g->cut == SCUT_NONE)
		return;
	LB_ASSERT(!g->manifest);
	cut_over(s, g);
	back_off(s, g); /* a source that changes all the time must not spin */
}

/* ---- what the peer says ---- */

static void tell_ready(struct rep_sender *s, struct sgroup *g, const struct lb_hash *head,
		       uint64_t seq)
{
	bool known = lb_hash_equal(head, &g->id.described);

	g->place = (struct rep_sender_place){.epoch = g->id.epoch, .seq = seq, .prev = *head};
	if (known)
		g->place.base = *head;
	g->ready = true;
	push(s, REP_SENDER_READY, g)->place = g->place;
}

static void tell_acked(struct rep_sender *s, struct sgroup *g, const struct lb_hash *manifest,
		       const struct rep_sender_place *at, bool receipt)
{
	struct rep_sender_action *a;

	if (g->cut != SCUT_NONE)
		cut_over(s, g);
	g->id.described = *manifest;
	g->backoff_ns = 0;
	g->resync_told = false;
	a = push(s, REP_SENDER_ACKED, g);
	a->place = *at;
	a->manifest = *manifest;
	a->receipt = receipt ? &s->receipt : NULL;
	a->receipt_bytes = receipt ? s->receipt_bytes : NULL;
}

/* No cut runs: what would the next one be? */
static void status_idle(struct rep_sender *s, struct sgroup *g, const struct rep_status *st,
			const struct lb_hash *head)
{
	uint64_t seq = st->has_head ? st->head_seq + 1 : 1;

	if (st->has_head && !lb_hash_equal(head, &g->id.described) && s->cfg.leads_to &&
	    s->cfg.leads_to(s->cfg.arg, &g->id.group, head)) {
		struct rep_sender_place at = {.epoch = st->head_epoch, .seq = st->head_seq};

		tell_acked(s, g, head, &at, false);
	}
	if (!lb_hash_equal(head, &g->id.described) && !g->resync_told) {
		struct rep_sender_action *a = push(s, REP_SENDER_RESYNC, g);

		lb_err_set(&a->err, LB_EBASE, 0,
			   "group %s: peer's newest point is %s what the digests describe",
			   g->id.name, st->has_head ? "not" : "gone, not");
		g->resync_told = true;
	}
	tell_ready(s, g, head, seq);
}

static bool is_cut_prev(const struct sgroup *g, const struct lb_hash *head)
{
	return !g->base_refused && lb_hash_equal(head, &g->at.prev);
}

void sgroup_on_status(struct rep_sender *s, const struct rep_status *st)
{
	struct sgroup *g = sgroup_find(s, &st->group);
	struct lb_hash head = {{0}};

	if (!g || g->over || g->sync != SSYNC_ASKED)
		return;
	g->sync = SSYNC_YES;
	g->reply_ns = NEVER;
	if (st->has_head)
		head = st->head;
	if (st->epoch > g->id.epoch && !REP_BUG(fence_ignored)) {
		fence(s, g, st->epoch);
		return;
	}
	if (g->manifest && lb_hash_equal(&head, &g->hash)) {
		send_point(s, g); /* it is there: only the receipt was lost */
		return;
	}
	if (!st->writable) {
		struct rep_sender_action *a = push(s, REP_SENDER_REFUSED, g);

		lb_err_set(&a->err, LB_EDENIED, 0, "group %s cannot be written at the peer now",
			   g->id.name);
		back_off(s, g);
		return;
	}
	if (g->cut != SCUT_NONE && !is_cut_prev(g, &head))
		abandon(s, g, false, LB_EBASE, "the peer's newest point is another one now");
	if (g->cut == SCUT_NONE)
		status_idle(s, g, st, &head);
	else
		sgroup_advance(s, g);
}

static bool admit_fits(const struct sgroup *g, const struct rep_admit *a)
{
	if (a->layers != g->layers || a->extras > REP_ADMIT_MAX_EXTRA)
		return false;
	for (uint32_t i = 0; i < a->layers; i++)
		if (!lb_id_equal(&a->layer[i].layer, &g->offer[i].layer))
			return false;
	for (uint32_t i = 0; i < a->extras; i++)
		if (a->extra[i].layer >= a->layers)
			return false;
	return true;
}

void sgroup_on_admit(struct rep_sender *s, const struct rep_admit *a)
{
	struct sgroup *g = sgroup_find(s, &a->group);

	if (!g || g->cut != SCUT_OFFERED || a->epoch != g->at.epoch || a->seq != g->at.seq)
		return; /* of a cut that is over */
	if (!admit_fits(g, a)) {
		sender_break(s, LB_EPROTO, "ADMIT does not fit its OFFER");
		return;
	}
	g->reply_ns = NEVER;
	if (!g->scan_told) {
		g->admitter = s->peer_boot;
		spart_held_before(g, a);
	}
	if (!spart_reconcile(s, g, a)) {
		abandon(s, g, false, LB_ECHANGED, "the peer lost parts it had taken");
		g->sync = SSYNC_NO;
		sgroup_advance(s, g);
		return;
	}
	g->cut = SCUT_OPEN;
	if (!g->scan_told) {
		s->admit = *a;
		push(s, REP_SENDER_SCAN, g)->admit = &s->admit;
	}
	g->scan_told = true;
	sgroup_advance(s, g);
}

static enum lb_code refuse_code(enum rep_refuse_reason r)
{
	switch (r) {
	case REP_REFUSE_BASE:
		return LB_EBASE;
	case REP_REFUSE_EPOCH:
		return LB_EFENCED;
	case REP_REFUSE_SPACE:
		return LB_ENOSPC;
	case REP_REFUSE_CORRUPT:
		return LB_ECORRUPT;
	case REP_REFUSE_SUSPECT:
		return LB_ESUSPECT;
	case REP_REFUSE_BUSY:
		return LB_EBUSY;
	case REP_REFUSE_DENIED:
		return LB_EDENIED;
	}
	return LB_EPROTO;
}

static void told_refused(struct rep_sender *s, struct sgroup *g, const struct rep_refuse *r,
			 enum rep_sender_action_type type)
{
	struct rep_sender_action *a = push(s, type, g);

	a->place = g->at;
	lb_err_set(&a->err, refuse_code(r->reason), 0,
		   "peer refused point %" PRIu64 " of group %s: %s", r->seq, g->id.name, r->text);
}

void sgroup_on_refuse(struct rep_sender *s, const struct rep_refuse *r)
{
	struct sgroup *g = sgroup_find(s, &r->group);

	if (!g || g->over || g->cut == SCUT_NONE || g->cut == SCUT_WAIT || r->seq != g->at.seq)
		return; /* of a cut that is over, or refused already */
	if (r->reason == REP_REFUSE_EPOCH && r->epoch > g->id.epoch && !REP_BUG(fence_ignored)) {
		fence(s, g, r->epoch);
		return;
	}
	if (r->reason == REP_REFUSE_DENIED) {
		cut_over(s, g);
		g->over = true;
		told_refused(s, g, r, REP_SENDER_STOPPED);
		return;
	}
	if (r->reason == REP_REFUSE_CORRUPT) {
		abandon(s, g, true, LB_ECORRUPT, r->text);
		back_off(s, g);
		return;
	}
	if (r->reason == REP_REFUSE_BASE) {
		g->base_refused = true;
		g->cut = SCUT_WAIT;
		g->sync = SSYNC_NO;
		g->reply_ns = NEVER;
		sgroup_advance(s, g);
		return;
	}
	told_refused(s, g, r, REP_SENDER_REFUSED);
	back_off(s, g);
}

static bool receipt_fits(const struct rep_sender *s, const struct sgroup *g,
			 const struct rep_receipt *r)
{
	if (REP_BUG(receipt_unmatched))
		return true;
	return lb_id_equal(&r->deployment, &s->cfg.deployment) &&
	       lb_id_equal(&r->site, &s->cfg.peer_site) && r->epoch == g->at.epoch &&
	       r->seq == g->at.seq && lb_hash_equal(&r->manifest, &g->hash);
}

void sgroup_on_receipt(struct rep_sender *s, const uint8_t *p, uint32_t len)
{
	struct rep_receipt r;
	struct sgroup *g;

	if (len != REP_RECEIPT_BYTES || rep_receipt_verify(p, len, &s->cfg.peer_key, NULL) ||
	    rep_receipt_decode(&r, p, len, NULL)) {
		sender_break(s, LB_EPROTO, "receipt is not the peer's");
		return;
	}
	g = sgroup_find(s, &r.group);
	if (!g || g->cut != SCUT_POINTED)
		return; /* asked for twice, or of a cut that is over */
	if (!receipt_fits(s, g, &r)) {
		sender_break(s, LB_EPROTO, "receipt is for another point");
		return;
	}
	s->receipt = r;
	memcpy(s->receipt_bytes, p, sizeof(s->receipt_bytes));
	{
		struct lb_hash hash = g->hash;
		struct rep_sender_place at = g->at;

		tell_acked(s, g, &hash, &at, true);
		tell_ready(s, g, &hash, at.seq + 1);
	}
}

void sgroup_on_fence(struct rep_sender *s, const struct rep_fence *f)
{
	struct sgroup *g = sgroup_find(s, &f->group);

	if (g && !g->over && f->epoch > g->id.epoch)
		fence(s, g, f->epoch);
}
