#include "replicator/layer.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/wr.h"
#include "format_int.h"

#define HEADER_VERSION    1u
#define HEADER_FLAG_FULL  1u
#define HEADER_RESERVED   68u
#define HEADER_CRC_OFFSET (REP_LAYER_HEADER_BYTES - 4u)
#define FOOTER_RESERVED   12u
#define FOOTER_CRC_OFFSET (REP_FOOTER_BYTES - 4u)
#define LEAVES_HEADER     16u

/* ---- header ---- */

void rep_layer_header_encode(uint8_t out[REP_LAYER_HEADER_BYTES], const struct rep_layer_header *h)
{
	struct lb_wr wr = lb_wr_init(out, REP_LAYER_HEADER_BYTES);

	lb_wr_u32le(&wr, REP_MAGIC_LAYER);
	lb_wr_u16le(&wr, HEADER_VERSION);
	lb_wr_u8(&wr, (uint8_t)h->kind);
	lb_wr_u8(&wr, (uint8_t)h->codec);
	lb_wr_u32le(&wr, h->pack_raw_bytes);
	lb_wr_u32le(&wr, h->full ? HEADER_FLAG_FULL : 0);
	lb_wr_id(&wr, &h->deployment);
	lb_wr_id(&wr, &h->site);
	lb_wr_id(&wr, &h->group);
	lb_wr_id(&wr, &h->machine);
	lb_wr_id(&wr, &h->volume);
	lb_wr_id(&wr, &h->layer);
	lb_wr_id(&wr, &h->key);
	lb_wr_u64le(&wr, h->epoch);
	lb_wr_u64le(&wr, h->seq);
	lb_wr_u64le(&wr, h->volume_bytes);
	lb_wr_hash(&wr, &h->base);
	lb_wr_zeros(&wr, HEADER_RESERVED);
	lb_wr_u32le(&wr, lb_crc32c(0, out, HEADER_CRC_OFFSET));
	LB_ASSERT(lb_wr_done(&wr) && wr.len == REP_LAYER_HEADER_BYTES);
}

static int header_bad(struct lb_err *err, const char *field, uint64_t value)
{
	return lb_err_set(err, LB_ECORRUPT, 0, "layer header: %s %" PRIu64, field, value);
}

static int header_check(const struct rep_layer_header *h, struct lb_err *err)
{
	if (!rep_volume_kind_valid((unsigned)h->kind))
		return header_bad(err, "volume kind", (uint64_t)h->kind);
	if (h->codec != REP_CODEC_NONE && h->codec != REP_CODEC_LZ4)
		return header_bad(err, "codec", (uint64_t)h->codec);
	if (h->pack_raw_bytes == 0 || h->pack_raw_bytes > REP_PACK_MAX_RAW ||
	    h->pack_raw_bytes % REP_BLOCK_BYTES != 0)
		return header_bad(err, "pack size", h->pack_raw_bytes);
	if (!rep_volume_bytes_valid(h->volume_bytes))
		return header_bad(err, "volume size", h->volume_bytes);
	if (lb_id_is_zero(&h->layer))
		return lb_err_set(err, LB_ECORRUPT, 0, "layer header: layer id is zero");
	if (h->full != lb_hash_is_zero(&h->base))
		return lb_err_set(err, LB_ECORRUPT, 0, "layer header: %s",
				  h->full ? "full, but names a base" : "a delta without a base");
	return 0;
}

int rep_layer_header_decode(struct rep_layer_header *out, const void *p, size_t len,
			    struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	struct rep_layer_header h = {0};

	if (len != REP_LAYER_HEADER_BYTES)
		return header_bad(err, "length", len);
	uint32_t magic = lb_rd_u32le(&rd);
	unsigned version = lb_rd_u16le(&rd);
	h.kind = lb_rd_u8(&rd);
	h.codec = lb_rd_u8(&rd);
	h.pack_raw_bytes = lb_rd_u32le(&rd);
	uint32_t flags = lb_rd_u32le(&rd);
	h.deployment = lb_rd_id(&rd);
	h.site = lb_rd_id(&rd);
	h.group = lb_rd_id(&rd);
	h.machine = lb_rd_id(&rd);
	h.volume = lb_rd_id(&rd);
	h.layer = lb_rd_id(&rd);
	h.key = lb_rd_id(&rd);
	h.epoch = lb_rd_u64le(&rd);
	h.seq = lb_rd_u64le(&rd);
	h.volume_bytes = lb_rd_u64le(&rd);
	h.base = lb_rd_hash(&rd);
	bool zeros = rep_rd_zeros(&rd, HEADER_RESERVED);
	uint32_t crc = lb_rd_u32le(&rd);
	LB_ASSERT(lb_rd_done(&rd));

	if (magic != REP_MAGIC_LAYER)
		return lb_err_set(err, LB_ECORRUPT, 0, "layer header: magic 0x%08x", magic);
	if (crc != lb_crc32c(0, p, HEADER_CRC_OFFSET))
		return lb_err_set(err, LB_ECORRUPT, 0, "layer header: checksum 0x%08x", crc);
	if (version != HEADER_VERSION)
		return header_bad(err, "version", version);
	if ((flags & ~HEADER_FLAG_FULL) != 0)
		return header_bad(err, "flags", flags);
	if (!zeros)
		return lb_err_set(err, LB_ECORRUPT, 0, "layer header: reserved bytes are not zero");
	h.full = (flags & HEADER_FLAG_FULL) != 0;
	int rc = header_check(&h, err);
	if (rc == 0)
		*out = h;
	return rc;
}

/* ---- leaves ---- */

size_t rep_leaves_bytes(uint32_t n)
{
	return LEAVES_HEADER + (size_t)n * LB_HASH_BYTES;
}

size_t rep_leaves_encode(uint8_t *out, size_t out_cap, uint32_t number,
			 const struct lb_hash *leaves, uint32_t n)
{
	struct lb_wr wr = lb_wr_init(out, out_cap);

	LB_ASSERT(n >= 1 && n <= REP_LEAVES_MAX);
	lb_wr_u32le(&wr, REP_MAGIC_LEAVES);
	lb_wr_u32le(&wr, number);
	lb_wr_u32le(&wr, n);
	lb_wr_u32le(&wr, 0);
	lb_wr_bytes(&wr, leaves, (size_t)n * LB_HASH_BYTES);
	LB_ASSERT(lb_wr_done(&wr));
	return wr.len;
}

int rep_leaves_decode(struct lb_hash *out, uint32_t *n, uint32_t *number, const void *p, size_t len,
		      struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint32_t magic = lb_rd_u32le(&rd);
	uint32_t part = lb_rd_u32le(&rd);
	uint32_t count = lb_rd_u32le(&rd);
	uint32_t reserved = lb_rd_u32le(&rd);

	if (rd.bad || magic != REP_MAGIC_LEAVES)
		return lb_err_set(err, LB_ECORRUPT, 0, "leaves: magic 0x%08x in %zu bytes", magic,
				  len);
	if (part >= REP_LAYER_MAX_PARTS)
		return lb_err_set(err, LB_ECORRUPT, 0, "leaves: number %u", part);
	if (count < 1 || count > REP_LEAVES_MAX)
		return lb_err_set(err, LB_ECORRUPT, 0, "leaves %u: count %u", part, count);
	if (reserved != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "leaves %u: reserved bytes are not zero",
				  part);
	if (len != rep_leaves_bytes(count))
		return lb_err_set(err, LB_ECORRUPT, 0, "leaves %u: length %zu for %u hashes", part,
				  len, count);
	lb_rd_copy(&rd, out, (size_t)count * LB_HASH_BYTES);
	LB_ASSERT(lb_rd_done(&rd));
	*n = count;
	*number = part;
	return 0;
}

/* ---- footer ---- */

uint64_t rep_footer_leaves(const struct rep_footer *f)
{
	return UINT64_C(1) + f->packs + f->digest_parts + f->index_parts;
}

void rep_footer_encode(uint8_t out[REP_FOOTER_BYTES], const struct rep_footer *f)
{
	struct lb_wr wr = lb_wr_init(out, REP_FOOTER_BYTES);

	lb_wr_u32le(&wr, REP_MAGIC_FOOTER);
	lb_wr_u32le(&wr, f->packs);
	lb_wr_u32le(&wr, f->digest_parts);
	lb_wr_u32le(&wr, f->index_parts);
	lb_wr_u32le(&wr, f->leaf_parts);
	lb_wr_u32le(&wr, 0);
	lb_wr_u64le(&wr, f->bytes);
	lb_wr_id(&wr, &f->layer);
	lb_wr_u64le(&wr, f->data_blocks);
	lb_wr_u64le(&wr, f->zero_blocks);
	lb_wr_u64le(&wr, f->ref_blocks);
	lb_wr_u64le(&wr, f->patch_blocks);
	lb_wr_hash(&wr, &f->root);
	lb_wr_zeros(&wr, FOOTER_RESERVED);
	lb_wr_u32le(&wr, lb_crc32c(0, out, FOOTER_CRC_OFFSET));
	LB_ASSERT(lb_wr_done(&wr) && wr.len == REP_FOOTER_BYTES);
}

static int footer_bad(struct lb_err *err, const char *field, uint64_t value)
{
	return lb_err_set(err, LB_ECORRUPT, 0, "footer: %s %" PRIu64, field, value);
}

static int footer_check_parts(const struct rep_footer *f, struct lb_err *err)
{
	if (f->packs > REP_LAYER_MAX_PACKS)
		return footer_bad(err, "packs", f->packs);
	if (f->digest_parts > REP_LAYER_MAX_PARTS)
		return footer_bad(err, "digest parts", f->digest_parts);
	if (f->index_parts > REP_LAYER_MAX_PARTS)
		return footer_bad(err, "index parts", f->index_parts);
	uint64_t leaves = rep_footer_leaves(f);
	if (f->leaf_parts != (leaves + REP_LEAVES_MAX - 1) / REP_LEAVES_MAX)
		return footer_bad(err, "leaf parts", f->leaf_parts);
	/* Each part is at least its header; none is larger than a record. */
	uint64_t least = REP_LAYER_HEADER_BYTES + (uint64_t)REP_PACK_HEADER_BYTES * f->packs +
			 (uint64_t)REP_PACK_HEADER_BYTES * f->digest_parts +
			 (uint64_t)REP_INDEX_HEADER_BYTES * f->index_parts;
	if (f->bytes < least || f->bytes > leaves * REP_RECORD_MAX)
		return footer_bad(err, "bytes", f->bytes);
	return 0;
}

static int footer_check_blocks(const struct rep_footer *f, struct lb_err *err)
{
	/* One by one first, so that the sum cannot wrap. */
	/* Not bounded by the packs: blocks of equal bytes stand in the layer once. */
	if (f->data_blocks > REP_VOLUME_MAX_BLOCKS || (f->data_blocks > 0 && f->packs == 0))
		return footer_bad(err, "data blocks", f->data_blocks);
	if (f->zero_blocks > REP_VOLUME_MAX_BLOCKS)
		return footer_bad(err, "zero blocks", f->zero_blocks);
	if (f->ref_blocks > REP_VOLUME_MAX_BLOCKS)
		return footer_bad(err, "ref blocks", f->ref_blocks);
	if (f->patch_blocks > REP_VOLUME_MAX_BLOCKS || (f->patch_blocks > 0 && f->packs == 0))
		return footer_bad(err, "patch blocks", f->patch_blocks);
	uint64_t sum = f->data_blocks + f->zero_blocks + f->ref_blocks + f->patch_blocks;
	if (sum > REP_VOLUME_MAX_BLOCKS || (sum > 0 && f->index_parts == 0))
		return footer_bad(err, "blocks in all", sum);
	return 0;
}

int rep_footer_decode(struct rep_footer *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	struct rep_footer f = {0};

	if (len != REP_FOOTER_BYTES)
		return footer_bad(err, "length", len);
	uint32_t magic = lb_rd_u32le(&rd);
	f.packs = lb_rd_u32le(&rd);
	f.digest_parts = lb_rd_u32le(&rd);
	f.index_parts = lb_rd_u32le(&rd);
	f.leaf_parts = lb_rd_u32le(&rd);
	bool zeros = rep_rd_zeros(&rd, 4);
	f.bytes = lb_rd_u64le(&rd);
	f.layer = lb_rd_id(&rd);
	f.data_blocks = lb_rd_u64le(&rd);
	f.zero_blocks = lb_rd_u64le(&rd);
	f.ref_blocks = lb_rd_u64le(&rd);
	f.patch_blocks = lb_rd_u64le(&rd);
	f.root = lb_rd_hash(&rd);
	zeros = rep_rd_zeros(&rd, FOOTER_RESERVED) && zeros;
	uint32_t crc = lb_rd_u32le(&rd);
	LB_ASSERT(lb_rd_done(&rd));

	if (magic != REP_MAGIC_FOOTER)
		return lb_err_set(err, LB_ECORRUPT, 0, "footer: magic 0x%08x", magic);
	if (crc != lb_crc32c(0, p, FOOTER_CRC_OFFSET))
		return lb_err_set(err, LB_ECORRUPT, 0, "footer: checksum 0x%08x", crc);
	if (!zeros)
		return lb_err_set(err, LB_ECORRUPT, 0, "footer: reserved bytes are not zero");
	if (lb_id_is_zero(&f.layer))
		return lb_err_set(err, LB_ECORRUPT, 0, "footer: layer id is zero");
	int rc = footer_check_parts(&f, err);
	if (rc == 0)
		rc = footer_check_blocks(&f, err);
	if (rc == 0)
		*out = f;
	return rc;
}

/* ---- root ---- */

void rep_layer_root_of(struct lb_hash *out, const struct rep_footer *counts,
		       const struct lb_hash *merkle_root)
{
	static const char tag[] = "lifeboat layer root v1"; /* its NUL is hashed too */
	uint8_t msg[sizeof(tag) + 12 + 8 + LB_HASH_BYTES];
	struct lb_wr wr = lb_wr_init(msg, sizeof(msg));

	lb_wr_bytes(&wr, tag, sizeof(tag));
	lb_wr_u32le(&wr, counts->packs);
	lb_wr_u32le(&wr, counts->digest_parts);
	lb_wr_u32le(&wr, counts->index_parts);
	lb_wr_u64le(&wr, counts->bytes);
	lb_wr_hash(&wr, merkle_root);
	LB_ASSERT(lb_wr_done(&wr) && wr.len == sizeof(msg));
	lb_sha256(out, msg, sizeof(msg));
}

void rep_layer_root(struct lb_hash *out, const struct rep_footer *counts,
		    const struct lb_hash *leaves)
{
	struct lb_hash tree;

	lb_merkle_root(&tree, leaves, (size_t)rep_footer_leaves(counts));
	rep_layer_root_of(out, counts, &tree);
}
