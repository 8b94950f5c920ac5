#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replicator/link.h"
#include "tls_int.h"

/*
 * The trust of a link: one deployment CA, nothing of the system's. A certificate must chain to it,
 * be in its time, and carry exactly one URI name "lifeboat:<deployment>:site:<site>" of this
 * deployment. Host names play no role: addresses change in a failover, sites do not.
 */

struct rep_tls {
	pthread_mutex_t lock; /* of ctx: another one after a renewal */
	SSL_CTX *ctx;
	bool server;
	struct lb_id deployment;
};

#define READ_AHEAD_BYTES (64u << 10) /* see link.c */

struct rep_tls_files {
	const char *ca, *cert, *key;
};

/* "lifeboat:" hex ":site:" hex */
#define SAN_BYTES (9 + 32 + 6 + 32)

static bool site_of_uri(struct lb_id *site, const struct lb_id *deployment, const char *uri,
			size_t len)
{
	char text[SAN_BYTES + 1];
	struct lb_id named;

	if (len != SAN_BYTES)
		return false;
	memcpy(text, uri, len);
	text[len] = '\0';
	if (memcmp(text, "lifeboat:", 9) != 0 || memcmp(text + 41, ":site:", 6) != 0)
		return false;
	text[41] = '\0';
	return lb_id_parse(&named, text + 9, NULL) == 0 && lb_id_equal(&named, deployment) &&
	       lb_id_parse(site, text + 47, NULL) == 0;
}

static int site_of_cert(struct lb_id *site, const struct lb_id *deployment, X509 *cert,
			struct lb_err *err)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	unsigned uris = 0, ours = 0;

	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		const ASN1_IA5STRING *uri;

		if (n->type != GEN_URI)
			continue;
		uris++;
		uri = n->d.uniformResourceIdentifier;
		if (site_of_uri(site, deployment, (const char *)ASN1_STRING_get0_data(uri),
				(size_t)ASN1_STRING_length(uri)))
			ours++;
	}
	GENERAL_NAMES_free(names);
	if (uris != 1 || ours != 1)
		return lb_err_set(err, LB_EAUTH, 0,
				  "certificate does not name exactly one site of this deployment");
	return 0;
}

static const char *verify_text(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return "certificate has expired";
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return "certificate is not valid yet (clock?)";
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return "certificate is of a foreign CA";
	default:
		return X509_verify_cert_error_string(error);
	}
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct rep_tls_peer *peer = SSL_get_app_data(ssl);

	if (ok != 1) {
		(void)lb_err_set(&peer->err, LB_EAUTH, 0, "peer's %s",
				 verify_text(X509_STORE_CTX_get_error(store)));
		return 0;
	}
	if (X509_STORE_CTX_get_error_depth(store) != 0)
		return 1;
	if (site_of_cert(&peer->site, &peer->tls->deployment,
			 X509_STORE_CTX_get_current_cert(store), &peer->err) != 0) {
		(void)lb_err_wrap(&peer->err, LB_EAUTH, "peer");
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
		return 0;
	}
	peer->known = true;
	return 1;
}

/* Our own certificate is held against the same rules, so that a mistake is told here, not there.
 * All but its time: that is for the peer to judge, at each connection. A site whose certificate has
 * ended, or whose clock is wrong, must still start and boot what it holds. */
static int check_own(struct rep_tls *t, SSL_CTX *ctx, const char *cert_path, struct lb_err *err)
{
	X509_STORE_CTX *v = X509_STORE_CTX_new();
	X509 *cert = SSL_CTX_get0_certificate(ctx);
	struct lb_id site;
	int rc = 0;

	if (v == NULL || X509_STORE_CTX_init(v, SSL_CTX_get_cert_store(ctx), cert, NULL) != 1) {
		X509_STORE_CTX_free(v);
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a certificate check");
	}
	X509_STORE_CTX_set_flags(v, X509_V_FLAG_NO_CHECK_TIME);
	if (X509_verify_cert(v) != 1)
		rc = lb_err_set(err, LB_EINPUT, 0, "%s: %s", cert_path,
				verify_text(X509_STORE_CTX_get_error(v)));
	else if (site_of_cert(&site, &t->deployment, cert, err) != 0)
		rc = lb_err_set(err, LB_EINPUT, 0,
				"%s: certificate does not name a site of this deployment",
				cert_path);
	X509_STORE_CTX_free(v);
	return rc;
}

static int ctx_profile(SSL_CTX *ctx, struct lb_err *err)
{
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
	SSL_CTX_set_verify_depth(ctx, 2);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") !=
		    1 ||
	    SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1 ||
	    SSL_CTX_set1_sigalgs_list(ctx, "ed25519:ECDSA+SHA256") != 1 ||
	    SSL_CTX_set_num_tickets(ctx, 0) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "set the TLS 1.3 profile: OpenSSL lacks a part of it");
	return 0;
}

static int ctx_load(struct rep_tls *t, SSL_CTX *ctx, const struct rep_tls_files *f,
		    struct lb_err *err)
{
	if (SSL_CTX_load_verify_file(ctx, f->ca) != 1)
		return lb_err_set(err, LB_EINPUT, 0, "%s: no readable PEM certificate of a CA",
				  f->ca);
	if (SSL_CTX_use_certificate_chain_file(ctx, f->cert) != 1)
		return lb_err_set(err, LB_EINPUT, 0, "%s: no readable PEM certificate", f->cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, f->key, SSL_FILETYPE_PEM) != 1)
		return lb_err_set(err, LB_EINPUT, 0, "%s: no readable PEM private key that fits %s",
				  f->key, f->cert);
	if (SSL_CTX_check_private_key(ctx) != 1)
		return lb_err_set(err, LB_EINPUT, 0, "%s: key does not fit %s", f->key, f->cert);
	return check_own(t, ctx, f->cert, err);
}

static int ctx_make(SSL_CTX **out, struct rep_tls *t, const struct rep_tls_files *f,
		    struct lb_err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(t->server ? TLS_server_method() : TLS_client_method());
	int rc = ctx == NULL ? lb_err_set(err, LB_ENOMEM, 0, "allocate a TLS context")
			     : ctx_profile(ctx, err);

	if (rc == 0)
		rc = ctx_load(t, ctx, f, err);
	ERR_clear_error();
	if (rc == 0)
		*out = ctx;
	else
		SSL_CTX_free(ctx);
	return rc;
}

int rep_tls_create(struct rep_tls **out, bool server, const struct lb_id *deployment,
		   const char *ca_path, const char *cert_path, const char *key_path,
		   struct lb_err *err)
{
	const struct rep_tls_files files = {.ca = ca_path, .cert = cert_path, .key = key_path};
	struct rep_tls *t = calloc(1, sizeof(*t));
	int rc;

	if (t == NULL || pthread_mutex_init(&t->lock, NULL) != 0) {
		free(t);
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a TLS context");
	}
	t->server = server;
	t->deployment = *deployment;
	rc = ctx_make(&t->ctx, t, &files, err);
	if (rc == 0)
		*out = t;
	else
		rep_tls_destroy(t);
	return rc;
}

int rep_tls_reload(struct rep_tls *t, const char *ca_path, const char *cert_path,
		   const char *key_path, struct lb_err *err)
{
	const struct rep_tls_files files = {.ca = ca_path, .cert = cert_path, .key = key_path};
	SSL_CTX *ctx = NULL, *old;
	int rc = ctx_make(&ctx, t, &files, err);

	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&t->lock);
	old = t->ctx;
	t->ctx = ctx;
	(void)pthread_mutex_unlock(&t->lock);
	SSL_CTX_free(old); /* connections that have it hold it */
	return 0;
}

void rep_tls_destroy(struct rep_tls *t)
{
	if (t == NULL)
		return;
	SSL_CTX_free(t->ctx);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}

int rep_tls_new(SSL **out, struct rep_tls *t, struct rep_tls_peer *peer, struct lb_err *err)
{
	SSL *ssl;

	(void)pthread_mutex_lock(&t->lock);
	ssl = SSL_new(t->ctx);
	(void)pthread_mutex_unlock(&t->lock);

	if (ssl == NULL || SSL_set_app_data(ssl, peer) != 1) {
		SSL_free(ssl);
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a TLS connection");
	}
	memset(peer, 0, sizeof(*peer));
	peer->tls = t;
	if (t->server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	*out = ssl;
	return 0;
}

bool rep_tls_is_server(const struct rep_tls *t)
{
	return t->server;
}

/* The alerts with which the other side tells what it thinks of our certificate. */
static const char *alert_text(int reason)
{
	switch (reason) {
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
		return "peer says our certificate has expired";
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
		return "peer says our certificate is of a foreign CA";
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
		return "peer asks for a certificate and we gave none";
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
		return "peer refuses our certificate (another deployment, or a wrong clock?)";
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return "peer gave no certificate";
	default:
		return NULL;
	}
}

int rep_tls_error(struct lb_err *err, const struct rep_tls_peer *peer, const char *what)
{
	int sys = errno;
	unsigned long e = ERR_peek_last_error();
	const char *text;
	char line[160];

	ERR_clear_error();
	if (peer->err.code != 0)
		return lb_err_set(err, LB_EAUTH, 0, "%s: %s", what, peer->err.msg);
	if (e == 0)
		return lb_err_set(
			err, LB_ECLOSED, sys,
			sys != 0 ? "%s: connection broke" : "%s: connection closed by peer", what);
	text = alert_text(ERR_GET_REASON(e));
	if (text != NULL)
		return lb_err_set(err, LB_EAUTH, 0, "%s: %s", what, text);
	if (ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return lb_err_set(err, LB_ECLOSED, 0, "%s: connection closed by peer", what);
	ERR_error_string_n(e, line, sizeof(line));
	return lb_err_set(err, LB_EPROTO, 0, "%s: %s", what, line);
}
