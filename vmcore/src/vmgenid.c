#include "vmgenid.h"

#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "board.h"
#include "pm.h"

struct genid {
	struct vm_dev dev;
	struct vm_pm *pm;
	uint8_t id[VM_GENID_BYTES];
};

static void publish(struct genid *g)
{
	struct vm_mem *m = g->dev.board->mem;

	/* The page is RAM of every machine: vm_genid_gpa(). */
	(void)vm_mem_write(m, vm_genid_gpa(m), g->id, sizeof(g->id));
}

static void renew(struct genid *g)
{
	struct lb_env *env = g->dev.board->env;

	env->random(env, g->id, sizeof(g->id));
	publish(g);
}

/* A reset boots the same copy again: the number stays. */
static void genid_reset(struct vm_dev *d)
{
	publish((struct genid *)d);
}

static void genid_save(struct vm_dev *d, struct lb_wr *wr)
{
	lb_wr_bytes(wr, ((const struct genid *)d)->id, VM_GENID_BYTES);
}

static int genid_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	(void)version;
	lb_rd_copy(rd, ((struct genid *)d)->id, VM_GENID_BYTES);
	return rd->bad ? lb_err_set(err, LB_ECORRUPT, 0, "generation id is cut short") : 0;
}

/* Whoever goes on from a checkpoint is another copy of the machine. */
static void genid_resume(struct vm_dev *d)
{
	struct genid *g = (struct genid *)d;

	renew(g);
	vm_pm_gpe(g->pm, VM_GENID_GPE);
}

static void genid_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops genid_ops = {
	.name = "vmgenid",
	.version = 1,
	.reset = genid_reset,
	.save = genid_save,
	.load = genid_load,
	.resume = genid_resume,
	.destroy = genid_destroy,
};

int vm_genid_create(struct vm_board *b, struct vm_pm *pm, struct lb_err *err)
{
	struct genid *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "generation id");
	g->pm = pm;
	vm_board_add(b, &g->dev, &genid_ops);
	b->env->random(b->env, g->id, sizeof(g->id));
	return 0;
}
