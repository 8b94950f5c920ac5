#include "ui-tui/grid.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "text_int.h"

#define MARKS_BYTES 9u /* of a cell, from which no further mark is taken */

static int clamp(int v, int least, int most)
{
	return v < least ? least : v > most ? most : v;
}

void ui_grid_init(struct ui_grid *g, int w, int h)
{
	*g = (struct ui_grid){.w = clamp(w, 1, UI_GRID_MAX), .h = clamp(h, 1, UI_GRID_MAX)};
	g->cell = calloc((size_t)g->w * (size_t)g->h, sizeof(*g->cell));
	LB_ASSERT(g->cell != NULL);
	ui_grid_clear(g);
}

void ui_grid_fini(struct ui_grid *g)
{
	free(g->cell);
	g->cell = NULL;
}

void ui_grid_clear(struct ui_grid *g)
{
	g->cursor_y = -1;
	g->cursor_x = -1;
	ui_fill(g, ui_grid_area(g), UI_TEXT);
}

struct ui_area ui_grid_area(const struct ui_grid *g)
{
	return (struct ui_area){.h = g->h, .w = g->w};
}

static struct ui_cell *at(struct ui_grid *g, int y, int x)
{
	return &g->cell[(size_t)y * (size_t)g->w + (size_t)x];
}

const struct ui_cell *ui_grid_at(const struct ui_grid *g, int y, int x)
{
	return &g->cell[(size_t)y * (size_t)g->w + (size_t)x];
}

static void set_cell(struct ui_cell *c, const char *text, size_t len, int columns,
		     enum ui_style style)
{
	memcpy(c->text, text, len);
	c->text[len] = '\0';
	c->columns = (uint8_t)columns;
	c->style = (uint8_t)style;
}

/* A wide character that loses one half to what is drawn now becomes spaces. */
static void unwide(struct ui_grid *g, int y, int x)
{
	struct ui_cell *c = at(g, y, x);

	if (c->columns == 0 && x > 0)
		set_cell(at(g, y, x - 1), " ", 1, 1, (enum ui_style)at(g, y, x - 1)->style);
	if (c->columns == 2 && x + 1 < g->w)
		set_cell(at(g, y, x + 1), " ", 1, 1, (enum ui_style)at(g, y, x + 1)->style);
}

/* One character; returns its columns, 0 when it was a mark or nothing was left for it. */
static int put_char(struct ui_grid *g, int y, int x, enum ui_style style, const char *text,
		    size_t len, int columns)
{
	if (columns < 0) {
		text = "?";
		len = 1;
		columns = 1;
	}
	if (columns == 0) {
		struct ui_cell *c = x > 0 ? at(g, y, x - 1) : NULL;

		if (c != NULL && c->columns == 0 && x > 1)
			c = at(g, y, x - 2);
		if (c != NULL && strlen(c->text) + len < UI_CELL_BYTES &&
		    strlen(c->text) < MARKS_BYTES)
			memcpy(c->text + strlen(c->text), text, len + 1);
		return 0;
	}
	for (int i = 0; i < columns; i++)
		unwide(g, y, x + i);
	set_cell(at(g, y, x), text, len, columns, style);
	if (columns == 2)
		set_cell(at(g, y, x + 1), "", 0, 0, style);
	return columns;
}

/* As much of @text as fits in @max columns. */
static int put_clipped(struct ui_grid *g, int y, int x, int max, enum ui_style style,
		       const char *text)
{
	uint32_t cp;
	int used = 0;

	for (size_t n = lb_utf8_next(text, &cp); n > 0; n = lb_utf8_next(text, &cp)) {
		int w = ui_char_columns(cp);
		char one[5] = "";

		if (used + (w < 0 ? 1 : w) > max)
			break;
		memcpy(one, text, n);
		used += put_char(g, y, x + used, style, one, n, w);
		text += n;
	}
	return used;
}

int ui_put(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *text)
{
	int used;

	if (y < 0 || y >= g->h || x < 0 || x >= g->w || max <= 0)
		return 0;
	max = max > g->w - x ? g->w - x : max;
	if (ui_columns(text) <= max)
		return put_clipped(g, y, x, max, style, text);
	used = put_clipped(g, y, x, max - 1, style, text);
	return used + put_clipped(g, y, x + used, 1, style, g->ascii ? "~" : "…");
}

int ui_put_end(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *text)
{
	uint32_t cp;

	while (ui_columns(text) > max) {
		size_t n = lb_utf8_next(text, &cp);

		if (n == 0)
			break;
		text += n;
	}
	return ui_put(g, y, x, max, style, text);
}

int ui_putf(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return ui_put(g, y, x, max, style, text);
}

void ui_put_right(struct ui_grid *g, int y, int x, int max, enum ui_style style, const char *text)
{
	int w = ui_columns(text);

	(void)ui_put(g, y, w < max ? x + max - w : x, w < max ? w : max, style, text);
}

/* Bytes of @text that make one line of at most @w columns. Japanese has no spaces: it is broken
 * anywhere. */
static size_t line_bytes(const char *text, int w)
{
	size_t at = 0, space = 0, n;
	uint32_t cp;
	int used = 0;

	while ((n = lb_utf8_next(text + at, &cp)) > 0) {
		int c = ui_char_columns(cp);

		used += c < 0 ? 1 : c;
		if (used > w)
			return cp == ' ' || space == 0 ? (at > 0 ? at : n) : space;
		if (cp == ' ' || c == 2)
			space = cp == ' ' ? at + 1 : at + n;
		at += n;
	}
	return at;
}

int ui_wrap(struct ui_grid *g, struct ui_area a, enum ui_style style, const char *text)
{
	int lines = 0;
	char one[4 * UI_GRID_MAX + 1];

	while (*text != '\0' && lines < a.h && a.w > 0) {
		size_t n = line_bytes(text, a.w);
		bool last = lines + 1 == a.h;

		if (n == 0)
			break; /* not clean text */
		(void)snprintf(one, sizeof(one), "%.*s",
			       (int)(n < sizeof(one) ? n : sizeof(one) - 1), text);
		if (g != NULL)
			(void)ui_put(g, a.y + lines, a.x, a.w, style, last ? text : one);
		lines++;
		text += n;
		text += *text == ' ' ? 1 : 0;
	}
	return lines;
}

static struct ui_area inside(const struct ui_grid *g, struct ui_area a)
{
	int y = clamp(a.y, 0, g->h), x = clamp(a.x, 0, g->w);
	int y2 = clamp(a.y + a.h, y, g->h), x2 = clamp(a.x + a.w, x, g->w);

	return (struct ui_area){.y = y, .x = x, .h = y2 - y, .w = x2 - x};
}

void ui_fill(struct ui_grid *g, struct ui_area a, enum ui_style style)
{
	a = inside(g, a);
	for (int y = a.y; y < a.y + a.h; y++) {
		if (a.w > 0) {
			unwide(g, y, a.x);
			unwide(g, y, a.x + a.w - 1);
		}
		for (int x = a.x; x < a.x + a.w; x++)
			set_cell(at(g, y, x), " ", 1, 1, style);
	}
}

void ui_restyle(struct ui_grid *g, struct ui_area a, enum ui_style style)
{
	a = inside(g, a);
	for (int y = a.y; y < a.y + a.h; y++)
		for (int x = a.x; x < a.x + a.w; x++)
			at(g, y, x)->style = (uint8_t)style;
}

static void repeat(struct ui_grid *g, int y, int x, int w, const char *text)
{
	for (int i = 0; i < w; i++)
		(void)ui_put(g, y, x + i, 1, UI_FRAME, text);
}

void ui_rule(struct ui_grid *g, int y, int x, int w, const char *title)
{
	repeat(g, y, x, w, g->ascii ? "-" : "─");
	if (title != NULL && title[0] != '\0' && w > 6) {
		int used = ui_put(g, y, x + 2, w - 4, UI_HEAD, " ");

		used += ui_put(g, y, x + 2 + used, w - 5, UI_HEAD, title);
		(void)ui_put(g, y, x + 2 + used, 1, UI_HEAD, " ");
	}
}

struct ui_area ui_box(struct ui_grid *g, struct ui_area a, const char *title)
{
	int right = a.x + a.w - 1, bottom = a.y + a.h - 1;

	ui_fill(g, a, UI_TEXT);
	ui_rule(g, a.y, a.x + 1, a.w - 2, title);
	ui_rule(g, bottom, a.x + 1, a.w - 2, NULL);
	for (int y = a.y + 1; y < bottom; y++) {
		(void)ui_put(g, y, a.x, 1, UI_FRAME, g->ascii ? "|" : "│");
		(void)ui_put(g, y, right, 1, UI_FRAME, g->ascii ? "|" : "│");
	}
	(void)ui_put(g, a.y, a.x, 1, UI_FRAME, g->ascii ? "+" : "┌");
	(void)ui_put(g, a.y, right, 1, UI_FRAME, g->ascii ? "+" : "┐");
	(void)ui_put(g, bottom, a.x, 1, UI_FRAME, g->ascii ? "+" : "└");
	(void)ui_put(g, bottom, right, 1, UI_FRAME, g->ascii ? "+" : "┘");
	return (struct ui_area){.y = a.y + 1, .x = a.x + 2, .h = a.h - 2, .w = a.w - 4};
}

void ui_spark(struct ui_grid *g, int y, int x, int w, enum ui_style style, const uint64_t *values,
	      size_t count)
{
	static const char *const fine[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const plain[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
	size_t first = count > (size_t)clamp(w, 0, UI_GRID_MAX)
			       ? count - (size_t)clamp(w, 0, UI_GRID_MAX)
			       : 0;
	uint64_t top = 0;

	for (size_t i = first; i < count; i++)
		top = values[i] > top ? values[i] : top;
	for (size_t i = first; i < count; i++) {
		double part = top == 0 ? 0 : (double)values[i] / (double)top;
		int level = clamp((int)(part * 7.999), 0, 7);
		const char *mark = g->ascii ? plain[level] : fine[level];

		if (values[i] == 0)
			mark = g->ascii ? "_" : "▁";
		(void)ui_put(g, y, x + w - (int)(count - i), 1, style, mark);
	}
}

void ui_bar(struct ui_grid *g, int y, int x, int w, enum ui_style style, uint64_t part,
	    uint64_t all)
{
	double share = all == 0 ? 0 : part >= all ? 1 : (double)part / (double)all;
	int full = clamp((int)(share * w), part > 0 ? 1 : 0, w);

	for (int i = 0; i < w; i++)
		(void)ui_put(g, y, x + i, 1, i < full ? style : UI_DIM,
			     i < full ? (g->ascii ? "#" : "█") : (g->ascii ? "." : "░"));
}

void ui_grid_print(const struct ui_grid *g, FILE *out)
{
	for (int y = 0; y < g->h; y++) {
		int end = g->w;

		while (end > 0 && strcmp(ui_grid_at(g, y, end - 1)->text, " ") == 0)
			end--;
		for (int x = 0; x < end; x++)
			(void)fputs(ui_grid_at(g, y, x)->text, out);
		(void)fputc('\n', out);
	}
}
