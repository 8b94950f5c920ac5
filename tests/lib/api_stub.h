/*
 * tests/lib/api_stub.h - the control API's handlers (agent_api.c, agent_work.c) without an agent:
 * everything they call is a stub that answers at once, so a request can be tried from its bytes to
 * its answer in one call.
 */
#ifndef TESTS_API_STUB_H
#define TESTS_API_STUB_H

#include <stddef.h>

#include "base/err.h"

struct json_t;

struct api_stub_answer {
	unsigned times;      /* must be 1 */
	struct json_t *body; /* of a success; json_decref() */
	struct lb_err err;   /* of a failure */
	char hint[512];
	char did[64]; /* the last thing that changes something: "run_start drill" */
};

/* @target: "/v1/points?max=3", not percent-encoded. */
void api_stub_call(struct api_stub_answer *out, const char *method, const char *target,
		   const char *body, size_t body_len);

#endif
