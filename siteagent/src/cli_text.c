#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cli_int.h"

const char *cli_age(char *out, const struct json_t *ns)
{
	if (!json_is_integer(ns)) {
		(void)snprintf(out, LB_HUMAN_BYTES, "unknown");
		return out;
	}
	return lb_human_duration(out, (uint64_t)json_integer_value(ns));
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
