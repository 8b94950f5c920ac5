#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "enrol_int.h"

int sa_enrol_tls_ctx(SSL_CTX **out, X509 *cert, EVP_PKEY *key, X509 *ca, struct lb_err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(cert != NULL ? TLS_server_method() : TLS_client_method());

	if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") !=
		    1 ||
	    SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1 ||
	    SSL_CTX_set1_sigalgs_list(ctx, "ed25519") != 1 ||
	    SSL_CTX_set_num_tickets(ctx, 0) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1)
		goto fail;
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, cert != NULL ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	if (cert != NULL &&
	    (SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_add1_chain_cert(ctx, ca) != 1 ||
	     SSL_CTX_use_PrivateKey(ctx, key) != 1))
		goto fail;
	*out = ctx;
	return 0;
fail:
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "set up TLS 1.3 with Ed25519 for enrolment");
}

socklen_t sa_addr_sockaddr(struct sockaddr_storage *out, const struct sa_addr *a)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
	struct sockaddr_in *four = (struct sockaddr_in *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, a->host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(a->port);
		return sizeof(*four);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(a->port);
	return inet_pton(AF_INET6, a->host, &six->sin6_addr) == 1 ? sizeof(*six) : 0;
}

int sa_wait_fd(int fd, short events, struct lb_env *env, uint64_t deadline_ns, struct lb_err *err)
{
	uint64_t now = env->now_ns(env);
	uint64_t left_ms = now < deadline_ns ? (deadline_ns - now) / 1000000 + 1 : 0;
	struct pollfd p = {.fd = fd, .events = events};
	int n;

	do
		n = poll(&p, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return lb_err_errno(err, errno, "wait for the other side");
	if (n == 0)
		return lb_err_set(err, LB_ETIMEDOUT, 0, "the other side did not answer in time");
	return 0;
}

/* After a call that gave @n: 0 = call it again. */
static int again(struct sa_pipe *p, int n, const char *what, struct lb_err *err)
{
	int why = SSL_get_error(p->ssl, n), sys = errno;
	unsigned long e = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(e);

	if (why == SSL_ERROR_WANT_READ)
		return sa_wait_fd(p->fd, POLLIN, p->env, p->deadline_ns, err);
	if (why == SSL_ERROR_WANT_WRITE)
		return sa_wait_fd(p->fd, POLLOUT, p->env, p->deadline_ns, err);
	ERR_clear_error();
	if (why == SSL_ERROR_ZERO_RETURN || why == SSL_ERROR_SYSCALL ||
	    ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return lb_err_set(err, LB_ECLOSED, why == SSL_ERROR_SYSCALL ? sys : 0,
				  "%s: connection closed by the other side", what);
	return lb_err_set(err, LB_EPROTO, 0, "%s: %s", what, reason != NULL ? reason : "TLS error");
}

static int handshake(struct sa_pipe *p, struct lb_err *err)
{
	int n, rc = 0;

	while (rc == 0) {
		ERR_clear_error();
		errno = 0;
		n = SSL_do_handshake(p->ssl);
		if (n == 1)
			return 0;
		rc = again(p, n, "TLS handshake", err);
	}
	return rc;
}

int sa_pipe_open(struct sa_pipe *p, SSL_CTX *ctx, bool server, int fd, struct lb_env *env,
		 struct lb_err *err)
{
	int rc;

	p->fd = fd;
	p->env = env;
	p->deadline_ns = env->now_ns(env) + SA_ENROL_LIMIT_NS;
	p->ssl = SSL_new(ctx);
	if (p->ssl == NULL || SSL_set_fd(p->ssl, fd) != 1) {
		SSL_free(p->ssl);
		p->ssl = NULL;
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a TLS connection");
	}
	if (server)
		SSL_set_accept_state(p->ssl);
	else
		SSL_set_connect_state(p->ssl);
	rc = handshake(p, err);
	if (rc != 0) {
		SSL_free(p->ssl);
		p->ssl = NULL;
	}
	return rc;
}

void sa_pipe_close(struct sa_pipe *p)
{
	if (p->ssl == NULL)
		return;
	(void)SSL_shutdown(p->ssl); /* says goodbye; the answer is not waited for */
	SSL_free(p->ssl);
	ERR_clear_error();
	(void)close(p->fd);
	p->ssl = NULL;
}

int sa_pipe_exporter(struct sa_pipe *p, uint8_t out[SA_EXPORTER_BYTES], struct lb_err *err)
{
	if (SSL_export_keying_material(p->ssl, out, SA_EXPORTER_BYTES, SA_ENROL_EXPORTER,
				       sizeof(SA_ENROL_EXPORTER) - 1, NULL, 0, 0) == 1)
		return 0;
	ERR_clear_error();
	return lb_err_set(err, LB_ENOMEM, 0, "derive the channel's binding");
}

static int write_all(struct sa_pipe *p, const uint8_t *b, size_t len, struct lb_err *err)
{
	size_t done = 0;
	int rc = 0;

	while (rc == 0 && done < len) {
		size_t n = 0;
		int ok;

		ERR_clear_error();
		errno = 0;
		ok = SSL_write_ex(p->ssl, b + done, len - done, &n);
		if (ok == 1)
			done += n;
		else
			rc = again(p, ok, "send", err);
	}
	return rc;
}

static int read_all(struct sa_pipe *p, uint8_t *b, size_t len, struct lb_err *err)
{
	size_t done = 0;
	int rc = 0;

	while (rc == 0 && done < len) {
		size_t n = 0;
		int ok;

		ERR_clear_error();
		errno = 0;
		ok = SSL_read_ex(p->ssl, b + done, len - done, &n);
		if (ok == 1)
			done += n;
		else
			rc = again(p, ok, "receive", err);
	}
	return rc;
}

int sa_pipe_send(struct sa_pipe *p, const uint8_t *body, size_t len, struct lb_err *err)
{
	uint8_t head[4];
	struct lb_wr wr = lb_wr_init(head, sizeof(head));
	int rc;

	lb_wr_u32le(&wr, (uint32_t)len);
	rc = write_all(p, head, sizeof(head), err);
	return rc == 0 ? write_all(p, body, len, err) : rc;
}

int sa_pipe_recv(struct sa_pipe *p, uint8_t *body, size_t cap, size_t *len, struct lb_err *err)
{
	uint8_t head[4];
	int rc = read_all(p, head, sizeof(head), err);
	struct lb_rd rd = lb_rd_init(head, sizeof(head));
	uint32_t n = rc == 0 ? lb_rd_u32le(&rd) : 0;

	if (rc != 0)
		return rc;
	if (n == 0 || n > cap || n > SA_ENROL_FRAME_MAX)
		return lb_err_set(err, LB_EPROTO, 0, "a message of %u bytes", (unsigned)n);
	rc = read_all(p, body, n, err);
	if (rc == 0)
		*len = n;
	return rc;
}
