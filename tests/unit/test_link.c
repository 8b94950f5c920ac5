#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/loop.h"
#include "check.h"
#include "replicator/link.h"
#include "testca.h"

/*
 * Two links, or a link and a bare OpenSSL client, over loopback. The certificates live in one
 * directory: "ca", "a" and "b" are good, the others each have one fault.
 */
struct fixture {
	char dir[64];
	struct lb_id deployment, other, site_a, site_b;
	struct lb_loop *loop;
	struct rep_tls *server, *client;
	int listener;
	uint16_t port;
};

/* One end and what it saw. */
struct end {
	struct fixture *x;
	struct rep_link *link;
	bool up, down;
	struct lb_id peer;
	struct lb_err err;
	unsigned frames, wanted; /* the loop stops at that many */
	uint64_t bytes;
	struct lb_hash leaf;
	uint32_t last_number;
	enum rep_frame_type last_type;
};

static const char *path(struct fixture *x, const char *name, const char *suffix)
{
	static _Thread_local char text[3][128];
	static _Thread_local unsigned turn;
	char *out = text[turn++ % 3];

	(void)snprintf(out, 128, "%s/%s.%s", x->dir, name, suffix);
	return out;
}

static int tls(struct fixture *x, struct rep_tls **out, bool server, const char *name,
	       struct lb_err *err)
{
	return rep_tls_create(out, server, &x->deployment, path(x, "ca", "pem"),
			      path(x, name, "pem"), path(x, name, "key"), err);
}

static void make_certs(struct fixture *x)
{
	struct testca *ca = testca_create(x->dir, "ca"), *foreign = testca_create(x->dir, "evil");

	testca_issue(ca, "a", &x->deployment, &x->site_a, -60, 3600);
	testca_issue(ca, "b", &x->deployment, &x->site_b, -60, 3600);
	testca_issue(ca, "expired", &x->deployment, &x->site_a, -7200, -3600);
	testca_issue(ca, "early", &x->deployment, &x->site_a, 3600, 7200);
	testca_issue(ca, "nameless", &x->deployment, NULL, -60, 3600);
	testca_issue(ca, "elsewhere", &x->other, &x->site_a, -60, 3600);
	testca_issue(foreign, "foreign", &x->deployment, &x->site_a, -60, 3600);
	testca_destroy(ca);
	testca_destroy(foreign);
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	assert_non_null(x);
	(void)snprintf(x->dir, sizeof(x->dir), "/tmp/lb-test-link-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	lb_id_random(&x->deployment, lb_env_real());
	lb_id_random(&x->other, lb_env_real());
	lb_id_random(&x->site_a, lb_env_real());
	lb_id_random(&x->site_b, lb_env_real());
	make_certs(x);
	assert_int_equal(lb_loop_create(&x->loop, NULL), 0);
	assert_int_equal(tls(x, &x->server, true, "b", NULL), 0);
	assert_int_equal(tls(x, &x->client, false, "a", NULL), 0);
	x->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(x->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(x->listener, 8), 0);
	assert_int_equal(getsockname(x->listener, (struct sockaddr *)&a, &len), 0);
	x->port = ntohs(a.sin_port);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	char cmd[96];

	rep_tls_destroy(x->server);
	rep_tls_destroy(x->client);
	lb_loop_destroy(x->loop);
	(void)close(x->listener);
	(void)snprintf(cmd, sizeof(cmd), "rm -r %s", x->dir);
	assert_int_equal(system(cmd), 0);
	free(x);
	return 0;
}

static void on_up(void *arg, struct rep_link *l, const struct lb_id *peer)
{
	struct end *e = arg;

	(void)l;
	assert_false(e->up || e->down);
	e->up = true;
	e->peer = *peer;
	if (e->wanted == 0)
		lb_loop_stop(e->x->loop);
}

static void on_frame(void *arg, struct rep_link *l, struct rep_link_frame *f)
{
	struct end *e = arg;
	struct rep_frame d;

	(void)l;
	assert_true(e->up && !e->down);
	assert_int_equal(rep_frame_decode(&d, f->type, f->payload->p, f->payload->len, NULL), 0);
	if (f->type == REP_FRAME_RECORD) {
		assert_true(e->frames == 0 || d.record.number == e->last_number + 1);
		e->last_number = d.record.number;
		lb_merkle_leaf(&e->leaf, d.record.body, d.record.bytes);
		assert_true(lb_hash_equal(&e->leaf, &f->leaf));
	}
	e->last_type = f->type;
	e->bytes += f->payload->len;
	lb_buf_unref(f->payload);
	if (++e->frames == e->wanted)
		lb_loop_stop(e->x->loop);
}

static void on_down(void *arg, struct rep_link *l, const struct lb_err *err)
{
	struct end *e = arg;

	(void)l;
	assert_false(e->down);
	e->down = true;
	e->err = *err;
	lb_loop_stop(e->x->loop);
}

static struct rep_link_cfg cfg_of(struct end *e, struct rep_tls *t)
{
	return (struct rep_link_cfg){.loop = e->x->loop,
				     .tls = t,
				     .on_up = on_up,
				     .on_frame = on_frame,
				     .on_down = on_down,
				     .arg = e};
}

static void end_accept(struct end *e)
{
	struct rep_link_cfg cfg = cfg_of(e, e->x->server);
	int fd = accept4(e->x->listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(rep_link_accept(&e->link, &cfg, fd, NULL), 0);
}

static void pair(struct end *c, struct end *s)
{
	struct rep_link_cfg cfg = cfg_of(c, c->x->client);

	assert_int_equal(rep_link_connect(&c->link, &cfg, "127.0.0.1", c->x->port, NULL), 0);
	end_accept(s);
	while (!c->up || !s->up) {
		assert_int_equal(lb_loop_run(c->x->loop, NULL), 0);
		assert_false(c->down || s->down);
	}
}

/* A RECORD frame in two pieces: what comes before the body, and the body. */
static void record(struct lb_buf **head, struct lb_buf **body, uint32_t number, uint32_t bytes)
{
	struct rep_frame f = {.type = REP_FRAME_RECORD};

	assert_int_equal(lb_buf_create(body, bytes, NULL), 0);
	for (uint32_t i = 0; i < bytes; i++)
		(*body)->p[i] = (uint8_t)(i * 7 + number);
	(*body)->len = bytes;
	f.record.kind = REP_RECORD_PACK;
	f.record.number = number;
	f.record.layer.b[0] = 1;
	f.record.body = (*body)->p;
	f.record.bytes = bytes;
	assert_int_equal(rep_frame_encode_record_head(head, &f.record, NULL), 0);
}

static void test_frames(void **state)
{
	struct fixture *x = *state;
	struct end c = {.x = x}, s = {.x = x};
	static const uint32_t sizes[] = {1, 100, 4096, 16384, 16385, 65536, 262144 + 64, 1u << 20};
	uint64_t sum = 0;

	pair(&c, &s);
	assert_true(lb_id_equal(&c.peer, &x->site_b) && lb_id_equal(&s.peer, &x->site_a));
	s.wanted = 64;
	for (unsigned i = 0; i < 64; i++) {
		struct lb_buf *head = NULL, *body = NULL;

		record(&head, &body, i, sizes[i % 8]);
		assert_int_equal(rep_link_send2(c.link, head, body, NULL), 0);
		sum += head->len + body->len - REP_FRAME_HEADER_BYTES;
		lb_buf_unref(head);
		lb_buf_unref(body);
	}
	assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_int_equal(s.frames, 64);
	assert_true(s.bytes == sum && !s.down && !c.down);
	assert_true(rep_link_sent_bytes(c.link) == sum + (uint64_t)64 * REP_FRAME_HEADER_BYTES);
	rep_link_destroy(c.link);
	while (!s.down)
		assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_int_equal(s.err.code, LB_ECLOSED);
	rep_link_destroy(s.link);
}

static void test_close_says_why(void **state)
{
	struct fixture *x = *state;
	struct end c = {.x = x}, s = {.x = x};
	struct lb_err why;
	struct lb_buf *b = NULL;
	struct rep_frame f = {.type = REP_FRAME_PING};

	pair(&c, &s);
	c.wanted = 100;
	(void)lb_err_set(&why, LB_EPROTO, 0, "too many widgets");
	rep_link_close(s.link, &why);
	while (!c.down || !s.down)
		assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_int_equal(c.frames, 1);
	assert_int_equal(c.last_type, REP_FRAME_ERROR);
	assert_non_null(strstr(s.err.msg, "too many widgets"));
	assert_int_equal(rep_frame_encode(&b, &f, NULL), 0);
	assert_int_equal(rep_link_send(c.link, b, NULL), LB_ECLOSED);
	lb_buf_unref(b);
	rep_link_destroy(c.link);
	rep_link_destroy(s.link);
}

static void test_queue_is_bounded(void **state)
{
	struct fixture *x = *state;
	struct end c = {.x = x};
	struct rep_link_cfg cfg = cfg_of(&c, x->client);
	struct lb_buf *head = NULL, *body = NULL;

	cfg.max_queued_bytes = 1 << 20;
	assert_int_equal(rep_link_connect(&c.link, &cfg, "127.0.0.1", x->port, NULL), 0);
	record(&head, &body, 0, 600000);
	assert_int_equal(rep_link_send2(c.link, head, body, NULL), 0); /* nobody answers yet */
	assert_int_equal(rep_link_send2(c.link, head, body, NULL), LB_EAGAIN);
	lb_buf_unref(head);
	lb_buf_unref(body);
	rep_link_destroy(c.link);
}

static void test_nobody_listens(void **state)
{
	struct fixture *x = *state;
	struct end c = {.x = x};
	struct rep_link_cfg cfg = cfg_of(&c, x->client);

	(void)close(x->listener);
	x->listener = -1;
	assert_int_equal(rep_link_connect(&c.link, &cfg, "127.0.0.1", x->port, NULL), 0);
	while (!c.down)
		assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_int_equal(c.err.code, LB_ECLOSED);
	assert_non_null(strstr(c.err.msg, "Connection refused"));
	rep_link_destroy(c.link);
}

static void test_own_certificate(void **state)
{
	static const struct {
		const char *name, *text;
	} bad[] = {{"nameless", "does not name a site"},
		   {"elsewhere", "does not name a site"},
		   {"foreign", "foreign CA"},
		   {"missing", "no readable PEM certificate"}};
	struct fixture *x = *state;
	struct rep_tls *t = NULL;
	struct lb_err err = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(tls(x, &t, false, bad[i].name, &err), LB_EINPUT);
		assert_null(t);
		if (strstr(err.msg, bad[i].text) == NULL ||
		    strstr(err.msg, path(x, bad[i].name, "pem")) == NULL)
			fail_msg("%s: %s", bad[i].name, err.msg);
	}
	assert_int_equal(rep_tls_create(&t, true, &x->deployment, path(x, "ca", "pem"),
					path(x, "a", "pem"), path(x, "b", "key"), &err),
			 LB_EINPUT);
	assert_non_null(strstr(err.msg, "fits"));
}

/* A client that is not ours: whatever certificate, whatever version. */
struct bare {
	struct fixture *x;
	const char *cert; /* NULL: none */
	int max_version;
	pthread_t thread;
};

static void *bare_main(void *arg)
{
	struct bare *b = arg;
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				.sin_port = htons(b->x->port)};
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte;
	SSL *ssl;

	if (b->cert != NULL) {
		(void)SSL_CTX_use_certificate_file(ctx, path(b->x, b->cert, "pem"),
						   SSL_FILETYPE_PEM);
		(void)SSL_CTX_use_PrivateKey_file(ctx, path(b->x, b->cert, "key"),
						  SSL_FILETYPE_PEM);
	}
	if (b->max_version != 0)
		(void)SSL_CTX_set_max_proto_version(ctx, b->max_version);
	(void)connect(fd, (struct sockaddr *)&a, sizeof(a));
	ssl = SSL_new(ctx);
	(void)SSL_set_fd(ssl, fd);
	if (SSL_connect(ssl) == 1)
		(void)SSL_read(ssl, &byte, 1);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	(void)close(fd);
	ERR_clear_error();
	OPENSSL_thread_stop();
	return NULL;
}

static void refused(struct fixture *x, const char *cert, int max_version, const char *text)
{
	struct bare b = {.x = x, .cert = cert, .max_version = max_version};
	struct end s = {.x = x, .wanted = 1};

	assert_int_equal(pthread_create(&b.thread, NULL, bare_main, &b), 0);
	end_accept(&s);
	while (!s.down)
		assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_false(s.up);
	rep_link_destroy(s.link);
	(void)pthread_join(b.thread, NULL);
	if (strstr(s.err.msg, text) == NULL)
		fail_msg("%s: %s, expected %s", cert != NULL ? cert : "none", s.err.msg, text);
}

static void test_peer_certificate(void **state)
{
	struct fixture *x = *state;

	refused(x, "expired", 0, "peer's certificate has expired");
	refused(x, "early", 0, "not valid yet");
	refused(x, "foreign", 0, "foreign CA");
	refused(x, "elsewhere", 0, "does not name exactly one site");
	refused(x, "nameless", 0, "does not name exactly one site");
	refused(x, NULL, 0, "gave no certificate");
	refused(x, "a", TLS1_2_VERSION, "unsupported protocol");
}

/* Connect a link of @client to one of @x->server until both are up or down. */
static void pair_meets(struct fixture *x, struct rep_tls *client, struct end *c, struct end *s)
{
	struct rep_link_cfg cfg;

	*c = (struct end){.x = x};
	*s = (struct end){.x = x};
	cfg = cfg_of(c, client);
	assert_int_equal(rep_link_connect(&c->link, &cfg, "127.0.0.1", x->port, NULL), 0);
	end_accept(s);
	while (!(c->up || c->down) || !(s->up || s->down) || (s->down && !c->down))
		assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	rep_link_destroy(c->link);
	rep_link_destroy(s->link);
}

/* A site whose certificate has ended, or whose clock is wrong, starts all the same; peers refuse
 * it, both ends are told why, and with another certificate it is let in by the same object. */
static void test_out_of_time(void **state)
{
	static const struct {
		const char *name, *there, *here;
	} bad[] = {{"expired", "peer's certificate has expired", "our certificate has expired"},
		   {"early", "peer's certificate is not valid yet (clock?)",
		    "refuses our certificate"}};
	struct fixture *x = *state;
	struct rep_tls *t = NULL;
	struct lb_err err = {0};
	struct end c, s;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(tls(x, &t, false, bad[i].name, &err), 0);
		pair_meets(x, t, &c, &s);
		assert_true(s.down && c.down && !s.up);
		assert_int_equal(s.err.code, LB_EAUTH);
		assert_int_equal(c.err.code, LB_EAUTH);
		if (strstr(s.err.msg, bad[i].there) == NULL ||
		    strstr(c.err.msg, bad[i].here) == NULL)
			fail_msg("%s: %s; %s", bad[i].name, s.err.msg, c.err.msg);
		assert_int_equal(rep_tls_reload(t, path(x, "ca", "pem"), path(x, "foreign", "pem"),
						path(x, "foreign", "key"), &err),
				 LB_EINPUT);
		assert_int_equal(rep_tls_reload(t, path(x, "ca", "pem"), path(x, "a", "pem"),
						path(x, "a", "key"), &err),
				 0);
		pair_meets(x, t, &c, &s);
		assert_true(s.up && c.up);
		rep_tls_destroy(t);
	}
}

/* The client learns by an alert what the server thinks of it. */
static void test_told_by_alert(void **state)
{
	struct fixture *x = *state;
	struct end c = {.x = x, .wanted = 1}, s = {.x = x, .wanted = 1};
	struct rep_tls *theirs = NULL;
	struct rep_link_cfg cfg;
	int fd;

	/* A server of another deployment under the same CA. */
	assert_int_equal(rep_tls_create(&theirs, true, &x->other, path(x, "ca", "pem"),
					path(x, "elsewhere", "pem"), path(x, "elsewhere", "key"),
					NULL),
			 0);
	cfg = cfg_of(&c, x->client);
	assert_int_equal(rep_link_connect(&c.link, &cfg, "127.0.0.1", x->port, NULL), 0);
	fd = accept4(x->listener, NULL, NULL, SOCK_CLOEXEC);
	cfg = cfg_of(&s, theirs);
	assert_int_equal(rep_link_accept(&s.link, &cfg, fd, NULL), 0);
	while (!c.down || !s.down)
		assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_int_equal(c.err.code, LB_EAUTH);
	assert_non_null(strstr(c.err.msg, "does not name exactly one site"));
	assert_int_equal(s.err.code, LB_EAUTH);
	assert_non_null(strstr(s.err.msg, "peer refuses our certificate"));
	rep_link_destroy(c.link);
	rep_link_destroy(s.link);
	rep_tls_destroy(theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_says_why, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_listens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_of_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told_by_alert, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
