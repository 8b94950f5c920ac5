#include "base/hash.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Chooses AVX2 or AVX-512 at run time: a scan hashes twice as fast. Same digests. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

#include "base/assert.h"
#include "base/err.h"
#include "sha256x_int.h"

#define LEAF_TAG       0x00u
#define NODE_TAG       0x01u
#define SUBTREE_PIECES 64u

struct lb_sha256 {
	EVP_MD_CTX *ctx;
};

/*
 * The one permitted kind of process-wide state: constant after its first use. EVP_sha256() would
 * make OpenSSL 3.0 look the provider's implementation up (locks, a hash table) at every init,
 * which costs more than hashing a Merkle node; a fetched EVP_MD does not.
 */
static pthread_once_t md_once = PTHREAD_ONCE_INIT;
static EVP_MD *md_sha256;
static enum lb_sha256x_unit side_by_side;

static void md_fetch(void)
{
	md_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	side_by_side = lb_sha256x_best();
}

static const EVP_MD *md_get(void)
{
	(void)pthread_once(&md_once, md_fetch);
	return md_sha256;
}

/* The one-shot functions cannot report: without a few hundred bytes or SHA-256 we must stop. */
static EVP_MD_CTX *ctx_must(void)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	LB_ASSERT(ctx != NULL && md_get() != NULL);
	LB_ASSERT(EVP_DigestInit_ex(ctx, md_get(), NULL) == 1);
	return ctx;
}

static void ctx_final(EVP_MD_CTX *ctx, struct lb_hash *out)
{
	LB_ASSERT(EVP_DigestFinal_ex(ctx, out->b, NULL) == 1);
	/* NULL type: keeps the context's memory, starts over. */
	LB_ASSERT(EVP_DigestInit_ex(ctx, NULL, NULL) == 1);
}

void lb_sha256_2(struct lb_hash *out, const void *a, size_t a_len, const void *b, size_t b_len)
{
	EVP_MD_CTX *ctx = ctx_must();

	LB_ASSERT(EVP_DigestUpdate(ctx, a, a_len) == 1);
	LB_ASSERT(EVP_DigestUpdate(ctx, b, b_len) == 1);
	LB_ASSERT(EVP_DigestFinal_ex(ctx, out->b, NULL) == 1);
	EVP_MD_CTX_free(ctx);
}

void lb_sha256(struct lb_hash *out, const void *p, size_t len)
{
	lb_sha256_2(out, p, len, NULL, 0);
}

int lb_sha256_create(struct lb_sha256 **out, struct lb_err *err)
{
	struct lb_sha256 *s = calloc(1, sizeof(*s));

	if (s == NULL)
		goto fail;
	s->ctx = EVP_MD_CTX_new();
	if (s->ctx == NULL || md_get() == NULL || EVP_DigestInit_ex(s->ctx, md_get(), NULL) != 1)
		goto fail;
	*out = s;
	return 0;
fail:
	lb_sha256_destroy(s);
	return lb_err_set(err, LB_ENOMEM, 0, "make a SHA-256 context");
}

void lb_sha256_update(struct lb_sha256 *s, const void *p, size_t len)
{
	LB_ASSERT(EVP_DigestUpdate(s->ctx, p, len) == 1);
}

void lb_sha256_final(struct lb_sha256 *s, struct lb_hash *out)
{
	ctx_final(s->ctx, out);
}

void lb_sha256_destroy(struct lb_sha256 *s)
{
	if (s == NULL)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

void lb_xxh3(struct lb_digest *out, const void *p, size_t len, const uint8_t *secret)
{
	XXH128_hash_t h = XXH3_128bits_withSecret(p, len, secret, LB_XXH_SECRET_BYTES);
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, h);
	_Static_assert(sizeof(c.digest) == sizeof(out->b), "XXH3-128 is 16 bytes");
	memcpy(out->b, c.digest, sizeof(out->b));
}

/* out[i] = SHA-256(@tag || msg[i]). They cost the same however few are filled: below three the
 * plain way is faster. */
static void hash_some(EVP_MD_CTX *ctx, struct lb_hash *out, uint8_t tag,
		      const struct lb_sha256x_msg *msg, size_t n)
{
	if (side_by_side != LB_SHA256X_NONE && n >= 3) {
		lb_sha256x(side_by_side, out, tag, msg, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		LB_ASSERT(EVP_DigestUpdate(ctx, &tag, 1) == 1);
		LB_ASSERT(EVP_DigestUpdate(ctx, msg[i].p, msg[i].len) == 1);
		ctx_final(ctx, &out[i]);
	}
}

/* Replace the @n hashes at @h by the hashes of their pairs, an odd last one moving up as it is;
 * returns how many there are now. That is the RFC's tree, built by levels. */
static size_t hash_level(EVP_MD_CTX *ctx, struct lb_hash *h, size_t n)
{
	size_t pairs = n / 2;

	for (size_t i = 0; i < pairs; i += LB_SHA256X_LANES) {
		struct lb_sha256x_msg msg[LB_SHA256X_LANES];
		size_t k = pairs - i < LB_SHA256X_LANES ? pairs - i : LB_SHA256X_LANES;

		for (size_t j = 0; j < k; j++)
			msg[j] = (struct lb_sha256x_msg){h[2 * (i + j)].b,
							 2 * (size_t)LB_HASH_BYTES};
		hash_some(ctx, h + i, NODE_TAG, msg, k); /* reads ahead of what it writes */
	}
	if (n % 2 == 1)
		h[pairs] = h[n - 1];
	return pairs + n % 2;
}

/* Tree hash of at most SUBTREE_PIECES pieces. */
static void hash_subtree(EVP_MD_CTX *ctx, struct lb_hash *out, const uint8_t *p, size_t len)
{
	struct lb_hash h[SUBTREE_PIECES];
	size_t n = len > 0 ? (len + LB_PIECE_BYTES - 1) / LB_PIECE_BYTES : 1;

	for (size_t i = 0; i < n; i += LB_SHA256X_LANES) {
		struct lb_sha256x_msg msg[LB_SHA256X_LANES];
		size_t k = n - i < LB_SHA256X_LANES ? n - i : LB_SHA256X_LANES;

		for (size_t j = 0; j < k; j++) {
			size_t at = (i + j) * LB_PIECE_BYTES;

			msg[j].p = at > 0 ? p + at : p; /* p may be NULL when len is 0 */
			msg[j].len = len - at < LB_PIECE_BYTES ? len - at : LB_PIECE_BYTES;
		}
		hash_some(ctx, h + i, LEAF_TAG, msg, k);
	}
	while (n > 1)
		n = hash_level(ctx, h, n);
	*out = h[0];
}

static void hash_tree(EVP_MD_CTX *ctx, struct lb_hash *out, const uint8_t *p, size_t len)
{
	const size_t unit = (size_t)SUBTREE_PIECES * LB_PIECE_BYTES;
	struct lb_hash pair[2];
	size_t left = unit;

	if (len <= unit) {
		hash_subtree(ctx, out, p, len);
		return;
	}
	while (left < len - left) /* the largest power of two of pieces below all */
		left *= 2;
	hash_tree(ctx, &pair[0], p, left);
	hash_tree(ctx, &pair[1], p + left, len - left);
	(void)hash_level(ctx, pair, 2);
	*out = pair[0];
}

void lb_merkle_leaf(struct lb_hash *out, const void *data, size_t len)
{
	EVP_MD_CTX *ctx = ctx_must();

	hash_tree(ctx, out, data, len);
	EVP_MD_CTX_free(ctx);
}

static void merkle_join(EVP_MD_CTX *ctx, struct lb_hash *left, const struct lb_hash *right)
{
	uint8_t node[1 + 2 * LB_HASH_BYTES];

	node[0] = NODE_TAG;
	memcpy(node + 1, left->b, LB_HASH_BYTES);
	memcpy(node + 1 + LB_HASH_BYTES, right->b, LB_HASH_BYTES);
	LB_ASSERT(EVP_DigestUpdate(ctx, node, sizeof(node)) == 1);
	ctx_final(ctx, left);
}

/*
 * A binary counter of finished subtrees: before leaf i, stack[] holds one root per set bit of i,
 * largest first. That is the RFC's split (largest power of two below n) without recursion.
 */
void lb_merkle_root(struct lb_hash *out, const struct lb_hash *leaves, size_t n)
{
	struct lb_hash stack[64];
	unsigned depth = 0;
	EVP_MD_CTX *ctx;

	if (n == 0) {
		lb_sha256(out, NULL, 0);
		return;
	}
	ctx = ctx_must();
	for (size_t i = 0; i < n; i++) {
		stack[depth++] = leaves[i];
		for (size_t bits = i; (bits & 1) != 0; bits >>= 1) {
			merkle_join(ctx, &stack[depth - 2], &stack[depth - 1]);
			depth--;
		}
	}
	for (; depth > 1; depth--)
		merkle_join(ctx, &stack[depth - 2], &stack[depth - 1]);
	*out = stack[0];
	EVP_MD_CTX_free(ctx);
}
