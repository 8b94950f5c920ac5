/*
 * A table with a selected row. Rows come and go with every answer, so what is selected is
 * remembered by name, and also what was selected on the screen: an action never lands on what has
 * moved under the cursor, nor on what has taken its place since the screen was drawn.
 */
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/assert.h"

#define COLS_MAX 12u
#define GAP      2

static bool passes(const struct ui_app *a, const struct ui_list *l, const struct ui_table *t,
		   size_t row)
{
	struct ui_out out;

	if (l->filter[0] == '\0' || ui_contains(t->key(a, row), l->filter))
		return true;
	for (unsigned c = 0; c < t->cols; c++) {
		out.text[0] = '\0';
		t->cell(a, row, c, &out);
		if (ui_contains(out.text, l->filter))
			return true;
	}
	return false;
}

/* The rows that pass the filter; free. */
static size_t *filtered(const struct ui_app *a, const struct ui_list *l, const struct ui_table *t,
			size_t *count)
{
	size_t n = t->rows(a), k = 0;
	size_t *row = calloc(n + 1, sizeof(*row));

	LB_ASSERT(row != NULL);
	for (size_t i = 0; i < n; i++)
		if (passes(a, l, t, i))
			row[k++] = i;
	*count = k;
	return row;
}

/* Where the selected row is now among @row; when it is gone: the one that took its place. */
static size_t locate(const struct ui_app *a, const struct ui_list *l, const struct ui_table *t,
		     const size_t *row, size_t count)
{
	if (count == 0)
		return 0;
	if (l->at < count && strcmp(t->key(a, row[l->at]), l->key) == 0)
		return l->at; /* the nearest of those that have one name */
	for (size_t i = 0; i < count && l->key[0] != '\0'; i++)
		if (strcmp(t->key(a, row[i]), l->key) == 0)
			return i;
	return l->key[0] == '\0' ? 0 : l->at < count ? l->at : count - 1;
}

static void select_at(const struct ui_app *a, struct ui_list *l, const struct ui_table *t,
		      const size_t *row, size_t at)
{
	const char *key = t->key(a, row[at]);

	l->at = at;
	(void)snprintf(l->key, sizeof(l->key), "%s", at == 0 && t->newest_first ? "" : key);
	(void)snprintf(l->seen, sizeof(l->seen), "%s", key); /* whoever moves there means that */
}

static size_t seen_row(const struct ui_app *a, const struct ui_list *l, const struct ui_table *t,
		       const size_t *row, size_t count)
{
	size_t at = row[locate(a, l, t, row, count)];

	if (l->seen[0] == '\0' || strcmp(t->key(a, at), l->seen) == 0)
		return at;
	for (size_t i = 0; i < count; i++)
		if (strcmp(t->key(a, row[i]), l->seen) == 0)
			return row[i];
	return UI_NONE;
}

size_t ui_list_row(const struct ui_app *a, const struct ui_list *l, const struct ui_table *t)
{
	size_t count, found;
	size_t *row = filtered(a, l, t, &count);

	found = count == 0 ? UI_NONE : seen_row(a, l, t, row, count);
	free(row);
	return found;
}

/* What is drawn is what is meant from now on; the first row too, once it was seen. */
static void note_seen(const struct ui_app *a, struct ui_list *l, const struct ui_table *t,
		      const size_t *row, size_t count, size_t at)
{
	const char *key = count > 0 ? t->key(a, row[at]) : "";

	(void)snprintf(l->seen, sizeof(l->seen), "%s", key);
	if (l->key[0] == '\0' && !t->newest_first && count > 0)
		select_at(a, l, t, row, at);
}

static bool moves(uint32_t key, size_t count, int page, size_t *at)
{
	size_t far = page > 1 ? (size_t)page : 1, last = count > 0 ? count - 1 : 0;

	switch (key) {
	case UI_K_UP:
	case 'k':
		*at -= *at > 0 ? 1 : 0;
		return true;
	case UI_K_DOWN:
	case 'j':
		*at += *at < last ? 1 : 0;
		return true;
	case UI_K_PAGE_UP:
		*at = *at > far ? *at - far : 0;
		return true;
	case UI_K_PAGE_DOWN:
		*at = *at + far < last ? *at + far : last;
		return true;
	case UI_K_HOME:
	case 'g':
		*at = 0;
		return true;
	case UI_K_END:
	case 'G':
		*at = last;
		return true;
	default:
		return false;
	}
}

bool ui_list_key(struct ui_app *a, struct ui_list *l, const struct ui_table *t, uint32_t key,
		 int page)
{
	size_t count, at;
	size_t *row = filtered(a, l, t, &count);
	bool mine;

	at = locate(a, l, t, row, count);
	mine = moves(key, count, page, &at);
	if (mine && count > 0)
		select_at(a, l, t, row, at);
	free(row);
	return mine;
}

/* ---- drawing ---- */

struct layout {
	int width[COLS_MAX];
	bool shown[COLS_MAX];
};

static int total(const struct layout *lay, unsigned cols)
{
	int sum = 0;

	for (unsigned c = 0; c < cols; c++)
		sum += lay->shown[c] ? lay->width[c] + (sum > 0 ? GAP : 0) : 0;
	return sum;
}

/* The shown column that can be done without first. */
static unsigned least_needed(const struct layout *lay, const struct ui_table *t)
{
	unsigned worst = 0;

	for (unsigned c = 1; c < t->cols; c++)
		if (lay->shown[c] && (!lay->shown[worst] || t->col[c].rank >= t->col[worst].rank))
			worst = c;
	return worst;
}

/* Columns as wide as their widest cell; the last one takes what is left. Too narrow: columns go by
 * rank, but never those of rank 0. */
static void lay_out(struct layout *lay, const struct ui_app *a, const struct ui_table *t,
		    const size_t *row, size_t count, int w)
{
	struct ui_out out;

	memset(lay, 0, sizeof(*lay));
	for (unsigned c = 0; c < t->cols; c++) {
		lay->shown[c] = true;
		lay->width[c] = ui_columns(_(t->col[c].title));
		for (size_t i = 0; i < count; i++) {
			out.text[0] = '\0';
			t->cell(a, row[i], c, &out);
			if (ui_columns(out.text) > lay->width[c])
				lay->width[c] = ui_columns(out.text);
		}
		if (lay->width[c] > w / 2 && c + 1 < t->cols)
			lay->width[c] = w / 2 > 4 ? w / 2 : 4;
		if (c + 1 == t->cols && lay->width[c] > 20)
			lay->width[c] = 20; /* what it must have; the rest is given below */
	}
	while (total(lay, t->cols) > w) {
		unsigned c = least_needed(lay, t);

		if (!lay->shown[c] || t->col[c].rank == 0)
			break;
		lay->shown[c] = false;
	}
	for (unsigned c = t->cols; c-- > 0;)
		if (lay->shown[c]) {
			int left = w - total(lay, t->cols);

			lay->width[c] += left > 0 ? left : 0;
			break;
		}
}

static void draw_head(struct ui_grid *g, struct ui_area area, const struct layout *lay,
		      const struct ui_table *t)
{
	int x = area.x, end = area.x + area.w;

	for (unsigned c = 0; c < t->cols; c++) {
		int w = lay->width[c] < end - x ? lay->width[c] : end - x;

		if (!lay->shown[c])
			continue;
		if (t->col[c].right)
			ui_put_right(g, area.y, x, w, UI_HEAD, _(t->col[c].title));
		else
			(void)ui_put(g, area.y, x, w, UI_HEAD, _(t->col[c].title));
		x += lay->width[c] + GAP;
	}
}

static void draw_row(struct ui_app *a, struct ui_grid *g, struct ui_area line,
		     const struct layout *lay, const struct ui_table *t, size_t row)
{
	int x = line.x, end = line.x + line.w;
	struct ui_out out;

	for (unsigned c = 0; c < t->cols; c++) {
		int w = lay->width[c] < end - x ? lay->width[c] : end - x;

		if (!lay->shown[c])
			continue;
		out.text[0] = '\0';
		out.style = UI_TEXT;
		t->cell(a, row, c, &out);
		if (t->col[c].right)
			ui_put_right(g, line.y, x, w, out.style, out.text);
		else
			(void)ui_put(g, line.y, x, w, out.style, out.text);
		x += lay->width[c] + GAP;
	}
}

/* "None" is said only by an agent that said so. */
static const char *why_empty(const struct ui_app *a, const struct ui_list *l,
			     const struct ui_table *t)
{
	if (l->filter[0] != '\0')
		return _("nothing matches the filter; Esc removes it");
	if (t->empty[0] == '\0')
		return "";
	return a->model.part[t->part].loaded ? _(t->empty) : _("no answer yet");
}

static void draw_rows(struct ui_app *a, struct ui_list *l, const struct ui_table *t,
		      struct ui_grid *g, struct ui_area area, bool marked)
{
	size_t count, at, room = area.h > 1 ? (size_t)area.h - 1 : 0;
	size_t *row = filtered(a, l, t, &count);
	struct layout lay;

	lay_out(&lay, a, t, row, count, area.w - 1);
	draw_head(g, (struct ui_area){area.y, area.x + 1, 1, area.w - 1}, &lay, t);
	at = locate(a, l, t, row, count);
	if (marked)
		note_seen(a, l, t, row, count, at);
	if (at < l->top)
		l->top = at;
	if (room > 0 && at >= l->top + room)
		l->top = at - room + 1;
	if (l->top + room > count)
		l->top = count > room ? count - room : 0;
	for (size_t i = 0; i < room && l->top + i < count; i++) {
		struct ui_area line = {area.y + 1 + (int)i, area.x + 1, 1, area.w - 1};

		draw_row(a, g, line, &lay, t, row[l->top + i]);
		if (marked && l->top + i == at) {
			(void)ui_put(g, line.y, area.x, 1, UI_SELECT, ">");
			ui_restyle(g, (struct ui_area){line.y, area.x, 1, area.w}, UI_SELECT);
		}
	}
	if (count == 0)
		(void)ui_wrap(g, (struct ui_area){area.y + 1, area.x + 1, (int)room, area.w - 2},
			      UI_DIM, why_empty(a, l, t));
	free(row);
}

void ui_list_draw(struct ui_app *a, struct ui_list *l, const struct ui_table *t, struct ui_grid *g,
		  struct ui_area area, bool marked)
{
	if (area.h < 1 || area.w < 4)
		return;
	if (marked)
		a->page = area.h - 2;
	draw_rows(a, l, t, g, area, marked);
}
