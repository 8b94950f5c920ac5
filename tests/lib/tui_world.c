#include "tui_world.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "siteagent/ctl.h"

#define QUEUE 256u

struct asked {
	uint64_t id;
	bool acts;
	const char *method;
	char path[640];
	json_t *body;
};

/* Strings that say what something is stay: states, modes, levels. */
static bool is_name(const char *key)
{
	static const char *const words[] = {"name",   "site",   "group", "machine", "volume",
					    "peer",   "why",    "id",    "runbook", "path",
					    "text",   "detail", "note",  "line",    "problem",
					    "driver", "alarm",  "what",  "address", "isolation",
					    "step",   "error",  "ev",    "comp",    "run"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(key, words[i]) == 0)
			return true;
	return false;
}

static void rename_all(json_t *o, const char *to)
{
	const char *key;
	json_t *v;
	size_t i;
	void *after;

	json_object_foreach_safe(o, after, key, v)
	{
		if (json_is_string(v) && is_name(key))
			(void)json_object_set_new(o, key, json_stringn_nocheck(to, strlen(to)));
		else
			rename_all(v, to);
	}
	json_array_foreach(o, i, v)
	{
		if (json_is_string(v))
			(void)json_array_set_new(o, i, json_stringn_nocheck(to, strlen(to)));
		else
			rename_all(v, to);
	}
}

static json_t *fixture(const struct tui_world *w, const char *path)
{
	char name[512];
	size_t n = (size_t)snprintf(name, sizeof(name), "%s/", w->dir);

	if (w->override_path != NULL && strcmp(path, w->override_path) == 0)
		return json_deep_copy(w->override_body);
	for (const char *p = path + strlen("/v1/"); *p != '\0' && *p != '?' && n + 8 < sizeof(name);
	     p++)
		name[n++] = *p == '/' ? '_' : *p;
	(void)snprintf(name + n, sizeof(name) - n, ".json");
	return json_load_file(name, 0, NULL);
}

static void live_answer(struct tui_world *w, const struct asked *q)
{
	struct ui_input in = {.kind = UI_IN_ANSWER, .id = q->id};
	char hint[16384] = "";
	struct lb_err err = {0};
	json_t *body = NULL;

	in.rc = sa_ctl_call(w->live, q->method, q->path, q->body, &body, hint, sizeof(hint), &err);
	in.body = body;
	in.message = err.msg;
	in.hint = hint;
	tw_input(w, &in);
	json_decref(body);
}

static void answer(struct tui_world *w, const struct asked *q)
{
	struct ui_input in = {.kind = UI_IN_ANSWER, .id = q->id};
	json_t *body = w->away ? NULL : fixture(w, q->acts ? "/v1/act" : q->path);

	if (w->name_all != NULL)
		rename_all(body, w->name_all);

	if (q->acts && w->refuse) {
		json_decref(body);
		body = NULL;
	}
	in.body = body;
	in.rc = body != NULL ? 0 : w->away ? LB_EAGAIN : LB_ENOTFOUND;
	in.message = body != NULL ? "" : w->away ? "no agent answers on /s" : "no such thing";
	in.hint = "";
	tw_input(w, &in);
	json_decref(body);
}

static void note_act(struct tui_world *w, const struct ui_order *o)
{
	unsigned i = w->acts++ % TW_ACTS;

	free(w->act[i].body);
	(void)snprintf(w->act[i].path, sizeof(w->act[i].path), "%s", o->path);
	w->act[i].body =
		o->body != NULL ? json_dumps(o->body, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
}

static void note_run(struct tui_world *w, const struct ui_order *o)
{
	size_t n = 0;

	w->run[0] = '\0';
	for (size_t i = 0; i < UI_ARGS_MAX && o->argv[i] != NULL && n < sizeof(w->run); i++)
		n += (size_t)snprintf(w->run + n, sizeof(w->run) - n, "[%s]", o->argv[i]);
}

void tw_input(struct tui_world *w, struct ui_input *in)
{
	struct asked *queue = calloc(QUEUE, sizeof(*queue));
	struct ui_orders out;
	size_t n = 0;

	if (queue == NULL)
		abort();
	in->now_ns = w->now_ns;
	in->wall_ns = w->wall_ns;
	ui_app_step(w->app, in, &out);
	for (size_t i = 0; i < out.count; i++) {
		const struct ui_order *o = &out.item[i];

		if (o->kind == UI_DO_ASK && n < QUEUE) {
			queue[n].id = o->id;
			queue[n].acts = o->acts;
			queue[n].method = o->method;
			queue[n].body = json_incref(o->body);
			(void)snprintf(queue[n++].path, sizeof(queue[0].path), "%s", o->path);
			w->asked += o->acts ? 0 : 1;
			if (o->acts)
				note_act(w, o);
		}
		w->quit = w->quit || o->kind == UI_DO_QUIT;
		w->kills += o->kind == UI_DO_KILL ? 1 : 0;
		w->repaints += o->kind == UI_DO_REPAINT ? 1 : 0;
		if (o->kind == UI_DO_RUN)
			note_run(w, o);
		if (o->kind == UI_DO_EDIT)
			(void)snprintf(w->edit, sizeof(w->edit), "%s", o->path);
	}
	for (size_t i = 0; i < n; i++) {
		if (w->live != NULL && !w->away)
			live_answer(w, &queue[i]);
		else
			answer(w, &queue[i]);
		json_decref(queue[i].body);
	}
	free(queue);
}

static void init(struct tui_world *w, const char *dir, const struct ui_app_cfg *cfg, int columns,
		 int rows, bool away)
{
	memset(w, 0, sizeof(*w));
	w->away = away;
	w->dir = dir;
	w->now_ns = UINT64_C(1000000000000);
	w->wall_ns = UINT64_C(1795618800000000000); /* 2026-11-25 15:00:00 UTC */
	w->app = ui_app_create(cfg);
	ui_grid_init(&w->grid, 1, 1);
	tw_size(w, columns, rows);
}

void tw_init(struct tui_world *w, const char *dir, const struct ui_app_cfg *cfg, int columns,
	     int rows)
{
	init(w, dir, cfg, columns, rows, false);
}

void tw_init_away(struct tui_world *w, const struct ui_app_cfg *cfg, int columns, int rows)
{
	init(w, ".", cfg, columns, rows, true);
}

void tw_live(struct tui_world *w, struct sa_ctl *ctl, const struct ui_app_cfg *cfg, int columns,
	     int rows)
{
	init(w, ".", cfg, columns, rows, true);
	w->away = false;
	w->live = ctl;
}

void tw_fini(struct tui_world *w)
{
	for (unsigned i = 0; i < TW_ACTS; i++)
		free(w->act[i].body);
	ui_app_destroy(w->app);
	ui_grid_fini(&w->grid);
}

void tw_key(struct tui_world *w, uint32_t key)
{
	struct ui_input in = {.kind = UI_IN_KEY, .key = key};

	tw_input(w, &in);
}

void tw_type(struct tui_world *w, const char *text)
{
	for (; *text != '\0'; text++)
		tw_key(w, (uint32_t)(unsigned char)*text);
}

void tw_pass(struct tui_world *w, uint64_t ns)
{
	for (uint64_t t = 0; t < ns; t += 250000000u) {
		struct ui_input in = {.kind = UI_IN_TICK};

		w->now_ns += 250000000u;
		w->wall_ns += 250000000u;
		tw_input(w, &in);
	}
}

void tw_size(struct tui_world *w, int columns, int rows)
{
	struct ui_input in = {.kind = UI_IN_SIZE, .w = columns, .h = rows};

	ui_grid_fini(&w->grid);
	ui_grid_init(&w->grid, columns, rows);
	tw_input(w, &in);
}

char *tw_screen(struct tui_world *w)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		abort();
	ui_app_draw(w->app, &w->grid);
	ui_grid_print(&w->grid, f);
	(void)fclose(f);
	return text;
}

static bool is_plain(struct ui_look l)
{
	return l.fg < 0 && l.bg < 0 && !l.bold && !l.reverse && !l.underline && !l.dim;
}

static bool is_same(struct ui_look a, struct ui_look b)
{
	return a.fg == b.fg && a.bg == b.bg && a.bold == b.bold && a.reverse == b.reverse &&
	       a.underline == b.underline && a.dim == b.dim;
}

static void print_look(struct ui_look l, FILE *out)
{
	static const char *const names[] = {"black", "red",     "green", "yellow",
					    "blue",  "magenta", "cyan",  "white"};

	if (l.fg >= 0)
		(void)fprintf(out, " %s", names[l.fg]);
	if (l.bg >= 0)
		(void)fprintf(out, " on %s", names[l.bg]);
	(void)fprintf(out, "%s%s%s%s", l.bold ? " bold" : "", l.reverse ? " reverse" : "",
		      l.underline ? " underline" : "", l.dim ? " dim" : "");
}

static void print_row(const struct ui_grid *g, int y, enum ui_theme theme, FILE *out)
{
	bool first = true;

	for (int x = 0, end; x < g->w; x = end) {
		struct ui_look l = ui_theme_look(theme, ui_grid_at(g, y, x)->style);

		for (end = x + 1; end < g->w; end++)
			if (!is_same(l, ui_theme_look(theme, ui_grid_at(g, y, end)->style)))
				break;
		if (is_plain(l))
			continue;
		if (first)
			(void)fprintf(out, "%2d:", y);
		(void)fprintf(out, "%s %d+%d", first ? "" : ",", x, end - x);
		print_look(l, out);
		first = false;
	}
	if (!first)
		(void)fputc('\n', out);
}

void tw_looks(struct tui_world *w, enum ui_theme theme, FILE *out)
{
	ui_app_draw(w->app, &w->grid);
	for (int y = 0; y < w->grid.h; y++)
		print_row(&w->grid, y, theme, out);
}

bool tw_shows(struct tui_world *w, const char *text)
{
	char *screen = tw_screen(w);
	bool found = strstr(screen, text) != NULL;

	free(screen);
	return found;
}
