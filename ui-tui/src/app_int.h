/*
 * ui-tui/src/app_int.h - the state of the UI, shared by what steps it and what draws it.
 *
 * One layer may lie over the view: an input line (filter, command), or a window (help, pager,
 * dialog, wizard). Keys go to the layer, else to the deeds (deeds.c), else to the view's list.
 *
 *   view ──`/`──► FILTER        view ──`:`──► COMMAND ──Enter──► PAGER (output of the command)
 *    │ `?`                        │ a deed that changes something
 *    ▼                            ▼
 *   HELP ──Enter: do it──►      DIALOG (says what, shows the equal command) ──Enter──► request
 *                                 │ a failover
 *                                 ▼
 *                               WIZARD: what is lost -> who is alive -> plan -> typed name ->
 * request Esc goes back to the view from everywhere.
 */
#ifndef UI_APP_INT_H
#define UI_APP_INT_H

#include "i18n_int.h"
#include "model_int.h"
#include "ui-tui/app.h"
#include "ui-tui/grid.h"

#define UI_INPUT_BYTES 512u
#define UI_ACTS_MAX    8u
#define UI_NONE        SIZE_MAX
#define UI_LOG_MAX     32u

enum ui_view_id {
	UI_VIEW_OVERVIEW,
	UI_VIEW_SITES,
	UI_VIEW_MACHINES,
	UI_VIEW_POINTS,
	UI_VIEW_RUNBOOKS,
	UI_VIEW_RUNS,
	UI_VIEW_DRILLS,
	UI_VIEW_EVENTS,
	UI_VIEW_CONSOLE,
	UI_VIEWS
};

enum ui_layer {
	UI_LAYER_NONE,
	UI_LAYER_FILTER,
	UI_LAYER_COMMAND,
	UI_LAYER_HELP,
	UI_LAYER_PAGER,
	UI_LAYER_DIALOG,
	UI_LAYER_WIZARD,
};

/* ---- lists (list.c) ---- */

struct ui_out { /* one cell of a table */
	char text[UI_LINE_BYTES];
	enum ui_style style;
};
struct ui_col {
	const char *title; /* N_() */
	int rank;          /* columns of the highest rank are left out first when it is narrow */
	bool right;
};
struct ui_table {
	const struct ui_col *col;
	unsigned cols;
	size_t (*rows)(const struct ui_app *a);
	void (*cell)(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out);
	const char *(*key)(const struct ui_app *a, size_t row); /* names the row while rows move */
	const char *empty; /* N_(): shown when there are none, once .part has answered */
	enum ui_part part; /* where the rows come from */
	bool newest_first; /* the cursor stays on the first row, whichever that is by then */
};
struct ui_list {
	char key[UI_NAME_BYTES];  /* of the selected row; "": the first */
	char seen[UI_NAME_BYTES]; /* of the row that was selected when it was last drawn */
	size_t at, top;           /* position among the rows that pass the filter */
	char filter[64];
};

/* Draw it with its selection; @marked: the selection is shown. */
void ui_list_draw(struct ui_app *a, struct ui_list *l, const struct ui_table *t, struct ui_grid *g,
		  struct ui_area area, bool marked);
/* Moves the selection; false: not a key of lists. */
bool ui_list_key(struct ui_app *a, struct ui_list *l, const struct ui_table *t, uint32_t key,
		 int page);
/* The selected row as it was last drawn, for whoever acts on it: UI_NONE when that has gone, or
 * there is none. */
size_t ui_list_row(const struct ui_app *a, const struct ui_list *l, const struct ui_table *t);

/* ---- views (view_*.c) ---- */

struct ui_view {
	const char *id;                                          /* "overview" */
	const char *title;                                       /* N_() */
	const struct ui_table *(*table)(const struct ui_app *a); /* NULL: it has no list */
	unsigned parts; /* of the model that it shows, as bits */
	void (*draw)(struct ui_app *a, struct ui_grid *g, struct ui_area area);
};
extern const struct ui_view ui_views[UI_VIEWS];
/* Of the view that is shown; NULL: it has none. */
const struct ui_table *ui_table_now(const struct ui_app *a);
struct ui_list *ui_list_now(struct ui_app *a);
/* The selected row of the view that is shown; UI_NONE. */
size_t ui_row_now(const struct ui_app *a);

/* ---- deeds (deeds.c) ---- */

struct ui_deed {
	const char *id;
	uint32_t key;
	const char *label;                     /* of the key in hints and help */
	const char *name;                      /* N_(): two or three words */
	const char *help;                      /* N_(): a sentence */
	unsigned views;                        /* as bits; 0: everywhere */
	bool changes;                          /* not in read-only */
	bool (*ready)(const struct ui_app *a); /* NULL: always */
	void (*fn)(struct ui_app *a);
};
extern const struct ui_deed ui_deeds[]; /* ends with id NULL */
bool ui_deed_here(const struct ui_app *a, const struct ui_deed *d);
void ui_deed_do(struct ui_app *a, const struct ui_deed *d);
bool ui_deed_key(struct ui_app *a, uint32_t key);

/* ---- requests (acts.c) ---- */

/* What follows when the agent has said yes. */
enum ui_then {
	UI_THEN_NOTHING,
	UI_THEN_OPEN_RUN, /* show the run that the answer names */
	UI_THEN_JOB,      /* it is a job: say its id */
};

/* One request that changes something. */
struct ui_act {
	char what[160];  /* for people */
	char equal[640]; /* the command line */
	char path[640];
	struct json_t *body; /* owned */
	enum ui_then then;
};
void ui_act_fini(struct ui_act *act);
/* Send it; takes act->body. What becomes of it is said on the message line. */
void ui_act_send(struct ui_app *a, struct ui_act *act);
/* "lifeboat [--socket S] " and the rest. */
void ui_equal(const struct ui_app *a, char *out, size_t out_bytes, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* @text for a shell: quoted where it must be. At most 2 * UI_NAME_BYTES + 8. Returns @out. */
const char *ui_quote(char *out, size_t out_bytes, const char *text);
struct ui_order *ui_order(struct ui_app *a, enum ui_order_kind kind);
void ui_say(struct ui_app *a, enum ui_style style, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- layers ---- */

struct ui_dialog {
	struct ui_act act;
	char must_type[UI_NAME_BYTES]; /* "": Enter is enough */
	char typed[UI_NAME_BYTES];
	char text[512];    /* what will happen, more than act.what says */
	char command[320]; /* not "": act.equal is this and, as options, what is typed */
	char reason[UI_NAME_BYTES];
	bool wants_reason, reason_given; /* typed before the name */
};
struct ui_wizard {
	char runbook[UI_NAME_BYTES], path[UI_NAME_BYTES];
	char *text; /* of the runbook, as it was looked at */
	unsigned page;
	int scroll;
	char typed[UI_NAME_BYTES];
};
struct ui_pager {
	char title[160];
	struct ui_lines lines;
	char *text; /* output so far of the command that runs, or NULL */
	size_t len;
	bool running, follow;
	bool whole; /* lines are broken, not cut */
	int top;
};
struct ui_command {
	char line[UI_INPUT_BYTES];
	char hint[UI_LINE_BYTES]; /* completions, or what the verb does */
};
struct ui_help {
	struct ui_list list;
	bool typing; /* what is typed narrows the list */
};

struct ui_pending {  /* a request under way */
	uint64_t id; /* 0: free */
	enum ui_then then;
	char what[160];
};

struct ui_log_entry {
	char equal[640];
	char outcome[640];
	uint64_t id, wall_ns;
};

struct ui_app {
	struct ui_app_cfg cfg;
	struct ui_model model;
	uint64_t now_ns, wall_ns;
	int w, h;
	enum ui_view_id view;
	enum ui_layer layer;
	struct ui_list list[UI_VIEWS];
	int page; /* rows of the list when it was last drawn */

	struct ui_dialog dialog;
	struct ui_wizard wizard;
	struct ui_pager pager;
	struct ui_command command;
	struct ui_help help;

	/* what the views are about */
	char run_id[UI_NAME_BYTES];   /* open run; "": the list of runs */
	char machine[UI_NAME_BYTES];  /* of the console */
	char book[UI_NAME_BYTES];     /* runbook whose text and plan are shown */
	char point_id[UI_NAME_BYTES]; /* point whose volumes are shown */
	uint64_t book_changed_ns;     /* its time on disk when its text was asked for */
	struct ui_list steps;         /* of the open run */
	int console_back;             /* lines scrolled back from the end */

	struct {
		uint64_t id, sent_ns, due_ns; /* id 0: nothing is asked */
		char about[UI_NAME_BYTES];
	} ask[UI_PARTS];
	uint64_t next_id;
	struct ui_pending pending[UI_ACTS_MAX];
	struct ui_orders orders;
	size_t orders_cap;

	char message[640];
	enum ui_style message_style;
	uint64_t message_ns;
	struct ui_log_entry log[UI_LOG_MAX];
	size_t log_count;
	unsigned view_count[UI_VIEWS], deed_count[64];
};

/* asks.c: which questions are due; the answer to one. */
void ui_asks_due(struct ui_app *a);
void ui_asks_now(struct ui_app *a); /* everything shown is asked again at once */
bool ui_asks_answer(struct ui_app *a, const struct ui_input *in);
void ui_asks_renew(struct ui_app *a, enum ui_part part); /* forget it and ask at once */

unsigned ui_parts_shown(const struct ui_app *a); /* as bits: what is asked for */
const char *ui_part_name(enum ui_part part);     /* "machines": for a person, as in the API */
/* Is the last answer older than it should be? Then *age_ns is its age, and what it said is no news.
 * False also when there never was one. */
bool ui_part_late(const struct ui_app *a, enum ui_part part, uint64_t *age_ns);
/* An RPO of @part as it is by now: no answer since says that it is better. */
struct ui_number ui_rpo_now(const struct ui_app *a, enum ui_part part, struct ui_number rpo_ns);

void ui_open_view(struct ui_app *a, enum ui_view_id view);
void ui_open_run(struct ui_app *a, const char *id);

bool ui_read_only(const struct ui_app *a); /* as asked for, or as the agent has it */
bool ui_fits(const struct ui_app *a);  /* is the terminal large enough to act on what it shows? */
void ui_dialog_open(struct ui_app *a); /* a->dialog is filled */
bool ui_dialog_asks_why(const struct ui_app *a); /* the reason is typed now, not the name */
void ui_dialog_draw(struct ui_app *a, struct ui_grid *g);
void ui_dialog_key(struct ui_app *a, uint32_t key);
void ui_wizard_open(struct ui_app *a, const char *name, const char *path);
void ui_wizard_draw(struct ui_app *a, struct ui_grid *g);
void ui_wizard_key(struct ui_app *a, uint32_t key);
void ui_wizard_follow(struct ui_app *a); /* the runbook may have been changed meanwhile */
void ui_pager_open(struct ui_app *a, const char *title, const char *text);
void ui_pager_open_whole(struct ui_app *a, const char *title, const char *text); /* see .whole */
void ui_pager_draw(struct ui_app *a, struct ui_grid *g);
void ui_pager_key(struct ui_app *a, uint32_t key);
void ui_pager_output(struct ui_app *a, const char *text, size_t len);
void ui_pager_exit(struct ui_app *a, int rc, const char *message);
void ui_command_open(struct ui_app *a, const char *line);
void ui_command_run(struct ui_app *a, const char *line); /* as if it had been typed */
void ui_command_draw(struct ui_app *a, struct ui_grid *g, struct ui_area line);
void ui_command_key(struct ui_app *a, uint32_t key);
void ui_help_open(struct ui_app *a);
void ui_help_draw(struct ui_app *a, struct ui_grid *g);
void ui_help_key(struct ui_app *a, uint32_t key);

/* One line of typed text; false: not a key of input lines. */
bool ui_line_key(char *line, size_t cap, uint32_t key);

/* ---- numbers and words ---- */

/* A time of day, with its date when it is not of the last hours. @out: LB_HUMAN_BYTES. */
const char *ui_when(const struct ui_app *a, char *out, uint64_t wall_ns);
void ui_age_text(char *out, size_t cap, struct ui_number ns); /* "3.2 s" or "unknown" */
enum ui_style ui_state_style(const char *state);              /* of runs, steps, roles, links */
/* "OK ✓", "FAIL ✗", "WARN !": never by colour alone. */
const char *ui_mark(const struct ui_app *a, enum ui_style style);
const char *ui_plan_missing(const struct ui_app *a); /* why there is no plan, when none is wrong */
uint64_t ui_rpo_goal_ns(const struct ui_group *g);
const struct ui_run *ui_run_latest(const struct ui_model *m, bool drill); /* newest, or NULL */
bool ui_run_ended(const struct ui_run *r);

#endif
