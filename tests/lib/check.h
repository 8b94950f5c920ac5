/* tests/lib/check.h - cmocka with what its header needs before it, and hex for vectors. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Decode @hex (even number of lower-case digits) into @out; returns the number of bytes. */
static inline size_t check_unhex(uint8_t *out, size_t cap, const char *hex)
{
	size_t n = strlen(hex) / 2;

	assert_true(n <= cap);
	for (size_t i = 0; i < n; i++) {
		unsigned v = 0;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
		out[i] = (uint8_t)v;
	}
	return n;
}

/* Assert that the @len bytes at @p are @hex. */
static inline void check_hex(const void *p, size_t len, const char *hex)
{
	const uint8_t *b = p;
	char text[3];

	assert_int_equal(strlen(hex), 2 * len);
	for (size_t i = 0; i < len; i++) {
		(void)snprintf(text, sizeof(text), "%02x", b[i]);
		if (memcmp(text, hex + 2 * i, 2) != 0)
			fail_msg("byte %zu is %s, expected %.2s", i, text, hex + 2 * i);
	}
}

#endif
