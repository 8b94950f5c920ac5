#include "store_fix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "replicator/manifest.h"
#include "rnd.h"

#define PACK_BLOCKS 8u
#define RUNS_MAX    4096u

static struct lb_id random_id(struct sf_group *g)
{
	struct lb_id id;

	rnd_fill(&g->rnd, id.b, sizeof(id.b));
	return id;
}

static void *need(void *p)
{
	LB_ASSERT(p != NULL);
	return p;
}

void sf_group_init(struct sf_group *g, unsigned number, uint32_t vols, uint32_t blocks,
		   uint64_t seed)
{
	uint8_t sign_seed[32];

	LB_ASSERT(vols <= SF_MAX_VOLUMES);
	*g = (struct sf_group){.env = fix_env(seed ^ number), .rnd = seed + number * UINT64_C(977)};
	g->deployment = fix_id(0x11);
	g->site = random_id(g);
	g->group = random_id(g);
	(void)snprintf(g->name, sizeof(g->name), "group%u", number);
	g->epoch = 1;
	g->vols = vols;
	rnd_fill(&g->rnd, g->dek.b, sizeof(g->dek.b));
	rnd_fill(&g->rnd, sign_seed, sizeof(sign_seed));
	LB_ASSERT(lb_signer_from_seed(&g->signer, sign_seed, NULL) == 0);
	for (uint32_t i = 0; i < vols; i++) {
		struct sf_volume *v = &g->vol[i];

		v->machine = random_id(g);
		v->volume = random_id(g);
		(void)snprintf(v->name, sizeof(v->name), "vd%c", 'a' + (int)i);
		(void)snprintf(v->machine_name, sizeof(v->machine_name), "db01");
		v->blocks = blocks;
		v->image = need(calloc(blocks, REP_BLOCK_BYTES));
		v->where = need(calloc(blocks, sizeof(*v->where)));
		v->dirty = need(calloc(blocks, sizeof(*v->dirty)));
	}
}

void sf_group_fini(struct sf_group *g)
{
	for (uint32_t i = 0; i < g->vols; i++) {
		free(g->vol[i].image);
		free(g->vol[i].where);
		free(g->vol[i].dirty);
	}
	lb_signer_destroy(g->signer);
	*g = (struct sf_group){.vols = 0};
}

static void write_block(struct sf_group *g, struct sf_volume *v, uint32_t b)
{
	uint8_t *p = v->image + (size_t)b * REP_BLOCK_BYTES;
	uint64_t what = rnd_below(&g->rnd, 10);

	v->dirty[b] = true;
	if (what == 0) {
		memset(p, 0, REP_BLOCK_BYTES);
	} else if (what == 1) { /* same bytes as another block: a ref when that one is stored */
		uint64_t from = rnd_below(&g->rnd, v->blocks);

		if (from != b)
			memcpy(p, v->image + from * REP_BLOCK_BYTES, REP_BLOCK_BYTES);
	} else {
		memset(p, (int)rnd_u64(&g->rnd), REP_BLOCK_BYTES);
		rnd_fill(&g->rnd, p, what < 5 ? 64 : 1024);
	}
}

void sf_group_write(struct sf_group *g, uint32_t changes)
{
	for (uint32_t i = 0; i < g->vols; i++)
		for (uint32_t k = 0; k < changes; k++)
			write_block(g, &g->vol[i], (uint32_t)rnd_below(&g->rnd, g->vol[i].blocks));
}

void sf_volume_hash(struct lb_hash *out, const struct sf_volume *v)
{
	lb_sha256(out, v->image, (size_t)v->blocks * REP_BLOCK_BYTES);
}

/* ---- one layer ---- */

struct builder {
	struct sf_group *g;
	struct sf_volume *v;
	struct sf_layer *l;
	struct rep_packer *packer;
	struct rep_run run[RUNS_MAX];
	uint32_t runs;
	struct lb_id source[REP_INDEX_MAX_SOURCES];
	uint32_t sources;
	uint8_t raw[PACK_BLOCKS * REP_BLOCK_BYTES];
	uint32_t in_pack, packs;
	uint64_t bytes;
	struct rep_footer f;
};

static void add_part(struct builder *b, enum rep_record_kind kind, uint32_t number,
		     struct lb_buf *body, const struct lb_hash *leaf)
{
	struct sf_part *p = &b->l->part[b->l->parts++];

	LB_ASSERT(b->l->parts <= SF_MAX_PARTS);
	*p = (struct sf_part){.kind = kind, .number = number, .body = body};
	if (kind != REP_RECORD_LEAVES && kind != REP_RECORD_FOOTER) {
		if (leaf != NULL)
			p->leaf = *leaf;
		else
			lb_merkle_leaf(&p->leaf, body->p, body->len);
		p->has_leaf = true;
		b->bytes += body->len;
	}
}

static struct lb_buf *copy(const void *p, size_t len)
{
	struct lb_buf *out = NULL;

	LB_ASSERT(lb_buf_copy_of(&out, p, len, NULL) == 0);
	return out;
}

static void flush_pack(struct builder *b)
{
	struct lb_buf *body = NULL;
	struct lb_hash leaf;

	if (b->in_pack == 0)
		return;
	LB_ASSERT(rep_packer_seal(b->packer, &body, &leaf, b->packs, b->raw,
				  b->in_pack * REP_BLOCK_BYTES, NULL) == 0);
	add_part(b, REP_RECORD_PACK, b->packs, body, &leaf);
	b->packs++;
	b->in_pack = 0;
}

static bool is_zero(const uint8_t *p)
{
	for (uint32_t i = 0; i < REP_BLOCK_BYTES; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* A stored copy of block @b elsewhere in the volume, as the store holds it now. */
static const struct sf_where *stored_copy(const struct sf_volume *v, uint32_t b)
{
	const uint8_t *p = v->image + (size_t)b * REP_BLOCK_BYTES;

	for (uint32_t i = 0; i < v->blocks; i++)
		if (i != b && !v->dirty[i] && v->where[i].valid &&
		    memcmp(v->image + (size_t)i * REP_BLOCK_BYTES, p, REP_BLOCK_BYTES) == 0)
			return &v->where[i];
	return NULL;
}

static uint32_t source_of(struct builder *b, const struct lb_id *layer)
{
	for (uint32_t i = 0; i < b->sources; i++)
		if (lb_id_equal(&b->source[i], layer))
			return i;
	LB_ASSERT(b->sources < REP_INDEX_MAX_SOURCES);
	b->source[b->sources] = *layer;
	return b->sources++;
}

static void add_block(struct builder *b, uint32_t block)
{
	const uint8_t *p = b->v->image + (size_t)block * REP_BLOCK_BYTES;
	const struct sf_where *w = stored_copy(b->v, block);
	struct rep_run *r = &b->run[b->runs++];

	LB_ASSERT(b->runs <= RUNS_MAX);
	*r = (struct rep_run){.block = block, .count = 1};
	if (is_zero(p)) {
		r->kind = REP_RUN_ZERO;
		b->f.zero_blocks++;
	} else if (w != NULL) {
		r->kind = REP_RUN_REF;
		r->src = source_of(b, &w->layer);
		r->pack = w->pack;
		r->pos = w->pos;
		b->f.ref_blocks++;
	} else {
		r->kind = REP_RUN_DATA;
		r->pack = b->packs;
		r->pos = b->in_pack;
		memcpy(b->raw + (size_t)b->in_pack * REP_BLOCK_BYTES, p, REP_BLOCK_BYTES);
		b->f.data_blocks++;
		if (++b->in_pack == PACK_BLOCKS)
			flush_pack(b);
	}
}

static void add_index(struct builder *b)
{
	size_t len = rep_index_bytes(b->runs, b->sources);
	struct lb_buf *body = NULL;

	LB_ASSERT(lb_buf_create(&body, len, NULL) == 0);
	body->len = rep_index_encode(body->p, len, 0, b->run, b->runs, b->source, b->sources);
	add_part(b, REP_RECORD_INDEX, 0, body, NULL);
}

static void add_end(struct builder *b, struct rep_manifest_volume *mv)
{
	struct lb_hash leaf[SF_MAX_PARTS];
	uint8_t buf[SF_MAX_PARTS * LB_HASH_BYTES + 64];
	uint8_t foot[REP_FOOTER_BYTES];
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->l->parts; i++)
		leaf[n++] = b->l->part[i].leaf;
	b->f.layer = b->l->header.layer;
	b->f.packs = b->packs;
	b->f.index_parts = 1;
	b->f.leaf_parts = 1;
	b->f.bytes = b->bytes;
	rep_layer_root(&b->f.root, &b->f, leaf);
	mv->root = b->f.root;
	mv->layer_bytes = b->bytes;
	add_part(b, REP_RECORD_LEAVES, 0,
		 copy(buf, rep_leaves_encode(buf, sizeof(buf), 0, leaf, n)), NULL);
	rep_footer_encode(foot, &b->f);
	add_part(b, REP_RECORD_FOOTER, 0, copy(foot, sizeof(foot)), NULL);
}

static void cut_volume(struct sf_group *g, struct sf_volume *v, struct sf_layer *l,
		       struct rep_manifest_volume *mv)
{
	struct builder *b = need(calloc(1, sizeof(*b)));
	struct rep_layer_header *h = &l->header;
	uint8_t head[REP_LAYER_HEADER_BYTES];
	bool full = lb_hash_is_zero(&g->head);

	*h = (struct rep_layer_header){.deployment = g->deployment,
				       .site = g->site,
				       .group = g->group,
				       .machine = v->machine,
				       .volume = v->volume,
				       .layer = random_id(g),
				       .epoch = g->epoch,
				       .seq = g->seq + 1,
				       .volume_bytes = (uint64_t)v->blocks * REP_BLOCK_BYTES,
				       .pack_raw_bytes = PACK_BLOCKS * REP_BLOCK_BYTES,
				       .kind = REP_VOLUME_DISK,
				       .codec = REP_CODEC_LZ4,
				       .full = full,
				       .base = g->head};
	lb_key_id(&h->key, &g->dek);
	*b = (struct builder){.g = g, .v = v, .l = l};
	LB_ASSERT(rep_packer_create(&b->packer, &g->env.env, h, &g->dek, NULL) == 0);
	rep_layer_header_encode(head, h);
	add_part(b, REP_RECORD_LAYER_HEADER, 0, copy(head, sizeof(head)), NULL);
	for (uint32_t i = 0; i < v->blocks; i++)
		if (v->dirty[i])
			add_block(b, i);
	flush_pack(b);
	add_index(b);
	*mv = (struct rep_manifest_volume){.machine = v->machine,
					   .volume = v->volume,
					   .layer = h->layer,
					   .key = h->key,
					   .kind = REP_VOLUME_DISK,
					   .volume_bytes = h->volume_bytes};
	(void)snprintf(mv->machine_name, sizeof(mv->machine_name), "%s", v->machine_name);
	(void)snprintf(mv->volume_name, sizeof(mv->volume_name), "%s", v->name);
	add_end(b, mv);
	rep_packer_destroy(b->packer);
	free(b);
}

/* The description of the group's machines; @cipher holds it until the manifest is encoded. */
static void attach_machines(struct sf_group *g, struct rep_manifest *m, uint8_t *cipher)
{
	struct rep_attachment *at = &m->attachment[0];

	if (g->machine_json == NULL)
		return;
	at->machine = g->vol[0].machine;
	at->kind = REP_ATTACH_MACHINE;
	at->bytes = (uint32_t)strlen(g->machine_json);
	LB_ASSERT(rep_attachment_seal(at, cipher, m, &g->dek, &g->env.env, g->machine_json, NULL) ==
		  0);
	m->attachments = 1;
}

void sf_point_cut(struct sf_group *g, struct sf_point *p)
{
	struct rep_manifest *m = need(calloc(1, sizeof(*m)));
	uint8_t cipher[8192];

	*p = (struct sf_point){
		.group = g->group, .epoch = g->epoch, .seq = g->seq + 1, .layers = g->vols};
	m->deployment = g->deployment;
	m->site = g->site;
	m->group = g->group;
	m->barrier = random_id(g);
	(void)snprintf(m->group_name, sizeof(m->group_name), "%s", g->name);
	m->epoch = g->epoch;
	m->seq = g->seq + 1;
	m->prev = m->base = g->head;
	m->capture_boot_ns = m->seq * UINT64_C(1000000000);
	m->capture_wall_ns = UINT64_C(1795316645000000000) + m->capture_boot_ns;
	m->boot_id = fix_id(0x88);
	m->consistency = REP_CONSISTENCY_CRASH;
	m->volumes = g->vols;
	for (uint32_t i = 0; i < g->vols; i++) {
		cut_volume(g, &g->vol[i], &p->layer[i], &m->volume[i]);
		sf_volume_hash(&p->image[i], &g->vol[i]);
	}
	LB_ASSERT(g->machine_json == NULL || strlen(g->machine_json) <= sizeof(cipher));
	attach_machines(g, m, cipher);
	LB_ASSERT(rep_manifest_encode(&p->manifest, m, g->signer, NULL) == 0);
	rep_manifest_hash(&p->hash, p->manifest->p, p->manifest->len);
	free(m);
}

/* Where the blocks of @l lie now, from its own index. */
static void learn(struct sf_volume *v, const struct sf_layer *l)
{
	for (uint32_t i = 0; i < l->parts; i++) {
		struct rep_index ix;

		if (l->part[i].kind != REP_RECORD_INDEX)
			continue;
		LB_ASSERT(rep_index_decode(&ix, l->part[i].body->p, l->part[i].body->len,
					   &l->header, NULL) == 0);
		for (uint32_t k = 0; k < ix.count; k++) {
			struct rep_run r;
			struct sf_where *w;

			rep_index_run(&r, &ix, k);
			w = &v->where[r.block];
			*w = (struct sf_where){.layer = l->header.layer,
					       .pack = r.pack,
					       .pos = r.pos,
					       .valid = r.kind != REP_RUN_ZERO};
			if (r.kind == REP_RUN_REF)
				rep_index_source(&w->layer, &ix, r.src);
			v->dirty[r.block] = false;
		}
	}
}

void sf_point_accepted(struct sf_group *g, const struct sf_point *p)
{
	g->seq = p->seq;
	g->head = p->hash;
	for (uint32_t i = 0; i < g->vols; i++)
		learn(&g->vol[i], &p->layer[i]);
}

void sf_point_free(struct sf_point *p)
{
	for (uint32_t i = 0; i < p->layers; i++)
		for (uint32_t k = 0; k < p->layer[i].parts; k++)
			lb_buf_unref(p->layer[i].part[k].body);
	lb_buf_unref(p->manifest);
	*p = (struct sf_point){.layers = 0};
}

/* ---- into a store ---- */

int sf_part_send(struct rep_store *s, const struct sf_layer *l, const struct sf_part *part,
		 struct lb_err *err)
{
	int rc = rep_store_append(s, part->kind, &l->header.layer, part->number, part->body,
				  part->has_leaf ? &part->leaf : NULL, err);

	return rc == LB_EEXIST ? 0 : rc;
}

int sf_point_seal(struct rep_store *s, const struct sf_point *p, struct lb_err *err)
{
	struct rep_manifest *m = need(malloc(sizeof(*m)));
	int rc = rep_manifest_decode(m, p->manifest->p, p->manifest->len, err);

	for (uint32_t i = 0; i < p->layers && rc == 0; i++)
		rc = rep_store_layer_check(s, &m->volume[i], m, err);
	if (rc == 0)
		rc = rep_store_append_manifest(s, p->manifest, err);
	free(m);
	return rc;
}

int sf_point_send(struct rep_store *s, const struct sf_point *p, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < p->layers; i++)
		for (uint32_t k = 0; k < p->layer[i].parts && rc == 0; k++)
			rc = sf_part_send(s, &p->layer[i], &p->layer[i].part[k], err);
	return rc != 0 ? rc : sf_point_seal(s, p, err);
}

void sf_receipt(uint8_t out[REP_RECEIPT_BYTES], struct rep_store *s, const struct sf_group *g,
		const struct sf_point *p)
{
	struct rep_receipt r = {.deployment = g->deployment,
				.site = fix_id(0x99),
				.group = p->group,
				.epoch = p->epoch,
				.seq = p->seq,
				.manifest = p->hash,
				.counter = rep_store_receipt_counter(s),
				.receive_boot_ns = p->seq * UINT64_C(1000000000),
				.receive_wall_ns = UINT64_C(1795316646000000000) + p->seq};

	LB_ASSERT(rep_receipt_encode(out, &r, g->signer, NULL) == 0);
}

int sf_key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	for (const struct sf_group *g = arg; g->signer != NULL; g++) {
		if (lb_id_equal(&g->site, site)) {
			lb_signer_pubkey(g->signer, out);
			return 0;
		}
	}
	return LB_ENOTFOUND;
}

int sf_dek_of(void *arg, const struct lb_id *key_id, struct lb_key *out)
{
	for (const struct sf_group *g = arg; g->signer != NULL; g++) {
		struct lb_id id;

		lb_key_id(&id, &g->dek);
		if (lb_id_equal(&id, key_id)) {
			*out = g->dek;
			return 0;
		}
	}
	return LB_ENOTFOUND;
}
