/*
 * sender.c - the session with one peer site: connections, hellos, heartbeats; frames go to the
 * groups (sender_group.c) and to the window (sender_part.c).
 *
 *   conn 0:  IDLE -retry [dial]-> CONNECTING -UP-> HELLO -peer's HELLO [session_up]-> UP
 *            lost in any state [session_end]: every connection is closed, a new session id is drawn
 *   conn n:  as conn 0, only while conn 0 is UP; lost: its parts go to limbo, the session goes on
 */
#include <stdlib.h>
#include <string.h>

#include "sender_int.h"

#define SENDER_MAX_KEYS   256u
#define SENDER_SPARE_ACTS 64u

struct rep_sender_action *sender_push(struct rep_sender *s, enum rep_sender_action_type type)
{
	struct rep_sender_action *a;

	LB_ASSERT(s->act_count < s->act_cap); /* the shell drains after every step */
	if (s->act_count == 0)
		s->act_first = 0; /* touch few pages */
	a = &s->act[(s->act_first + s->act_count++) % s->act_cap];
	*a = (struct rep_sender_action){.type = type};
	return a;
}

bool sender_is_up(const struct rep_sender *s)
{
	return s->conn[0].state == SCONN_UP && !s->broken;
}

void sender_break(struct rep_sender *s, enum lb_code code, const char *what)
{
	if (s->broken)
		return;
	s->broken = true;
	lb_err_set(&s->broken_why, code, 0, "%s", what);
}

void sender_send(struct rep_sender *s, unsigned conn, const struct rep_frame *f)
{
	struct rep_sender_action *a;
	struct lb_buf *b;

	if (s->broken)
		return;
	if (rep_frame_encode(&b, f, &s->broken_why)) {
		s->broken = true;
		return;
	}
	a = sender_push(s, REP_SENDER_SEND);
	a->conn = conn;
	a->head = b;
}

/* ---- connections ---- */

static void retry_later(struct rep_sender *s, struct sconn *k)
{
	uint64_t half;

	k->backoff_ns = k->backoff_ns ? k->backoff_ns * 2 : s->cfg.reconnect_min_ns;
	if (k->backoff_ns > s->cfg.reconnect_max_ns)
		k->backoff_ns = s->cfg.reconnect_max_ns;
	half = k->backoff_ns / 2;
	k->retry_ns = s->now_ns + half + lb_env_random_u64(s->cfg.env) % (half + 1);
	k->state = SCONN_IDLE;
	k->deadline_ns = k->ping_ns = NEVER;
}

static void close_conn(struct rep_sender *s, unsigned c, const struct lb_err *why)
{
	struct rep_sender_action *a;

	if (s->conn[c].state == SCONN_IDLE)
		return;
	a = sender_push(s, REP_SENDER_CLOSE);
	a->conn = c;
	if (why)
		a->err = *why;
}

static void conn_lost(struct rep_sender *s, unsigned c)
{
	spart_conn_lost(s, c);
	retry_later(s, &s->conn[c]);
}

/* Conn 0 is lost, or the peer cannot be trusted: the shell has closed @down, or nothing (-1). */
static void session_end(struct rep_sender *s, int down, const struct lb_err *why)
{
	bool was_up = s->conn[0].state == SCONN_UP;
	struct sgroup *g;

	for (unsigned c = 0; c < s->cfg.connections; c++) {
		if ((int)c != down)
			close_conn(s, c, why);
		spart_conn_lost(s, c);
		if (c == 0) {
			retry_later(s, &s->conn[0]);
			continue;
		}
		s->conn[c].state = SCONN_IDLE;
		s->conn[c].retry_ns = s->conn[c].backoff_ns = 0;
		s->conn[c].deadline_ns = s->conn[c].ping_ns = NEVER;
	}
	TAILQ_FOREACH(g, &s->groups, link)
	sgroup_session_down(g);
	if (was_up) {
		struct rep_sender_action *a = sender_push(s, REP_SENDER_LINK_DOWN);

		if (why)
			a->err = *why;
	}
	s->broken = false;
	s->stats.up = false;
}

/* One connection misbehaves or is silent. */
static void fail_conn(struct rep_sender *s, unsigned c, enum lb_code code, const char *what)
{
	struct lb_err why;
	struct sgroup *g;

	if (c == 0) {
		sender_break(s, code, what);
		return;
	}
	lb_err_set(&why, code, 0, "connection %u: %s", c, what);
	close_conn(s, c, &why);
	conn_lost(s, c);
	TAILQ_FOREACH(g, &s->groups, link)
	sgroup_advance(s, g);
}

static void send_hello(struct rep_sender *s, unsigned c)
{
	struct rep_frame f = {.type = REP_FRAME_HELLO};

	f.hello = (struct rep_hello){
		.version_min = REP_PROTOCOL_VERSION,
		.version_max = REP_PROTOCOL_VERSION,
		.deployment = s->cfg.deployment,
		.site = s->cfg.site,
		.boot_id = s->cfg.boot_id,
		.session = s->session,
		.connection = (uint16_t)c,
		.connections = (uint16_t)s->cfg.connections,
	};
	sender_send(s, c, &f);
}

static void on_up(struct rep_sender *s, unsigned c, const struct lb_id *peer)
{
	struct sconn *k = &s->conn[c];

	if (k->state != SCONN_CONNECTING)
		return;
	k->state = SCONN_HELLO;
	k->deadline_ns = s->now_ns + s->cfg.hello_ns;
	if (!lb_id_equal(peer, &s->cfg.peer_site)) {
		fail_conn(s, c, LB_EAUTH, "certificate is of another site");
		return;
	}
	send_hello(s, c);
}

static void on_down(struct rep_sender *s, unsigned c, const struct lb_err *err)
{
	struct sgroup *g;

	if (s->conn[c].state == SCONN_IDLE)
		return;
	if (c == 0) {
		session_end(s, 0, err);
		return;
	}
	conn_lost(s, c);
	TAILQ_FOREACH(g, &s->groups, link)
	sgroup_advance(s, g);
}

static void send_key(struct rep_sender *s, const struct skey *k)
{
	struct rep_frame f = {.type = REP_FRAME_KEY, .key = k->key};

	sender_send(s, 0, &f);
	lb_key_wipe(&f.key.key);
}

static void session_up(struct rep_sender *s)
{
	struct sgroup *g;
	struct skey *k;

	s->stats.sessions++;
	s->stats.up = true;
	sender_push(s, REP_SENDER_LINK_UP);
	TAILQ_FOREACH(k, &s->keys, link)
	send_key(s, k);
	TAILQ_FOREACH(g, &s->groups, link)
	sgroup_session_up(s, g);
	for (unsigned c = 1; c < s->cfg.connections; c++)
		s->conn[c].retry_ns = s->now_ns;
}

static const char *hello_fault(const struct rep_sender *s, unsigned c, const struct rep_hello *h)
{
	if (h->version_min > REP_PROTOCOL_VERSION || h->version_max < REP_PROTOCOL_VERSION)
		return "peer speaks no protocol version of ours";
	if (!lb_id_equal(&h->deployment, &s->cfg.deployment))
		return "HELLO is of another deployment";
	if (!lb_id_equal(&h->site, &s->cfg.peer_site))
		return "HELLO is of another site than the certificate";
	if (!lb_id_equal(&h->session, &s->session) || h->connection != c)
		return "HELLO answers another connection";
	return NULL;
}

static void on_hello(struct rep_sender *s, unsigned c, const struct rep_hello *h)
{
	const char *fault = hello_fault(s, c, h);
	struct sconn *k = &s->conn[c];

	if (k->state != SCONN_HELLO)
		fault = "second HELLO";
	if (fault) {
		fail_conn(s, c, LB_EPROTO, fault);
		return;
	}
	k->state = SCONN_UP;
	k->deadline_ns = s->now_ns + s->cfg.dead_ns;
	k->ping_ns = s->now_ns;
	if (c == 0) {
		s->peer_boot = h->boot_id;
		session_up(s);
	}
}

/* ---- frames ---- */

static void on_key_ok(struct rep_sender *s, const struct lb_id *id)
{
	struct skey *k, *next;

	for (k = TAILQ_FIRST(&s->keys); k; k = next) {
		struct sgroup *g = sgroup_find(s, &k->key.group);

		next = TAILQ_NEXT(k, link);
		if (!lb_id_equal(&k->key.key_id, id))
			continue;
		TAILQ_REMOVE(&s->keys, k, link);
		s->key_count--;
		lb_key_wipe(&k->key.key);
		free(k);
		if (g && g->keys > 0 && --g->keys == 0)
			sgroup_advance(s, g);
	}
}

static void on_ping(struct rep_sender *s, unsigned c, const struct rep_ping *p)
{
	struct rep_frame f = {.type = REP_FRAME_PONG};

	f.ping.sent_ns = p->sent_ns;
	f.ping.peer_now_ns = s->now_ns;
	f.ping.peer_boot_id = s->cfg.boot_id;
	sender_send(s, c, &f);
}

static void on_pong(struct rep_sender *s, unsigned c, const struct rep_ping *p)
{
	if (p->sent_ns > s->now_ns)
		return;
	s->stats.rtt_ns = s->now_ns - p->sent_ns;
	s->conn[c].backoff_ns = 0; /* it works */
}

/* Frames of control: on conn 0 only. */
static void on_control(struct rep_sender *s, unsigned c, const struct rep_frame *f)
{
	if (c != 0) {
		fail_conn(s, c, LB_EPROTO, "control frame on a data connection");
		return;
	}
	switch (f->type) {
	case REP_FRAME_STATUS:
		sgroup_on_status(s, &f->status);
		break;
	case REP_FRAME_ADMIT:
		sgroup_on_admit(s, &f->admit);
		break;
	case REP_FRAME_REFUSE:
		sgroup_on_refuse(s, &f->refuse);
		break;
	case REP_FRAME_RECEIPT:
		sgroup_on_receipt(s, f->receipt.bytes, f->receipt.len);
		break;
	case REP_FRAME_FENCE:
		sgroup_on_fence(s, &f->fence);
		break;
	case REP_FRAME_KEY_OK:
		on_key_ok(s, &f->key_ok);
		break;
	case REP_FRAME_HELLO:
	case REP_FRAME_ERROR:
	case REP_FRAME_PING:
	case REP_FRAME_PONG:
	case REP_FRAME_STATUS_REQ:
	case REP_FRAME_OFFER:
	case REP_FRAME_RECORD:
	case REP_FRAME_CREDIT:
	case REP_FRAME_POINT:
	case REP_FRAME_KEY:
		sender_break(s, LB_EPROTO, "frame that only a source sends");
		break;
	}
}

static void on_frame(struct rep_sender *s, unsigned c, const struct rep_sender_event *e)
{
	struct sconn *k = &s->conn[c];
	struct rep_frame f;

	if (k->state != SCONN_HELLO && k->state != SCONN_UP)
		return;
	if (rep_frame_decode(&f, e->frame.type, e->frame.payload, e->frame.bytes, NULL)) {
		fail_conn(s, c, LB_EPROTO, "frame does not decode");
		return;
	}
	if (f.type == REP_FRAME_ERROR) {
		fail_conn(s, c, LB_ECLOSED, f.error.text);
		return;
	}
	if (k->state == SCONN_UP)
		k->deadline_ns = s->now_ns + s->cfg.dead_ns;
	if (f.type == REP_FRAME_HELLO)
		on_hello(s, c, &f.hello);
	else if (k->state != SCONN_UP)
		fail_conn(s, c, LB_EPROTO, "first frame is not HELLO");
	else if (f.type == REP_FRAME_PING)
		on_ping(s, c, &f.ping);
	else if (f.type == REP_FRAME_PONG)
		on_pong(s, c, &f.ping);
	else if (f.type != REP_FRAME_CREDIT)
		on_control(s, c, &f);
	else if (!spart_credit(s, c, f.credit))
		fail_conn(s, c, LB_EPROTO, "credit for bytes that were not sent");
}

/* ---- time ---- */

static void dial(struct rep_sender *s, unsigned c)
{
	if (c == 0)
		lb_id_random(&s->session, s->cfg.env);
	s->conn[c].state = SCONN_CONNECTING;
	s->conn[c].retry_ns = NEVER;
	sender_push(s, REP_SENDER_CONNECT)->conn = c;
}

static void tick_conn(struct rep_sender *s, unsigned c)
{
	struct sconn *k = &s->conn[c];

	if (k->state == SCONN_IDLE && s->now_ns >= k->retry_ns && (c == 0 || sender_is_up(s)))
		dial(s, c);
	if (s->now_ns >= k->deadline_ns) {
		fail_conn(s, c, LB_ETIMEDOUT, "peer is silent");
		return;
	}
	if (k->state == SCONN_UP && s->now_ns >= k->ping_ns) {
		struct rep_frame f = {.type = REP_FRAME_PING};

		f.ping.sent_ns = s->now_ns;
		f.ping.peer_boot_id = s->cfg.boot_id;
		k->ping_ns = s->now_ns + s->cfg.ping_ns;
		sender_send(s, c, &f);
	}
}

static void on_time(struct rep_sender *s)
{
	struct sgroup *g;

	for (unsigned c = 0; c < s->cfg.connections; c++)
		tick_conn(s, c);
	TAILQ_FOREACH(g, &s->groups, link)
	sgroup_tick(s, g);
}

uint64_t rep_sender_deadline(const struct rep_sender *s)
{
	const struct sgroup *g;
	uint64_t due = NEVER;

	for (unsigned c = 0; c < s->cfg.connections; c++) {
		const struct sconn *k = &s->conn[c];

		if (k->state == SCONN_IDLE && (c == 0 || sender_is_up(s)) && k->retry_ns < due)
			due = k->retry_ns;
		if (k->deadline_ns < due)
			due = k->deadline_ns;
		if (k->state == SCONN_UP && k->ping_ns < due)
			due = k->ping_ns;
	}
	TAILQ_FOREACH(g, &s->groups, link)
	if (sgroup_deadline(s, g) < due)
		due = sgroup_deadline(s, g);
	return due;
}

/* ---- the shell's side ---- */

static int on_key(struct rep_sender *s, const struct rep_key_frame *key, struct lb_err *err)
{
	struct sgroup *g = sgroup_find(s, &key->group);
	struct skey *k;

	if (s->key_count >= SENDER_MAX_KEYS)
		return lb_err_set(err, LB_EBUSY, 0, "more than %u keys wait", SENDER_MAX_KEYS);
	k = calloc(1, sizeof(*k));
	if (!k)
		return lb_err_set(err, LB_ENOMEM, 0, "a key to hand over");
	k->key = *key;
	TAILQ_INSERT_TAIL(&s->keys, k, link);
	s->key_count++;
	if (g)
		g->keys++;
	if (sender_is_up(s))
		send_key(s, k);
	return 0;
}

static int dispatch(struct rep_sender *s, const struct rep_sender_event *e, struct lb_err *err)
{
	switch (e->type) {
	case REP_SENDER_TICK:
		break;
	case REP_SENDER_UP:
		on_up(s, e->conn, &e->peer);
		break;
	case REP_SENDER_DOWN:
		on_down(s, e->conn, e->err);
		break;
	case REP_SENDER_FRAME:
		on_frame(s, e->conn, e);
		break;
	case REP_SENDER_GROUP_ADD:
		return sgroup_add(s, e->add, err);
	case REP_SENDER_GROUP_GONE:
		sgroup_gone(s, &e->group);
		break;
	case REP_SENDER_CUT:
		return sgroup_cut(s, e, err);
	case REP_SENDER_PART:
		return spart_give(s, e, err);
	case REP_SENDER_CUT_SEALED:
		return sgroup_sealed(s, e, err);
	case REP_SENDER_CUT_DROPPED:
		sgroup_dropped(s, &e->group);
		break;
	case REP_SENDER_KEY:
		return on_key(s, e->key, err);
	}
	return 0;
}

int rep_sender_step(struct rep_sender *s, const struct rep_sender_event *e, uint64_t now_ns,
		    struct lb_err *err)
{
	int rc;

	LB_ASSERT(now_ns >= s->now_ns && e->conn < s->cfg.connections);
	s->now_ns = now_ns;
	rc = dispatch(s, e, err);
	if (!s->broken)
		on_time(s);
	if (s->broken)
		session_end(s, -1, &s->broken_why);
	return rc;
}

bool rep_sender_next(struct rep_sender *s, struct rep_sender_action *out)
{
	if (s->act_count == 0)
		return spart_next(s, out);
	*out = s->act[s->act_first];
	s->act_first = (s->act_first + 1) % s->act_cap;
	s->act_count--;
	return true;
}

void rep_sender_stats(const struct rep_sender *s, struct rep_sender_stats *out)
{
	*out = s->stats;
}

int rep_sender_create(struct rep_sender **out, const struct rep_sender_cfg *cfg, struct lb_err *err)
{
	struct rep_sender *s;

	if (cfg->connections == 0 || cfg->connections > REP_SENDER_MAX_CONNECTIONS)
		return lb_err_set(err, LB_EINVAL, 0, "%u connections, 1 to %u are possible",
				  cfg->connections, REP_SENDER_MAX_CONNECTIONS);
	s = calloc(1, sizeof(*s));
	if (!s)
		return lb_err_set(err, LB_ENOMEM, 0, "a sender");
	s->cfg = *cfg;
	s->act_cap = SENDER_SPARE_ACTS + 4 * REP_SENDER_MAX_CONNECTIONS + SENDER_MAX_KEYS;
	s->act = calloc(s->act_cap, sizeof(*s->act));
	if (!s->act) {
		free(s);
		return lb_err_set(err, LB_ENOMEM, 0, "a sender");
	}
	TAILQ_INIT(&s->groups);
	TAILQ_INIT(&s->keys);
	TAILQ_INIT(&s->queue);
	TAILQ_INIT(&s->limbo);
	for (unsigned c = 0; c < REP_SENDER_MAX_CONNECTIONS; c++) {
		TAILQ_INIT(&s->conn[c].flight);
		s->conn[c].deadline_ns = s->conn[c].ping_ns = NEVER;
	}
	*out = s;
	return 0;
}

void rep_sender_destroy(struct rep_sender *s)
{
	struct rep_sender_action a;
	struct skey *k;

	if (!s)
		return;
	while (s->act_count > 0 && rep_sender_next(s, &a)) {
		lb_buf_unref(a.head);
		lb_buf_unref(a.body);
	}
	for (unsigned c = 0; c < s->cfg.connections; c++)
		spart_conn_lost(s, c);
	while (!TAILQ_EMPTY(&s->groups))
		sgroup_free(s, TAILQ_FIRST(&s->groups));
	while ((k = TAILQ_FIRST(&s->keys))) {
		TAILQ_REMOVE(&s->keys, k, link);
		lb_key_wipe(&k->key.key);
		free(k);
	}
	free(s->act);
	free(s);
}
