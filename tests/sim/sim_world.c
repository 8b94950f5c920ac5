/* Time and the network. Frames of one connection and direction stay in order; nothing else does. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rnd.h"
#include "sim.h"

/* ---- small things ---- */

void sim_violate(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->violation[0])
		return;
	va_start(ap, fmt);
	(void)vsnprintf(s->violation, sizeof(s->violation), fmt, ap);
	va_end(ap);
	sim_log(s, "VIOLATION %s", s->violation);
}

void sim_log(const struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->verbose)
		return;
	printf("%12.6f ", (double)s->now / 1e9);
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

uint64_t sim_below(struct sim *s, uint64_t n)
{
	return rnd_below(&s->rnd, n);
}

bool sim_chance(struct sim *s, unsigned pct)
{
	return rnd_below(&s->rnd, 100) < pct;
}

struct lb_id sim_id(struct sim *s)
{
	struct lb_id id;

	rnd_fill(&s->rnd, id.b, sizeof(id.b));
	return id;
}

/* ---- clocks ---- */

static uint64_t env_now(struct lb_env *env)
{
	struct sim_env *e = (struct sim_env *)env; /* its first member */
	int64_t since = (int64_t)(e->sim->now - e->boot_at);

	return (uint64_t)(since / 1000 * (1000000 + e->drift_ppm) / 1000) + SEC;
}

static uint64_t env_wall(struct lb_env *env)
{
	struct sim_env *e = (struct sim_env *)env;

	return (uint64_t)((int64_t)e->sim->now + INT64_C(1790000000000000000) + e->wall_off);
}

static void env_random(struct lb_env *env, void *p, size_t len)
{
	struct sim_env *e = (struct sim_env *)env;

	rnd_fill(&e->rnd, p, len);
}

void sim_env_init(struct sim_env *e, struct sim *s, uint64_t seed)
{
	*e = (struct sim_env){
		.env = {.now_ns = env_now, .wall_ns = env_wall, .random = env_random},
		.sim = s,
		.rnd = seed,
	};
	e->drift_ppm = (int64_t)sim_below(s, 401) - 200;
	sim_env_boot(e);
}

void sim_env_boot(struct sim_env *e)
{
	e->boot_at = e->sim->now;
	e->boot_id = sim_id(e->sim);
}

/* ---- events ---- */

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void sim_at(struct sim *s, uint64_t delay_ns, struct sim_event e)
{
	unsigned i = s->events;

	if (s->events == s->event_cap) {
		s->event_cap = s->event_cap ? s->event_cap * 2 : 256;
		s->heap = realloc(s->heap, s->event_cap * sizeof(*s->heap));
		LB_ASSERT(s->heap);
	}
	s->events++;
	e.at = s->now + delay_ns;
	e.order = ++s->order;
	while (i > 0 && earlier(&e, &s->heap[(i - 1) / 2])) {
		s->heap[i] = s->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	s->heap[i] = e;
}

bool sim_next(struct sim *s, struct sim_event *out)
{
	struct sim_event last;
	unsigned i = 0;

	if (s->events == 0)
		return false;
	*out = s->heap[0];
	last = s->heap[--s->events];
	for (;;) {
		unsigned child = 2 * i + 1;

		if (child >= s->events)
			break;
		if (child + 1 < s->events && earlier(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!earlier(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	if (s->events > 0)
		s->heap[i] = last;
	LB_ASSERT(out->at >= s->now);
	s->now = out->at;
	return true;
}

/* ---- the network ---- */

struct sim_conn *net_find(struct sim *s, uint64_t id)
{
	for (unsigned i = 0; id != 0 && i < SIM_MAX_CONNS; i++)
		if (s->conn[i].id == id)
			return &s->conn[i];
	return NULL;
}

/* Put on its way: it arrives after everything sent before it in that direction. */
static void travel(struct sim *s, struct sim_conn *c, unsigned dir, size_t bytes,
		   struct sim_event e)
{
	uint64_t at = s->now + s->latency_ns + bytes * s->ns_per_byte;

	if (s->jitter_ns > 0)
		at += sim_below(s, s->jitter_ns);
	if (at < c->at[dir])
		at = c->at[dir];
	c->at[dir] = at;
	e.conn = c->id;
	e.dir = dir;
	e.turn = ++c->sent[dir];
	sim_at(s, at - s->now, e);
}

uint64_t net_connect(struct sim *s, unsigned number, bool ghost)
{
	struct sim_conn *c = NULL;

	for (unsigned i = 0; i < SIM_MAX_CONNS; i++)
		if (s->conn[i].id == 0) {
			c = &s->conn[i];
			break;
		}
	if (!c) { /* many half-open ones: the oldest is dropped by the target's kernel */
		c = &s->conn[0];
		for (unsigned i = 1; i < SIM_MAX_CONNS; i++)
			if (s->conn[i].id < c->id)
				c = &s->conn[i];
		net_reset(s, c);
	}
	*c = (struct sim_conn){.id = ++s->next_conn, .number = number, .ghost = ghost};
	c->open[1] = true;
	travel(s, c, 0, 64, (struct sim_event){.type = EV_CONNECT});
	return c->id;
}

void net_send(struct sim *s, uint64_t id, unsigned dir, struct lb_buf *head, struct lb_buf *body)
{
	struct sim_conn *c = net_find(s, id);
	struct lb_buf *b = NULL;
	size_t len = head->len + (body ? body->len : 0);

	if (c && c->open[1 - dir]) {
		LB_ASSERT(lb_buf_create(&b, len, NULL) == 0);
		memcpy(b->p, head->p, head->len);
		if (body)
			memcpy(b->p + head->len, body->p, body->len);
		b->len = len;
		travel(s, c, dir, len, (struct sim_event){.type = EV_FRAME, .buf = b});
	}
	lb_buf_unref(head);
	lb_buf_unref(body);
}

static void maybe_free(struct sim_conn *c)
{
	if (!c->open[0] && !c->open[1])
		c->id = 0; /* frames still on their way find nobody */
}

void net_close(struct sim *s, uint64_t id, unsigned side)
{
	struct sim_conn *c = net_find(s, id);

	if (!c || !c->open[side])
		return;
	c->open[side] = false;
	if (c->open[1 - side] && !c->silent)
		travel(s, c, 1 - side, 0, (struct sim_event){.type = EV_CLOSED});
	maybe_free(c);
}

void net_process_gone(struct sim *s, unsigned side, bool told)
{
	for (unsigned i = 0; i < SIM_MAX_CONNS; i++) {
		struct sim_conn *c = &s->conn[i];

		if (c->id == 0 || !c->open[side] || (c->ghost && side == 1))
			continue;
		c->silent = c->silent || !told;
		net_close(s, c->id, side);
	}
}

static void tell_down(struct sim *s, struct sim_conn *c, unsigned side)
{
	if (c->open[side])
		sim_at(s, sim_below(s, 5 * MS),
		       (struct sim_event){.type = EV_CLOSED, .conn = c->id, .dir = side});
}

void net_reset(struct sim *s, struct sim_conn *c)
{
	tell_down(s, c, 0);
	tell_down(s, c, 1);
}

void net_half_open(struct sim *s, struct sim_conn *c, unsigned told_side)
{
	c->silent = true;
	tell_down(s, c, told_side);
}

static void side_down(struct sim *s, struct sim_conn *c, unsigned side)
{
	uint64_t id = c->id;
	unsigned number = c->number;
	bool ghost = c->ghost;

	c->open[side] = false;
	if (!c->silent && c->open[1 - side])
		travel(s, c, 1 - side, 0, (struct sim_event){.type = EV_CLOSED});
	maybe_free(c);
	if (side == 0) {
		struct rep_receiver_event e = {.type = REP_RECEIVER_DOWN, .conn = id};

		target_step(s, &e);
	} else if (!ghost && s->src.conn[number] == id) {
		struct rep_sender_event e = {.type = REP_SENDER_DOWN, .conn = number};

		s->src.conn[number] = 0;
		source_step(s, &e);
	}
}

/* The second session is up. It offers a point with the right number and the wrong predecessor. */
static void ghost_offer(struct sim *s, uint64_t id)
{
	struct rep_frame f = {.type = REP_FRAME_OFFER};
	const struct sim_truth *head = oracle_find(s, &s->oracle.head);
	struct lb_buf *b;

	f.offer.group = s->group;
	(void)snprintf(f.offer.group_name, sizeof(f.offer.group_name), "shop");
	f.offer.epoch = s->tgt.role.epoch ? s->tgt.role.epoch : 1;
	f.offer.seq = head ? head->seq + 1 : 1;
	f.offer.prev.b[0] = f.offer.base.b[0] = 1;
	f.offer.layers = 1;
	f.offer.layer[0] = (struct rep_offer_layer){
		.machine = s->machine,
		.volume = s->volume[0],
		.layer = sim_id(s),
		.kind = REP_VOLUME_DISK,
		.volume_bytes = (uint64_t)s->blocks[0] * REP_BLOCK_BYTES,
	};
	LB_ASSERT(rep_frame_encode(&b, &f, NULL) == 0);
	net_send(s, id, 0, b, NULL);
}

static void ghost_hears(struct sim *s, uint64_t id, enum rep_frame_type type)
{
	if (type == REP_FRAME_HELLO && s->oracle.n > 0)
		ghost_offer(s, id);
	else if (type == REP_FRAME_ADMIT)
		sim_violate(s, "a point with another predecessor was admitted (I4)");
}

static void replay_receipt(struct sim *s, uint64_t id)
{
	struct rep_frame f = {.type = REP_FRAME_RECEIPT};
	struct lb_buf *b;

	s->replay = false;
	f.receipt.bytes = s->old_receipt;
	f.receipt.len = REP_RECEIPT_BYTES;
	LB_ASSERT(rep_frame_encode(&b, &f, NULL) == 0);
	net_send(s, id, 1, b, NULL);
}

static void ghost_hello(struct sim *s, uint64_t id)
{
	struct rep_frame f = {.type = REP_FRAME_HELLO};
	struct lb_buf *b;

	f.hello = (struct rep_hello){.version_min = REP_PROTOCOL_VERSION,
				     .version_max = REP_PROTOCOL_VERSION,
				     .deployment = s->deployment,
				     .site = s->site[1],
				     .boot_id = sim_id(s),
				     .session = sim_id(s),
				     .connections = 1};
	LB_ASSERT(rep_frame_encode(&b, &f, NULL) == 0);
	net_send(s, id, 0, b, NULL);
	sim_at(s, SEC + sim_below(s, 5 * SEC),
	       (struct sim_event){.type = EV_GHOST_GONE, .conn = id});
}

static void on_connect(struct sim *s, struct sim_conn *c)
{
	struct sim_event back = {.type = EV_CONNECTED};
	struct rep_receiver_event e = {.type = REP_RECEIVER_UP, .conn = c->id, .peer = s->site[1]};

	back.refused = !s->tgt.up || !c->open[1];
	travel(s, c, 1, 64, back);
	if (back.refused)
		return;
	c->open[0] = true;
	target_step(s, &e);
}

static void on_connected(struct sim *s, struct sim_conn *c, bool refused)
{
	struct rep_sender_event e = {.type = REP_SENDER_UP, .conn = c->number, .peer = s->site[0]};

	if (!c->open[1])
		return;
	if (refused) {
		side_down(s, c, 1);
		return;
	}
	if (c->ghost)
		ghost_hello(s, c->id);
	else if (s->src.conn[c->number] == c->id)
		source_step(s, &e);
}

static void deliver(struct sim *s, struct sim_conn *c, unsigned dir, struct lb_buf *b)
{
	enum rep_frame_type type;
	uint32_t bytes;

	LB_ASSERT(rep_frame_header_decode(&type, &bytes, b->p, NULL) == 0);
	if (dir == 0) {
		struct rep_receiver_event e = {.type = REP_RECEIVER_FRAME, .conn = c->id};
		struct lb_buf *payload;

		if (type == REP_FRAME_POINT && s->replay && s->has_receipt)
			replay_receipt(s, c->id);

		LB_ASSERT(lb_buf_copy_of(&payload, b->p + REP_FRAME_HEADER_BYTES, bytes, NULL) ==
			  0);
		e.frame.type = type;
		e.frame.payload = payload;
		target_step(s, &e);
		lb_buf_unref(payload);
	} else if (c->ghost) {
		ghost_hears(s, c->id, type);
	} else if (s->src.conn[c->number] == c->id) {
		struct rep_sender_event e = {.type = REP_SENDER_FRAME, .conn = c->number};

		e.frame.type = type;
		e.frame.payload = b->p + REP_FRAME_HEADER_BYTES;
		e.frame.bytes = bytes;
		source_step(s, &e);
	}
}

/* Not now: the path is dead, or something sent before it is still on its way. */
static bool held_back(struct sim *s, const struct sim_conn *c, const struct sim_event *e)
{
	uint64_t until =
		s->partition_until > c->stalled_until ? s->partition_until : c->stalled_until;

	if (e->turn == 0)
		return false;
	if (s->now >= until && e->turn == c->done[e->dir] + 1)
		return false;
	sim_at(s, until > s->now ? until - s->now : 5 * MS, *e);
	return true;
}

void net_event(struct sim *s, struct sim_event *e)
{
	struct sim_conn *c = net_find(s, e->conn);

	if (!c || held_back(s, c, e)) {
		if (!c)
			lb_buf_unref(e->buf);
		return;
	}
	if (e->turn != 0)
		c->done[e->dir] = e->turn;
	switch ((int)e->type) {
	case EV_CONNECT:
		on_connect(s, c);
		break;
	case EV_CONNECTED:
		on_connected(s, c, e->refused);
		break;
	case EV_FRAME:
		if (c->open[e->dir])
			deliver(s, c, e->dir, e->buf);
		else if (!c->open[e->dir] && (e->dir == 1 || s->tgt.up))
			tell_down(s, c, 1 - e->dir); /* nobody there: the kernel says so */
		lb_buf_unref(e->buf);
		break;
	default: /* EV_CLOSED */
		if (c->open[e->dir])
			side_down(s, c, e->dir);
		break;
	}
}
