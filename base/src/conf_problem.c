#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "conf_int.h"
#include "text_int.h"

enum {
	LINE_COLUMNS = 100, /* of a source line that are shown */
	LEAD_COLUMNS = 60,  /* of them before the place, when the line is cut */
};

static void note_v(struct lb_conf *c, struct lb_conf_place at, const char *fmt, va_list ap)
	LB_PRINTF(3, 0);
static void note_v(struct lb_conf *c, struct lb_conf_place at, const char *fmt, va_list ap)
{
	char raw[sizeof(c->notes->msg)];
	struct lb_conf_note *n;

	c->problems++;
	if (c->problems > LB_CONF_NOTES)
		return;
	n = &c->notes[c->problems - 1];
	n->at = at;
	n->seq = (unsigned)c->problems;
	(void)vsnprintf(raw, sizeof(raw), fmt, ap);
	(void)lb_text_escape(n->msg, sizeof(n->msg), raw);
	free(c->rendered);
	c->rendered = NULL;
}

void lb_conf_note(struct lb_conf *c, struct lb_conf_place at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	note_v(c, at, fmt, ap);
	va_end(ap);
}

void lb_conf_problem(struct lb_conf *c, const struct lb_conf_node *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	note_v(c, n != NULL ? n->at : (struct lb_conf_place){0}, fmt, ap);
	va_end(ap);
}

size_t lb_conf_problem_count(const struct lb_conf *c)
{
	return c->problems;
}

static int by_place(const void *pa, const void *pb)
{
	const struct lb_conf_note *a = pa;
	const struct lb_conf_note *b = pb;

	if (a->at.line != b->at.line)
		return a->at.line < b->at.line ? -1 : 1;
	if (a->at.column != b->at.column)
		return a->at.column < b->at.column ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static size_t kept(const struct lb_conf *c)
{
	return c->problems < LB_CONF_NOTES ? c->problems : LB_CONF_NOTES;
}

/* "site.yaml:4:9: " or "site.yaml: " */
static void print_place(FILE *f, const struct lb_conf *c, struct lb_conf_place at)
{
	if (at.line == 0)
		(void)fprintf(f, "%s: ", c->name);
	else
		(void)fprintf(f, "%s:%u:%u: ", c->name, at.line, at.column);
}

static const char *find_line(const struct lb_conf *c, unsigned line)
{
	const char *p = c->text;

	for (unsigned i = 1; i < line && p != NULL; i++) {
		p = strchr(p, '\n');
		if (p != NULL)
			p++;
	}
	return p;
}

/* Two columns on a terminal: CJK, Hangul, full-width forms, emoji (Unicode EastAsianWidth W and F,
 * by block). A wrong guess only moves a caret. */
static bool is_wide(uint32_t cp)
{
	return (cp >= 0x1100 && cp <= 0x115f) || (cp >= 0x2e80 && cp <= 0xa4cf) ||
	       (cp >= 0xac00 && cp <= 0xd7a3) || (cp >= 0xf900 && cp <= 0xfaff) ||
	       (cp >= 0xfe30 && cp <= 0xfe6f) || (cp >= 0xff00 && cp <= 0xff60) ||
	       (cp >= 0xffe0 && cp <= 0xffe6) || (cp >= 0x1f300 && cp <= 0x1f64f) ||
	       (cp >= 0x1f900 && cp <= 0x1f9ff) || (cp >= 0x20000 && cp <= 0x3fffd);
}

/* Columns that the escaped form @unit of the character at @s takes. */
static unsigned unit_width(const char *unit, const char *s, size_t used)
{
	uint32_t cp = 0;

	if (strlen(unit) == used && lb_utf8_next(s, &cp) != 0)
		return is_wide(cp) ? 2 : 1;
	return (unsigned)strlen(unit);
}

struct caret {
	unsigned from; /* columns before it */
	unsigned width;
};

/* Print the source line, escaped and cut; find where the caret goes. */
static struct caret print_line(FILE *f, const char *line, struct lb_conf_place at)
{
	char unit[LB_TEXT_UNIT];
	unsigned first = at.column > LINE_COLUMNS ? at.column - LEAD_COLUMNS : 1;
	struct caret caret = {0};
	unsigned col = 0;

	if (first > 1) {
		(void)fputs("...", f);
		col = 3;
	}
	for (unsigned ch = 1; *line != 0 && *line != '\n' && *line != '\r'; ch++) {
		size_t used = lb_text_unit(unit, line, false);
		unsigned width = unit_width(unit, line, used);

		line += used;
		if (ch < first)
			continue;
		if (col + width > LINE_COLUMNS)
			break;
		(void)fputs(unit, f);
		if (ch < at.column)
			caret.from = col + width;
		else if (ch < at.column + at.width)
			caret.width += width;
		col += width;
	}
	return caret;
}

static void print_source(FILE *f, const struct lb_conf *c, struct lb_conf_place at)
{
	const char *line = at.line != 0 ? find_line(c, at.line) : NULL;
	struct caret caret;

	if (line == NULL)
		return;
	(void)fprintf(f, "%5u | ", at.line);
	caret = print_line(f, line, at);
	(void)fprintf(f, "\n      | %*s^", (int)caret.from, "");
	for (unsigned i = 1; i < caret.width; i++)
		(void)fputc('~', f);
	(void)fputc('\n', f);
}

const char *lb_conf_problems(struct lb_conf *c)
{
	char *out = NULL;
	size_t len = 0;
	FILE *f;

	if (c->rendered != NULL)
		return c->rendered;
	f = open_memstream(&out, &len);
	if (f == NULL)
		return "";
	qsort(c->notes, kept(c), sizeof(*c->notes), by_place);
	for (size_t i = 0; i < kept(c); i++) {
		print_place(f, c, c->notes[i].at);
		(void)fprintf(f, "error: %s\n", c->notes[i].msg);
		print_source(f, c, c->notes[i].at);
	}
	if (c->problems > kept(c))
		(void)fprintf(f, "%s: %zu more problems\n", c->name, c->problems - kept(c));
	if (fclose(f) != 0) {
		free(out);
		return "";
	}
	c->rendered = out;
	return out;
}

int lb_conf_check(struct lb_conf *c, struct lb_err *err)
{
	const struct lb_conf_note *n = c->notes;
	char place[32] = "";
	char more[48] = "";

	if (c->problems == 0)
		return 0;
	qsort(c->notes, kept(c), sizeof(*c->notes), by_place);
	if (n->at.line != 0)
		(void)snprintf(place, sizeof(place), ":%u:%u", n->at.line, n->at.column);
	if (c->problems > 1)
		(void)snprintf(more, sizeof(more), " (and %zu more)", c->problems - 1);
	return lb_err_set(err, LB_EINPUT, 0, "%.80s%s: %.120s%s", c->name, place, n->msg, more);
}
