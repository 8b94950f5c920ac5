/* Small words and judgements that several views share. */
#include <string.h>

#include "app_int.h"
#include "base/text.h"

void ui_age_text(char *out, size_t cap, struct ui_number ns)
{
	char text[LB_HUMAN_BYTES];

	(void)snprintf(out, cap, "%s", ns.known ? lb_human_duration(text, ns.n) : _("unknown"));
}

const char *ui_when(const struct ui_app *a, char *out, uint64_t wall_ns)
{
	uint64_t apart = a->wall_ns > wall_ns ? a->wall_ns - wall_ns : wall_ns - a->wall_ns;

	return apart < UINT64_C(12) * 3600 * 1000000000 ? lb_human_clock(out, wall_ns)
							: lb_human_wall(out, wall_ns);
}

enum ui_style ui_state_style(const char *state)
{
	static const struct {
		const char *state;
		enum ui_style style;
	} known[] = {
		{"DONE", UI_OK},      {"done", UI_OK},         {"up", UI_OK},
		{"PRIMARY", UI_OK},   {"BACKUP", UI_OK},       {"DONE-WITH-WARNINGS", UI_WARN},
		{"HALTED", UI_WARN},  {"waiting", UI_WARN},    {"skipped", UI_WARN},
		{"backoff", UI_WARN}, {"stopping", UI_WARN},   {"cancelled", UI_WARN},
		{"ABORTED", UI_WARN}, {"FAILED", UI_BAD},      {"failed", UI_BAD},
		{"down", UI_BAD},     {"FENCED", UI_BAD},      {"error", UI_BAD},
		{"warn", UI_WARN},    {"running", UI_DRILL},   {"RUNNING", UI_DRILL},
		{"pending", UI_DIM},  {"not-in-mode", UI_DIM},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].state, state) == 0)
			return known[i].style;
	return UI_TEXT;
}

const char *ui_mark(const struct ui_app *a, enum ui_style style)
{
	bool ascii = a->cfg.ascii;

	if (style == UI_OK)
		return ascii ? "+" : "✓";
	if (style == UI_BAD)
		return ascii ? "X" : "✗";
	if (style == UI_WARN)
		return "!";
	return style == UI_DRILL ? "~" : " ";
}

/* The rule of the agent's own check (doctor): ten intervals and five seconds. A backup does not
 * know the interval; a minute then. */
uint64_t ui_rpo_goal_ns(const struct ui_group *g)
{
	return g->interval_ns.known && g->interval_ns.n < UINT64_MAX / 20
		       ? 10 * g->interval_ns.n + 5000000000u
		       : 60000000000u;
}

const char *ui_plan_missing(const struct ui_app *a)
{
	static const enum ui_part from[] = {UI_PART_RUNBOOK, UI_PART_PLAN};

	for (size_t i = 0; i < 2; i++)
		if (a->model.part[from[i]].error[0] != '\0')
			return a->model.part[from[i]].error;
	return _("the plan is being made");
}

bool ui_read_only(const struct ui_app *a)
{
	return a->cfg.read_only || a->model.read_only;
}

bool ui_run_ended(const struct ui_run *r)
{
	return strcmp(r->state, "RUNNING") != 0 && strcmp(r->state, "HALTED") != 0 &&
	       strcmp(r->state, "NEW") != 0;
}

const struct ui_run *ui_run_latest(const struct ui_model *m, bool drill)
{
	for (size_t i = 0; i < m->runs; i++)
		if ((strcmp(m->run[i].mode, "drill") == 0) == drill)
			return &m->run[i];
	return NULL;
}

bool ui_line_key(char *line, size_t cap, uint32_t key)
{
	size_t len = strlen(line);
	char one[5] = "";
	int n = 0;

	if (key == UI_K_BACKSPACE || key == 8) {
		while (len > 0 && ((unsigned char)line[len - 1] & 0xc0u) == 0x80u)
			len--;
		line[len > 0 ? len - 1 : 0] = '\0';
		return true;
	}
	if (key == UI_K_CTRL('u')) {
		line[0] = '\0';
		return true;
	}
	if (key < 0x20 || key >= UI_K_UP || ui_char_columns(key) < 0)
		return false;
	if (key < 0x80) {
		one[n++] = (char)key;
	} else {
		if (key >= 0x10000) {
			one[n++] = (char)(0xf0u | key >> 18);
			one[n++] = (char)(0x80u | (key >> 12 & 0x3fu));
		} else if (key >= 0x800) {
			one[n++] = (char)(0xe0u | key >> 12);
		}
		one[n++] = (char)(key >= 0x800 ? 0x80u | (key >> 6 & 0x3fu) : 0xc0u | key >> 6);
		one[n++] = (char)(0x80u | (key & 0x3fu));
	}
	if (len + (size_t)n < cap)
		memcpy(line + len, one, (size_t)n + 1);
	return true;
}
