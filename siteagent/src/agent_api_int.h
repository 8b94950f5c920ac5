/*
 * siteagent/src/agent_api_int.h - what the handlers of the control API share (agent_api.c: the
 * table and what is answered at once; agent_work.c: what becomes a job).
 *
 * A handler answers its call exactly once. Thread: the loop's.
 */
#ifndef SITEAGENT_AGENT_API_INT_H
#define SITEAGENT_AGENT_API_INT_H

#include <stdbool.h>

#include "agent_int.h"

struct call {
	struct sa_agent *agent;
	struct sa_api_request *rq;
	const struct sa_api_call *api; /* only until the handler returns */
};

/* A text field of the body, else of the query; NULL: none. Borrowed from the call. */
const char *sa_call_text(const struct call *c, const char *key);
void sa_call_fail(struct call *c, int code, const char *msg);
/* The recovery point @text names, in the group that "group" names if there is one. false: the error
 * is answered already. */
bool sa_call_point(struct call *c, const char *text, struct rep_point *out);

/* vms.c: answered once machines were asked. */
void sa_get_vms(struct call *c);
void sa_get_cpu(struct call *c); /* vmcpu.c */
void sa_get_vm(struct call *c);
void sa_post_vm_command(struct call *c);
/* agent_work.c: each starts a job and answers its id. */
void sa_post_verify(struct call *c);
void sa_post_point_verify(struct call *c);
void sa_post_point_export(struct call *c);
void sa_post_catalog_rebuild(struct call *c);

#endif
