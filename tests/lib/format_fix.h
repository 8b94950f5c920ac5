/*
 * tests/lib/format_fix.h - samples of every format, the same in each run: fixed ids, keys, random.
 *
 * fix_env() gives "random" bytes from SplitMix64 with a fixed seed, so that nonces, and with them
 * whole layers and manifests, come out byte for byte the same.
 */
#ifndef TESTS_FORMAT_FIX_H
#define TESTS_FORMAT_FIX_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/seal.h"
#include "replicator/layer.h"
#include "replicator/manifest.h"

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

/* The Ed25519 key of seed 00 01 ... 1f; the caller destroys it. */
static inline struct lb_signer *fix_signer(void)
{
	uint8_t seed[32];
	struct lb_signer *s = NULL;

	for (unsigned i = 0; i < sizeof(seed); i++)
		seed[i] = (uint8_t)i;
	return lb_signer_from_seed(&s, seed, NULL) == 0 ? s : NULL;
}

/* A point of one machine: a disk and its memory. Attachments are left to the caller. */
static inline void fix_manifest(struct rep_manifest *m)
{
	static const struct rep_manifest empty;
	struct rep_layer_header h = fix_layer_header();

	*m = empty;
	m->deployment = h.deployment;
	m->site = h.site;
	m->group = h.group;
	m->barrier = fix_id(0x77);
	(void)snprintf(m->group_name, sizeof(m->group_name), "erp");
	m->epoch = h.epoch;
	m->seq = h.seq;
	m->prev = h.base;
	m->base = h.base;
	m->capture_boot_ns = UINT64_C(3600000000000);
	m->capture_wall_ns = UINT64_C(1795316645000000000);
	m->boot_id = fix_id(0x88);
	m->consistency = REP_CONSISTENCY_MEMORY;
	m->volumes = 2;
	for (uint32_t i = 0; i < 2; i++) {
		struct rep_manifest_volume *v = &m->volume[i];

		v->machine = h.machine;
		v->volume = fix_id(0x55 + i);
		v->layer = fix_id(0x66 + i);
		v->key = h.key;
		v->kind = i == 0 ? REP_VOLUME_DISK : REP_VOLUME_RAM;
		v->volume_bytes = h.volume_bytes;
		v->layer_bytes = 4096;
		v->root = fix_hash(0xc0 + i);
		(void)snprintf(v->machine_name, sizeof(v->machine_name), "db01");
		(void)snprintf(v->volume_name, sizeof(v->volume_name), i == 0 ? "vda" : "ram");
	}
}

static inline struct rep_receipt fix_receipt(void)
{
	struct rep_layer_header h = fix_layer_header();

	return (struct rep_receipt){
		.deployment = h.deployment,
		.site = fix_id(0x99),
		.group = h.group,
		.epoch = h.epoch,
		.seq = h.seq,
		.manifest = fix_hash(0xd0),
		.counter = 4242,
		.receive_boot_ns = UINT64_C(7200000000000),
		.receive_wall_ns = UINT64_C(1795316646000000000),
	};
}

#endif
