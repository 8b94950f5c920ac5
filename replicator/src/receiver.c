/*
 * receiver.c - connections and sessions of all peers, heartbeats, the bound of a cut's age. Frames
 * about points go to receiver_group.c.
 *
 *   connection: UP [on_up] -HELLO of conn 0 [open_session]-> control of its site's session,
 *                          every connection of the older session is closed
 *                          -HELLO of conn n [join_session]-> data connection of that session
 *   a session is over when its control connection is
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "receiver_int.h"

void rep_store_op_fini(struct rep_store_op *op)
{
	free(op->offer);
	lb_buf_unref(op->buf);
	op->offer = NULL;
	op->buf = NULL;
}

void rep_store_answer_fini(struct rep_store_answer *a)
{
	free(a->admit);
	a->admit = NULL;
}

struct rep_receiver_action *receiver_push(struct rep_receiver *r,
					  enum rep_receiver_action_type type)
{
	struct rep_receiver_action *a;

	LB_ASSERT(r->act_count < r->act_cap); /* the shell drains after every step */
	if (r->act_count == 0)
		r->act_first = 0; /* touch few pages */
	a = &r->act[(r->act_first + r->act_count++) % r->act_cap];
	memset(a, 0, sizeof(*a));
	a->type = type;
	return a;
}

void receiver_doom(struct rconn *k, enum lb_code code, const char *what)
{
	if (k->doomed)
		return;
	k->doomed = true;
	lb_err_set(&k->why, code, 0, "%s", what);
}

void receiver_send(struct rep_receiver *r, struct rconn *k, const struct rep_frame *f)
{
	struct rep_receiver_action *a;
	struct lb_buf *b;

	if (k->doomed)
		return;
	if (rep_frame_encode(&b, f, &k->why)) {
		k->doomed = true;
		return;
	}
	a = receiver_push(r, REP_RECEIVER_SEND);
	a->conn = k->id;
	a->buf = b;
}

struct rconn *rconn_find(struct rep_receiver *r, uint64_t id)
{
	for (unsigned i = 0; id != 0 && i < r->cfg.max_connections; i++)
		if (r->conn[i].id == id)
			return &r->conn[i];
	return NULL;
}

bool rconn_is_control(const struct rconn *k)
{
	return k->site && k->site->control == k->id;
}

void rconn_take(struct rep_receiver *r, struct rconn *k, uint64_t bytes)
{
	struct rep_frame f = {.type = REP_FRAME_CREDIT};

	k->taken_bytes += bytes;
	if (k->pending > 0 && k->taken_bytes - k->credited_bytes < RECEIVER_CREDIT_QUANTUM)
		return; /* more is on its way: one CREDIT for all */
	if (k->taken_bytes == k->credited_bytes)
		return;
	k->credited_bytes = k->taken_bytes;
	f.credit = k->taken_bytes;
	receiver_send(r, k, &f);
}

/* ---- the end of connections ---- */

static void forget_conn(struct rep_receiver *r, struct rconn *k)
{
	struct rsite *site = k->site;
	bool control = rconn_is_control(k);
	struct lb_err why = k->why;
	struct rep_receiver_action *a;

	r->stats.connections--;
	memset(k, 0, sizeof(*k));
	if (!control)
		return;
	site->control = 0;
	for (unsigned i = 0; i < r->cfg.max_connections; i++)
		if (r->conn[i].id != 0 && r->conn[i].site == site)
			receiver_doom(&r->conn[i], LB_ECLOSED, "session is over");
	a = receiver_push(r, REP_RECEIVER_PEER);
	a->site = site->id;
	a->err = why;
}

static void close_conn(struct rep_receiver *r, struct rconn *k)
{
	struct rep_receiver_action *a = receiver_push(r, REP_RECEIVER_CLOSE);

	a->conn = k->id;
	a->err = k->why;
	forget_conn(r, k);
}

/* Dooming the control connection dooms the others: until none is left. */
static void close_doomed(struct rep_receiver *r)
{
	for (unsigned i = 0; i < r->cfg.max_connections; i++) {
		if (r->conn[i].id == 0 || !r->conn[i].doomed)
			continue;
		close_conn(r, &r->conn[i]);
		i = UINT32_MAX; /* from the start again */
	}
}

/* ---- connections and sessions ---- */

static void on_up(struct rep_receiver *r, uint64_t id, const struct lb_id *peer)
{
	struct rep_receiver_action *a;
	struct rconn *k = NULL;

	for (unsigned i = 0; i < r->cfg.max_connections && !k; i++)
		if (r->conn[i].id == 0)
			k = &r->conn[i];
	if (k && r->cfg.ops->peer_allowed(r->cfg.ops_arg, peer)) {
		k->id = id;
		k->peer = *peer;
		k->deadline_ns = r->now_ns + r->cfg.hello_ns;
		k->ping_ns = NEVER;
		r->stats.connections++;
		return;
	}
	a = receiver_push(r, REP_RECEIVER_CLOSE);
	a->conn = id;
	if (k)
		lb_err_set(&a->err, LB_EDENIED, 0, "this site may not connect");
	else
		lb_err_set(&a->err, LB_EBUSY, 0, "%u connections are open already",
			   r->cfg.max_connections);
}

static struct rsite *site_get(struct rep_receiver *r, const struct lb_id *id)
{
	struct rsite *site;

	TAILQ_FOREACH(site, &r->sites, link)
	if (lb_id_equal(&site->id, id))
		return site;
	if (r->site_count >= RECEIVER_MAX_SITES)
		return NULL;
	site = calloc(1, sizeof(*site));
	if (!site)
		return NULL;
	site->id = *id;
	TAILQ_INSERT_TAIL(&r->sites, site, link);
	r->site_count++;
	return site;
}

static void open_session(struct rep_receiver *r, struct rconn *k, struct rsite *site,
			 const struct rep_hello *h)
{
	struct rep_receiver_action *a;

	for (unsigned i = 0; i < r->cfg.max_connections; i++)
		if (r->conn[i].id != 0 && r->conn[i].site == site && !REP_BUG(old_session_kept))
			receiver_doom(&r->conn[i], LB_ECLOSED, "the site opened a newer session");
	close_doomed(r);
	site->control = k->id;
	site->session = h->session;
	k->site = site;
	k->ping_ns = r->now_ns;
	a = receiver_push(r, REP_RECEIVER_PEER);
	a->site = site->id;
	a->up = true;
}

static const char *hello_fault(const struct rep_receiver *r, const struct rconn *k,
			       const struct rep_hello *h)
{
	if (h->version_min > REP_PROTOCOL_VERSION || h->version_max < REP_PROTOCOL_VERSION)
		return "no protocol version in common";
	if (!lb_id_equal(&h->deployment, &r->cfg.deployment))
		return "HELLO is of another deployment";
	if (!lb_id_equal(&h->site, &k->peer))
		return "HELLO is of another site than the certificate";
	if (h->connections == 0 || h->connection >= h->connections)
		return "HELLO counts connections wrongly";
	return NULL;
}

static void on_hello(struct rep_receiver *r, struct rconn *k, const struct rep_hello *h)
{
	const char *fault = hello_fault(r, k, h);
	struct rep_frame f = {.type = REP_FRAME_HELLO};
	struct rsite *site;

	if (fault) {
		receiver_doom(k, LB_EPROTO, fault);
		return;
	}
	site = site_get(r, &h->site);
	if (!site) {
		receiver_doom(k, LB_ENOMEM, "no room for another site");
		return;
	}
	if (h->connection != 0 &&
	    (site->control == 0 || !lb_id_equal(&site->session, &h->session))) {
		receiver_doom(k, LB_ECLOSED, "no such session");
		return;
	}
	k->number = h->connection;
	k->deadline_ns = r->now_ns + r->cfg.dead_ns;
	f.hello = *h;
	f.hello.version_min = f.hello.version_max = REP_PROTOCOL_VERSION;
	f.hello.site = r->cfg.site;
	f.hello.boot_id = r->cfg.boot_id;
	if (h->connection == 0)
		open_session(r, k, site, h);
	else
		k->site = site;
	receiver_send(r, k, &f);
}

/* ---- heartbeats and the age of cuts ---- */

static void send_ping(struct rep_receiver *r, struct rconn *k)
{
	struct rep_frame f = {.type = REP_FRAME_PING};

	f.ping.sent_ns = r->now_ns;
	f.ping.peer_boot_id = r->cfg.boot_id;
	k->ping_ns = r->now_ns + r->cfg.ping_ns;
	k->asked[k->ask_next++ % RECEIVER_PROBES] = r->now_ns;
	receiver_send(r, k, &f);
}

static void on_ping(struct rep_receiver *r, struct rconn *k, const struct rep_ping *p)
{
	struct rep_frame f = {.type = REP_FRAME_PONG};

	f.ping.sent_ns = p->sent_ns;
	f.ping.peer_now_ns = r->now_ns;
	f.ping.peer_boot_id = r->cfg.boot_id;
	receiver_send(r, k, &f);
}

/* Only an answer to a PING of ours is a probe: the peer does not get to choose t0. */
static bool was_asked(struct rconn *k, uint64_t sent_ns)
{
	for (unsigned i = 0; i < RECEIVER_PROBES; i++)
		if (sent_ns != 0 && k->asked[i] == sent_ns) {
			k->asked[i] = 0;
			return true;
		}
	return false;
}

static void on_pong(struct rep_receiver *r, struct rconn *k, const struct rep_ping *p)
{
	struct rsite *site = k->site;
	struct rprobe *b;

	if (!was_asked(k, p->sent_ns))
		return;
	if (!lb_id_equal(&site->boot, &p->peer_boot_id)) {
		site->boot = p->peer_boot_id;
		site->probes = site->probe_next = 0;
	}
	b = &site->probe[site->probe_next++ % RECEIVER_PROBES];
	b->sent_ns = REP_BUG(age_from_reply) ? r->now_ns : p->sent_ns;
	b->peer_ns = p->peer_now_ns;
	if (site->probes < RECEIVER_PROBES)
		site->probes++;
}

/* What the peer's clock reads at most at @at_ns. */
static uint64_t peer_clock_bound(const struct rprobe *b, uint64_t at_ns)
{
	uint64_t since = at_ns > b->sent_ns ? at_ns - b->sent_ns : 0;

	since += since / 2000; /* 500 ppm: its clock may be fast */
	return b->peer_ns > UINT64_MAX - since ? UINT64_MAX : b->peer_ns + since;
}

bool rep_receiver_age_bound(const struct rep_receiver *r, const struct lb_id *site,
			    const struct lb_id *boot_id, uint64_t capture_boot_ns, uint64_t now_ns,
			    uint64_t *age_ns)
{
	uint64_t best = UINT64_MAX;
	const struct rsite *p;

	TAILQ_FOREACH(p, &r->sites, link)
	if (lb_id_equal(&p->id, site))
		break;
	if (!p || p->probes == 0 || !lb_id_equal(&p->boot, boot_id))
		return false;
	for (unsigned i = 0; i < p->probes; i++) {
		uint64_t bound = peer_clock_bound(&p->probe[i], now_ns);

		if (bound < best)
			best = bound;
	}
	*age_ns = best > capture_boot_ns ? best - capture_boot_ns : 0;
	*age_ns += *age_ns / 2000; /* or slow */
	return true;
}

/* ---- frames ---- */

static void on_control(struct rep_receiver *r, struct rconn *k, const struct rep_frame *f)
{
	if (!rconn_is_control(k) && !REP_BUG(old_session_kept)) {
		receiver_doom(k, LB_EPROTO, "control frame on a data connection");
		return;
	}
	switch (f->type) {
	case REP_FRAME_STATUS_REQ:
		rgroup_on_status_req(r, k, &f->status_req);
		break;
	case REP_FRAME_OFFER:
		rgroup_on_offer(r, k, &f->offer);
		break;
	case REP_FRAME_POINT:
		rgroup_on_point(r, k, &f->point);
		break;
	case REP_FRAME_KEY:
		rgroup_on_key(r, k, &f->key);
		break;
	case REP_FRAME_FENCE:
		break; /* who is active here hears of it through its own sender */
	case REP_FRAME_HELLO:
	case REP_FRAME_ERROR:
	case REP_FRAME_PING:
	case REP_FRAME_PONG:
	case REP_FRAME_STATUS:
	case REP_FRAME_ADMIT:
	case REP_FRAME_REFUSE:
	case REP_FRAME_RECORD:
	case REP_FRAME_CREDIT:
	case REP_FRAME_RECEIPT:
	case REP_FRAME_KEY_OK:
		receiver_doom(k, LB_EPROTO, "frame that only a target sends");
		break;
	}
}

static void on_frame(struct rep_receiver *r, struct rconn *k, const struct rep_receiver_event *e)
{
	struct rep_frame f;

	if (rep_frame_decode(&f, e->frame.type, e->frame.payload->p, e->frame.payload->len,
			     &k->why)) {
		k->doomed = true;
		return;
	}
	if (f.type == REP_FRAME_ERROR) {
		receiver_doom(k, LB_ECLOSED, f.error.text);
		return;
	}
	if (k->site)
		k->deadline_ns = r->now_ns + r->cfg.dead_ns;
	if (!k->site && f.type == REP_FRAME_HELLO)
		on_hello(r, k, &f.hello);
	else if (!k->site)
		receiver_doom(k, LB_EPROTO, "first frame is not HELLO");
	else if (f.type == REP_FRAME_PING)
		on_ping(r, k, &f.ping);
	else if (f.type == REP_FRAME_PONG)
		on_pong(r, k, &f.ping);
	else if (f.type == REP_FRAME_RECORD)
		rgroup_on_record(r, k, &f.record, e);
	else
		on_control(r, k, &f);
	if (f.type == REP_FRAME_KEY)
		lb_key_wipe(&f.key.key);
}

static void on_time(struct rep_receiver *r)
{
	for (unsigned i = 0; i < r->cfg.max_connections; i++) {
		struct rconn *k = &r->conn[i];

		if (k->id == 0)
			continue;
		if (r->now_ns >= k->deadline_ns)
			receiver_doom(k, LB_ETIMEDOUT, "peer is silent");
		else if (r->now_ns >= k->ping_ns)
			send_ping(r, k);
	}
}

uint64_t rep_receiver_deadline(const struct rep_receiver *r)
{
	uint64_t due = NEVER;

	for (unsigned i = 0; i < r->cfg.max_connections; i++) {
		const struct rconn *k = &r->conn[i];

		if (k->id != 0 && k->deadline_ns < due)
			due = k->deadline_ns;
		if (k->id != 0 && k->ping_ns < due)
			due = k->ping_ns;
	}
	return due;
}

void rep_receiver_step(struct rep_receiver *r, const struct rep_receiver_event *e, uint64_t now_ns)
{
	struct rconn *k = rconn_find(r, e->conn);

	LB_ASSERT(now_ns >= r->now_ns);
	r->now_ns = now_ns;
	switch (e->type) {
	case REP_RECEIVER_TICK:
		break;
	case REP_RECEIVER_UP:
		LB_ASSERT(!k && e->conn != 0);
		on_up(r, e->conn, &e->peer);
		break;
	case REP_RECEIVER_DOWN:
		if (k) {
			if (e->err)
				k->why = *e->err;
			forget_conn(r, k);
		}
		break;
	case REP_RECEIVER_FRAME:
		if (k)
			on_frame(r, k, e);
		break;
	case REP_RECEIVER_STORE:
		rgroup_on_answer(r, e->answer);
		break;
	case REP_RECEIVER_RAISED:
		rgroup_on_raised(r, &e->raised.group, e->raised.epoch);
		break;
	}
	on_time(r);
	close_doomed(r);
}

bool rep_receiver_next(struct rep_receiver *r, struct rep_receiver_action *out)
{
	if (r->act_count == 0)
		return false;
	*out = r->act[r->act_first];
	r->act_first = (r->act_first + 1) % r->act_cap;
	r->act_count--;
	return true;
}

void rep_receiver_stats(const struct rep_receiver *r, struct rep_target_stats *out)
{
	*out = r->stats;
	out->suspect = r->suspect;
}

int rep_receiver_create(struct rep_receiver **out, const struct rep_receiver_cfg *cfg,
			struct lb_err *err)
{
	struct rep_receiver *r;

	if (!cfg->ops || cfg->max_connections == 0 || cfg->max_connections > 4096)
		return lb_err_set(err, LB_EINVAL, 0, "%u connections", cfg->max_connections);
	r = calloc(1, sizeof(*r));
	if (!r)
		return lb_err_set(err, LB_ENOMEM, 0, "a receiver");
	r->cfg = *cfg;
	/* the most a step can ask for: all old drafts abandoned, all connections closed and told */
	r->act_cap = REP_OFFER_MAX_LAYERS + 64 + 6 * cfg->max_connections;
	r->act = calloc(r->act_cap, sizeof(*r->act));
	r->conn = calloc(cfg->max_connections, sizeof(*r->conn));
	TAILQ_INIT(&r->sites);
	TAILQ_INIT(&r->groups);
	TAILQ_INIT(&r->pending);
	if (!r->act || !r->conn) {
		rep_receiver_destroy(r);
		return lb_err_set(err, LB_ENOMEM, 0, "a receiver");
	}
	*out = r;
	return 0;
}

void rep_receiver_destroy(struct rep_receiver *r)
{
	struct rep_receiver_action a;
	struct rpending *p;
	struct rsite *site;

	if (!r)
		return;
	while (rep_receiver_next(r, &a)) {
		lb_buf_unref(a.buf);
		if (a.type == REP_RECEIVER_RUN)
			rep_store_op_fini(&a.op);
	}
	while (!TAILQ_EMPTY(&r->groups))
		rgroup_free(r, TAILQ_FIRST(&r->groups));
	while ((p = TAILQ_FIRST(&r->pending))) {
		TAILQ_REMOVE(&r->pending, p, link);
		free(p);
	}
	while ((site = TAILQ_FIRST(&r->sites))) {
		TAILQ_REMOVE(&r->sites, site, link);
		free(site);
	}
	free(r->conn);
	free(r->act);
	free(r);
}
