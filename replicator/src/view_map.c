#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rd.h"
#include "base/wr.h"
#include "view_int.h"

#define MAP_MAGIC   UINT32_C(0x3156574c) /* "LWV1" */
#define MAP_VERSION 1u
#define MAP_CRC_AT  124u

size_t rep_viewmap_bytes(uint32_t layers, uint32_t packs, uint64_t runs, uint32_t patches)
{
	return REP_VIEWMAP_HEADER_BYTES + (size_t)layers * REP_LAYER_HEADER_BYTES +
	       (size_t)packs * REP_VIEWMAP_PACK_BYTES + (size_t)runs * REP_VIEWMAP_RUN_BYTES +
	       (size_t)patches * REP_VIEWMAP_PATCH_BYTES;
}

void rep_viewmap_put_pack(uint8_t out[REP_VIEWMAP_PACK_BYTES], const struct rep_viewmap_pack *k)
{
	struct lb_wr wr = lb_wr_init(out, REP_VIEWMAP_PACK_BYTES);

	lb_wr_u32le(&wr, k->layer);
	lb_wr_u32le(&wr, k->number);
	lb_wr_u64le(&wr, k->segment);
	lb_wr_u64le(&wr, k->offset);
	lb_wr_u32le(&wr, k->bytes);
	lb_wr_u32le(&wr, 0);
	lb_wr_hash(&wr, &k->leaf);
	LB_ASSERT(lb_wr_done(&wr));
}

void rep_viewmap_pack(struct rep_viewmap_pack *out, const struct rep_viewmap *m, uint32_t i)
{
	struct lb_rd rd = lb_rd_init(m->pack_bytes + (size_t)i * REP_VIEWMAP_PACK_BYTES,
				     REP_VIEWMAP_PACK_BYTES);

	out->layer = lb_rd_u32le(&rd);
	out->number = lb_rd_u32le(&rd);
	out->segment = lb_rd_u64le(&rd);
	out->offset = lb_rd_u64le(&rd);
	out->bytes = lb_rd_u32le(&rd);
	(void)lb_rd_u32le(&rd);
	out->leaf = lb_rd_hash(&rd);
}

void rep_viewmap_put_run(uint8_t out[REP_VIEWMAP_RUN_BYTES], const struct rep_viewmap_run *r)
{
	struct lb_wr wr = lb_wr_init(out, REP_VIEWMAP_RUN_BYTES);

	lb_wr_u64le(&wr, r->block);
	lb_wr_u64le(&wr, r->count);
	lb_wr_u32le(&wr, r->pack);
	lb_wr_u32le(&wr, r->pos);
	lb_wr_u32le(&wr, r->patch);
	lb_wr_u32le(&wr, 0);
	LB_ASSERT(lb_wr_done(&wr));
}

void rep_viewmap_run(struct rep_viewmap_run *out, const struct rep_viewmap *m, uint64_t i)
{
	struct lb_rd rd =
		lb_rd_init(m->run_bytes + (size_t)i * REP_VIEWMAP_RUN_BYTES, REP_VIEWMAP_RUN_BYTES);

	out->block = lb_rd_u64le(&rd);
	out->count = lb_rd_u64le(&rd);
	out->pack = lb_rd_u32le(&rd);
	out->pos = lb_rd_u32le(&rd);
	out->patch = lb_rd_u32le(&rd);
}

void rep_viewmap_put_patch(uint8_t out[REP_VIEWMAP_PATCH_BYTES], const struct rep_viewmap_patch *t)
{
	struct lb_wr wr = lb_wr_init(out, REP_VIEWMAP_PATCH_BYTES);

	lb_wr_u32le(&wr, t->pack);
	lb_wr_u32le(&wr, t->pos);
	lb_wr_u32le(&wr, t->bytes);
	lb_wr_u32le(&wr, 0);
	LB_ASSERT(lb_wr_done(&wr));
}

void rep_viewmap_patch(struct rep_viewmap_patch *out, const struct rep_viewmap *m, uint32_t i)
{
	struct lb_rd rd = lb_rd_init(m->patch_bytes + (size_t)i * REP_VIEWMAP_PATCH_BYTES,
				     REP_VIEWMAP_PATCH_BYTES);

	out->pack = lb_rd_u32le(&rd);
	out->pos = lb_rd_u32le(&rd);
	out->bytes = lb_rd_u32le(&rd);
}

void rep_viewmap_finish(uint8_t *p, const struct rep_viewmap *m)
{
	struct lb_wr wr = lb_wr_init(p, REP_VIEWMAP_HEADER_BYTES);
	size_t len = rep_viewmap_bytes(m->layers, m->packs, m->runs, m->patches);

	lb_wr_u32le(&wr, MAP_MAGIC);
	lb_wr_u32le(&wr, MAP_VERSION);
	lb_wr_u64le(&wr, m->volume_bytes);
	lb_wr_u32le(&wr, m->layers);
	lb_wr_u32le(&wr, m->packs);
	lb_wr_u64le(&wr, m->runs);
	lb_wr_u32le(&wr, m->patches);
	lb_wr_u32le(&wr, 0);
	lb_wr_id(&wr, &m->volume);
	lb_wr_id(&wr, &m->store);
	lb_wr_hash(&wr, &m->manifest);
	lb_wr_u64le(&wr, len);
	lb_wr_zeros(&wr, 8);
	lb_wr_u32le(&wr,
		    lb_crc32c(0, p + REP_VIEWMAP_HEADER_BYTES, len - REP_VIEWMAP_HEADER_BYTES));
	LB_ASSERT(wr.len == MAP_CRC_AT);
	lb_wr_u32le(&wr, lb_crc32c(0, p, MAP_CRC_AT));
	LB_ASSERT(lb_wr_done(&wr));
}

static int bad(struct lb_err *err, const char *what)
{
	return lb_err_set(err, LB_ECORRUPT, 0, "view map: %s", what);
}

/* The header, and where the sections are. */
static int decode_header(struct rep_viewmap *m, const uint8_t *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint32_t magic = lb_rd_u32le(&rd);
	uint32_t version = lb_rd_u32le(&rd);
	uint64_t want;
	uint32_t body_crc;
	uint32_t head_crc;

	*m = (struct rep_viewmap){.p = p, .len = len};
	m->volume_bytes = lb_rd_u64le(&rd);
	m->layers = lb_rd_u32le(&rd);
	m->packs = lb_rd_u32le(&rd);
	m->runs = lb_rd_u64le(&rd);
	m->patches = lb_rd_u32le(&rd);
	(void)lb_rd_u32le(&rd);
	m->volume = lb_rd_id(&rd);
	m->store = lb_rd_id(&rd);
	m->manifest = lb_rd_hash(&rd);
	want = lb_rd_u64le(&rd);
	(void)lb_rd_u64le(&rd);
	body_crc = lb_rd_u32le(&rd);
	head_crc = lb_rd_u32le(&rd);
	if (rd.bad || magic != MAP_MAGIC)
		return bad(err, "no view map");
	if (lb_crc32c(0, p, MAP_CRC_AT) != head_crc)
		return bad(err, "CRC of its header");
	if (version != MAP_VERSION)
		return lb_err_set(err, LB_EVERSION, 0, "view map: version %" PRIu32, version);
	if (want != len || m->runs > len / REP_VIEWMAP_RUN_BYTES ||
	    rep_viewmap_bytes(m->layers, m->packs, m->runs, m->patches) != len)
		return bad(err, "its counts do not give its length");
	if (m->volume_bytes == 0 || m->volume_bytes % REP_BLOCK_BYTES != 0 ||
	    m->volume_bytes > REP_VOLUME_MAX_BYTES)
		return bad(err, "volume size");
	if (lb_crc32c(0, p + REP_VIEWMAP_HEADER_BYTES, len - REP_VIEWMAP_HEADER_BYTES) != body_crc)
		return bad(err, "CRC of its body");
	m->layer_bytes = p + REP_VIEWMAP_HEADER_BYTES;
	m->pack_bytes = m->layer_bytes + (size_t)m->layers * REP_LAYER_HEADER_BYTES;
	m->run_bytes = m->pack_bytes + (size_t)m->packs * REP_VIEWMAP_PACK_BYTES;
	m->patch_bytes = m->run_bytes + (size_t)m->runs * REP_VIEWMAP_RUN_BYTES;
	return 0;
}

static int check_packs(const struct rep_viewmap *m, struct lb_err *err)
{
	for (uint32_t i = 0; i < m->packs; i++) {
		struct rep_viewmap_pack k;

		rep_viewmap_pack(&k, m, i);
		if (k.layer >= m->layers || k.segment == 0 || k.offset % 8 != 0 ||
		    k.bytes > REP_RECORD_MAX || k.offset > UINT64_C(1) << 40)
			return bad(err, "a pack out of range");
	}
	for (uint32_t i = 0; i < m->patches; i++) {
		struct rep_viewmap_patch t;

		rep_viewmap_patch(&t, m, i);
		if (t.pack >= m->packs || t.pos > REP_PACK_MAX_RAW || t.bytes > REP_BLOCK_BYTES)
			return bad(err, "a patch out of range");
	}
	return 0;
}

static int check_runs(const struct rep_viewmap *m, struct lb_err *err)
{
	uint64_t next = 0;
	uint64_t blocks = m->volume_bytes / REP_BLOCK_BYTES;

	for (uint64_t i = 0; i < m->runs; i++) {
		struct rep_viewmap_run r;

		rep_viewmap_run(&r, m, i);
		if (r.block < next || r.block >= blocks || r.count == 0 ||
		    r.count > blocks - r.block || r.pack >= m->packs ||
		    r.pos >= REP_PACK_MAX_BLOCKS || r.count > REP_PACK_MAX_BLOCKS - r.pos ||
		    r.patch > m->patches || (r.patch != 0 && r.count != 1))
			return bad(err, "a run out of order or range");
		next = r.block + r.count;
	}
	return 0;
}

int rep_viewmap_layer(struct rep_layer_header *out, const struct rep_viewmap *m, uint32_t i,
		      struct lb_err *err)
{
	return rep_layer_header_decode(out, m->layer_bytes + (size_t)i * REP_LAYER_HEADER_BYTES,
				       REP_LAYER_HEADER_BYTES, err);
}

int rep_viewmap_decode(struct rep_viewmap *out, const void *p, size_t len, struct lb_err *err)
{
	int rc = decode_header(out, p, len, err);

	for (uint32_t i = 0; rc == 0 && i < out->layers; i++) {
		struct rep_layer_header h;

		rc = rep_viewmap_layer(&h, out, i, err);
	}
	if (rc == 0)
		rc = check_packs(out, err);
	if (rc == 0)
		rc = check_runs(out, err);
	return rc;
}
