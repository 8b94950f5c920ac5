#include "base/rd.h"
#include "base/wr.h"
#include "check.h"

static void test_round_trip(void **state)
{
	uint8_t buf[128];
	struct lb_wr wr = lb_wr_init(buf, sizeof(buf));
	struct lb_id id = {{1, 2, 3}};
	struct lb_hash hash = {{9, 8, 7}};
	char text[8];
	uint8_t raw[3];

	(void)state;
	lb_wr_u8(&wr, 0x12);
	lb_wr_u16le(&wr, 0x3456);
	lb_wr_u32le(&wr, 0x789abcde);
	lb_wr_u64le(&wr, 0x0123456789abcdefu);
	lb_wr_id(&wr, &id);
	lb_wr_hash(&wr, &hash);
	lb_wr_str16(&wr, "host");
	lb_wr_zeros(&wr, 2);
	lb_wr_bytes(&wr, "abc", 3);
	assert_true(lb_wr_done(&wr));
	check_hex(buf, 15, "125634debc9a78efcdab8967452301");

	struct lb_rd rd = lb_rd_init(buf, wr.len);

	assert_int_equal(lb_rd_u8(&rd), 0x12);
	assert_int_equal(lb_rd_u16le(&rd), 0x3456);
	assert_int_equal(lb_rd_u32le(&rd), 0x789abcde);
	assert_true(lb_rd_u64le(&rd) == 0x0123456789abcdefu);
	struct lb_id id2 = lb_rd_id(&rd);
	struct lb_hash hash2 = lb_rd_hash(&rd);

	assert_true(lb_id_equal(&id, &id2));
	assert_true(lb_hash_equal(&hash, &hash2));
	lb_rd_str16(&rd, text, sizeof(text));
	assert_string_equal(text, "host");
	assert_int_equal(lb_rd_u16le(&rd), 0);
	assert_false(lb_rd_done(&rd));
	lb_rd_copy(&rd, raw, sizeof(raw));
	assert_memory_equal(raw, "abc", 3);
	assert_true(lb_rd_done(&rd));
}

static void test_short_read_is_sticky(void **state)
{
	uint8_t buf[5] = {1, 2, 3, 4, 5};
	struct lb_rd rd = lb_rd_init(buf, sizeof(buf));
	uint8_t out[4] = {7, 7, 7, 7};

	(void)state;
	assert_true(lb_rd_u64le(&rd) == 0);
	assert_true(rd.bad);
	assert_int_equal(lb_rd_u8(&rd), 0); /* one byte would fit, but the error stays */
	lb_rd_copy(&rd, out, sizeof(out));
	check_hex(out, 4, "00000000");
	assert_null(lb_rd_bytes(&rd, 1));
	assert_false(lb_rd_done(&rd));
}

static void test_empty_input(void **state)
{
	struct lb_rd rd = lb_rd_init(NULL, 0);
	char text[4] = "x";

	(void)state;
	(void)lb_rd_bytes(&rd, 0);
	assert_true(lb_rd_done(&rd));
	lb_rd_str16(&rd, text, sizeof(text));
	assert_string_equal(text, "");
	assert_true(rd.bad);
}

static void test_bad_strings(void **state)
{
	static const struct {
		const char *hex;
		size_t cap;
	} rows[] = {
		{"0400616263", 16},  /* longer than the input */
		{"040061626364", 4}, /* no room for the NUL */
		{"0300610062", 16},  /* NUL inside */
		{"ffff61", 16},      /* length far beyond */
		{"0000", 0},         /* no room at all */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t in[16];
		char out[16];
		struct lb_rd rd = lb_rd_init(in, check_unhex(in, sizeof(in), rows[i].hex));

		lb_rd_str16(&rd, out, rows[i].cap);
		assert_true(rd.bad);
	}
}

static void test_write_overflow_is_sticky(void **state)
{
	uint8_t buf[8] = {0};
	uint8_t guard[4] = {0};
	static char big[70000];
	struct lb_wr wr = lb_wr_init(buf, 7);

	(void)state;
	lb_wr_u64le(&wr, UINT64_MAX);
	assert_false(lb_wr_done(&wr));
	lb_wr_u8(&wr, 1);
	assert_false(lb_wr_done(&wr));
	assert_int_equal(wr.len, 0);
	assert_int_equal(buf[7], 0);

	wr = lb_wr_init(guard, sizeof(guard));
	lb_wr_zeros(&wr, SIZE_MAX);
	assert_false(lb_wr_done(&wr));

	memset(big, 'a', sizeof(big) - 1);
	wr = lb_wr_init(guard, sizeof(guard));
	lb_wr_str16(&wr, big);
	assert_false(lb_wr_done(&wr));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_short_read_is_sticky),
		cmocka_unit_test(test_empty_input),
		cmocka_unit_test(test_bad_strings),
		cmocka_unit_test(test_write_overflow_is_sticky),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
