#include <string.h>

#include "base/assert.h"
#include "sha256x_int.h"

#define LANES       LB_SHA256X_LANES
#define BLOCK_BYTES 64u
#define PAD_MIN     9u /* the 0x80 byte and the 64-bit length */

#ifdef __x86_64__

#include <cpuid.h>

/* FIPS 180-4 section 4.2.2 */
static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2};
/* section 5.3.3 */
static const uint32_t H0[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

typedef uint32_t vec __attribute__((vector_size(4 * LANES)));

#define ROR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

/* One block of every lane. The body is compiled twice, for each vector unit; gcc and clang split
 * the vectors where the unit is narrower. */
static inline __attribute__((always_inline)) void compress(vec state[8],
							   const uint8_t *const block[LANES])
{
	vec w[16];
	vec s[8];

	for (unsigned i = 0; i < LANES; i++) {
		for (unsigned t = 0; t < 16; t++) {
			uint32_t v;

			memcpy(&v, block[i] + (size_t)4 * t, sizeof(v));
			w[t][i] = __builtin_bswap32(v);
		}
	}
	for (unsigned i = 0; i < 8; i++)
		s[i] = state[i];
#pragma GCC unroll 64
	for (unsigned t = 0; t < 64; t++) {
		vec wt = w[t & 15];
		vec t1 = s[7] + (ROR(s[4], 6) ^ ROR(s[4], 11) ^ ROR(s[4], 25)) +
			 (s[6] ^ (s[4] & (s[5] ^ s[6]))) + K[t] + wt;
		vec t2 = (ROR(s[0], 2) ^ ROR(s[0], 13) ^ ROR(s[0], 22)) +
			 ((s[0] & s[1]) | (s[2] & (s[0] | s[1])));

		if (t < 48) {
			vec a = w[(t + 1) & 15];
			vec b = w[(t + 14) & 15];

			w[t & 15] = wt + w[(t + 9) & 15] + (ROR(a, 7) ^ ROR(a, 18) ^ (a >> 3)) +
				    (ROR(b, 17) ^ ROR(b, 19) ^ (b >> 10));
		}
		s[7] = s[6];
		s[6] = s[5];
		s[5] = s[4];
		s[4] = s[3] + t1;
		s[3] = s[2];
		s[2] = s[1];
		s[1] = s[0];
		s[0] = t1 + t2;
	}
	for (unsigned i = 0; i < 8; i++)
		state[i] += s[i];
}

__attribute__((target("avx512f"))) static void compress_avx512(vec *state,
							       const uint8_t *const *block)
{
	compress(state, block);
}

__attribute__((target("avx2"))) static void compress_avx2(vec *state, const uint8_t *const *block)
{
	compress(state, block);
}

static bool has_sha_instructions(void)
{
	unsigned a = 0;
	unsigned b = 0;
	unsigned c = 0;
	unsigned d = 0;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) == 1 && (b & (1u << 29)) != 0;
}

bool lb_sha256x_useful(void)
{
	return __builtin_cpu_supports("avx2") && !has_sha_instructions();
}

static size_t blocks_of(const struct lb_sha256x_msg *m)
{
	return (1 + m->len + PAD_MIN + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

/* Block @b of tag || message || padding: in place where it is message only, else built in @tmp. */
static const uint8_t *block_at(uint8_t tmp[BLOCK_BYTES], const struct lb_sha256x_msg *m,
			       uint8_t tag, size_t b)
{
	size_t from = b * BLOCK_BYTES; /* in the padded stream, whose byte 0 is the tag */

	if (b > 0 && from - 1 + BLOCK_BYTES <= m->len)
		return m->p + from - 1;
	memset(tmp, 0, BLOCK_BYTES);
	size_t at = 0;
	if (b == 0)
		tmp[at++] = tag;
	size_t data = from + at - 1;
	if (data <= m->len) {
		size_t n = m->len - data < BLOCK_BYTES - at ? m->len - data : BLOCK_BYTES - at;

		if (n > 0)
			memcpy(tmp + at, m->p + data, n);
		if (at + n < BLOCK_BYTES)
			tmp[at + n] = 0x80;
	}
	if (b + 1 == blocks_of(m)) {
		uint64_t bits = ((uint64_t)m->len + 1) * 8;

		for (unsigned i = 0; i < 8; i++)
			tmp[BLOCK_BYTES - 1 - i] = (uint8_t)(bits >> (8 * i));
	}
	return tmp;
}

static void digest_of(struct lb_hash *out, const vec state[8], size_t lane)
{
	for (unsigned i = 0; i < 8; i++) {
		uint32_t v = __builtin_bswap32(state[i][lane]);

		memcpy(out->b + (size_t)4 * i, &v, sizeof(v));
	}
}

void lb_sha256x(struct lb_hash *out, uint8_t tag, const struct lb_sha256x_msg *msg, size_t n)
{
	static const uint8_t nothing[BLOCK_BYTES];
	uint8_t tmp[LANES][BLOCK_BYTES];
	const uint8_t *block[LANES];
	bool wide = __builtin_cpu_supports("avx512f");
	size_t blocks = 0;
	vec state[8];

	LB_ASSERT(n >= 1 && n <= LANES);
	for (unsigned i = 0; i < 8; i++)
		state[i] = (vec){0} + H0[i];
	for (size_t i = 0; i < n; i++)
		blocks = blocks_of(&msg[i]) > blocks ? blocks_of(&msg[i]) : blocks;
	for (size_t i = n; i < LANES; i++)
		block[i] = nothing;
	for (size_t b = 0; b < blocks; b++) {
		for (size_t i = 0; i < n; i++)
			block[i] = b < blocks_of(&msg[i]) ? block_at(tmp[i], &msg[i], tag, b)
							  : nothing;
		if (wide)
			compress_avx512(state, block);
		else
			compress_avx2(state, block);
		/* A lane whose message ended goes on with zeros, so take its digest now. */
		for (size_t i = 0; i < n; i++) {
			if (b + 1 == blocks_of(&msg[i]))
				digest_of(&out[i], state, i);
		}
	}
}

#else

bool lb_sha256x_useful(void)
{
	return false;
}

void lb_sha256x(struct lb_hash *out, uint8_t tag, const struct lb_sha256x_msg *msg, size_t n)
{
	(void)out, (void)tag, (void)msg, (void)n;
	LB_ASSERT(false);
}

#endif
