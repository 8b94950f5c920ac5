#include <string.h>

#include "base/assert.h"
#include "sha256x_int.h"

#define LANES       LB_SHA256X_LANES
#define STREAMS     4u
#define BLOCK_BYTES 64u
#define PAD_MIN     9u /* the 0x80 byte and the 64-bit length */

#ifdef __x86_64__

#include <immintrin.h>
#include <sys/platform/x86.h>

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

bool lb_sha256x_has(enum lb_sha256x_unit unit)
{
	switch (unit) {
	case LB_SHA256X_NONE:
		return true;
	case LB_SHA256X_AVX2:
		return CPU_FEATURE_ACTIVE(AVX2);
	case LB_SHA256X_AVX512:
		return CPU_FEATURE_ACTIVE(AVX512F);
	case LB_SHA256X_SHA:
		return CPU_FEATURE_ACTIVE(SSE4_1) && CPU_FEATURE_ACTIVE(SHA);
	}
	return false;
}

enum lb_sha256x_unit lb_sha256x_best(void)
{
	/* GB/s on a Zen 4 core; OpenSSL one after the other: 1.6 by SHA instructions, 0.5 by AVX2.
	 * gcc -O2: 3.9, 2.6, 1.2. clang -O2: 3.2, 2.3, 0.4: it keeps vectors that are wider than
	 * the unit in memory. Without optimisation: 0.2, 0.7, 0.4, and less under a sanitizer. */
	static const enum lb_sha256x_unit by_speed[] = {
#ifdef __OPTIMIZE__
		LB_SHA256X_SHA,
		LB_SHA256X_AVX512,
#ifndef __clang__
		LB_SHA256X_AVX2,
#endif
#endif
		LB_SHA256X_NONE,
	};
	unsigned i = 0;

	while (!lb_sha256x_has(by_speed[i]))
		i++;
	return by_speed[i];
}

static size_t blocks_of(const struct lb_sha256x_msg *m)
{
	return (1 + m->len + PAD_MIN + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

/* Block @b of tag || message || padding: in place where it is message only, else built in @tmp, of
 * BLOCK_BYTES. */
static const uint8_t *block_at(uint8_t *tmp, const struct lb_sha256x_msg *m, uint8_t tag, size_t b)
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

static void by_lanes(struct lb_hash *out, uint8_t tag, const struct lb_sha256x_msg *msg, size_t n,
		     bool wide)
{
	static const uint8_t nothing[BLOCK_BYTES];
	uint8_t tmp[LANES][BLOCK_BYTES];
	const uint8_t *block[LANES];
	size_t blocks = 0;
	vec state[8];

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

/* ---- SHA instructions ---- */

/*
 * A round instruction waits for the one before it, and the unit idles meanwhile: four streams keep
 * it busy (twice the speed of one, measured on Zen 4). The state is kept as the instructions want
 * it: {A B E F} and {C D G H}, highest word first.
 */
struct sha_state {
	__m128i abef[STREAMS], cdgh[STREAMS];
};

__attribute__((target("sha,sse4.1"))) static void
compress_sha(struct sha_state *st, const uint8_t *const block[STREAMS], size_t blocks)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

	for (size_t b = 0; b < blocks; b++) {
		__m128i abef[STREAMS], cdgh[STREAMS], w[STREAMS][4];

#pragma GCC unroll 4
		for (unsigned i = 0; i < STREAMS; i++) {
			const __m128i *from = (const void *)(block[i] + b * BLOCK_BYTES);

			abef[i] = st->abef[i];
			cdgh[i] = st->cdgh[i];
#pragma GCC unroll 4
			for (unsigned t = 0; t < 4; t++)
				w[i][t] = _mm_shuffle_epi8(_mm_loadu_si128(from + t), big_endian);
		}
#pragma GCC unroll 16
		for (unsigned t = 0; t < 16; t++) { /* four rounds each */
			const __m128i k = _mm_loadu_si128((const void *)&K[(size_t)4 * t]);

#pragma GCC unroll 4
			for (unsigned i = 0; i < STREAMS; i++) {
				__m128i *m = w[i];
				__m128i wk = _mm_add_epi32(m[t & 3], k);

				cdgh[i] = _mm_sha256rnds2_epu32(cdgh[i], abef[i], wk);
				abef[i] = _mm_sha256rnds2_epu32(abef[i], cdgh[i],
								_mm_shuffle_epi32(wk, 0x0e));
				if (t < 12) /* the words of four rounds, sixteen later */
					m[t & 3] = _mm_sha256msg2_epu32(
						_mm_add_epi32(_mm_sha256msg1_epu32(m[t & 3],
										   m[(t + 1) & 3]),
							      _mm_alignr_epi8(m[(t + 3) & 3],
									      m[(t + 2) & 3], 4)),
						m[(t + 3) & 3]);
			}
		}
#pragma GCC unroll 4
		for (unsigned i = 0; i < STREAMS; i++) {
			st->abef[i] = _mm_add_epi32(st->abef[i], abef[i]);
			st->cdgh[i] = _mm_add_epi32(st->cdgh[i], cdgh[i]);
		}
	}
}

static void sha_digest_of(struct lb_hash *out, const struct sha_state *st, size_t i)
{
	static const unsigned abef_at[4] = {5, 4, 1, 0}, cdgh_at[4] = {7, 6, 3, 2};
	uint32_t abef[4], cdgh[4];

	memcpy(abef, &st->abef[i], sizeof(abef));
	memcpy(cdgh, &st->cdgh[i], sizeof(cdgh));
	for (unsigned t = 0; t < 4; t++) {
		uint32_t x = __builtin_bswap32(abef[t]), y = __builtin_bswap32(cdgh[t]);

		memcpy(out->b + (size_t)4 * abef_at[t], &x, sizeof(x));
		memcpy(out->b + (size_t)4 * cdgh_at[t], &y, sizeof(y));
	}
}

/* Blocks 1 .. of @m that lie in the message as they are. */
static size_t whole_blocks(const struct lb_sha256x_msg *m)
{
	return m->len < 2 * BLOCK_BYTES - 1 ? 0 : (m->len - (BLOCK_BYTES - 1)) / BLOCK_BYTES;
}

static void by_sha(struct lb_hash *out, uint8_t tag, const struct lb_sha256x_msg *msg, size_t n)
{
	uint8_t tmp[STREAMS][BLOCK_BYTES];
	const uint8_t *block[STREAMS];
	size_t blocks = 0, whole = SIZE_MAX, step;
	struct sha_state st;

	for (size_t i = 0; i < STREAMS; i++) {
		st.abef[i] = _mm_set_epi32((int)H0[0], (int)H0[1], (int)H0[4], (int)H0[5]);
		st.cdgh[i] = _mm_set_epi32((int)H0[2], (int)H0[3], (int)H0[6], (int)H0[7]);
	}
	for (size_t i = 0; i < n; i++) {
		blocks = blocks_of(&msg[i]) > blocks ? blocks_of(&msg[i]) : blocks;
		whole = whole_blocks(&msg[i]) < whole ? whole_blocks(&msg[i]) : whole;
	}
	for (size_t b = 0; b < blocks; b += step) {
		step = b == 1 && whole > 0 ? whole : 1;
		/* A stream that ended, or never was, goes over the bytes of another. */
		for (size_t i = 0; i < n; i++)
			block[i] =
				b < blocks_of(&msg[i]) ? block_at(tmp[i], &msg[i], tag, b) : tmp[i];
		for (size_t i = n; i < STREAMS; i++)
			block[i] = block[0];
		compress_sha(&st, block, step);
		for (size_t i = 0; i < n; i++) {
			if (b + step == blocks_of(&msg[i]))
				sha_digest_of(&out[i], &st, i);
		}
	}
}

void lb_sha256x(enum lb_sha256x_unit unit, struct lb_hash *out, uint8_t tag,
		const struct lb_sha256x_msg *msg, size_t n)
{
	LB_ASSERT(n >= 1 && n <= LANES && unit != LB_SHA256X_NONE);
	if (unit != LB_SHA256X_SHA) {
		by_lanes(out, tag, msg, n, unit == LB_SHA256X_AVX512);
		return;
	}
	for (size_t i = 0; i < n; i += STREAMS)
		by_sha(out + i, tag, msg + i, n - i < STREAMS ? n - i : STREAMS);
}

#else

bool lb_sha256x_has(enum lb_sha256x_unit unit)
{
	return unit == LB_SHA256X_NONE;
}

enum lb_sha256x_unit lb_sha256x_best(void)
{
	return LB_SHA256X_NONE;
}

void lb_sha256x(enum lb_sha256x_unit unit, struct lb_hash *out, uint8_t tag,
		const struct lb_sha256x_msg *msg, size_t n)
{
	(void)unit, (void)out, (void)tag, (void)msg, (void)n;
	LB_ASSERT(false);
}

#endif
