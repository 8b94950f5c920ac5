/*
 * A host that was booted again has the overlays of what it had failed over, and nothing that serves
 * the views below them: no hypervisor can start such a machine then. So they are served again when
 * the agent starts; those that are served stay as they are. (What a run that goes on has booted is
 * its steps' affair.)
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/loop.h"
#include "runs_int.h"

struct serve {
	struct sa_run *run;
	size_t n;
	struct sa_boot boot[]; /* copies */
};

static bool is_ours(struct sa_run *s, const struct sa_boot *b)
{
	struct sa_role_record rec;

	return b->state == SA_BOOT_BOOTED && b->disks > 0 &&
	       sa_role_get(s->runs->agent->roles, &b->group, &rec) && rec.role == SA_ROLE_PRIMARY;
}

static void serve_work(void *arg)
{
	struct serve *v = arg;
	struct sa_agent *a = v->run->runs->agent;

	for (size_t i = 0; i < v->n; i++) {
		struct lb_err err = {0};

		if (sa_furnish_disks(a, &v->boot[i], &err) != 0)
			lb_log(LB_LOG_ERROR, "run", "not_served", "run=%s", v->run->id,
			       "machine=%s", v->boot[i].machine, "err=%s", err.msg, NULL);
	}
}

static void serve_done(void *arg)
{
	struct serve *v = arg;

	v->run->serve = NULL;
	free(v);
}

void sa_boots_serve_again(struct sa_run *s)
{
	struct sa_agent *a = s->runs->agent;
	struct serve *v;
	size_t n = 0;

	if (s->mode == RB_DRILL || !sa_run_ended(s) || a->store == NULL)
		return;
	for (const struct sa_boot *b = s->boots; b != NULL; b = b->next)
		n += is_ours(s, b) ? 1 : 0;
	v = n > 0 ? calloc(1, sizeof(*v) + n * sizeof(v->boot[0])) : NULL;
	if (v == NULL)
		return;
	v->run = s;
	for (const struct sa_boot *b = s->boots; b != NULL; b = b->next)
		if (is_ours(s, b))
			v->boot[v->n++] = *b;
	s->serve = v;
	lb_pool_submit(a->slow, serve_work, serve_done, v);
}
