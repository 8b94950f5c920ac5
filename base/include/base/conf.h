/*
 * base/conf.h - YAML read through one table: libfyaml underneath, our typing and our errors on top.
 *
 * Restrictions (design: what an operator writes must mean one thing): UTF-8, one document, no
 * anchors, aliases, tags or merge keys, no duplicate keys, depth <= 16, size <= 1 MiB. Every scalar
 * is typed by the table of whoever reads it, never by YAML's guessing ("no" is a string unless the
 * table says bool).
 *
 * Errors are collected, all of one run, each as
 *   site.yaml:4:9: error: unknown key "lisen", did you mean "listen"?
 *       4 |   lisen: 127.0.0.1:7400
 *         |   ^~~~~
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct lb_conf;      /* a parsed document and its collected problems */
struct lb_conf_node; /* borrowed from the document */

/* Parse @len bytes named @name in messages. A document that is not even YAML gives LB_EINPUT and a
 * conf object whose lb_conf_problems() say where. *out is set whenever memory allows. */
int lb_conf_parse(struct lb_conf **out, const char *name, const char *text, size_t len,
		  struct lb_err *err);
int lb_conf_parse_file(struct lb_conf **out, const char *path, struct lb_err *err);
void lb_conf_destroy(struct lb_conf *c);

/* Never NULL: an empty document, or one that is not YAML, is a map without keys. */
const struct lb_conf_node *lb_conf_root(const struct lb_conf *c);

enum lb_conf_kind {
	LB_CONF_SCALAR,
	LB_CONF_SEQ,
	LB_CONF_MAP
};
enum lb_conf_kind lb_conf_kind(const struct lb_conf_node *n);
const char *lb_conf_text(const struct lb_conf_node *n); /* scalar's text; NULL otherwise */
size_t lb_conf_count(const struct lb_conf_node *n);     /* items of a seq or map */
const struct lb_conf_node *lb_conf_item(const struct lb_conf_node *n, size_t i); /* value */
const char *lb_conf_key(const struct lb_conf_node *map, size_t i);
const struct lb_conf_node *lb_conf_key_node(const struct lb_conf_node *map, size_t i);
const struct lb_conf_node *lb_conf_get(const struct lb_conf_node *map,
				       const char *key); /* or NULL */
unsigned lb_conf_line(const struct lb_conf_node *n);     /* from 1 */
unsigned lb_conf_column(const struct lb_conf_node *n);

/* Note a problem at @n (NULL: the document). Bounded: after 100 the rest is counted only. */
void lb_conf_problem(struct lb_conf *c, const struct lb_conf_node *n, const char *fmt, ...)
	LB_PRINTF(3, 4);
size_t lb_conf_problem_count(const struct lb_conf *c);
/* All problems with source line and caret; owned by @c. */
const char *lb_conf_problems(struct lb_conf *c);
/* 0, or LB_EINPUT with the first problem's line in @err when there is any. */
int lb_conf_check(struct lb_conf *c, struct lb_err *err);

/* ---- typed table ---- */
enum lb_conf_type {
	LB_CT_STR,      /* char[max+1] inside the struct; min/max are lengths */
	LB_CT_NAME,     /* as STR, but only [A-Za-z0-9._-], 1..64, not '.' or '-' first */
	LB_CT_U64,      /* uint64_t */
	LB_CT_BYTES,    /* uint64_t; "64 MiB", "1GiB", plain number */
	LB_CT_DURATION, /* uint64_t ns; "5s", "250ms", "2h", "7d" */
	LB_CT_BOOL,     /* bool; true/false only */
	LB_CT_ENUM,     /* int; names in .choices, "a|b|c", value = position */
};
struct lb_conf_field {
	const char *key;
	enum lb_conf_type type;
	bool reloadable;
	size_t offset;       /* offsetof() in the struct that is filled */
	size_t size;         /* STR/NAME: bytes of the char array */
	uint64_t min, max;   /* of numbers in their unit; 0,0 = any */
	const char *dflt;    /* as an operator would write it; NULL = required */
	const char *choices; /* ENUM only */
	const char *help;    /* one line, ends without a dot */
};
/* Fill @into from map @map (NULL: nothing was written, every default) by @fields (ended by key
 * NULL). Unknown keys (with "did you mean"), missing required keys, wrong types and ranges become
 * problems of @c. Keys listed in @also (NULL-terminated, may be NULL) are left alone. */
void lb_conf_fill(struct lb_conf *c, const struct lb_conf_node *map,
		  const struct lb_conf_field *fields, const char *const *also, void *into);

/* The nearest of @words (NULL-terminated) by edit distance <= 2, or NULL. For "did you mean". */
const char *lb_nearest_word(const char *word, const char *const *words);
/* The parsers behind BYTES and DURATION, for command lines. Errors: LB_EINPUT. */
int lb_parse_bytes(uint64_t *out, const char *text, struct lb_err *err);
int lb_parse_duration_ns(uint64_t *out, const char *text, struct lb_err *err);

#endif
