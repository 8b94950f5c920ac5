#include "replicator/target.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/thread.h"
#include "replicator/ingest.h"
#include "replicator/link.h"
#include "replicator/receiver.h"

/*
 * Three kinds of threads: the loop (the receiver core decides), one a connection (TLS, leaf
 * hashes), one for the store (appends, checks, commits, in the order the core asked). Ops go to the
 * store in batches of what is waiting, so that points that are ready together share one commit.
 */

#define ACCEPT_RETRY_NS UINT64_C(1000000000) /* out of descriptors: look again */

struct target_conn {
	TAILQ_ENTRY(target_conn) link;
	struct rep_target *t;
	uint64_t id;
	struct rep_link *l;
	struct lb_id peer; /* zero until it is up */
	bool gone;         /* the core closed it: its callbacks count no more */
};

/* Work for the store's thread: an op of the core, or somebody's function. */
struct store_item {
	STAILQ_ENTRY(store_item) link;
	struct rep_store_op op;
	void (*fn)(void *arg, struct rep_store *s);
	void (*done)(void *arg);
	void (*drop)(void *arg);
	void *arg;
};
STAILQ_HEAD(store_queue, store_item);

struct target_token {
	struct rep_target *t; /* loop's thread; NULL: destroyed */
	uint32_t refs;        /* atomic */
};

struct rep_target {
	struct rep_target_cfg cfg;
	struct rep_receiver_ops ops;
	struct target_token *token;
	struct rep_receiver *core;
	struct rep_ingest *ingest;
	struct lb_timer *timer, *accept_timer;
	int listen_fd;
	uint16_t port;
	uv_poll_t *poll;
	TAILQ_HEAD(, target_conn) conns;
	unsigned conn_count;
	uint64_t next_conn;

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards from here */
	pthread_cond_t more;
	struct store_queue queue;
	bool stop;
};

/* What the store's thread brings back. */
struct store_result {
	struct target_token *token;
	unsigned n;
	struct rep_store_answer answer[REP_INGEST_MAX_BATCH];
	void (*done)(void *arg); /* of a function; else NULL */
	void (*drop)(void *arg);
	void *arg;
};

static uint64_t now_ns(struct rep_target *t)
{
	return t->cfg.env->now_ns(t->cfg.env);
}

static void token_unref(struct target_token *k)
{
	if (__atomic_sub_fetch(&k->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(k);
}

/* ---- the store's thread ---- */

static void step(struct rep_target *t, const struct rep_receiver_event *e);

static void result_free(struct store_result *r)
{
	for (unsigned i = 0; i < r->n; i++)
		rep_store_answer_fini(&r->answer[i]);
	token_unref(r->token);
	free(r);
}

/* Nobody is there to be told. */
static void result_drop(void *arg)
{
	struct store_result *r = arg;

	if (r->drop != NULL)
		r->drop(r->arg);
	result_free(r);
}

static void on_result(void *arg)
{
	struct store_result *r = arg;
	struct rep_target *t = r->token->t;

	if (t == NULL) {
		result_drop(r);
		return;
	}
	for (unsigned i = 0; i < r->n; i++) {
		struct rep_receiver_event e = {.type = REP_RECEIVER_STORE, .answer = &r->answer[i]};

		step(t, &e);
	}
	if (r->done != NULL)
		r->done(r->arg);
	result_free(r);
}

static struct store_result *result_create(struct rep_target *t)
{
	struct store_result *r = calloc(1, sizeof(*r));

	LB_ASSERT(r != NULL); /* an answer that is lost would hang its peer */
	r->token = t->token;
	(void)__atomic_add_fetch(&r->token->refs, 1, __ATOMIC_RELAXED);
	return r;
}

static void run_fn(struct rep_target *t, struct store_item *item)
{
	struct store_result *r = result_create(t);

	item->fn(item->arg, t->cfg.store);
	r->done = item->done;
	r->drop = item->drop;
	r->arg = item->arg;
	lb_loop_post_owned(t->cfg.loop, on_result, result_drop, r);
	free(item);
}

static void run_ops(struct rep_target *t, struct store_item **item, unsigned n)
{
	struct store_result *r = result_create(t);
	struct rep_store_op op[REP_INGEST_MAX_BATCH];

	for (unsigned i = 0; i < n; i++)
		op[i] = item[i]->op;
	rep_ingest_run(t->ingest, op, r->answer, n);
	r->n = n;
	for (unsigned i = 0; i < n; i++) {
		rep_store_op_fini(&op[i]);
		free(item[i]);
	}
	lb_loop_post_owned(t->cfg.loop, on_result, result_drop, r);
}

/* Points that come within the delay share the commit. Called with the lock. */
static void gather(struct rep_target *t)
{
	struct timespec until = lb_cond_deadline(t->cfg.commit_delay_ns);

	if (t->cfg.commit_delay_ns == 0)
		return;
	while (!t->stop && pthread_cond_timedwait(&t->more, &t->lock, &until) == 0)
		;
}

/* The next batch: ops in order up to the first function, or one function. */
static unsigned take(struct rep_target *t, struct store_item **item)
{
	struct store_item *x;
	unsigned n = 0;
	bool commit = false;

	(void)pthread_mutex_lock(&t->lock);
	while (!t->stop && STAILQ_EMPTY(&t->queue))
		(void)pthread_cond_wait(&t->more, &t->lock);
	STAILQ_FOREACH(x, &t->queue, link)
	{
		commit = commit || (x->fn == NULL && x->op.type == REP_STORE_COMMIT);
	}
	if (commit)
		gather(t);
	while (!t->stop && n < REP_INGEST_MAX_BATCH && (x = STAILQ_FIRST(&t->queue)) != NULL &&
	       (x->fn == NULL || n == 0)) {
		STAILQ_REMOVE_HEAD(&t->queue, link);
		item[n++] = x;
		if (x->fn != NULL)
			break;
	}
	(void)pthread_mutex_unlock(&t->lock);
	return n;
}

static void *store_main(void *arg)
{
	struct store_item *item[REP_INGEST_MAX_BATCH];
	struct rep_target *t = arg;
	unsigned n;

	while ((n = take(t, item)) != 0) {
		if (item[0]->fn != NULL)
			run_fn(t, item[0]);
		else
			run_ops(t, item, n);
	}
	return NULL;
}

static void store_put(struct rep_target *t, struct store_item *item)
{
	bool was_empty;

	(void)pthread_mutex_lock(&t->lock);
	was_empty = STAILQ_EMPTY(&t->queue);
	STAILQ_INSERT_TAIL(&t->queue, item, link);
	if (was_empty)
		(void)pthread_cond_signal(&t->more);
	(void)pthread_mutex_unlock(&t->lock);
}

static void store_op(struct rep_target *t, const struct rep_store_op *op)
{
	struct store_item *item = calloc(1, sizeof(*item));

	LB_ASSERT(item != NULL); /* an op that is lost would hang its peer */
	item->op = *op;
	store_put(t, item);
}

void rep_target_on_store(struct rep_target *t, void (*fn)(void *arg, struct rep_store *s),
			 void (*done)(void *arg), void (*drop)(void *arg), void *arg)
{
	struct store_item *item = calloc(1, sizeof(*item));

	LB_ASSERT(item != NULL);
	item->fn = fn;
	item->done = done;
	item->drop = drop;
	item->arg = arg;
	store_put(t, item);
}

int rep_target_settle(struct rep_target *t, struct lb_err *err)
{
	return rep_ingest_settle(t->ingest, err);
}

/* ---- connections ---- */

static void conn_free(struct target_conn *c)
{
	TAILQ_REMOVE(&c->t->conns, c, link);
	c->t->conn_count--;
	rep_link_destroy(c->l);
	free(c);
}

static struct target_conn *conn_find(struct rep_target *t, uint64_t id)
{
	struct target_conn *c;

	TAILQ_FOREACH(c, &t->conns, link)
	{
		if (c->id == id && !c->gone)
			return c;
	}
	return NULL;
}

static void on_up(void *arg, struct rep_link *l, const struct lb_id *peer)
{
	struct target_conn *c = arg;
	struct rep_receiver_event e = {.type = REP_RECEIVER_UP, .conn = c->id, .peer = *peer};

	(void)l;
	c->peer = *peer;
	if (!c->gone)
		step(c->t, &e);
}

static void on_frame(void *arg, struct rep_link *l, struct rep_link_frame *f)
{
	struct target_conn *c = arg;
	struct rep_receiver_event e = {.type = REP_RECEIVER_FRAME, .conn = c->id};

	(void)l;
	e.frame.type = f->type;
	e.frame.payload = f->payload;
	e.frame.leaf = f->has_leaf ? &f->leaf : NULL;
	if (!c->gone)
		step(c->t, &e);
	lb_buf_unref(f->payload);
}

static void on_down(void *arg, struct rep_link *l, const struct lb_err *err)
{
	struct target_conn *c = arg;
	struct rep_target *t = c->t;
	struct rep_receiver_event e = {.type = REP_RECEIVER_DOWN, .conn = c->id, .err = err};
	bool gone = c->gone, never_up = !rep_link_was_up(l);

	conn_free(c);
	if (never_up && t->cfg.on_alarm != NULL)
		t->cfg.on_alarm(t->cfg.arg, "peer_rejected", err);
	if (!gone && !never_up)
		step(t, &e);
}

static void conn_accept(struct rep_target *t, int fd)
{
	struct rep_link_cfg cfg = {.loop = t->cfg.loop,
				   .tls = t->cfg.tls,
				   .idle_timeout_ns = UINT64_MAX, /* the core's matter */
				   .on_up = on_up,
				   .on_frame = on_frame,
				   .on_down = on_down};
	struct target_conn *c = calloc(1, sizeof(*c));
	struct lb_err err;

	cfg.arg = c;
	/* Twice the number: some may still be shaking hands, or saying farewell. */
	if (c == NULL || t->conn_count >= 2 * t->cfg.max_connections ||
	    rep_link_accept(&c->l, &cfg, fd, &err) != 0) {
		(void)close(fd);
		free(c);
		return;
	}
	c->t = t;
	c->id = t->next_conn++;
	TAILQ_INSERT_TAIL(&t->conns, c, link);
	t->conn_count++;
}

static void accept_pause(struct rep_target *t, int error)
{
	struct lb_err err;

	(void)lb_err_set(&err, LB_EIO, error, "accept a connection");
	(void)uv_poll_stop(t->poll);
	lb_timer_start(t->accept_timer, ACCEPT_RETRY_NS, 0);
	if (t->cfg.on_alarm != NULL)
		t->cfg.on_alarm(t->cfg.arg, "accept_failed", &err);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
	struct rep_target *t = poll->data;

	(void)status;
	(void)events;
	for (;;) {
		int fd = accept4(t->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			conn_accept(t, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			accept_pause(t, errno);
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

static void on_accept_again(void *arg)
{
	struct rep_target *t = arg;

	(void)uv_poll_start(t->poll, UV_READABLE, on_listener);
}

/* ---- the core ---- */

static void conn_send(struct rep_target *t, uint64_t id, struct lb_buf *frame)
{
	struct target_conn *c = conn_find(t, id);
	struct lb_err err;

	if (c != NULL && rep_link_send(c->l, frame, &err) != 0 && err.code != LB_ECLOSED)
		rep_link_close(c->l, &err);
	lb_buf_unref(frame);
}

static void conn_close(struct rep_target *t, uint64_t id, const struct lb_err *why)
{
	struct target_conn *c = conn_find(t, id);

	if (c == NULL)
		return;
	c->gone = true;
	rep_link_close(c->l, why); /* on_down frees it */
}

static void on_point(struct rep_target *t, const struct rep_receiver_action *a)
{
	struct rep_target_point p = {.point = &a->point,
				     .age_bound_ns = a->age_known ? a->age_ns : UINT64_MAX,
				     .receive_boot_ns = a->receive_boot_ns};

	if (t->cfg.on_point != NULL)
		t->cfg.on_point(t->cfg.arg, &p);
}

static void action_run(struct rep_target *t, struct rep_receiver_action *a)
{
	switch (a->type) {
	case REP_RECEIVER_SEND:
		conn_send(t, a->conn, a->buf);
		return;
	case REP_RECEIVER_CLOSE:
		conn_close(t, a->conn, &a->err);
		return;
	case REP_RECEIVER_RUN:
		store_op(t, &a->op);
		return;
	case REP_RECEIVER_POINT:
		on_point(t, a);
		return;
	case REP_RECEIVER_PEER:
		if (t->cfg.on_peer != NULL)
			t->cfg.on_peer(t->cfg.arg, &a->site, a->up, &a->err);
		return;
	case REP_RECEIVER_ALARM:
		if (t->cfg.on_alarm != NULL)
			t->cfg.on_alarm(t->cfg.arg, a->ev, &a->err);
		return;
	}
}

static void step(struct rep_target *t, const struct rep_receiver_event *e)
{
	struct rep_receiver_action a;
	uint64_t now = now_ns(t), deadline;

	rep_receiver_step(t->core, e, now);
	while (rep_receiver_next(t->core, &a))
		action_run(t, &a);
	deadline = rep_receiver_deadline(t->core);
	if (deadline == UINT64_MAX)
		lb_timer_stop(t->timer);
	else
		lb_timer_start(t->timer, deadline > now ? deadline - now : 0, 0);
}

static void on_tick(void *arg)
{
	struct rep_receiver_event e = {.type = REP_RECEIVER_TICK};

	step(arg, &e);
}

void rep_target_fence(struct rep_target *t, const struct lb_id *group, uint64_t epoch)
{
	struct rep_receiver_event e = {.type = REP_RECEIVER_RAISED};

	e.raised.group = *group;
	e.raised.epoch = epoch;
	step(t, &e);
}

void rep_target_drop(struct rep_target *t, const struct lb_id *site, const struct lb_err *why)
{
	struct target_conn *c;

	TAILQ_FOREACH(c, &t->conns, link)
	{
		if (lb_id_equal(&c->peer, site))
			rep_link_close(c->l, why); /* on_down tells the core */
	}
}

/* ---- the callbacks' other end: the receiver's ops have our cfg.arg, so they pass through ---- */

static int core_make(struct rep_target *t, struct lb_err *err)
{
	struct rep_receiver_cfg c = REP_RECEIVER_CFG_DEFAULTS;
	struct rep_ingest_cfg i = {.env = t->cfg.env,
				   .store = t->cfg.store,
				   .deployment = t->cfg.deployment,
				   .site = t->cfg.site,
				   .signer = t->cfg.signer,
				   .key_of = t->cfg.key_of,
				   .arg = t->cfg.arg};
	int rc;

	t->ops = (struct rep_receiver_ops){.peer_allowed = t->cfg.peer_allowed,
					   .role_of = t->cfg.role_of,
					   .adopt = t->cfg.adopt,
					   .raise_epoch = t->cfg.raise_epoch,
					   .store_key = t->cfg.store_key};
	c.deployment = t->cfg.deployment;
	c.site = t->cfg.site;
	c.boot_id = t->cfg.boot_id;
	c.ops = &t->ops;
	c.ops_arg = t->cfg.arg;
	c.max_connections = t->cfg.max_connections;
	rc = rep_receiver_create(&t->core, &c, err);
	return rc != 0 ? rc : rep_ingest_create(&t->ingest, &i, err);
}

static int listen_on(struct rep_target *t, const struct addrinfo *a, struct lb_err *err)
{
	struct sockaddr_storage got;
	socklen_t len = sizeof(got);
	const int one = 1;

	t->listen_fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->listen_fd < 0)
		return lb_err_set(err, LB_EIO, errno, "make a socket");
	(void)setsockopt(t->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(t->listen_fd, a->ai_addr, a->ai_addrlen) != 0 || listen(t->listen_fd, 64) != 0 ||
	    getsockname(t->listen_fd, (struct sockaddr *)&got, &len) != 0)
		return lb_err_set(err, errno == EADDRINUSE ? LB_EBUSY : LB_EIO, errno,
				  "listen on %s port %u", t->cfg.listen_host, t->cfg.listen_port);
	t->port = ntohs(got.ss_family == AF_INET6
				? ((const struct sockaddr_in6 *)(const void *)&got)->sin6_port
				: ((const struct sockaddr_in *)(const void *)&got)->sin_port);
	return 0;
}

static int listen_start(struct rep_target *t, struct lb_err *err)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC,
				       .ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char service[8];
	int rc;

	(void)snprintf(service, sizeof(service), "%u", t->cfg.listen_port);
	rc = getaddrinfo(t->cfg.listen_host, service, &hints, &list);
	if (rc != 0)
		return lb_err_set(err, LB_EINPUT, 0, "look up %s: %s", t->cfg.listen_host,
				  gai_strerror(rc));
	rc = listen_on(t, list, err);
	freeaddrinfo(list);
	if (rc != 0)
		return rc;
	t->poll = calloc(1, sizeof(*t->poll));
	if (t->poll == NULL || uv_poll_init(lb_loop_uv(t->cfg.loop), t->poll, t->listen_fd) != 0) {
		free(t->poll);
		t->poll = NULL;
		return lb_err_set(err, LB_ENOMEM, 0, "watch the listening socket");
	}
	t->poll->data = t;
	return uv_poll_start(t->poll, UV_READABLE, on_listener) == 0
		       ? 0
		       : lb_err_set(err, LB_EIO, 0, "watch the listening socket");
}

static int thread_start(struct rep_target *t, struct lb_err *err)
{
	int rc;

	lb_cond_init(&t->more);
	(void)pthread_mutex_init(&t->lock, NULL);
	rc = lb_thread_start(&t->thread, store_main, t, "the store", err);
	if (rc != 0) {
		(void)pthread_cond_destroy(&t->more);
		(void)pthread_mutex_destroy(&t->lock);
		return rc;
	}
	t->started = true;
	return 0;
}

int rep_target_create(struct rep_target **out, const struct rep_target_cfg *cfg, struct lb_err *err)
{
	struct rep_target *t = calloc(1, sizeof(*t));
	int rc;

	if (t == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a target");
	t->cfg = *cfg;
	if (t->cfg.max_connections == 0)
		t->cfg.max_connections = 64;
	t->listen_fd = -1;
	t->next_conn = 1;
	TAILQ_INIT(&t->conns);
	STAILQ_INIT(&t->queue);
	t->token = calloc(1, sizeof(*t->token));
	if (t->token == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "allocate a target");
		goto out;
	}
	*t->token = (struct target_token){.t = t, .refs = 1};
	rc = core_make(t, err);
	if (rc == 0)
		rc = lb_timer_create(&t->timer, cfg->loop, on_tick, t, err);
	if (rc == 0)
		rc = lb_timer_create(&t->accept_timer, cfg->loop, on_accept_again, t, err);
	if (rc == 0)
		rc = thread_start(t, err);
	if (rc == 0)
		rc = listen_start(t, err);
	if (rc == 0) {
		*out = t;
		return 0;
	}
out:
	rep_target_destroy(t);
	return rc;
}

static void poll_freed(uv_handle_t *h)
{
	free(h);
}

static void thread_stop(struct rep_target *t)
{
	struct store_item *item;

	if (!t->started)
		return;
	(void)pthread_mutex_lock(&t->lock);
	t->stop = true;
	(void)pthread_cond_signal(&t->more);
	(void)pthread_mutex_unlock(&t->lock);
	(void)pthread_join(t->thread, NULL);
	/* What was not begun was not acknowledged. */
	while ((item = STAILQ_FIRST(&t->queue)) != NULL) {
		STAILQ_REMOVE_HEAD(&t->queue, link);
		if (item->fn == NULL)
			rep_store_op_fini(&item->op);
		else
			item->drop(item->arg);
		free(item);
	}
	(void)pthread_cond_destroy(&t->more);
	(void)pthread_mutex_destroy(&t->lock);
}

void rep_target_destroy(struct rep_target *t)
{
	struct target_conn *c;

	if (t == NULL)
		return;
	if (t->poll != NULL) {
		(void)uv_poll_stop(t->poll);
		uv_close((uv_handle_t *)t->poll, poll_freed);
	}
	while ((c = TAILQ_FIRST(&t->conns)) != NULL)
		conn_free(c);
	if (t->listen_fd >= 0)
		(void)close(t->listen_fd);
	thread_stop(t);
	if (t->timer != NULL)
		lb_timer_destroy(t->timer);
	if (t->accept_timer != NULL)
		lb_timer_destroy(t->accept_timer);
	rep_receiver_destroy(t->core);
	rep_ingest_destroy(t->ingest);
	if (t->token != NULL) {
		t->token->t = NULL;
		token_unref(t->token);
	}
	free(t);
}

uint16_t rep_target_port(const struct rep_target *t)
{
	return t->port;
}

void rep_target_stats(struct rep_target *t, struct rep_target_stats *out)
{
	rep_receiver_stats(t->core, out);
}
