#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "base/hash.h"
#include "x509_int.h"

#define BACKDATE_S INT64_C(3600)
#define NS_PER_S   UINT64_C(1000000000)

/* "lifeboat:" hex ":site:" hex */
#define URI_BYTES (9u + 32u + 6u + 32u + 1u)

/* OpenSSL's own words, and an empty queue: TLS calls of this thread would find what is left. */
static int library_err(struct lb_err *err, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *why = e != 0 ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return lb_err_set(err, LB_ENOMEM, 0, "%s: %s", what, why != NULL ? why : "out of memory");
}

static int64_t now_s(struct lb_env *env)
{
	return (int64_t)(env->wall_ns(env) / NS_PER_S);
}

int sa_x509_key_new(EVP_PKEY **out, struct lb_env *env, struct lb_err *err)
{
	uint8_t seed[32];
	EVP_PKEY *key;

	env->random(env, seed, sizeof(seed));
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof(seed));
	OPENSSL_cleanse(seed, sizeof(seed));
	if (key == NULL)
		return library_err(err, "make an Ed25519 key");
	*out = key;
	return 0;
}

/* ---- making ---- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *x;
	X509V3_CTX ctx;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = x != NULL && X509_add_ext(cert, x, -1) == 1;
	X509_EXTENSION_free(x);
	return ok;
}

static bool add_cn(X509_NAME *n, const char *cn)
{
	return X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
					  0) == 1;
}

static bool set_serial(X509 *cert, struct lb_env *env)
{
	uint8_t bytes[16];
	BIGNUM *n;
	bool ok;

	env->random(env, bytes, sizeof(bytes));
	bytes[0] = (uint8_t)((bytes[0] & 0x3f) | 0x40); /* positive, never zero, always 16 bytes */
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
	BN_free(n);
	return ok;
}

/* What all certificates have in common. */
static X509 *cert_new(EVP_PKEY *key, const char *cn, int64_t life_s, struct lb_env *env)
{
	X509 *c = X509_new();

	if (c != NULL && X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c, env) &&
	    ASN1_TIME_set(X509_getm_notBefore(c), (time_t)(now_s(env) - BACKDATE_S)) != NULL &&
	    ASN1_TIME_set(X509_getm_notAfter(c), (time_t)(now_s(env) + life_s)) != NULL &&
	    add_cn(X509_get_subject_name(c), cn) && X509_set_pubkey(c, key) == 1)
		return c;
	X509_free(c);
	return NULL;
}

int sa_x509_ca_new(X509 **out, EVP_PKEY *key, const struct lb_id *deployment, struct lb_env *env,
		   struct lb_err *err)
{
	char hex[LB_ID_TEXT], cn[64];
	X509 *c;

	(void)snprintf(cn, sizeof(cn), "lifeboat CA %.8s", lb_id_text(deployment, hex));
	c = cert_new(key, cn, SA_CA_CERT_S, env);
	if (c != NULL && X509_set_issuer_name(c, X509_get_subject_name(c)) == 1 &&
	    add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
	    add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") &&
	    add_extension(c, c, NID_subject_key_identifier, "hash") &&
	    X509_sign(c, key, NULL) > 0) {
		*out = c;
		return 0;
	}
	X509_free(c);
	return library_err(err, "make the certificate of a CA");
}

static void site_uri(char *out, size_t out_bytes, const struct lb_id *deployment,
		     const struct lb_id *site)
{
	char a[LB_ID_TEXT], b[LB_ID_TEXT];

	(void)snprintf(out, out_bytes, "lifeboat:%s:site:%s", lb_id_text(deployment, a),
		       lb_id_text(site, b));
}

int sa_x509_site_new(X509 **out, X509 *ca, EVP_PKEY *ca_key, const struct sa_x509_subject *s,
		     struct lb_env *env, struct lb_err *err)
{
	X509 *c = cert_new(s->key, s->name, SA_CERT_S, env);
	char uri[URI_BYTES], san[URI_BYTES + 8];

	site_uri(uri, sizeof(uri), &s->deployment, &s->site);
	(void)snprintf(san, sizeof(san), "URI:%s", uri);
	if (c != NULL && X509_set_issuer_name(c, X509_get_subject_name(ca)) == 1 &&
	    add_extension(c, ca, NID_basic_constraints, "critical,CA:FALSE") &&
	    add_extension(c, ca, NID_key_usage, "critical,digitalSignature") &&
	    add_extension(c, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
	    add_extension(c, ca, NID_subject_alt_name, san) &&
	    add_extension(c, ca, NID_subject_key_identifier, "hash") &&
	    add_extension(c, ca, NID_authority_key_identifier, "keyid:always") &&
	    X509_sign(c, ca_key, NULL) > 0) {
		*out = c;
		return 0;
	}
	X509_free(c);
	return library_err(err, "make the certificate of a site");
}

/* ---- signing requests ---- */

int sa_x509_request_new(uint8_t **der, size_t *len, EVP_PKEY *key, const char *name,
			struct lb_err *err)
{
	X509_REQ *r = X509_REQ_new();
	int n = -1;

	*der = NULL;
	if (r != NULL && X509_REQ_set_version(r, X509_REQ_VERSION_1) == 1 &&
	    add_cn(X509_REQ_get_subject_name(r), name) && X509_REQ_set_pubkey(r, key) == 1 &&
	    X509_REQ_sign(r, key, NULL) > 0)
		n = i2d_X509_REQ(r, der);
	X509_REQ_free(r);
	if (n <= 0)
		return library_err(err, "make a certificate signing request");
	*len = (size_t)n;
	return 0;
}

static int request_check(X509_REQ *r, EVP_PKEY *key, const char *name, struct lb_err *err)
{
	char cn[128];

	if (key == NULL || !EVP_PKEY_is_a(key, "ED25519"))
		return lb_err_set(err, LB_EAUTH, 0, "signing request: its key is not Ed25519");
	if (X509_REQ_verify(r, key) != 1)
		return lb_err_set(err, LB_EAUTH, 0, "signing request: its signature does not fit");
	if (X509_NAME_entry_count(X509_REQ_get_subject_name(r)) != 1 ||
	    X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(r), NID_commonName, cn,
				      sizeof(cn)) != (int)strlen(name) ||
	    strcmp(cn, name) != 0)
		return lb_err_set(err, LB_EAUTH, 0, "signing request: it is not for site %s", name);
	return 0;
}

int sa_x509_request_read(EVP_PKEY **out, const uint8_t *der, size_t len, const char *name,
			 struct lb_err *err)
{
	const uint8_t *p = der;
	X509_REQ *r = len <= SA_DER_MAX ? d2i_X509_REQ(NULL, &p, (long)len) : NULL;
	EVP_PKEY *key = r != NULL ? X509_REQ_get_pubkey(r) : NULL;
	int rc;

	if (r == NULL || p != der + len)
		rc = lb_err_set(err, LB_EAUTH, 0, "signing request: not one PKCS #10 object");
	else
		rc = request_check(r, key, name, err);
	if (rc == 0) {
		*out = key;
		key = NULL;
	}
	EVP_PKEY_free(key);
	X509_REQ_free(r);
	ERR_clear_error();
	return rc;
}

/* ---- checking ---- */

/* Does @cert chain to @ca, strictly, now, for @purpose? */
static int chain_check(X509 *ca, X509 *cert, int purpose, struct lb_env *env, struct lb_err *err)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *v = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	int rc = 0;

	if (store == NULL || v == NULL || X509_STORE_add_cert(store, ca) != 1 ||
	    X509_STORE_CTX_init(v, store, cert, NULL) != 1) {
		rc = library_err(err, "check a certificate");
		goto out;
	}
	param = X509_STORE_CTX_get0_param(v);
	(void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
	(void)X509_VERIFY_PARAM_set_purpose(param, purpose);
	X509_VERIFY_PARAM_set_depth(param, 1);
	X509_VERIFY_PARAM_set_time(param, (time_t)now_s(env));
	if (X509_verify_cert(v) != 1)
		rc = lb_err_set(err, LB_EAUTH, 0, "certificate: %s",
				X509_verify_cert_error_string(X509_STORE_CTX_get_error(v)));
out:
	ERR_clear_error();
	X509_STORE_CTX_free(v);
	X509_STORE_free(store);
	return rc;
}

static bool names_uri(X509 *cert, const char *uri)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	const GENERAL_NAME *n =
		sk_GENERAL_NAME_num(names) == 1 ? sk_GENERAL_NAME_value(names, 0) : NULL;
	bool ok = n != NULL && n->type == GEN_URI &&
		  ASN1_STRING_length(n->d.uniformResourceIdentifier) == (int)strlen(uri) &&
		  memcmp(ASN1_STRING_get0_data(n->d.uniformResourceIdentifier), uri, strlen(uri)) ==
			  0;

	GENERAL_NAMES_free(names);
	return ok;
}

int sa_x509_server_check(X509 *ca, X509 *cert, struct lb_env *env, struct lb_err *err)
{
	return chain_check(ca, cert, X509_PURPOSE_SSL_SERVER, env, err);
}

int sa_x509_site_check(X509 *ca, X509 *cert, const struct lb_id *deployment,
		       const struct lb_id *site, const EVP_PKEY *key, struct lb_env *env,
		       struct lb_err *err)
{
	char uri[URI_BYTES];
	int rc = chain_check(ca, cert, X509_PURPOSE_SSL_SERVER, env, err);

	if (rc == 0)
		rc = chain_check(ca, cert, X509_PURPOSE_SSL_CLIENT, env, err);
	if (rc != 0)
		return rc;
	site_uri(uri, sizeof(uri), deployment, site);
	if (!names_uri(cert, uri))
		rc = lb_err_set(err, LB_EAUTH, 0, "certificate: its only name is not %s", uri);
	else if (key != NULL && EVP_PKEY_eq(X509_get0_pubkey(cert), key) != 1)
		rc = lb_err_set(err, LB_EAUTH, 0, "certificate: it is for another key");
	ERR_clear_error();
	return rc;
}

int64_t sa_x509_left_s(X509 *cert, struct lb_env *env)
{
	ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)now_s(env));
	int days = 0, seconds = 0;

	/* Out of memory or no time in it: as good as expired. */
	if (now == NULL || ASN1_TIME_diff(&days, &seconds, now, X509_get0_notAfter(cert)) != 1)
		days = -1;
	ASN1_TIME_free(now);
	ERR_clear_error();
	return (int64_t)days * 86400 + seconds;
}

/* ---- DER and PEM ---- */

int sa_x509_der(uint8_t **out, size_t *len, X509 *cert, struct lb_err *err)
{
	int n;

	*out = NULL;
	n = i2d_X509(cert, out);
	if (n <= 0)
		return library_err(err, "encode a certificate");
	*len = (size_t)n;
	return 0;
}

int sa_x509_hash(struct lb_hash *out, X509 *cert, struct lb_err *err)
{
	uint8_t *der = NULL;
	size_t len = 0;
	int rc = sa_x509_der(&der, &len, cert, err);

	if (rc == 0)
		lb_sha256(out, der, len);
	OPENSSL_free(der);
	return rc;
}

int sa_x509_of_der(X509 **out, const uint8_t *der, size_t len, struct lb_err *err)
{
	const uint8_t *p = der;
	X509 *c = len <= SA_DER_MAX ? d2i_X509(NULL, &p, (long)len) : NULL;

	ERR_clear_error();
	if (c == NULL || p != der + len) {
		X509_free(c);
		return lb_err_set(err, LB_EINPUT, 0, "%zu bytes are not one DER certificate", len);
	}
	*out = c;
	return 0;
}

/* The content of @bio as a string of its own. */
static int bio_text(char **out, size_t *len, BIO *bio)
{
	char *p = NULL;
	long n = BIO_get_mem_data(bio, &p);

	if (n <= 0)
		return LB_ENOMEM;
	*out = OPENSSL_malloc((size_t)n + 1);
	if (*out == NULL)
		return LB_ENOMEM;
	memcpy(*out, p, (size_t)n);
	(*out)[n] = '\0';
	*len = (size_t)n;
	return 0;
}

int sa_x509_pem(char **out, size_t *len, X509 *cert, struct lb_err *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int rc = LB_ENOMEM;

	if (bio != NULL && PEM_write_bio_X509(bio, cert) == 1)
		rc = bio_text(out, len, bio);
	BIO_free(bio);
	return rc == 0 ? 0 : library_err(err, "encode a certificate");
}

int sa_x509_key_pem(char **out, size_t *len, EVP_PKEY *key, struct lb_err *err)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	int rc = LB_ENOMEM;

	if (bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1)
		rc = bio_text(out, len, bio);
	BIO_free(bio);
	return rc == 0 ? 0 : library_err(err, "encode a private key");
}

/* A passphrase is never asked for: a key file that is encrypted is no key file of ours. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the library's signature */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

int sa_x509_of_pem(X509 **out, const void *pem, size_t len, struct lb_err *err)
{
	BIO *bio = len <= (size_t)2 * SA_DER_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	X509 *c = bio != NULL ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
	X509 *second = c != NULL ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	if (c == NULL || second != NULL) {
		X509_free(c);
		X509_free(second);
		return lb_err_set(err, LB_EINPUT, 0, "not one PEM certificate");
	}
	*out = c;
	return 0;
}

int sa_x509_key_of_pem(EVP_PKEY **out, const void *pem, size_t len, struct lb_err *err)
{
	BIO *bio = len <= SA_DER_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	EVP_PKEY *k = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	if (k == NULL || !EVP_PKEY_is_a(k, "ED25519")) {
		EVP_PKEY_free(k);
		return lb_err_set(err, LB_EINPUT, 0, "not one Ed25519 private key in PEM");
	}
	*out = k;
	return 0;
}
