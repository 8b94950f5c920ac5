/*
 * base/hash.h - SHA-256, CRC32C, XXH3-128 and the Merkle tree over leaf hashes.
 *
 * SHA-256 (FIPS 180-4, OpenSSL) names content and is what a signature covers. CRC32C (RFC 3720
 * B.4, polynomial 0x1EDC6F41, SSE4.2 where present) finds torn records cheaply. XXH3-128 with a
 * secret is for digests that never leave the source. None of the last two is ever trusted against
 * an attacker.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_sha256;

void lb_sha256(struct lb_hash *out, const void *p, size_t len);
/* SHA-256 over the concatenation of two pieces (no copy). */
void lb_sha256_2(struct lb_hash *out, const void *a, size_t a_len, const void *b, size_t b_len);

/* Incremental. LB_ENOMEM is the only way create fails; update and final cannot. */
int lb_sha256_create(struct lb_sha256 **out, struct lb_err *err);
void lb_sha256_update(struct lb_sha256 *s, const void *p, size_t len);
void lb_sha256_final(struct lb_sha256 *s, struct lb_hash *out); /* and resets */
void lb_sha256_destroy(struct lb_sha256 *s);

/* CRC32C of @len bytes continuing from @crc (0 to start). */
uint32_t lb_crc32c(uint32_t crc, const void *p, size_t len);

#define LB_XXH_SECRET_BYTES 192u
struct lb_digest {
	uint8_t b[16];
};
/* XXH3-128 of @p under @secret (LB_XXH_SECRET_BYTES random bytes), canonical byte order. */
void lb_xxh3(struct lb_digest *out, const void *p, size_t len, const uint8_t *secret);

/*
 * Root of the binary Merkle tree of RFC 9162 section 2.1.1 over @n leaf hashes: an inner node is
 * SHA-256(0x01 || left || right), the split is the largest power of two below n. Leaves come
 * hashed already. n = 0 gives SHA-256 of nothing.
 */
void lb_merkle_root(struct lb_hash *out, const struct lb_hash *leaves, size_t n);

/*
 * The leaf hash of @len bytes is the same tree's root over the bytes cut into pieces of
 * LB_PIECE_BYTES (the last may be shorter, none is empty), each hashed as SHA-256(0x00 || piece).
 * Up to one piece it is thus RFC 9162's own leaf hash. Longer data is a tree because the pieces can
 * then be hashed side by side, which is two to four times as fast. The prefix of a hash tells a
 * piece from a node, so no two inputs share a tree.
 */
#define LB_PIECE_BYTES 2048u
void lb_merkle_leaf(struct lb_hash *out, const void *data, size_t len);

#endif
