#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli_int.h"

const char *cli_bytes(char *out, uint64_t n)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)n;
	unsigned u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	(void)snprintf(out, 24, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, unit[u]);
	return out;
}

const char *cli_duration(char *out, uint64_t ns)
{
	uint64_t s = ns / 1000000000u;

	if (ns < 1000000000u)
		(void)snprintf(out, 24, "%" PRIu64 " ms", ns / 1000000u);
	else if (s < 60)
		(void)snprintf(out, 24, "%.1f s", (double)ns / 1e9);
	else if (s < 3600)
		(void)snprintf(out, 24, "%" PRIu64 " m %02" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(out, 24, "%" PRIu64 " h %02" PRIu64 " m", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(out, 24, "%" PRIu64 " d %02" PRIu64 " h", s / 86400,
			       s % 86400 / 3600);
	return out;
}

const char *cli_age(char *out, const struct json_t *ns)
{
	if (!json_is_integer(ns)) {
		(void)snprintf(out, 24, "unknown");
		return out;
	}
	return cli_duration(out, (uint64_t)json_integer_value(ns));
}

const char *cli_wall(char *out, uint64_t wall_ns)
{
	time_t t = (time_t)(wall_ns / 1000000000u);
	struct tm tm;

	if (wall_ns == 0 || localtime_r(&t, &tm) == NULL ||
	    strftime(out, 24, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(out, 24, "-");
	return out;
}

const char *cli_text(char *out, size_t cap, const struct json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return lb_text_escape(out, cap, s != NULL ? s : "");
}

uint64_t cli_u64(const struct json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

/* ---- tables ---- */

struct row {
	struct row *next;
	char *cell[CLI_TABLE_COLUMNS];
};

struct cli_table {
	size_t columns;
	size_t width[CLI_TABLE_COLUMNS];
	struct row *first, **last;
};

/* Columns a terminal needs, near enough: one per code point. */
static size_t columns_of(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0u) != 0x80u ? 1 : 0;
	return n;
}

void cli_table_row(struct cli_table *t, const char *const *cell)
{
	struct row *r = t == NULL ? NULL : calloc(1, sizeof(*r));

	if (r == NULL)
		return;
	for (size_t i = 0; i < t->columns; i++) {
		size_t w = columns_of(cell[i]);

		r->cell[i] = strdup(cell[i]);
		t->width[i] = w > t->width[i] ? w : t->width[i];
	}
	*t->last = r;
	t->last = &r->next;
}

struct cli_table *cli_table_new(const char *const *head)
{
	struct cli_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->last = &t->first;
	while (t->columns < CLI_TABLE_COLUMNS && head[t->columns] != NULL)
		t->columns++;
	cli_table_row(t, head);
	return t;
}

static void print_row(const struct cli_table *t, const struct row *r, FILE *out)
{
	for (size_t i = 0; i < t->columns; i++) {
		const char *s = r->cell[i] != NULL ? r->cell[i] : "";
		size_t pad = i + 1 == t->columns ? 0 : t->width[i] - columns_of(s) + 2;

		(void)fprintf(out, "%s%*s", s, (int)pad, "");
	}
	(void)fputc('\n', out);
}

void cli_table_print(struct cli_table *t, FILE *out)
{
	struct row *next;

	if (t == NULL)
		return;
	for (struct row *r = t->first; r != NULL; r = next) {
		next = r->next;
		print_row(t, r, out);
		for (size_t i = 0; i < t->columns; i++)
			free(r->cell[i]);
		free(r);
	}
	free(t);
}
