/*
 * siteagent/ctl.h - client of a site agent's control API (HTTP + JSON on a unix socket). All that
 * CLI and TUI may use.
 *
 * Answers are JSON (jansson). An error of the agent arrives as lb_err with the agent's own code and
 * message:
 *   {"error": {"code": "LB_EDENIED", "message": "...", "hint": "type the site's name: --confirm
 * tokyo"}} docs/control-api.md lists every path. Thread: one at a time per handle. Errors of our
 * own: LB_EAGAIN when nobody answers on the socket (names it), LB_EDENIED when the socket may not
 * be opened, LB_ECLOSED when the agent breaks off, LB_ETIMEDOUT, LB_EPROTO when the answer is not
 * JSON or larger than 16 MiB.
 */
#ifndef SITEAGENT_CTL_H
#define SITEAGENT_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct json_t;
struct sa_ctl;

#define SA_CTL_DEFAULT_SOCKET "/run/lifeboat/control.sock"

int sa_ctl_open(struct sa_ctl **out, const char *socket_path, uint64_t timeout_ns,
		struct lb_err *err);
void sa_ctl_close(struct sa_ctl *c);
/* @method "GET" or "POST"; @body may be NULL. *out is the caller's: json_decref(). @hint (may be
 * NULL) gets the agent's hint. */
int sa_ctl_call(struct sa_ctl *c, const char *method, const char *path, const struct json_t *body,
		struct json_t **out, char *hint, uint64_t hint_bytes, struct lb_err *err);
/* @text as one part of a path or value of a query: what has a meaning there becomes %XX. What does
 * not fit is cut. Returns @out. */
const char *sa_ctl_path_part(char *out, size_t out_bytes, const char *text);
/* The call that runs, and every later one, ends with LB_ECANCELED within about a second. Any
 * thread. */
void sa_ctl_abort(struct sa_ctl *c);

/*
 * The verbs of the `lifeboat` program, one list for dispatch, help, completion, manual page and the
 * terminal UI's command line. Words of @args and @options in capitals say what is meant: FILE GROUP
 * MACHINE MODE POINT RUN SITE STEP ...; optional ones stand in brackets.
 */
struct sa_verb {
	const char *noun, *verb; /* verb "" when the noun is all */
	const char *args;        /* "POINT FILE" */
	const char *options;     /* "--deep --group GROUP" */
	const char *help;        /* one line; gettext */
	const char *example;
	size_t min_args, max_args;
	bool changes; /* something, anywhere: not for who may only look */
};
/* Ends with noun NULL. */
const struct sa_verb *sa_ctl_verbs(void);

/*
 * What may stand next on a line of which @word[0..count-1] are there already, without "lifeboat".
 * @offer gets each literal word, and, with @kind true, what a name there means ("GROUP", "FILE"):
 * the caller knows the names.
 */
typedef void (*sa_offer_fn)(void *arg, const char *text, bool kind);
void sa_ctl_complete(const char *const *word, size_t count, sa_offer_fn offer, void *arg);

#endif
