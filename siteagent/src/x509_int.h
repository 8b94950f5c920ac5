/*
 * siteagent/src/x509_int.h - the certificates of a deployment: make, sign, read, check.
 *
 * Everything is Ed25519 and X.509 v3 (RFC 5280, checked with OpenSSL's X509_V_FLAG_X509_STRICT):
 *   CA    CN "lifeboat CA <first 8 hex of the deployment>", basicConstraints critical CA pathlen 0,
 *         keyUsage critical keyCertSign cRLSign, ten years
 *   site  CN = the site's name, basicConstraints critical not CA, keyUsage critical
 *         digitalSignature, extendedKeyUsage serverAuth clientAuth, one subjectAltName URI
 *         "lifeboat:<deployment hex>:site:<site hex>", 398 days
 * Both begin an hour before now, for clocks that are behind. The clock is env->wall_ns().
 *
 * A signing request gives its public key and its proof of possession, nothing else: names and
 * extensions are the CA's to say. Thread: pure, any thread. OpenSSL's error queue is left empty.
 */
#ifndef SITEAGENT_X509_INT_H
#define SITEAGENT_X509_INT_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_env;
struct lb_err;

#define SA_CERT_S    (INT64_C(398) * 86400)
#define SA_CA_CERT_S (INT64_C(3650) * 86400)
#define SA_DER_MAX   4096u /* of a certificate or signing request */

/* Results are the caller's: EVP_PKEY_free(), X509_free(), OPENSSL_free() for bytes. Errors:
 * LB_ENOMEM (library) unless told otherwise. */
int sa_x509_key_new(EVP_PKEY **out, struct lb_env *env, struct lb_err *err);
int sa_x509_ca_new(X509 **out, EVP_PKEY *key, const struct lb_id *deployment, struct lb_env *env,
		   struct lb_err *err);

struct sa_x509_subject {
	struct lb_id deployment, site;
	const char *name; /* of the site */
	EVP_PKEY *key;    /* its public half is certified */
};
int sa_x509_site_new(X509 **out, X509 *ca, EVP_PKEY *ca_key, const struct sa_x509_subject *s,
		     struct lb_env *env, struct lb_err *err);

/* A PKCS #10 request of @key for @name, DER. */
int sa_x509_request_new(uint8_t **der, size_t *len, EVP_PKEY *key, const char *name,
			struct lb_err *err);
/* The public key of foreign request @der, after its signature, algorithm and name fit. Errors:
 * LB_EAUTH saying what does not. */
int sa_x509_request_read(EVP_PKEY **out, const uint8_t *der, size_t len, const char *name,
			 struct lb_err *err);

/* Is @cert one that @ca gave to (@deployment, @site) for both uses, in its time, and for @key (may
 * be NULL: any)? @ca is trusted as it is. Errors: LB_EAUTH saying what is wrong. */
int sa_x509_site_check(X509 *ca, X509 *cert, const struct lb_id *deployment,
		       const struct lb_id *site, const EVP_PKEY *key, struct lb_env *env,
		       struct lb_err *err);
/* As above for any site of any deployment of @ca: what a joining site knows of a server. */
int sa_x509_server_check(X509 *ca, X509 *cert, struct lb_env *env, struct lb_err *err);

/* SHA-256 of the DER form. */
int sa_x509_hash(struct lb_hash *out, X509 *cert, struct lb_err *err);
int64_t sa_x509_left_s(X509 *cert, struct lb_env *env);

/* DER and PEM. Reading: exactly one object and nothing behind it. Errors: LB_EINPUT. */
int sa_x509_der(uint8_t **out, size_t *len, X509 *cert, struct lb_err *err);
int sa_x509_of_der(X509 **out, const uint8_t *der, size_t len, struct lb_err *err);
int sa_x509_pem(char **out, size_t *len, X509 *cert, struct lb_err *err);
int sa_x509_of_pem(X509 **out, const void *pem, size_t len, struct lb_err *err);
int sa_x509_key_pem(char **out, size_t *len, EVP_PKEY *key, struct lb_err *err);
int sa_x509_key_of_pem(EVP_PKEY **out, const void *pem, size_t len, struct lb_err *err);

#endif
