/*
 * siteagent/src/api_parse_int.h - a request of the control API, from bytes to parts.
 *
 * Pure and free of sockets, so that the fuzzer and the tests reach all of it. Limits: 8 parts of a
 * path, a body nested 16 deep; its size is bounded by who reads it (api.c: 1 MiB).
 */
#ifndef SITEAGENT_API_PARSE_INT_H
#define SITEAGENT_API_PARSE_INT_H

#include <stdbool.h>
#include <stddef.h>

struct json_t;
struct lb_err;

#define SA_API_PARTS_MAX 8u

struct sa_api_parsed {
	char *path;                              /* owned; parts point into it */
	const char *part[SA_API_PARTS_MAX + 1u]; /* after "/v1/", NULL-terminated, at least one */
	struct json_t *query;                    /* object of strings */
	struct json_t *body;                     /* object, or NULL: there was none */
};

/* @url: percent-decoded, without the query. On success *out is the caller's:
 * sa_api_parsed_fini(). Errors: LB_EINPUT (method, body), LB_ENOTFOUND (no path of ours),
 * LB_ENOMEM. */
int sa_api_parse(struct sa_api_parsed *out, const char *method, const char *url, const char *body,
		 size_t body_len, struct lb_err *err);
/* Add one decoded query argument; @value may be NULL. Of equal keys the last holds. */
void sa_api_parsed_query(struct sa_api_parsed *p, const char *key, const char *value);
void sa_api_parsed_fini(struct sa_api_parsed *p);

/* Does "points/<any>/verify" (written with an asterisk for <any>) fit @part? */
bool sa_api_matches(const char *pattern, const char *const *part);
/* INPUT 400, 403 (LB_EDENIED) or 404 (LB_ENOTFOUND); RETRY 503; FENCE 409; else 500. */
unsigned sa_api_http_status(int code);
/* {"error": {"code", "message", "hint"}}; @hint may be NULL. */
struct json_t *sa_api_error_json(const struct lb_err *err, const char *hint);

#endif
