#include "base/seal.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"

enum {
	BLOCK = 16,
	GCM_NONCE = 12
};

struct lb_sealer {
	EVP_CIPHER_CTX *ecb; /* the master key, scheduled once */
	EVP_CIPHER_CTX *gcm; /* keyed anew for every message */
	uint8_t k1[BLOCK];   /* CMAC subkey of the master key */
};

void lb_key_random(struct lb_key *k, struct lb_env *env)
{
	env->random(env, k->b, sizeof(k->b));
}

void lb_key_wipe(struct lb_key *k)
{
	OPENSSL_cleanse(k->b, sizeof(k->b));
}

void lb_key_id(struct lb_id *out, const struct lb_key *k)
{
	static const char label[] = "lifeboat key id";
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	LB_ASSERT(HMAC(EVP_sha256(), k->b, sizeof(k->b), (const uint8_t *)label, sizeof(label) - 1,
		       mac, &len) != NULL);
	LB_ASSERT(len >= sizeof(out->b));
	memcpy(out->b, mac, sizeof(out->b));
}

/* A context with @name's implementation fetched, keyed when @key is given. NULL on failure. */
static EVP_CIPHER_CTX *cipher_ctx(const char *name, const uint8_t *key)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (cipher == NULL || ctx == NULL ||
	    EVP_CipherInit_ex(ctx, cipher, NULL, key, NULL, 1) != 1) {
		EVP_CIPHER_CTX_free(ctx);
		ctx = NULL;
	}
	EVP_CIPHER_free(cipher); /* the context holds its own reference */
	return ctx;
}

static bool ecb_run(EVP_CIPHER_CTX *ecb, uint8_t *out, const uint8_t *in, int len)
{
	int done = 0;

	return EVP_EncryptUpdate(ecb, out, &done, in, len) == 1 && done == len;
}

/* NIST SP 800-38B section 6.1: L = AES(0), K1 = L << 1, reduced by x^128 + x^7 + x^2 + x + 1. */
static bool make_k1(struct lb_sealer *s)
{
	uint8_t l[BLOCK] = {0};

	if (!ecb_run(s->ecb, l, l, BLOCK))
		return false;
	for (int i = 0; i < BLOCK; i++)
		s->k1[i] = (uint8_t)(l[i] << 1 | (i + 1 < BLOCK ? l[i + 1] >> 7 : 0));
	s->k1[BLOCK - 1] ^= (uint8_t)(0x87 & -(l[0] >> 7)); /* no branch on key bits */
	OPENSSL_cleanse(l, sizeof(l));
	return true;
}

/* C2SP XAES-256-GCM, step 2 on: AES(M1 ^ K1) || AES(M2 ^ K1), M = 00 i "X" 00 || nonce[0..12). */
static bool derive(struct lb_sealer *s, uint8_t key[LB_KEY_BYTES], const uint8_t *nonce)
{
	uint8_t m[2 * BLOCK];

	for (uint8_t i = 0; i < 2; i++) {
		uint8_t *b = m + (size_t)i * BLOCK;

		b[0] = 0;
		b[1] = (uint8_t)(i + 1);
		b[2] = 'X';
		b[3] = 0;
		memcpy(b + 4, nonce, GCM_NONCE);
		for (int j = 0; j < BLOCK; j++)
			b[j] ^= s->k1[j];
	}
	return ecb_run(s->ecb, key, m, sizeof(m));
}

int lb_sealer_create(struct lb_sealer **out, const struct lb_key *k, struct lb_err *err)
{
	struct lb_sealer *s = calloc(1, sizeof(*s));

	if (s == NULL)
		goto fail;
	s->ecb = cipher_ctx("AES-256-ECB", k->b);
	s->gcm = cipher_ctx("AES-256-GCM", NULL);
	if (s->ecb == NULL || s->gcm == NULL || EVP_CIPHER_CTX_set_padding(s->ecb, 0) != 1 ||
	    !make_k1(s))
		goto fail;
	*out = s;
	return 0;
fail:
	lb_sealer_destroy(s);
	return lb_err_set(err, LB_ENOMEM, 0, "make an AES-256-GCM context");
}

void lb_sealer_destroy(struct lb_sealer *s)
{
	if (s == NULL)
		return;
	EVP_CIPHER_CTX_free(s->ecb); /* OpenSSL wipes the key schedules */
	EVP_CIPHER_CTX_free(s->gcm);
	OPENSSL_cleanse(s, sizeof(*s));
	free(s);
}

/* Key the GCM context for one message and feed the associated data. */
static bool gcm_begin(struct lb_sealer *s, const uint8_t *nonce, const void *aad, size_t aad_len,
		      int encrypt)
{
	uint8_t key[LB_KEY_BYTES];
	int n = 0;
	bool ok = derive(s, key, nonce) &&
		  EVP_CipherInit_ex(s->gcm, NULL, NULL, key, nonce + GCM_NONCE, encrypt) == 1;

	OPENSSL_cleanse(key, sizeof(key));
	if (ok && aad_len != 0)
		ok = EVP_CipherUpdate(s->gcm, NULL, &n, aad, (int)aad_len) == 1;
	return ok;
}

static bool gcm_text(struct lb_sealer *s, uint8_t *out, const void *in, size_t len)
{
	int n = 0;

	return len == 0 || EVP_CipherUpdate(s->gcm, out, &n, in, (int)len) == 1;
}

static int check_len(size_t aad_len, size_t len, struct lb_err *err)
{
	if (len <= INT_MAX && aad_len <= INT_MAX)
		return 0;
	return lb_err_set(err, LB_EINVAL, 0, "seal %zu bytes with %zu of associated data", len,
			  aad_len);
}

/* NOLINTNEXTLINE(readability-function-size): AEAD has this many inputs; seal.h is the contract */
int lb_seal(struct lb_sealer *s, uint8_t *out, uint8_t tag[LB_SEAL_TAG_BYTES],
	    const uint8_t nonce[LB_SEAL_NONCE_BYTES], const void *aad, size_t aad_len,
	    const void *plain, size_t len, struct lb_err *err)
{
	uint8_t none[BLOCK];
	int n = 0;
	int rc = check_len(aad_len, len, err);

	if (rc != 0)
		return rc;
	if (!gcm_begin(s, nonce, aad, aad_len, 1) || !gcm_text(s, out, plain, len) ||
	    EVP_CipherFinal_ex(s->gcm, none, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(s->gcm, EVP_CTRL_AEAD_GET_TAG, LB_SEAL_TAG_BYTES, tag) != 1)
		return lb_err_set(err, LB_ENOMEM, 0, "seal %zu bytes", len);
	return 0;
}

/* NOLINTNEXTLINE(readability-function-size) */
int lb_unseal(struct lb_sealer *s, uint8_t *out, const uint8_t tag[LB_SEAL_TAG_BYTES],
	      const uint8_t nonce[LB_SEAL_NONCE_BYTES], const void *aad, size_t aad_len,
	      const void *cipher, size_t len, struct lb_err *err)
{
	uint8_t expect[LB_SEAL_TAG_BYTES];
	uint8_t none[BLOCK];
	int n = 0;
	int rc = check_len(aad_len, len, err);

	if (rc != 0)
		return rc;
	memcpy(expect, tag, sizeof(expect)); /* the ctrl wants it writable */
	if (!gcm_begin(s, nonce, aad, aad_len, 0) || !gcm_text(s, out, cipher, len) ||
	    EVP_CIPHER_CTX_ctrl(s->gcm, EVP_CTRL_AEAD_SET_TAG, sizeof(expect), expect) != 1)
		rc = lb_err_set(err, LB_ENOMEM, 0, "unseal %zu bytes", len);
	else if (EVP_CipherFinal_ex(s->gcm, none, &n) != 1)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "unseal %zu bytes: tag does not fit", len);
	/* Unauthenticated plaintext must not be usable by a caller that forgets to look. */
	if (rc != 0 && len != 0)
		OPENSSL_cleanse(out, len);
	return rc;
}
