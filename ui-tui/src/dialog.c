/* Says what will happen and the equal command; nothing leaves before it is answered. */
#include <jansson.h>
#include <string.h>

#include "app_int.h"

void ui_dialog_open(struct ui_app *a)
{
	a->dialog.typed[0] = '\0';
	a->layer = UI_LAYER_DIALOG;
}

static void close_dialog(struct ui_app *a)
{
	ui_act_fini(&a->dialog.act);
	memset(&a->dialog, 0, sizeof(a->dialog));
	a->layer = UI_LAYER_NONE;
}

void ui_dialog_key(struct ui_app *a, uint32_t key)
{
	struct ui_dialog *d = &a->dialog;

	if (key == UI_K_ESC) {
		close_dialog(a);
		return;
	}
	if (key != UI_K_ENTER) {
		if (d->must_type[0] != '\0')
			(void)ui_line_key(d->typed, sizeof(d->typed), key);
		return;
	}
	if (strcmp(d->must_type, d->typed) != 0) {
		ui_say(a, UI_WARN, _("what is typed is not the name: %s"), d->must_type);
		return;
	}
	if (d->must_type[0] != '\0')
		(void)json_object_set_new(d->act.body, "confirm", json_string(d->typed));
	ui_act_send(a, &d->act);
	close_dialog(a);
}

void ui_dialog_draw(struct ui_app *a, struct ui_grid *g)
{
	const struct ui_dialog *d = &a->dialog;
	int w = g->w > 76 ? 76 : g->w - 2, text_h, cmd_h, y;
	struct ui_area in;

	text_h = ui_wrap(NULL, (struct ui_area){0, 0, 5, w - 4}, UI_TEXT, d->text);
	text_h = text_h > g->h - 8 ? g->h - 8 : text_h;
	text_h = text_h < 0 ? 0 : text_h;
	cmd_h = ui_wrap(NULL, (struct ui_area){0, 0, 3, w - 6}, UI_KEY, d->act.equal);
	in = ui_box(g,
		    (struct ui_area){(g->h - text_h - cmd_h - 4) / 2, (g->w - w) / 2,
				     text_h + cmd_h + 4, w},
		    _("Really?"));
	y = in.y;
	(void)ui_put(g, y++, in.x, in.w, UI_HEAD, d->act.what);
	(void)ui_wrap(g, (struct ui_area){y, in.x, text_h, in.w}, UI_TEXT, d->text);
	y += text_h;
	(void)ui_put(g, y, in.x, 2, UI_KEY, "$");
	y += ui_wrap(g, (struct ui_area){y, in.x + 2, cmd_h, in.w - 2}, UI_KEY, d->act.equal);
	if (d->must_type[0] != '\0') {
		int x = in.x +
			ui_putf(g, y, in.x, in.w, UI_WARN, _("Type %s to do it: "), d->must_type);

		x += ui_put(g, y, x, in.x + in.w - x - 1, UI_FIELD, d->typed);
		g->cursor_y = y;
		g->cursor_x = x < g->w ? x : g->w - 1;
	} else {
		(void)ui_put(g, y, in.x, in.w, UI_DIM, _("Enter does it, Esc does not."));
	}
}
