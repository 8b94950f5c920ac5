/*
 * Identity and enrolment: two sites in one process over real TLS on loopback. The clock of both is
 * the test's; ports are the kernel's choice.
 */
#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "check.h"
#include "enrol_int.h"
#include "ident_priv.h"
#include "replicator/link.h"

#define MINUTE_NS UINT64_C(60000000000)
#define DAY_NS    (UINT64_C(86400) * 1000000000)

/* A real environment whose clocks the test moves forward. */
struct test_env {
	struct lb_env env;
	atomic_uint_least64_t skew_ns;
	atomic_uint
		full_at; /* tokyo's disk takes no peer from the n-th random number on; 0: never */
};

static uint64_t env_now(struct lb_env *env)
{
	return UINT64_C(1000000000000) + atomic_load(&((struct test_env *)env)->skew_ns);
}

static uint64_t env_wall(struct lb_env *env)
{
	return lb_env_real()->wall_ns(lb_env_real()) +
	       atomic_load(&((struct test_env *)env)->skew_ns);
}

struct world;
static void fill_disk(struct world *w);

static void env_random(struct lb_env *env, void *p, size_t len)
{
	struct test_env *e = (struct test_env *)env;

	if (atomic_load(&e->full_at) > 0 && atomic_fetch_sub(&e->full_at, 1) == 1)
		fill_disk((struct world *)env);
	lb_env_real()->random(lb_env_real(), p, len);
}

struct world {
	struct test_env env;
	char dir[64];
	char home[2][96]; /* state directories of tokyo and osaka */
	struct lb_loop *loop;
	struct sa_config cfg; /* tokyo's */
	struct sa_ident *tokyo, *osaka;
	struct sa_enrol *enrol;
	struct sa_peer joined;
	unsigned joins;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static struct sa_ident *open_ident(struct world *w, const char *dir, const char *name)
{
	struct lb_err err = {0};
	struct sa_ident *id = NULL;

	must(sa_ident_open(&id, &w->env.env, dir, name, &err), &err);
	return id;
}

static uint16_t free_port(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(close(fd), 0);
	return ntohs(sa.sin_port);
}

static void on_joined(void *arg, const struct sa_peer *p)
{
	struct world *w = arg;

	w->joined = *p;
	w->joins++;
	lb_loop_stop(w->loop);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	w->env.env = (struct lb_env){.now_ns = env_now, .wall_ns = env_wall, .random = env_random};
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb-test-ident-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->home[0], sizeof(w->home[0]), "%s/tokyo", w->dir);
	(void)snprintf(w->home[1], sizeof(w->home[1]), "%s/osaka", w->dir);
	must(lb_loop_create(&w->loop, &err), &err);
	w->tokyo = open_ident(w, w->home[0], "tokyo");
	w->osaka = open_ident(w, w->home[1], "osaka");
	must(sa_ident_init(w->tokyo, &err), &err);
	(void)snprintf(w->cfg.enrol_listen.host, SA_HOST_BYTES, "127.0.0.1");
	w->cfg.enrol_listen.port = free_port();
	(void)snprintf(w->cfg.listen.host, SA_HOST_BYTES, "192.0.2.1");
	w->cfg.listen.port = 7400;
	must(sa_enrol_create(&w->enrol, &w->env.env, w->loop, w->tokyo, &w->cfg, on_joined, w,
			     &err),
	     &err);
	*state = w;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct world *w = *state;

	sa_enrol_destroy(w->enrol);
	sa_ident_close(w->osaka);
	sa_ident_close(w->tokyo);
	lb_loop_destroy(w->loop);
	assert_int_equal(nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(ERR_peek_error(), 0); /* nothing is left for the next TLS call to find */
	free(w);
	return 0;
}

static void make_token(struct world *w, const char *name, char *out)
{
	struct lb_err err = {0};

	must(sa_enrol_token(w->enrol, name, 15 * MINUTE_NS, out, SA_TOKEN_TEXT_BYTES, &err), &err);
}

static void join_refused(struct world *w, const char *token, int code, const char *says)
{
	struct lb_err err = {0};
	int rc = sa_enrol_join(w->osaka, token, NULL, &err);

	if (rc != code || strstr(err.msg, says) == NULL)
		fail_msg("expected %s \"%s\", got %s \"%s\"", lb_err_name(code), says,
			 lb_err_name(rc), err.msg);
	assert_false(sa_ident_ready(w->osaka));
	assert_int_equal(sa_ident_peer_count(w->osaka), 0);
}

/* ---- identity ---- */

static void test_open_without(void **state)
{
	struct world *w = *state;

	assert_false(sa_ident_ready(w->osaka));
	assert_true(sa_ident_cert_left_s(w->osaka) < 0);
	assert_true(sa_ident_ready(w->tokyo));
	assert_int_equal(sa_ident_init(w->tokyo, NULL), LB_EEXIST);
	assert_false(sa_enrol_listening(w->enrol));
}

static void check_private(const char *dir, const char *name)
{
	char path[200];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/ident/%s", dir, name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

/* Closed and opened again it is the same site; keys are the owner's only. */
static void test_reopen(void **state)
{
	struct world *w = *state;
	struct lb_id deployment = *sa_ident_deployment(w->tokyo), site = *sa_ident_site(w->tokyo);
	struct lb_key kek = *sa_ident_kek(w->tokyo);
	struct lb_pubkey a, b;
	struct sa_ident *again;

	lb_signer_pubkey(sa_ident_signer(w->tokyo), &a);
	again = open_ident(w, w->home[0], "tokyo");
	assert_true(sa_ident_ready(again));
	assert_true(lb_id_equal(&deployment, sa_ident_deployment(again)));
	assert_true(lb_id_equal(&site, sa_ident_site(again)));
	assert_memory_equal(&kek, sa_ident_kek(again), sizeof(kek));
	lb_signer_pubkey(sa_ident_signer(again), &b);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_non_null(sa_ident_ca_key(again));
	sa_ident_close(again);
	check_private(w->home[0], "ca.key");
	check_private(w->home[0], "site.key");
	check_private(w->home[0], "sign.key");
	check_private(w->home[0], "kek.key");
	assert_true(sa_ident_cert_left_s(w->tokyo) > 397 * 86400);
	atomic_store(&w->env.skew_ns, 399 * DAY_NS);
	assert_true(sa_ident_cert_left_s(w->tokyo) < 0);
}

static void open_fails(struct world *w, const char *name, int code, const char *says)
{
	struct lb_err err = {0};
	struct sa_ident *id = NULL;
	int rc = sa_ident_open(&id, &w->env.env, w->home[0], name, &err);

	if (rc != code || strstr(err.msg, says) == NULL)
		fail_msg("expected %s \"%s\", got %s \"%s\"", lb_err_name(code), says,
			 lb_err_name(rc), err.msg);
	assert_null(id);
}

static void spoil(struct world *w, const char *file, const char *text, int code, const char *says)
{
	char path[200], keep[210];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/ident/%s", w->home[0], file);
	(void)snprintf(keep, sizeof(keep), "%s.keep", path);
	assert_int_equal(rename(path, keep), 0);
	if (text != NULL) {
		f = fopen(path, "w");
		assert_non_null(f);
		assert_true(fputs(text, f) >= 0);
		assert_int_equal(fclose(f), 0);
	}
	open_fails(w, "tokyo", code, says);
	assert_int_equal(rename(keep, path), 0);
}

static void test_damaged(void **state)
{
	struct world *w = *state;
	struct sa_ident *other;
	char path[200];

	open_fails(w, "kyoto", LB_EINPUT, "state directory is of site tokyo");
	open_fails(w, "../x", LB_EINPUT, "not a site's name");
	spoil(w, "site.json", "{", LB_ECORRUPT, "site.json");
	spoil(w, "site.json",
	      "{\"version\": 2, \"deployment\": \"\", \"site\": \"\", \"name\": \"\"}", LB_EVERSION,
	      "version 2");
	spoil(w, "ca.pem", "x", LB_ECORRUPT, "ca.pem");
	spoil(w, "ca.pem", NULL, LB_ECORRUPT, "ca.pem is missing");
	spoil(w, "site.key", "x", LB_ECORRUPT, "site.key");
	spoil(w, "sign.key", "short", LB_ECORRUPT, "sign.key: 5 bytes");
	spoil(w, "kek.key", "", LB_ECORRUPT, "kek.key: 0 bytes");
	/* a certificate of another CA under our keys */
	other = w->osaka;
	assert_int_equal(sa_ident_init(other, NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/ident/site.pem", w->home[0]);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(link(sa_ident_cert_path(other), path), 0);
	open_fails(w, "tokyo", LB_ECORRUPT, "site.key is not the key of site.pem");
	(void)snprintf(path, sizeof(path), "%s/ident", w->home[0]);
	assert_int_equal(chmod(path, 0755), 0);
	open_fails(w, "tokyo", LB_EDENIED, "must be 700");
	assert_int_equal(chmod(path, 0700), 0);
}

static void test_peers(void **state)
{
	struct world *w = *state;
	struct sa_peer p = {.name = "osaka", .site.b = {1}, .key.b = {2}}, q = p;
	struct sa_ident *again;
	const struct sa_peer *got;
	struct lb_pubkey key;

	(void)snprintf(p.addr.host, sizeof(p.addr.host), "2001:db8::1");
	p.addr.port = 7400;
	assert_int_equal(sa_ident_peer_add(w->tokyo, &p, NULL), 0);
	assert_int_equal(sa_ident_peer_add(w->tokyo, &p, NULL), LB_EEXIST);
	q.site.b[0] = 9; /* the same name, another site */
	assert_int_equal(sa_ident_peer_add(w->tokyo, &q, NULL), LB_EEXIST);
	(void)snprintf(q.name, sizeof(q.name), "../x");
	assert_int_equal(sa_ident_peer_add(w->tokyo, &q, NULL), LB_EINVAL);
	(void)snprintf(q.name, sizeof(q.name), "kyoto");
	assert_int_equal(sa_ident_peer_add(w->tokyo, &q, NULL), 0);
	again = open_ident(w, w->home[0], "tokyo");
	assert_int_equal(sa_ident_peer_count(again), 2);
	assert_string_equal(sa_ident_peer(again, 0)->name, "kyoto");
	assert_null(sa_ident_peer(again, 2));
	got = sa_ident_peer_by_name(again, "osaka");
	assert_non_null(got);
	assert_string_equal(got->addr.host, "2001:db8::1");
	assert_int_equal(got->addr.port, 7400);
	assert_memory_equal(&got->key, &p.key, sizeof(p.key));
	assert_ptr_equal(sa_ident_peer_by_site(again, &p.site), got);
	assert_int_equal(sa_ident_peer_remove(again, "nara", NULL), LB_ENOTFOUND);
	assert_int_equal(sa_ident_peer_remove(again, "osaka", NULL), 0);
	assert_null(sa_ident_peer_by_name(again, "osaka"));
	assert_string_equal(got->name, "osaka"); /* pointers that are out stay good */
	sa_ident_close(again);
	again = open_ident(w, w->home[0], "tokyo");
	assert_int_equal(sa_ident_peer_count(again), 1);
	assert_int_equal(sa_ident_key_of(again, &p.site, &key), LB_ENOTFOUND);
	/* A retired one is no peer, but what it signed is still known, after a restart too. */
	assert_int_equal(sa_ident_peer_retire(again, "osaka", NULL), LB_ENOTFOUND);
	assert_int_equal(sa_ident_peer_add(again, &p, NULL), 0);
	assert_int_equal(sa_ident_peer_retire(again, "osaka", NULL), 0);
	assert_null(sa_ident_peer_by_site(again, &p.site));
	assert_int_equal(sa_ident_key_of(again, &p.site, &key), 0);
	sa_ident_close(again);
	again = open_ident(w, w->home[0], "tokyo");
	assert_int_equal(sa_ident_peer_count(again), 1);
	assert_null(sa_ident_peer_by_name(again, "osaka"));
	assert_int_equal(sa_ident_key_of(again, &p.site, &key), 0);
	assert_memory_equal(&key, &p.key, sizeof(key));
	/* It may come again, with another key. */
	p.key.b[0] ^= 1;
	assert_int_equal(sa_ident_peer_add(again, &p, NULL), 0);
	assert_int_equal(sa_ident_key_of(again, &p.site, &key), 0);
	assert_memory_equal(&key, &p.key, sizeof(key));
	assert_int_equal(sa_ident_peer_remove(again, "osaka", NULL), 0);
	sa_ident_close(again);
	again = open_ident(w, w->home[0], "tokyo");
	assert_int_equal(sa_ident_key_of(again, &p.site, &key), LB_ENOTFOUND);
	sa_ident_close(again);
}

/* ---- certificates ---- */

static X509 *read_pem(const char *path)
{
	FILE *f = fopen(path, "r");
	X509 *c;

	assert_non_null(f);
	c = PEM_read_X509(f, NULL, NULL, NULL);
	assert_non_null(c);
	assert_int_equal(fclose(f), 0);
	return c;
}

static void check_cert(struct world *w, X509 *ca, X509 *cert, const struct sa_ident *id)
{
	struct lb_id other = {.b = {1}};
	struct lb_err err = {0};

	assert_int_equal(X509_verify(cert, X509_get0_pubkey(ca)), 1);
	assert_true((X509_get_extension_flags(cert) & EXFLAG_CA) == 0);
	assert_true((X509_get_extension_flags(ca) & EXFLAG_CA) != 0);
	assert_int_equal(X509_get_pathlen(ca), 0);
	assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_SERVER | XKU_SSL_CLIENT);
	assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE);
	must(sa_x509_site_check(ca, cert, sa_ident_deployment(id), sa_ident_site(id), NULL,
				&w->env.env, &err),
	     &err);
	assert_int_equal(sa_x509_site_check(ca, cert, sa_ident_deployment(id), &other, NULL,
					    &w->env.env, NULL),
			 LB_EAUTH);
	assert_int_equal(
		sa_x509_site_check(ca, cert, &other, sa_ident_site(id), NULL, &w->env.env, NULL),
		LB_EAUTH);
	assert_int_equal(sa_x509_site_check(ca, ca, sa_ident_deployment(id), sa_ident_site(id),
					    NULL, &w->env.env, NULL),
			 LB_EAUTH);
}

/* What the links load: both sites' files, both roles. */
static void check_links(const struct sa_ident *id)
{
	for (int server = 0; server < 2; server++) {
		struct rep_tls *t = NULL;
		struct lb_err err = {0};

		must(rep_tls_create(&t, server != 0, sa_ident_deployment(id), sa_ident_ca_path(id),
				    sa_ident_cert_path(id), sa_ident_key_path(id), &err),
		     &err);
		rep_tls_destroy(t);
	}
}

/* ---- enrolment ---- */

static void test_enrol(void **state)
{
	struct world *w = *state;
	struct sa_addr listen = {.host = "192.0.2.9", .port = 7400};
	char token[SA_TOKEN_TEXT_BYTES], padded[SA_TOKEN_TEXT_BYTES + 8];
	const struct sa_peer *p;
	struct lb_err err = {0};
	struct lb_pubkey key;
	X509 *ca, *cert;

	make_token(w, "osaka", token);
	assert_true(sa_enrol_listening(w->enrol));
	(void)snprintf(padded, sizeof(padded), " %s\n", token);
	must(sa_enrol_join(w->osaka, padded, &listen, &err), &err);
	assert_false(sa_enrol_listening(w->enrol)); /* closed before the answer came */
	must(lb_loop_run(w->loop, &err), &err);
	assert_int_equal(w->joins, 1);
	assert_string_equal(w->joined.name, "osaka");
	/* each knows the other */
	p = sa_ident_peer_by_name(w->tokyo, "osaka");
	assert_non_null(p);
	assert_true(lb_id_equal(&p->site, sa_ident_site(w->osaka)));
	assert_string_equal(p->addr.host, "192.0.2.9");
	lb_signer_pubkey(sa_ident_signer(w->osaka), &key);
	assert_memory_equal(&p->key, &key, sizeof(key));
	p = sa_ident_peer_by_name(w->osaka, "tokyo");
	assert_non_null(p);
	assert_true(lb_id_equal(&p->site, sa_ident_site(w->tokyo)));
	assert_string_equal(p->addr.host, "192.0.2.1");
	assert_int_equal(p->addr.port, 7400);
	lb_signer_pubkey(sa_ident_signer(w->tokyo), &key);
	assert_memory_equal(&p->key, &key, sizeof(key));
	assert_true(lb_id_equal(sa_ident_deployment(w->osaka), sa_ident_deployment(w->tokyo)));
	assert_null(sa_ident_ca_key(w->osaka));
	/* keys are each site's own */
	assert_memory_not_equal(sa_ident_kek(w->osaka), sa_ident_kek(w->tokyo), LB_KEY_BYTES);
	ca = read_pem(sa_ident_ca_path(w->osaka));
	cert = read_pem(sa_ident_cert_path(w->osaka));
	check_cert(w, ca, cert, w->osaka);
	X509_free(cert);
	cert = read_pem(sa_ident_cert_path(w->tokyo));
	check_cert(w, ca, cert, w->tokyo);
	X509_free(cert);
	X509_free(ca);
	check_links(w->tokyo);
	check_links(w->osaka);
	/* and it lasts */
	sa_ident_close(w->osaka);
	w->osaka = open_ident(w, w->home[1], "osaka");
	assert_true(sa_ident_ready(w->osaka));
	assert_int_equal(sa_ident_peer_count(w->osaka), 1);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, &err), LB_EEXIST);
	assert_int_equal(sa_enrol_token(w->enrol, "osaka", MINUTE_NS, token, sizeof(token), &err),
			 LB_EEXIST);
	/* the CA is not here */
	assert_null(strstr(err.msg, "lifeboat-token"));
}

static void test_wrong_token(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], wrong[SA_TOKEN_TEXT_BYTES];
	char *secret;

	make_token(w, "osaka", token);
	memcpy(wrong, token, sizeof(wrong));
	secret = wrong + strlen(wrong) - 97;
	assert_int_equal(secret[-1], ':');
	secret[0] = secret[0] == '0' ? '1' : '0';
	join_refused(w, wrong, LB_EAUTH, "no valid token fits");
	assert_true(sa_enrol_listening(w->enrol)); /* the right one is still good */
	assert_int_equal(sa_ident_peer_count(w->tokyo), 0);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
}

static void test_used_token(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], other[SA_TOKEN_TEXT_BYTES], dir[96];
	struct sa_ident *first;

	make_token(w, "osaka", token);
	(void)snprintf(dir, sizeof(dir), "%s/first", w->dir);
	first = open_ident(w, dir, "osaka");
	assert_int_equal(sa_enrol_join(first, token, NULL, NULL), 0);
	sa_ident_close(first);
	/* nobody listens any more; and with another token's port open, it is told */
	join_refused(w, token, LB_ECLOSED, "nobody listens there");
	make_token(w, "kyoto", other);
	join_refused(w, token, LB_EAUTH, "used already");
	assert_int_equal(sa_ident_peer_count(w->tokyo), 1);
}

static void test_expired_token(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], other[SA_TOKEN_TEXT_BYTES];

	make_token(w, "osaka", token);
	atomic_store(&w->env.skew_ns, 15 * MINUTE_NS);
	assert_false(sa_enrol_listening(w->enrol));
	join_refused(w, token, LB_ECLOSED, "nobody listens there");
	make_token(w, "kyoto", other);
	join_refused(w, token, LB_EAUTH, "expired");
	assert_int_equal(sa_ident_peer_count(w->tokyo), 0);
}

static void test_other_name(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];

	make_token(w, "kyoto", token);
	join_refused(w, token, LB_EAUTH, "for site kyoto, not osaka");
	assert_true(sa_enrol_listening(w->enrol));
}

/* A server that has another CA than the token's: whoever answers at that address. */
static void test_foreign_ca(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], wrong[SA_TOKEN_TEXT_BYTES];
	char *hash;

	make_token(w, "osaka", token);
	memcpy(wrong, token, sizeof(wrong));
	hash = wrong + strlen(wrong) - 64;
	hash[5] = hash[5] == 'a' ? 'b' : 'a';
	join_refused(w, wrong, LB_EAUTH, "CA is not the one of the token");
	assert_int_equal(sa_ident_peer_count(w->tokyo), 0);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
}

/* The server's own certificate has ended: the joining site does not speak to it. */
static void test_expired_server(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];

	atomic_store(&w->env.skew_ns, 399 * DAY_NS);
	make_token(w, "osaka", token);
	join_refused(w, token, LB_EAUTH, "certificate has expired");
}

static void test_token_refusals(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"lifeboat-token-v1:",
		"lifeboat-token-v2:127.0.0.1:1:00112233445566778899aabbccddeeff:"
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"lifeboat-token-v1:127.0.0.1:0:00112233445566778899aabbccddeeff:"
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"lifeboat-token-v1:host:1:00112233445566778899aabbccddeeff:"
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"lifeboat-token-v1:127.0.0.1:1:0011223344556677x899aabbccddeeff:"
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"lifeboat-token-v1:127.0.0.1:1:00112233445566778899aabbccddeeff:"
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeef x",
	};
	struct world *w = *state;
	struct sa_token t;
	struct lb_err err = {0};
	char text[SA_TOKEN_TEXT_BYTES], again[SA_TOKEN_TEXT_BYTES];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(sa_token_parse(&t, bad[i], &err), LB_EINPUT);
		assert_null(strstr(err.msg, "0011223")); /* a secret is not repeated */
	}
	(void)snprintf(text, sizeof(text), "lifeboat-token-v1:[2001:db8::1]:7401:%s:%s%s",
		       "00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff",
		       "00112233445566778899aabbccddeeff");
	must(sa_token_parse(&t, text, &err), &err);
	assert_string_equal(t.addr.host, "2001:db8::1");
	assert_string_equal(sa_token_text(&t, again, sizeof(again)), text);
	assert_int_equal(sa_enrol_token(w->enrol, "tokyo", MINUTE_NS, text, sizeof(text), &err),
			 LB_EINPUT);
	assert_int_equal(sa_enrol_token(w->enrol, "a b", MINUTE_NS, text, sizeof(text), &err),
			 LB_EINPUT);
	assert_int_equal(
		sa_enrol_token(w->enrol, "osaka", 16 * MINUTE_NS, text, sizeof(text), &err),
		LB_EINPUT);
	assert_false(sa_enrol_listening(w->enrol));
	for (int i = 0; i < 16; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "site%d", i);
		make_token(w, name, text);
	}
	assert_int_equal(sa_enrol_token(w->enrol, "osaka", MINUTE_NS, text, sizeof(text), &err),
			 LB_EBUSY);
}

/* ---- a client that does as it likes ---- */

struct rogue {
	struct sa_pipe pipe;
	SSL_CTX *ctx;
	struct sa_token token;
	uint8_t exporter[SA_EXPORTER_BYTES];
};

static int dial(const struct world *w)
{
	struct sockaddr_storage sa;
	socklen_t len = sa_addr_sockaddr(&sa, &w->cfg.enrol_listen);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
	return fd;
}

static void rogue_open(struct rogue *r, struct world *w, const char *token)
{
	struct lb_err err = {0};

	memset(r, 0, sizeof(*r));
	must(sa_token_parse(&r->token, token, &err), &err);
	must(sa_enrol_tls_ctx(&r->ctx, NULL, NULL, NULL, &err), &err);
	SSL_CTX_set_verify(r->ctx, SSL_VERIFY_NONE, NULL);
	must(sa_pipe_open(&r->pipe, r->ctx, false, dial(w), &w->env.env, &err), &err);
	must(sa_pipe_exporter(&r->pipe, r->exporter, &err), &err);
}

static void rogue_close(struct rogue *r)
{
	sa_pipe_close(&r->pipe);
	SSL_CTX_free(r->ctx);
}

/* Send @body, expect to be refused with @says ("": hung up on). */
static void rogue_send(struct rogue *r, const uint8_t *body, size_t len, const char *says)
{
	static struct sa_enrol_answer a;
	uint8_t answer[SA_ENROL_FRAME_MAX];
	struct lb_err err = {0};
	size_t n = 0;

	must(sa_pipe_send(&r->pipe, body, len, &err), &err);
	must(sa_pipe_recv(&r->pipe, answer, sizeof(answer), &n, &err), &err);
	must(sa_enrol_answer_decode(&a, answer, n, &err), &err);
	if (strstr(a.refusal, says) == NULL || a.refusal[0] == '\0')
		fail_msg("expected a refusal \"%s\", got \"%s\"", says, a.refusal);
}

static void request_for(struct world *w, struct sa_enrol_request *q, const char *name,
			const char *csr_name)
{
	EVP_PKEY *key = NULL;
	uint8_t *der = NULL;
	size_t len = 0;

	memset(q, 0, sizeof(*q));
	(void)snprintf(q->name, sizeof(q->name), "%s", name);
	assert_int_equal(sa_x509_key_new(&key, &w->env.env, NULL), 0);
	assert_int_equal(sa_x509_request_new(&der, &len, key, csr_name, NULL), 0);
	memcpy(q->csr.b, der, len);
	q->csr.len = len;
	OPENSSL_free(der);
	EVP_PKEY_free(key);
}

static size_t encode(const struct rogue *r, const struct sa_enrol_request *q, uint8_t *body)
{
	struct lb_err err = {0};
	size_t len = 0;

	must(sa_enrol_request_encode(body, SA_ENROL_FRAME_MAX, &len, q, &r->token.secret,
				     r->exporter, &err),
	     &err);
	return len;
}

/* A CSR changed on the way breaks the MAC; one that is wrong under a good MAC is refused by itself,
 * and costs its holder the token. */
static void test_tampered_csr(void **state)
{
	static struct sa_enrol_request q;
	static uint8_t body[SA_ENROL_FRAME_MAX];
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];
	struct rogue r;
	size_t len;

	make_token(w, "osaka", token);
	rogue_open(&r, w, token);
	request_for(w, &q, "osaka", "osaka");
	len = encode(&r, &q, body);
	body[60] ^= 1;
	rogue_send(&r, body, len, "no valid token fits");
	rogue_close(&r);
	assert_true(sa_enrol_listening(w->enrol));

	rogue_open(&r, w, token);
	q.csr.b[q.csr.len - 1] ^= 1; /* its signature */
	len = encode(&r, &q, body);
	rogue_send(&r, body, len, "signature does not fit");
	rogue_close(&r);
	assert_int_equal(sa_ident_peer_count(w->tokyo), 0);
	assert_false(sa_enrol_listening(w->enrol));
	join_refused(w, token, LB_ECLOSED, "nobody listens there");
}

static void test_csr_of_another_name(void **state)
{
	static struct sa_enrol_request q;
	static uint8_t body[SA_ENROL_FRAME_MAX];
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];
	struct rogue r;

	make_token(w, "osaka", token);
	rogue_open(&r, w, token);
	request_for(w, &q, "osaka", "tokyo");
	rogue_send(&r, body, encode(&r, &q, body), "not for site osaka");
	rogue_close(&r);
	assert_int_equal(sa_ident_peer_count(w->tokyo), 0);
}

/* A good request recorded on one connection is worth nothing on another. */
static void test_replay(void **state)
{
	static struct sa_enrol_request q;
	static uint8_t body[SA_ENROL_FRAME_MAX];
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];
	struct rogue r;
	size_t len;

	make_token(w, "osaka", token);
	rogue_open(&r, w, token);
	request_for(w, &q, "osaka", "osaka");
	len = encode(&r, &q, body);
	rogue_close(&r);
	rogue_open(&r, w, token);
	rogue_send(&r, body, len, "no valid token fits");
	rogue_close(&r);
	assert_int_equal(sa_ident_peer_count(w->tokyo), 0);
}

/* Hung up on: bytes that are no TLS, no frame, no request. The port goes on. */
static void test_noise(void **state)
{
	static uint8_t body[64];
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], byte;
	struct rogue r;
	int fd;

	make_token(w, "osaka", token);
	fd = dial(w);
	assert_int_equal(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	while (recv(fd, &byte, 1, 0) > 0)
		;
	assert_int_equal(close(fd), 0);
	rogue_open(&r, w, token);
	rogue_send(&r, body, sizeof(body), "it did not work here");
	rogue_close(&r);
	rogue_open(&r, w, token);
	assert_int_equal(SSL_write(r.pipe.ssl, "\xff\xff\xff\xff", 4), 4); /* 4 GiB, it says */
	assert_int_equal(SSL_read(r.pipe.ssl, body, 1), 0);
	rogue_close(&r);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
}

/* One host holds at most four connections; the rest is hung up on at once. */
static void test_crowd(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], byte;
	int fd[5];

	make_token(w, "osaka", token);
	for (int i = 0; i < 5; i++)
		fd[i] = dial(w);
	assert_true(recv(fd[4], &byte, 1, 0) <= 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(close(fd[i]), 0);
}

/* 32 connections at once, then one every half second of the agent's clock. */
static void test_rate(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], byte;

	make_token(w, "osaka", token);
	for (int i = 0; i < 32; i++) {
		int fd = dial(w);

		assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
		assert_int_equal(shutdown(fd, SHUT_WR), 0);
		while (recv(fd, &byte, 1, 0) > 0)
			;
		assert_int_equal(close(fd), 0);
	}
	join_refused(w, token, LB_ECLOSED, "");
	atomic_store(&w->env.skew_ns, UINT64_C(500000000));
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
}

/* Destroyed with a connection open and a token valid: everything ends. */
static void test_destroy_busy(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];
	struct rogue r;

	make_token(w, "osaka", token);
	rogue_open(&r, w, token);
	sa_enrol_destroy(w->enrol);
	w->enrol = NULL;
	rogue_close(&r);
	join_refused(w, token, LB_ECLOSED, "nobody listens there");
}

/* What was posted before the end does not reach a receiver that is gone. */
static void stop_loop(void *arg)
{
	lb_loop_stop(arg);
}

static void test_joined_after_destroy(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];

	make_token(w, "osaka", token);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
	sa_enrol_destroy(w->enrol);
	w->enrol = NULL;
	lb_loop_post(w->loop, stop_loop, w->loop);
	assert_int_equal(lb_loop_run(w->loop, NULL), 0);
	assert_int_equal(w->joins, 0);
}

/* The site that joined cannot make tokens: the CA is elsewhere. */
static void test_token_without_ca(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES];
	struct sa_enrol *e = NULL;

	assert_int_equal(
		sa_enrol_create(&e, &w->env.env, w->loop, w->osaka, &w->cfg, on_joined, w, NULL),
		0);
	assert_int_equal(sa_enrol_token(e, "kyoto", MINUTE_NS, token, sizeof(token), NULL),
			 LB_EINPUT);
	make_token(w, "osaka", token);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
	assert_int_equal(sa_enrol_token(e, "kyoto", MINUTE_NS, token, sizeof(token), NULL),
			 LB_EUNSUPPORTED);
	sa_enrol_destroy(e);
	sa_enrol_destroy(NULL);
}

/* ---- renewal ---- */

static void renew_refused(struct world *w, const char *token, int code, const char *says)
{
	struct lb_err err = {0};
	int rc = sa_enrol_renew(w->osaka, token, &err);

	if (rc != code || strstr(err.msg, says) == NULL)
		fail_msg("expected %s \"%s\", got %s \"%s\"", lb_err_name(code), says,
			 lb_err_name(rc), err.msg);
}

static void renewal_token(struct world *w, char *out)
{
	struct lb_err err = {0};

	must(sa_enrol_token_renew(w->enrol, "osaka", 15 * MINUTE_NS, out, SA_TOKEN_TEXT_BYTES,
				  &err),
	     &err);
}

/* The same site, deployment and key; another certificate, also after a restart. */
static void check_renewed(struct world *w, struct sa_ident **id, const char *home, const char *name)
{
	struct lb_id site = *sa_ident_site(*id);
	struct lb_err err = {0};

	for (int again = 0; again < 2; again++) {
		assert_true(sa_ident_cert_left_s(*id) > 397 * 86400);
		assert_true(lb_id_equal(&site, sa_ident_site(*id)));
		must(sa_x509_site_check(sa_ident_ca(*id), sa_ident_cert(*id),
					sa_ident_deployment(*id), &site, sa_ident_key(*id),
					&w->env.env, &err),
		     &err);
		assert_int_equal(sa_ident_peer_count(*id), 1);
		if (again == 0)
			sa_ident_close(*id);
		if (again == 0)
			*id = open_ident(w, home, name);
	}
}

/* Certificates of both sites have ended: the one with the CA gives itself another, then the other
 * one. Nobody else gets in by that. */
static void test_renew(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], wrong[SA_TOKEN_TEXT_BYTES], dir[96];
	struct sa_ident *other;
	struct lb_err err = {0};
	X509 *before;

	assert_int_equal(sa_ident_renew(w->osaka, NULL), LB_ENOTFOUND);
	renew_refused(w, "", LB_ENOTFOUND, "no identity yet");
	make_token(w, "osaka", token);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
	atomic_store(&w->env.skew_ns, 399 * DAY_NS);
	assert_int_equal(sa_ident_renew(w->osaka, &err), LB_EUNSUPPORTED);
	assert_int_equal(
		sa_enrol_token_renew(w->enrol, "kyoto", MINUTE_NS, token, sizeof(token), NULL),
		LB_ENOTFOUND);
	renewal_token(w, token);
	renew_refused(w, token, LB_EAUTH, "certificate has expired"); /* the server's */
	before = sa_ident_cert(w->tokyo);
	must(sa_ident_renew(w->tokyo, &err), &err);
	assert_true(sa_x509_left_s(before, &w->env.env) < 0); /* borrowed still */
	renewal_token(w, token);
	/* another site of that name, with a good token */
	(void)snprintf(dir, sizeof(dir), "%s/other", w->dir);
	other = open_ident(w, dir, "osaka");
	assert_int_equal(sa_enrol_join(other, token, NULL, &err), LB_EAUTH);
	assert_non_null(strstr(err.msg, "another site is enrolled as osaka"));
	assert_false(sa_ident_ready(other));
	sa_ident_close(other);
	renew_refused(w, token, LB_EAUTH, "used already");
	renewal_token(w, token);
	memcpy(wrong, token, sizeof(wrong));
	wrong[strlen(wrong) - 1] = wrong[strlen(wrong) - 1] == 'a' ? 'b' : 'a';
	renew_refused(w, wrong, LB_EAUTH, "of another deployment");
	must(sa_enrol_renew(w->osaka, token, &err), &err);
	renew_refused(w, token, LB_EAUTH, "used already");
	check_renewed(w, &w->osaka, w->home[1], "osaka");
	assert_int_equal(sa_ident_peer_count(w->tokyo), 1);
	assert_true(sa_ident_cert_left_s(w->tokyo) > 397 * 86400);
	check_links(w->tokyo);
	check_links(w->osaka);
}

/* A joining token is no renewal, and a removed site cannot renew. */
static void test_renew_who(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], late[SA_TOKEN_TEXT_BYTES];
	struct lb_err err = {0};

	make_token(w, "osaka", token);
	assert_int_equal(sa_enrol_join(w->osaka, token, NULL, NULL), 0);
	make_token(w, "kyoto", token);
	renew_refused(w, token, LB_EAUTH, "for site kyoto, not osaka");
	renewal_token(w, late);
	must(sa_ident_peer_retire(w->tokyo, "osaka", &err), &err);
	renew_refused(w, late, LB_EAUTH, "not enrolled any more");
	assert_int_equal(sa_ident_peer_count(w->tokyo), 0);
}

/* tokyo's disk takes no peer any more; and others come to its port, each of whom makes the listener
 * look whether the port is needed still. Not on the test's thread. */
static void fill_disk(struct world *w)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
				 .sin_port = htons(w->cfg.enrol_listen.port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char peers[200], away[200];
	FILE *f;

	(void)snprintf(peers, sizeof(peers), "%s/ident/peers", w->home[0]);
	(void)snprintf(away, sizeof(away), "%s/away", w->dir);
	if (rename(peers, away) != 0 || (f = fopen(peers, "we")) == NULL || fclose(f) != 0)
		abort();
	for (int i = 0; i < 25; i++) { /* more than may wait: it must have looked */
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		(void)connect(fd, (const struct sockaddr *)&sa, sizeof(sa));
		(void)close(fd);
	}
}

/* A token that was given back, since it was our own disk that failed, still opens the port. */
static void test_token_given_back(void **state)
{
	struct world *w = *state;
	char token[SA_TOKEN_TEXT_BYTES], peers[200], away[200];
	struct lb_err err = {0};
	int rc = LB_ECLOSED;

	make_token(w, "osaka", token);
	atomic_store(&w->env.full_at, 5); /* four are osaka's own keys, then comes its id */
	join_refused(w, token, LB_EAUTH, "it did not work here");
	assert_int_equal(atomic_load(&w->env.full_at), 0);
	(void)snprintf(peers, sizeof(peers), "%s/ident/peers", w->home[0]);
	(void)snprintf(away, sizeof(away), "%s/away", w->dir);
	assert_int_equal(unlink(peers), 0);
	assert_int_equal(rename(away, peers), 0);
	for (int i = 0; i < 100 && rc == LB_ECLOSED; i++) { /* the crowd may not be gone yet */
		atomic_fetch_add(&w->env.skew_ns, UINT64_C(2000000000));
		rc = sa_enrol_join(w->osaka, token, NULL, &err);
	}
	must(rc, &err);
}

/* As a crash, or a full disk, leaves it: all but the file that is written last. */
static void lose_site_json(struct world *w)
{
	char path[200];

	(void)snprintf(path, sizeof(path), "%s/ident/site.json", w->home[1]);
	assert_int_equal(unlink(path), 0);
	sa_ident_close(w->osaka);
	w->osaka = open_ident(w, w->home[1], "osaka");
	assert_false(sa_ident_ready(w->osaka));
}

/* Join, and be the same after a restart. */
static void join_for_good(struct world *w)
{
	char token[SA_TOKEN_TEXT_BYTES];
	struct lb_err err = {0};

	make_token(w, "osaka", token);
	must(sa_enrol_join(w->osaka, token, NULL, &err), &err);
	sa_ident_close(w->osaka);
	w->osaka = NULL;
	w->osaka = open_ident(w, w->home[1], "osaka");
	assert_true(sa_ident_ready(w->osaka));
	assert_int_equal(sa_ident_peer_count(w->osaka), 1);
	assert_null(sa_ident_ca_key(w->osaka));
}

/* The CA key of an init that broke off is not taken for the key of the CA that was joined. */
static void test_join_after_broken_init(void **state)
{
	struct world *w = *state;

	assert_int_equal(sa_ident_init(w->osaka, NULL), 0);
	lose_site_json(w);
	join_for_good(w);
}

/* The peer of a join that broke off is in nobody's way, nor is it one. */
static void test_join_after_broken_join(void **state)
{
	struct world *w = *state;

	join_for_good(w);
	lose_site_json(w);
	assert_int_equal(sa_ident_peer_retire(w->tokyo, "osaka", NULL), 0);
	join_for_good(w);
	lose_site_json(w);
	assert_int_equal(sa_ident_init(w->osaka, NULL), 0);
	assert_int_equal(sa_ident_peer_count(w->osaka), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_open_without),
		T(test_reopen),
		T(test_damaged),
		T(test_peers),
		T(test_enrol),
		T(test_wrong_token),
		T(test_used_token),
		T(test_expired_token),
		T(test_other_name),
		T(test_foreign_ca),
		T(test_expired_server),
		T(test_token_refusals),
		T(test_tampered_csr),
		T(test_csr_of_another_name),
		T(test_replay),
		T(test_noise),
		T(test_crowd),
		T(test_rate),
		T(test_destroy_busy),
		T(test_joined_after_destroy),
		T(test_token_without_ca),
		T(test_renew),
		T(test_renew_who),
		T(test_token_given_back),
		T(test_join_after_broken_init),
		T(test_join_after_broken_join),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	lb_log_set_level(LB_LOG_ERROR); /* refusals are logged, and expected here */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
