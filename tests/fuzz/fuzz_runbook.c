/* Any text: refused with a problem named, or a runbook that can be planned in each of its modes. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "runbooks/lang.h"
#include "runbooks/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rb_runbook *rb = NULL;
	struct lb_err err = {0};
	char *problems = NULL;
	int rc = rb_runbook_parse(&rb, "fuzz.yaml", (const char *)data, size, &problems, &err);

	if ((rc == 0) != (rb != NULL) || (rc == 0 && problems != NULL) ||
	    (rc != 0 && err.msg[0] == '\0'))
		abort();
	for (int m = 0; rc == 0 && m < RB_MODE_COUNT; m++) {
		struct rb_plan *p = NULL;

		if ((rb->modes & (1u << m)) == 0)
			continue;
		if (rb_plan_create(&p, rb, (enum rb_mode)m, NULL, &err) != 0)
			abort();
		free(rb_plan_text(p, rb));
		rb_plan_destroy(p);
	}
	free(problems);
	rb_runbook_destroy(rb);
	return 0;
}
