/* What the parts of conf.h share: the tree (conf.c) and the collected problems (conf_problem.c). */
#ifndef CONF_INT_H
#define CONF_INT_H

#include "base/conf.h"

/* A stretch of one source line, in characters. */
struct lb_conf_place {
	unsigned line;   /* from 1; 0: the document as a whole */
	unsigned column; /* from 1 */
	unsigned width;  /* characters to underline, at least 1 */
};

struct lb_conf_node {
	enum lb_conf_kind kind;
	struct lb_conf_place at;
	char *text;                  /* SCALAR */
	bool plain;                  /* SCALAR: written without quotes */
	bool refused;                /* a problem was noted already: no more about it */
	struct lb_conf_node **keys;  /* MAP: scalars */
	struct lb_conf_node **items; /* MAP, SEQ */
	size_t n;
};

struct lb_conf_note {
	struct lb_conf_place at;
	unsigned seq; /* order of noting, so that sorting is stable */
	char msg[256];
};

struct lb_conf {
	char *name;
	char *text; /* as given, NUL-terminated, for the source lines */
	size_t len;
	struct lb_conf_node *root; /* never NULL after a parse */
	size_t nodes;
	struct lb_conf_note *notes;
	size_t problems; /* counted; at most LB_CONF_NOTES are kept */
	char *rendered;  /* lb_conf_problems() */
};

#define LB_CONF_NOTES 100u

void lb_conf_note(struct lb_conf *c, struct lb_conf_place at, const char *fmt, ...) LB_PRINTF(3, 4);

#endif
