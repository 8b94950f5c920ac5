/*
 * tests/lib/format_fix.h - samples of every format, the same in each run: fixed ids, keys, random.
 *
 * fix_env() gives "random" bytes from SplitMix64 with a fixed seed, so that nonces, and with them
 * whole layers and manifests, come out byte for byte the same.
 */
#ifndef TESTS_FORMAT_FIX_H
#define TESTS_FORMAT_FIX_H

#include <stdbool.h>
#include <string.h>

#include "base/env.h"
#include "base/seal.h"
#include "replicator/layer.h"

struct fix_env {
	struct lb_env env;
	uint64_t state;
};

static inline uint64_t fix_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline uint64_t fix_clock(struct lb_env *env)
{
	(void)env;
	return UINT64_C(1000000000);
}

static inline void fix_random(struct lb_env *env, void *p, size_t len)
{
	struct fix_env *f = (struct fix_env *)env; /* env is its first member */
	uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)fix_next(&f->state);
}

static inline struct fix_env fix_env(uint64_t seed)
{
	return (struct fix_env){
		.env = {.now_ns = fix_clock, .wall_ns = fix_clock, .random = fix_random},
		.state = seed,
	};
}

/* The id that is @n in every byte. */
static inline struct lb_id fix_id(unsigned n)
{
	struct lb_id id = {{0}};

	memset(id.b, (int)n, sizeof(id.b));
	return id;
}

static inline struct lb_hash fix_hash(unsigned n)
{
	struct lb_hash h = {{0}};

	memset(h.b, (int)n, sizeof(h.b));
	return h;
}

/* Bytes 0x40 0x41 ... 0x5f. */
static inline struct lb_key fix_key(void)
{
	struct lb_key k = {{0}};

	for (unsigned i = 0; i < sizeof(k.b); i++)
		k.b[i] = (uint8_t)(0x40 + i);
	return k;
}

/* A delta of a disk of 1024 blocks in packs of at most 16 blocks. */
static inline struct rep_layer_header fix_layer_header(void)
{
	struct lb_key dek = fix_key();
	struct rep_layer_header h = {
		.deployment = fix_id(0x11),
		.site = fix_id(0x22),
		.group = fix_id(0x33),
		.machine = fix_id(0x44),
		.volume = fix_id(0x55),
		.layer = fix_id(0x66),
		.epoch = 7,
		.seq = 8812,
		.volume_bytes = 1024 * REP_BLOCK_BYTES,
		.pack_raw_bytes = 16 * REP_BLOCK_BYTES,
		.kind = REP_VOLUME_DISK,
		.codec = REP_CODEC_LZ4,
		.full = false,
		.base = fix_hash(0xba),
	};

	lb_key_id(&h.key, &dek);
	return h;
}

#endif
