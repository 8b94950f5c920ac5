/* The verbs that change something. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/log.h"
#include "base/text.h"
#include "cli_int.h"
#include "config_int.h"
#include "runbooks/lang.h"

#define CELL 160u

/* What cannot be said as JSON is an error, not left out: the rest would mean something else. */
static void put(struct cli *c, json_t *o, const char *key, const char *text)
{
	if (text != NULL && json_object_set_new(o, key, json_string(text)) != 0 && c->err.code == 0)
		(void)lb_err_set(&c->err, LB_EINPUT, 0, "the %s is not UTF-8", key);
}

/* One request, unless a part of @body could not be said. Takes @body. */
static int request(struct cli *c, const char *path, json_t *body, json_t **out)
{
	if (c->err.code == 0)
		return cli_call(c, "POST", path, body, out);
	json_decref(body);
	return c->err.code;
}

/* POST @path; with --json print the answer, else @said (may be NULL). */
static int post(struct cli *c, const char *path, json_t *body, const char *said)
{
	json_t *o = NULL;
	int rc = request(c, path, body, &o);

	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	if (said != NULL)
		(void)printf("%s\n", said);
	json_decref(o);
	return 0;
}

/* ---- site ---- */

int cli_site_init(struct cli *c)
{
	return post(c, "/v1/site/init", json_object(),
		    "this site has an identity and a certificate authority now; next: "
		    "lifeboat site token NAME");
}

int cli_site_token(struct cli *c)
{
	json_t *body = json_object(), *o = NULL;
	uint64_t ttl_ns;
	int rc;

	put(c, body, "name", c->arg[0]);
	if (c->ttl != NULL) {
		rc = lb_parse_duration_ns(&ttl_ns, c->ttl, &c->err);
		if (rc != 0) {
			json_decref(body);
			return rc;
		}
		(void)json_object_set_new(body, "ttl_ns", json_integer((json_int_t)ttl_ns));
	}
	if (c->renew)
		(void)json_object_set_new(body, "renew", json_true());
	rc = request(c, "/v1/site/token", body, &o);
	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	(void)printf("%s\n", json_string_value(json_object_get(o, "token")));
	json_decref(o);
	return 0;
}

/* The token comes from a file or standard input: an argument would be seen by every user of the
 * host. */
static int post_token(struct cli *c, const char *path, const char *file, const char *said)
{
	json_t *body = json_object();
	char *token = NULL;
	int rc = cli_read_file(c, file, &token);

	if (rc != 0) {
		json_decref(body);
		return rc;
	}
	token[strcspn(token, " \r\n")] = '\0';
	put(c, body, "token", token);
	explicit_bzero(token, strlen(token));
	free(token);
	return post(c, path, body, said);
}

int cli_site_join(struct cli *c)
{
	return post_token(c, "/v1/site/join", c->args > 0 ? c->arg[0] : "-",
			  "this site has joined the deployment");
}

/* Where the CA is no token is needed. */
int cli_site_renew(struct cli *c)
{
	static const char said[] = "this site has another certificate, for 398 days";

	return c->args > 0 ? post_token(c, "/v1/site/renew", c->arg[0], said)
			   : post(c, "/v1/site/renew", json_object(), said);
}

int cli_site_remove(struct cli *c)
{
	json_t *body = json_object();

	put(c, body, "name", c->arg[0]);
	put(c, body, "confirm", c->confirm);
	return post(c, "/v1/site/remove", body,
		    "the site is removed here; on its own host it still has its identity");
}

/* ---- group, point, store ---- */

int cli_group_cut(struct cli *c)
{
	char path[CLI_PART_BYTES + 32], part[CLI_PART_BYTES];

	(void)snprintf(path, sizeof(path), "/v1/groups/%s/cut", cli_part(part, c->arg[0]));
	return post(c, path, json_object(), "a cut will be taken at once");
}

/* One that was cancelled, or that the store did not let come to its end, found nothing out. */
static const char *verdict(int rc)
{
	if (rc == 0)
		return "verified";
	return lb_err_class(rc) == LB_CLASS_DATA ? "NOT good" : "not finished";
}

static int print_scrub(struct cli *c, int rc, json_t *result)
{
	char size[LB_HUMAN_BYTES], what[400];
	size_t i;
	json_t *d;

	if (c->json && result != NULL) {
		(void)cli_print_json(c, json_incref(result));
	} else if (result != NULL) {
		json_array_foreach(json_object_get(result, "damage"), i, d)
		{
			(void)printf("DAMAGED  %s\n", cli_text(what, sizeof(what), d, "what"));
		}
		(void)printf("%s: %" PRIu64 " points, %" PRIu64 " records, %s%s; %" PRIu64
			     " damaged\n",
			     verdict(rc), cli_u64(result, "points"), cli_u64(result, "records"),
			     lb_human_bytes(size, cli_u64(result, "bytes")),
			     json_is_true(json_object_get(result, "deep")) ? " decrypted" : "",
			     cli_u64(result, "damaged"));
	}
	json_decref(result);
	return rc;
}

int cli_point_verify(struct cli *c)
{
	char path[CLI_PATH_BYTES];
	json_t *result = NULL;
	int rc;

	cli_point_path(c, path, "/verify");
	rc = cli_run_job(c, path, json_pack("{s:b}", "deep", c->deep), &result);
	return print_scrub(c, rc, result);
}

int cli_verify(struct cli *c)
{
	json_t *result = NULL;
	int rc = cli_run_job(c, "/v1/verify", json_pack("{s:b}", "deep", c->deep), &result);

	return print_scrub(c, rc, result);
}

int cli_point_export(struct cli *c)
{
	char path[CLI_PATH_BYTES], cwd[PATH_MAX], full[2 * PATH_MAX], size[LB_HUMAN_BYTES];
	json_t *body, *result = NULL;
	int rc;

	if (c->arg[1][0] != '/' && getcwd(cwd, sizeof(cwd)) == NULL)
		return lb_err_errno(&c->err, errno, "%.100s: where is the working directory",
				    c->arg[1]);
	body = json_object();
	(void)snprintf(full, sizeof(full), "%s%s%s", c->arg[1][0] == '/' ? "" : cwd,
		       c->arg[1][0] == '/' ? "" : "/", c->arg[1]);
	put(c, body, "path", full);
	put(c, body, "machine", c->machine);
	put(c, body, "volume", c->volume);
	put(c, body, "format", c->format);
	if (c->err.code != 0) {
		json_decref(body);
		return c->err.code;
	}
	cli_point_path(c, path, "/export");
	rc = cli_run_job(c, path, body, &result);
	if (rc == 0 && c->json)
		return cli_print_json(c, result);
	if (rc == 0)
		(void)printf("%s written, %s\n", full,
			     lb_human_bytes(size, cli_u64(result, "size_bytes")));
	json_decref(result);
	return rc;
}

int cli_catalog_rebuild(struct cli *c)
{
	json_t *result = NULL;
	int rc = cli_run_job(c, "/v1/catalog/rebuild", json_object(), &result);

	json_decref(result);
	if (rc == 0 && c->json)
		return cli_print_json(c, json_pack("{s:b}", "rebuilt", 1));
	if (rc == 0)
		(void)printf("catalog rebuilt from the store\n");
	return rc;
}

/* ---- runbooks ---- */

static json_t *runbook_body(struct cli *c, char **text)
{
	char name[256]; /* for messages: one in another encoding is no reason not to run it */
	json_t *body;

	if (cli_read_file(c, c->arg[0], text) != 0)
		return NULL;
	body = json_object();
	(void)snprintf(name, sizeof(name), "%s", c->arg[0]);
	put(c, body, "name", lb_utf8_clean(name));
	put(c, body, "text", *text);
	put(c, body, "mode", c->mode);
	put(c, body, "confirm", c->confirm);
	if (c->yes_unattended)
		(void)json_object_set_new(body, "unattended", json_true());
	return body;
}

/* The name of a file may be in any encoding. */
static void print_checked(struct cli *c, int rc, char *problems)
{
	json_t *o = json_pack("{s:b, s:s}", "ok", rc == 0, "problems",
			      problems != NULL ? lb_utf8_clean(problems) : "");

	if (rc != 0)
		(void)json_object_set_new(o, "error", cli_error_json(c, rc));
	(void)cli_print_json(c, o);
}

/* Lint needs no agent: the language is in this program too. */
int cli_runbook_lint(struct cli *c)
{
	struct rb_runbook *rb = NULL;
	char *text = NULL, *problems = NULL;
	int rc = cli_read_file(c, c->arg[0], &text);

	if (rc != 0)
		return rc;
	rc = rb_runbook_parse(&rb, c->arg[0], text, strlen(text), &problems, &c->err);
	if (c->json)
		print_checked(c, rc, problems);
	else if (problems != NULL)
		(void)fputs(problems, stderr);
	else if (rc == 0)
		(void)printf("%s: ok, %zu steps\n", c->arg[0], rb->step_count);
	free(problems);
	free(text);
	rb_runbook_destroy(rb);
	return rc;
}

int cli_runbook_plan(struct cli *c)
{
	char *text = NULL;
	json_t *body = runbook_body(c, &text), *o = NULL;
	int rc = body == NULL ? c->err.code : request(c, "/v1/runbooks/plan", body, &o);

	free(text);
	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	if (json_is_string(json_object_get(o, "text")))
		(void)fputs(json_string_value(json_object_get(o, "text")), stdout);
	json_decref(o);
	return 0;
}

int cli_runbook_schema(struct cli *c)
{
	char *text = rb_schema_json();

	if (text == NULL)
		return lb_err_set(&c->err, LB_ENOMEM, 0, "schema");
	(void)puts(text);
	free(text);
	return 0;
}

/* ---- runs ---- */

static void print_step(const json_t *s)
{
	char id[CELL], action[CELL], state[CELL], detail[400], took[LB_HUMAN_BYTES];
	uint64_t first = cli_u64(s, "first_ns"), end = cli_u64(s, "end_ns");

	(void)printf("  %-16s %-7s %-12s %8s  %s\n", cli_text(id, sizeof(id), s, "id"),
		     cli_text(action, sizeof(action), s, "action"),
		     cli_text(state, sizeof(state), s, "state"),
		     end > first ? lb_human_duration(took, end - first) : "",
		     cli_text(detail, sizeof(detail), s, "detail"));
}

static void print_run(const json_t *o)
{
	char a[CELL], b[CELL], d[CELL], took[LB_HUMAN_BYTES];
	size_t i;
	json_t *s;

	(void)printf("run %s  %s  %s  %s  after %s\n", cli_text(a, 9, o, "id"),
		     cli_text(b, sizeof(b), o, "runbook"),
		     json_string_value(json_object_get(o, "mode")),
		     cli_text(d, sizeof(d), o, "state"),
		     lb_human_duration(took, cli_u64(o, "elapsed_ns")));
	json_array_foreach(json_object_get(o, "steps"), i, s)
	{
		print_step(s);
	}
	if (cli_text(d, sizeof(d), o, "log_error")[0] != '\0')
		(void)printf("  its log cannot be written: %s\n", d);
}

/* Why the run stands still though it has not ended; NULL: it does not. */
static const char *stands_still(const json_t *o)
{
	const char *why = json_string_value(json_object_get(o, "log_error"));

	return why != NULL && why[0] != '\0' ? why : NULL;
}

static bool ended(const char *state)
{
	return strcmp(state, "RUNNING") != 0 && strcmp(state, "NEW") != 0;
}

static bool went_well(const char *state)
{
	return strcmp(state, "DONE") == 0 || strcmp(state, "DONE-WITH-WARNINGS") == 0;
}

/* Follow run @id until it has ended or waits for a person; the run goes on if we are interrupted.
 */
static int follow(struct cli *c, const char *id)
{
	char path[CLI_PATH_BYTES], part[CLI_PART_BYTES], seen[1024] = "", now[1024];
	json_t *o = NULL, *s;
	const char *state;
	size_t i;
	int rc;

	(void)snprintf(path, sizeof(path), "/v1/runs/%s", cli_part(part, id));
	for (;;) {
		size_t n = 0;

		rc = cli_call(c, "GET", path, NULL, &o);
		if (rc != 0)
			return rc;
		state = json_string_value(json_object_get(o, "state"));
		json_array_foreach(json_object_get(o, "steps"), i, s)
		{
			const char *st = json_string_value(json_object_get(s, "state"));

			if (n + 8 < sizeof(now))
				n += (size_t)snprintf(now + n, sizeof(now) - n, "%.6s,", st);
		}
		if (!c->json && strcmp(now, seen) != 0)
			print_run(o);
		memcpy(seen, now, sizeof(seen));
		if (state == NULL || ended(state) || stands_still(o) != NULL)
			break;
		json_decref(o);
		(void)fflush(stdout);
		(void)poll(NULL, 0, 300);
	}
	if (!went_well(state != NULL ? state : ""))
		rc = lb_err_set(&c->err, LB_EIO, 0, "run %.8s is %s", id, state);
	if (stands_still(o) != NULL) {
		rc = lb_err_set(&c->err, LB_ESUSPECT, 0,
				"run %.8s stands still: its log cannot be written: %s", id,
				stands_still(o));
		(void)snprintf(c->hint, sizeof(c->hint),
			       "make room, then start lifeboatd again: the run goes on by itself");
	}
	if (rc != 0 && state != NULL && strcmp(state, "HALTED") == 0)
		(void)snprintf(c->hint, sizeof(c->hint),
			       "lifeboat run continue %.8s, or retry|skip %.8s STEP", id, id);
	if (c->json)
		(void)cli_print_json(c, json_incref(o));
	json_decref(o);
	return rc;
}

static int start(struct cli *c)
{
	char *text = NULL, id[40];
	json_t *body = runbook_body(c, &text), *o = NULL;
	int rc = body == NULL ? c->err.code : request(c, "/v1/runs", body, &o);

	free(text);
	if (rc != 0)
		return rc;
	(void)snprintf(id, sizeof(id), "%s", json_string_value(json_object_get(o, "run")));
	json_decref(o);
	if (!c->json)
		(void)printf("run %s started; `lifeboat run attach %.8s` follows it again\n", id,
			     id);
	return follow(c, id);
}

int cli_run_start(struct cli *c)
{
	if (c->mode == NULL)
		c->mode = "failover";
	return start(c);
}

int cli_drill(struct cli *c)
{
	c->mode = "drill";
	return start(c);
}

int cli_run_list(struct cli *c)
{
	static const char *const head[] = {"RUN",   "RUNBOOK", "MODE", "STATE",
					   "BEGAN", "TOOK",    NULL};
	char id[16], name[CELL], mode[CELL], state[CELL], began[LB_HUMAN_BYTES],
		took[LB_HUMAN_BYTES];
	struct cli_table *t;
	json_t *o = NULL, *r;
	size_t i;
	int rc = cli_call(c, "GET", "/v1/runs", NULL, &o);

	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	t = cli_table_new(head);
	json_array_foreach(json_object_get(o, "runs"), i, r)
	{
		cli_table_row(t,
			      (const char *[]){cli_text(id, 9, r, "id"),
					       cli_text(name, sizeof(name), r, "runbook"),
					       cli_text(mode, sizeof(mode), r, "mode"),
					       cli_text(state, sizeof(state), r, "state"),
					       lb_human_wall(began, cli_u64(r, "began_wall_ns")),
					       lb_human_duration(took, cli_u64(r, "elapsed_ns"))});
	}
	cli_table_print(t, stdout);
	json_decref(o);
	return 0;
}

int cli_run_show(struct cli *c)
{
	char path[CLI_PATH_BYTES], part[CLI_PART_BYTES];
	json_t *o = NULL;
	int rc;

	(void)snprintf(path, sizeof(path), "/v1/runs/%s", cli_part(part, c->arg[0]));
	rc = cli_call(c, "GET", path, NULL, &o);
	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	print_run(o);
	json_decref(o);
	return 0;
}

int cli_run_attach(struct cli *c)
{
	return follow(c, c->arg[0]);
}

/* Foreign text, line by line, each escaped for the terminal. */
static void print_lines(const char *text)
{
	char line[1024], safe[3 * sizeof(line)];

	while (text != NULL && *text != '\0') {
		size_t len = strcspn(text, "\n"),
		       keep = len < sizeof(line) ? len : sizeof(line) - 1;

		memcpy(line, text, keep);
		line[keep] = '\0';
		if (keep > 0 && line[keep - 1] == '\r')
			line[keep - 1] = '\0';
		(void)printf("%s\n", lb_text_escape(safe, sizeof(safe), line));
		text += len + (text[len] != '\0' ? 1 : 0);
	}
}

int cli_run_console(struct cli *c)
{
	char path[2 * CLI_PART_BYTES + 64], run[CLI_PART_BYTES], machine[CLI_PART_BYTES];
	json_t *o = NULL;
	int rc;

	(void)snprintf(path, sizeof(path), "/v1/runs/%s/console?machine=%s",
		       cli_part(run, c->arg[0]), cli_part(machine, c->arg[1]));
	rc = cli_call(c, "GET", path, NULL, &o);
	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	print_lines(json_string_value(json_object_get(o, "text")));
	json_decref(o);
	return 0;
}

static int command(struct cli *c, const char *name)
{
	json_t *body = json_object(), *o = NULL;
	char path[CLI_PATH_BYTES], part[CLI_PART_BYTES];
	int rc;

	put(c, body, "command", name);
	put(c, body, "step", c->args > 1 ? c->arg[1] : NULL);
	put(c, body, "reason", c->reason);
	put(c, body, "confirm", c->confirm);
	(void)snprintf(path, sizeof(path), "/v1/runs/%s/command", cli_part(part, c->arg[0]));
	rc = request(c, path, body, &o);
	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	print_run(o);
	json_decref(o);
	return 0;
}

int cli_run_continue(struct cli *c)
{
	return command(c, "continue");
}

int cli_run_retry(struct cli *c)
{
	return command(c, "retry");
}

int cli_run_skip(struct cli *c)
{
	return command(c, "skip");
}

int cli_run_halt(struct cli *c)
{
	return command(c, "halt");
}

int cli_run_cancel(struct cli *c)
{
	return command(c, "cancel");
}

/* ---- config ---- */

int cli_config_check(struct cli *c)
{
	struct sa_config *cfg = NULL;
	char *problems = NULL;
	int rc = sa_config_load(&cfg, c->arg[0], &problems, &c->err);

	if (c->json)
		print_checked(c, rc, problems);
	else if (problems != NULL)
		(void)fputs(problems, stderr);
	else if (rc == 0)
		(void)printf("%s: ok\n", c->arg[0]);
	free(problems);
	sa_config_destroy(cfg);
	return rc;
}

/* Each key is a line "name: type, range, default", and what it is for under it. */
static json_t *keys_json(char *text)
{
	json_t *list = json_array();
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *help = strtok_r(NULL, "\n", &save);
		char *value = strstr(line, ": ");

		if (value == NULL || help == NULL)
			break;
		*value = '\0';
		(void)json_array_append_new(list,
					    json_pack("{s:s, s:s, s:s}", "key", line, "value",
						      value + 2, "help", help + strspn(help, " ")));
	}
	return json_pack("{s:o}", "keys", list);
}

int cli_config_keys(struct cli *c)
{
	char *text = sa_config_keys_text();

	if (text == NULL)
		return lb_err_set(&c->err, LB_ENOMEM, 0, "keys");
	if (c->json)
		(void)cli_print_json(c, keys_json(text));
	else
		(void)fputs(text, stdout);
	free(text);
	return 0;
}
