#include <stdlib.h>
#include <string.h>

#include "check_int.h"
#include "str.h"

static const struct {
	const char *name;
	bool available;
	const char *help;
} actions[RB_ACTION_COUNT] = {
#define ROW(id, text, avail, about) [id] = {text, avail, about},
	RB_ACTIONS(ROW)
#undef ROW
};

static bool is_action_row(const struct rb_key *row)
{
	return row->sec == RB_SEC_STEP && strcmp(row->key, "action") == 0;
}

static void add_choices(struct rb_str *s, const struct rb_key *row)
{
	char word[RB_NAME_BYTES];
	const char *at = row->choices;
	const char *comma = "";

	rb_str_add(s, "[");
	for (int i = 0; (at = rb_next_choice(at, word)) != NULL; i++) {
		if (is_action_row(row) && !actions[i].available)
			continue;
		rb_str_add(s, "%s\"%s\"", comma, word);
		comma = ", ";
	}
	rb_str_add(s, "]");
}

static void add_ref(struct rb_str *s, enum rb_sec sec)
{
	rb_str_add(s, "{\"$ref\": \"#/definitions/%s\"}", rb_sec_names[sec]);
}

#define SCALAR "\"type\": [\"string\", \"number\", \"boolean\"]"
#define NAME   "\"pattern\": \"^[A-Za-z0-9._-]{1,64}$\""
#define SPAN   "[0-9]+(ns|us|ms|s|m|h|d)"

/* The members of a value's schema, without braces. */
static void add_type(struct rb_str *s, const struct rb_key *row)
{
	switch (row->type) {
	case RB_KT_CONST:
		rb_str_add(s, "\"const\": \"%s\"", row->choices);
		break;
	case RB_KT_NAME:
	case RB_KT_REF:
		rb_str_add(s, SCALAR ", " NAME);
		break;
	case RB_KT_TEXT:
		rb_str_add(s, SCALAR ", \"minLength\": 1, \"maxLength\": 256");
		break;
	case RB_KT_U32:
		rb_str_add(s, "\"type\": \"integer\", \"minimum\": %llu, \"maximum\": %llu",
			   (unsigned long long)row->min, (unsigned long long)row->max);
		break;
	case RB_KT_PORT:
		rb_str_add(s, "\"type\": \"integer\", \"minimum\": 1, \"maximum\": 65535");
		break;
	case RB_KT_DURATION:
		rb_str_add(s, "\"type\": \"string\", \"pattern\": \"^" SPAN "$\"");
		break;
	case RB_KT_RANGE:
		rb_str_add(s, "\"type\": \"string\", \"pattern\": \"^" SPAN "(\\\\.\\\\." SPAN
			      ")?$\"");
		break;
	case RB_KT_ENUM:
		rb_str_add(s, "\"enum\": ");
		add_choices(s, row);
		break;
	case RB_KT_SET:
		rb_str_add(s, "\"type\": \"array\", \"minItems\": 1, \"uniqueItems\": true, "
			      "\"items\": {\"enum\": ");
		add_choices(s, row);
		rb_str_add(s, "}");
		break;
	case RB_KT_CIDR:
		rb_str_add(s, "\"type\": \"string\", "
			      "\"pattern\": \"^([0-9]{1,3}\\\\.){3}[0-9]{1,3}/[0-9]{1,2}$\"");
		break;
	case RB_KT_NAMES:
		rb_str_add(s,
			   "\"type\": \"array\", \"uniqueItems\": true, \"maxItems\": %llu, "
			   "\"items\": {" SCALAR ", " NAME "}",
			   (unsigned long long)row->max);
		break;
	case RB_KT_ARGV:
		rb_str_add(s,
			   "\"type\": \"array\", \"minItems\": 1, \"maxItems\": %llu, "
			   "\"items\": {" SCALAR "}",
			   (unsigned long long)row->max);
		break;
	case RB_KT_VARS:
		rb_str_add(s,
			   "\"type\": \"object\", \"maxProperties\": %llu, "
			   "\"propertyNames\": {\"pattern\": \"^[A-Za-z0-9_]{1,64}$\"}, "
			   "\"additionalProperties\": {" SCALAR "}",
			   (unsigned long long)row->max);
		break;
	case RB_KT_MAP:
		rb_str_add(s, "\"allOf\": [");
		add_ref(s, row->sub);
		rb_str_add(s, "]");
		break;
	case RB_KT_MAP_OF:
		rb_str_add(s, "\"type\": \"object\", \"additionalProperties\": ");
		add_ref(s, row->sub);
		break;
	case RB_KT_LIST_OF:
		rb_str_add(
			s,
			"\"type\": \"array\", \"minItems\": %llu, \"maxItems\": %llu, \"items\": ",
			(unsigned long long)row->min, (unsigned long long)row->max);
		add_ref(s, row->sub);
		break;
	case RB_KT_LATER:
		break;
	}
}

static void add_keys(struct rb_str *s, enum rb_sec sec, const char *indent)
{
	const char *comma = "";

	rb_str_add(s, "%s\"properties\": {", indent);
	for (size_t i = 0; i < rb_key_count; i++) {
		const struct rb_key *row = &rb_keys[i];

		if (row->sec != sec || row->type == RB_KT_LATER)
			continue;
		rb_str_add(s, "%s\n%s  \"%s\": {\"description\": ", comma, indent, row->key);
		rb_str_add_json(s, row->help);
		rb_str_add(s, ", ");
		add_type(s, row);
		rb_str_add(s, "}");
		comma = ",";
	}
	rb_str_add(s, "\n%s}", indent);
}

/* Names of the keys of @sec as a JSON list: those needed by @actions, or those that belong to it.
 */
static void add_key_list(struct rb_str *s, enum rb_sec sec, unsigned actions_bits, bool required)
{
	const char *comma = "";

	rb_str_add(s, "[");
	for (size_t i = 0; i < rb_key_count; i++) {
		const struct rb_key *row = &rb_keys[i];
		unsigned bits = required ? row->required : row->actions;

		if (row->sec != sec || row->type == RB_KT_LATER ||
		    (bits & actions_bits) != actions_bits)
			continue;
		rb_str_add(s, "%s\"%s\"", comma, row->key);
		comma = ", ";
	}
	rb_str_add(s, "]");
}

static void add_section(struct rb_str *s, enum rb_sec sec, const char *indent)
{
	rb_str_add(s, "%s\"type\": \"object\",\n%s\"additionalProperties\": false,\n", indent,
		   indent);
	rb_str_add(s, "%s\"required\": ", indent);
	add_key_list(s, sec, sec == RB_SEC_STEP ? RB_ALL_ACTIONS : 1u, true);
	rb_str_add(s, ",\n");
	add_keys(s, sec, indent);
}

static void add_step_rules(struct rb_str *s)
{
	const char *comma = "";

	rb_str_add(s, ",\n      \"allOf\": [");
	for (int a = 0; a < RB_ACTION_COUNT; a++) {
		if (!actions[a].available)
			continue;
		rb_str_add(s,
			   "%s\n        {\"if\": {\"properties\": {\"action\": {\"const\": "
			   "\"%s\"}}},\n"
			   "         \"then\": {\"required\": ",
			   comma, actions[a].name);
		add_key_list(s, RB_SEC_STEP, RB_BIT(a), true);
		rb_str_add(s, ",\n                  \"propertyNames\": {\"enum\": ");
		add_key_list(s, RB_SEC_STEP, RB_BIT(a), false);
		rb_str_add(s, "}}}");
		comma = ",";
	}
	rb_str_add(s, "\n      ]");
}

char *rb_schema_json(void)
{
	struct rb_str s = {0};
	const char *comma = "";

	rb_str_add(&s, "{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\",\n"
		       "  \"$id\": \"https://lifeboat.invalid/runbook.schema.json\",\n"
		       "  \"title\": \"Lifeboat runbook\",\n");
	add_section(&s, RB_SEC_TOP, "  ");
	rb_str_add(&s, ",\n  \"definitions\": {");
	for (int sec = RB_SEC_TOP + 1; sec < RB_SEC_COUNT; sec++) {
		rb_str_add(&s, "%s\n    \"%s\": {\n", comma, rb_sec_names[sec]);
		add_section(&s, (enum rb_sec)sec, "      ");
		if (sec == RB_SEC_STEP)
			add_step_rules(&s);
		if (sec == RB_SEC_PROBE)
			rb_str_add(&s,
				   ",\n      \"oneOf\": [{\"required\": [\"tcp\"]}, "
				   "{\"required\": [\"serial\"]}, {\"required\": [\"guest\"]}]");
		rb_str_add(&s, "\n    }");
		comma = ",";
	}
	rb_str_add(&s, "\n  }\n}\n");
	return rb_str_take(&s);
}

/* ---- the reference ---- */

static void add_md_type(struct rb_str *s, const struct rb_key *row)
{
	static const char *const names[] = {
		[RB_KT_CONST] = "constant",    [RB_KT_NAME] = "name",
		[RB_KT_REF] = "name",          [RB_KT_TEXT] = "text",
		[RB_KT_U32] = "number",        [RB_KT_PORT] = "port",
		[RB_KT_DURATION] = "duration", [RB_KT_RANGE] = "duration or range",
		[RB_KT_ENUM] = "one of",       [RB_KT_SET] = "list of",
		[RB_KT_CIDR] = "IPv4 range",   [RB_KT_NAMES] = "list of step ids",
		[RB_KT_ARGV] = "list of text", [RB_KT_VARS] = "map of name to text",
		[RB_KT_MAP] = "map",           [RB_KT_MAP_OF] = "map of name to",
		[RB_KT_LIST_OF] = "list of",   [RB_KT_LATER] = "",
	};
	char word[RB_NAME_BYTES], from[RB_DURATION_TEXT], to[RB_DURATION_TEXT];
	const char *at = row->choices != NULL ? row->choices : "";

	rb_str_add(s, "%s", names[row->type]);
	for (int i = 0; (at = rb_next_choice(at, word)) != NULL; i++)
		if (!is_action_row(row) || actions[i].available)
			rb_str_add(s, " `%s`", word);
	if (row->type == RB_KT_U32)
		rb_str_add(s, ", %llu to %llu", (unsigned long long)row->min,
			   (unsigned long long)row->max);
	if (row->type == RB_KT_DURATION)
		rb_str_add(s, ", %s to %s", rb_duration_text(from, row->min),
			   rb_duration_text(to, row->max));
	if (row->type == RB_KT_LIST_OF || row->type == RB_KT_MAP_OF)
		rb_str_add(s, " %s", rb_sec_names[row->sub]);
}

static void add_md_actions(struct rb_str *s, const char *before, unsigned bits)
{
	for (int a = 0; a < RB_ACTION_COUNT; a++) {
		if (!actions[a].available || (bits & RB_BIT(a)) == 0)
			continue;
		rb_str_add(s, "%s%s", before, actions[a].name);
		before = ", ";
	}
}

static void add_md_row(struct rb_str *s, const struct rb_key *row)
{
	rb_str_add(s, "| `%s` | ", row->key);
	if (row->type == RB_KT_LATER)
		rb_str_add(s, "*not available in this version* | | ");
	else {
		add_md_type(s, row);
		rb_str_add(s, " | ");
		if (row->sec == RB_SEC_STEP && row->required != 0 && row->required != row->actions)
			add_md_actions(s, "**required** for ", row->required);
		else if (row->required != 0)
			rb_str_add(s, "**required**");
		else if (row->dflt != NULL)
			rb_str_add(s, "%s", row->dflt);
		rb_str_add(s, " | ");
	}
	if (row->sec == RB_SEC_STEP && row->actions != RB_ALL_ACTIONS) {
		add_md_actions(s, "", row->actions);
		rb_str_add(s, ": ");
	}
	rb_str_add(s, "%s |\n", row->help);
}

char *rb_keys_markdown(void)
{
	struct rb_str s = {0};

	for (int sec = 0; sec < RB_SEC_COUNT; sec++) {
		rb_str_add(&s,
			   "### %s\n\n| key | value | default | meaning |\n"
			   "| --- | --- | --- | --- |\n",
			   rb_sec_names[sec]);
		for (size_t i = 0; i < rb_key_count; i++)
			if (rb_keys[i].sec == (enum rb_sec)sec)
				add_md_row(&s, &rb_keys[i]);
		rb_str_add(&s, "\n");
	}
	rb_str_add(&s, "### Actions\n\n| action | this version | meaning |\n| --- | --- | --- |\n");
	for (int a = 0; a < RB_ACTION_COUNT; a++)
		rb_str_add(&s, "| `%s` | %s | %s |\n", actions[a].name,
			   actions[a].available ? "yes" : "refused by name", actions[a].help);
	return rb_str_take(&s);
}
