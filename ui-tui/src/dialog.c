/*
 * Says what will happen and the equal command; nothing leaves before it is answered.
 *
 *   REASON (where one is asked for) ──Enter──► NAME (where it is dangerous) ──Enter──► request
 */
#include <jansson.h>
#include <string.h>

#include "app_int.h"

/* What is typed stands in the command as it is typed: it is the one that will be sent. */
static void tell_command(struct ui_app *a)
{
	struct ui_dialog *d = &a->dialog;
	char reason[2 * UI_NAME_BYTES + 8] = "", site[2 * UI_NAME_BYTES + 8] = "";

	if (d->wants_reason)
		(void)ui_quote(reason, sizeof(reason), d->reason);
	if (d->must_type[0] != '\0')
		(void)ui_quote(site, sizeof(site), d->must_type);
	ui_equal(a, d->act.equal, sizeof(d->act.equal), "%s%s%s%s%s", d->command,
		 d->wants_reason ? " --reason " : "", reason, site[0] != '\0' ? " --confirm " : "",
		 site);
}

void ui_dialog_open(struct ui_app *a)
{
	a->dialog.typed[0] = '\0';
	if (a->dialog.command[0] != '\0')
		tell_command(a);
	a->layer = UI_LAYER_DIALOG;
}

bool ui_dialog_asks_why(const struct ui_app *a)
{
	return a->dialog.wants_reason && !a->dialog.reason_given;
}

static void close_dialog(struct ui_app *a)
{
	ui_act_fini(&a->dialog.act);
	memset(&a->dialog, 0, sizeof(a->dialog));
	a->layer = UI_LAYER_NONE;
}

static int width(const struct ui_app *a)
{
	return a->w > 76 ? 76 : a->w - 2;
}

static int command_rows(const struct ui_app *a)
{
	return ui_wrap(NULL, (struct ui_area){0, 0, a->h, width(a) - 6}, UI_KEY,
		       a->dialog.act.equal);
}

/* Rows for text and command, beside frame, title and question. */
static int room(const struct ui_app *a)
{
	return a->h - 1 - 4;
}

static void reason_key(struct ui_app *a, uint32_t key)
{
	struct ui_dialog *d = &a->dialog;

	if (key != UI_K_ENTER) {
		if (ui_line_key(d->reason, sizeof(d->reason), key))
			tell_command(a);
	} else if (strspn(d->reason, " ") == strlen(d->reason)) {
		ui_say(a, UI_WARN, "%s", _("say why: it is kept with the run"));
	} else {
		d->reason_given = true;
	}
}

void ui_dialog_key(struct ui_app *a, uint32_t key)
{
	struct ui_dialog *d = &a->dialog;

	if (key == UI_K_ESC) {
		close_dialog(a);
		return;
	}
	if (key == UI_K_ENTER && command_rows(a) > room(a)) {
		/* what cannot be seen cannot be agreed to */
		ui_say(a, UI_WARN, "%s", _("the window is too small for this: enlarge it"));
		return;
	}
	if (ui_dialog_asks_why(a)) {
		reason_key(a, key);
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
	if (d->wants_reason)
		(void)json_object_set_new(d->act.body, "reason", json_string(d->reason));
	ui_act_send(a, &d->act);
	close_dialog(a);
}

/* The last line: what is to be answered, and what is typed. */
static void draw_answer(const struct ui_app *a, struct ui_grid *g, struct ui_area line)
{
	const struct ui_dialog *d = &a->dialog;
	bool why = ui_dialog_asks_why(a);
	int x = line.x;

	if (d->must_type[0] == '\0') {
		(void)ui_put(g, line.y, x, line.w, UI_DIM, _("Enter does it, Esc does not."));
		return;
	}
	x += why ? ui_put(g, line.y, x, line.w, UI_WARN, _("Why? "))
		 : ui_putf(g, line.y, x, line.w, UI_WARN, _("Type %s to do it: "), d->must_type);
	x += ui_put_end(g, line.y, x, line.x + line.w - x - 1, UI_FIELD,
			why ? d->reason : d->typed);
	g->cursor_y = line.y;
	g->cursor_x = x < g->w ? x : g->w - 1;
}

void ui_dialog_draw(struct ui_app *a, struct ui_grid *g)
{
	const struct ui_dialog *d = &a->dialog;
	int w = width(a), text_h, cmd_h = command_rows(a), y;
	struct ui_area in;

	cmd_h = cmd_h < room(a) ? cmd_h : room(a);
	text_h = ui_wrap(NULL, (struct ui_area){0, 0, room(a) - cmd_h, w - 4}, UI_TEXT, d->text);
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
	draw_answer(a, g, (struct ui_area){y, in.x, 1, in.w});
}
