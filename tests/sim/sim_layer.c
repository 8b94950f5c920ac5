/* Content of blocks, layers made from a frozen cut, layers read back and compared with it. */
#include "sim_layer.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "rnd.h"
#include "shadow_int.h"
#include "word_delta_int.h"

/* 4 KiB that compress well and differ in every 64 bytes from every other seed's. */
static void lines(uint8_t *out, uint64_t seed)
{
	uint8_t line[64];

	for (unsigned i = 0; i < sizeof(line); i += 8) {
		uint64_t x = rnd_u64(&seed);

		memcpy(line + i, &x, 8);
	}
	for (unsigned i = 0; i < REP_BLOCK_BYTES; i += (unsigned)sizeof(line))
		memcpy(out + i, line, sizeof(line));
}

void sim_content(uint8_t *out, unsigned volume, uint32_t block, uint32_t version)
{
	uint32_t family = version / (SIM_EDITS_MAX + 1), edits = version % (SIM_EDITS_MAX + 1);
	uint64_t seed = family;

	if (version == 0) {
		memset(out, 0, REP_BLOCK_BYTES);
	} else if (volume != SIM_RAM) {
		lines(out, ((uint64_t)volume << 56) ^ ((uint64_t)block << 32) ^ version);
	} else {
		lines(out, (UINT64_C(1) << 63) ^ family);
		for (uint32_t i = 0; i < edits; i++) {
			uint64_t word = rnd_u64(&seed);

			memcpy(out + word % REP_BLOCK_WORDS * 8, &word, 8);
		}
	}
}

/* ---- change ---- */

static void write_disk(struct sim *s, unsigned v)
{
	struct sim_source *x = &s->src;
	uint64_t n = 1 + sim_below(s, sim_chance(s, 10) ? s->blocks[v] : 8);

	for (uint64_t i = 0; i < n; i++) {
		uint64_t b = sim_below(s, s->blocks[v]);

		x->disk.of[v][b] = sim_chance(s, 10) ? 0 : ++x->next_version;
	}
}

/* Pages are edited, filled anew, copied, zeroed, or go back to before their edits. */
static void write_ram(struct sim *s)
{
	struct sim_source *x = &s->src;
	uint32_t *of = x->disk.of[SIM_RAM];
	uint64_t n = 1 + sim_below(s, sim_chance(s, 10) ? s->blocks[SIM_RAM] : 12);

	for (uint64_t i = 0; i < n; i++) {
		uint32_t *page = &of[sim_below(s, s->blocks[SIM_RAM])];
		uint64_t what = sim_below(s, 100);

		if (what < 55 && *page != 0 && *page % (SIM_EDITS_MAX + 1) < SIM_EDITS_MAX)
			(*page)++;
		else if (what < 75)
			*page = ++x->next_version * (SIM_EDITS_MAX + 1);
		else if (what < 85)
			*page = of[sim_below(s, s->blocks[SIM_RAM])];
		else if (what < 92)
			*page -= *page % (SIM_EDITS_MAX + 1);
		else
			*page = 0;
	}
}

void sim_write(struct sim *s)
{
	for (unsigned v = 0; v < SIM_VOLUMES; v++) {
		if (v == SIM_RAM)
			write_ram(s);
		else
			write_disk(s, v);
	}
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
	struct lb_hash leaf[SIM_MAX_PACKS + 4];
	uint32_t runs, digests, leaves, in_pack;
	uint32_t pack; /* number of the open one, given when it was opened, as for patches */
	uint8_t raw[16 * REP_BLOCK_BYTES];
	uint8_t block[REP_BLOCK_BYTES];
	uint8_t patches[16 * REP_BLOCK_BYTES];
	uint32_t patch_fill, patch_pack;
	uint32_t src[REP_INDEX_MAX_SOURCES]; /* the shadow's layers that runs name */
	uint32_t srcs;
	struct sim_part pack_of[SIM_MAX_PACKS]; /* by number: they go out in order */
	struct rep_draft *draft;                /* of the disk in a seed */
	uint32_t first;                         /* packs below are of earlier attempts */
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

static void put_pack(struct maker *m, uint32_t number)
{
	const struct sim_part *p = &m->pack_of[number];

	put_part(m, REP_RECORD_PACK, number, p->body, true);
	m->c->part[m->c->parts - 1] = *p;
}

static void seal_pack(struct maker *m, uint32_t number, const uint8_t *raw, uint32_t bytes)
{
	struct sim_part *p = &m->pack_of[number];

	LB_ASSERT(number < SIM_MAX_PACKS);
	p->layer = m->volume;
	p->kind = REP_RECORD_PACK;
	p->number = number;
	LB_ASSERT(rep_packer_seal(m->packer, &p->body, &p->leaf, number, raw, bytes, NULL) == 0);
}

static void flush_pack(struct maker *m)
{
	if (m->in_pack > 0)
		seal_pack(m, m->pack, m->raw, m->in_pack * REP_BLOCK_BYTES);
	m->in_pack = 0;
}

static void flush_patches(struct maker *m)
{
	if (m->patch_fill > 0)
		seal_pack(m, m->patch_pack, m->patches, m->patch_fill);
	m->patch_fill = 0;
}

static void put_data(struct maker *m, struct rep_run *r, const struct lb_digest *digest)
{
	struct sim_part *p;

	if (m->in_pack == 0)
		m->pack = m->f.packs++;
	p = &m->pack_of[m->pack];
	p->block[m->in_pack] = r->block;
	p->digest[m->in_pack] = *digest;
	p->blocks = m->in_pack + 1;
	r->kind = REP_RUN_DATA;
	r->pack = m->pack;
	r->pos = m->in_pack;
	m->f.data_blocks++;
	m->digest[m->digests++] = *digest;
	if (m->volume == SIM_RAM)
		rep_shadow_data(m->s->src.shadow, r->block, m->block, digest, r->pack, r->pos);
	memcpy(m->raw + (size_t)m->in_pack * REP_BLOCK_BYTES, m->block, REP_BLOCK_BYTES);
	if (++m->in_pack == m->s->pack_blocks)
		flush_pack(m);
}

static uint32_t source_of_run(struct maker *m, uint32_t src)
{
	uint32_t i = 0;

	while (i < m->srcs && m->src[i] != src)
		i++;
	LB_ASSERT(i < REP_INDEX_MAX_SOURCES);
	m->src[i] = src;
	m->srcs += i == m->srcs;
	return i;
}

static void put_patch(struct maker *m, struct rep_run *r, const uint8_t *patch, uint32_t bytes)
{
	if (m->patch_fill + bytes > m->h.pack_raw_bytes)
		flush_patches(m);
	if (m->patch_fill == 0)
		m->patch_pack = m->f.packs++;
	r->patch_pack = m->patch_pack;
	r->patch_pos = m->patch_fill;
	r->patch_bytes = bytes;
	memcpy(m->patches + m->patch_fill, patch, bytes);
	m->patch_fill += bytes;
	m->f.patch_blocks++;
	m->s->count.patches++;
}

static void put_ram(struct maker *m, struct rep_run *r, const struct lb_digest *digest)
{
	uint8_t patch[REP_PATCH_MAX_BYTES];
	struct rep_way way;

	rep_shadow_choose(m->s->src.shadow, &way, patch, r->block, m->block, digest);
	m->s->count.ram_data += way.kind == REP_RUN_DATA;
	m->s->count.ram_twice += way.made;
	m->s->count.refs += way.kind == REP_RUN_REF;
	if (way.kind == REP_RUN_DATA && !way.made) {
		put_data(m, r, digest);
		return;
	}
	r->kind = way.kind;
	r->pack = way.pack;
	r->pos = way.pos;
	if (way.made) {
		m->f.data_blocks++;
		m->digest[m->digests++] = *digest;
		return;
	}
	r->src = source_of_run(m, way.src);
	if (way.kind == REP_RUN_PATCH)
		put_patch(m, r, patch, way.patch_bytes);
	else
		m->f.ref_blocks++;
}

/* It stands in a pack of an earlier attempt at the layer. */
static bool put_kept(struct maker *m, struct rep_run *r, const struct lb_digest *digest)
{
	struct rep_draft_place p;

	m->s->count.seed_blocks += m->h.full;
	if (m->draft == NULL)
		return false;
	LB_ASSERT(rep_draft_read(m->draft, &p, r->block, 1, NULL) == 0);
	if (!rep_draft_stands(&p, digest))
		return false;
	r->kind = REP_RUN_DATA;
	r->pack = p.pack;
	r->pos = p.pos;
	m->f.data_blocks++;
	m->digest[m->digests++] = *digest;
	m->s->count.kept++;
	return true;
}

/* Packs of earlier attempts: held, or filled by one that no run names. */
static void put_drafted(struct maker *m, uint32_t number)
{
	static const uint8_t zeros[REP_BLOCK_BYTES];
	struct lb_hash leaf;
	uint32_t bytes;
	bool held;

	LB_ASSERT(rep_draft_pack(m->draft, number, &held, &leaf, &bytes, NULL) == 0);
	if (held) {
		m->leaf[m->leaves++] = leaf;
		m->f.bytes += bytes;
		return;
	}
	seal_pack(m, number, zeros, sizeof(zeros));
	m->pack_of[number].fill = true;
	m->s->count.filled++;
	put_pack(m, number);
}

static void put_block(struct maker *m, uint32_t block, const struct lb_digest *digest)
{
	struct rep_run *r = &m->run[m->runs++];

	*r = (struct rep_run){.block = block, .count = 1, .kind = REP_RUN_ZERO};
	if (!digest) {
		m->f.zero_blocks++;
		if (m->volume == SIM_RAM)
			rep_shadow_zero(m->s->src.shadow, block, 1);
	} else if (m->volume == SIM_RAM) {
		put_ram(m, r, digest);
	} else if (!put_kept(m, r, digest)) {
		put_data(m, r, digest);
	}
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
		put_block(m, b, version ? &now : NULL);
	}
	flush_pack(m);
	flush_patches(m);
	for (uint32_t i = 0; i < m->f.packs; i++) {
		if (i < m->first)
			put_drafted(m, i);
		else
			put_pack(m, i);
	}
	if (m->draft != NULL && m->digests < rep_draft_parts_min(m->draft, REP_RECORD_DIGESTS))
		return LB_ECHANGED;
	return rc;
}

static void put_end(struct maker *m, struct rep_manifest_volume *mv)
{
	uint8_t buf[REP_INDEX_HEADER_BYTES + SIM_MAX_BLOCKS * (REP_RUN_BYTES + LB_ID_BYTES)];
	struct lb_id source[REP_INDEX_MAX_SOURCES];
	uint8_t foot[REP_FOOTER_BYTES];
	struct lb_buf *b;
	struct lb_hash leaf;

	if (m->digests > 0) {
		LB_ASSERT(rep_packer_seal_digests(m->packer, &b, &leaf, 0, m->digest, m->digests,
						  NULL) == 0);
		put_part(m, REP_RECORD_DIGESTS, 0, b, true);
		m->f.digest_parts = 1;
	}
	for (uint32_t i = 0; i < m->srcs; i++)
		source[i] = *rep_shadow_layer(m->s->src.shadow, m->src[i]);
	put_bytes(m, REP_RECORD_INDEX, buf,
		  rep_index_encode(buf, sizeof(buf), 0, m->run, m->runs, source, m->srcs), true);
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

void sim_layer_header(const struct sim *s, unsigned volume, struct rep_layer_header *h)
{
	const struct sim_cut *c = &s->src.cut;
	struct lb_hash base;

	*h = (struct rep_layer_header){
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
		.kind = volume == SIM_RAM ? REP_VOLUME_RAM : REP_VOLUME_DISK,
		.codec = REP_CODEC_LZ4,
	};
	h->full = volume == SIM_RAM ? !rep_digest_base(s->src.digest[volume], &base)
				    : lb_hash_is_zero(&c->place.base);
	if (!h->full)
		h->base = c->place.base;
	lb_key_id(&h->key, &s->dek);
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
	sim_layer_header(s, volume, &m->h);
	if (volume == 0 && m->h.full && s->src.draft != NULL) {
		m->draft = s->src.draft;
		m->first = m->f.packs = rep_draft_next(m->draft);
	}
	LB_ASSERT(rep_packer_create(&m->packer, &s->src.env.env, &m->h, &s->dek, NULL) == 0);
	rep_layer_header_encode(head, &m->h);
	put_bytes(m, REP_RECORD_LAYER_HEADER, head, sizeof(head), true);
	*mv = (struct rep_manifest_volume){
		.machine = s->machine,
		.volume = s->volume[volume],
		.layer = c->layer[volume],
		.key = m->h.key,
		.kind = m->h.kind,
		.volume_bytes = m->h.volume_bytes,
	};
	(void)snprintf(mv->machine_name, sizeof(mv->machine_name), "db01");
	(void)snprintf(mv->volume_name, sizeof(mv->volume_name), volume == SIM_RAM ? "ram" : "vda");
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
	m->consistency = REP_CONSISTENCY_MEMORY;
	m->volumes = SIM_VOLUMES;
	m->attachments = 1;
	m->attachment[0].machine = s->machine;
	m->attachment[0].kind = REP_ATTACH_DEVICE_STATE;
	m->attachment[0].bytes = SIM_STATE_BYTES;
	LB_ASSERT(rep_attachment_seal(&m->attachment[0], c->state, m, &s->dek, &s->src.env.env,
				      "state of devices", NULL) == 0);
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
	struct lb_buf *head, *index;
	uint8_t raw[REP_PACK_MAX_RAW];
	uint32_t raw_bytes;
	struct lb_id have_layer; /* whose pack is in raw */
	uint32_t have_pack;
};

/* Pack @pack of @layer, which is this one or a source. */
static bool load(struct reader *r, const struct lb_id *layer, uint32_t pack)
{
	struct lb_buf *head = NULL, *body = NULL;
	struct rep_layer_header h;
	bool good;

	if (lb_id_equal(layer, &r->have_layer) && pack == r->have_pack)
		return true;
	good = rep_store_read_part(r->store, layer, REP_RECORD_LAYER_HEADER, 0, &head, NULL) == 0 &&
	       rep_layer_header_decode(&h, head->p, head->len, NULL) == 0 &&
	       rep_store_read_part(r->store, layer, REP_RECORD_PACK, pack, &body, NULL) == 0 &&
	       rep_pack_open(r->raw, &r->raw_bytes, r->sealer, &h,
			     (struct rep_sealed){pack, body->p, body->len}, NULL) == 0;
	lb_buf_unref(head);
	lb_buf_unref(body);
	r->have_layer = good ? *layer : (struct lb_id){{0}};
	r->have_pack = pack;
	return good;
}

static const char *read_block(struct reader *r, const struct rep_run *run,
			      const struct lb_id *layer, uint8_t *block)
{
	const uint8_t *patch;

	if (!load(r, layer, run->pack) || (run->pos + 1) * REP_BLOCK_BYTES > r->raw_bytes)
		return "a pack cannot be read";
	memcpy(block, r->raw + (size_t)run->pos * REP_BLOCK_BYTES, REP_BLOCK_BYTES);
	if (run->kind != REP_RUN_PATCH)
		return NULL;
	if (!load(r, &r->h.layer, run->patch_pack) ||
	    run->patch_pos + run->patch_bytes > r->raw_bytes)
		return "a pack of patches cannot be read";
	patch = r->raw + run->patch_pos;
	return rep_word_delta_apply(block, patch, run->patch_bytes, NULL) == 0
		       ? NULL
		       : "a patch does not apply";
}

/* What the base reaches will not be removed; what it does not reach might. */
static bool base_reaches(const struct sim_versions *base, const struct sim_place *p)
{
	for (unsigned i = 0; i < SIM_MAX_BLOCKS; i++) {
		const struct sim_place *q = &base->ram[i];

		if (lb_id_equal(&q->layer, &p->layer) && q->pack == p->pack && q->pos == p->pos)
			return true;
	}
	return false;
}

/* One run against what the cut held; *place: what it reaches. */
static const char *read_run(struct reader *r, const struct rep_index *ix, const struct rep_run *run,
			    const struct sim_versions *base, const uint8_t *expect,
			    struct sim_place *place)
{
	bool foreign = run->kind == REP_RUN_REF || run->kind == REP_RUN_PATCH;
	uint8_t block[REP_BLOCK_BYTES] = {0};
	const char *bad = NULL;

	*place = (struct sim_place){.pack = run->pack, .pos = run->pos};
	if (run->count != 1)
		return "unexpected run";
	if (run->kind != REP_RUN_ZERO) {
		place->layer = r->h.layer;
		if (foreign)
			rep_index_source(&place->layer, ix, run->src);
		bad = read_block(r, run, &place->layer, block);
	}
	if (!bad && foreign && !base_reaches(base, place))
		bad = "a source is not reached by the base (W1)";
	if (!bad && memcmp(block, expect, sizeof(block)) != 0)
		bad = run->kind == REP_RUN_PATCH  ? "a patched block has other bytes than the cut"
		      : run->kind == REP_RUN_REF  ? "a ref's block has other bytes than the cut"
		      : run->kind == REP_RUN_ZERO ? "a block reads as zero that was not"
						  : "a block has other bytes than the cut";
	return bad;
}

/* Every block the layer names holds what the cut held; every other block is as in the base. */
static const char *read_runs(struct reader *r, struct sim_versions *v,
			     const struct sim_versions *truth, unsigned volume)
{
	const struct sim_versions base = *v;
	uint8_t expect[REP_BLOCK_BYTES];
	struct rep_index ix;

	if (rep_index_decode(&ix, r->index->p, r->index->len, &r->h, NULL))
		return "index does not decode";
	for (uint32_t i = 0; i < ix.count; i++) {
		struct sim_place place;
		struct rep_run run;
		const char *bad;

		rep_index_run(&run, &ix, i);
		sim_content(expect, volume, (uint32_t)run.block, truth->of[volume][run.block]);
		bad = read_run(r, &ix, &run, &base, expect, &place);
		if (bad)
			return bad;
		v->of[volume][run.block] = truth->of[volume][run.block];
		if (volume == SIM_RAM)
			v->ram[run.block] = place;
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
	if (!bad && r->h.full && volume == SIM_RAM)
		memset(v->ram, 0, sizeof(v->ram));
	if (!bad)
		bad = read_runs(r, v, truth, volume);
	lb_sealer_destroy(r->sealer);
	lb_buf_unref(r->head);
	lb_buf_unref(r->index);
	free(r);
	return bad;
}
