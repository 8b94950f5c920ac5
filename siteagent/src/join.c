#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "enrol_int.h"
#include "ident_priv.h"

/* The joining side of enrolment: connect, prove the token, store what comes back. Blocking. */

struct join {
	struct sa_ident *id;
	struct lb_env *env;
	bool renew; /* an identity is there, and stays */
	struct sa_token token;
	struct sa_ident_parts parts;
	struct sa_enrol_request request;
	struct sa_enrol_answer answer;
	struct sa_pipe pipe;
	SSL_CTX *ctx;
	struct lb_err refused; /* why the server's certificate was; code 0: it was not */
	uint8_t body[SA_ENROL_FRAME_MAX];
};

/* ---- connect ---- */

static int connect_fd(int fd, const struct sa_addr *a, struct lb_env *env, struct lb_err *err)
{
	struct sockaddr_storage sa;
	socklen_t len = sa_addr_sockaddr(&sa, a), n = sizeof(int);
	int e = 0, rc;

	if (connect(fd, (const struct sockaddr *)&sa, len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return lb_err_set(err, LB_ECLOSED, errno, "%s", strerror(errno));
	rc = sa_wait_fd(fd, POLLOUT, env, env->now_ns(env) + SA_ENROL_LIMIT_NS, err);
	if (rc == 0 && (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0 || e != 0))
		rc = lb_err_set(err, LB_ECLOSED, e, "%s", strerror(e));
	return rc;
}

static int dial(int *out, const struct sa_addr *a, struct lb_env *env, struct lb_err *err)
{
	bool v6 = strchr(a->host, ':') != NULL;
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? lb_err_errno(err, errno, "make a socket") : connect_fd(fd, a, env, err);

	if (rc == 0) {
		*out = fd;
		return 0;
	}
	if (fd >= 0)
		(void)close(fd);
	return rc;
}

/* ---- who the server is ---- */

/* The CA is the one certificate in the server's chain whose hash the token names. */
static int pinned(X509_STORE_CTX *v, void *arg)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(v);
	struct join *j = arg;
	X509 *ca = NULL;
	int rc;

	for (int i = 0; ca == NULL && i < sk_X509_num(chain); i++) {
		struct lb_hash h;

		if (sa_x509_hash(&h, sk_X509_value(chain, i), NULL) == 0 &&
		    lb_hash_equal(&h, &j->token.ca))
			ca = sk_X509_value(chain, i);
	}
	if (ca == NULL)
		rc = lb_err_set(&j->refused, LB_EAUTH, 0,
				"the server's CA is not the one of the token");
	else
		rc = sa_x509_server_check(ca, X509_STORE_CTX_get0_cert(v), j->env, &j->refused);
	X509_STORE_CTX_set_error(v, rc == 0 ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
	return rc == 0 ? 1 : 0;
}

static int open_pipe(struct join *j, struct lb_err *err)
{
	int fd = -1;
	int rc = sa_enrol_tls_ctx(&j->ctx, NULL, NULL, NULL, err);

	if (rc == 0)
		rc = dial(&fd, &j->token.addr, j->env, err);
	if (rc == LB_ECLOSED)
		return lb_err_wrap(err, rc,
				   "nobody listens there: a token opens it until used or expired");
	if (rc != 0)
		return rc;
	SSL_CTX_set_cert_verify_callback(j->ctx, pinned, j);
	rc = sa_pipe_open(&j->pipe, j->ctx, false, fd, j->env, err);
	if (rc != 0)
		(void)close(fd);
	if (rc != 0 && j->refused.code != 0)
		return lb_err_set(err, LB_EAUTH, 0, "%s", j->refused.msg);
	return rc;
}

/* ---- the exchange ---- */

static int ask(struct join *j, struct lb_err *err)
{
	uint8_t exporter[SA_EXPORTER_BYTES];
	size_t len = 0;
	int rc = sa_pipe_exporter(&j->pipe, exporter, err);

	if (rc == 0)
		rc = sa_enrol_request_encode(j->body, sizeof(j->body), &len, &j->request,
					     &j->token.secret, exporter, err);
	if (rc == 0)
		rc = sa_pipe_send(&j->pipe, j->body, len, err);
	if (rc == 0)
		rc = sa_pipe_recv(&j->pipe, j->body, sizeof(j->body), &len, err);
	if (rc == 0)
		rc = sa_enrol_answer_decode(&j->answer, j->body, len, err);
	if (rc == 0 && j->answer.refusal[0] != '\0') {
		char reason[sizeof(j->answer.refusal) * 2];

		rc = lb_err_set(err, LB_EAUTH, 0, "refused: %s",
				lb_text_escape(reason, sizeof(reason), j->answer.refusal));
	}
	OPENSSL_cleanse(exporter, sizeof(exporter));
	return rc;
}

static EVP_PKEY *request_key(const struct join *j)
{
	return j->renew ? sa_ident_key(j->id) : j->parts.key;
}

/* What came is held against what we know: the CA by its hash, the certificate by the CA. */
static int check_answer(struct join *j, struct lb_err *err)
{
	const struct sa_enrol_answer *a = &j->answer;
	struct lb_hash h;
	int rc = sa_x509_of_der(&j->parts.ca, a->ca.b, a->ca.len, err);

	if (rc == 0)
		rc = sa_x509_of_der(&j->parts.cert, a->cert.b, a->cert.len, err);
	if (rc == 0)
		rc = sa_x509_hash(&h, j->parts.ca, err);
	if (rc == 0 && !lb_hash_equal(&h, &j->token.ca))
		rc = lb_err_set(err, LB_EAUTH, 0, "the answer's CA is not the one of the token");
	if (rc == 0)
		rc = sa_x509_site_check(j->parts.ca, j->parts.cert, &a->deployment, &a->site,
					request_key(j), j->env, err);
	if (rc == 0 && j->renew &&
	    (!lb_id_equal(&a->deployment, sa_ident_deployment(j->id)) ||
	     !lb_id_equal(&a->site, sa_ident_site(j->id))))
		rc = lb_err_set(err, LB_EAUTH, 0, "the answer is for another site than %s",
				sa_ident_name(j->id));
	if (rc == 0 && strcmp(a->other.name, sa_ident_name(j->id)) == 0)
		rc = lb_err_set(err, LB_EINPUT, 0, "both sites are called %s", a->other.name);
	j->parts.deployment = a->deployment;
	j->parts.site = a->site;
	return rc;
}

static int make_request(struct join *j, const struct sa_addr *listen, struct lb_err *err)
{
	struct sa_enrol_request *r = &j->request;
	uint8_t *csr = NULL;
	size_t len = 0;
	int rc = j->renew ? 0 : sa_ident_parts_new(&j->parts, j->env, err);

	if (rc == 0)
		rc = sa_x509_request_new(&csr, &len, request_key(j), sa_ident_name(j->id), err);
	if (rc == 0 && len > sizeof(r->csr.b))
		rc = lb_err_set(err, LB_EINVAL, 0, "a signing request of %zu bytes", len);
	if (rc != 0)
		goto out;
	(void)snprintf(r->name, sizeof(r->name), "%s", sa_ident_name(j->id));
	memcpy(r->csr.b, csr, len);
	r->csr.len = len;
	lb_signer_pubkey(j->renew ? sa_ident_signer(j->id) : j->parts.signer, &r->key);
	if (listen != NULL)
		r->addr = *listen;
out:
	OPENSSL_free(csr);
	return rc;
}

static int run(struct join *j, const struct sa_addr *listen, struct lb_err *err)
{
	int rc = make_request(j, listen, err);

	if (rc == 0)
		rc = open_pipe(j, err);
	if (rc == 0)
		rc = ask(j, err);
	if (rc == 0)
		rc = check_answer(j, err);
	if (rc == 0 && j->renew) {
		rc = sa_ident_renewed(j->id, j->parts.cert, err);
		if (rc == 0)
			j->parts.cert = NULL;
	} else if (rc == 0) {
		rc = sa_ident_adopt(j->id, &j->parts, &j->answer.other, err);
	}
	return rc;
}

/* The token must be of the CA that we have: another deployment's would be refused at the end
 * anyway, after it was used up. */
static int check_token(const struct join *j, struct lb_err *err)
{
	struct lb_hash ours;
	int rc = j->renew ? sa_x509_hash(&ours, sa_ident_ca(j->id), err) : 0;

	if (rc == 0 && j->renew && !lb_hash_equal(&ours, &j->token.ca))
		return lb_err_set(err, LB_EAUTH, 0, "the token is of another deployment");
	return rc;
}

static int enrol(struct sa_ident *id, const char *token_text, const struct sa_addr *listen,
		 bool renew, struct lb_err *err)
{
	struct join *j = calloc(1, sizeof(*j));
	char addr[96];
	int rc;

	if (j == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "join");
	j->id = id;
	j->env = sa_ident_env(id);
	j->renew = renew;
	rc = sa_token_parse(&j->token, token_text, err);
	if (rc == 0)
		rc = check_token(j, err);
	if (rc == 0) {
		rc = run(j, listen, err);
		if (rc != 0)
			(void)lb_err_wrap(err, rc, "%s at %s", renew ? "renew" : "join",
					  sa_addr_text(&j->token.addr, addr, sizeof(addr)));
	}
	sa_pipe_close(&j->pipe);
	SSL_CTX_free(j->ctx);
	sa_ident_parts_clear(&j->parts);
	OPENSSL_cleanse(j, sizeof(*j));
	free(j);
	return rc;
}

int sa_enrol_join(struct sa_ident *id, const char *token_text, const struct sa_addr *listen,
		  struct lb_err *err)
{
	if (sa_ident_ready(id))
		return lb_err_set(err, LB_EEXIST, 0, "site %s has an identity already",
				  sa_ident_name(id));
	return enrol(id, token_text, listen, false, err);
}

int sa_enrol_renew(struct sa_ident *id, const char *token_text, struct lb_err *err)
{
	if (!sa_ident_ready(id))
		return lb_err_set(err, LB_ENOTFOUND, 0, "site %s has no identity yet",
				  sa_ident_name(id));
	return enrol(id, token_text, NULL, true, err);
}
