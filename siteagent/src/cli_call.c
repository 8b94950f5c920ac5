#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "cli_int.h"
#include "siteagent/ctl.h"

#define CALL_TIMEOUT_NS UINT64_C(60000000000)
#define POLL_MS         250
#define FILE_MAX        (256u << 10)

int cli_call(struct cli *c, const char *method, const char *path, struct json_t *body,
	     struct json_t **out)
{
	int rc = 0;

	if (c->ctl == NULL)
		rc = sa_ctl_open(&c->ctl, c->socket, CALL_TIMEOUT_NS, &c->err);
	if (rc == 0)
		rc = sa_ctl_call(c->ctl, method, path, body, out, c->hint, sizeof(c->hint),
				 &c->err);
	json_decref(body);
	return rc;
}

const char *cli_part(char out[CLI_PART_BYTES], const char *text)
{
	return sa_ctl_path_part(out, CLI_PART_BYTES, text);
}

void cli_point_path(const struct cli *c, char out[CLI_PATH_BYTES], const char *tail)
{
	char point[CLI_PART_BYTES], group[CLI_PART_BYTES];

	(void)snprintf(out, CLI_PATH_BYTES, "/v1/points/%s%s%s%s", cli_part(point, c->arg[0]), tail,
		       c->group != NULL ? "?group=" : "",
		       cli_part(group, c->group != NULL ? c->group : ""));
}

int cli_print_json(struct cli *c, struct json_t *o)
{
	c->printed = true;
	(void)json_dumpf(o, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
	(void)fputc('\n', stdout);
	json_decref(o);
	return 0;
}

struct json_t *cli_error_json(const struct cli *c, int rc)
{
	json_t *e = json_pack("{s:s, s:s}", "code", lb_err_name(rc), "message", c->err.msg);

	if (c->hint[0] != '\0')
		(void)json_object_set_new(e, "hint", json_string(c->hint));
	return e;
}

void cli_print_json_error(struct cli *c, int rc)
{
	if (c->json && !c->printed)
		(void)cli_print_json(c, json_pack("{s:o}", "error", cli_error_json(c, rc)));
}

int cli_count(struct cli *c, const char *what, const char *text, uint64_t dflt, uint64_t *out)
{
	size_t digits = text != NULL ? strspn(text, "0123456789") : 0;

	*out = dflt;
	if (text == NULL)
		return 0;
	if (digits == 0 || digits > 18 || text[digits] != '\0')
		return lb_err_set(&c->err, LB_EINPUT, 0, "%s: \"%.40s\" is not a number", what,
				  text);
	*out = strtoull(text, NULL, 10);
	return 0;
}

static void show_progress(const json_t *job, bool tty)
{
	char done[LB_HUMAN_BYTES], all[LB_HUMAN_BYTES], rate[LB_HUMAN_BYTES],
		eta[LB_HUMAN_BYTES] = "";
	const json_t *left = json_object_get(job, "eta_s");
	uint64_t n = cli_u64(job, "done_bytes"), of = cli_u64(job, "all_bytes");

	if (!tty)
		return;
	if (json_is_integer(left))
		(void)lb_human_duration(eta, (uint64_t)json_integer_value(left) * 1000000000u);
	(void)fprintf(stderr, "\r%3u %%  %s of %s  %s/s%s%s   ",
		      of == 0 ? 0 : (unsigned)((double)n / (double)of * 100),
		      lb_human_bytes(done, n), lb_human_bytes(all, of),
		      lb_human_bytes(rate, cli_u64(job, "rate_bytes_per_s")),
		      eta[0] != '\0' ? "  ETA " : "", eta);
}

static int code_of(const char *name)
{
	for (int code = -1; code > -(int)LB_CODE_COUNT; code--)
		if (name != NULL && strcmp(lb_err_name(code), name) == 0)
			return code;
	return LB_EIO;
}

static int job_ended(struct cli *c, json_t *job, json_t **result)
{
	const json_t *e = json_object_get(job, "error");
	const char *msg = json_string_value(json_object_get(e, "message"));
	const char *state = json_string_value(json_object_get(job, "state"));
	int rc = 0;

	*result = json_incref(json_object_get(job, "result"));
	if (e != NULL)
		rc = lb_err_set(
			&c->err,
			(enum lb_code)code_of(json_string_value(json_object_get(e, "code"))), 0,
			"%s", msg != NULL ? msg : "the job ended with an error");
	else if (state == NULL || strcmp(state, "done") != 0)
		rc = lb_err_set(&c->err, LB_EPROTO, 0, "the job is %.40s, and no word why",
				state != NULL ? state : "gone");
	json_decref(job);
	return rc;
}

/* Wait a moment, or until somebody wants to end this. */
static bool interrupted(const sigset_t *signals)
{
	const struct timespec moment = {.tv_nsec = POLL_MS * 1000000L};

	return sigtimedwait(signals, NULL, &moment) > 0;
}

/* A job that nobody waits for any more would hold one of the agent's few places, and go on writing.
 */
static int cancel(struct cli *c, const char *where)
{
	json_t *o = NULL;
	char path[80];
	int rc;

	(void)fprintf(stderr, "%slifeboat: stopping it; ^C again leaves it to the agent\n",
		      isatty(2) != 0 ? "\n" : "");
	(void)snprintf(path, sizeof(path), "%s/cancel", where);
	rc = cli_call(c, "POST", path, NULL, &o);
	json_decref(o);
	return rc;
}

static int follow_job(struct cli *c, const char *where, const sigset_t *signals, json_t **out)
{
	bool tty = isatty(2) != 0 && !c->json, cancelled = false;
	json_t *job = NULL;
	int rc;

	for (;;) {
		const char *state;

		rc = cli_call(c, "GET", where, NULL, &job);
		if (rc != 0)
			return rc;
		state = json_string_value(json_object_get(job, "state"));
		show_progress(job, tty);
		if (state == NULL || strcmp(state, "running") != 0)
			break;
		json_decref(job);
		if (!interrupted(signals))
			continue;
		if (cancelled)
			return lb_err_set(&c->err, LB_ECANCELED, 0,
					  "the agent goes on with it (%s)", where);
		cancelled = true;
		rc = cancel(c, where);
		if (rc != 0)
			return rc;
	}
	if (tty)
		(void)fputc('\n', stderr);
	*out = job;
	return 0;
}

int cli_run_job(struct cli *c, const char *path, struct json_t *body, struct json_t **result)
{
	json_t *started = NULL, *job = NULL;
	sigset_t signals, before;
	char where[64];
	int rc;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &signals, &before);
	rc = cli_call(c, "POST", path, body, &started);
	if (rc == 0) {
		(void)snprintf(where, sizeof(where), "/v1/jobs/%.20s",
			       json_string_value(json_object_get(started, "job")));
		json_decref(started);
		rc = follow_job(c, where, &signals, &job);
	}
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return rc == 0 ? job_ended(c, job, result) : rc;
}

int cli_read_file(struct cli *c, const char *path, char **text)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *buf;
	size_t n;
	int rc = 0;

	if (f == NULL)
		return lb_err_errno(&c->err, errno, "open %s", path);
	buf = malloc(FILE_MAX + 1);
	if (buf == NULL)
		return lb_err_set(&c->err, LB_ENOMEM, 0, "read %s", path);
	n = fread(buf, 1, FILE_MAX + 1, f);
	if (ferror(f) != 0)
		rc = lb_err_errno(&c->err, errno, "read %s", path);
	else if (n > FILE_MAX)
		rc = lb_err_set(&c->err, LB_EINPUT, 0, "%s is larger than %u KiB", path,
				FILE_MAX >> 10);
	else if (memchr(buf, '\0', n) != NULL) /* what is behind it would be left out */
		rc = lb_err_set(&c->err, LB_EINPUT, 0, "%s is no text: it holds a zero byte", path);
	if (f != stdin)
		(void)fclose(f);
	if (rc != 0) {
		free(buf);
		return rc;
	}
	buf[n] = '\0';
	*text = buf;
	return 0;
}
