/* Content of blocks, layers made from a frozen cut, layers read back and compared with it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "rnd.h"
#include "sim.h"

/* 4 KiB that compress well and differ in every 64 bytes from every other version. */
void sim_content(uint8_t *out, unsigned volume, uint32_t block, uint32_t version)
{
	uint64_t state = ((uint64_t)volume << 56) ^ ((uint64_t)block << 32) ^ version;
	uint8_t line[64];

	if (version == 0) {
		memset(out, 0, REP_BLOCK_BYTES);
		return;
	}
	for (unsigned i = 0; i < sizeof(line); i += 8) {
		uint64_t x = rnd_u64(&state);

		memcpy(line + i, &x, 8);
	}
	for (unsigned i = 0; i < REP_BLOCK_BYTES; i += (unsigned)sizeof(line))
		memcpy(out + i, line, sizeof(line));
}

/* ---- making ---- */

struct maker {
	struct sim *s;
	struct sim_cut *c;
	unsigned volume;
	struct rep_layer_header h;
	struct rep_packer *packer;
	struct rep_footer f;
	struct rep_run run[SIM_MAX_BLOCKS];
	struct lb_digest digest[SIM_MAX_BLOCKS];
	struct lb_hash leaf[SIM_MAX_BLOCKS + 4];
	uint32_t runs, digests, leaves, in_pack;
	uint8_t raw[16 * REP_BLOCK_BYTES];
	uint8_t block[REP_BLOCK_BYTES];
};

static void put_part(struct maker *m, enum rep_record_kind kind, uint32_t number,
		     struct lb_buf *body, bool leaf)
{
	struct sim_cut *c = m->c;

	LB_ASSERT(c->parts < SIM_MAX_PARTS);
	c->part[c->parts++] =
		(struct sim_part){.layer = m->volume, .kind = kind, .number = number, .body = body};
	if (!leaf)
		return;
	lb_merkle_leaf(&m->leaf[m->leaves++], body->p, body->len);
	m->f.bytes += body->len;
}

static void put_bytes(struct maker *m, enum rep_record_kind kind, const void *p, size_t len,
		      bool leaf)
{
	struct lb_buf *b;

	LB_ASSERT(lb_buf_copy_of(&b, p, len, NULL) == 0);
	put_part(m, kind, 0, b, leaf);
}

static void flush_pack(struct maker *m)
{
	struct lb_buf *b;
	struct lb_hash leaf;

	if (m->in_pack == 0)
		return;
	LB_ASSERT(rep_packer_seal(m->packer, &b, &leaf, m->f.packs, m->raw,
				  m->in_pack * REP_BLOCK_BYTES, NULL) == 0);
	put_part(m, REP_RECORD_PACK, m->f.packs++, b, true);
	m->in_pack = 0;
}

static void put_block(struct maker *m, uint32_t block, bool zero)
{
	struct rep_run *r = &m->run[m->runs++];

	*r = (struct rep_run){.block = block, .count = 1};
	if (zero) {
		r->kind = REP_RUN_ZERO;
		m->f.zero_blocks++;
		return;
	}
	r->kind = REP_RUN_DATA;
	r->pack = m->f.packs;
	r->pos = m->in_pack;
	m->f.data_blocks++;
	memcpy(m->raw + (size_t)m->in_pack * REP_BLOCK_BYTES, m->block, REP_BLOCK_BYTES);
	if (++m->in_pack == m->s->pack_blocks)
		flush_pack(m);
}

static int compare(struct maker *m, struct lb_err *err)
{
	struct rep_digest *d = m->s->src.digest[m->volume];
	struct lb_digest old[SIM_MAX_BLOCKS];
	uint32_t n = m->s->blocks[m->volume];
	int rc = rep_digest_read(d, old, 0, n, err);

	for (uint32_t b = 0; rc == 0 && b < n; b++) {
		uint32_t version = m->c->frozen.of[m->volume][b];
		struct lb_digest now = {{0}};

		sim_content(m->block, m->volume, b, version);
		if (version != 0)
			rep_digest_of(d, &now, m->block);
		if (memcmp(&now, &old[b], sizeof(now)) == 0)
			continue;
		rc = rep_digest_change(d, b, 1, version ? &now : NULL, err);
		put_block(m, b, version == 0);
		if (version != 0)
			m->digest[m->digests++] = now;
	}
	flush_pack(m);
	return rc;
}

static void put_end(struct maker *m, struct rep_manifest_volume *mv)
{
	uint8_t buf[REP_INDEX_HEADER_BYTES + SIM_MAX_BLOCKS * REP_RUN_BYTES];
	uint8_t foot[REP_FOOTER_BYTES];
	struct lb_buf *b;
	struct lb_hash leaf;

	if (m->digests > 0) {
		LB_ASSERT(rep_packer_seal_digests(m->packer, &b, &leaf, 0, m->digest, m->digests,
						  NULL) == 0);
		put_part(m, REP_RECORD_DIGESTS, 0, b, true);
		m->f.digest_parts = 1;
	}
	put_bytes(m, REP_RECORD_INDEX, buf,
		  rep_index_encode(buf, sizeof(buf), 0, m->run, m->runs, NULL, 0), true);
	m->f.index_parts = m->f.leaf_parts = 1;
	m->f.layer = m->h.layer;
	rep_layer_root(&m->f.root, &m->f, m->leaf);
	put_bytes(m, REP_RECORD_LEAVES, buf,
		  rep_leaves_encode(buf, sizeof(buf), 0, m->leaf, m->leaves), false);
	rep_footer_encode(foot, &m->f);
	put_bytes(m, REP_RECORD_FOOTER, foot, sizeof(foot), false);
	mv->root = m->f.root;
	mv->layer_bytes = m->f.bytes;
}

static int make_layer(struct sim *s, unsigned volume, struct lb_err *err)
{
	struct sim_cut *c = &s->src.cut;
	struct rep_manifest_volume *mv = &c->m->volume[volume];
	struct maker *m = calloc(1, sizeof(*m));
	uint8_t head[REP_LAYER_HEADER_BYTES];
	int rc;

	LB_ASSERT(m);
	m->s = s;
	m->c = c;
	m->volume = volume;
	m->h = (struct rep_layer_header){
		.deployment = s->deployment,
		.site = s->site[1],
		.group = s->group,
		.machine = s->machine,
		.volume = s->volume[volume],
		.layer = c->layer[volume],
		.epoch = c->place.epoch,
		.seq = c->place.seq,
		.volume_bytes = (uint64_t)s->blocks[volume] * REP_BLOCK_BYTES,
		.pack_raw_bytes = s->pack_blocks * REP_BLOCK_BYTES,
		.kind = REP_VOLUME_DISK,
		.codec = REP_CODEC_LZ4,
		.full = lb_hash_is_zero(&c->place.base),
		.base = c->place.base,
	};
	lb_key_id(&m->h.key, &s->dek);
	LB_ASSERT(rep_packer_create(&m->packer, &s->src.env.env, &m->h, &s->dek, NULL) == 0);
	rep_layer_header_encode(head, &m->h);
	put_bytes(m, REP_RECORD_LAYER_HEADER, head, sizeof(head), true);
	*mv = (struct rep_manifest_volume){
		.machine = s->machine,
		.volume = s->volume[volume],
		.layer = c->layer[volume],
		.key = m->h.key,
		.kind = REP_VOLUME_DISK,
		.volume_bytes = m->h.volume_bytes,
	};
	(void)snprintf(mv->machine_name, sizeof(mv->machine_name), "db01");
	(void)snprintf(mv->volume_name, sizeof(mv->volume_name), "vd%c", (char)('a' + volume));
	rc = compare(m, err);
	if (rc == 0)
		put_end(m, mv);
	rep_packer_destroy(m->packer);
	free(m);
	return rc;
}

int sim_cut_build(struct sim *s, struct lb_err *err)
{
	struct sim_cut *c = &s->src.cut;
	struct rep_manifest *m = calloc(1, sizeof(*m));
	int rc = 0;

	LB_ASSERT(m);
	c->m = m;
	m->deployment = s->deployment;
	m->site = s->site[1];
	m->group = s->group;
	m->barrier = sim_id(s);
	(void)snprintf(m->group_name, sizeof(m->group_name), "shop");
	m->epoch = c->place.epoch;
	m->seq = c->place.seq;
	m->prev = c->place.prev;
	m->base = c->place.base;
	m->capture_boot_ns = c->capture_boot_ns;
	m->capture_wall_ns = s->src.env.env.wall_ns(&s->src.env.env);
	m->boot_id = s->src.env.boot_id;
	m->consistency = REP_CONSISTENCY_CRASH;
	m->volumes = SIM_VOLUMES;
	for (unsigned v = 0; rc == 0 && v < SIM_VOLUMES; v++)
		rc = make_layer(s, v, err);
	return rc;
}

void sim_cut_fini(struct sim_cut *c)
{
	for (unsigned i = 0; i < c->parts; i++)
		lb_buf_unref(c->part[i].body);
	free(c->m);
	memset(c, 0, sizeof(*c));
}

/* ---- reading ---- */

struct reader {
	struct rep_store *store;
	struct rep_layer_header h;
	struct lb_sealer *sealer;
	uint8_t raw[REP_PACK_MAX_RAW];
	uint32_t have; /* pack in raw; UINT32_MAX: none */
	struct lb_buf *head, *index, *pack;
};

static const char *read_block(struct reader *r, const struct rep_run *run, const uint8_t *expect)
{
	uint32_t bytes;

	if (r->have != run->pack) {
		lb_buf_unref(r->pack);
		r->pack = NULL;
		if (rep_store_read_part(r->store, &r->h.layer, REP_RECORD_PACK, run->pack, &r->pack,
					NULL) ||
		    rep_pack_open(r->raw, &bytes, r->sealer, &r->h, run->pack, r->pack->p,
				  r->pack->len, NULL))
			return "a pack cannot be read";
		r->have = run->pack;
	}
	if (memcmp(r->raw + (size_t)run->pos * REP_BLOCK_BYTES, expect, REP_BLOCK_BYTES) != 0)
		return "a block has other bytes than the cut";
	return NULL;
}

/* Every block the layer names holds what the cut held; every other block is as in the base. */
static const char *read_runs(struct reader *r, struct sim_versions *v,
			     const struct sim_versions *truth, unsigned volume)
{
	uint8_t expect[REP_BLOCK_BYTES];
	struct rep_index ix;

	if (rep_index_decode(&ix, r->index->p, r->index->len, &r->h, NULL))
		return "index does not decode";
	for (uint32_t i = 0; i < ix.count; i++) {
		const char *bad = NULL;
		struct rep_run run;

		rep_index_run(&run, &ix, i);
		if (run.count != 1)
			return "unexpected run";
		sim_content(expect, volume, (uint32_t)run.block, truth->of[volume][run.block]);
		if (run.kind == REP_RUN_DATA)
			bad = read_block(r, &run, expect);
		else if (truth->of[volume][run.block] != 0)
			bad = "a block reads as zero that was not";
		if (bad)
			return bad;
		v->of[volume][run.block] = truth->of[volume][run.block];
	}
	if (memcmp(v->of[volume], truth->of[volume], sizeof(v->of[volume])) != 0)
		return "a changed block is missing";
	return NULL;
}

const char *sim_layer_read(struct sim *s, struct rep_store *store,
			   const struct rep_manifest_volume *mv, struct sim_versions *v,
			   const struct sim_versions *truth, unsigned volume)
{
	struct reader *r = calloc(1, sizeof(*r));
	struct lb_err err = {0};
	const char *bad = NULL;

	LB_ASSERT(r);
	r->store = store;
	r->have = UINT32_MAX;
	if (rep_store_read_part(store, &mv->layer, REP_RECORD_LAYER_HEADER, 0, &r->head, &err) ||
	    rep_store_read_part(store, &mv->layer, REP_RECORD_INDEX, 0, &r->index, &err))
		bad = "layer cannot be read";
	else if (rep_layer_header_decode(&r->h, r->head->p, r->head->len, NULL))
		bad = "layer header does not decode";
	LB_ASSERT(lb_sealer_create(&r->sealer, &s->dek, NULL) == 0);
	if (err.code != 0)
		sim_log(s, "%s", err.msg);
	if (!bad && r->h.full)
		memset(v->of[volume], 0, sizeof(v->of[volume]));
	if (!bad)
		bad = read_runs(r, v, truth, volume);
	lb_sealer_destroy(r->sealer);
	lb_buf_unref(r->head);
	lb_buf_unref(r->index);
	lb_buf_unref(r->pack);
	free(r);
	return bad;
}
