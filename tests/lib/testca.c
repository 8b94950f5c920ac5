#include "testca.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct testca {
	char dir[256];
	EVP_PKEY *key;
	X509 *cert;
};

static void extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *x;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	LB_ASSERT(x != NULL && X509_add_ext(cert, x, -1) == 1);
	X509_EXTENSION_free(x);
}

static X509 *cert_make(EVP_PKEY *key, const char *name, int64_t from_s, int64_t to_s)
{
	X509 *c = X509_new();
	uint8_t serial[8];
	BIGNUM *n;

	LB_ASSERT(c != NULL && RAND_bytes(serial, sizeof(serial)) == 1);
	serial[0] &= 0x7f;
	n = BN_bin2bn(serial, sizeof(serial), NULL);
	LB_ASSERT(n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(c)) != NULL);
	BN_free(n);
	LB_ASSERT(X509_set_version(c, 2) == 1 && X509_set_pubkey(c, key) == 1);
	LB_ASSERT(X509_gmtime_adj(X509_getm_notBefore(c), from_s) != NULL);
	LB_ASSERT(X509_gmtime_adj(X509_getm_notAfter(c), to_s) != NULL);
	LB_ASSERT(X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC,
					     (const unsigned char *)name, -1, -1, 0) == 1);
	return c;
}

static FILE *file_make(const char *dir, const char *name, const char *suffix)
{
	char path[512];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s.%s", dir, name, suffix);
	f = fopen(path, "w");
	if (f == NULL)
		perror(path);
	LB_ASSERT(f != NULL);
	return f;
}

static void cert_write(const struct testca *ca, const char *name, X509 *cert)
{
	FILE *f = file_make(ca->dir, name, "pem");

	LB_ASSERT(PEM_write_X509(f, cert) == 1 && fclose(f) == 0);
}

struct testca *testca_create(const char *dir, const char *name)
{
	struct testca *ca = calloc(1, sizeof(*ca));

	LB_ASSERT(ca != NULL);
	(void)snprintf(ca->dir, sizeof(ca->dir), "%s", dir);
	ca->key = EVP_EC_gen("P-256");
	LB_ASSERT(ca->key != NULL);
	ca->cert = cert_make(ca->key, name, -3600, 86400);
	LB_ASSERT(X509_set_issuer_name(ca->cert, X509_get_subject_name(ca->cert)) == 1);
	extension(ca->cert, ca->cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
	extension(ca->cert, ca->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
	extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash");
	LB_ASSERT(X509_sign(ca->cert, ca->key, EVP_sha256()) > 0);
	cert_write(ca, name, ca->cert);
	return ca;
}

void testca_destroy(struct testca *ca)
{
	if (ca == NULL)
		return;
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	free(ca);
}

void testca_issue(const struct testca *ca, const char *name, const struct lb_id *deployment,
		  const struct lb_id *site, int64_t from_s, int64_t to_s)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	char san[128], a[LB_ID_TEXT], b[LB_ID_TEXT];
	X509 *cert;
	FILE *f;

	LB_ASSERT(key != NULL);
	cert = cert_make(key, name, from_s, to_s);
	LB_ASSERT(X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) == 1);
	extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE");
	extension(cert, ca->cert, NID_authority_key_identifier, "keyid");
	if (site != NULL) {
		(void)snprintf(san, sizeof(san), "URI:lifeboat:%s:site:%s",
			       lb_id_text(deployment, a), lb_id_text(site, b));
		extension(cert, ca->cert, NID_subject_alt_name, san);
	}
	LB_ASSERT(X509_sign(cert, ca->key, EVP_sha256()) > 0);
	cert_write(ca, name, cert);
	f = file_make(ca->dir, name, "key");
	LB_ASSERT(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0);
	X509_free(cert);
	EVP_PKEY_free(key);
}
