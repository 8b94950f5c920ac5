#include <string.h>

#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "word_delta_int.h"

/* A cache line is compared as a whole first: most of a page that changed did not. */
#define LINE_BYTES 64u

static bool line_equal(const uint8_t *a, const uint8_t *b)
{
	uint64_t x[LINE_BYTES / 8], y[LINE_BYTES / 8], differ = 0;

	memcpy(x, a, sizeof(x));
	memcpy(y, b, sizeof(y));
	for (unsigned i = 0; i < LINE_BYTES / 8; i++)
		differ |= x[i] ^ y[i];
	return differ == 0;
}

static bool word_equal(const uint8_t *a, const uint8_t *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x == y;
}

/* The first word from @at on that is not equal; REP_BLOCK_WORDS: none. */
static uint32_t next_changed(const uint8_t *base, const uint8_t *now, uint32_t at)
{
	while (at < REP_BLOCK_WORDS) {
		size_t off = (size_t)at * REP_WORD_BYTES;

		if (off % LINE_BYTES == 0 && line_equal(base + off, now + off)) {
			at += LINE_BYTES / REP_WORD_BYTES;
			continue;
		}
		if (!word_equal(base + off, now + off))
			return at;
		at++;
	}
	return REP_BLOCK_WORDS;
}

static uint32_t next_equal(const uint8_t *base, const uint8_t *now, uint32_t at)
{
	while (at < REP_BLOCK_WORDS &&
	       !word_equal(base + (size_t)at * REP_WORD_BYTES, now + (size_t)at * REP_WORD_BYTES))
		at++;
	return at;
}

uint32_t rep_word_delta_encode(uint8_t *out, uint32_t cap, const uint8_t base[REP_BLOCK_BYTES],
			       const uint8_t now[REP_BLOCK_BYTES])
{
	struct lb_wr wr = lb_wr_init(out, cap);
	uint32_t at = next_changed(base, now, 0);

	while (at < REP_BLOCK_WORDS && !wr.bad) {
		uint32_t end = next_equal(base, now, at);

		lb_wr_u16le(&wr, (uint16_t)at);
		lb_wr_u16le(&wr, (uint16_t)(end - at - 1));
		lb_wr_bytes(&wr, now + (size_t)at * REP_WORD_BYTES,
			    (size_t)(end - at) * REP_WORD_BYTES);
		at = next_changed(base, now, end);
	}
	return wr.bad ? cap + 1 : (uint32_t)wr.len;
}

int rep_word_delta_apply(uint8_t block[REP_BLOCK_BYTES], const void *p, size_t len,
			 struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	size_t from = 0; /* the least word a piece may begin at */

	if (len == 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "word delta: empty");
	while (rd.left > 0 && !rd.bad) {
		size_t first = lb_rd_u16le(&rd);
		size_t words = (size_t)lb_rd_u16le(&rd) + 1;
		const uint8_t *w = lb_rd_bytes(&rd, words * REP_WORD_BYTES);

		if (w == NULL || first < from || first + words > REP_BLOCK_WORDS)
			return lb_err_set(err, LB_ECORRUPT, 0,
					  "word delta: %zu words from word %zu", words, first);
		memcpy(block + first * REP_WORD_BYTES, w, words * REP_WORD_BYTES);
		from = first + words + 1;
	}
	return rd.bad ? lb_err_set(err, LB_ECORRUPT, 0, "word delta: truncated") : 0;
}
