#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "check_int.h"

const char *const rb_fact_names[] = {
	"run.id",       "run.name",    "run.mode",    "step.id",
	"step.attempt", "site.source", "site.target", NULL,
};

bool rb_var_name(const char *text, char out[RB_NAME_BYTES], const char **rest)
{
	const char *end = strchr(text, '}');
	size_t n = end != NULL ? (size_t)(end - text) : 0;

	if (end == NULL || n >= RB_NAME_BYTES)
		return false;
	memcpy(out, text, n);
	out[n] = '\0';
	*rest = end + 1;
	return rb_name_ok(out);
}

static const char *value_of(const char *name, const struct rb_runbook *rb,
			    const struct rb_fact *facts, size_t fact_count)
{
	for (size_t i = 0; i < rb->var_count; i++)
		if (strcmp(rb->vars[i].name, name) == 0)
			return rb->vars[i].value;
	for (size_t i = 0; i < fact_count; i++)
		if (strcmp(facts[i].name, name) == 0)
			return facts[i].value;
	return NULL;
}

int rb_expand(char *out, size_t out_bytes, const char *text, const struct rb_runbook *rb,
	      const struct rb_fact *facts, size_t fact_count, struct lb_err *err)
{
	char name[RB_NAME_BYTES];
	size_t len = 0;

	while (*text != '\0') {
		const char *piece = text;
		size_t n = strcspn(text, "$");

		if (n != 0) {
			text += n;
		} else if (text[1] == '$') {
			n = 1;
			text += 2;
		} else if (text[1] != '{' || !rb_var_name(text + 2, name, &text)) {
			return lb_err_set(err, LB_EINPUT, 0,
					  "\"%s\": \"$\" begins neither ${name} nor $$", text);
		} else {
			piece = value_of(name, rb, facts, fact_count);
			if (piece == NULL)
				return lb_err_set(err, LB_EINPUT, 0,
						  "${%s}: this run has no such value", name);
			n = strlen(piece);
		}
		if (n >= out_bytes - len)
			return lb_err_set(err, LB_EINPUT, 0, "longer than %zu bytes when expanded",
					  out_bytes - 1);
		memcpy(out + len, piece, n);
		len += n;
	}
	out[len] = '\0';
	return 0;
}
