/*
 * siteagent/src/cli_int.h - the `lifeboat` program: noun verb, a client of the control API only.
 *
 * Every verb takes --json (the API's answer as it is, or {"error": ...}) and --socket. Exit status:
 * lb_err_exit_status(), 2 for wrong usage. One table (sa_ctl_verbs) drives dispatch, help,
 * completion and the man page.
 */
#ifndef SITEAGENT_CLI_INT_H
#define SITEAGENT_CLI_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct json_t;
struct sa_ctl;

#define CLI_ARGS_MAX      8u
#define CLI_TABLE_COLUMNS 12u
#define CLI_PART_BYTES    200u
#define CLI_PATH_BYTES    (2u * CLI_PART_BYTES + 64u)

struct cli {
	const char *socket;
	bool json;
	bool printed; /* an answer, as JSON */
	bool renew;
	bool deep, watch, once, plain, yes_unattended, ascii, read_only;
	const char *mode, *confirm, *reason, *group, *machine, *volume, *format, *png, *name, *ttl,
		*after, *max, *theme;
	const char *arg[CLI_ARGS_MAX + 1]; /* what is left after the verb, NULL-terminated */
	size_t args;
	struct sa_ctl *ctl;
	char hint[512];
	char waiting[256]; /* for what a watcher said last that it waits */
	struct lb_err err;
};

/* cli_verbs.c: what a verb runs; NULL: there is no such verb. */
struct sa_verb;
int (*cli_verb_fn(const struct sa_verb *v))(struct cli *c);

/* cli_call.c: one request; on failure c->err and c->hint are set. */
int cli_call(struct cli *c, const char *method, const char *path, struct json_t *body /* taken */,
	     struct json_t **out);
/* @text as one part of a path or value of a query, percent-encoded; cut when longer than any name
 * of ours. Returns @out. */
const char *cli_part(char out[CLI_PART_BYTES], const char *text);
/* "/v1/points/POINT<tail>" of the first argument, with --group. */
void cli_point_path(const struct cli *c, char out[CLI_PATH_BYTES], const char *tail);
/* A count given as an option's value, @dflt when it was not. LB_EINPUT naming @what. */
int cli_count(struct cli *c, const char *what, const char *text, uint64_t dflt, uint64_t *out);
/* Start a job, show its progress with rate and ETA until it ends. ^C (or SIGTERM) cancels the job,
 * which ends as LB_ECANCELED; a second one leaves it to the agent. */
int cli_run_job(struct cli *c, const char *path, struct json_t *body, struct json_t **result);
int cli_print_json(struct cli *c, struct json_t *o); /* takes o; 0 */
/* With --json: tell the error of @rc on standard output too, unless an answer was printed there. */
void cli_print_json_error(struct cli *c, int rc);
/* {"code", "message", "hint"} of @rc. */
struct json_t *cli_error_json(const struct cli *c, int rc);
/* Read a file ("-": standard input) of at most 256 KiB; free it. */
int cli_read_file(struct cli *c, const char *path, char **text);

/* cli_text.c. lb_human_duration() of a number that may be null: "unknown". LB_HUMAN_BYTES. */
const char *cli_age(char *out, const struct json_t *ns);
/* A text field of foreign origin, escaped for the terminal; @out holds @cap. */
const char *cli_text(char *out, size_t cap, const struct json_t *o, const char *key);
uint64_t cli_u64(const struct json_t *o, const char *key);

/* A table: columns as wide as their widest cell. Cells are copied, escaped already. */
struct cli_table;
struct cli_table *cli_table_new(const char *const *head);         /* NULL-terminated */
void cli_table_row(struct cli_table *t, const char *const *cell); /* as many as head has */
void cli_table_print(struct cli_table *t, FILE *out);             /* and frees it */

/* cli_complete.c: what may stand as the last of these words, one a line. Returns the exit status.
 */
int cli_complete(const char *socket, const char *const *word, size_t count);

/* verbs, by file */
int cli_status(struct cli *c);
int cli_watch(struct cli *c);
int cli_tui(struct cli *c); /* becomes that program */
int cli_doctor(struct cli *c);
int cli_site_list(struct cli *c);
int cli_site_init(struct cli *c);
int cli_site_token(struct cli *c);
int cli_site_join(struct cli *c);
int cli_site_renew(struct cli *c);
int cli_site_remove(struct cli *c);
int cli_machine_list(struct cli *c);
int cli_group_list(struct cli *c);
int cli_group_cut(struct cli *c);
int cli_point_list(struct cli *c);
int cli_point_show(struct cli *c);
int cli_point_verify(struct cli *c);
int cli_point_export(struct cli *c);
int cli_verify(struct cli *c);
int cli_catalog_rebuild(struct cli *c);
int cli_catalog_dump(struct cli *c);
int cli_runbook_list(struct cli *c);
int cli_runbook_lint(struct cli *c);
int cli_runbook_plan(struct cli *c);
int cli_runbook_schema(struct cli *c);
int cli_run_start(struct cli *c);
int cli_run_list(struct cli *c);
int cli_run_show(struct cli *c);
int cli_run_attach(struct cli *c);
int cli_run_console(struct cli *c);
int cli_run_continue(struct cli *c);
int cli_run_retry(struct cli *c);
int cli_run_skip(struct cli *c);
int cli_run_halt(struct cli *c);
int cli_run_cancel(struct cli *c);
int cli_drill(struct cli *c);
int cli_vm_list(struct cli *c);
int cli_vm_cpu(struct cli *c);
int cli_vm_show(struct cli *c);
int cli_vm_run(struct cli *c);
int cli_vm_console(struct cli *c);
int cli_vm_pause(struct cli *c);
int cli_vm_resume(struct cli *c);
int cli_vm_screenshot(struct cli *c);
int cli_vm_power_button(struct cli *c);
int cli_vm_stop(struct cli *c);
int cli_vm_reset(struct cli *c);
int cli_config_check(struct cli *c);
int cli_config_keys(struct cli *c);
int cli_completion(struct cli *c);

#endif
