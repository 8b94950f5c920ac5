/* The target site's shell: as target.c, but the store's thread is a queue on virtual time. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fs.h"
#include "memfs.h"
#include "sim.h"
#include "test_bugs.h"

/* ---- what the core asks of the site ---- */

static bool peer_allowed(void *arg, const struct lb_id *site)
{
	struct sim *s = arg;

	return lb_id_equal(site, &s->site[1]);
}

static void role_of(void *arg, const struct lb_id *group, struct rep_group_role *out)
{
	struct sim *s = arg;

	(void)group;
	*out = s->tgt.role;
}

static int adopt(void *arg, const struct lb_id *group, const char *name, uint64_t epoch,
		 const struct lb_id *site, struct lb_err *err)
{
	struct sim *s = arg;

	(void)group;
	(void)name;
	if (s->tgt.role.epoch != 0)
		return lb_err_set(err, LB_EBUSY, 0, "group is known");
	s->tgt.role = (struct rep_group_role){.epoch = epoch, .writable = true, .writer = *site};
	return 0;
}

static int raise_epoch(void *arg, const struct lb_id *group, uint64_t epoch,
		       const struct lb_id *site, struct lb_err *err)
{
	struct sim *s = arg;

	(void)group;
	(void)site;
	if (epoch <= s->tgt.role.epoch)
		sim_violate(s, "epoch %llu raised to %llu (I10)",
			    (unsigned long long)s->tgt.role.epoch, (unsigned long long)epoch);
	if (!s->tgt.role.writable)
		return lb_err_set(err, LB_EBUSY, 0, "this site is active for the group");
	s->tgt.role.epoch = epoch;
	return 0;
}

static int store_key(void *arg, const struct rep_key_frame *key, struct lb_err *err)
{
	(void)arg;
	(void)key;
	(void)err;
	return 0;
}

static int key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct sim *s = arg;

	if (!lb_id_equal(site, &s->site[1]))
		return LB_ENOTFOUND;
	*out = s->pub[1];
	return 0;
}

/* ---- the process ---- */

static int open_store(struct sim *s, struct lb_err *err)
{
	struct rep_store_cfg cfg = {.segment_bytes = 1u << 20};
	struct sim_target *t = &s->tgt;
	uint64_t held[2];
	int rc;

	/* The store takes what it cannot read at open for damage, and goes on without it: right for
	 * a bad sector, so an error that passes would only make the oracle cry. */
	fault_hold_fail(s, held);
	rc = rep_store_open(&t->store, &t->env.env, t->fs, &cfg, err);
	fault_release(s, held);

	if (rc == LB_ECORRUPT)
		sim_violate(s, "store does not open: %s", err->msg);
	return rc;
}

void target_start(struct sim *s)
{
	static const struct rep_receiver_ops ops = {
		.peer_allowed = peer_allowed,
		.role_of = role_of,
		.adopt = adopt,
		.raise_epoch = raise_epoch,
		.store_key = store_key,
	};
	struct rep_receiver_cfg cfg = REP_RECEIVER_CFG_DEFAULTS;
	struct sim_target *t = &s->tgt;
	struct rep_ingest_cfg icfg = {
		.env = &t->env.env,
		.deployment = s->deployment,
		.site = s->site[0],
		.signer = s->signer[0],
		.key_of = key_of,
		.arg = s,
	};
	struct lb_err err = {0};

	if (open_store(s, &err)) {
		sim_log(s, "store does not open: %s", err.msg);
		if (lb_memfs_is_cut(t->fs))
			target_stop(s, true);
		else
			sim_at(s, 2 * SEC,
			       (struct sim_event){.type = EV_TARGET_START, .gen = t->gen});
		return;
	}
	icfg.store = t->store;
	cfg.deployment = s->deployment;
	cfg.site = s->site[0];
	cfg.boot_id = t->env.boot_id;
	cfg.ops = &ops;
	cfg.ops_arg = s;
	cfg.max_connections = 16;
	LB_ASSERT(rep_ingest_create(&t->ingest, &icfg, NULL) == 0);
	LB_ASSERT(rep_receiver_create(&t->receiver, &cfg, NULL) == 0);
	t->up = true;
	t->suspect = t->ack_stopped = false;
	t->tick_at = 0;
	sim_log(s, "target starts");
	oracle_reopened(s);
}

void target_stop(struct sim *s, bool power)
{
	struct sim_target *t = &s->tgt;
	struct rep_target_stats st;

	if (t->up) {
		rep_receiver_stats(t->receiver, &st);
		s->count.duplicates += st.duplicates;
	}
	t->gen++;
	t->up = t->busy = false;
	memset(t->draft, 0, sizeof(t->draft));
	memset(t->gone, 0, sizeof(t->gone));
	rep_receiver_destroy(t->receiver);
	rep_ingest_destroy(t->ingest);
	rep_store_close(t->store);
	t->receiver = NULL;
	t->ingest = NULL;
	t->store = NULL;
	while (t->op_count > 0) {
		rep_store_op_fini(&t->op[t->op_first]);
		t->op_first = (t->op_first + 1) % SIM_MAX_OPS;
		t->op_count--;
	}
	net_process_gone(s, 0, !power);
	if (power) {
		lb_memfs_power_cut(t->fs, sim_below(s, UINT64_MAX)); /* ends what was armed, too */
		t->fail_op = t->cut_op = t->cut_sync = 0;
		t->lost_at = s->now;
		sim_env_boot(&t->env);
	}
	sim_at(s, 50 * MS + sim_below(s, (power ? 20 : 3) * SEC),
	       (struct sim_event){.type = EV_TARGET_START, .gen = t->gen});
}

/* ---- the store's thread ---- */

static void store_later(struct sim *s)
{
	struct sim_target *t = &s->tgt;

	if (t->busy || t->op_count == 0)
		return;
	t->busy = true;
	sim_at(s, MS / 10 + t->slow_ns + sim_below(s, 2 * MS),
	       (struct sim_event){.type = EV_STORE, .gen = t->gen});
}

static void note_sync_failed(struct sim *s, const struct rep_store_answer *a)
{
	if (a->err.code != 0)
		sim_log(s, "store op %d: %s", (int)a->type, a->err.msg);
	if (a->err.code == LB_ESUSPECT || a->err.code == LB_EIO)
		s->tgt.error_at = s->now;
	if (a->err.code != LB_ESUSPECT || s->tgt.ack_stopped)
		return;
	s->tgt.ack_stopped = true;
	s->count.suspects++;
}

static void run_store(struct sim *s)
{
	struct sim_target *t = &s->tgt;
	struct rep_store_answer answer[8];
	struct rep_store_op op[8];
	unsigned n = 0;
	uint64_t gen = t->gen;

	while (n < 1 + sim_below(s, 8) && n < 8 && t->op_count > 0) {
		op[n++] = t->op[t->op_first];
		t->op_first = (t->op_first + 1) % SIM_MAX_OPS;
		t->op_count--;
	}
	t->busy = false;
	rep_ingest_run(t->ingest, op, answer, n);
	for (unsigned i = 0; i < n; i++)
		rep_store_op_fini(&op[i]);
	if (lb_memfs_is_cut(t->fs)) { /* the power failed inside: nobody hears of it */
		for (unsigned i = 0; i < n; i++)
			rep_store_answer_fini(&answer[i]);
		target_stop(s, true);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		if (op[i].type == REP_STORE_ABANDON && answer[i].err.code != 0)
			memset(t->gone, 0, sizeof(t->gone)); /* no room even for that */
	oracle_look(s);
	for (unsigned i = 0; i < n; i++) {
		struct rep_receiver_event e = {.type = REP_RECEIVER_STORE, .answer = &answer[i]};

		if (t->gen == gen) {
			note_sync_failed(s, &answer[i]);
			target_step(s, &e);
			if (t->gen == gen && t->ack_stopped && !t->suspect)
				sim_violate(s, "a failed sync raised no alarm (I7)");
		}
		rep_store_answer_fini(&answer[i]);
	}
	if (t->gen == gen)
		store_later(s);
}

/* ---- actions ---- */

/* What leaves the site: the oracle sees receipts and admissions go. */
static void watch_sent(struct sim *s, uint64_t conn, const struct lb_buf *b)
{
	enum rep_frame_type type;
	struct rep_frame f;
	uint32_t bytes;

	LB_ASSERT(rep_frame_header_decode(&type, &bytes, b->p, NULL) == 0);
	if (type != REP_FRAME_RECEIPT && type != REP_FRAME_ADMIT && type != REP_FRAME_HELLO)
		return;
	LB_ASSERT(rep_frame_decode(&f, type, b->p + REP_FRAME_HEADER_BYTES, bytes, NULL) == 0);
	if (type == REP_FRAME_RECEIPT)
		oracle_receipt(s, f.receipt.bytes);
	else if (type == REP_FRAME_ADMIT)
		oracle_admit(s, &f.admit);
	else if (net_find(s, conn))
		net_find(s, conn)->session = f.hello.session;
}

static void on_alarm(struct sim *s, const struct rep_receiver_action *a)
{
	sim_log(s, "target alarm %s: %s", a->ev, a->err.msg);
	if (strcmp(a->ev, "store_suspect") != 0 || s->tgt.suspect)
		return;
	s->tgt.suspect = true; /* the agent ends itself; its store is read again from the disk */
	sim_at(s, SEC, (struct sim_event){.type = EV_STORE, .gen = s->tgt.gen, .refused = true});
}

static void on_action(struct sim *s, struct rep_receiver_action *a)
{
	struct sim_target *t = &s->tgt;

	switch (a->type) {
	case REP_RECEIVER_SEND:
		watch_sent(s, a->conn, a->buf);
		net_send(s, a->conn, 1, a->buf, NULL);
		break;
	case REP_RECEIVER_CLOSE:
		if (a->err.code != 0)
			sim_log(s, "target closes %llu: %s", (unsigned long long)a->conn,
				a->err.msg);
		net_close(s, a->conn, 0);
		break;
	case REP_RECEIVER_RUN:
		LB_ASSERT(t->op_count < SIM_MAX_OPS);
		t->op[(t->op_first + t->op_count++) % SIM_MAX_OPS] = a->op;
		store_later(s);
		break;
	case REP_RECEIVER_POINT:
		oracle_point(s, a);
		break;
	case REP_RECEIVER_PEER:
		break;
	case REP_RECEIVER_ALARM:
		on_alarm(s, a);
		break;
	}
}

/* F22: a newer session ends the older one of the same site, in the same step. */
static void check_sessions(struct sim *s)
{
	const struct lb_id *one = NULL;

	for (unsigned i = 0; i < SIM_MAX_CONNS; i++) {
		const struct sim_conn *c = &s->conn[i];

		if (c->id == 0 || !c->open[0] || lb_id_is_zero(&c->session))
			continue;
		if (one && !lb_id_equal(one, &c->session))
			sim_violate(s, "two sessions of one site at once (F22)");
		one = &c->session;
	}
}

void target_step(struct sim *s, const struct rep_receiver_event *e)
{
	struct sim_target *t = &s->tgt;
	struct rep_receiver_action a;
	uint64_t now, due;

	if (!t->up)
		return;
	now = t->env.env.now_ns(&t->env.env);
	rep_receiver_step(t->receiver, e, now);
	while (rep_receiver_next(t->receiver, &a))
		on_action(s, &a);
	check_sessions(s);
	due = rep_receiver_deadline(t->receiver);
	due = due == UINT64_MAX ? 60 * SEC : due > now ? due - now : 0;
	due += due / 1000 + 1;
	if (t->tick_at <= s->now || s->now + due < t->tick_at) {
		t->tick_at = s->now + due;
		sim_at(s, due, (struct sim_event){.type = EV_TARGET_TICK, .gen = t->gen});
	}
}

/* An operator, sure that the source is lost, makes this site active: the epoch is durable, then
 * everyone is told, then the newest point is what counts from here on. */
static void fail_over(struct sim *s)
{
	struct sim_target *t = &s->tgt;
	struct rep_receiver_event e = {.type = REP_RECEIVER_RAISED};
	struct lb_err err;

	if (!t->up || t->role.epoch != s->src.epoch || t->op_count > 0 || t->busy) {
		sim_at(s, 100 * MS, (struct sim_event){.type = EV_FAILOVER});
		return;
	}
	if (rep_ingest_settle(t->ingest, &err)) { /* what is the newest point? Not known yet */
		if (lb_memfs_is_cut(t->fs))
			target_stop(s, true);
		sim_at(s, 100 * MS, (struct sim_event){.type = EV_FAILOVER});
		return;
	}
	oracle_look(s);
	t->role.epoch++;
	t->role.writable = false;
	s->oracle.fenced_below = t->role.epoch;
	sim_log(s, "failover, epoch %llu", (unsigned long long)t->role.epoch);
	e.raised.group = s->group;
	e.raised.epoch = t->role.epoch;
	target_step(s, &e);
	sim_at(s, 5 * SEC, (struct sim_event){.type = EV_GIVE_BACK});
}

void target_event(struct sim *s, struct sim_event *e)
{
	if (e->type == EV_FAILOVER) {
		fail_over(s);
		return;
	}
	if (e->gen != s->tgt.gen)
		return;
	switch ((int)e->type) {
	case EV_TARGET_START:
		target_start(s);
		break;
	case EV_STORE:
		if (e->refused)
			target_stop(s, false);
		else
			run_store(s);
		break;
	default: /* EV_TARGET_TICK */
		target_step(s, &(struct rep_receiver_event){.type = REP_RECEIVER_TICK});
		break;
	}
}
