#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/layer.h"

struct rig {
	struct fix_env env;
	struct rep_layer_header header;
	struct rep_packer *packer;
	struct lb_sealer *sealer;
	uint8_t *raw, *got; /* REP_PACK_MAX_RAW each */
};

static int set_up(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct lb_key dek = fix_key();
	struct lb_err err = {0};

	assert_non_null(r);
	r->env = fix_env(1);
	r->header = fix_layer_header();
	r->raw = malloc(REP_PACK_MAX_RAW);
	r->got = malloc(REP_PACK_MAX_RAW);
	assert_true(r->raw != NULL && r->got != NULL);
	assert_int_equal(rep_packer_create(&r->packer, &r->env.env, &r->header, &dek, &err), 0);
	assert_int_equal(lb_sealer_create(&r->sealer, &dek, &err), 0);
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *r = *state;

	rep_packer_destroy(r->packer);
	lb_sealer_destroy(r->sealer);
	free(r->raw);
	free(r->got);
	free(r);
	return 0;
}

/* Seal r->raw[0..n) as pack @number, open it again; the buffer is the caller's. */
static struct lb_buf *there_and_back(struct rig *r, uint32_t number, uint32_t n)
{
	struct lb_err err = {0};
	struct lb_buf *b = NULL;
	struct lb_hash leaf;
	struct lb_hash want;
	uint32_t got = 0;

	if (rep_packer_seal(r->packer, &b, &leaf, number, r->raw, n, &err) != 0)
		fail_msg("%s", err.msg);
	lb_merkle_leaf(&want, b->p, b->len);
	assert_true(lb_hash_equal(&leaf, &want));
	if (rep_pack_open(r->got, &got, r->sealer, &r->header,
			  (struct rep_sealed){number, b->p, b->len}, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(got, n);
	assert_memory_equal(r->got, r->raw, n);
	return b;
}

static void test_round_trips(void **state)
{
	struct rig *r = *state;
	static const uint32_t sizes[] = {1, 16, 4095, 4096, 65535, 65536};
	struct lb_err err = {0};
	struct rep_pack_info info;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t n = sizes[i];

		memset(r->raw, 'a', n);
		struct lb_buf *b = there_and_back(r, 5, n);
		assert_int_equal(rep_pack_peek(&info, b->p, b->len, &err), 0);
		assert_int_equal(info.number, 5);
		assert_int_equal(info.raw_bytes, n);
		assert_int_equal(info.codec, n == 1 ? REP_CODEC_NONE : REP_CODEC_LZ4);
		assert_false(info.digests);
		lb_buf_unref(b);

		fix_random(&r->env.env, r->raw, n); /* does not shrink: stored as it is */
		b = there_and_back(r, REP_LAYER_MAX_PACKS - 1, n);
		assert_int_equal(rep_pack_peek(&info, b->p, b->len, &err), 0);
		assert_int_equal(info.codec, REP_CODEC_NONE);
		assert_int_equal(info.packed_bytes, n);
		lb_buf_unref(b);
	}
}

static void test_refused_arguments(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct lb_buf *b = NULL;
	struct lb_hash leaf;
	struct lb_digest d = {{0}};

	assert_int_equal(rep_packer_seal(r->packer, &b, &leaf, 0, r->raw, 0, &err), LB_EINVAL);
	assert_int_equal(rep_packer_seal(r->packer, &b, &leaf, 0, r->raw,
					 r->header.pack_raw_bytes + 1, &err),
			 LB_EINVAL);
	assert_int_equal(
		rep_packer_seal(r->packer, &b, &leaf, REP_LAYER_MAX_PACKS, r->raw, 1, &err),
		LB_EINVAL);
	assert_int_equal(rep_packer_seal_digests(r->packer, &b, &leaf, 0, &d, 0, &err), LB_EINVAL);
	assert_null(b);
}

/* What the tag binds: the same bytes do not open as any other pack of any other layer. */
static void test_a_pack_opens_only_in_its_place(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct rep_layer_header h;
	uint32_t n = 0;

	memset(r->raw, 'b', 8192);
	struct lb_buf *b = there_and_back(r, 3, 8192);
	struct lb_id *ids[] = {&h.deployment, &h.group, &h.machine, &h.volume, &h.layer, &h.key};
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		h = r->header;
		ids[i]->b[7] ^= 1;
		assert_int_equal(rep_pack_open(r->got, &n, r->sealer, &h,
					       (struct rep_sealed){3, b->p, b->len}, &err),
				 LB_ECORRUPT);
	}
	h = r->header;
	h.epoch++;
	assert_int_equal(rep_pack_open(r->got, &n, r->sealer, &h,
				       (struct rep_sealed){3, b->p, b->len}, &err),
			 LB_ECORRUPT);
	h = r->header;
	h.seq++;
	assert_int_equal(rep_pack_open(r->got, &n, r->sealer, &h,
				       (struct rep_sealed){3, b->p, b->len}, &err),
			 LB_ECORRUPT);
	h = r->header;
	h.pack_raw_bytes = 4096; /* the pack is larger than its layer allows */
	assert_int_equal(rep_pack_open(r->got, &n, r->sealer, &h,
				       (struct rep_sealed){3, b->p, b->len}, &err),
			 LB_ECORRUPT);
	assert_int_equal(rep_pack_open(r->got, &n, r->sealer, &r->header,
				       (struct rep_sealed){4, b->p, b->len}, &err),
			 LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "pack 3 found where pack 4 belongs"));
	b->p[4] = 4; /* renumbered in the clear header: found by the tag */
	assert_int_equal(rep_pack_open(r->got, &n, r->sealer, &r->header,
				       (struct rep_sealed){4, b->p, b->len}, &err),
			 LB_ECORRUPT);
	lb_buf_unref(b);
}

static void test_digests(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct lb_digest *d = calloc(REP_DIGESTS_MAX, sizeof(*d));
	struct lb_digest *got = calloc(REP_DIGESTS_MAX, sizeof(*got));
	struct rep_pack_info info;
	struct lb_buf *b = NULL;
	struct lb_hash leaf;
	uint32_t n = 0;

	assert_true(d != NULL && got != NULL);
	fix_random(&r->env.env, d, REP_DIGESTS_MAX * sizeof(*d));
	for (uint32_t count = 1; count <= REP_DIGESTS_MAX; count += REP_DIGESTS_MAX - 1) {
		assert_int_equal(rep_packer_seal_digests(r->packer, &b, &leaf, 2, d, count, &err),
				 0);
		assert_true(b->len <= REP_RECORD_MAX);
		assert_int_equal(rep_pack_peek(&info, b->p, b->len, &err), 0);
		assert_true(info.digests);
		assert_int_equal(rep_digests_open(got, &n, r->sealer, &r->header,
						  (struct rep_sealed){2, b->p, b->len}, &err),
				 0);
		assert_int_equal(n, count);
		assert_memory_equal(got, d, count * sizeof(*d));
		/* A digests part is not a pack, and not by flipping the flag either. */
		uint32_t bytes = 0;
		assert_int_equal(rep_pack_open(r->got, &bytes, r->sealer, &r->header,
					       (struct rep_sealed){2, b->p, b->len}, &err),
				 LB_ECORRUPT);
		b->p[17] ^= 1;
		assert_int_equal(rep_pack_open(r->got, &bytes, r->sealer, &r->header,
					       (struct rep_sealed){2, b->p, b->len}, &err),
				 LB_ECORRUPT);
		lb_buf_unref(b);
		b = NULL;
	}
	free(got);
	free(d);
}

struct peek_case {
	size_t at;
	uint32_t value; /* 4 bytes put at .at */
	const char *what;
};
static const struct peek_case peek_cases[] = {
	{0, 0x3150424d, "magic"},     {4, REP_LAYER_MAX_PACKS, "number"},
	{8, 0, "raw length"},         {8, REP_PACK_MAX_RAW + 1, "raw length"},
	{12, 0, "packed length"},     {12, 8192, "packed length"},
	{12, 37, "for a body of"},    {16, 2, "codec"},
	{16, 0, "packed length"},     {16, 0x0201, "reserved"},
	{16, 0x010001, "reserved"},   {16, 0x0101, "digests"},
	{20, 0x01000000, "reserved"},
};

static void test_peek_refuses(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct rep_pack_info info;

	memset(r->raw, 'c', 8192);
	struct lb_buf *b = there_and_back(r, 3, 8192);
	uint8_t *copy = malloc(b->len);
	assert_non_null(copy);
	for (size_t i = 0; i < sizeof(peek_cases) / sizeof(peek_cases[0]); i++) {
		const struct peek_case *c = &peek_cases[i];

		memcpy(copy, b->p, b->len);
		for (unsigned k = 0; k < 4; k++)
			copy[c->at + k] = (uint8_t)(c->value >> (8 * k));
		assert_int_equal(rep_pack_peek(&info, copy, b->len, &err), LB_ECORRUPT);
		if (strstr(err.msg, c->what) == NULL)
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.msg, c->what);
	}
	assert_int_equal(rep_pack_peek(&info, b->p, b->len - 1, &err), LB_ECORRUPT);
	assert_int_equal(rep_pack_peek(&info, b->p, 63, &err), LB_ECORRUPT);
	assert_int_equal(rep_pack_peek(&info, b->p, 0, &err), LB_ECORRUPT);
	free(copy);
	lb_buf_unref(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trips, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused_arguments, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_pack_opens_only_in_its_place, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_digests, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_peek_refuses, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
