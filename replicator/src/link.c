#include "replicator/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/thread.h"
#include "tls_int.h"

/*
 *   CONNECTING ──► HANDSHAKE ──► UP ──[close]──► DRAINING (what is queued still goes out, 1 s) ──►
 * DOWN └────────────┴───────────┴──────────── error, timeout ─────────────────────────────────►
 * DOWN
 *
 * The thread owns the socket and the SSL. It shares with the others, under the lock, only the queue
 * of frames to send and the wish to close. What comes in goes to the loop as posts, each holding a
 * reference, so a link that was destroyed is freed by the last post that names it.
 */

#define TLS_RECORD_BYTES 16384u
#define TURN_BYTES       (1u << 20)  /* written, or read, before the other way has its turn */
#define UNREAD_MAX       (48u << 20) /* posted to the loop and not taken: reading pauses */
#define DRAIN_NS         UINT64_C(1000000000)
#define CONNECT_NS       UINT64_C(10000000000)
#define IDLE_NS          UINT64_C(30000000000)
#define QUEUE_BYTES      (16u << 20)
#define USER_TIMEOUT_MS  30000u

struct out_piece {
	struct out_piece *next;
	struct lb_buf *buf;
	size_t done; /* bytes taken from buf */
};

struct rep_link {
	struct rep_link_cfg cfg;
	uint32_t refs; /* atomic: owner, posts */
	bool was_up;   /* loop thread: on_up was called */
	bool dropped;  /* loop thread: destroyed, deliver nothing more */
	bool reported; /* loop thread: on_down was called */
	int wake_fd;   /* eventfd: queue, close, room to read */
	pthread_t thread;
	uint64_t sent_bytes;   /* atomic */
	uint64_t unread_bytes; /* atomic: posted, not yet delivered */

	pthread_mutex_t lock; /* guards from here */
	struct out_piece *first, *last;
	size_t queued_bytes;
	bool closing; /* no more sends are taken */
	bool abort;   /* do not even drain */
	struct lb_err why;

	/* the thread's own from here */
	char *host;
	uint16_t port;
	int fd;
	SSL *ssl;
	struct rep_tls_peer peer;
	bool want_out; /* the socket was full */
	uint64_t last_rx_ns;
	uint8_t stage[TLS_RECORD_BYTES]; /* small pieces gathered into one TLS record */
	size_t staged, stage_done;
	uint8_t head[REP_FRAME_HEADER_BYTES];
	size_t head_got;
	enum rep_frame_type type;
	struct lb_buf *payload; /* being read */
	size_t payload_bytes;
};

enum post_kind {
	POST_UP,
	POST_FRAME,
	POST_DOWN
};
struct post {
	struct rep_link *link;
	enum post_kind kind;
	struct rep_link_frame frame;
	struct lb_err err;
};

/* What a frame that waits for the loop holds of UNREAD_MAX: an empty one holds memory too. */
static uint64_t unread_cost(const struct lb_buf *payload)
{
	return payload->len + sizeof(struct post) + sizeof(*payload);
}

static uint64_t now_ns(void)
{
	struct lb_env *env = lb_env_real();

	return env->now_ns(env);
}

static void link_unref(struct rep_link *l)
{
	if (__atomic_sub_fetch(&l->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	(void)close(l->wake_fd);
	(void)pthread_mutex_destroy(&l->lock);
	free(l->host);
	free(l);
}

static void wake(struct rep_link *l)
{
	static const uint64_t one = 1;

	/* The counter cannot overflow in our lifetime; a full one would wake as well.
	 * banned-ok: an eventfd, not a file */
	(void)!write(l->wake_fd, &one, sizeof(one));
}

/* ---- to the loop ---- */

static void deliver_frame(struct rep_link *l, struct post *p)
{
	uint64_t cost = unread_cost(p->frame.payload);
	uint64_t before = __atomic_fetch_sub(&l->unread_bytes, cost, __ATOMIC_ACQ_REL);

	if (before > UNREAD_MAX && before - cost <= UNREAD_MAX)
		wake(l);
	if (l->dropped)
		lb_buf_unref(p->frame.payload);
	else
		l->cfg.on_frame(l->cfg.arg, l, &p->frame);
}

static void on_post(void *arg)
{
	struct post *p = arg;
	struct rep_link *l = p->link;

	switch (p->kind) {
	case POST_UP:
		l->was_up = true;
		if (!l->dropped)
			l->cfg.on_up(l->cfg.arg, l, &l->peer.site);
		break;
	case POST_FRAME:
		deliver_frame(l, p);
		break;
	case POST_DOWN:
		if (!l->dropped && !l->reported) {
			l->reported = true;
			l->cfg.on_down(l->cfg.arg, l, &p->err);
		}
		break;
	}
	link_unref(l);
	free(p);
}

/* The loop ends first: nobody is told. */
static void drop_post(void *arg)
{
	struct post *p = arg;

	lb_buf_unref(p->frame.payload);
	link_unref(p->link);
	free(p);
}

static void post(struct rep_link *l, enum post_kind kind, const struct rep_link_frame *f,
		 const struct lb_err *e)
{
	struct post *p = calloc(1, sizeof(*p));

	LB_ASSERT(p != NULL); /* as lb_loop_post(): without 300 bytes there is no way to tell */
	p->link = l;
	p->kind = kind;
	if (f != NULL)
		p->frame = *f;
	if (e != NULL)
		p->err = *e;
	(void)__atomic_add_fetch(&l->refs, 1, __ATOMIC_RELAXED);
	lb_loop_post_owned(l->cfg.loop, on_post, drop_post, p);
}

/* ---- waiting ---- */

/* Wait for @events on the socket (0, or no socket: the wake-up only) until @deadline_ns. */
static int wait_for(struct rep_link *l, short events, uint64_t deadline_ns, struct lb_err *err)
{
	struct pollfd p[2] = {{.fd = l->wake_fd, .events = POLLIN},
			      /* a peer that hung up is an event whether asked for or not */
			      {.fd = events != 0 ? l->fd : -1, .events = events}};
	uint64_t now = now_ns(), left_ms, drop;
	int n;

	left_ms = deadline_ns <= now ? 0 : (deadline_ns - now + 999999) / 1000000;
	n = poll(p, 2, left_ms > 60000 ? 60000 : (int)left_ms);
	if (n < 0 && errno != EINTR)
		return lb_err_set(err, LB_EIO, errno, "poll a connection");
	if (p[0].revents != 0)
		(void)!read(l->wake_fd, &drop, sizeof(drop)); /* banned-ok: an eventfd */
	return 0;
}

static bool is_aborted(struct rep_link *l)
{
	bool r;

	(void)pthread_mutex_lock(&l->lock);
	r = l->abort;
	(void)pthread_mutex_unlock(&l->lock);
	return r;
}

static int canceled(struct lb_err *err)
{
	return lb_err_set(err, LB_ECANCELED, 0, "connection given up");
}

/* ---- connecting ---- */

static void socket_options(int fd)
{
	const int one = 1;
	const unsigned limit_ms = USER_TIMEOUT_MS;

	/* Each helps and none is needed. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof(limit_ms));
}

static int connect_addr(struct rep_link *l, const struct addrinfo *a, uint64_t deadline_ns,
			struct lb_err *err)
{
	int so_error = 0;
	socklen_t len = sizeof(so_error);

	l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return lb_err_set(err, LB_EIO, errno, "make a socket");
	socket_options(l->fd);
	if (connect(l->fd, a->ai_addr, a->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return lb_err_set(err, LB_ECLOSED, errno, "connect to %s port %u", l->host,
				  l->port);
	for (;;) {
		struct pollfd p = {.fd = l->fd, .events = POLLOUT};

		if (is_aborted(l))
			return canceled(err);
		if (now_ns() >= deadline_ns)
			return lb_err_set(err, LB_ETIMEDOUT, 0, "connect to %s port %u: no answer",
					  l->host, l->port);
		if (wait_for(l, POLLOUT, deadline_ns, err) != 0)
			return LB_EIO;
		if (poll(&p, 1, 0) == 1)
			break;
	}
	if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &so_error, &len) != 0)
		so_error = errno;
	if (so_error != 0)
		return lb_err_set(err, LB_ECLOSED, so_error, "connect to %s port %u", l->host,
				  l->port);
	return 0;
}

static int connect_host(struct rep_link *l, uint64_t deadline_ns, struct lb_err *err)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char service[8];
	int rc;

	(void)snprintf(service, sizeof(service), "%u", l->port);
	rc = getaddrinfo(l->host, service, &hints, &list);
	if (rc != 0)
		return lb_err_set(err, LB_ECLOSED, 0, "look up %s: %s", l->host, gai_strerror(rc));
	rc = LB_ECLOSED;
	for (const struct addrinfo *a = list; a != NULL && rc != 0 && rc != LB_ECANCELED;
	     a = a->ai_next) {
		if (l->fd >= 0)
			(void)close(l->fd);
		rc = connect_addr(l, a, deadline_ns, err);
	}
	freeaddrinfo(list);
	return rc;
}

static int handshake(struct rep_link *l, uint64_t deadline_ns, struct lb_err *err)
{
	int rc = rep_tls_new(&l->ssl, l->cfg.tls, &l->peer, err);

	if (rc != 0)
		return rc;
	if (SSL_set_fd(l->ssl, l->fd) != 1)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a TLS connection");
	for (;;) {
		short events = POLLIN;
		int r, e;

		if (is_aborted(l))
			return canceled(err);
		if (now_ns() >= deadline_ns)
			return lb_err_set(err, LB_ETIMEDOUT, 0, "TLS handshake: no answer");
		errno = 0;
		r = SSL_do_handshake(l->ssl);
		if (r == 1)
			break;
		e = SSL_get_error(l->ssl, r);
		if (e == SSL_ERROR_WANT_WRITE)
			events = POLLOUT;
		else if (e != SSL_ERROR_WANT_READ)
			return rep_tls_error(err, &l->peer, "TLS handshake");
		if (wait_for(l, events, deadline_ns, err) != 0)
			return LB_EIO;
	}
	/* From now on one read for several TLS records, instead of two for each. */
	SSL_set_read_ahead(l->ssl, 1);
	if (!l->peer.known)
		return lb_err_set(err, LB_EAUTH, 0, "TLS handshake: peer gave no certificate");
	return 0;
}

/* ---- writing ---- */

/* Take the piece that was wholly sent off the queue. */
static void out_pop(struct rep_link *l, struct out_piece *o)
{
	(void)pthread_mutex_lock(&l->lock);
	LB_ASSERT(l->first == o);
	l->first = o->next;
	if (l->first == NULL)
		l->last = NULL;
	l->queued_bytes -= o->buf->len;
	(void)pthread_mutex_unlock(&l->lock);
	lb_buf_unref(o->buf);
	free(o);
}

static struct out_piece *out_first(struct rep_link *l)
{
	struct out_piece *o;

	(void)pthread_mutex_lock(&l->lock);
	o = l->first;
	(void)pthread_mutex_unlock(&l->lock);
	return o;
}

/* What to give to SSL_write next: whole TLS records straight from a large piece, the rest of it
 * and small pieces gathered in the stage. Returns the length, 0: nothing to send. */
static size_t out_next(struct rep_link *l, const uint8_t **p)
{
	struct out_piece *o;

	if (l->stage_done == l->staged) {
		l->staged = l->stage_done = 0;
		o = out_first(l);
		if (o != NULL && o->buf->len - o->done >= TLS_RECORD_BYTES) {
			*p = o->buf->p + o->done;
			return (o->buf->len - o->done) / TLS_RECORD_BYTES * TLS_RECORD_BYTES;
		}
	}
	while (l->stage_done == 0 && l->staged < sizeof(l->stage) && (o = out_first(l)) != NULL) {
		size_t n = o->buf->len - o->done;

		if (n > sizeof(l->stage) - l->staged)
			n = sizeof(l->stage) - l->staged;
		memcpy(l->stage + l->staged, o->buf->p + o->done, n);
		l->staged += n;
		o->done += n;
		if (o->done == o->buf->len)
			out_pop(l, o);
	}
	*p = l->stage + l->stage_done;
	return l->staged - l->stage_done;
}

static void out_advance(struct rep_link *l, size_t n)
{
	struct out_piece *o;

	(void)__atomic_add_fetch(&l->sent_bytes, n, __ATOMIC_RELAXED);
	if (l->staged != 0) {
		l->stage_done += n;
		return;
	}
	o = out_first(l);
	o->done += n;
	if (o->done == o->buf->len)
		out_pop(l, o);
}

/* Write until the queue is empty, the socket full, or the turn over. *@more: turn over. */
static int write_turn(struct rep_link *l, bool *more, struct lb_err *err)
{
	size_t turn = 0;

	*more = false;
	l->want_out = false;
	for (;;) {
		const uint8_t *p = NULL;
		size_t n = out_next(l, &p), done = 0;
		int r, e;

		if (n == 0)
			return 0;
		if (turn >= TURN_BYTES) {
			*more = true;
			return 0;
		}
		errno = 0;
		r = SSL_write_ex(l->ssl, p, n, &done);
		if (r == 1) {
			out_advance(l, done);
			turn += done;
			continue;
		}
		e = SSL_get_error(l->ssl, r);
		if (e == SSL_ERROR_WANT_WRITE)
			l->want_out = true;
		if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ)
			return 0;
		return rep_tls_error(err, &l->peer, "send");
	}
}

/* ---- reading ---- */

static bool has_leaf(enum rep_record_kind kind)
{
	return kind == REP_RECORD_LAYER_HEADER || kind == REP_RECORD_PACK ||
	       kind == REP_RECORD_DIGESTS || kind == REP_RECORD_INDEX;
}

static int frame_done(struct rep_link *l, struct lb_err *err)
{
	struct rep_link_frame out = {.type = l->type, .payload = l->payload};
	uint64_t cost = unread_cost(l->payload);

	if (l->type == REP_FRAME_RECORD) {
		struct rep_frame f;
		int rc = rep_frame_decode(&f, l->type, l->payload->p, l->payload->len, err);

		if (rc != 0)
			return rc;
		out.has_leaf = has_leaf(f.record.kind);
		if (out.has_leaf)
			lb_merkle_leaf(&out.leaf, f.record.body, f.record.bytes);
	}
	l->payload = NULL;
	l->head_got = 0;
	(void)__atomic_add_fetch(&l->unread_bytes, cost, __ATOMIC_ACQ_REL);
	post(l, POST_FRAME, &out, NULL);
	return 0;
}

static int head_done(struct rep_link *l, struct lb_err *err)
{
	uint32_t bytes = 0;
	int rc = rep_frame_header_decode(&l->type, &bytes, l->head, err);

	if (rc == 0 && bytes > REP_FRAME_MAX)
		rc = lb_err_set(err, LB_EPROTO, 0, "frame of %u bytes is too long", bytes);
	if (rc == 0)
		rc = lb_buf_create(&l->payload, bytes, err);
	if (rc == 0)
		l->payload_bytes = bytes;
	if (rc == 0 && bytes == 0)
		rc = frame_done(l, err);
	return rc;
}

static int read_some(struct rep_link *l, size_t *got, struct lb_err *err)
{
	uint8_t *p = l->payload != NULL ? l->payload->p + l->payload->len : l->head + l->head_got;
	size_t want = l->payload != NULL ? l->payload_bytes - l->payload->len
					 : sizeof(l->head) - l->head_got;
	int r, e;

	*got = 0;
	errno = 0;
	r = SSL_read_ex(l->ssl, p, want, got);
	if (r == 1)
		return 0;
	*got = 0;
	e = SSL_get_error(l->ssl, r);
	if (e == SSL_ERROR_WANT_READ)
		return 0;
	if (e == SSL_ERROR_WANT_WRITE) {
		l->want_out = true;
		return 0;
	}
	if (e == SSL_ERROR_ZERO_RETURN)
		return lb_err_set(err, LB_ECLOSED, 0, "receive: connection closed by peer");
	return rep_tls_error(err, &l->peer, "receive");
}

static bool may_read(struct rep_link *l)
{
	return __atomic_load_n(&l->unread_bytes, __ATOMIC_ACQUIRE) <= UNREAD_MAX;
}

/* Read until there is nothing, or the turn is over. *@more: turn over. */
static int read_turn(struct rep_link *l, bool *more, struct lb_err *err)
{
	size_t turn = 0;

	*more = false;
	while (may_read(l)) {
		size_t got = 0;
		int rc = read_some(l, &got, err);

		if (rc != 0)
			return rc;
		if (got == 0)
			return 0;
		l->last_rx_ns = now_ns();
		turn += got;
		if (l->payload != NULL) {
			l->payload->len += got;
			if (l->payload->len == l->payload_bytes)
				rc = frame_done(l, err);
		} else {
			l->head_got += got;
			if (l->head_got == sizeof(l->head))
				rc = head_done(l, err);
		}
		if (rc != 0)
			return rc;
		if (turn >= TURN_BYTES) {
			*more = true;
			return 0;
		}
	}
	return 0;
}

/* ---- the thread ---- */

static bool is_closing(struct rep_link *l, struct lb_err *why)
{
	bool r;

	(void)pthread_mutex_lock(&l->lock);
	r = l->closing;
	*why = l->why;
	(void)pthread_mutex_unlock(&l->lock);
	return r;
}

static int closed_here(const struct lb_err *why, struct lb_err *err)
{
	if (why->code != 0)
		return lb_err_set(err, (enum lb_code)why->code, why->sys_errno, "closed here: %s",
				  why->msg);
	return lb_err_set(err, LB_ECANCELED, 0, "closed here");
}

/* Closing: send what is queued, for a second at most, then tell TLS. */
static int drain(struct rep_link *l, const struct lb_err *why, struct lb_err *err)
{
	uint64_t deadline = now_ns() + DRAIN_NS;
	bool more = true;

	while ((more || l->want_out) && now_ns() < deadline && !is_aborted(l)) {
		if (write_turn(l, &more, NULL) != 0)
			break;
		if (l->want_out && wait_for(l, POLLOUT, deadline, NULL) != 0)
			break;
	}
	(void)SSL_shutdown(l->ssl);
	ERR_clear_error();
	return closed_here(why, err);
}

static int pump(struct rep_link *l, struct lb_err *err)
{
	l->last_rx_ns = now_ns();
	for (;;) {
		bool more_out = false, more_in = false;
		uint64_t deadline = UINT64_MAX;
		struct lb_err why;
		short events = 0;
		int rc;

		if (is_aborted(l))
			return canceled(err);
		if (is_closing(l, &why))
			return drain(l, &why, err);
		rc = write_turn(l, &more_out, err);
		if (rc == 0)
			rc = read_turn(l, &more_in, err);
		if (rc != 0)
			return rc;
		if (more_out || more_in)
			continue;
		if (l->cfg.idle_timeout_ns != UINT64_MAX)
			deadline = l->last_rx_ns + l->cfg.idle_timeout_ns;
		if (now_ns() >= deadline)
			return lb_err_set(
				err, LB_ETIMEDOUT, 0, "nothing received for %llu s",
				(unsigned long long)(l->cfg.idle_timeout_ns / 1000000000));
		if (may_read(l))
			events |= POLLIN;
		if (l->want_out)
			events |= POLLOUT;
		rc = wait_for(l, events, deadline, err);
		if (rc != 0)
			return rc;
	}
}

static void *link_main(void *arg)
{
	struct rep_link *l = arg;
	uint64_t deadline = now_ns() + l->cfg.connect_timeout_ns;
	struct lb_err e = {0}, why;
	int rc = 0;

	if (l->fd < 0)
		rc = connect_host(l, deadline, &e);
	if (rc == 0)
		rc = handshake(l, deadline, &e);
	if (rc == 0 && is_closing(l, &why))
		rc = drain(l, &why, &e);
	if (rc == 0) {
		post(l, POST_UP, NULL, NULL);
		rc = pump(l, &e);
	}
	LB_ASSERT(rc != 0);
	(void)pthread_mutex_lock(&l->lock);
	l->closing = true;
	(void)pthread_mutex_unlock(&l->lock);
	SSL_free(l->ssl);
	l->ssl = NULL;
	if (l->fd >= 0)
		(void)close(l->fd);
	l->fd = -1;
	lb_buf_unref(l->payload);
	l->payload = NULL;
	OPENSSL_thread_stop();
	post(l, POST_DOWN, NULL, &e);
	return NULL;
}

static int link_start(struct rep_link **out, const struct rep_link_cfg *cfg, const char *host,
		      uint16_t port, int fd, struct lb_err *err)
{
	struct rep_link *l = calloc(1, sizeof(*l));
	int rc;

	if (l == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a link");
	l->cfg = *cfg;
	if (l->cfg.connect_timeout_ns == 0)
		l->cfg.connect_timeout_ns = CONNECT_NS;
	if (l->cfg.idle_timeout_ns == 0)
		l->cfg.idle_timeout_ns = IDLE_NS;
	if (l->cfg.max_queued_bytes == 0)
		l->cfg.max_queued_bytes = QUEUE_BYTES;
	l->refs = 1;
	l->fd = fd;
	l->port = port;
	(void)pthread_mutex_init(&l->lock, NULL);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0) {
		rc = lb_err_set(err, LB_EIO, errno, "make an eventfd");
		goto out;
	}
	l->host = host != NULL ? strdup(host) : NULL;
	if (host != NULL && l->host == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "allocate a link");
		goto out;
	}
	/* It blocks SIGPIPE too: OpenSSL writes without MSG_NOSIGNAL. */
	rc = lb_thread_start(&l->thread, link_main, l, "a link", err);
	if (rc != 0)
		goto out;
	*out = l;
	return 0;
out:
	if (l->wake_fd >= 0)
		(void)close(l->wake_fd);
	(void)pthread_mutex_destroy(&l->lock);
	free(l->host);
	free(l);
	return rc;
}

int rep_link_connect(struct rep_link **out, const struct rep_link_cfg *cfg, const char *host,
		     uint16_t port, struct lb_err *err)
{
	LB_ASSERT(!rep_tls_is_server(cfg->tls));
	return link_start(out, cfg, host, port, -1, err);
}

int rep_link_accept(struct rep_link **out, const struct rep_link_cfg *cfg, int fd,
		    struct lb_err *err)
{
	int flags = fcntl(fd, F_GETFL);

	LB_ASSERT(rep_tls_is_server(cfg->tls));
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return lb_err_set(err, LB_EIO, errno, "make a socket non-blocking");
	socket_options(fd);
	return link_start(out, cfg, NULL, 0, fd, err);
}

/* Append under the lock; the caller made the nodes. */
static void out_push(struct rep_link *l, struct out_piece *o, struct lb_buf *b)
{
	o->next = NULL;
	o->done = 0;
	o->buf = lb_buf_ref(b);
	if (l->last != NULL)
		l->last->next = o;
	else
		l->first = o;
	l->last = o;
	l->queued_bytes += b->len;
}

int rep_link_send2(struct rep_link *l, struct lb_buf *head, struct lb_buf *body, struct lb_err *err)
{
	struct out_piece *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
	size_t bytes = head->len + (body != NULL ? body->len : 0);
	bool was_empty = false;
	int rc = 0;

	if (a == NULL || b == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "queue a frame");
		goto out;
	}
	(void)pthread_mutex_lock(&l->lock);
	if (l->closing) {
		rc = lb_err_set(err, LB_ECLOSED, 0, "queue a frame: the connection is down");
	} else if (l->queued_bytes != 0 && l->queued_bytes + bytes > l->cfg.max_queued_bytes) {
		rc = lb_err_set(err, LB_EAGAIN, 0, "queue a frame: %zu bytes are waiting",
				l->queued_bytes);
	} else {
		was_empty = l->first == NULL;
		if (head->len != 0) {
			out_push(l, a, head);
			a = NULL;
		}
		if (body != NULL && body->len != 0) {
			out_push(l, b, body);
			b = NULL;
		}
	}
	(void)pthread_mutex_unlock(&l->lock);
	if (was_empty)
		wake(l);
out:
	free(a);
	free(b);
	return rc;
}

int rep_link_send(struct rep_link *l, struct lb_buf *frame, struct lb_err *err)
{
	return rep_link_send2(l, frame, NULL, err);
}

bool rep_link_was_up(const struct rep_link *l)
{
	return l->was_up;
}

uint64_t rep_link_sent_bytes(struct rep_link *l)
{
	return __atomic_load_n(&l->sent_bytes, __ATOMIC_RELAXED);
}

static void send_error(struct rep_link *l, const struct lb_err *why)
{
	struct rep_frame f = {.type = REP_FRAME_ERROR};
	struct lb_buf *b = NULL;

	f.error.code = why->code;
	(void)snprintf(f.error.text, sizeof(f.error.text), "%.160s", why->msg);
	if (rep_frame_encode(&b, &f, NULL) == 0)
		(void)rep_link_send(l, b, NULL);
	lb_buf_unref(b);
}

void rep_link_close(struct rep_link *l, const struct lb_err *why)
{
	if (why != NULL && why->code != 0)
		send_error(l, why);
	(void)pthread_mutex_lock(&l->lock);
	if (!l->closing && why != NULL)
		l->why = *why;
	l->closing = true;
	(void)pthread_mutex_unlock(&l->lock);
	wake(l);
}

void rep_link_destroy(struct rep_link *l)
{
	if (l == NULL)
		return;
	l->dropped = true;
	(void)pthread_mutex_lock(&l->lock);
	l->closing = true;
	l->abort = true;
	(void)pthread_mutex_unlock(&l->lock);
	wake(l);
	(void)pthread_join(l->thread, NULL);
	while (l->first != NULL)
		out_pop(l, l->first);
	link_unref(l);
}
