#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/seal.h"
#include "seal_int.h"

int lb_kwp_run(struct lb_kwp *w, int wrap)
{
	const char *name = w->kek_len == 24 ? "AES-192-WRAP-PAD" : "AES-256-WRAP-PAD";
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int rc = -1;
	int n = 0;
	int last = 0;

	LB_ASSERT(w->kek_len == 24 || w->kek_len == 32);
	LB_ASSERT(w->len <= 4096);
	if (cipher == NULL || ctx == NULL)
		goto out;
	EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	if (EVP_CipherInit_ex(ctx, cipher, NULL, w->kek, NULL, wrap) != 1 ||
	    EVP_CipherUpdate(ctx, w->out, &n, w->in, (int)w->len) != 1 || n <= 0 ||
	    EVP_CipherFinal_ex(ctx, w->out + n, &last) != 1)
		goto out;
	w->out_len = (size_t)n + (size_t)last;
	rc = 0;
out:
	ERR_clear_error(); /* or a later TLS call on this thread would find them */
	EVP_CIPHER_CTX_free(ctx);
	EVP_CIPHER_free(cipher);
	return rc;
}

int lb_key_wrap(uint8_t out[LB_WRAP_BYTES], const struct lb_key *kek, const struct lb_key *key,
		struct lb_err *err)
{
	uint8_t buf[LB_WRAP_BYTES + 16];
	struct lb_kwp w = {
		.kek = kek->b,
		.kek_len = sizeof(kek->b),
		.in = key->b,
		.len = sizeof(key->b),
		.out = buf,
	};

	if (lb_kwp_run(&w, 1) != 0 || w.out_len != LB_WRAP_BYTES)
		return lb_err_set(err, LB_ENOMEM, 0, "wrap a key");
	memcpy(out, buf, LB_WRAP_BYTES);
	return 0;
}

int lb_key_unwrap(struct lb_key *out, const struct lb_key *kek, const uint8_t in[LB_WRAP_BYTES],
		  struct lb_err *err)
{
	uint8_t buf[LB_WRAP_BYTES + 16];
	struct lb_kwp w = {
		.kek = kek->b,
		.kek_len = sizeof(kek->b),
		.in = in,
		.len = LB_WRAP_BYTES,
		.out = buf,
	};
	int rc = 0;

	if (lb_kwp_run(&w, 0) != 0 || w.out_len != sizeof(out->b))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "unwrap a key: not wrapped with this one");
	else
		memcpy(out->b, buf, sizeof(out->b));
	OPENSSL_cleanse(buf, sizeof(buf));
	return rc;
}
