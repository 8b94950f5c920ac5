/*
 * The `:` line: the lifeboat program's own verbs. What is typed is run as that program, so it means
 * here what it means in a shell; nothing is interpreted twice. No shell is involved.
 */
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/assert.h"
#include "siteagent/ctl.h"

#define WORDS_MAX (UI_ARGS_MAX - 2u) /* beside --socket S */

/* ---- words, quoted as in a shell ---- */

struct words {
	char text[UI_INPUT_BYTES];
	char *word[WORDS_MAX + 1];
	size_t count;
	bool open;   /* a quote is not closed, or there are too many */
	bool inside; /* the last word is not ended by a space */
};

/* Copies one word from *from to *to without its quotes. */
static bool one_word(const char **from, char **to)
{
	char quote = '\0';

	for (; **from != '\0' && (quote != '\0' || **from != ' '); (*from)++) {
		char c = **from;

		if (quote == '\0' && (c == '\'' || c == '"')) {
			quote = c;
		} else if (c == quote && quote != '\0') {
			quote = '\0';
		} else if (c == '\\' && quote != '\'' && (*from)[1] != '\0') {
			*(*to)++ = *++(*from);
		} else {
			*(*to)++ = c;
		}
	}
	*(*to)++ = '\0';
	return quote == '\0';
}

static void split(struct words *w, const char *line)
{
	char *to = w->text;

	memset(w, 0, sizeof(*w));
	for (;;) {
		line += strspn(line, " ");
		if (*line == '\0' || w->count == WORDS_MAX)
			break;
		w->word[w->count++] = to;
		w->inside = true;
		w->open = !one_word(&line, &to) || w->open;
		w->inside = *line == '\0';
	}
	w->open = w->open || *line != '\0';
	if (w->count > 0 && strcmp(w->word[0], "lifeboat") == 0) { /* as it stands in a hint */
		memmove(w->word, w->word + 1, w->count * sizeof(w->word[0]));
		w->count--;
	}
}

/* ---- the verb ---- */

static const struct sa_verb *find(const struct words *w)
{
	for (const struct sa_verb *v = sa_ctl_verbs(); v->noun != NULL; v++) {
		if (w->count == 0 || strcmp(v->noun, w->word[0]) != 0)
			continue;
		if (v->verb[0] == '\0' || (w->count > 1 && strcmp(v->verb, w->word[1]) == 0))
			return v;
	}
	return NULL;
}

/* ---- completion ---- */

struct candidates {
	const char *prefix;
	char common[UI_NAME_BYTES]; /* what all of them begin with */
	char list[UI_LINE_BYTES];
	unsigned count;
};

static void offer(struct candidates *c, const char *word)
{
	size_t n = 0, len = strlen(c->list);

	if (strncmp(word, c->prefix, strlen(c->prefix)) != 0 || strlen(word) >= UI_NAME_BYTES)
		return;
	if (c->count++ == 0)
		(void)snprintf(c->common, sizeof(c->common), "%s", word);
	while (c->common[n] != '\0' && c->common[n] == word[n])
		n++;
	c->common[n] = '\0';
	if (len + strlen(word) + 2 < sizeof(c->list))
		(void)snprintf(c->list + len, sizeof(c->list) - len, "%s%s", len > 0 ? "  " : "",
			       word);
}

static void offer_names(struct candidates *c, const struct ui_app *a, const char *kind)
{
	const struct ui_model *m = &a->model;
	char id[16];

	for (size_t i = 0; i < m->groups && strcmp(kind, "GROUP") == 0; i++)
		offer(c, m->group[i].name.show);
	for (size_t i = 0; i < m->sites && strcmp(kind, "SITE") == 0; i++)
		offer(c, m->site_list[i].name.show);
	for (size_t i = 0; i < m->machines && strcmp(kind, "MACHINE") == 0; i++)
		offer(c, m->machine[i].name.show);
	for (size_t i = 0; i < m->runbooks && strcmp(kind, "FILE") == 0; i++)
		offer(c, m->runbook[i].path.show);
	for (size_t i = 0; i < m->steps && strcmp(kind, "STEP") == 0; i++)
		offer(c, m->step[i].id.show);
	for (size_t i = 0; i < m->runs && strcmp(kind, "RUN") == 0; i++) {
		(void)snprintf(id, sizeof(id), "%.8s", m->run[i].id.show);
		offer(c, id);
	}
	if (strcmp(kind, "POINT") == 0)
		offer(c, "latest");
	for (size_t i = 0; i < m->points && strcmp(kind, "POINT") == 0; i++) {
		(void)snprintf(id, sizeof(id), "%.12s", m->point[i].id.show);
		offer(c, id);
	}
}

struct completing {
	const struct ui_app *app;
	struct candidates *c;
};

static void on_offer(void *arg, const char *text, bool kind)
{
	const struct completing *x = arg;

	if (kind)
		offer_names(x->c, x->app, text);
	else if (text[0] != '-' || x->c->prefix[0] == '-')
		offer(x->c, text);
}

static void collect(struct candidates *c, const struct ui_app *a, const struct words *w)
{
	size_t done = w->inside ? w->count - 1 : w->count;
	struct completing x = {.app = a, .c = c};

	c->prefix = w->inside ? w->word[w->count - 1] : "";
	sa_ctl_complete((const char *const *)w->word, done, on_offer, &x);
}

static void complete(struct ui_app *a)
{
	struct ui_command *cmd = &a->command;
	struct candidates c = {.count = 0};
	char word[2 * UI_NAME_BYTES + 8];
	struct words w;
	size_t keep;

	split(&w, cmd->line);
	if (w.open)
		return;
	collect(&c, a, &w);
	(void)snprintf(cmd->hint, sizeof(cmd->hint), "%s", c.count > 1 ? c.list : "");
	if (c.count == 0 || strcspn(cmd->line, "'\"\\") != strlen(cmd->line))
		return; /* what is quoted is typed by hand */
	keep = strlen(cmd->line) - strlen(c.prefix);
	(void)ui_quote(word, sizeof(word), c.common);
	if (keep + strlen(word) + 2 < sizeof(cmd->line))
		(void)snprintf(cmd->line + keep, sizeof(cmd->line) - keep, "%s%s", word,
			       c.count == 1 ? " " : "");
}

/* What the verb does, while it is typed. */
static void tell(struct ui_command *cmd)
{
	const struct sa_verb *v;
	struct words w;

	split(&w, cmd->line);
	v = find(&w);
	cmd->hint[0] = '\0';
	if (v != NULL)
		(void)snprintf(cmd->hint, sizeof(cmd->hint), "%s%s%s %s%s%s  - %s", v->noun,
			       v->verb[0] != '\0' ? " " : "", v->verb, v->args,
			       v->options[0] != '\0' ? " " : "", v->options, _(v->help));
}

/* ---- running ---- */

static void add_arg(struct ui_order *o, size_t *n, const char *text)
{
	LB_ASSERT(*n < UI_ARGS_MAX);
	o->argv[*n] = strdup(text);
	LB_ASSERT(o->argv[*n] != NULL);
	(*n)++;
}

static bool may_run(struct ui_app *a, const struct words *w)
{
	const struct sa_verb *v = find(w);

	if (w->open) {
		ui_say(a, UI_WARN, "%s", _("a quote is not closed"));
	} else if (v == NULL) {
		ui_say(a, UI_WARN, _("no such command: %s; Tab shows what there is"),
		       w->count > 0 ? w->word[0] : "");
	} else if (v->changes && ui_read_only(a)) {
		ui_say(a, UI_WARN, _("read-only: \"%s\" is switched off"), v->noun);
	} else if (strcmp(v->noun, "tui") == 0) {
		ui_say(a, UI_WARN, "%s", _("it runs already"));
	} else {
		return true;
	}
	return false;
}

static void run(struct ui_app *a)
{
	struct ui_command *cmd = &a->command;
	struct ui_order *o;
	struct words w;
	size_t n = 0;
	char title[UI_INPUT_BYTES + 16];

	split(&w, cmd->line);
	if (w.count == 0) {
		a->layer = UI_LAYER_NONE;
		return;
	}
	if (!may_run(a, &w))
		return;
	if (a->pager.running)
		(void)ui_order(a, UI_DO_KILL);
	(void)snprintf(title, sizeof(title), "$ lifeboat %s", cmd->line);
	ui_pager_open(a, title, "");
	a->pager.running = true;
	a->pager.follow = true;
	o = ui_order(a, UI_DO_RUN);
	if (a->cfg.socket != NULL) {
		add_arg(o, &n, "--socket");
		add_arg(o, &n, a->cfg.socket);
	}
	for (size_t i = 0; i < w.count; i++)
		add_arg(o, &n, w.word[i]);
}

void ui_command_run(struct ui_app *a, const char *line)
{
	(void)snprintf(a->command.line, sizeof(a->command.line), "%s", line);
	a->command.hint[0] = '\0';
	run(a);
}

void ui_command_open(struct ui_app *a, const char *line)
{
	(void)snprintf(a->command.line, sizeof(a->command.line), "%s", line);
	tell(&a->command);
	a->layer = UI_LAYER_COMMAND;
}

void ui_command_key(struct ui_app *a, uint32_t key)
{
	struct ui_command *cmd = &a->command;

	if (key == UI_K_ESC || (key == UI_K_BACKSPACE && cmd->line[0] == '\0'))
		a->layer = UI_LAYER_NONE;
	else if (key == UI_K_ENTER)
		run(a);
	else if (key == UI_K_TAB)
		complete(a);
	else if (ui_line_key(cmd->line, sizeof(cmd->line), key))
		tell(cmd);
}

void ui_command_draw(struct ui_app *a, struct ui_grid *g, struct ui_area line)
{
	const struct ui_command *cmd = &a->command;
	int x = 1 + ui_put(g, line.y, 1, 1, UI_FIELD, ":");

	x += ui_put_end(g, line.y, x, line.w - x - 1, UI_FIELD, cmd->line);
	g->cursor_y = line.y;
	g->cursor_x = x < g->w ? x : g->w - 1;
	if (cmd->hint[0] != '\0' && line.y > 2) {
		ui_fill(g, (struct ui_area){line.y - 2, 0, 2, g->w}, UI_TEXT);
		(void)ui_wrap(g, (struct ui_area){line.y - 2, 1, 2, g->w - 2}, UI_DIM, cmd->hint);
	}
}
