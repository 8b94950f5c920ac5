/*
 * ui-tui/src/link_int.h - questions to the agent, asked on a thread of their own.
 *
 * Two of them run in a UI: one looks, one acts, so that a slow answer to one kind does not hold up
 * the other. Questions are asked in order; the answer comes back on the loop, always, once, also
 * when the agent is away. Thread: the loop's.
 */
#ifndef UI_LINK_INT_H
#define UI_LINK_INT_H

#include <stdint.h>

struct json_t;
struct lb_err;
struct lb_loop;
struct ui_link;

/* @rc 0: @body (borrowed); else @message and @hint (may be ""). */
typedef void (*ui_link_fn)(void *arg, uint64_t id, int rc, const struct json_t *body,
			   const char *message, const char *hint);

int ui_link_create(struct ui_link **out, struct lb_loop *loop, const char *socket_path,
		   uint64_t timeout_ns, ui_link_fn fn, void *arg, struct lb_err *err);
/* @method is borrowed for good, @path copied, @body taken (may be NULL). */
void ui_link_ask(struct ui_link *l, uint64_t id, const char *method, const char *path,
		 struct json_t *body);
/* Breaks off the question that is asked (within a second); answers nothing any more. */
void ui_link_destroy(struct ui_link *l);

#endif
