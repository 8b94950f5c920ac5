#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "delta_int.h"
#include "source_int.h"

#define PARTS_MAX_BYTES (1u << 20) /* between the workers and the core, one part more at most */
#define POOL_THREADS    8u         /* a job each; most of them wait, for the link or a disk */

uint64_t source_now(struct rep_source *s)
{
	return s->cfg.env->now_ns(s->cfg.env);
}

void source_event(struct rep_source *s, struct rep_source_event *e)
{
	if (s->cfg.on_event != NULL)
		s->cfg.on_event(s->cfg.arg, e);
}

/* ---- parts from the workers ---- */

static void part_free(struct source_part *p)
{
	lb_buf_unref(p->head);
	lb_buf_unref(p->body);
	free(p);
}

/* What a post holds instead of the source, which may be gone when it runs. */
struct source_token {
	struct rep_source *s; /* loop's thread; NULL: destroyed */
	uint32_t refs;        /* atomic */
};

void source_token_unref(void *arg)
{
	struct source_token *t = arg;

	if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(t);
}

struct source_token *source_token_ref(struct rep_source *s)
{
	(void)__atomic_add_fetch(&s->token->refs, 1, __ATOMIC_RELAXED);
	return s->token;
}

struct rep_source *source_of(struct source_token *t)
{
	return t->s;
}

static struct source_part *part_take(struct rep_source *s)
{
	struct source_part *p;

	(void)pthread_mutex_lock(&s->lock);
	p = TAILQ_FIRST(&s->parts);
	if (p != NULL)
		TAILQ_REMOVE(&s->parts, p, link);
	else
		s->poked = false;
	(void)pthread_mutex_unlock(&s->lock);
	return p;
}

static void part_back(struct rep_source *s, struct source_part *p)
{
	(void)pthread_mutex_lock(&s->lock);
	TAILQ_INSERT_HEAD(&s->parts, p, link);
	(void)pthread_mutex_unlock(&s->lock);
}

/* @p left the queue for good; @g NULL: its group is gone too. */
static void part_done(struct rep_source *s, struct source_part *p, struct source_group *g)
{
	(void)pthread_mutex_lock(&s->lock);
	s->part_bytes -= p->body->len;
	if (g != NULL)
		g->parts_queued--;
	(void)pthread_cond_broadcast(&s->room);
	(void)pthread_mutex_unlock(&s->lock);
	part_free(p);
}

void source_parts_drop(struct source_group *g)
{
	struct rep_source *s = g->s;
	struct source_part *p, *next;
	TAILQ_HEAD(, source_part) mine = TAILQ_HEAD_INITIALIZER(mine);

	(void)pthread_mutex_lock(&s->lock);
	for (p = TAILQ_FIRST(&s->parts); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->g != g)
			continue;
		TAILQ_REMOVE(&s->parts, p, link);
		TAILQ_INSERT_TAIL(&mine, p, link);
	}
	(void)pthread_mutex_unlock(&s->lock);
	while ((p = TAILQ_FIRST(&mine)) != NULL) {
		TAILQ_REMOVE(&mine, p, link);
		part_done(s, p, g);
	}
}

/* Give the core what it has room for. */
static void parts_push(struct rep_source *s)
{
	struct source_part *p;

	s->no_room = false;
	while ((p = part_take(s)) != NULL) {
		struct rep_sender_event e = {.type = REP_SENDER_PART};
		uint32_t bytes = (uint32_t)p->body->len;
		struct source_group *g;
		int rc;

		e.part.group = p->group;
		e.part.layer = p->layer;
		e.part.kind = p->kind;
		e.part.number = p->number;
		e.part.bytes = bytes;
		e.part.head = p->head;
		e.part.body = p->body;
		rc = source_step(s, &e, NULL);
		g = source_group_find(s, &e.part.group); /* an event may have removed it */
		if (rc == LB_EAGAIN && g != NULL) {
			part_back(s, p);
			s->no_room = true;
			return;
		}
		part_done(s, p, g);
		if (g != NULL)
			source_group_part_done(g, bytes, rc == 0);
	}
}

static void on_parts(void *arg)
{
	struct source_token *t = arg;

	if (t->s != NULL && !t->s->no_room)
		parts_push(t->s);
	source_token_unref(t);
}

static void parts_poke(struct rep_source *s)
{
	lb_loop_post_owned(s->cfg.loop, on_parts, source_token_unref, source_token_ref(s));
}

/* Worker thread. */
int source_part_put(struct source_group *g, const struct source_part *proto, struct lb_buf *body,
		    struct lb_err *err)
{
	struct rep_source *s = g->s;
	struct source_part *p = malloc(sizeof(*p));
	struct rep_record_frame f = {.kind = proto->kind,
				     .group = g->cfg.group,
				     .layer = proto->layer,
				     .number = proto->number,
				     .bytes = (uint32_t)body->len};
	bool poke = false, stop;
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "queue a part");
	*p = *proto;
	p->g = g;
	p->group = g->cfg.group;
	p->body = body;
	rc = rep_frame_encode_record_head(&p->head, &f, err);
	if (rc != 0) {
		free(p);
		return rc;
	}
	(void)pthread_mutex_lock(&s->lock);
	while (s->part_bytes >= PARTS_MAX_BYTES && !s->stopping &&
	       !__atomic_load_n(&g->canceled, __ATOMIC_RELAXED))
		(void)pthread_cond_wait(&s->room, &s->lock);
	stop = s->stopping || __atomic_load_n(&g->canceled, __ATOMIC_RELAXED);
	if (!stop) {
		(void)lb_buf_ref(body);
		TAILQ_INSERT_TAIL(&s->parts, p, link);
		s->part_bytes += body->len;
		g->parts_queued++;
		poke = !s->poked;
		s->poked = true;
	}
	(void)pthread_mutex_unlock(&s->lock);
	if (stop) {
		lb_buf_unref(p->head);
		free(p);
		return lb_err_set(err, LB_ECANCELED, 0, "the cut is over");
	}
	if (poke)
		parts_poke(s);
	return 0;
}

/* ---- links ---- */

static void on_up(void *arg, struct rep_link *l, const struct lb_id *peer)
{
	struct source_conn *c = arg;
	struct rep_sender_event e = {.type = REP_SENDER_UP, .conn = c->n, .peer = *peer};

	if (c->link == l)
		(void)source_step(c->s, &e, NULL);
}

static void on_frame(void *arg, struct rep_link *l, struct rep_link_frame *f)
{
	struct source_conn *c = arg;
	struct rep_sender_event e = {.type = REP_SENDER_FRAME, .conn = c->n};

	e.frame.type = f->type;
	e.frame.payload = f->payload->p;
	e.frame.bytes = (uint32_t)f->payload->len;
	if (c->link == l)
		(void)source_step(c->s, &e, NULL);
	lb_buf_unref(f->payload);
}

static void gone_remove(struct rep_source *s, const struct rep_link *l)
{
	struct source_gone *x;

	TAILQ_FOREACH(x, &s->gone, link)
	{
		if (x->l == l) {
			TAILQ_REMOVE(&s->gone, x, link);
			free(x);
			return;
		}
	}
}

/* No session, and why: the core keeps trying silently. Told once for each new reason. */
static void link_trouble(struct rep_source *s, const struct lb_err *err)
{
	struct rep_source_event e = {.type = REP_SOURCE_LINK_DOWN, .err = &s->trouble};

	if (s->link_up || err == NULL || err->code == 0 || strcmp(err->msg, s->trouble.msg) == 0)
		return;
	s->trouble = *err;
	source_event(s, &e);
}

static void on_down(void *arg, struct rep_link *l, const struct lb_err *err)
{
	struct source_conn *c = arg;
	struct rep_source *s = c->s;
	struct rep_sender_event e = {.type = REP_SENDER_DOWN, .conn = c->n, .err = err};
	bool ours = c->link == l, tell = ours && c->n == 0 && !s->link_up;

	if (ours)
		c->link = NULL;
	else
		gone_remove(s, l);
	rep_link_destroy(l);
	if (ours)
		(void)source_step(s, &e, NULL);
	if (tell)
		link_trouble(s, err);
}

struct failed_connect {
	struct source_token *token;
	unsigned conn;
	struct lb_err err;
};

static void drop_failed_connect(void *arg)
{
	struct failed_connect *f = arg;

	source_token_unref(f->token);
	free(f);
}

static void on_failed_connect(void *arg)
{
	struct failed_connect *f = arg;
	struct rep_sender_event e = {.type = REP_SENDER_DOWN, .conn = f->conn, .err = &f->err};

	if (f->token->s != NULL) {
		(void)source_step(f->token->s, &e, NULL);
		link_trouble(f->token->s, &f->err);
	}
	drop_failed_connect(f);
}

static void conn_open(struct source_conn *c)
{
	struct rep_source *s = c->s;
	struct rep_link_cfg cfg = {.loop = s->cfg.loop,
				   .tls = s->cfg.tls,
				   .idle_timeout_ns = UINT64_MAX, /* the core's matter */
				   .max_queued_bytes = 2 * s->cfg.window_bytes + (4u << 20),
				   .on_up = on_up,
				   .on_frame = on_frame,
				   .on_down = on_down,
				   .arg = c};
	struct failed_connect *f;
	struct lb_err err;

	LB_ASSERT(c->link == NULL);
	if (rep_link_connect(&c->link, &cfg, s->host, s->cfg.port, &err) == 0)
		return;
	f = malloc(sizeof(*f));
	LB_ASSERT(f != NULL); /* a lost message would hang the core */
	*f = (struct failed_connect){.token = source_token_ref(s), .conn = c->n, .err = err};
	lb_loop_post_owned(s->cfg.loop, on_failed_connect, drop_failed_connect, f);
}

/* Let the link say its farewell; its callbacks count no more. */
static void conn_close(struct source_conn *c, const struct lb_err *why)
{
	struct source_gone *x;

	if (c->link == NULL)
		return;
	x = malloc(sizeof(*x));
	if (x == NULL) {
		rep_link_destroy(c->link);
	} else {
		x->l = c->link;
		TAILQ_INSERT_TAIL(&c->s->gone, x, link);
		rep_link_close(c->link, why);
	}
	c->link = NULL;
	if (c->n == 0)
		link_trouble(c->s, why);
}

static void conn_send(struct source_conn *c, struct lb_buf *head, struct lb_buf *body)
{
	struct lb_err err;

	/* Down already: on_down is on its way. A queue that is full would mean that the core's
	 * window and ours disagree: give the connection up rather than lose a frame. */
	if (c->link != NULL && rep_link_send2(c->link, head, body, &err) != 0 &&
	    err.code != LB_ECLOSED)
		rep_link_close(c->link, &err);
	lb_buf_unref(head);
	lb_buf_unref(body);
}

/* ---- the core ---- */

static void link_event(struct rep_source *s, bool up, const struct lb_err *err)
{
	struct rep_source_event e = {.type = up ? REP_SOURCE_LINK_UP : REP_SOURCE_LINK_DOWN,
				     .err = up ? NULL : err};

	s->link_up = up;
	if (up)
		memset(&s->trouble, 0, sizeof(s->trouble));
	source_event(s, &e);
}

static void action_run(struct rep_source *s, const struct rep_sender_action *a)
{
	struct source_group *g;

	switch (a->type) {
	case REP_SENDER_CONNECT:
		conn_open(&s->conn[a->conn]);
		return;
	case REP_SENDER_CLOSE:
		conn_close(&s->conn[a->conn], &a->err);
		return;
	case REP_SENDER_SEND:
		conn_send(&s->conn[a->conn], a->head, a->body);
		return;
	case REP_SENDER_LINK_UP:
	case REP_SENDER_LINK_DOWN:
		link_event(s, a->type == REP_SENDER_LINK_UP, &a->err);
		return;
	case REP_SENDER_ROOM:
		s->no_room = false;
		parts_poke(s);
		return;
	case REP_SENDER_READY:
	case REP_SENDER_RESYNC:
	case REP_SENDER_SCAN:
	case REP_SENDER_ACKED:
	case REP_SENDER_ABANDONED:
	case REP_SENDER_REFUSED:
	case REP_SENDER_FENCED:
	case REP_SENDER_STOPPED:
		g = source_group_find(s, &a->group);
		if (g != NULL)
			source_group_action(g, a);
		return;
	}
}

int source_step(struct rep_source *s, const struct rep_sender_event *e, struct lb_err *err)
{
	struct rep_sender_action a;
	uint64_t now = source_now(s), deadline;
	int rc;

	/* An action may be an event whose receiver calls back and steps again: the inner call
	 * then carries out what is left of the outer one's actions, in order. */
	rc = rep_sender_step(s->sender, e, now, err);
	while (rep_sender_next(s->sender, &a))
		action_run(s, &a);
	deadline = rep_sender_deadline(s->sender);
	if (deadline == UINT64_MAX)
		lb_timer_stop(s->timer);
	else
		lb_timer_start(s->timer, deadline > now ? deadline - now : 0, 0);
	return rc;
}

static void on_tick(void *arg)
{
	struct rep_sender_event e = {.type = REP_SENDER_TICK};

	(void)source_step(arg, &e, NULL);
}

static bool leads_to(void *arg, const struct lb_id *group, const struct lb_hash *manifest)
{
	struct source_group *g = source_group_find(arg, group);

	return g != NULL && source_group_leads_to(g, manifest);
}

/* ---- create and destroy ---- */

static void cfg_defaults(struct rep_source_cfg *c)
{
	if (c->connections == 0)
		c->connections = 2;
	if (c->connections > REP_SENDER_MAX_CONNECTIONS)
		c->connections = REP_SENDER_MAX_CONNECTIONS;
	if (c->workers == 0)
		c->workers = 2;
	if (c->window_bytes == 0)
		c->window_bytes = 8u << 20;
	if (c->seed_pack_bytes == 0)
		c->seed_pack_bytes = 256u << 10;
	if (c->delta_pack_bytes == 0)
		c->delta_pack_bytes = 64u << 10;
}

static int sender_make(struct rep_source *s, struct lb_err *err)
{
	struct rep_sender_cfg c = REP_SENDER_CFG_DEFAULTS;

	c.env = s->cfg.env;
	c.deployment = s->cfg.deployment;
	c.site = s->cfg.site;
	c.boot_id = s->cfg.boot_id;
	c.peer_site = s->cfg.peer_site;
	c.peer_key = s->cfg.peer_key;
	c.connections = s->cfg.connections;
	c.window_bytes = s->cfg.window_bytes;
	c.leads_to = leads_to;
	c.arg = s;
	return rep_sender_create(&s->sender, &c, err);
}

static int parts_of_create(struct rep_source *s, struct lb_err *err)
{
	int rc;

	s->host = strdup(s->cfg.host);
	s->token = calloc(1, sizeof(*s->token));
	if (s->host == NULL || s->token == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a source");
	s->token->s = s;
	s->token->refs = 1;
	lb_id_random(&s->run, s->cfg.env);
	rc = rep_spool_clean(s->cfg.state, err);
	if (rc == 0)
		rc = sender_make(s, err);
	if (rc == 0)
		rc = lb_timer_create(&s->timer, s->cfg.loop, on_tick, s, err);
	if (rc == 0)
		rc = lb_pool_create(&s->pool, s->cfg.loop, POOL_THREADS, err);
	return rc;
}

int rep_source_create(struct rep_source **out, const struct rep_source_cfg *cfg, struct lb_err *err)
{
	struct rep_source *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a source");
	s->cfg = *cfg;
	cfg_defaults(&s->cfg);
	TAILQ_INIT(&s->gone);
	TAILQ_INIT(&s->groups);
	TAILQ_INIT(&s->orphans);
	TAILQ_INIT(&s->parts);
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_mutex_init(&s->keys_lock, NULL);
	(void)pthread_cond_init(&s->room, NULL);
	(void)pthread_cond_init(&s->job_done, NULL);
	for (unsigned i = 0; i < REP_SENDER_MAX_CONNECTIONS; i++)
		s->conn[i] = (struct source_conn){.s = s, .n = i};
	rc = parts_of_create(s, err);
	if (rc != 0) {
		rep_source_destroy(s);
		return rc;
	}
	/* The core connects at its first step; the caller gets its events from the loop only. */
	lb_timer_start(s->timer, 0, 0);
	*out = s;
	return 0;
}

static void links_destroy(struct rep_source *s)
{
	struct source_gone *x;

	for (unsigned i = 0; i < REP_SENDER_MAX_CONNECTIONS; i++) {
		rep_link_destroy(s->conn[i].link);
		s->conn[i].link = NULL;
	}
	while ((x = TAILQ_FIRST(&s->gone)) != NULL) {
		TAILQ_REMOVE(&s->gone, x, link);
		rep_link_destroy(x->l);
		free(x);
	}
}

void rep_source_destroy(struct rep_source *s)
{
	struct source_group *g;
	struct source_job *j;

	if (s == NULL)
		return;
	(void)pthread_mutex_lock(&s->lock);
	s->stopping = true;
	(void)pthread_cond_broadcast(&s->room);
	(void)pthread_mutex_unlock(&s->lock);
	lb_pool_destroy(s->pool);
	links_destroy(s);
	while ((g = TAILQ_FIRST(&s->groups)) != NULL)
		source_group_free(g);
	while ((j = TAILQ_FIRST(&s->orphans)) != NULL) {
		TAILQ_REMOVE(&s->orphans, j, link);
		free(j);
	}
	if (s->timer != NULL)
		lb_timer_destroy(s->timer);
	rep_sender_destroy(s->sender);
	if (s->token != NULL) {
		s->token->s = NULL;
		source_token_unref(s->token);
	}
	(void)pthread_cond_destroy(&s->room);
	(void)pthread_cond_destroy(&s->job_done);
	(void)pthread_mutex_destroy(&s->keys_lock);
	(void)pthread_mutex_destroy(&s->lock);
	free(s->host);
	free(s);
}

void rep_source_cut_now(struct rep_source *s, const struct lb_id *group)
{
	struct source_group *g = source_group_find(s, group);

	if (g == NULL)
		return;
	g->now = true;
	source_group_advance(g);
}

bool rep_source_stats(struct rep_source *s, const struct lb_id *group, struct rep_source_stats *out)
{
	struct source_group *g = source_group_find(s, group);
	struct rep_sender_stats core;

	if (g == NULL)
		return false;
	rep_sender_stats(s->sender, &core);
	*out = g->stats;
	out->bytes_read = __atomic_load_n(&g->bytes_read, __ATOMIC_RELAXED);
	out->blocks_data = __atomic_load_n(&g->blocks_data, __ATOMIC_RELAXED);
	out->blocks_zero = __atomic_load_n(&g->blocks_zero, __ATOMIC_RELAXED);
	out->blocks_ref = __atomic_load_n(&g->blocks_ref, __ATOMIC_RELAXED);
	out->blocks_patch = __atomic_load_n(&g->blocks_patch, __ATOMIC_RELAXED);
	out->blocks_kept = __atomic_load_n(&g->blocks_kept, __ATOMIC_RELAXED);
	out->bytes_changed =
		(out->blocks_data + out->blocks_zero + out->blocks_ref + out->blocks_patch) *
		REP_BLOCK_BYTES;
	out->scan_done_bytes = __atomic_load_n(&g->scan_done_bytes, __ATOMIC_RELAXED);
	out->scan_all_bytes = __atomic_load_n(&g->scan_all_bytes, __ATOMIC_RELAXED);
	out->parts_sent = core.parts_sent;
	out->parts_resent_held = core.parts_resent_held;
	out->link_up = s->link_up;
	out->busy = g->phase != PHASE_NONE || g->job != NULL;
	out->fenced = g->stopped;
	return true;
}
