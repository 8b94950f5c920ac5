/*
 * replicator/layer.h - the layer: sealed, immutable bytes with one volume's changes in one cut.
 *
 *   layer = header | pack 0..P-1 | digests 0..D-1 | index 0..X-1 | leaves 0..L-1 | footer
 *
 * Each part is one record (record.h) of at most REP_RECORD_MAX bytes, so no part of a layer,
 * however large its volume, needs more memory than that. Packs and digests are sealed
 * (XAES-256-GCM); header, index, leaves and footer are clear and authenticated: the Merkle root
 * (hash.h, RFC 9162) over the leaf hashes of header, packs, digests and index parts, in this order,
 * stands in the footer and in the signed manifest. A store is thus scrubbed without keys, and no
 * run can be dropped unseen: counts and total bytes are in the footer and hashed into the root:
 *
 *   root = SHA-256("lifeboat layer root v1" || 0x00 || u32 P || u32 D || u32 X || u64 bytes ||
 * merkle_root(leaves))
 *
 * The layer id is random per attempt. Numbers here are frozen; docs/formats/layer.md has offsets
 * and vectors. Thread: pure functions, any thread. Errors: decoders give LB_ECORRUPT naming the
 * field; nothing is allocated from a length that was not checked.
 */
#ifndef REPLICATOR_LAYER_H
#define REPLICATOR_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/id.h"

struct lb_err;
struct lb_env;
struct lb_buf;
struct lb_key;
struct lb_sealer;

#define REP_BLOCK_BYTES        4096u
#define REP_PACK_MAX_BLOCKS    64u
#define REP_PACK_MAX_RAW       (REP_PACK_MAX_BLOCKS * REP_BLOCK_BYTES) /* 256 KiB */
#define REP_PACK_HEADER_BYTES  64u
#define REP_LAYER_HEADER_BYTES 256u
#define REP_FOOTER_BYTES       128u
#define REP_INDEX_HEADER_BYTES 32u
#define REP_RUN_BYTES          40u
#define REP_INDEX_MAX_RUNS     6000u      /* runs in one index part */
#define REP_INDEX_MAX_SOURCES  256u       /* foreign layers one index part may name */
#define REP_DIGESTS_MAX        16000u     /* digests in one digests part */
#define REP_LEAVES_MAX         8000u      /* leaf hashes in one leaves part */
#define REP_RECORD_MAX         (1u << 20) /* largest part of a layer, or manifest */
#define REP_VOLUME_MAX_BYTES   (UINT64_C(1) << 50)
#define REP_LAYER_MAX_PACKS    (UINT32_C(1) << 30)
#define REP_LAYER_MAX_PARTS    (UINT32_C(1) << 26) /* digests parts; index parts; leaves parts */

enum rep_volume_kind {
	REP_VOLUME_DISK = 1,
	REP_VOLUME_RAM = 2
};
enum rep_codec {
	REP_CODEC_NONE = 0,
	REP_CODEC_LZ4 = 1
};

struct rep_layer_header {
	struct lb_id deployment, site, group, machine, volume, layer, key;
	uint64_t epoch;
	uint64_t seq;
	uint64_t volume_bytes;   /* multiple of REP_BLOCK_BYTES */
	uint32_t pack_raw_bytes; /* largest raw size of a pack, <= REP_PACK_MAX_RAW, multiple of a
				    block */
	enum rep_volume_kind kind;
	enum rep_codec codec; /* preferred; each pack names its own */
	bool full;            /* no base: blocks not named read as zero */
	struct lb_hash base;  /* manifest the delta is against; zero when full */
};

void rep_layer_header_encode(uint8_t out[REP_LAYER_HEADER_BYTES], const struct rep_layer_header *h);
int rep_layer_header_decode(struct rep_layer_header *out, const void *p, size_t len,
			    struct lb_err *err);

/* ---- packs ---- */

/* Seals packs of one layer. One per worker thread (cipher contexts, LZ4 state inside). */
struct rep_packer;
int rep_packer_create(struct rep_packer **out, struct lb_env *env, const struct rep_layer_header *h,
		      const struct lb_key *dek, struct lb_err *err);
void rep_packer_destroy(struct rep_packer *p);
/* Compress (when it helps) and seal @raw into a new buffer holding the pack's full bytes; *leaf is
 * its Merkle leaf hash.
 * @raw_bytes in 1..pack_raw_bytes. *@out is the caller's: lb_buf_unref(). */
int rep_packer_seal(struct rep_packer *p, struct lb_buf **out, struct lb_hash *leaf,
		    uint32_t number, const void *raw, uint32_t raw_bytes, struct lb_err *err);
/* Seal digests part @number holding @n digests (data blocks in index order). */
int rep_packer_seal_digests(struct rep_packer *p, struct lb_buf **out, struct lb_hash *leaf,
			    uint32_t number, const struct lb_digest *d, uint32_t n,
			    struct lb_err *err);

struct rep_pack_info {
	bool digests; /* a digests part, not a pack */
	uint32_t number;
	uint32_t raw_bytes;
	uint32_t packed_bytes; /* of the ciphertext */
	enum rep_codec codec;
};
/* Check the clear header of a pack (or digests part) of @len bytes in all; no key needed. Packs and
 * digests parts differ by a flag that is checked on opening: one cannot stand in for the other. */
int rep_pack_peek(struct rep_pack_info *out, const void *p, size_t len, struct lb_err *err);
/* A pack or digests part as it came: its bytes, and the number of the place where they were. */
struct rep_sealed {
	uint32_t number;
	const void *p;
	size_t len;
};
/* Open @part of the layer @h describes into @raw (REP_PACK_MAX_RAW bytes). LB_ECORRUPT when
 * anything is off. */
int rep_pack_open(uint8_t *raw, uint32_t *raw_bytes, struct lb_sealer *s,
		  const struct rep_layer_header *h, struct rep_sealed part, struct lb_err *err);
int rep_digests_open(struct lb_digest *out, uint32_t *n, struct lb_sealer *s,
		     const struct rep_layer_header *h, struct rep_sealed part,
		     struct lb_err *err); /* out holds REP_DIGESTS_MAX */

/* ---- index ---- */

enum rep_run_kind {
	REP_RUN_DATA =
		1, /* blocks at position pos.. of pack `pack` of this layer; never spans packs */
	REP_RUN_ZERO = 2,  /* blocks read as zero */
	REP_RUN_REF = 3,   /* same bytes as position pos.. of pack `pack` of layer sources[src] */
	REP_RUN_PATCH = 4, /* one block: word delta at byte `patch_pos`, `patch_bytes` long, in pack
			      `patch_pack` of this layer, against block pos of pack `pack` of layer
			      sources[src]; depth 1 */
};
struct rep_run {
	uint64_t block; /* first block of the volume */
	uint32_t count; /* blocks */
	enum rep_run_kind kind;
	uint32_t pack, pos;
	uint32_t src; /* index into the part's source table; 0 unless REF or PATCH */
	uint32_t patch_pack, patch_pos, patch_bytes;
};
/* Encode one index part. @out_cap at least rep_index_bytes(n, nsrc). Runs ascend and do not
 * overlap; sources are distinct, none is zero or this layer, and each is used by a run. A part of
 * no runs is allowed (an empty delta has one or none). Fields a kind does not use are zero. */
size_t rep_index_bytes(uint32_t n, uint32_t nsrc);
size_t rep_index_encode(uint8_t *out, size_t out_cap, uint32_t number, const struct rep_run *runs,
			uint32_t n, const struct lb_id *sources, uint32_t nsrc);
/* An index part decoded in place: validated as a whole once, then runs are read one by one. */
struct rep_index {
	uint32_t number, count, sources;
	const uint8_t *run_bytes, *source_bytes; /* borrowed from the part's bytes */
};
/* Checks sizes, order, overlap, ranges against @h (volume size, pack positions). */
int rep_index_decode(struct rep_index *out, const void *p, size_t len,
		     const struct rep_layer_header *h, struct lb_err *err);
void rep_index_run(struct rep_run *out, const struct rep_index *x, uint32_t i);
void rep_index_source(struct lb_id *out, const struct rep_index *x, uint32_t i);

/* ---- leaves and footer ---- */

/* All leaves of a layer in order, REP_LEAVES_MAX to a part; only the last may hold fewer. At least
 * one. @out_cap at least rep_leaves_bytes(n). Returns the part's bytes. */
size_t rep_leaves_bytes(uint32_t n);
size_t rep_leaves_encode(uint8_t *out, size_t out_cap, uint32_t number,
			 const struct lb_hash *leaves, uint32_t n);
/* @out holds REP_LEAVES_MAX hashes. */
int rep_leaves_decode(struct lb_hash *out, uint32_t *n, uint32_t *number, const void *p, size_t len,
		      struct lb_err *err);

struct rep_footer {
	struct lb_id layer;
	uint32_t packs, digest_parts, index_parts, leaf_parts;
	uint64_t bytes; /* of header + packs + digests + index parts */
	uint64_t data_blocks, zero_blocks, ref_blocks, patch_blocks;
	struct lb_hash root;
};
void rep_footer_encode(uint8_t out[REP_FOOTER_BYTES], const struct rep_footer *f);
int rep_footer_decode(struct rep_footer *out, const void *p, size_t len, struct lb_err *err);
/* @leaves: header, packs, digests, index parts in this order: 1 + packs + digest_parts +
 * index_parts hashes. */
void rep_layer_root(struct lb_hash *out, const struct rep_footer *counts,
		    const struct lb_hash *leaves);
/* The same from a Merkle root that the caller computed (leaves need not be in one array). */
void rep_layer_root_of(struct lb_hash *out, const struct rep_footer *counts,
		       const struct lb_hash *merkle_root);
/* How many leaves the footer's counts call for. Its leaf_parts is this over REP_LEAVES_MAX, rounded
 * up; the decoder checks it. */
uint64_t rep_footer_leaves(const struct rep_footer *f);

#endif
