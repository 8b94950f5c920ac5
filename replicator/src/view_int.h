/*
 * view_int.h - the view map: which record holds which block of one volume as of one point.
 *
 * view_build.c makes its bytes from a store, view.c reads through them; a map file holds the same
 * bytes. Layout: docs/formats/viewmap.md.
 */
#ifndef REPLICATOR_VIEW_INT_H
#define REPLICATOR_VIEW_INT_H

#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "replicator/layer.h"

struct rep_store;
struct lb_err;

#define REP_VIEWMAP_HEADER_BYTES 128u
#define REP_VIEWMAP_PACK_BYTES   64u
#define REP_VIEWMAP_RUN_BYTES    32u
#define REP_VIEWMAP_PATCH_BYTES  16u

/* Sections follow the header in this order; counts bound everything. */
struct rep_viewmap {
	const uint8_t *p; /* borrowed: all of it */
	size_t len;
	uint64_t volume_bytes;
	uint32_t layers, packs, patches;
	uint64_t runs;
	struct lb_id volume, store;
	struct lb_hash manifest;
	const uint8_t *layer_bytes, *pack_bytes, *run_bytes, *patch_bytes;
};

struct rep_viewmap_pack {
	uint32_t layer, number;
	uint64_t segment, offset;
	uint32_t bytes; /* of the record's body */
	struct lb_hash leaf;
};

/* Blocks that no run covers read as zero. @patch is index + 1; 0: none. */
struct rep_viewmap_run {
	uint64_t block, count;
	uint32_t pack, pos, patch;
};

struct rep_viewmap_patch {
	uint32_t pack, pos, bytes;
};

/* Check everything (CRCs, counts, order, ranges). LB_ECORRUPT, LB_EVERSION. */
int rep_viewmap_decode(struct rep_viewmap *out, const void *p, size_t len, struct lb_err *err);
int rep_viewmap_layer(struct rep_layer_header *out, const struct rep_viewmap *m, uint32_t i,
		      struct lb_err *err);
void rep_viewmap_pack(struct rep_viewmap_pack *out, const struct rep_viewmap *m, uint32_t i);
void rep_viewmap_run(struct rep_viewmap_run *out, const struct rep_viewmap *m, uint64_t i);
void rep_viewmap_patch(struct rep_viewmap_patch *out, const struct rep_viewmap *m, uint32_t i);

/* Fill a map's bytes section by section. */
struct rep_viewmap_out {
	uint8_t *p;
	size_t len, cap;
};
size_t rep_viewmap_bytes(uint32_t layers, uint32_t packs, uint64_t runs, uint32_t patches);
void rep_viewmap_put_pack(uint8_t out[REP_VIEWMAP_PACK_BYTES], const struct rep_viewmap_pack *k);
void rep_viewmap_put_run(uint8_t out[REP_VIEWMAP_RUN_BYTES], const struct rep_viewmap_run *r);
void rep_viewmap_put_patch(uint8_t out[REP_VIEWMAP_PATCH_BYTES], const struct rep_viewmap_patch *t);
/* The header, once every section is in place at @p. */
void rep_viewmap_finish(uint8_t *p, const struct rep_viewmap *m);

/* The map of @volume at @manifest; *out is the caller's: free(). */
int rep_view_build(uint8_t **out, size_t *len, struct rep_store *s, const struct lb_hash *manifest,
		   const struct lb_id *volume, struct lb_err *err);

#endif
