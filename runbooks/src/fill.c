#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "check_int.h"

_Static_assert(sizeof(enum rb_policy) == sizeof(int), "enums are ints to the table");
_Static_assert(sizeof(enum rb_action) == sizeof(int), "enums are ints to the table");

const char *rb_next_choice(const char *choices, char out[RB_NAME_BYTES])
{
	size_t n = strcspn(choices, "|");

	if (*choices == '\0')
		return NULL;
	LB_ASSERT(n < RB_NAME_BYTES);
	memcpy(out, choices, n);
	out[n] = '\0';
	return choices[n] == '|' ? choices + n + 1 : choices + n;
}

static void choices_for_people(char *out, size_t out_bytes, const char *key, const char *choices)
{
	bool actions = strcmp(key, "action") == 0;
	char word[RB_NAME_BYTES];
	size_t len = 0;

	out[0] = '\0';
	for (int i = 0; (choices = rb_next_choice(choices, word)) != NULL && len < out_bytes; i++)
		if (!actions || rb_action_available((enum rb_action)i))
			len += (size_t)snprintf(out + len, out_bytes - len, "%s%s",
						len != 0 ? ", " : "", word);
}

/* Position of @text in @choices, or -1 after noting a problem at @n. */
static int pick_of(struct rb_check *k, const struct lb_conf_node *n, const char *key,
		   const char *choices, const char *text)
{
	char words[RB_ACTION_COUNT + 1][RB_NAME_BYTES];
	const char *list[RB_ACTION_COUNT + 2] = {NULL};
	const char *at = choices, *near;
	char all[256];
	size_t count = 0;

	while (count <= RB_ACTION_COUNT && (at = rb_next_choice(at, words[count])) != NULL) {
		if (strcmp(words[count], text) == 0)
			return (int)count;
		list[count] = words[count];
		count++;
	}
	near = lb_nearest_word(text, list);
	choices_for_people(all, sizeof(all), key, choices);
	if (near != NULL)
		lb_conf_problem(k->c, n, "%s: no such value \"%.64s\", did you mean \"%s\"?", key,
				text, near);
	else
		lb_conf_problem(k->c, n, "%s: no such value \"%.64s\"; one of: %s", key, text, all);
	return -1;
}

bool rb_name_ok(const char *text)
{
	size_t n =
		strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n >= 1 && n < RB_NAME_BYTES && text[n] == '\0';
}

static const char *scalar_of(struct rb_check *k, const struct lb_conf_node *n, const char *key)
{
	if (lb_conf_kind(n) != LB_CONF_SCALAR) {
		lb_conf_problem(k->c, n, "%s: one value expected, not a %s", key,
				lb_conf_kind(n) == LB_CONF_SEQ ? "list" : "map");
		return NULL;
	}
	return lb_conf_text(n);
}

const char *rb_name_of(struct rb_check *k, const struct lb_conf_node *n, const char *key)
{
	const char *text = scalar_of(k, n, key);

	if (text != NULL && !rb_name_ok(text)) {
		lb_conf_problem(k->c, n, "%s: a name is 1 to 64 of A-Z a-z 0-9 . _ -", key);
		return NULL;
	}
	return text;
}

const char *rb_text_of(struct rb_check *k, const struct lb_conf_node *n, const char *key)
{
	const char *text = scalar_of(k, n, key);

	if (text == NULL)
		return NULL;
	if (text[0] == '\0' || strlen(text) >= RB_TEXT_BYTES) {
		lb_conf_problem(k->c, n, "%s: 1 to %u bytes expected", key, RB_TEXT_BYTES - 1);
		return NULL;
	}
	for (const char *p = text; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			lb_conf_problem(k->c, n, "%s: holds a control character", key);
			return NULL;
		}
	}
	return text;
}

static bool number_of(struct rb_check *k, const struct lb_conf_node *n, const struct rb_key *row,
		      uint64_t max, uint64_t *out)
{
	const char *text = scalar_of(k, n, row->key);
	uint64_t min = row->min, v = 0;
	size_t len;

	if (text == NULL)
		return false;
	if (row->max != 0)
		max = row->max;
	len = strspn(text, "0123456789");
	for (size_t i = 0; i < len && i < 12; i++)
		v = v * 10 + (uint64_t)(text[i] - '0');
	if (len == 0 || len > 12 || text[len] != '\0' || v < min || v > max) {
		lb_conf_problem(k->c, n, "%s: \"%.64s\" is not a whole number from %llu to %llu",
				row->key, text, (unsigned long long)min, (unsigned long long)max);
		return false;
	}
	*out = v;
	return true;
}

static bool duration_of(struct rb_check *k, const struct lb_conf_node *n, const struct rb_key *row,
			const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (lb_parse_duration_ns(&v, text, NULL) != 0) {
		lb_conf_problem(k->c, n,
				"%s: \"%.64s\" is not a duration, such as 250ms, 30s, 5m, 2h, 7d",
				row->key, text);
		return false;
	}
	if (v < row->min || v > row->max) {
		lb_conf_problem(k->c, n, "%s: \"%.64s\" is too %s", row->key, text,
				v < row->min ? "short" : "long");
		return false;
	}
	*out = v;
	return true;
}

static void fill_range(struct rb_check *k, const struct lb_conf_node *n, const struct rb_key *row,
		       uint64_t *into)
{
	const char *text = scalar_of(k, n, row->key);
	char low[32];
	const char *dots;
	size_t len;

	if (text == NULL)
		return;
	dots = strstr(text, "..");
	len = dots != NULL ? (size_t)(dots - text) : strlen(text);
	if (len >= sizeof(low)) {
		lb_conf_problem(k->c, n, "%s: \"%.64s\" is not a range, such as 10s..60s", row->key,
				text);
		return;
	}
	memcpy(low, text, len);
	low[len] = '\0';
	if (!duration_of(k, n, row, low, &into[0]))
		return;
	into[1] = into[0];
	if (dots != NULL && duration_of(k, n, row, dots + 2, &into[1]) && into[1] < into[0])
		lb_conf_problem(k->c, n, "%s: ends below its start", row->key);
}

static void fill_set(struct rb_check *k, const struct lb_conf_node *n, const struct rb_key *row,
		     unsigned *into)
{
	unsigned bits = 0;

	if (lb_conf_kind(n) != LB_CONF_SEQ || lb_conf_count(n) == 0) {
		lb_conf_problem(k->c, n, "%s: a list with at least one value expected", row->key);
		return;
	}
	for (size_t i = 0; i < lb_conf_count(n); i++) {
		const struct lb_conf_node *item = lb_conf_item(n, i);
		const char *text = scalar_of(k, item, row->key);
		int at = text != NULL ? pick_of(k, item, row->key, row->choices, text) : -1;

		if (at >= 0 && (bits & (1u << at)) != 0)
			lb_conf_problem(k->c, item, "%s: \"%s\" is there twice", row->key, text);
		if (at >= 0)
			bits |= 1u << at;
	}
	*into = bits;
}

/* Up to three digits and what follows them; a value no field takes when there are none. */
static unsigned small_number(const char **text)
{
	unsigned v = 0, digits = 0;

	for (; digits < 3 && **text >= '0' && **text <= '9'; digits++)
		v = v * 10 + (unsigned)(*(*text)++ - '0');
	return digits != 0 ? v : UINT32_MAX;
}

/* Dotted quad and length; strict, as inet_pton() would also take a lone address. */
static bool parse_cidr(const char *text, uint32_t *addr, unsigned *bits)
{
	*addr = 0;
	for (int i = 0; i < 4; i++) {
		unsigned byte = small_number(&text);

		if (byte > 255 || *text++ != (i < 3 ? '.' : '/'))
			return false;
		*addr = *addr << 8 | byte;
	}
	*bits = small_number(&text);
	return *bits <= 32 && *text == '\0';
}

static void fill_cidr(struct rb_check *k, const struct lb_conf_node *n, const struct rb_key *row,
		      struct rb_cidr *into)
{
	const char *text = scalar_of(k, n, row->key);
	uint32_t addr, mask;
	unsigned bits;

	if (text == NULL)
		return;
	if (!parse_cidr(text, &addr, &bits)) {
		lb_conf_problem(k->c, n, "%s: \"%.64s\" is not an IPv4 range, such as 192.0.2.0/24",
				row->key, text);
		return;
	}
	mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
	if ((addr & ~mask) != 0) {
		lb_conf_problem(k->c, n, "%s: \"%s\" has bits set behind its first %u", row->key,
				text, bits);
		return;
	}
	*into = (struct rb_cidr){.addr = addr, .bits = (uint8_t)bits};
}

static void fill_string(char *into, const char *text, size_t bytes)
{
	if (text != NULL)
		(void)snprintf(into, bytes, "%s", text);
}

static void fill_one(struct rb_check *k, const struct lb_conf_node *n, const struct rb_key *row,
		     unsigned char *into)
{
	void *at = into + row->offset;
	const char *text;
	uint64_t v = 0;
	int pick;

	switch (row->type) {
	case RB_KT_CONST:
		text = scalar_of(k, n, row->key);
		if (text != NULL && strcmp(text, row->choices) != 0)
			lb_conf_problem(k->c, n, "%s: must be \"%s\"", row->key, row->choices);
		break;
	case RB_KT_NAME:
		fill_string(at, rb_name_of(k, n, row->key), RB_NAME_BYTES);
		break;
	case RB_KT_REF:
		(void)rb_name_of(k, n, row->key);
		break;
	case RB_KT_TEXT:
		fill_string(at, rb_text_of(k, n, row->key), RB_TEXT_BYTES);
		break;
	case RB_KT_U32:
		if (number_of(k, n, row, UINT32_MAX, &v))
			*(uint32_t *)at = (uint32_t)v;
		break;
	case RB_KT_PORT:
		if (number_of(k, n, &(struct rb_key){.key = row->key, .min = 1}, 65535, &v))
			*(uint16_t *)at = (uint16_t)v;
		break;
	case RB_KT_DURATION:
		text = scalar_of(k, n, row->key);
		if (text != NULL)
			(void)duration_of(k, n, row, text, at);
		break;
	case RB_KT_RANGE:
		fill_range(k, n, row, at);
		break;
	case RB_KT_ENUM:
		text = scalar_of(k, n, row->key);
		pick = text != NULL ? pick_of(k, n, row->key, row->choices, text) : -1;
		if (pick >= 0)
			*(int *)at = pick;
		break;
	case RB_KT_SET:
		fill_set(k, n, row, at);
		break;
	case RB_KT_CIDR:
		fill_cidr(k, n, row, at);
		break;
	case RB_KT_LATER:
		lb_conf_problem(k->c, n, "%s: not available in this version", row->key);
		break;
	case RB_KT_NAMES:
	case RB_KT_ARGV:
	case RB_KT_VARS:
	case RB_KT_MAP:
	case RB_KT_MAP_OF:
	case RB_KT_LIST_OF:
		break; /* check.c builds these */
	}
}

static const struct rb_key *find_row(enum rb_sec sec, const char *key)
{
	for (size_t i = 0; i < rb_key_count; i++)
		if (rb_keys[i].sec == sec && strcmp(rb_keys[i].key, key) == 0)
			return &rb_keys[i];
	return NULL;
}

static void unknown_key(struct rb_check *k, const struct lb_conf_node *at, const char *key,
			enum rb_sec sec, unsigned actions)
{
	const char *words[64] = {NULL};
	const char *near;
	size_t count = 0;

	for (size_t i = 0; i < rb_key_count && count < 63; i++)
		if (rb_keys[i].sec == sec &&
		    (sec != RB_SEC_STEP || (rb_keys[i].actions & actions) != 0))
			words[count++] = rb_keys[i].key;
	near = lb_nearest_word(key, words);
	if (near != NULL)
		lb_conf_problem(k->c, at, "unknown key \"%.64s\", did you mean \"%s\"?", key, near);
	else
		lb_conf_problem(k->c, at, "unknown key \"%.64s\" in %s", key, rb_sec_names[sec]);
}

static const char *action_of(unsigned actions)
{
	for (int a = 0; a < RB_ACTION_COUNT; a++)
		if (actions == RB_BIT(a))
			return rb_action_name((enum rb_action)a);
	return "?";
}

void rb_fill(struct rb_check *k, const struct lb_conf_node *map, enum rb_sec sec, unsigned actions,
	     void *into)
{
	for (size_t i = 0; i < lb_conf_count(map); i++) {
		const char *key = lb_conf_key(map, i);
		const struct rb_key *row = find_row(sec, key);

		if (row == NULL)
			unknown_key(k, lb_conf_key_node(map, i), key, sec, actions);
		else if (sec == RB_SEC_STEP && (row->actions & actions) == 0)
			lb_conf_problem(k->c, lb_conf_key_node(map, i),
					"key \"%s\" does not belong to action %s", key,
					action_of(actions));
		else
			fill_one(k, lb_conf_item(map, i), row, into);
	}
	for (size_t i = 0; i < rb_key_count; i++) {
		const struct rb_key *row = &rb_keys[i];
		bool all = (row->required & RB_ALL_ACTIONS) == RB_ALL_ACTIONS || sec != RB_SEC_STEP;

		if (row->sec != sec || (row->required & actions) == 0 ||
		    lb_conf_get(map, row->key) != NULL)
			continue;
		if (!all && actions == RB_ALL_ACTIONS)
			continue; /* which it needs depends on an action that is not known */
		if (all)
			lb_conf_problem(k->c, map, "missing key \"%s\" in %s", row->key,
					rb_sec_names[sec]);
		else
			lb_conf_problem(k->c, map, "missing key \"%s\": action %s needs it",
					row->key, action_of(actions));
	}
}
