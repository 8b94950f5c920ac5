#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "words_int.h"

enum {
	MAX_WORD = 64,
	MAX_DISTANCE = 2
};

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Optimal string alignment (insert, delete, replace, swap neighbours); both at most MAX_WORD. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][MAX_WORD + 1];
	size_t an = strlen(a);
	size_t bn = strlen(b);

	for (size_t j = 0; j <= bn; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= an; i++) {
		unsigned *now = rows[i % 3];
		const unsigned *last = rows[(i + 2) % 3];
		const unsigned *before = rows[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= bn; j++) {
			now[j] = least(last[j - 1] + (a[i - 1] != b[j - 1]),
				       least(last[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = least(now[j], before[j - 2] + 1);
		}
	}
	return rows[an % 3][bn];
}

const char *lb_nearest_word(const char *word, const char *const *words)
{
	const char *best = NULL;
	unsigned best_distance = MAX_DISTANCE + 1;

	if (strlen(word) > MAX_WORD)
		return NULL;
	for (; *words != NULL; words++) {
		unsigned d;

		if (strlen(*words) > MAX_WORD)
			continue;
		d = distance(word, *words);
		/* Two changes turn any short word into any other: that is no help. */
		if (d < best_distance && (size_t)d * 2 <= strlen(*words)) {
			best_distance = d;
			best = *words;
		}
	}
	return best;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit byte_units[] = {
	{"B", 1},
	{"KiB", 1ull << 10},
	{"MiB", 1ull << 20},
	{"GiB", 1ull << 30},
	{"TiB", 1ull << 40},
	{"PiB", 1ull << 50},
	{NULL, 0},
};

static const struct unit time_units[] = {
	{"ns", 1},
	{"us", 1000ull},
	{"ms", 1000000ull},
	{"s", 1000000000ull},
	{"m", 60ull * 1000000000ull},
	{"min", 60ull * 1000000000ull},
	{"h", 3600ull * 1000000000ull},
	{"d", 86400ull * 1000000000ull},
	{"w", 7 * 86400ull * 1000000000ull},
	{NULL, 0},
};

const char *lb_read_u64(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (text[0] < '0' || text[0] > '9')
		return NULL;
	if (text[0] == '0' && text[1] >= '0' && text[1] <= '9')
		return NULL; /* octal to some, decimal to others */
	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return NULL;
	}
	*out = v;
	return text;
}

/* "64 MiB", "64MiB"; a bare number counts in @bare, which is 0 when a unit is needed. */
static bool read_amount(uint64_t *out, const char *text, const struct unit *units, uint64_t bare)
{
	uint64_t v = 0;
	const char *rest = lb_read_u64(text, &v);
	uint64_t factor = 0;

	if (rest == NULL)
		return false;
	if (*rest == 0)
		factor = v == 0 ? 1 : bare;
	else if (*rest == ' ')
		rest++;
	for (; units->name != NULL && factor == 0; units++) {
		if (strcmp(rest, units->name) == 0)
			factor = units->factor;
	}
	return factor != 0 && !__builtin_mul_overflow(v, factor, out);
}

int lb_parse_bytes(uint64_t *out, const char *text, struct lb_err *err)
{
	uint64_t v = 0;

	if (!read_amount(&v, text, byte_units, 1))
		return lb_err_set(err, LB_EINPUT, 0,
				  "\"%.32s\" is not a size such as 512, 64 KiB, 1 GiB", text);
	*out = v;
	return 0;
}

int lb_parse_duration_ns(uint64_t *out, const char *text, struct lb_err *err)
{
	uint64_t v = 0;

	if (!read_amount(&v, text, time_units, 0))
		return lb_err_set(err, LB_EINPUT, 0,
				  "\"%.32s\" is not a duration such as 250ms, 5s, 10m, 2h, 7d",
				  text);
	*out = v;
	return 0;
}
