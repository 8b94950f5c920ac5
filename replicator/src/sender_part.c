/*
 * sender_part.c - the window: parts given by the shell, sent, credited, and sent again when a
 * connection was lost with them.
 */
#include <stdlib.h>
#include <string.h>

#include "sender_int.h"

static void spart_free(struct spart *p)
{
	lb_buf_unref(p->head);
	lb_buf_unref(p->body);
	free(p);
}

/* The part leaves the window: credited, held by the peer, or its cut is over. */
static void spart_settle(struct rep_sender *s, struct spart *p)
{
	if (!p->group)
		return;
	s->stats.unacked_bytes -= p->bytes;
	p->group->parts--;
	p->group = NULL;
	lb_buf_unref(p->head);
	lb_buf_unref(p->body);
	p->head = p->body = NULL;
}

static void spart_remove(struct rep_sender *s, struct spart_list *list, struct spart *p)
{
	TAILQ_REMOVE(list, p, link);
	spart_settle(s, p);
	spart_free(p);
	s->parts--;
}

static bool has_room(const struct rep_sender *s, uint64_t bytes)
{
	if (s->parts >= REP_SENDER_MAX_PARTS)
		return false;
	return s->stats.unacked_bytes == 0 || s->stats.unacked_bytes + bytes <= s->cfg.window_bytes;
}

uint64_t rep_sender_room(struct rep_sender *s)
{
	uint64_t used = s->stats.unacked_bytes;

	if (has_room(s, 1))
		return used < s->cfg.window_bytes ? s->cfg.window_bytes - used : 1;
	s->want_room = true;
	return 0;
}

/* Half of the window free again is worth a wake-up; one part is not. */
static void room(struct rep_sender *s)
{
	if (!s->want_room || s->parts >= REP_SENDER_MAX_PARTS / 2 ||
	    s->stats.unacked_bytes > s->cfg.window_bytes / 2)
		return;
	s->want_room = false;
	sender_push(s, REP_SENDER_ROOM);
}

static bool layer_position(const struct sgroup *g, const struct lb_id *layer, unsigned *out)
{
	for (unsigned i = 0; i < g->layers; i++)
		if (lb_id_equal(&g->offer[i].layer, layer)) {
			*out = i;
			return true;
		}
	return false;
}

int spart_give(struct rep_sender *s, const struct rep_sender_event *e, struct lb_err *err)
{
	struct sgroup *g = sgroup_find(s, &e->part.group);
	struct spart *p;
	unsigned layer;

	if (!g || g->cut == SCUT_NONE || !g->scan_told || g->manifest ||
	    !layer_position(g, &e->part.layer, &layer))
		return lb_err_set(err, LB_ENOTFOUND, 0, "part of a cut that is over");
	if (!has_room(s, e->part.bytes)) {
		s->want_room = true;
		return lb_err_set(err, LB_EAGAIN, 0, "send window of %llu bytes is full",
				  (unsigned long long)s->cfg.window_bytes);
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return lb_err_set(err, LB_ENOMEM, 0, "a part to send");
	p->group = g;
	p->layer = layer;
	p->kind = e->part.kind;
	p->number = e->part.number;
	p->bytes = e->part.bytes;
	p->head = lb_buf_ref(e->part.head);
	p->body = e->part.body ? lb_buf_ref(e->part.body) : NULL;
	TAILQ_INSERT_TAIL(&s->queue, p, link);
	s->parts++;
	g->parts++;
	s->stats.unacked_bytes += p->bytes;
	return 0;
}

/* The connection with the least on its way: a slow path gets less. */
static bool pick_conn(const struct rep_sender *s, unsigned *out)
{
	uint64_t best = UINT64_MAX;

	for (unsigned c = 0; c < s->cfg.connections; c++) {
		const struct sconn *k = &s->conn[c];

		if (k->state != SCONN_UP || k->sent_bytes - k->credited_bytes >= best)
			continue;
		best = k->sent_bytes - k->credited_bytes;
		*out = c;
	}
	return best != UINT64_MAX;
}

bool spart_next(struct rep_sender *s, struct rep_sender_action *out)
{
	struct spart *p;
	unsigned c = 0;

	if (!sender_is_up(s))
		return false;
	TAILQ_FOREACH(p, &s->queue, link)
	if (p->group->cut == SCUT_OPEN)
		break;
	if (!p || !pick_conn(s, &c))
		return false;
	TAILQ_REMOVE(&s->queue, p, link);
	s->conn[c].sent_bytes += p->bytes;
	p->end = s->conn[c].sent_bytes;
	s->stats.parts_sent++;
	s->stats.bytes_sent += p->bytes;
	if (p->sent)
		s->stats.parts_resent++;
	p->sent = true;
	TAILQ_INSERT_TAIL(&s->conn[c].flight, p, link);
	*out = (struct rep_sender_action){
		.type = REP_SENDER_SEND,
		.conn = c,
		.head = lb_buf_ref(p->head),
		.body = p->body ? lb_buf_ref(p->body) : NULL,
	};
	return true;
}

static void note_credited(struct slayer *l, const struct spart *p)
{
	if (p->kind == REP_RECORD_PACK)
		l->packs_credited++;
	else if (p->kind == REP_RECORD_LAYER_HEADER)
		l->header_credited = true;
	else
		l->others_credited++;
}

static void to_limbo(struct rep_sender *s, struct spart_list *from, struct spart *p)
{
	TAILQ_REMOVE(from, p, link);
	p->group->limbo++;
	TAILQ_INSERT_TAIL(&s->limbo, p, link);
}

bool spart_credit(struct rep_sender *s, unsigned conn, uint64_t total)
{
	struct sconn *k = &s->conn[conn];
	struct spart *p;

	if (total > k->sent_bytes || total < k->credited_bytes)
		return false;
	while ((p = TAILQ_FIRST(&k->flight)) && p->end <= total) {
		struct sgroup *g = p->group;

		if (g)
			note_credited(&g->layer[p->layer], p);
		spart_remove(s, &k->flight, p);
		if (g)
			sgroup_advance(s, g);
	}
	k->credited_bytes = total;
	room(s);
	return true;
}

void spart_conn_lost(struct rep_sender *s, unsigned conn)
{
	struct sconn *k = &s->conn[conn];
	struct spart *p;

	while ((p = TAILQ_FIRST(&k->flight))) {
		if (!p->group || REP_BUG(forget_unacked_part))
			spart_remove(s, &k->flight, p);
		else
			to_limbo(s, &k->flight, p);
	}
	k->sent_bytes = k->credited_bytes = 0;
}

static void forget_in(struct rep_sender *s, struct spart_list *list, const struct sgroup *g,
		      bool keep)
{
	struct spart *p, *next;

	for (p = TAILQ_FIRST(list); p; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->group != g)
			continue;
		if (keep)
			spart_settle(s, p); /* its credit is still to come */
		else
			spart_remove(s, list, p);
	}
}

void spart_forget(struct rep_sender *s, struct sgroup *g)
{
	forget_in(s, &s->queue, g, false);
	forget_in(s, &s->limbo, g, false);
	for (unsigned c = 0; c < s->cfg.connections; c++)
		forget_in(s, &s->conn[c].flight, g, true);
	LB_ASSERT(g->parts == 0);
	g->limbo = 0;
	room(s);
}

static bool is_held(const struct rep_admit *a, const struct spart *p)
{
	if (p->kind == REP_RECORD_LAYER_HEADER)
		return a->layer[p->layer].header;
	if (p->kind != REP_RECORD_PACK)
		return false; /* ADMIT does not tell: sent again, a duplicate does no harm */
	if (p->number < a->layer[p->layer].first_missing)
		return true;
	for (uint32_t i = 0; i < a->extras; i++)
		if (a->extra[i].layer == p->layer && a->extra[i].number == p->number)
			return true;
	return false;
}

/* Everything credited must be among what the peer says it holds: the held packs that are not in
 * limbo are exactly the credited ones, unless its power failed in between. */
static bool all_credited_held(const struct rep_sender *s, const struct sgroup *g,
			      const struct rep_admit *a)
{
	bool moved = !lb_id_equal(&g->admitter, &s->peer_boot);

	for (unsigned i = 0; i < g->layers; i++) {
		const struct slayer *l = &g->layer[i];
		uint64_t held = a->layer[i].first_missing;
		const struct spart *p;

		if ((l->header_credited && !a->layer[i].header) || (moved && l->others_credited))
			return false;
		if (a->extras == REP_ADMIT_MAX_EXTRA)
			continue; /* cut short: the layer check at POINT decides */
		for (uint32_t x = 0; x < a->extras; x++)
			held += a->extra[x].layer == i;
		TAILQ_FOREACH(p, &s->limbo, link)
		if (p->group == g && p->layer == i && p->kind == REP_RECORD_PACK)
			held -= is_held(a, p);
		if (held < l->packs_credited)
			return false;
	}
	return true;
}

void spart_held_before(struct sgroup *g, const struct rep_admit *a)
{
	for (unsigned i = 0; i < g->layers; i++) {
		g->layer[i].header_credited = a->layer[i].header;
		g->layer[i].packs_credited = a->layer[i].first_missing;
	}
	for (uint32_t x = 0; x < a->extras; x++)
		g->layer[a->extra[x].layer].packs_credited++;
}

bool spart_reconcile(struct rep_sender *s, struct sgroup *g, const struct rep_admit *a)
{
	struct spart *p, *prev;

	if (!all_credited_held(s, g, a) && !REP_BUG(resend_nothing_lost))
		return false;
	for (p = TAILQ_LAST(&s->limbo, spart_list); p; p = prev) {
		prev = TAILQ_PREV(p, spart_list, link);
		if (p->group != g)
			continue;
		g->limbo--;
		if (is_held(a, p)) {
			note_credited(&g->layer[p->layer], p);
			s->stats.parts_skipped++;
			spart_remove(s, &s->limbo, p);
			continue;
		}
		if (p->kind == REP_RECORD_PACK && a->extras == REP_ADMIT_MAX_EXTRA)
			s->stats.parts_resent_held++; /* at worst */
		TAILQ_REMOVE(&s->limbo, p, link);
		TAILQ_INSERT_HEAD(&s->queue, p, link); /* before what was never sent */
	}
	LB_ASSERT(g->limbo == 0);
	room(s);
	return true;
}
