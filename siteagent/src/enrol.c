#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/thread.h"
#include "enrol_int.h"
#include "ident_priv.h"
#include "replicator/manifest.h"

/*
 * The side that has the CA.
 *
 *   closed --token [sa_enrol_token: opens the port]--> open --no valid token left [sweep]--> closed
 *
 * A listener thread accepts and closes; each connection has a thread of its own, so that a slow or
 * hostile one holds up nobody. A token is claimed under the lock before anything is made with it,
 * lives in RAM only (a restart forgets all of them: none is ever valid twice), and the peer it lets
 * in is durable, and the port closed again, before the answer goes out.
 */
enum {
	TOKENS_MAX = 16,
	CONNS_MAX = 8,
	CONNS_PER_HOST = 4,
	BURST = 32, /* connections at once, then one every REFILL_NS */
	SWEEP_MS = 1000,
};
#define REFILL_NS  UINT64_C(500000000)
#define TTL_MAX_NS (UINT64_C(900) * 1000000000)

struct token {
	struct lb_id secret;
	char name[SA_NAME_BYTES]; /* "": free */
	uint64_t expires_ns;
	bool renew; /* for a site that is enrolled, and stays who it is */
	bool used;
	bool busy; /* somebody is being admitted with it: its place is not given away */
};

struct conn {
	struct sa_enrol *e;
	pthread_t thread;
	bool started, done; /* started: to be joined */
	int fd;
	SSL_CTX *ctx; /* a reference */
	char host[INET6_ADDRSTRLEN];
};

/* Outlives sa_enrol: what was posted may run after sa_enrol_destroy(), and then does nothing. */
struct mailbox {
	atomic_uint refs;
	bool dead; /* loop's thread only */
	void (*on_joined)(void *arg, const struct sa_peer *p);
	void *arg;
};

struct message {
	struct mailbox *box;
	struct sa_peer peer;
};

struct sa_enrol {
	struct lb_env *env;
	struct lb_loop *loop;
	struct sa_ident *id;
	struct sa_addr enrol_addr, data_addr;
	struct mailbox *box;
	pthread_mutex_t lock;
	pthread_cond_t closed;
	/* under the lock: */
	struct token token[TOKENS_MAX];
	struct conn conn[CONNS_MAX];
	int listen_fd; /* -1: closed; only the listener thread closes it */
	bool stop;
	uint64_t refill_ns; /* rate limit: when the bucket is full again */
	/* */
	SSL_CTX *ctx; /* made of ctx_cert; under the lock */
	X509 *ctx_cert;
	int kick_fd;
	pthread_t thread;
	bool started;
};

/* ---- tokens; under the lock ---- */

static bool is_valid(const struct token *t, uint64_t now)
{
	return t->name[0] != '\0' && !t->used && now < t->expires_ns;
}

/* Also one that somebody is being admitted with: should our disk not take that, it is good again.
 */
static bool any_valid(const struct sa_enrol *e)
{
	uint64_t now = e->env->now_ns(e->env);

	for (size_t i = 0; i < TOKENS_MAX; i++) {
		if (is_valid(&e->token[i], now) || e->token[i].busy)
			return true;
	}
	return false;
}

/* A place for a new one: used and expired ones are kept as long as there is room, so that whoever
 * still holds one is told what became of it. */
static struct token *free_token(struct sa_enrol *e)
{
	uint64_t now = e->env->now_ns(e->env);
	struct token *oldest = NULL;

	for (size_t i = 0; i < TOKENS_MAX; i++) {
		struct token *t = &e->token[i];

		if (t->name[0] == '\0')
			return t;
		if (!is_valid(t, now) && !t->busy &&
		    (oldest == NULL || t->expires_ns < oldest->expires_ns))
			oldest = t;
	}
	return oldest;
}

static void kick(struct sa_enrol *e)
{
	(void)eventfd_write(e->kick_fd, 1);
}

/* Wait until the port is closed if no token keeps it open. */
static void settle(struct sa_enrol *e)
{
	while (e->listen_fd >= 0 && !e->stop && !any_valid(e)) {
		kick(e);
		(void)pthread_cond_wait(&e->closed, &e->lock);
	}
}

/* Claim the token of @r, or say in @why why not. Only who knows a token's secret learns more than
 * that none fits. */
static struct token *claim(struct sa_enrol *e, const struct sa_enrol_request *r,
			   const uint8_t *body, const uint8_t exporter[SA_EXPORTER_BYTES],
			   struct lb_err *why)
{
	uint64_t now = e->env->now_ns(e->env);
	struct token *t = NULL;

	for (size_t i = 0; i < TOKENS_MAX; i++) {
		if (e->token[i].name[0] != '\0' &&
		    sa_enrol_request_is_of(r, body, &e->token[i].secret, exporter))
			t = &e->token[i];
	}
	if (t == NULL)
		(void)lb_err_set(why, LB_EAUTH, 0, "no valid token fits");
	else if (t->used)
		(void)lb_err_set(why, LB_EAUTH, 0, "the token was used already");
	else if (now >= t->expires_ns)
		(void)lb_err_set(why, LB_EAUTH, 0, "the token has expired");
	else if (strcmp(t->name, r->name) != 0)
		(void)lb_err_set(why, LB_EAUTH, 0, "the token is for site %s, not %s", t->name,
				 r->name);
	else
		t->used = t->busy = true;
	return why->code == 0 ? t : NULL;
}

/* ---- one connection ---- */

struct visit {
	struct sa_enrol *e;
	struct sa_pipe pipe;
	struct sa_enrol_request request;
	struct sa_enrol_answer answer;
	struct sa_peer peer;
	bool renew;
	uint8_t body[SA_ENROL_FRAME_MAX];
	size_t len;
};

static int der_of(struct sa_der *out, X509 *cert, struct lb_err *err)
{
	uint8_t *der = NULL;
	size_t len = 0;
	int rc = sa_x509_der(&der, &len, cert, err);

	if (rc == 0 && len > sizeof(out->b))
		rc = lb_err_set(err, LB_EINVAL, 0, "a certificate of %zu bytes", len);
	if (rc == 0) {
		memcpy(out->b, der, len);
		out->len = len;
	}
	OPENSSL_free(der);
	return rc;
}

/* Who the site of @v is: a new one, or for a renewal the one that is enrolled. Its signing key is
 * what it is known by. */
static int identify(struct visit *v, struct lb_id *site, struct lb_err *err)
{
	const struct sa_peer *p;

	if (!v->renew) {
		lb_id_random(site, v->e->env);
		return 0;
	}
	p = sa_ident_peer_by_name(v->e->id, v->request.name);
	if (p == NULL)
		return lb_err_set(err, LB_EAUTH, 0, "site %s is not enrolled any more",
				  v->request.name);
	if (memcmp(p->key.b, v->request.key.b, sizeof(p->key.b)) != 0)
		return lb_err_set(
			err, LB_EAUTH, 0,
			"another site is enrolled as %s: this one has another signing key",
			v->request.name);
	*site = p->site;
	return 0;
}

static void fill_answer(struct visit *v, const struct sa_x509_subject *s)
{
	struct sa_ident *id = v->e->id;
	struct sa_enrol_answer *a = &v->answer;

	a->deployment = s->deployment;
	a->site = s->site;
	a->other.site = *sa_ident_site(id);
	(void)snprintf(a->other.name, sizeof(a->other.name), "%s", sa_ident_name(id));
	lb_signer_pubkey(sa_ident_signer(id), &a->other.key);
	a->other.addr = v->e->data_addr;
	v->peer.site = s->site;
	v->peer.key = v->request.key;
	v->peer.addr = v->request.addr;
	memcpy(v->peer.name, v->request.name, sizeof(v->peer.name));
}

/* Certificate and, of a new site, record. */
static int admit(struct visit *v, struct lb_err *err)
{
	struct sa_ident *id = v->e->id;
	struct sa_x509_subject s = {.deployment = *sa_ident_deployment(id),
				    .name = v->request.name};
	X509 *cert = NULL;
	int rc = sa_x509_request_read(&s.key, v->request.csr.b, v->request.csr.len, v->request.name,
				      err);

	if (rc == 0)
		rc = identify(v, &s.site, err);
	if (rc == 0)
		rc = sa_x509_site_new(&cert, sa_ident_ca(id), sa_ident_ca_key(id), &s, v->e->env,
				      err);
	if (rc == 0)
		rc = der_of(&v->answer.cert, cert, err);
	if (rc == 0)
		rc = der_of(&v->answer.ca, sa_ident_ca(id), err);
	fill_answer(v, &s);
	if (rc == 0 && !v->renew)
		rc = sa_ident_peer_add(id, &v->peer, err);
	X509_free(cert);
	EVP_PKEY_free(s.key);
	return rc;
}

static int decide(struct visit *v, struct lb_err *err)
{
	struct sa_enrol *e = v->e;
	uint8_t exporter[SA_EXPORTER_BYTES];
	struct token *t = NULL;
	int rc = sa_pipe_exporter(&v->pipe, exporter, err);

	if (rc == 0)
		rc = sa_enrol_request_decode(&v->request, v->body, v->len, err);
	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&e->lock);
	t = claim(e, &v->request, v->body, exporter, err);
	(void)pthread_mutex_unlock(&e->lock);
	OPENSSL_cleanse(exporter, sizeof(exporter));
	if (t == NULL)
		return LB_EAUTH;
	v->renew = t->renew;
	rc = admit(v, err);
	(void)pthread_mutex_lock(&e->lock);
	t->busy = false;
	if (rc != 0 && lb_err_class(rc) == LB_CLASS_LOCAL)
		t->used = false; /* our disk's fault, not theirs */
	settle(e);
	(void)pthread_mutex_unlock(&e->lock);
	return rc;
}

/* Tell the result. What could not be told did not happen: without the whole answer there is no site
 * with that certificate. */
static int answer(struct visit *v, int rc, struct lb_err *err)
{
	struct lb_err why = {0};
	int sent;

	if (rc != 0)
		(void)snprintf(v->answer.refusal, sizeof(v->answer.refusal), "%.150s",
			       rc == LB_EAUTH || rc == LB_EEXIST ? err->msg
								 : "it did not work here");
	sent = sa_enrol_answer_encode(v->body, sizeof(v->body), &v->len, &v->answer, &why);
	if (sent == 0)
		sent = sa_pipe_send(&v->pipe, v->body, v->len, &why);
	if (rc == 0 && sent != 0) {
		if (!v->renew)
			(void)sa_ident_peer_remove(v->e->id, v->peer.name, NULL);
		*err = why;
		rc = sent;
	}
	return rc;
}

static void box_unref(struct mailbox *box)
{
	if (atomic_fetch_sub(&box->refs, 1) == 1)
		free(box);
}

static void message_drop(void *arg)
{
	struct message *m = arg;

	box_unref(m->box);
	free(m);
}

static void message_run(void *arg)
{
	struct message *m = arg;

	if (!m->box->dead)
		m->box->on_joined(m->box->arg, &m->peer);
	message_drop(m);
}

static void post_joined(struct sa_enrol *e, const struct sa_peer *p)
{
	struct message *m = calloc(1, sizeof(*m));

	if (m == NULL) /* the peer is on record; a restart sees it */
		return;
	m->box = e->box;
	m->peer = *p;
	(void)atomic_fetch_add(&e->box->refs, 1);
	lb_loop_post_owned(e->loop, message_run, message_drop, m);
}

static int serve(struct visit *v, struct lb_err *err)
{
	int rc = sa_pipe_recv(&v->pipe, v->body, sizeof(v->body), &v->len, err);

	if (rc != 0)
		return rc;
	rc = decide(v, err);
	return answer(v, rc, err);
}

static void *conn_main(void *arg)
{
	struct conn *c = arg;
	struct sa_enrol *e = c->e;
	struct visit *v = calloc(1, sizeof(*v));
	struct lb_err err = {0};
	int rc = v == NULL ? lb_err_set(&err, LB_ENOMEM, 0, "serve a joining site") : 0;

	if (rc == 0) {
		v->e = e;
		rc = sa_pipe_open(&v->pipe, c->ctx, true, c->fd, e->env, &err);
	}
	if (rc == 0)
		rc = serve(v, &err);
	if (rc == 0 && v->renew)
		lb_log(LB_LOG_INFO, "enrol", "peer_renewed", "site=%s", v->peer.name, NULL);
	else if (rc == 0)
		post_joined(e, &v->peer);
	else
		lb_log(LB_LOG_WARN, "enrol", "enrol_refused", "from=%s", c->host, "code=%s",
		       lb_err_name(rc), "err=%s", err.msg, NULL);
	(void)pthread_mutex_lock(&e->lock);
	if (v != NULL && v->pipe.ssl != NULL)
		sa_pipe_close(&v->pipe);
	else
		(void)close(c->fd);
	c->fd = -1;
	SSL_CTX_free(c->ctx);
	c->ctx = NULL;
	c->done = true;
	(void)pthread_mutex_unlock(&e->lock);
	free(v);
	return NULL;
}

/* ---- the port ---- */

static int open_port(struct sa_enrol *e, struct lb_err *err)
{
	bool v6 = strchr(e->enrol_addr.host, ':') != NULL;
	struct sockaddr_storage sa;
	socklen_t len = sa_addr_sockaddr(&sa, &e->enrol_addr);
	const int on = 1;
	char text[96];
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return lb_err_errno(err, errno, "make a socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&sa, len) != 0 || listen(fd, CONNS_MAX) != 0) {
		int e2 = errno;

		(void)close(fd);
		return lb_err_set(err, e2 == EADDRINUSE ? LB_EBUSY : LB_EIO, e2, "listen at %s: %s",
				  sa_addr_text(&e->enrol_addr, text, sizeof(text)), strerror(e2));
	}
	e->listen_fd = fd;
	return 0;
}

static void host_of(char *out, const struct sockaddr_storage *sa)
{
	const void *at = sa->ss_family == AF_INET6
				 ? (const void *)&((const struct sockaddr_in6 *)sa)->sin6_addr
				 : (const void *)&((const struct sockaddr_in *)sa)->sin_addr;

	if (inet_ntop(sa->ss_family, at, out, INET6_ADDRSTRLEN) == NULL)
		(void)snprintf(out, INET6_ADDRSTRLEN, "?");
}

/* Under the lock. A leaky bucket: BURST at once, then one every REFILL_NS. */
static bool rate_allows(struct sa_enrol *e)
{
	uint64_t now = e->env->now_ns(e->env);

	if (e->refill_ns < now)
		e->refill_ns = now;
	if (e->refill_ns - now > (BURST - 1) * REFILL_NS)
		return false;
	e->refill_ns += REFILL_NS;
	return true;
}

/* Under the lock: a place for a connection from @host, ended ones joined; NULL: no more now. */
static struct conn *free_conn(struct sa_enrol *e, const char *host)
{
	struct conn *place = NULL;
	unsigned same = 0;

	for (size_t i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &e->conn[i];

		if (c->started && c->done) {
			(void)pthread_join(c->thread, NULL); /* its last act was to set done */
			c->started = false;
		}
		if (!c->started)
			place = c;
		else if (strcmp(c->host, host) == 0)
			same++;
	}
	return same < CONNS_PER_HOST ? place : NULL;
}

static void accept_one(struct sa_enrol *e, int listen_fd)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(sa);
	char host[INET6_ADDRSTRLEN];
	int fd = accept4(listen_fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct conn *c;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			(void)poll(NULL, 0, 100); /* it stays readable: do not spin on it */
		return;
	}
	host_of(host, &sa);
	(void)pthread_mutex_lock(&e->lock);
	c = rate_allows(e) ? free_conn(e, host) : NULL;
	if (c != NULL) {
		*c = (struct conn){.e = e, .fd = fd, .ctx = e->ctx};
		memcpy(c->host, host, sizeof(host));
		(void)SSL_CTX_up_ref(c->ctx);
		c->started = lb_thread_start(&c->thread, conn_main, c, "a visit", NULL) == 0;
		if (!c->started)
			SSL_CTX_free(c->ctx);
	}
	if (c == NULL || !c->started)
		(void)close(fd);
	(void)pthread_mutex_unlock(&e->lock);
}

/* Close the port when nothing keeps it open. Returns it, or -1. */
static int sweep(struct sa_enrol *e)
{
	int fd;

	(void)pthread_mutex_lock(&e->lock);
	if (e->listen_fd >= 0 && (e->stop || !any_valid(e))) {
		(void)close(e->listen_fd);
		e->listen_fd = -1;
		(void)pthread_cond_broadcast(&e->closed);
	}
	fd = e->stop ? -2 : e->listen_fd;
	(void)pthread_mutex_unlock(&e->lock);
	return fd;
}

static void *listen_main(void *arg)
{
	struct sa_enrol *e = arg;
	int fd;

	while ((fd = sweep(e)) != -2) {
		struct pollfd p[2] = {{.fd = e->kick_fd, .events = POLLIN},
				      {.fd = fd, .events = POLLIN}};
		eventfd_t kicks;

		if (poll(p, fd >= 0 ? 2 : 1, fd >= 0 ? SWEEP_MS : -1) <= 0)
			continue;
		if ((p[0].revents & POLLIN) != 0)
			(void)eventfd_read(e->kick_fd, &kicks);
		if (fd >= 0 && (p[1].revents & POLLIN) != 0)
			accept_one(e, fd);
	}
	return NULL;
}

/* ---- for the agent ---- */

/* NOLINTNEXTLINE(readability-function-size): a callback and its argument are one thing */
int sa_enrol_create(struct sa_enrol **out, struct lb_env *env, struct lb_loop *loop,
		    struct sa_ident *id, const struct sa_config *cfg,
		    void (*on_joined)(void *arg, const struct sa_peer *p), void *arg,
		    struct lb_err *err)
{
	struct sa_enrol *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "enrolment");
	e->env = env;
	e->loop = loop;
	e->id = id;
	e->enrol_addr = cfg->enrol_listen;
	e->data_addr = cfg->listen;
	e->listen_fd = -1;
	e->box = calloc(1, sizeof(*e->box));
	e->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (e->box == NULL || e->kick_fd < 0 || pthread_mutex_init(&e->lock, NULL) != 0 ||
	    pthread_cond_init(&e->closed, NULL) != 0) {
		if (e->kick_fd >= 0)
			(void)close(e->kick_fd);
		free(e->box);
		free(e);
		return lb_err_set(err, LB_ENOMEM, 0, "enrolment");
	}
	*e->box = (struct mailbox){.on_joined = on_joined, .arg = arg};
	atomic_store(&e->box->refs, 1);
	*out = e;
	return 0;
}

void sa_enrol_destroy(struct sa_enrol *e)
{
	if (e == NULL)
		return;
	e->box->dead = true;
	(void)pthread_mutex_lock(&e->lock);
	e->stop = true;
	(void)pthread_cond_broadcast(&e->closed);
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (e->conn[i].started && !e->conn[i].done)
			(void)shutdown(e->conn[i].fd, SHUT_RDWR);
	}
	kick(e);
	(void)pthread_mutex_unlock(&e->lock);
	if (e->started)
		(void)pthread_join(e->thread, NULL);
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (e->conn[i].started)
			(void)pthread_join(e->conn[i].thread, NULL);
	}
	SSL_CTX_free(e->ctx);
	(void)close(e->kick_fd);
	(void)pthread_cond_destroy(&e->closed);
	(void)pthread_mutex_destroy(&e->lock);
	box_unref(e->box);
	OPENSSL_cleanse(e, sizeof(*e));
	free(e);
}

/* Is @peer_name somebody such a token can be for? */
static int check_peer(struct sa_enrol *e, const char *peer_name, bool renew, struct lb_err *err)
{
	bool enrolled;

	if (!rep_name_valid(peer_name) || strcmp(peer_name, sa_ident_name(e->id)) == 0)
		return lb_err_set(err, LB_EINPUT, 0, "\"%.64s\" is not the name of another site",
				  peer_name);
	enrolled = sa_ident_peer_by_name(e->id, peer_name) != NULL;
	if (enrolled && !renew)
		return lb_err_set(err, LB_EEXIST, 0, "site %s is enrolled already", peer_name);
	if (!enrolled && renew)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no site %s is enrolled", peer_name);
	return 0;
}

static int check_ask(struct sa_enrol *e, uint64_t ttl_ns, struct lb_err *err)
{
	if (!sa_ident_ready(e->id))
		return lb_err_set(err, LB_EINPUT, 0,
				  "this site has no identity yet: lifeboat site init");
	if (sa_ident_ca_key(e->id) == NULL)
		return lb_err_set(
			err, LB_EUNSUPPORTED, 0,
			"this site does not hold the deployment's CA: make the token where "
			"it was created");
	if (e->enrol_addr.port == 0)
		return lb_err_set(
			err, LB_EINPUT, 0,
			"\"enrol_listen\" is not configured: joining sites have nowhere to "
			"connect to");
	if (ttl_ns == 0 || ttl_ns > TTL_MAX_NS)
		return lb_err_set(err, LB_EINPUT, 0, "a token is valid for at most 15 minutes");
	return 0;
}

/* Under the lock: TLS of the certificate we have now. */
static int renew_ctx(struct sa_enrol *e, struct lb_err *err)
{
	X509 *cert = sa_ident_cert(e->id);
	SSL_CTX *ctx = NULL;
	int rc;

	if (e->ctx_cert == cert)
		return 0;
	rc = sa_enrol_tls_ctx(&ctx, cert, sa_ident_key(e->id), sa_ident_ca(e->id), err);
	if (rc != 0)
		return rc;
	SSL_CTX_free(e->ctx);
	e->ctx = ctx;
	e->ctx_cert = cert;
	return 0;
}

/* Under the lock: port and threads, if they are not there yet. */
static int ensure_open(struct sa_enrol *e, struct lb_err *err)
{
	int rc = renew_ctx(e, err);

	if (rc == 0 && e->listen_fd < 0)
		rc = open_port(e, err);
	if (rc == 0 && !e->started) {
		rc = lb_thread_start(&e->thread, listen_main, e, "enrolment", err);
		e->started = rc == 0;
		if (!e->started) {
			(void)close(e->listen_fd);
			e->listen_fd = -1;
		}
	}
	return rc;
}

static int make_token(struct sa_enrol *e, const struct token *is, char *out, size_t out_bytes,
		      struct lb_err *err)
{
	struct sa_token text = {.addr = e->enrol_addr};
	struct token *t;
	int rc = sa_x509_hash(&text.ca, sa_ident_ca(e->id), err);

	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&e->lock);
	settle(e); /* a port that is about to close does, before it is opened again */
	t = free_token(e);
	rc = t == NULL ? lb_err_set(err, LB_EBUSY, 0, "%d tokens are valid already", TOKENS_MAX)
		       : ensure_open(e, err);
	if (rc == 0) {
		lb_id_random(&text.secret, e->env);
		*t = *is;
		t->secret = text.secret;
		(void)sa_token_text(&text, out, out_bytes);
		kick(e);
	}
	(void)pthread_mutex_unlock(&e->lock);
	OPENSSL_cleanse(&text, sizeof(text));
	return rc;
}

static int ask_token(struct sa_enrol *e, const char *peer_name, uint64_t ttl_ns, bool renew,
		     char *out, size_t out_bytes, struct lb_err *err)
{
	struct token is = {.expires_ns = e->env->now_ns(e->env) + ttl_ns, .renew = renew};
	int rc = check_ask(e, ttl_ns, err);

	if (rc == 0)
		rc = check_peer(e, peer_name, renew, err);
	(void)snprintf(is.name, sizeof(is.name), "%s", peer_name);
	return rc == 0 ? make_token(e, &is, out, out_bytes, err) : rc;
}

int sa_enrol_token(struct sa_enrol *e, const char *peer_name, uint64_t ttl_ns, char *out,
		   size_t out_bytes, struct lb_err *err)
{
	return ask_token(e, peer_name, ttl_ns, false, out, out_bytes, err);
}

int sa_enrol_token_renew(struct sa_enrol *e, const char *peer_name, uint64_t ttl_ns, char *out,
			 size_t out_bytes, struct lb_err *err)
{
	return ask_token(e, peer_name, ttl_ns, true, out, out_bytes, err);
}

bool sa_enrol_listening(const struct sa_enrol *e)
{
	struct sa_enrol *me = (struct sa_enrol *)e; /* for its lock */
	bool open;

	(void)pthread_mutex_lock(&me->lock);
	settle(me);
	open = me->listen_fd >= 0;
	(void)pthread_mutex_unlock(&me->lock);
	return open;
}
