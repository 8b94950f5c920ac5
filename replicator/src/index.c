#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/wr.h"
#include "format_int.h"
#include "replicator/layer.h"

static void run_encode(struct lb_wr *wr, const struct rep_run *r)
{
	lb_wr_u64le(wr, r->block);
	lb_wr_u32le(wr, r->count);
	lb_wr_u8(wr, (uint8_t)r->kind);
	lb_wr_u8(wr, 0);
	lb_wr_u16le(wr, (uint16_t)r->src);
	lb_wr_u32le(wr, r->pack);
	lb_wr_u32le(wr, r->pos);
	lb_wr_u32le(wr, r->patch_pack);
	lb_wr_u32le(wr, r->patch_pos);
	lb_wr_u32le(wr, r->patch_bytes);
	lb_wr_u32le(wr, 0);
}

/* Returns the reserved bits, which a valid run has all zero. */
static uint32_t run_decode(struct rep_run *r, struct lb_rd *rd)
{
	r->block = lb_rd_u64le(rd);
	r->count = lb_rd_u32le(rd);
	r->kind = lb_rd_u8(rd);
	uint32_t reserved = lb_rd_u8(rd);
	r->src = lb_rd_u16le(rd);
	r->pack = lb_rd_u32le(rd);
	r->pos = lb_rd_u32le(rd);
	r->patch_pack = lb_rd_u32le(rd);
	r->patch_pos = lb_rd_u32le(rd);
	r->patch_bytes = lb_rd_u32le(rd);
	return reserved | lb_rd_u32le(rd);
}

size_t rep_index_bytes(uint32_t n, uint32_t nsrc)
{
	return REP_INDEX_HEADER_BYTES + (size_t)nsrc * LB_ID_BYTES + (size_t)n * REP_RUN_BYTES;
}

size_t rep_index_encode(uint8_t *out, size_t out_cap, uint32_t number, const struct rep_run *runs,
			uint32_t n, const struct lb_id *sources, uint32_t nsrc)
{
	struct lb_wr wr = lb_wr_init(out, out_cap);

	LB_ASSERT(n <= REP_INDEX_MAX_RUNS && nsrc <= REP_INDEX_MAX_SOURCES);
	lb_wr_u32le(&wr, REP_MAGIC_INDEX);
	lb_wr_u32le(&wr, number);
	lb_wr_u32le(&wr, n);
	lb_wr_u32le(&wr, nsrc);
	lb_wr_zeros(&wr, REP_INDEX_HEADER_BYTES - 16);
	for (uint32_t i = 0; i < nsrc; i++)
		lb_wr_id(&wr, &sources[i]);
	for (uint32_t i = 0; i < n; i++)
		run_encode(&wr, &runs[i]);
	LB_ASSERT(lb_wr_done(&wr) && wr.len == rep_index_bytes(n, nsrc));
	return wr.len;
}

/* Which fields a kind uses; all others must be zero. NULL when the run is good. */
static const char *run_fields_wrong(const struct rep_run *r, const struct rep_index *x,
				    const struct rep_layer_header *h)
{
	bool patch = r->kind == REP_RUN_PATCH;
	bool foreign = patch || r->kind == REP_RUN_REF;
	/* A source's packs may be of another size than ours, but never of more than the maximum. */
	uint32_t positions = foreign ? REP_PACK_MAX_BLOCKS : h->pack_raw_bytes / REP_BLOCK_BYTES;

	if (r->kind == REP_RUN_ZERO) {
		if (r->pack != 0 || r->pos != 0)
			return "a zero run with a position";
	} else if (r->pack >= REP_LAYER_MAX_PACKS) {
		return "pack out of range";
	} else if (r->pos >= positions || r->count > positions - r->pos) {
		return "position out of its pack";
	}
	if (foreign ? r->src >= x->sources : r->src != 0)
		return "source out of range";
	if (!patch)
		return r->patch_pack != 0 || r->patch_pos != 0 || r->patch_bytes != 0
			       ? "a patch on a run of another kind"
			       : NULL;
	if (r->count != 1)
		return "a patch of more than one block";
	if (r->patch_pack >= REP_LAYER_MAX_PACKS)
		return "patch pack out of range";
	if (r->patch_bytes < 1 || r->patch_bytes > REP_BLOCK_BYTES ||
	    r->patch_pos >= h->pack_raw_bytes || r->patch_bytes > h->pack_raw_bytes - r->patch_pos)
		return "patch out of its pack";
	return NULL;
}

static const char *run_wrong(const struct rep_run *r, const struct rep_index *x,
			     const struct rep_layer_header *h, uint64_t from_block)
{
	uint64_t blocks = h->volume_bytes / REP_BLOCK_BYTES;

	switch (r->kind) {
	case REP_RUN_DATA:
	case REP_RUN_ZERO:
	case REP_RUN_REF:
	case REP_RUN_PATCH:
		break;
	default: /* a number from the wire */
		return "kind unknown";
	}
	if (r->block < from_block)
		return "not after the run before it";
	if (r->count < 1 || r->block >= blocks || r->count > blocks - r->block)
		return "blocks outside the volume";
	return run_fields_wrong(r, x, h);
}

/* Runs ascend, fit, and use every source: a source nobody uses would hold a layer for nothing. */
static int check_runs(const struct rep_index *x, const struct rep_layer_header *h,
		      struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(x->run_bytes, (size_t)x->count * REP_RUN_BYTES);
	bool used[REP_INDEX_MAX_SOURCES] = {false};
	uint64_t next = 0;

	for (uint32_t i = 0; i < x->count; i++) {
		struct rep_run r;
		uint32_t reserved = run_decode(&r, &rd);
		const char *wrong = run_wrong(&r, x, h, next);

		if (wrong == NULL && reserved != 0)
			wrong = "reserved bytes are not zero";
		if (wrong != NULL)
			return lb_err_set(err, LB_ECORRUPT, 0,
					  "index %u: run %u at block %" PRIu64 ": %s", x->number, i,
					  r.block, wrong);
		if (r.kind == REP_RUN_REF || r.kind == REP_RUN_PATCH)
			used[r.src] = true;
		next = r.block + r.count;
	}
	for (uint32_t i = 0; i < x->sources; i++) {
		if (!used[i])
			return lb_err_set(err, LB_ECORRUPT, 0, "index %u: source %u is not used",
					  x->number, i);
	}
	return 0;
}

static int check_sources(const struct rep_index *x, const struct rep_layer_header *h,
			 struct lb_err *err)
{
	for (uint32_t i = 0; i < x->sources; i++) {
		const uint8_t *s = x->source_bytes + (size_t)i * LB_ID_BYTES;
		struct lb_id id;
		bool twice = false;

		memcpy(id.b, s, LB_ID_BYTES);
		for (uint32_t k = 0; k < i && !twice; k++)
			twice = memcmp(x->source_bytes + (size_t)k * LB_ID_BYTES, s, LB_ID_BYTES) ==
				0;
		if (twice || lb_id_is_zero(&id) || lb_id_equal(&id, &h->layer))
			return lb_err_set(err, LB_ECORRUPT, 0, "index %u: source %u is %s",
					  x->number, i,
					  twice                ? "named twice"
					  : lb_id_is_zero(&id) ? "zero"
							       : "this layer");
	}
	return 0;
}

int rep_index_decode(struct rep_index *out, const void *p, size_t len,
		     const struct rep_layer_header *h, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	struct rep_index x = {0};
	uint32_t magic = lb_rd_u32le(&rd);

	x.number = lb_rd_u32le(&rd);
	x.count = lb_rd_u32le(&rd);
	x.sources = lb_rd_u32le(&rd);
	bool zeros = rep_rd_zeros(&rd, REP_INDEX_HEADER_BYTES - 16);
	if (rd.bad || magic != REP_MAGIC_INDEX)
		return lb_err_set(err, LB_ECORRUPT, 0, "index: magic 0x%08x in %zu bytes", magic,
				  len);
	if (x.number >= REP_LAYER_MAX_PARTS)
		return lb_err_set(err, LB_ECORRUPT, 0, "index: number %u", x.number);
	if (x.count > REP_INDEX_MAX_RUNS)
		return lb_err_set(err, LB_ECORRUPT, 0, "index %u: %u runs", x.number, x.count);
	if (x.sources > REP_INDEX_MAX_SOURCES)
		return lb_err_set(err, LB_ECORRUPT, 0, "index %u: %u sources", x.number, x.sources);
	if (!zeros)
		return lb_err_set(err, LB_ECORRUPT, 0, "index %u: reserved bytes are not zero",
				  x.number);
	if (len != rep_index_bytes(x.count, x.sources))
		return lb_err_set(err, LB_ECORRUPT, 0, "index %u: length %zu for %u runs", x.number,
				  len, x.count);
	x.source_bytes = lb_rd_bytes(&rd, (size_t)x.sources * LB_ID_BYTES);
	x.run_bytes = lb_rd_bytes(&rd, (size_t)x.count * REP_RUN_BYTES);
	LB_ASSERT(lb_rd_done(&rd));
	int rc = check_sources(&x, h, err);
	if (rc == 0)
		rc = check_runs(&x, h, err);
	if (rc == 0)
		*out = x;
	return rc;
}

void rep_index_run(struct rep_run *out, const struct rep_index *x, uint32_t i)
{
	LB_ASSERT(i < x->count);
	struct lb_rd rd = lb_rd_init(x->run_bytes + (size_t)i * REP_RUN_BYTES, REP_RUN_BYTES);

	(void)run_decode(out, &rd);
}

void rep_index_source(struct lb_id *out, const struct rep_index *x, uint32_t i)
{
	LB_ASSERT(i < x->sources);
	memcpy(out->b, x->source_bytes + (size_t)i * LB_ID_BYTES, LB_ID_BYTES);
}
