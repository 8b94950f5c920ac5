#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "conf_int.h"
#include "words_int.h"

enum {
	MAX_WORDS = 128,
	MAX_CHOICES = 32,
	CHOICE_BYTES = 64,
	REASON_BYTES = 200
};

/* One value on its way into the struct. */
struct value {
	const struct lb_conf_field *field;
	const char *text;
	char *to;                  /* the member */
	char reason[REASON_BYTES]; /* why it was refused */
};

static bool refuse(struct value *v, const char *fmt, ...) LB_PRINTF(2, 3);
static bool refuse(struct value *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(v->reason, sizeof(v->reason), fmt, ap);
	va_end(ap);
	return false;
}

/* A number as an operator writes it in a field of that type, for messages about ranges. */
static const char *amount(char *buf, size_t cap, enum lb_conf_type type, uint64_t n)
{
	static const struct {
		uint64_t factor;
		const char *unit;
	} bytes[] = {{1ull << 40, " TiB"},
		     {1ull << 30, " GiB"},
		     {1ull << 20, " MiB"},
		     {1ull << 10, " KiB"},
		     {1, " B"}},
	  times[] = {{86400000000000ull, "d"},
		     {3600000000000ull, "h"},
		     {60000000000ull, "m"},
		     {1000000000ull, "s"},
		     {1000000ull, "ms"},
		     {1000ull, "us"},
		     {1, "ns"}};
	size_t i = 0;

	if (type == LB_CT_BYTES && n != 0) {
		while (n % bytes[i].factor != 0)
			i++;
		(void)snprintf(buf, cap, "%" PRIu64 "%s", n / bytes[i].factor, bytes[i].unit);
	} else if (type == LB_CT_DURATION && n != 0) {
		while (n % times[i].factor != 0)
			i++;
		(void)snprintf(buf, cap, "%" PRIu64 "%s", n / times[i].factor, times[i].unit);
	} else {
		(void)snprintf(buf, cap, "%" PRIu64, n);
	}
	return buf;
}

static bool in_range(struct value *v, uint64_t n)
{
	const struct lb_conf_field *f = v->field;
	char lo[32];
	char hi[32];

	if ((f->min == 0 && f->max == 0) || (n >= f->min && (f->max == 0 || n <= f->max)))
		return true;
	(void)amount(lo, sizeof(lo), f->type, f->min);
	(void)amount(hi, sizeof(hi), f->type, f->max);
	if (f->max == 0)
		return refuse(v, "%.32s is below the minimum %s", v->text, lo);
	return refuse(v, "%.32s is outside %s to %s", v->text, lo, hi);
}

static bool put_u64(struct value *v, uint64_t n)
{
	if (!in_range(v, n))
		return false;
	memcpy(v->to, &n, sizeof(n));
	return true;
}

static bool put_text(struct value *v, size_t least, size_t most)
{
	size_t len = strlen(v->text);

	LB_ASSERT(v->field->size > 0);
	if (most == 0 || most > v->field->size - 1)
		most = v->field->size - 1;
	if (len < least || len > most)
		return refuse(v, "%zu bytes long, must be %zu to %zu", len, least, most);
	memcpy(v->to, v->text, len + 1);
	return true;
}

static bool put_name(struct value *v)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t good = strspn(v->text, allowed);

	if (v->text[good] != 0)
		return refuse(v, "\"%.64s\" is not a name (letters, digits, '.', '_', '-')",
			      v->text);
	/* Names become file names and arguments of programs. */
	if (v->text[0] == '.' || v->text[0] == '-')
		return refuse(v, "\"%.64s\" is not a name: it starts with '%c'", v->text,
			      v->text[0]);
	return put_text(v, 1, 64);
}

static bool put_bool(struct value *v)
{
	bool b = strcmp(v->text, "true") == 0;

	if (!b && strcmp(v->text, "false") != 0)
		return refuse(v, "\"%.32s\" is neither true nor false", v->text);
	memcpy(v->to, &b, sizeof(b));
	return true;
}

/* Split "a|b|c" into @out, ended by NULL. */
static void split_choices(const char *choices, char out[MAX_CHOICES][CHOICE_BYTES],
			  const char *words[MAX_CHOICES + 1])
{
	size_t n = 0;

	for (;;) {
		size_t len = strcspn(choices, "|");

		LB_ASSERT(n < MAX_CHOICES && len < CHOICE_BYTES);
		memcpy(out[n], choices, len);
		out[n][len] = 0;
		words[n] = out[n];
		n++;
		if (choices[len] == 0)
			break;
		choices += len + 1;
	}
	words[n] = NULL;
}

static bool put_enum(struct value *v)
{
	char names[MAX_CHOICES][CHOICE_BYTES];
	const char *words[MAX_CHOICES + 1];
	const char *near;

	split_choices(v->field->choices, names, words);
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(v->text, words[i]) == 0) {
			memcpy(v->to, &i, sizeof(i));
			return true;
		}
	}
	near = lb_nearest_word(v->text, words);
	if (near != NULL)
		return refuse(v, "\"%.32s\" is none of %s, did you mean \"%s\"?", v->text,
			      v->field->choices, near);
	return refuse(v, "\"%.32s\" is none of %s", v->text, v->field->choices);
}

static bool put_parsed(struct value *v,
		       int (*parse)(uint64_t *out, const char *text, struct lb_err *err))
{
	struct lb_err err;
	uint64_t n = 0;

	if (parse(&n, v->text, &err) != 0)
		return refuse(v, "%.*s", REASON_BYTES - 1, err.msg);
	return put_u64(v, n);
}

static bool put_number(struct value *v)
{
	uint64_t n = 0;
	const char *rest = lb_read_u64(v->text, &n);

	if (rest == NULL || *rest != 0)
		return refuse(v, "\"%.32s\" is not a whole number", v->text);
	return put_u64(v, n);
}

static bool put_value(struct value *v)
{
	switch (v->field->type) {
	case LB_CT_STR:
		return put_text(v, (size_t)v->field->min, (size_t)v->field->max);
	case LB_CT_NAME:
		return put_name(v);
	case LB_CT_U64:
		return put_number(v);
	case LB_CT_BYTES:
		return put_parsed(v, lb_parse_bytes);
	case LB_CT_DURATION:
		return put_parsed(v, lb_parse_duration_ns);
	case LB_CT_BOOL:
		return put_bool(v);
	case LB_CT_ENUM:
		return put_enum(v);
	}
	return refuse(v, "a type that the table does not know");
}

static void fill_default(const struct lb_conf_field *f, void *into)
{
	struct value v = {.field = f, .text = f->dflt, .to = (char *)into + f->offset};

	if (f->dflt != NULL && !put_value(&v))
		lb_assert_fail(f->key, 0, v.reason); /* the table contradicts itself */
}

static void fill_one(struct lb_conf *c, const struct lb_conf_field *f, const struct lb_conf_node *n,
		     void *into)
{
	struct value v = {.field = f, .text = lb_conf_text(n), .to = (char *)into + f->offset};

	if (n->refused)
		return;
	if (v.text == NULL)
		lb_conf_problem(c, n, "%s: expected one value, not a %s", f->key,
				n->kind == LB_CONF_MAP ? "mapping" : "list");
	else if (n->plain && v.text[0] == 0)
		lb_conf_problem(c, n, "%s: no value", f->key);
	else if (!put_value(&v))
		lb_conf_problem(c, n, "%s: %s", f->key, v.reason);
}

static size_t collect_words(const struct lb_conf_field *fields, const char *const *also,
			    const char *words[MAX_WORDS + 1])
{
	size_t n = 0;

	for (; fields->key != NULL; fields++) {
		LB_ASSERT(n < MAX_WORDS);
		words[n++] = fields->key;
	}
	for (; also != NULL && *also != NULL; also++) {
		LB_ASSERT(n < MAX_WORDS);
		words[n++] = *also;
	}
	words[n] = NULL;
	return n;
}

static bool is_known(const char *key, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (strcmp(key, *words) == 0)
			return true;
	}
	return false;
}

static void check_unknown(struct lb_conf *c, const struct lb_conf_node *map,
			  const char *const *words)
{
	for (size_t i = 0; i < map->n; i++) {
		const struct lb_conf_node *key = map->keys[i];
		const char *near;

		/* Empty and merge keys have their own message. */
		if (is_known(key->text, words) || key->text[0] == 0 || strcmp(key->text, "<<") == 0)
			continue;
		near = lb_nearest_word(key->text, words);
		if (near != NULL)
			lb_conf_problem(c, key, "unknown key \"%.64s\", did you mean \"%s\"?",
					key->text, near);
		else
			lb_conf_problem(c, key, "unknown key \"%.64s\"", key->text);
	}
}

void lb_conf_fill(struct lb_conf *c, const struct lb_conf_node *map,
		  const struct lb_conf_field *fields, const char *const *also, void *into)
{
	const char *words[MAX_WORDS + 1];
	bool is_map = map != NULL && map->kind == LB_CONF_MAP;

	(void)collect_words(fields, also, words);
	if (is_map)
		check_unknown(c, map, words);
	else if (map != NULL && !map->refused)
		lb_conf_problem(c, map, "expected a mapping (key: value)");
	for (const struct lb_conf_field *f = fields; f->key != NULL; f++) {
		const struct lb_conf_node *n = is_map ? lb_conf_get(map, f->key) : NULL;

		fill_default(f, into);
		if (n != NULL)
			fill_one(c, f, n, into);
		else if (f->dflt == NULL && (map == NULL || is_map))
			lb_conf_problem(c, map, "missing key \"%s\": %s", f->key,
					f->help != NULL ? f->help : "required");
	}
}
