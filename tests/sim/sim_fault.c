/* Harm, of every kind, at random times. */
#include <string.h>

#include "base/fs.h"
#include "memfs.h"
#include "sim.h"

static struct sim_conn *any_conn(struct sim *s)
{
	struct sim_conn *live[SIM_MAX_CONNS];
	unsigned n = 0;

	for (unsigned i = 0; i < SIM_MAX_CONNS; i++)
		if (s->conn[i].id != 0 && (s->conn[i].open[0] || s->conn[i].open[1]))
			live[n++] = &s->conn[i];
	return n ? live[sim_below(s, n)] : NULL;
}

static void on_all(struct sim *s)
{
	for (unsigned i = 0; i < SIM_MAX_CONNS; i++)
		if (s->conn[i].id != 0)
			net_reset(s, &s->conn[i]);
}

static bool net_fault(struct sim *s, enum sim_fault f)
{
	struct sim_conn *c = any_conn(s);

	if (f == FAULT_PARTITION) {
		s->partition_until = s->now + sim_below(s, 25 * SEC);
		return true;
	}
	if (f == FAULT_REPLAY) {
		s->replay = true; /* with the next POINT */
		return s->has_receipt;
	}
	if (!c && f != FAULT_SECOND)
		return false;
	if (f == FAULT_RESET_ALL)
		on_all(s);
	else if (f == FAULT_RESET_ONE)
		net_reset(s, c);
	else if (f == FAULT_HALF_OPEN)
		net_half_open(s, c, (unsigned)sim_below(s, 2));
	else if (f == FAULT_STALL_ONE)
		c->stalled_until = s->now + sim_below(s, 20 * SEC);
	else
		(void)net_connect(s, 0, true);
	return true;
}

static bool source_fault(struct sim *s, enum sim_fault f)
{
	uint64_t op = lb_memfs_ops(s->src.fs) + 1 + sim_below(s, 60);

	if (f == FAULT_SOURCE_DISK && sim_chance(s, 50))
		lb_memfs_cut_at_op(s->src.fs, op);
	else if (f == FAULT_SOURCE_DISK)
		lb_memfs_fail_at(s->src.fs, op, sim_chance(s, 50) ? LB_EIO : LB_ENOSPC);
	else if (!s->src.up)
		return false;
	else if (f == FAULT_SOURCE_BLANK && sim_chance(s, 60))
		return false; /* seeds are not to crowd out deltas */
	else if (f == FAULT_SOURCE_BLANK)
		source_blank(s);
	else
		source_stop(s, f == FAULT_SOURCE_POWER);
	return true;
}

static void arm(struct sim *s)
{
	struct sim_target *t = &s->tgt;

	lb_memfs_fail_at(t->fs, t->fail_op, t->fail_code);
	lb_memfs_cut_at_op(t->fs, t->cut_op);
	lb_memfs_cut_at_sync(t->fs, t->cut_sync);
}

void fault_hold(struct sim *s, uint64_t ops_syncs[2])
{
	ops_syncs[0] = lb_memfs_ops(s->tgt.fs);
	ops_syncs[1] = lb_memfs_syncs(s->tgt.fs);
	lb_memfs_fail_at(s->tgt.fs, 0, 0);
	lb_memfs_cut_at_op(s->tgt.fs, 0);
	lb_memfs_cut_at_sync(s->tgt.fs, 0);
}

void fault_hold_fail(struct sim *s, uint64_t ops_syncs[2])
{
	ops_syncs[0] = s->tgt.fail_op ? lb_memfs_ops(s->tgt.fs) : UINT64_MAX;
	ops_syncs[1] = UINT64_MAX;
	lb_memfs_fail_at(s->tgt.fs, 0, 0);
}

/* What waits is still to come: after as many operations as before. */
static void put_off(uint64_t *when, uint64_t was, uint64_t is)
{
	if (*when > was)
		*when += is - was;
	else
		*when = 0;
}

void fault_release(struct sim *s, const uint64_t ops_syncs[2])
{
	struct sim_target *t = &s->tgt;

	put_off(&t->fail_op, ops_syncs[0], lb_memfs_ops(t->fs));
	if (ops_syncs[1] != UINT64_MAX) {
		put_off(&t->cut_op, ops_syncs[0], lb_memfs_ops(t->fs));
		put_off(&t->cut_sync, ops_syncs[1], lb_memfs_syncs(t->fs));
	}
	if (!lb_memfs_is_cut(t->fs))
		arm(s);
}

static bool target_fault(struct sim *s, enum sim_fault f)
{
	struct sim_target *t = &s->tgt;
	uint64_t op = lb_memfs_ops(t->fs) + 1 + sim_below(s, 60);

	if (f == FAULT_TARGET_CUT && sim_chance(s, 50)) {
		t->cut_op = op;
	} else if (f == FAULT_TARGET_CUT) {
		t->cut_sync = lb_memfs_syncs(t->fs) + 1 + sim_below(s, 6);
	} else if (f == FAULT_TARGET_FAIL) {
		t->fail_op = op;
		t->fail_code = sim_chance(s, 70) ? LB_EIO : LB_ENOSPC;
	} else if (!t->up) {
		return false;
	} else {
		target_stop(s, f == FAULT_TARGET_POWER);
	}
	arm(s);
	return true;
}

static bool site_fault(struct sim *s, enum sim_fault f)
{
	if (f == FAULT_TARGET_FULL) {
		if (!s->tgt.up)
			return false;
		lb_memfs_set_space(s->tgt.fs, rep_store_bytes(s->tgt.store) + sim_below(s, 60000));
		sim_at(s, sim_below(s, 20 * SEC), (struct sim_event){.type = EV_SPACE_BACK});
	} else if (f == FAULT_TARGET_SLOW) {
		s->tgt.slow_ns = sim_below(s, 400 * MS);
		sim_at(s, sim_below(s, 10 * SEC), (struct sim_event){.type = EV_FAST_AGAIN});
	} else if (f == FAULT_WALL_JUMP) {
		s->src.env.wall_off = (int64_t)sim_below(s, 7200 * SEC) - (int64_t)(3600 * SEC);
		s->tgt.env.wall_off = (int64_t)sim_below(s, 7200 * SEC) - (int64_t)(3600 * SEC);
	} else {
		if (s->tgt.failing_over || s->tgt.role.epoch == 0)
			return false;
		s->tgt.failing_over = true;
		if (sim_chance(s, 70))
			s->partition_until = s->now + sim_below(s, 20 * SEC);
		sim_at(s, 0, (struct sim_event){.type = EV_FAILOVER});
	}
	return true;
}

static bool do_fault(struct sim *s, enum sim_fault f)
{
	switch (f) {
	case FAULT_PARTITION:
	case FAULT_RESET_ALL:
	case FAULT_RESET_ONE:
	case FAULT_HALF_OPEN:
	case FAULT_STALL_ONE:
	case FAULT_SECOND:
	case FAULT_REPLAY:
		return net_fault(s, f);
	case FAULT_SOURCE_KILL:
	case FAULT_SOURCE_POWER:
	case FAULT_SOURCE_DISK:
	case FAULT_SOURCE_BLANK:
		return source_fault(s, f);
	case FAULT_TARGET_KILL:
	case FAULT_TARGET_POWER:
	case FAULT_TARGET_CUT:
	case FAULT_TARGET_FAIL:
		return target_fault(s, f);
	case FAULT_TARGET_FULL:
	case FAULT_TARGET_SLOW:
	case FAULT_WALL_JUMP:
	case FAULT_FAILOVER:
		return site_fault(s, f);
	case FAULT_COUNT:
		break;
	}
	return false;
}

void fault_calm(struct sim *s)
{
	s->calm = true;
	s->partition_until = 0;
	s->tgt.slow_ns = 0;
	lb_memfs_set_space(s->tgt.fs, UINT64_MAX);
	lb_memfs_fail_at(s->src.fs, 0, 0);
	s->tgt.fail_op = s->tgt.cut_op = s->tgt.cut_sync = 0;
	if (!lb_memfs_is_cut(s->tgt.fs))
		arm(s);
	if (!lb_memfs_is_cut(s->src.fs))
		lb_memfs_cut_at_op(s->src.fs, 0);
	for (unsigned i = 0; i < SIM_MAX_CONNS; i++)
		s->conn[i].stalled_until = 0;
}

void fault_event(struct sim *s, struct sim_event *e)
{
	static const char *const name[] = {
#define SIM_FAULT_NAME(name) #name,
		SIM_FAULTS(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
	};
	enum sim_fault f = (enum sim_fault)sim_below(s, FAULT_COUNT);

	if (e->type == EV_SPACE_BACK) {
		lb_memfs_set_space(s->tgt.fs, UINT64_MAX);
	} else if (e->type == EV_FAST_AGAIN) {
		s->tgt.slow_ns = 0;
	} else if (e->type == EV_GHOST_GONE) {
		net_close(s, e->conn, 1);
	} else if (!s->calm) {
		if (do_fault(s, f)) {
			s->count.fault[f]++;
			s->count.faults++;
			sim_log(s, "FAULT %s", name[f]);
		}
		sim_at(s, sim_below(s, 6 * SEC), (struct sim_event){.type = EV_FAULT});
	}
}
