#include "base/err.h"
#include "base/hash.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/record.h"

static struct rep_record sample(void)
{
	return (struct rep_record){.kind = REP_RECORD_PACK,
				   .number = 12,
				   .bytes = 65536,
				   .owner = fix_id(0x66),
				   .segment = 3,
				   .offset = 4096,
				   .body_crc = 0x11223344};
}

static void test_round_trip(void **state)
{
	struct lb_err err = {0};
	struct rep_record r = sample();
	struct rep_record got;
	uint8_t first[REP_RECORD_HEADER_BYTES];
	uint8_t second[REP_RECORD_HEADER_BYTES];

	(void)state;
	rep_record_encode(first, &r);
	check_hex(first, 8, "4c42523165000000");
	assert_int_equal(rep_record_decode(&got, first, sizeof(first), &err), 0);
	assert_int_equal(got.kind, REP_RECORD_PACK);
	assert_int_equal(got.body_crc, 0x11223344);
	rep_record_encode(second, &got);
	assert_memory_equal(first, second, sizeof(first));
	assert_int_equal(rep_record_decode(&got, first, sizeof(first) - 1, &err), LB_ECORRUPT);
}

static void test_span(void **state)
{
	(void)state;
	assert_int_equal(rep_record_span(0), 56);
	assert_int_equal(rep_record_span(1), 64);
	assert_int_equal(rep_record_span(8), 64);
	assert_int_equal(rep_record_span(9), 72);
	assert_true(rep_record_span(UINT32_MAX) == UINT64_C(4294967352));
}

/* Put @value at @at of a good header, mend its checksum, and expect the refusal @what. */
static void refused(size_t at, uint16_t value, const char *what)
{
	struct lb_err err = {0};
	struct rep_record r = sample();
	struct rep_record got;
	uint8_t p[REP_RECORD_HEADER_BYTES];

	rep_record_encode(p, &r);
	p[at] = (uint8_t)value;
	p[at + 1] = (uint8_t)(value >> 8);
	uint32_t crc = lb_crc32c(0, p, 52);
	for (unsigned i = 0; i < 4; i++)
		p[52 + i] = (uint8_t)(crc >> (8 * i));
	assert_int_equal(rep_record_decode(&got, p, sizeof(p), &err), LB_ECORRUPT);
	if (strstr(err.msg, what) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.msg, what);
}

static void test_refusals(void **state)
{
	static const uint16_t no_kinds[] = {0, 4, 99, 106, 202, 299, 305, 65535};

	(void)state;
	refused(0, 0x424d, "magic");
	for (size_t i = 0; i < sizeof(no_kinds) / sizeof(no_kinds[0]); i++)
		refused(4, no_kinds[i], "kind");
	refused(6, 1, "flags");
	refused(10, 0x11, "length");
	refused(4, REP_RECORD_MANIFEST, "owner"); /* a manifest has none */
	refused(4, REP_RECORD_MARK, "owner");
}

static void test_every_bit_counts(void **state)
{
	struct lb_err err = {0};
	struct rep_record r = sample();
	struct rep_record got;
	uint8_t p[REP_RECORD_HEADER_BYTES];

	(void)state;
	rep_record_encode(p, &r);
	for (size_t bit = 0; bit < 8 * sizeof(p); bit++) {
		p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(rep_record_decode(&got, p, sizeof(p), &err), LB_ECORRUPT);
		p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_span),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_every_bit_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
