/*
 * Packs and digests parts: compress, seal, and the way back.
 *
 * The bytes that decide how a pack is opened stand in its clear header; all of them are in the
 * sealed tag's associated data, together with everything that says which pack of which layer this
 * is. A pack moved to another place, layer, volume, group or deployment therefore does not open.
 */
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/seal.h"
#include "base/wr.h"
#include "format_int.h"
#include "replicator/layer.h"

#define FLAG_DIGESTS     1u
#define NONCE_OFFSET     24u
#define TAG_OFFSET       48u
#define DIGEST_BYTES     16u
#define DIGESTS_MAX_RAW  (REP_DIGESTS_MAX * DIGEST_BYTES)
#define AAD_MAX          160u
#define LZ4_ACCELERATION 1

struct rep_packer {
	struct lb_env *env;
	struct rep_layer_header header;
	struct lb_sealer *sealer;
	LZ4_stream_t *lz4;
	uint8_t *packed; /* pack_raw_bytes: one pack, compressed */
};

/* ---- header and associated data ---- */

static void clear_header(uint8_t out[NONCE_OFFSET], const struct rep_pack_info *i)
{
	struct lb_wr wr = lb_wr_init(out, NONCE_OFFSET);

	lb_wr_u32le(&wr, REP_MAGIC_PACK);
	lb_wr_u32le(&wr, i->number);
	lb_wr_u32le(&wr, i->raw_bytes);
	lb_wr_u32le(&wr, i->packed_bytes);
	lb_wr_u8(&wr, (uint8_t)i->codec);
	lb_wr_u8(&wr, i->digests ? FLAG_DIGESTS : 0);
	lb_wr_zeros(&wr, 6);
	LB_ASSERT(lb_wr_done(&wr) && wr.len == NONCE_OFFSET);
}

/* Returns the bytes used. The purpose's NUL keeps the two purposes from being prefixes. */
static size_t associated_data(uint8_t out[AAD_MAX], const struct rep_layer_header *h,
			      const struct rep_pack_info *i)
{
	struct lb_wr wr = lb_wr_init(out, AAD_MAX);
	const char *purpose = i->digests ? "lifeboat digests v1" : "lifeboat pack v1";

	lb_wr_bytes(&wr, purpose, strlen(purpose) + 1);
	lb_wr_id(&wr, &h->deployment);
	lb_wr_id(&wr, &h->group);
	lb_wr_id(&wr, &h->machine);
	lb_wr_id(&wr, &h->volume);
	lb_wr_id(&wr, &h->layer);
	lb_wr_id(&wr, &h->key);
	lb_wr_u64le(&wr, h->epoch);
	lb_wr_u64le(&wr, h->seq);
	lb_wr_u32le(&wr, i->number);
	lb_wr_u32le(&wr, (uint32_t)i->codec);
	lb_wr_u32le(&wr, i->raw_bytes);
	lb_wr_u32le(&wr, i->packed_bytes);
	LB_ASSERT(lb_wr_done(&wr));
	return wr.len;
}

/* ---- sealing ---- */

int rep_packer_create(struct rep_packer **out, struct lb_env *env, const struct rep_layer_header *h,
		      const struct lb_key *dek, struct lb_err *err)
{
	struct rep_packer *p = calloc(1, sizeof(*p));
	int rc = LB_ENOMEM;

	LB_ASSERT(h->pack_raw_bytes > 0 && h->pack_raw_bytes <= REP_PACK_MAX_RAW);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "create packer");
	p->env = env;
	p->header = *h;
	p->packed = malloc(h->pack_raw_bytes);
	p->lz4 = LZ4_createStream();
	if (p->packed == NULL || p->lz4 == NULL) {
		(void)lb_err_set(err, LB_ENOMEM, 0, "create packer of %u byte packs",
				 h->pack_raw_bytes);
		goto out;
	}
	rc = lb_sealer_create(&p->sealer, dek, err);
	if (rc != 0)
		goto out;
	*out = p;
	p = NULL;
out:
	rep_packer_destroy(p);
	return rc;
}

void rep_packer_destroy(struct rep_packer *p)
{
	if (p == NULL)
		return;
	lb_sealer_destroy(p->sealer);
	(void)LZ4_freeStream(p->lz4);
	free(p->packed);
	free(p);
}

/* Seal @info->packed_bytes at @body under a header made of @info. */
static int seal_part(struct rep_packer *p, struct lb_buf **out, struct lb_hash *leaf,
		     const struct rep_pack_info *info, const void *body, struct lb_err *err)
{
	uint8_t aad[AAD_MAX];
	struct lb_buf *b = NULL;
	int rc = lb_buf_create(&b, REP_PACK_HEADER_BYTES + (size_t)info->packed_bytes, err);

	if (rc != 0)
		return rc;
	clear_header(b->p, info);
	p->env->random(p->env, b->p + NONCE_OFFSET, LB_SEAL_NONCE_BYTES);
	size_t aad_len = associated_data(aad, &p->header, info);
	rc = lb_seal(p->sealer, b->p + REP_PACK_HEADER_BYTES, b->p + TAG_OFFSET,
		     b->p + NONCE_OFFSET, aad, aad_len, body, info->packed_bytes, err);
	if (rc != 0)
		goto out;
	b->len = b->cap;
	lb_merkle_leaf(leaf, b->p, b->len);
	*out = b;
	b = NULL;
out:
	lb_buf_unref(b);
	return rc;
}

/* Bytes at p->packed, or 0 when LZ4 does not make @raw smaller. */
static uint32_t compress(struct rep_packer *p, const void *raw, uint32_t raw_bytes)
{
	if (p->header.codec != REP_CODEC_LZ4)
		return 0;
	int n = LZ4_compress_fast_extState(p->lz4, raw, (char *)p->packed, (int)raw_bytes,
					   (int)raw_bytes - 1, LZ4_ACCELERATION);
	return n > 0 ? (uint32_t)n : 0;
}

int rep_packer_seal(struct rep_packer *p, struct lb_buf **out, struct lb_hash *leaf,
		    uint32_t number, const void *raw, uint32_t raw_bytes, struct lb_err *err)
{
	struct rep_pack_info info = {.number = number, .raw_bytes = raw_bytes};

	if (raw_bytes < 1 || raw_bytes > p->header.pack_raw_bytes || number >= REP_LAYER_MAX_PACKS)
		return lb_err_set(err, LB_EINVAL, 0, "seal pack %u of %u bytes", number, raw_bytes);
	uint32_t packed = compress(p, raw, raw_bytes);
	info.codec = packed > 0 ? REP_CODEC_LZ4 : REP_CODEC_NONE;
	info.packed_bytes = packed > 0 ? packed : raw_bytes;
	return seal_part(p, out, leaf, &info, packed > 0 ? p->packed : raw, err);
}

int rep_packer_seal_digests(struct rep_packer *p, struct lb_buf **out, struct lb_hash *leaf,
			    uint32_t number, const struct lb_digest *d, uint32_t n,
			    struct lb_err *err)
{
	struct rep_pack_info info = {
		.digests = true,
		.number = number,
		.raw_bytes = n * DIGEST_BYTES,
		.packed_bytes = n * DIGEST_BYTES,
	};

	if (n < 1 || n > REP_DIGESTS_MAX || number >= REP_LAYER_MAX_PARTS)
		return lb_err_set(err, LB_EINVAL, 0, "seal digests %u of %u", number, n);
	return seal_part(p, out, leaf, &info, d, err); /* a digest is 16 plain bytes */
}

/* ---- opening ---- */

static const char *info_wrong(const struct rep_pack_info *i)
{
	if (i->raw_bytes < 1 || i->raw_bytes > (i->digests ? DIGESTS_MAX_RAW : REP_PACK_MAX_RAW))
		return "raw length";
	if (i->digests && (i->codec != REP_CODEC_NONE || i->raw_bytes % DIGEST_BYTES != 0))
		return "digests";
	if (i->number >= (i->digests ? REP_LAYER_MAX_PARTS : REP_LAYER_MAX_PACKS))
		return "number";
	switch (i->codec) {
	case REP_CODEC_NONE:
		return i->packed_bytes == i->raw_bytes ? NULL : "packed length";
	case REP_CODEC_LZ4: /* stored plain when it does not shrink: one encoding only */
		return i->packed_bytes > 0 && i->packed_bytes < i->raw_bytes ? NULL
									     : "packed length";
	default: /* a number from the wire */
		return "codec";
	}
}

int rep_pack_peek(struct rep_pack_info *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	struct rep_pack_info i = {.number = 0};
	uint32_t magic = lb_rd_u32le(&rd);

	i.number = lb_rd_u32le(&rd);
	i.raw_bytes = lb_rd_u32le(&rd);
	i.packed_bytes = lb_rd_u32le(&rd);
	i.codec = lb_rd_u8(&rd);
	unsigned flags = lb_rd_u8(&rd);
	bool zeros = rep_rd_zeros(&rd, 6);
	(void)lb_rd_bytes(&rd, REP_PACK_HEADER_BYTES - NONCE_OFFSET);
	if (rd.bad || magic != REP_MAGIC_PACK)
		return lb_err_set(err, LB_ECORRUPT, 0, "pack: magic 0x%08x in %zu bytes", magic,
				  len);
	i.digests = (flags & FLAG_DIGESTS) != 0;
	const char *what = i.digests ? "digests" : "pack";
	if ((flags & ~FLAG_DIGESTS) != 0 || !zeros)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s %u: reserved bits are not zero", what,
				  i.number);
	const char *wrong = info_wrong(&i);
	if (wrong != NULL)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s %u: %s", what, i.number, wrong);
	if (rd.left != i.packed_bytes)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s %u: %zu bytes for a body of %u", what,
				  i.number, len, i.packed_bytes);
	*out = i;
	return 0;
}

/* Check that the part is the one that was asked for and open its body to @out. */
static int unseal_part(struct rep_pack_info *info, uint8_t *out, struct lb_sealer *s,
		       const struct rep_layer_header *h, const void *p, size_t len,
		       struct lb_err *err)
{
	const uint8_t *b = p;
	uint8_t aad[AAD_MAX];
	size_t aad_len = associated_data(aad, h, info);
	int rc = lb_unseal(s, out, b + TAG_OFFSET, b + NONCE_OFFSET, aad, aad_len,
			   b + REP_PACK_HEADER_BYTES, len - REP_PACK_HEADER_BYTES, err);

	if (rc != 0)
		return lb_err_wrap(err, rc, "open %s %u", info->digests ? "digests" : "pack",
				   info->number);
	return 0;
}

static int peek_as(struct rep_pack_info *info, bool digests, uint32_t number, const void *p,
		   size_t len, struct lb_err *err)
{
	int rc = rep_pack_peek(info, p, len, err);

	if (rc != 0)
		return rc;
	if (info->digests != digests || info->number != number)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s %u found where %s %u belongs",
				  info->digests ? "digests" : "pack", info->number,
				  digests ? "digests" : "pack", number);
	return 0;
}

/* @packed is scratch for info->packed_bytes. */
static int open_lz4(uint8_t *raw, uint8_t *packed, struct rep_pack_info *info, struct lb_sealer *s,
		    const struct rep_layer_header *h, const void *p, struct lb_err *err)
{
	size_t len = REP_PACK_HEADER_BYTES + (size_t)info->packed_bytes;
	int rc = unseal_part(info, packed, s, h, p, len, err);

	if (rc != 0)
		return rc;
	int n = LZ4_decompress_safe((const char *)packed, (char *)raw, (int)info->packed_bytes,
				    (int)info->raw_bytes);
	if (n < 0 || (uint32_t)n != info->raw_bytes)
		return lb_err_set(err, LB_ECORRUPT, 0, "pack %u: LZ4 gives %d of %u bytes",
				  info->number, n, info->raw_bytes);
	return 0;
}

int rep_pack_open(uint8_t *raw, uint32_t *raw_bytes, struct lb_sealer *s,
		  const struct rep_layer_header *h, struct rep_sealed part, struct lb_err *err)
{
	struct rep_pack_info info;
	uint8_t *packed = NULL;
	int rc = peek_as(&info, false, part.number, part.p, part.len, err);

	if (rc != 0)
		return rc;
	if (info.raw_bytes > h->pack_raw_bytes)
		return lb_err_set(err, LB_ECORRUPT, 0, "pack %u: raw length %u in a layer of %u",
				  part.number, info.raw_bytes, h->pack_raw_bytes);
	if (info.codec == REP_CODEC_NONE) {
		rc = unseal_part(&info, raw, s, h, part.p, part.len, err);
		goto out;
	}
	packed = malloc(info.packed_bytes);
	if (packed == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "open pack %u", part.number);
	rc = open_lz4(raw, packed, &info, s, h, part.p, err);
	free(packed);
out:
	if (rc == 0)
		*raw_bytes = info.raw_bytes;
	return rc;
}

int rep_digests_open(struct lb_digest *out, uint32_t *n, struct lb_sealer *s,
		     const struct rep_layer_header *h, struct rep_sealed part, struct lb_err *err)
{
	struct rep_pack_info info;
	int rc = peek_as(&info, true, part.number, part.p, part.len, err);

	_Static_assert(sizeof(*out) == DIGEST_BYTES, "a digest is 16 plain bytes");
	if (rc == 0)
		rc = unseal_part(&info, out->b, s, h, part.p, part.len, err);
	if (rc == 0)
		*n = info.raw_bytes / DIGEST_BYTES;
	return rc;
}
