/*
 * check_int.h - from a YAML document to a runbook, in three passes over the same nodes:
 *   fill.c   each map by its rows of the table: known keys, types, ranges
 *   check.c  builds the runbook: lists, steps, probes, maps, defaults
 *   lint.c   what only the whole can tell: ids, cycles, reachability, order, variables
 * Each pass notes every problem it finds and goes on.
 */
#ifndef RUNBOOKS_CHECK_INT_H
#define RUNBOOKS_CHECK_INT_H

#include "base/conf.h"
#include "runbooks/lang.h"
#include "table.h"

struct rb_check {
	struct lb_conf *c;
	struct rb_runbook *rb;
	const struct lb_conf_node **step_nodes; /* one per step */
	bool *step_bad; /* its own keys have problems: no rules about the whole for it */
	bool no_memory;
};

/* Fill @into from @map. @actions: the step's action as a bit, or RB_ALL_ACTIONS. */
void rb_fill(struct rb_check *k, const struct lb_conf_node *map, enum rb_sec sec, unsigned actions,
	     void *into);
/* The next choice of "a|b|c" into @out; returns the rest or NULL at the end. */
const char *rb_next_choice(const char *choices, char out[RB_NAME_BYTES]);
bool rb_name_ok(const char *text);
/* Text of a scalar that is a NAME, or NULL after noting a problem. */
const char *rb_name_of(struct rb_check *k, const struct lb_conf_node *n, const char *key);
/* Text of a scalar without control characters of 1..256 bytes, or NULL after noting a problem. */
const char *rb_text_of(struct rb_check *k, const struct lb_conf_node *n, const char *key);

void rb_check_document(struct rb_check *k, const struct lb_conf_node *root);
void rb_lint(struct rb_check *k, const struct lb_conf_node *root);

/* vars.c: the name behind "${" at @text, copied to @out; *rest is what follows "}". */
bool rb_var_name(const char *text, char out[RB_NAME_BYTES], const char **rest);
extern const char *const rb_fact_names[]; /* NULL-terminated */

#endif
