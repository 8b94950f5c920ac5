/*
 * ui-tui/src/model_int.h - what the UI knows: a typed copy of the agent's answers.
 *
 * The agent may be of another version, broken, or not ours: every answer is foreign. Each is
 * parsed into one part of the model; strings are cleaned on entry, lists are bounded, a field of
 * the wrong type counts as missing, and a missing number stays unknown (never 0). A failed answer,
 * or one that is about something else, leaves the part as it was: old truth, with its age, is
 * better than none at 3 a.m.
 *
 * Out of memory aborts: nothing here is worth going on half. Thread: the UI's.
 */
#ifndef UI_MODEL_INT_H
#define UI_MODEL_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text_int.h"

struct json_t;

/* Parts of the model, one per path of the API that is looked at. */
enum ui_part {
	UI_PART_STATUS,
	UI_PART_SITES,
	UI_PART_MACHINES,
	UI_PART_VMS,
	UI_PART_HISTORY,
	UI_PART_POINTS,
	UI_PART_POINT,
	UI_PART_RUNBOOKS,
	UI_PART_RUNBOOK,
	UI_PART_PLAN,
	UI_PART_RUN,
	UI_PART_CONSOLE,
	UI_PART_EVENTS,
	UI_PART_DOCTOR,
	UI_PART_JOBS,
	UI_PARTS
};

struct ui_number {
	bool known;
	uint64_t n;
};

struct ui_machine {
	struct ui_name name, group;
	char driver[32], state[32];
	struct ui_name run;    /* that has booted it; "" none */
	struct ui_name domain; /* what it is called where it runs then */
	struct ui_number rpo_ns;
};

struct ui_group {
	struct ui_name name;
	char role[24], peer[UI_NAME_BYTES], why[128], link[16];
	uint64_t epoch;
	bool source; /* protected here, shipped from here */
	struct ui_number rpo_ns, interval_ns, points_acked, last_seq, bytes_shipped, bytes_changed,
		rate_bytes_per_s, scan_done, scan_all, eta_s, newest_wall_ns;
	char newest_id[80], consistency[16], marks[64];
	char problem[UI_LINE_BYTES], problem_code[24];
};

struct ui_site {
	struct ui_name name;
	char id[40], address[96], link[16], problem[256];
	char inbound[8]; /* "up": it is connected to us; "" it was not since the agent's start */
	struct ui_number inbound_for_ns;
	bool self, enrolled;
	struct ui_number cert_left_s;
};

struct ui_vm { /* runs here under lifeboat-vm */
	struct ui_name name;
	char state[24];
};

struct ui_samples { /* of one group, oldest first */
	struct ui_name group;
	size_t count;
	uint64_t *rate, *rpo_ns;
};

struct ui_point {
	struct ui_name id, group;
	uint64_t epoch, seq, captured_wall_ns;
	struct ui_number received_wall_ns, stored_bytes;
	char consistency[16];
	bool verified, deep, booted, bad; /* bad: marked bad or damaged */
};

struct ui_volume {
	struct ui_name machine, volume;
	char kind[8];
	uint64_t size_bytes, layer_bytes;
};

struct ui_runbook {
	struct ui_name name, path;
	uint64_t size_bytes, changed_wall_ns;
};

struct ui_run {
	struct ui_name id, runbook;
	char mode[16], state[24], who[40];
	uint64_t began_wall_ns, elapsed_ns, rto_ns;
	unsigned steps, ended, running, waiting;
};

struct ui_step {
	struct ui_name id, machine;
	char action[16], state[16], code[24];
	char detail[UI_LINE_BYTES], note[UI_LINE_BYTES], reason[128];
	unsigned attempt;
	uint64_t first_ns, end_ns, budget_ns;
	bool late, finally, booted;
	uint64_t point_seq, captured_wall_ns;
	struct ui_number rpo_bound_ns;
	char isolation[160];
};

struct ui_plan_step {
	char id[UI_NAME_BYTES], action[16], what[UI_NAME_BYTES];
	unsigned wave;
	uint64_t start_ns, expect_ns, worst_ns;
	bool critical;
};

struct ui_event {
	uint64_t n, wall_ns;
	char key[24]; /* n as text */
	char level[8], comp[24], ev[40], line[UI_LINE_BYTES];
};

struct ui_check {
	char name[40], text[320];
	bool ok;
};

struct ui_job {
	struct ui_name id;
	char what[80], state[16], error[256];
	struct ui_number done_bytes, all_bytes, eta_s, damaged;
};

struct ui_lines {
	size_t count;
	char (*line)[UI_LINE_BYTES];
};

struct ui_model {
	struct {
		bool loaded;
		uint64_t at_ns;    /* of the last good answer */
		uint64_t asked_ns; /* when it was asked for: it is not newer than that */
		char error[320];   /* of the last answer, "" when it was good */
	} part[UI_PARTS];

	/* status */
	struct ui_number uptime_ns, wall_ns, store_bytes, received_bytes, connections;
	size_t groups, runs;
	struct ui_group *group;
	struct ui_run *run; /* newest first */

	size_t sites, machines, vms, samples, points, runbooks, events, checks, jobs;
	struct ui_site *site_list;
	struct ui_machine *machine;
	struct ui_vm *vm;
	struct ui_samples *sample;
	uint64_t sample_every_ns;
	struct ui_point *point; /* newest first */
	struct ui_runbook *runbook;
	struct ui_event *event; /* oldest first; kept over answers */
	uint64_t events_seen;
	struct ui_check *check;
	struct ui_job *job; /* newest first */

	/* one recovery point, one run, one runbook, its plan */
	size_t volumes, steps, plan_steps, plan_groups;
	struct ui_volume *volume;
	struct ui_step *step;
	struct ui_number rto_achieved_ns;
	char *text; /* of the runbook, as it is on disk: for lint and start, never for the screen */
	struct ui_lines text_lines;
	struct ui_name *plan_group; /* whose machines the plan boots */
	uint64_t plan_total_ns, plan_rto_ns;
	struct ui_plan_step *plan_step;
	struct ui_lines lint; /* problems with carets of the last lint or plan that failed */
	struct ui_lines console;
	struct ui_run detail; /* the run that is open */

	/* names, texts and flags of the same */
	struct ui_name site, point_id, text_name, console_machine;
	struct ui_name gives_way; /* the site whose name must be typed */
	char mode[24], version[24], alarm[320], detail_problem[256], plan_name[UI_NAME_BYTES],
		console_domain[80];
	bool enrolled, has_store, suspect, plan_fits;
	bool read_only; /* the agent lets us look only */
};

void ui_model_init(struct ui_model *m);
void ui_model_fini(struct ui_model *m);
/* The answer to a question about @part, that came at @now_ns. @body may be anything. */
void ui_model_take(struct ui_model *m, enum ui_part part, const struct json_t *body,
		   uint64_t now_ns);
/* The question was not answered, or with an error; the part keeps what it had. */
void ui_model_miss(struct ui_model *m, enum ui_part part, const char *error);
/* Forget a part: what it is about has changed (another run, another runbook). */
void ui_model_forget(struct ui_model *m, enum ui_part part);
/* Foreign text of many lines; at most 4,000. @console: of a serial console. */
void ui_lines_set(struct ui_lines *l, const char *text, bool console);

const struct ui_group *ui_model_group(const struct ui_model *m, const char *name); /* or NULL */
/* Age of a part at @now_ns; false: there is none. */
bool ui_model_age(const struct ui_model *m, enum ui_part part, uint64_t now_ns, uint64_t *age_ns);

#endif
