/*
 * shadow_int.h - what the peer holds of a RAM volume, by content: the patch base.
 *
 * For each block (that is not zero, while there is room) the bytes of the data block its newest
 * acknowledged point reaches, directly or as the source of a patch, and where the peer holds them:
 * (layer, pack, position). A changed block is compared with it and goes as REF (same bytes), PATCH
 * (word delta, word_delta_int.h) or DATA. Equal blocks elsewhere in the volume are found by digest,
 * and become a REF, or a second run over the same place of this layer, only when their bytes are
 * equal too.
 *
 *   empty ──begin(full)──► filling ──seal(M)──► sealed ──commit(M)──► describes M
 *                             ▲ begin: what was not committed is dropped │
 *   describes B ──begin(B)────┴──────────────────────────◄───────────────┘
 *      begin(other than B): empty, describes that
 *
 * Invariants:
 *   (W1) A place in it is reached by the peer's newest point, so retention keeps it there.
 *   (W2) Bytes and place belong together: both are those that were packed, copied when they were,
 *        and a layer's places enter it on the receipt of its manifest only.
 *   (W3) The bytes are a data block's, never a patched one's: patches have depth 1.
 * Losing any part of it costs bytes on the wire and nothing else: a block without shadow is sent as
 * data. Nothing of it outlives the process.
 *
 * At most 4,096 layers are named; then those of which least is left are forgotten.
 *
 * Memory: about 32 bytes a block, and the page copies: at most cfg max_bytes, touched as needed,
 * kept out of core dumps. Copies of a running cut live beside those they may replace.
 *
 * Thread: choose, data and zero: any, between begin and seal; the others: one at a time, with none
 * of these running.
 */
#ifndef REPLICATOR_SHADOW_INT_H
#define REPLICATOR_SHADOW_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/id.h"
#include "replicator/layer.h"

struct lb_err;
struct rep_shadow;

/* A patch of more bytes than this is not worth its second pack at the reader: the block goes as
 * data. A patch of at most so many is taken without looking for an equal block elsewhere.
 * Measured on a Linux guest's RAM: docs/formats/layer.md. */
#define REP_PATCH_MAX_BYTES  2048u
#define REP_PATCH_SURE_BYTES 256u

/* @max_bytes of page copies; 0: the volume's size and an eighth more. */
int rep_shadow_create(struct rep_shadow **out, uint64_t max_bytes, struct lb_err *err);
void rep_shadow_destroy(struct rep_shadow *s); /* NULL is allowed */

/* Begin a cut of @blocks blocks that goes as @layer against @base; NULL: a full one. Drops what
 * was not committed. On LB_ENOMEM the shadow is empty and must not be used for this cut. */
int rep_shadow_begin(struct rep_shadow *s, const struct lb_hash *base, const struct lb_id *layer,
		     uint64_t blocks, struct lb_err *err);

/* How a changed block goes into the layer. */
struct rep_way {
	enum rep_run_kind kind;
	bool made;            /* DATA: the layer has these bytes already, at pack, pos */
	uint32_t src;         /* REF, PATCH: rep_shadow_layer() names it */
	uint32_t pack, pos;   /* REF, PATCH, DATA that is made */
	uint32_t patch_bytes; /* PATCH: in the caller's buffer */
};
/* @block, not zero, has become @p with the (keyed) digest @digest. @patch has room for
 * REP_PATCH_MAX_BYTES. DATA that is not made: the caller packs it and calls rep_shadow_data(). */
void rep_shadow_choose(struct rep_shadow *s, struct rep_way *out, uint8_t *patch, uint64_t block,
		       const uint8_t *p, const struct lb_digest *digest);
/* @block went as data at @pos of @pack of the layer. */
void rep_shadow_data(struct rep_shadow *s, uint64_t block, const uint8_t *p,
		     const struct lb_digest *digest, uint32_t pack, uint32_t pos);
void rep_shadow_zero(struct rep_shadow *s, uint64_t block, uint32_t count);
/* The layer that way.src named; until the next begin. */
const struct lb_id *rep_shadow_layer(const struct rep_shadow *s, uint32_t src);

/* The cut's manifest is @manifest. */
void rep_shadow_seal(struct rep_shadow *s, const struct lb_hash *manifest);
/* The receipt of @manifest came. When it is not the sealed one's the shadow becomes empty. */
void rep_shadow_commit(struct rep_shadow *s, const struct lb_hash *manifest);

struct rep_shadow_stats {
	uint64_t blocks;                /* with a shadow */
	uint64_t pages_used, pages_max; /* of 4 KiB */
	uint32_t layers;                /* that they are in */
};
void rep_shadow_stats(const struct rep_shadow *s, struct rep_shadow_stats *out);

#endif
