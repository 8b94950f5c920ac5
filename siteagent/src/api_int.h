/*
 * siteagent/src/api_int.h - the control API's server: libmicrohttpd on a unix socket, jansson.
 *
 * Requests are parsed on libmicrohttpd's thread (1 MiB body, depth 16, 64 connections) and handed
 * to the main loop; the answer may come later. Authority by SO_PEERCRED: uid 0 and the agent's own
 * uid may do everything, others (members of the socket's group) may look: GET, and what the owner
 * says changes nothing. Dangerous verbs need
 * "confirm", the typed name of the site they act on: the API itself refuses without it
 * (LB_EDENIED), so no client can forget to ask.
 */
#ifndef SITEAGENT_API_INT_H
#define SITEAGENT_API_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct json_t;
struct lb_err;
struct lb_loop;
struct sa_api;
struct sa_api_request;

/* Parts of the path after "/v1/"; @query: object of strings; @body: NULL or an object. All borrowed
 * until answered. */
struct sa_api_call {
	const char *method;      /* "GET", "POST" */
	const char *const *part; /* NULL-terminated: "points", "ab12", "verify" */
	const struct json_t *query, *body;
	uid_t uid;
	bool read_only; /* this peer may only read */
};
/* On the loop's thread; answer exactly once, now or later. */
typedef void (*sa_api_fn)(void *arg, struct sa_api_request *rq, const struct sa_api_call *call);
/* Does a POST to this path change nothing? Pure; on libmicrohttpd's thread. */
typedef bool (*sa_api_looks_fn)(const char *const *part);

/* Errors: LB_EINPUT (path too long), LB_EBUSY (another agent answers there), LB_EEXIST (something
 * that is no socket is there), LB_EIO. */
int sa_api_create(struct sa_api **out, struct lb_loop *loop, const char *socket_path, sa_api_fn fn,
		  sa_api_looks_fn looks, void *arg, struct lb_err *err);
/* On the loop's thread. What was not answered yet is answered LB_ECLOSED, and its request is gone:
 * nobody may answer it any more. Waits at most a second for clients to take their answers. */
void sa_api_destroy(struct sa_api *a);
/* Takes @body. Thread: the loop's. */
void sa_api_answer(struct sa_api_request *rq, struct json_t *body);
/* HTTP status from the code's class; @hint may be NULL. */
void sa_api_fail(struct sa_api_request *rq, const struct lb_err *err, const char *hint);

#endif
