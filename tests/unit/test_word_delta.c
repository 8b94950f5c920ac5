#include "base/err.h"
#include "check.h"
#include "rnd.h"
#include "word_delta_int.h"

static uint8_t base[REP_BLOCK_BYTES], now[REP_BLOCK_BYTES], delta[REP_BLOCK_BYTES];

static void check_round(uint32_t len)
{
	uint8_t got[REP_BLOCK_BYTES];
	struct lb_err err = {0};

	memcpy(got, base, sizeof(got));
	if (rep_word_delta_apply(got, delta, len, &err) != 0)
		fail_msg("%s", err.msg);
	assert_memory_equal(got, now, sizeof(got));
}

static void test_equal(void **state)
{
	(void)state;
	memcpy(now, base, sizeof(now));
	assert_int_equal(rep_word_delta_encode(delta, sizeof(delta), base, now), 0);
	assert_int_equal(rep_word_delta_encode(delta, 0, base, now), 0);
}

/* Each word alone, by a change in any byte of it: one piece of one word. */
static void test_each_word(void **state)
{
	(void)state;
	for (unsigned i = 0; i < REP_BLOCK_BYTES; i++) {
		memcpy(now, base, sizeof(now));
		now[i] ^= 0x80;
		assert_int_equal(rep_word_delta_encode(delta, sizeof(delta), base, now), 12);
		assert_int_equal(delta[0] | delta[1] << 8, i / 8);
		assert_int_equal(delta[2] | delta[3] << 8, 0);
		check_round(12);
	}
}

static void test_random(void **state)
{
	uint64_t rnd = 11;

	(void)state;
	rnd_fill(&rnd, base, sizeof(base));
	for (unsigned n = 0; n < 3000; n++) {
		uint64_t edits = rnd_below(&rnd, n % 3 == 0 ? 300 : 12);
		uint32_t len;

		memcpy(now, base, sizeof(now));
		for (uint64_t i = 0; i < edits; i++)
			now[rnd_below(&rnd, sizeof(now))] = (uint8_t)rnd_u64(&rnd);
		len = rep_word_delta_encode(delta, sizeof(delta), base, now);
		if (len == 0)
			assert_memory_equal(base, now, sizeof(now));
		else if (len <= sizeof(delta))
			check_round(len);
		/* What fits in exactly so much fits, one byte less does not. */
		if (len > 0 && len <= sizeof(delta)) {
			assert_int_equal(rep_word_delta_encode(delta, len, base, now), len);
			assert_int_equal(rep_word_delta_encode(delta, len - 1, base, now), len);
		}
	}
}

/* A block of which everything changed is longer than a block: it goes as data. */
static void test_does_not_fit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < REP_BLOCK_BYTES; i++)
		now[i] = (uint8_t)~base[i];
	assert_int_equal(rep_word_delta_encode(delta, sizeof(delta), base, now),
			 REP_BLOCK_BYTES + 1);
	assert_int_equal(rep_word_delta_encode(delta, 100, base, now), 101);
}

static void refused(const char *hex)
{
	uint8_t p[64], block[REP_BLOCK_BYTES] = {0};
	struct lb_err err = {0};
	size_t n = check_unhex(p, sizeof(p), hex);

	assert_int_equal(rep_word_delta_apply(block, p, n, &err), LB_ECORRUPT);
	assert_int_equal(err.code, LB_ECORRUPT);
}

static void test_malformed(void **state)
{
	(void)state;
	refused("");         /* nothing */
	refused("00");       /* cut in a piece's head */
	refused("000000");   /* too */
	refused("00000000"); /* no words */
	refused("000000000102030405060708"
		"00"); /* a byte more */
	refused("00000100"
		"0102030405060708"); /* one word of two */
	refused("00020000"
		"0102030405060708"); /* word 512 */
	refused("ff010100"
		"01020304050607080102030405060708"); /* words 511 and 512 */
	refused("ffffffff"
		"0102030405060708"); /* far behind */
	refused("05000000"
		"0102030405060708"
		"05000000"
		"0102030405060708"); /* twice */
	refused("05000000"
		"0102030405060708"
		"06000000"
		"0102030405060708"); /* one piece in two */
	refused("07000000"
		"0102030405060708"
		"05000000"
		"0102030405060708"); /* descending */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal),     cmocka_unit_test(test_each_word),
		cmocka_unit_test(test_random),    cmocka_unit_test(test_does_not_fit),
		cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
