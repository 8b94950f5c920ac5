/* What can be seen of a booted machine: the end of its serial console. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "runs_int.h"
#include "siteagent/hv.h"

#define TAIL_BYTES 16384u

const struct sa_boot *sa_boot_of_machine(const struct sa_run *s, const char *machine)
{
	for (const struct sa_boot *b = s->boots; b != NULL; b = b->next)
		if (strcmp(b->machine, machine) == 0)
			return b;
	return NULL;
}

/* What is not UTF-8 becomes '?', since JSON cannot carry it; NUL a space. All else stays, control
 * characters too: whoever shows it escapes it. */
static void make_utf8(char *text, size_t len)
{
	uint32_t cp;
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		if (text[i] == '\0')
			text[i] = ' ';
		n = lb_utf8_next(text + i, &cp);
		if (n == 0) {
			text[i] = '?';
			n = 1;
		}
	}
}

struct json_t *sa_run_console_json(struct sa_run *s, const char *machine)
{
	const struct sa_boot *b = sa_boot_of_machine(s, machine);
	char *text = malloc(TAIL_BYTES + 1);
	size_t got = 0;
	json_t *o = NULL;

	if (b != NULL && text != NULL &&
	    sa_hv_console_at(b->dir, text, TAIL_BYTES, &got, NULL) == 0) {
		text[got] = '\0';
		make_utf8(text, got);
		o = json_pack("{s:s, s:s, s:s}", "machine", b->machine, "domain", b->domain, "text",
			      text);
	}
	free(text);
	return o;
}

void sa_runs_note_boot(struct sa_runs *r, const char *machine, struct json_t *o)
{
	for (const struct sa_run *s = r->first; s != NULL; s = s->next) {
		const struct sa_boot *b = sa_boot_of_machine(s, machine);

		if (b == NULL || b->state != SA_BOOT_BOOTED)
			continue;
		(void)json_object_set_new(o, "state", json_string("booted"));
		(void)json_object_set_new(o, "run", json_string(s->id));
		(void)json_object_set_new(o, "domain", json_string(b->domain));
		return;
	}
}
