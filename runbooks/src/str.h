/*
 * str.h - a growing text for what people and editors read (plan, schema, reference). Out of memory
 * is sticky: append freely, check once with rb_str_take().
 */
#ifndef RUNBOOKS_STR_H
#define RUNBOOKS_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct rb_str {
	char *p;
	size_t len, cap;
	bool bad;
};

void rb_str_add(struct rb_str *s, const char *fmt, ...) LB_PRINTF(2, 3);
/* @text as a JSON string with its quotes. */
void rb_str_add_json(struct rb_str *s, const char *text);
/* The text, to be freed by the caller; NULL when memory ran out. @s is empty afterwards. */
char *rb_str_take(struct rb_str *s);

#define RB_DURATION_TEXT 32u
/* "1m30s": at most two units, cut to the smaller; returns @out. */
const char *rb_duration_text(char out[RB_DURATION_TEXT], uint64_t ns);

#endif
