/* Text to scroll through: what a command prints, a runbook, an event. */
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/assert.h"

#define OUTPUT_MAX (256u << 10)

void ui_pager_open(struct ui_app *a, const char *title, const char *text)
{
	struct ui_pager *p = &a->pager;

	(void)ui_clean(p->title, sizeof(p->title), title);
	ui_lines_set(&p->lines, text, false);
	free(p->text);
	p->text = NULL;
	p->len = 0;
	p->top = 0;
	p->running = false;
	p->follow = false;
	p->whole = false;
	a->layer = UI_LAYER_PAGER;
}

void ui_pager_open_whole(struct ui_app *a, const char *title, const char *text)
{
	ui_pager_open(a, title, text);
	a->pager.whole = true;
}

static int room(const struct ui_app *a)
{
	return a->h - 5 > 1 ? a->h - 5 : 1;
}

static int last_top(const struct ui_app *a)
{
	int count = (int)a->pager.lines.count, over = count - room(a);

	if (a->pager.whole) /* the last line may take all rows */
		return count > 0 ? count - 1 : 0;
	return over > 0 ? over : 0;
}

/* Output of the command, as it comes; of very much only the end is kept. */
void ui_pager_output(struct ui_app *a, const char *text, size_t len)
{
	struct ui_pager *p = &a->pager;
	char *grown;

	if (!p->running)
		return;
	if (len > OUTPUT_MAX / 2) {
		text += len - OUTPUT_MAX / 2;
		len = OUTPUT_MAX / 2;
	}
	if (p->len + len > OUTPUT_MAX) {
		size_t drop = p->len + len - OUTPUT_MAX / 2;

		drop = drop > p->len ? p->len : drop;
		memmove(p->text, p->text + drop, p->len - drop);
		p->len -= drop;
	}
	grown = realloc(p->text, p->len + len + 1);
	LB_ASSERT(grown != NULL);
	p->text = grown;
	memcpy(p->text + p->len, text, len);
	p->len += len;
	p->text[p->len] = '\0';
	ui_lines_set(&p->lines, p->text, true);
	if (p->follow)
		p->top = last_top(a);
}

void ui_pager_exit(struct ui_app *a, int rc, const char *message)
{
	struct ui_pager *p = &a->pager;

	if (!p->running)
		return;
	p->running = false;
	if (rc == 0)
		ui_say(a, UI_OK, _("%s: done"), p->title);
	else if (message != NULL)
		ui_say(a, UI_BAD, "%s: %s", p->title, message);
	else
		ui_say(a, UI_BAD, _("%s: status %d"), p->title, rc);
	if (a->layer == UI_LAYER_PAGER && p->lines.count == 0)
		a->layer = UI_LAYER_NONE; /* it had nothing to say but that */
	ui_asks_now(a);
}

void ui_pager_key(struct ui_app *a, uint32_t key)
{
	struct ui_pager *p = &a->pager;
	int far = room(a);

	if (key == UI_K_ESC || key == 'q') {
		if (p->running)
			(void)ui_order(a, UI_DO_KILL);
		p->running = false;
		a->layer = UI_LAYER_NONE;
		return;
	}
	if (key == UI_K_UP || key == 'k')
		p->top--;
	else if (key == UI_K_DOWN || key == 'j' || key == UI_K_ENTER)
		p->top++;
	else if (key == UI_K_PAGE_UP)
		p->top -= far;
	else if (key == UI_K_PAGE_DOWN || key == ' ')
		p->top += far;
	else if (key == UI_K_HOME || key == 'g')
		p->top = 0;
	else if (key == UI_K_END || key == 'G')
		p->top = last_top(a);
	p->top = p->top > last_top(a) ? last_top(a) : p->top < 0 ? 0 : p->top;
	p->follow = p->running && p->top == last_top(a);
}

void ui_pager_draw(struct ui_app *a, struct ui_grid *g)
{
	const struct ui_pager *p = &a->pager;
	struct ui_area in = ui_box(g, (struct ui_area){1, 0, g->h - 3, g->w}, p->title);

	int y = in.y;

	for (size_t i = (size_t)p->top; y < in.y + in.h && i < p->lines.count; i++) {
		struct ui_area rest = {y, in.x, p->whole ? in.y + in.h - y : 1, in.w};
		int rows = ui_wrap(g, rest, UI_TEXT, p->lines.line[i]);

		y += rows > 0 ? rows : 1;
	}
	if (p->lines.count == 0)
		(void)ui_put(g, in.y, in.x, in.w, UI_DIM,
			     p->running ? _("it runs; no output yet") : _("no output"));
	if (last_top(a) > 0)
		(void)ui_putf(g, in.y + in.h, in.x + in.w - 16, 14, UI_DIM, " %d/%zu ", p->top + 1,
			      p->lines.count);
}
