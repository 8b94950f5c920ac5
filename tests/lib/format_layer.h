/*
 * tests/lib/format_layer.h - one real, small layer and the point that names it, the same every run.
 *
 * Parts in order: header, pack 0 (LZ4, one block), pack 1 (stored plain, a patch), digests 0, index
 * 0, leaves 0, footer. The manifest names the layer by its root; the receipt names the manifest.
 */
#ifndef TESTS_FORMAT_LAYER_H
#define TESTS_FORMAT_LAYER_H

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/manifest.h"

enum fix_part {
	FIX_HEADER,
	FIX_PACK0,
	FIX_PACK1,
	FIX_DIGESTS,
	FIX_INDEX,
	FIX_LEAVES,
	FIX_FOOTER,
	FIX_PARTS
};
#define FIX_LEAF_COUNT 5u /* of header .. index */

struct fix_layer {
	struct rep_layer_header header;
	struct rep_footer footer;
	struct lb_buf *part[FIX_PARTS];
	struct lb_buf *manifest;
	uint8_t receipt[REP_RECEIPT_BYTES];
	struct lb_pubkey pub; /* of the one signer of both */
};

/* The part's name in messages, as an operator would be told. */
static inline const char *fix_part_name(unsigned part)
{
	static const char *const names[FIX_PARTS] = {"header",  "pack 0",   "pack 1", "digests 0",
						     "index 0", "leaves 0", "footer"};

	return names[part];
}

static inline void fix_block(uint8_t block[REP_BLOCK_BYTES])
{
	for (unsigned i = 0; i < REP_BLOCK_BYTES; i++)
		block[i] = (uint8_t) "lifeboat block "[i % 15];
}

static inline void fix_layer_packs(struct fix_layer *l, struct lb_hash leaves[FIX_LEAF_COUNT])
{
	struct fix_env env = fix_env(3);
	struct lb_key dek = fix_key();
	struct rep_packer *p = NULL;
	uint8_t block[REP_BLOCK_BYTES];
	uint8_t patch[24];
	struct lb_digest digest;

	fix_block(block);
	fix_random(&env.env, patch, sizeof(patch));
	fix_random(&env.env, digest.b, sizeof(digest.b));
	assert_int_equal(rep_packer_create(&p, &env.env, &l->header, &dek, NULL), 0);
	assert_int_equal(rep_packer_seal(p, &l->part[FIX_PACK0], &leaves[FIX_PACK0], 0, block,
					 sizeof(block), NULL),
			 0);
	assert_int_equal(rep_packer_seal(p, &l->part[FIX_PACK1], &leaves[FIX_PACK1], 1, patch,
					 sizeof(patch), NULL),
			 0);
	assert_int_equal(rep_packer_seal_digests(p, &l->part[FIX_DIGESTS], &leaves[FIX_DIGESTS], 0,
						 &digest, 1, NULL),
			 0);
	rep_packer_destroy(p);
}

static inline void fix_layer_index(struct lb_buf **out)
{
	struct lb_id sources[2] = {fix_id(0x71), fix_id(0x72)};
	struct rep_run runs[] = {
		{.block = 5, .count = 1, .kind = REP_RUN_DATA, .pack = 0, .pos = 0},
		{.block = 16, .count = 900, .kind = REP_RUN_ZERO},
		{.block = 1000, .count = 3, .kind = REP_RUN_REF, .pack = 9, .pos = 61, .src = 0},
		{.block = 1023,
		 .count = 1,
		 .kind = REP_RUN_PATCH,
		 .pack = 3,
		 .pos = 2,
		 .src = 1,
		 .patch_pack = 1,
		 .patch_pos = 0,
		 .patch_bytes = 24},
	};
	size_t len = rep_index_bytes(4, 2);

	assert_int_equal(lb_buf_create(out, len, NULL), 0);
	(*out)->len = rep_index_encode((*out)->p, len, 0, runs, 4, sources, 2);
}

static inline void fix_layer_close(struct fix_layer *l, struct lb_hash leaves[FIX_LEAF_COUNT])
{
	struct rep_footer *f = &l->footer;
	uint8_t bytes[256];

	rep_layer_header_encode(bytes, &l->header);
	assert_int_equal(lb_buf_copy_of(&l->part[FIX_HEADER], bytes, REP_LAYER_HEADER_BYTES, NULL),
			 0);
	fix_layer_index(&l->part[FIX_INDEX]);
	lb_merkle_leaf(&leaves[FIX_HEADER], l->part[FIX_HEADER]->p, l->part[FIX_HEADER]->len);
	lb_merkle_leaf(&leaves[FIX_INDEX], l->part[FIX_INDEX]->p, l->part[FIX_INDEX]->len);
	*f = (struct rep_footer){.layer = l->header.layer,
				 .packs = 2,
				 .digest_parts = 1,
				 .index_parts = 1,
				 .leaf_parts = 1,
				 .data_blocks = 1,
				 .zero_blocks = 900,
				 .ref_blocks = 3,
				 .patch_blocks = 1};
	for (unsigned i = 0; i < FIX_LEAF_COUNT; i++)
		f->bytes += l->part[i]->len;
	rep_layer_root(&f->root, f, leaves);
	rep_footer_encode(bytes, f);
	assert_int_equal(lb_buf_copy_of(&l->part[FIX_FOOTER], bytes, REP_FOOTER_BYTES, NULL), 0);
	size_t len = rep_leaves_encode(bytes, sizeof(bytes), 0, leaves, FIX_LEAF_COUNT);
	assert_int_equal(lb_buf_copy_of(&l->part[FIX_LEAVES], bytes, len, NULL), 0);
}

static inline void fix_layer_point(struct fix_layer *l)
{
	struct fix_env env = fix_env(4);
	struct rep_manifest *m = calloc(1, sizeof(*m));
	struct lb_signer *signer = fix_signer();
	struct lb_key dek = fix_key();
	struct rep_receipt r = fix_receipt();
	uint8_t cipher[2][32];

	assert_true(m != NULL && signer != NULL);
	fix_manifest(m);
	m->volume[0].root = l->footer.root;
	m->volume[0].layer_bytes = l->footer.bytes;
	m->attachments = 2;
	for (unsigned i = 0; i < 2; i++) {
		m->attachment[i].machine = l->header.machine;
		m->attachment[i].kind = i == 0 ? REP_ATTACH_MACHINE : REP_ATTACH_DEVICE_STATE;
		m->attachment[i].bytes = 20;
		assert_int_equal(rep_attachment_seal(
					 &m->attachment[i], cipher[i], m, &dek, &env.env,
					 i == 0 ? "<domain type='kvm'/>" : "state of the devices",
					 NULL),
				 0);
	}
	assert_int_equal(rep_manifest_encode(&l->manifest, m, signer, NULL), 0);
	rep_manifest_hash(&r.manifest, l->manifest->p, l->manifest->len);
	assert_int_equal(rep_receipt_encode(l->receipt, &r, signer, NULL), 0);
	lb_signer_pubkey(signer, &l->pub);
	lb_signer_destroy(signer);
	free(m);
}

static inline void fix_layer_init(struct fix_layer *l)
{
	struct lb_hash leaves[FIX_LEAF_COUNT];

	memset(l, 0, sizeof(*l));
	l->header = fix_layer_header();
	fix_layer_packs(l, leaves);
	fix_layer_close(l, leaves);
	fix_layer_point(l);
}

static inline void fix_layer_fini(struct fix_layer *l)
{
	for (unsigned i = 0; i < FIX_PARTS; i++)
		lb_buf_unref(l->part[i]);
	lb_buf_unref(l->manifest);
}

#endif
