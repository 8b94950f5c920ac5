/*
 * Every single bit of a real layer and of its manifest is flipped once. A verifier that
 * works as a store does (without keys: decoders, leaf hashes, root; then with keys: tags) must find
 * each and name the part the flip is in. Nothing is sampled: some 13,500 flips.
 */
#include "base/hash.h"
#include "check.h"
#include "format_layer.h"

struct flips {
	unsigned flips, by_decoder, by_leaf, by_root, by_signature;
};

static bool leaf_fits(const struct fix_layer *l, unsigned part, const struct lb_hash *leaves)
{
	struct lb_hash got;

	lb_merkle_leaf(&got, l->part[part]->p, l->part[part]->len);
	return lb_hash_equal(&got, &leaves[part]);
}

/* Decode every clear byte there is of @part. */
static int decode_part(const struct fix_layer *l, unsigned part, struct lb_err *err)
{
	const void *p = l->part[part]->p;
	size_t len = l->part[part]->len;
	struct rep_layer_header h;
	struct rep_pack_info info;
	struct rep_index x;

	switch (part) {
	case FIX_HEADER:
		return rep_layer_header_decode(&h, p, len, err);
	case FIX_INDEX:
		return rep_index_decode(&x, p, len, &l->header, err);
	default:
		return rep_pack_peek(&info, p, len, err);
	}
}

/* The first part found bad against the signed root @root, or FIX_PARTS. As a store reads a layer:
 * footer, then leaves against the root, then each part against its leaf. */
static unsigned verify(struct fix_layer *l, const struct lb_hash *root, struct flips *c)
{
	static struct lb_hash leaves[REP_LEAVES_MAX];
	struct lb_err err = {0};
	struct rep_footer f;
	struct lb_hash got;
	uint32_t n = 0;
	uint32_t number = 0;

	if (rep_footer_decode(&f, l->part[FIX_FOOTER]->p, l->part[FIX_FOOTER]->len, &err) != 0) {
		c->by_decoder++;
		return FIX_FOOTER;
	}
	if (rep_leaves_decode(leaves, &n, &number, l->part[FIX_LEAVES]->p, l->part[FIX_LEAVES]->len,
			      &err) != 0 ||
	    number != 0 || n != rep_footer_leaves(&f)) {
		c->by_decoder++;
		return FIX_LEAVES;
	}
	rep_layer_root(&got, &f, leaves);
	if (!lb_hash_equal(&got, root)) {
		c->by_root++;
		return FIX_LEAVES;
	}
	for (unsigned part = 0; part < FIX_LEAF_COUNT; part++) {
		if (decode_part(l, part, &err) != 0) {
			c->by_decoder++;
			return part;
		}
		if (!leaf_fits(l, part, leaves)) {
			c->by_leaf++;
			return part;
		}
	}
	return FIX_PARTS;
}

/* With the key and without any hash: does the sealed part still open? */
static bool opens(const struct fix_layer *l, unsigned part, struct lb_sealer *s)
{
	static uint8_t raw[REP_PACK_MAX_RAW];
	static struct lb_digest d[REP_DIGESTS_MAX];
	const struct lb_buf *b = l->part[part];
	uint32_t n = 0;

	if (part == FIX_DIGESTS)
		return rep_digests_open(d, &n, s, &l->header, (struct rep_sealed){0, b->p, b->len},
					NULL) == 0;
	return rep_pack_open(raw, &n, s, &l->header,
			     (struct rep_sealed){part - FIX_PACK0, b->p, b->len}, NULL) == 0;
}

static void flip_part(struct fix_layer *l, unsigned part, struct lb_sealer *s, struct flips *c)
{
	struct lb_buf *b = l->part[part];
	struct lb_hash root = l->footer.root;

	for (size_t bit = 0; bit < 8 * b->len; bit++) {
		b->p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		c->flips++;
		unsigned found = verify(l, &root, c);
		if (found != part)
			fail_msg("bit %zu of %s: found %s", bit, fix_part_name(part),
				 found == FIX_PARTS ? "nothing" : fix_part_name(found));
		if (part >= FIX_PACK0 && part <= FIX_DIGESTS && opens(l, part, s))
			fail_msg("bit %zu of %s: opens", bit, fix_part_name(part));
		b->p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
}

static void test_layer(void **state)
{
	struct flips c = {0};
	struct fix_layer l;
	struct lb_sealer *s = NULL;
	struct lb_key dek = fix_key();

	(void)state;
	fix_layer_init(&l);
	assert_int_equal(lb_sealer_create(&s, &dek, NULL), 0);
	assert_int_equal(verify(&l, &l.footer.root, &c), FIX_PARTS);
	for (unsigned part = 0; part < FIX_PARTS; part++)
		flip_part(&l, part, s, &c);
	(void)printf("layer: %u flips, found by decoder %u, leaf %u, root %u\n", c.flips,
		     c.by_decoder, c.by_leaf, c.by_root);
	assert_true(c.flips >= 2000);
	lb_sealer_destroy(s);
	fix_layer_fini(&l);
}

static void test_manifest(void **state)
{
	static struct rep_manifest m;
	struct flips c = {0};
	struct fix_layer l;
	struct lb_hash was;
	struct lb_hash now;

	(void)state;
	fix_layer_init(&l);
	struct lb_buf *b = l.manifest;
	rep_manifest_hash(&was, b->p, b->len);
	assert_int_equal(rep_manifest_verify(b->p, b->len, &l.pub, NULL), 0);
	for (size_t bit = 0; bit < 8 * b->len; bit++) {
		b->p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		c.flips++;
		if (rep_manifest_decode(&m, b->p, b->len, NULL) != 0)
			c.by_decoder++;
		if (rep_manifest_verify(b->p, b->len, &l.pub, NULL) == 0)
			fail_msg("bit %zu of the manifest: its signature holds", bit);
		c.by_signature++;
		rep_manifest_hash(&now, b->p, b->len);
		assert_false(lb_hash_equal(&was, &now));
		b->p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	(void)printf("manifest: %u flips, found by signature %u, by the decoder already %u\n",
		     c.flips, c.by_signature, c.by_decoder);
	assert_true(c.flips >= 2000);
	fix_layer_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layer),
		cmocka_unit_test(test_manifest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
