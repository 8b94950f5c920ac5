#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "base/seal.h"
#include "seal_int.h"

enum {
	SEED_BYTES = 32
};

struct lb_signer {
	EVP_PKEY *pkey;
	uint8_t seed[SEED_BYTES];
	struct lb_pubkey pub;
};

int lb_signer_from_seed(struct lb_signer **out, const uint8_t seed[32], struct lb_err *err)
{
	struct lb_signer *s = calloc(1, sizeof(*s));
	size_t len = sizeof(s->pub.b);

	if (s == NULL)
		goto fail;
	memcpy(s->seed, seed, sizeof(s->seed));
	s->pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, SEED_BYTES);
	if (s->pkey == NULL || EVP_PKEY_get_raw_public_key(s->pkey, s->pub.b, &len) != 1 ||
	    len != sizeof(s->pub.b))
		goto fail;
	*out = s;
	return 0;
fail:
	lb_signer_destroy(s);
	return lb_err_set(err, LB_ENOMEM, 0, "make an Ed25519 key");
}

int lb_signer_generate(struct lb_signer **out, struct lb_env *env, struct lb_err *err)
{
	uint8_t seed[SEED_BYTES];
	int rc;

	env->random(env, seed, sizeof(seed));
	rc = lb_signer_from_seed(out, seed, err);
	OPENSSL_cleanse(seed, sizeof(seed));
	return rc;
}

void lb_signer_export(const struct lb_signer *s, uint8_t seed[32])
{
	memcpy(seed, s->seed, sizeof(s->seed));
}

void lb_signer_pubkey(const struct lb_signer *s, struct lb_pubkey *out)
{
	*out = s->pub;
}

void lb_signer_destroy(struct lb_signer *s)
{
	if (s == NULL)
		return;
	EVP_PKEY_free(s->pkey);
	OPENSSL_cleanse(s, sizeof(*s));
	free(s);
}

int lb_sign_raw(const struct lb_signer *s, struct lb_sig *out, const void *msg, size_t len,
		struct lb_err *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct lb_sig sig;
	size_t sig_len = sizeof(sig.b);
	int rc = 0;

	if (ctx == NULL || EVP_DigestSignInit(ctx, NULL, NULL, NULL, s->pkey) != 1 ||
	    EVP_DigestSign(ctx, sig.b, &sig_len, msg, len) != 1 || sig_len != sizeof(sig.b))
		rc = lb_err_set(err, LB_ENOMEM, 0, "sign %zu bytes", len);
	else
		*out = sig;
	EVP_MD_CTX_free(ctx);
	return rc;
}

int lb_sig_verify_raw(const struct lb_pubkey *key, const struct lb_sig *sig, const void *msg,
		      size_t len, struct lb_err *err)
{
	EVP_PKEY *pkey =
		EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->b, sizeof(key->b));
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int rc = 0;

	if (pkey == NULL || ctx == NULL || EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) != 1)
		rc = lb_err_set(err, LB_ENOMEM, 0, "verify a signature over %zu bytes", len);
	else if (EVP_DigestVerify(ctx, sig->b, sizeof(sig->b), msg, len) != 1)
		rc = lb_err_set(err, LB_ECORRUPT, 0,
				"verify a signature over %zu bytes: not this key's", len);
	/* A bad signature queues errors that a later TLS call on this thread would find. */
	ERR_clear_error();
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	return rc;
}

/* "lifeboat " || purpose || 0x00 || message: a signature made for one purpose fits no other. */
static uint8_t *with_purpose(const char *purpose, const void *msg, size_t len, size_t *out_len)
{
	static const char product[] = "lifeboat ";
	size_t head = sizeof(product) - 1 + strlen(purpose) + 1;
	uint8_t *p = len <= SIZE_MAX - head ? malloc(head + len) : NULL;

	if (p == NULL)
		return NULL;
	memcpy(p, product, sizeof(product) - 1);
	memcpy(p + sizeof(product) - 1, purpose, strlen(purpose) + 1);
	if (len != 0)
		memcpy(p + head, msg, len);
	*out_len = head + len;
	return p;
}

int lb_sign(const struct lb_signer *s, struct lb_sig *out, const char *purpose, const void *msg,
	    size_t len, struct lb_err *err)
{
	size_t n = 0;
	uint8_t *p = with_purpose(purpose, msg, len, &n);
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "sign %zu bytes as %s", len, purpose);
	rc = lb_sign_raw(s, out, p, n, err);
	free(p);
	return rc;
}

int lb_sig_verify(const struct lb_pubkey *key, const struct lb_sig *sig, const char *purpose,
		  const void *msg, size_t len, struct lb_err *err)
{
	size_t n = 0;
	uint8_t *p = with_purpose(purpose, msg, len, &n);
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "verify %zu bytes as %s", len, purpose);
	rc = lb_sig_verify_raw(key, sig, p, n, err);
	free(p);
	return rc;
}
