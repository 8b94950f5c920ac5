/*
 * What the steps of a runbook do at this site.
 *
 *   fence   the groups of the runbook's machines leave their old primary: epoch + 1, durable, peers
 *           told (drill: nothing)
 *   boot    point -> views (nbdkit) -> hypervisor -> probes (on the pool; may take minutes)
 *   probe   the probes again (on the pool)
 *   stop    power off what this run booted (on the pool)
 *   exec    argv in a child process, never a shell
 *   report  the run as JSON to <state_dir>/reports/<run>.json, durable
 *
 * Idempotent by (run, step, attempt): a fence asked again finds its own mark in the role record; a
 * boot finds its record (boots.c) and adopts the domain that carries its name; an exec cannot know,
 * and says so in docs/formats/runbook.md.
 *
 * Points: all machines of one group are booted from one point, the first one's (they must agree on
 * one instant). Ladder: attempt n of a boot takes the newest good point that is older than the one
 * of attempt n - 1 (design: failover picks the newest good point by a ladder).
 *
 * Threads: begin() and the answers run on the loop, *_work() on the pool. A worker has copies of
 * all that the loop may change (verb.boot); what it borrows is immutable until the answer.
 */
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"
#include "runs_int.h"
#include "vmrun_int.h"
#include "vms_int.h"

#define DRILL_PREFIX   "drill"
#define CLEAN_AGAIN_NS (10ull * 1000000000ull)

/* One effect under way. */
struct verb {
	struct verb *next;
	struct sa_run *run;
	struct rb_token token;
	const struct rb_step *step; /* borrowed until answered */
	enum rb_mode mode;
	struct sa_boot boot; /* a copy */
	bool on_machine;     /* a worker may be busy with .boot */
	bool parked;         /* waits for drills to make room */
	struct lb_child *child;
	struct lb_timer *grace; /* exec: SIGTERM was sent */
	bool cancelled;         /* polled by workers */
	int rc;
	struct lb_err err;
	char detail[SA_DETAIL_BYTES];
};

static void verb_free(struct verb *v)
{
	lb_child_destroy(v->child);
	lb_timer_destroy(v->grace);
	free(v);
}

static void answer(struct verb *v)
{
	struct sa_run *s = v->run;
	struct lb_err err = {0};

	for (struct verb **p = &s->verbs; *p != NULL; p = &(*p)->next)
		if (*p == v) {
			*p = v->next;
			break;
		}
	if (rb_run_effect_done(s->run, &v->token, v->rc, v->rc == 0 ? v->detail : v->err.msg,
			       &err) != 0)
		lb_log(LB_LOG_ERROR, "run", "log_failed", "run=%s", s->id, "err=%s", err.msg, NULL);
	verb_free(v);
	sa_verbs_settle(s);
}

static void answer_on_loop(void *arg)
{
	answer(arg);
}

/* @rc > 0: a worker or a child has @v now and answers later; it must not be touched. Otherwise it
 * ended already; the answer is asynchronous all the same. */
static void settle_begin(struct verb *v, int rc)
{
	if (rc > 0)
		return;
	v->rc = rc;
	lb_loop_post(v->run->runs->agent->loop, answer_on_loop, v);
}

static bool is_cancelled(const struct verb *v)
{
	return __atomic_load_n(&v->cancelled, __ATOMIC_SEQ_CST);
}

static struct sa_agent *agent_of(const struct verb *v)
{
	return v->run->runs->agent;
}

static struct verb *verb_of(struct sa_runs *r, const struct rb_token *t)
{
	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		for (struct verb *v = s->verbs; v != NULL; v = v->next)
			if (lb_id_equal(&v->token.run, &t->run) && v->token.step == t->step &&
			    v->token.attempt == t->attempt)
				return v;
	return NULL;
}

/* ---- fence ---- */

static bool runbook_boots(const struct rb_runbook *rb, const struct rep_manifest *m)
{
	bool any = false;

	for (size_t i = 0; i < rb->step_count; i++) {
		if (rb->steps[i].action != RB_BOOT)
			continue;
		any = true;
		for (uint32_t k = 0; k < m->volumes; k++)
			if (strcmp(m->volume[k].machine_name, rb->steps[i].machine) == 0)
				return true;
	}
	return !any; /* a runbook without boots fences every group of the site */
}

/* Is @rec a group that @rb fails over from @site? */
static bool is_concerned(struct sa_agent *a, const struct sa_role_record *rec,
			 const struct rb_runbook *rb, const struct lb_id *site)
{
	struct rep_manifest *m = NULL;
	struct lb_buf *bytes = NULL;
	struct rep_point head;
	bool yes = false;

	if (!lb_id_equal(&rec->writer, site) || !rep_store_head(a->store, &rec->group, &head))
		return false;
	if (sa_read_manifest(a, &head.manifest, &bytes, &m, NULL) == 0)
		yes = runbook_boots(rb, m);
	lb_buf_unref(bytes);
	free(m);
	return yes;
}

/*
 * The roles are taken over, so nothing new is admitted. What the store thread still has under way
 * must be decided before a boot chooses its point: the question goes behind it in its queue. It has
 * its own memory, since the run may be gone when the answer comes.
 */
struct settle {
	struct sa_runs *runs;
	struct rb_token token;
	struct rep_target *target;
	int rc;
	struct lb_err err;
};

static void settle_work(void *arg, struct rep_store *s)
{
	struct settle *q = arg;

	(void)s;
	q->rc = rep_target_settle(q->target, &q->err);
}

static void settle_done(void *arg)
{
	struct settle *q = arg;
	struct verb *v = verb_of(q->runs, &q->token);
	size_t used;

	if (v != NULL) {
		used = strlen(v->detail);
		/* a full or failing disk must not keep the survivors from being booted */
		if (q->rc != 0)
			(void)snprintf(v->detail + used, sizeof(v->detail) - used,
				       "; the newest point is undecided: %.150s", q->err.msg);
		v->rc = 0;
		answer(v);
	}
	free(q);
}

/* 1: answers later. */
static int settle(struct verb *v, struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	struct settle *q;

	if (a->target == NULL)
		return 0;
	q = calloc(1, sizeof(*q));
	if (q == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "fence");
	q->runs = v->run->runs;
	q->token = v->token;
	q->target = a->target;
	rep_target_on_store(a->target, settle_work, settle_done, free, q);
	return 1;
}

static int fence(struct verb *v, const struct rb_runbook *rb, struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	const struct sa_peer *p = sa_ident_peer_by_name(a->ident, v->step->site);
	struct sa_role_record rec;
	char why[128];
	unsigned n = 0;
	int rc = 0;

	if (v->mode == RB_DRILL) {
		(void)snprintf(v->detail, sizeof(v->detail), "drill: roles are not touched");
		return 0;
	}
	if (p == NULL || a->store == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "site %s is not a peer of this site",
				  v->step->site);
	(void)snprintf(why, sizeof(why), "run %s: fence %s", v->run->id, v->step->site);
	for (size_t i = 0; i < sa_roles_count(a->roles) && rc == 0; i++)
		if (sa_roles_at(a->roles, i, &rec) && is_concerned(a, &rec, rb, &p->site)) {
			rc = sa_backup_take_over(a, &rec.group, why, err);
			if (rc == 0 && sa_role_get(a->roles, &rec.group, &rec))
				sa_run_fenced(v->run, &rec.group, rec.epoch);
			n++;
		}
	if (rc == 0 && n == 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no group of site %s is replicated here",
				  v->step->site);
	(void)snprintf(v->detail, sizeof(v->detail), "%u group%s of %s taken over", n,
		       n == 1 ? "" : "s", v->step->site);
	return rc != 0 ? rc : settle(v, err);
}

/* ---- boot ---- */

struct candidate {
	struct sa_catalog *catalog;
	struct rep_point *points; /* newest last */
	size_t n;
};

static int add_point(void *arg, const struct rep_point *p)
{
	struct candidate *c = arg;
	struct rep_point *grown;

	if ((c->n & (c->n + 1)) == 0 || c->points == NULL) {
		grown = realloc(c->points, (2 * c->n + 2) * sizeof(*grown));
		if (grown == NULL)
			return LB_ENOMEM;
		c->points = grown;
	}
	c->points[c->n++] = *p;
	return 0;
}

static bool is_good(const struct candidate *c, const struct rep_point *p)
{
	unsigned marks = 0;

	if (p->damaged)
		return false;
	return sa_catalog_marks(c->catalog, &p->manifest, &marks, NULL) != 0 ||
	       (marks & (1u << SA_MARK_BAD)) == 0;
}

int sa_group_of_machine(struct sa_agent *a, const char *machine, struct lb_id *group,
			struct lb_err *err)
{
	struct sa_role_record rec;
	struct rep_point head;

	for (size_t i = 0; i < sa_roles_count(a->roles); i++) {
		struct rep_manifest *m = NULL;
		struct lb_buf *bytes = NULL;
		bool found = false;

		if (!sa_roles_at(a->roles, i, &rec) || !rep_store_head(a->store, &rec.group, &head))
			continue;
		if (sa_read_manifest(a, &head.manifest, &bytes, &m, err) == 0)
			for (uint32_t k = 0; k < m->volumes && !found; k++)
				found = strcmp(m->volume[k].machine_name, machine) == 0;
		lb_buf_unref(bytes);
		free(m);
		if (found) {
			*group = rec.group;
			return 0;
		}
	}
	return lb_err_set(err, LB_ENOTFOUND, 0, "no recovery point here holds machine %s", machine);
}

/* The point of group @group that this run booted a machine from already. */
static const struct sa_boot *boot_of_group(const struct sa_run *s, const struct lb_id *group)
{
	const struct sa_boot *found = NULL;

	for (const struct sa_boot *b = s->boots; b != NULL; b = b->next)
		if (lb_id_equal(&b->group, group) &&
		    (found == NULL || b->point_seq < found->point_seq))
			found = b;
	return found;
}

/* Newest good point of @group below @seq. */
static int next_rung(struct verb *v, const struct lb_id *group, uint64_t seq, struct rep_point *out,
		     struct lb_err *err)
{
	struct sa_agent *a = agent_of(v);
	struct candidate c = {.catalog = a->catalog};
	bool found = false;
	int rc = rep_store_points(a->store, group, add_point, &c);

	if (rc != 0)
		rc = lb_err_set(err, LB_ENOMEM, 0, "list of recovery points");
	for (size_t i = c.n; i > 0 && rc == 0 && !found; i--)
		if (c.points[i - 1].seq < seq && is_good(&c, &c.points[i - 1])) {
			*out = c.points[i - 1];
			found = true;
		}
	if (rc == 0 && !found)
		rc = lb_err_set(err, LB_ENOTFOUND, 0,
				"machine %s has no further good recovery point (attempt %u)",
				v->step->machine, v->token.attempt);
	free(c.points);
	return rc;
}

/* @prior: what an earlier attempt of this step took, or NULL. */
static int choose_point(struct verb *v, const struct sa_boot *prior, const struct lb_id *group,
			struct rep_point *out, struct lb_err *err)
{
	bool ladder = v->step->point[0] == '\0' || strcmp(v->step->point, "latest-good") == 0;
	const struct sa_boot *same = boot_of_group(v->run, group);

	if (!ladder)
		return sa_point_resolve(agent_of(v), v->step->point, group, out, err);
	/* memory, then the same point cold, then the next older one */
	if (prior != NULL)
		return next_rung(v, group, prior->point_seq + (prior->memory ? 1 : 0), out, err);
	if (same != NULL)
		return next_rung(v, group, same->point_seq + 1, out, err);
	return next_rung(v, group, UINT64_MAX, out, err);
}

static struct sa_boot *boot_of_step(struct sa_run *s, uint32_t step)
{
	for (struct sa_boot *b = s->boots; b != NULL; b = b->next)
		if (b->step == step)
			return b;
	return NULL;
}

/* Make the run's list say what @b says; a boot of that step is replaced. */
static int publish(struct sa_run *s, const struct sa_boot *b, struct lb_err *err)
{
	struct sa_boot *mine = boot_of_step(s, b->step), *next;

	if (mine == NULL) {
		mine = calloc(1, sizeof(*mine));
		if (mine == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "boot of %s", b->machine);
		mine->next = s->boots;
		s->boots = mine;
	}
	next = mine->next;
	*mine = *b;
	mine->next = next;
	return 0;
}

/* A drill's machine is not the one it comes from. A name that is too long for that is cut, and told
 * from another that begins like it by its step. */
static void name_domain(struct verb *v)
{
	struct sa_boot *b = &v->boot;
	const char *run = v->run->id, *machine = v->step->machine;

	if (v->mode != RB_DRILL)
		memcpy(b->domain, machine, sizeof(b->domain));
	else if (strlen(machine) < sizeof(b->domain) - sizeof(DRILL_PREFIX "-12345678-") + 1)
		(void)snprintf(b->domain, sizeof(b->domain), DRILL_PREFIX "-%.8s-%.49s", run,
			       machine);
	else
		(void)snprintf(b->domain, sizeof(b->domain), DRILL_PREFIX "-%.8s-%" PRIu32 "-%.38s",
			       run, v->token.step, machine);
}

static void name_boot(struct verb *v)
{
	struct sa_boot *b = &v->boot;
	char rel[40];

	memcpy(b->machine, v->step->machine, sizeof(b->machine));
	memcpy(b->run, v->run->id, sizeof(b->run));
	sa_boot_path(rel, sizeof(rel), v->run->id, v->token.step);
	(void)snprintf(b->dir, sizeof(b->dir), "%.200s/%s", agent_of(v)->cfg->state_dir, rel);
	name_domain(v);
}

/*
 * Under that name one runs here already, in another directory: another run's, or one that is
 * defined here. libvirt refuses a second domain of a name by itself; of lifeboat-vm nobody would,
 * and two of one machine on one network are worse than none.
 */
static int check_only(struct verb *v, struct lb_err *err)
{
	struct sa_vm_place *place = calloc(SA_VM_PLACES_MAX, sizeof(*place));
	size_t n;
	int rc = 0;

	if (place == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "boot of %s", v->boot.machine);
	n = sa_vms_places(agent_of(v), v->boot.domain, place, SA_VM_PLACES_MAX);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (strcmp(place[i].dir, v->boot.dir) != 0 && sa_vmrun_alive(place[i].dir, NULL))
			rc = lb_err_set(err, LB_EEXIST, 0,
					"machine %s runs here already (%s %.8s); stop it first: "
					"lifeboat vm stop %s",
					v->boot.machine, place[i].group != NULL ? "group" : "run",
					place[i].group != NULL ? place[i].group->name
							       : place[i].run,
					v->boot.domain);
	free(place);
	return rc;
}

/* v->boot: the one recorded for this attempt, or a new one with its point chosen. */
static int make_boot(struct verb *v, struct lb_err *err)
{
	const struct sa_boot *prior = boot_of_step(v->run, v->token.step);
	struct rep_point point;
	struct lb_id group;
	int rc;

	if (prior != NULL && prior->attempt == v->token.attempt) {
		v->boot = *prior;
		return 0;
	}
	rc = sa_group_of_machine(agent_of(v), v->step->machine, &group, err);
	if (rc == 0)
		rc = choose_point(v, prior, &group, &point, err);
	if (rc != 0)
		return rc;
	v->boot = (struct sa_boot){.step = v->token.step,
				   .attempt = v->token.attempt,
				   .mode = v->mode,
				   .group = group,
				   .point = point.manifest,
				   .point_seq = point.seq,
				   .point_wall_ns = point.capture_wall_ns,
				   .memory = prior == NULL || !prior->memory};
	name_boot(v);
	return publish(v->run, &v->boot, err);
}

static enum sa_probe_kind probe_kind(enum rb_probe_kind k)
{
	return k == RB_PROBE_TCP      ? SA_PROBE_TCP
	       : k == RB_PROBE_SERIAL ? SA_PROBE_SERIAL
				      : SA_PROBE_HEARTBEAT;
}

static void add_detail(struct verb *v, const char *text)
{
	size_t used = strlen(v->detail);

	(void)snprintf(v->detail + used, sizeof(v->detail) - used, "%s%s", used > 0 ? "; " : "",
		       text);
}

static int run_probes(struct verb *v, struct sa_hv_machine *vm, struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < v->step->probe_count && rc == 0; i++) {
		const struct rb_probe *p = &v->step->probes[i];
		char seen[160] = "";
		struct sa_probe probe = {
			.kind = probe_kind(p->kind),
			.text = p->kind == RB_PROBE_SERIAL ? p->text : NULL,
			.host = v->boot.address[0] != '\0' ? v->boot.address : NULL,
			.port = p->port,
			.timeout_ns = p->within_ns,
		};

		rc = sa_hv_probe(vm, &probe, seen, sizeof(seen), &v->cancelled, err);
		if (rc == 0)
			add_detail(v, seen);
	}
	return rc;
}

/* A drill's machine carries the addresses of one in production: no bubble, no boot. */
static int check_bubble(struct verb *v, struct lb_err *err)
{
	struct sa_boot *b = &v->boot;
	struct lb_err why = {0};
	int rc;

	if (v->mode != RB_DRILL)
		return 0;
	rc = sa_isolation_check(&agent_of(v)->cfg->drill_network, b->dir, b->isolation,
				sizeof(b->isolation), &why);
	b->isolated = rc == 0;
	if (rc != 0)
		(void)snprintf(b->isolation, sizeof(b->isolation), "%s", why.msg);
	(void)lb_utf8_clean(b->isolation);
	if (rc == LB_EUNSUPPORTED) /* cannot be proven; said in the report */
		return 0;
	return rc != 0 ? lb_err_set(err, (enum lb_code)rc, 0, "%s", why.msg) : 0;
}

static int start_boot(struct verb *v, const char *xml, const struct sa_boot_memory *memory,
		      struct sa_hv_machine **vm, struct lb_err *err)
{
	struct sa_boot *b = &v->boot;
	int rc = sa_boot_start(agent_of(v), b, xml, memory, vm, err);

	if (rc != 0)
		return rc;
	(void)snprintf(v->detail, sizeof(v->detail), "point seq %" PRIu64, b->point_seq);
	if (b->memory)
		add_detail(v, "from memory");
	if (b->cold[0] != '\0') {
		add_detail(v, "cold");
		add_detail(v, b->cold);
	}
	add_detail(v, sa_hv_why(*vm));
	return 0;
}

static void boot_work(void *arg)
{
	struct verb *v = arg;
	struct sa_hv_machine *vm = NULL;
	struct sa_boot_memory memory = {.state = NULL};
	char *xml = NULL;

	if (is_cancelled(v))
		v->rc = lb_err_set(&v->err, LB_ECANCELED, 0, "ended before anything was done");
	if (v->rc == 0)
		v->rc = sa_furnish(agent_of(v), &v->boot, &xml, &memory, &v->err);
	if (v->rc == 0)
		v->rc = check_bubble(v, &v->err);
	if (v->rc == 0 && is_cancelled(v))
		v->rc = lb_err_set(&v->err, LB_ECANCELED, 0, "ended before machine %s was started",
				   v->boot.machine);
	if (v->rc == 0)
		v->rc = start_boot(v, xml, &memory, &vm, &v->err);
	if (v->rc == 0)
		v->rc = run_probes(v, vm, &v->err);
	if (v->rc == 0 && v->boot.memory)
		sa_keep_order(agent_of(v), &v->boot, vm);
	sa_hv_machine_destroy(vm);
	free(memory.state);
	free(memory.order);
	free(xml);
}

/* A machine that came up only from an older point does not agree with those of its group that run
 * already: that must not look like one instant. */
static void tell_instants(struct verb *v)
{
	char text[160];

	for (const struct sa_boot *b = v->run->boots; b != NULL; b = b->next) {
		if (b->step == v->boot.step || b->state != SA_BOOT_BOOTED ||
		    !lb_id_equal(&b->group, &v->boot.group) ||
		    lb_hash_equal(&b->point, &v->boot.point))
			continue;
		(void)snprintf(text, sizeof(text), "not of one instant with %s, seq %" PRIu64,
			       b->machine, b->point_seq);
		add_detail(v, text);
	}
}

static void boot_done(void *arg)
{
	struct verb *v = arg;
	struct sa_agent *a = agent_of(v);

	if (v->rc == 0)
		tell_instants(v);
	(void)publish(v->run, &v->boot, NULL); /* replaces: cannot fail */
	if (v->rc == 0)
		(void)sa_catalog_mark(a->catalog, &v->boot.point, SA_MARK_BOOTED,
				      a->env->wall_ns(a->env), v->run->id, NULL);
	answer(v);
}

/* 1: answers later. */
static int boot(struct verb *v, struct lb_err *err)
{
	struct sa_agent *a = agent_of(v);
	int rc;

	if (a->store == NULL || a->hv == NULL)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "this site cannot boot: configure `listen` and `hypervisor`");
	if (v->run->preempted)
		return lb_err_set(err, LB_ECANCELED, 0, "a failover needs the room of this drill");
	v->parked = v->mode != RB_DRILL && !sa_runs_may_boot(v->run->runs);
	if (v->parked)
		return 1;
	rc = make_boot(v, err);
	if (rc == 0)
		rc = check_only(v, err);
	if (rc != 0)
		return rc;
	v->on_machine = true;
	lb_pool_submit(a->slow, boot_work, boot_done, v);
	return 1;
}

void sa_verbs_unpark(struct sa_runs *r)
{
	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		for (struct verb *v = s->verbs; v != NULL; v = v->next) {
			if (!v->parked)
				continue;
			settle_begin(v, boot(v, &v->err));
		}
}

/* ---- probe, stop ---- */

static void probe_work(void *arg)
{
	struct verb *v = arg;
	struct sa_hv_machine *vm = NULL;

	v->rc = sa_boot_adopt(agent_of(v), &v->boot, &vm, &v->err);
	if (v->rc == 0)
		v->rc = run_probes(v, vm, &v->err);
	sa_hv_machine_destroy(vm);
}

static void stop_work(void *arg)
{
	struct verb *v = arg;
	struct sa_agent *a = agent_of(v);

	v->rc = sa_boot_end(a, &v->boot, v->mode == RB_DRILL, &v->err);
	if (v->rc == 0 && v->boot.state != SA_BOOT_CLEANED) {
		v->boot.state = SA_BOOT_STOPPED;
		v->rc = sa_boot_save(a, &v->boot, &v->err);
	}
	(void)snprintf(v->detail, sizeof(v->detail), "%s is off", v->boot.domain);
}

static void stop_done(void *arg)
{
	struct verb *v = arg;

	(void)publish(v->run, &v->boot, NULL); /* replaces: cannot fail */
	answer(v);
}

static int on_booted(struct verb *v, lb_loop_fn work, lb_loop_fn done, struct lb_err *err)
{
	const struct sa_boot *b = sa_boot_of_machine(v->run, v->step->machine);

	if (b == NULL || v->run->preempted)
		return lb_err_set(err, b == NULL ? LB_ENOTFOUND : LB_ECANCELED, 0,
				  b == NULL ? "machine %s was not booted by this run"
					    : "machine %s makes room for a failover",
				  v->step->machine);
	v->boot = *b;
	v->on_machine = true;
	lb_pool_submit(agent_of(v)->slow, work, done, v);
	return 1;
}

/* ---- exec ---- */

static void exec_done(void *arg, int exit_status, int term_signal, bool timed_out,
		      const char *output, size_t output_len)
{
	struct verb *v = arg;
	char tail[200], safe[SA_DETAIL_BYTES];
	size_t from = output_len > 150 ? output_len - 150 : 0;

	(void)snprintf(tail, sizeof(tail), "%.*s", (int)(output_len - from), output + from);
	(void)lb_text_escape(safe, sizeof(safe), tail);
	if (v->cancelled || timed_out)
		v->rc = lb_err_set(&v->err, LB_ECANCELED, 0, "ended by the run: %.150s", safe);
	else if (term_signal != 0)
		v->rc = lb_err_set(&v->err, LB_EIO, 0, "%s died of signal %d: %.150s",
				   v->step->run[0], term_signal, safe);
	else if (exit_status != 0)
		v->rc = lb_err_set(&v->err, LB_EIO, 0, "%s ended with status %d%s%.150s",
				   v->step->run[0], exit_status, safe[0] != '\0' ? ": " : "", safe);
	else
		(void)snprintf(v->detail, sizeof(v->detail), "%s", safe);
	answer(v);
}

static int exec(struct verb *v, const char *const *argv, struct lb_err *err)
{
	struct lb_child_cfg cfg = {.argv = argv, .on_exit = exec_done, .arg = v};
	int rc = lb_child_spawn(&v->child, v->run->runs->agent->loop, &cfg, err);

	return rc != 0 ? rc : 1;
}

/* ---- report ---- */

static int report(struct verb *v, struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	json_t *o = sa_run_report_json(v->run);
	char *text = o == NULL ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
	char path[64];
	int rc;

	(void)snprintf(path, sizeof(path), "reports/%s.json", v->run->id);
	rc = text == NULL ? lb_err_set(err, LB_ENOMEM, 0, "report")
			  : lb_fs_replace(a->state, path, text, strlen(text), err);
	if (rc == 0)
		(void)snprintf(v->detail, sizeof(v->detail), "%.300s/%s", a->cfg->state_dir, path);
	free(text);
	json_decref(o);
	return rc;
}

/* ---- the vtable ---- */

static int begin(struct verb *v, const struct rb_effect *e, struct lb_err *err)
{
	switch (e->step->action) {
	case RB_FENCE:
		return fence(v, e->runbook, err);
	case RB_BOOT:
		return boot(v, err);
	case RB_PROBE:
		return on_booted(v, probe_work, answer_on_loop, err);
	case RB_STOP:
		return on_booted(v, stop_work, stop_done, err);
	case RB_EXEC:
		return exec(v, e->argv, err);
	case RB_REPORT:
		return report(v, err);
	case RB_WAIT:
	case RB_MIGRATE:
	case RB_APPROVE:
	case RB_PROMPT:
	case RB_HTTP:
	case RB_NETWORK:
	case RB_CAPACITY:
	case RB_COMMIT:
	case RB_ACTION_COUNT:
		break;
	}
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "action %s", rb_action_name(e->step->action));
}

static void verb_start(struct rb_verbs *vt, struct rb_run *run, const struct rb_effect *e)
{
	struct sa_runs *r = (struct sa_runs *)vt;
	struct verb *v = calloc(1, sizeof(*v));
	struct lb_err err = {0};

	if (v == NULL) {
		(void)rb_run_effect_done(run, &e->token, LB_ENOMEM, "out of memory", &err);
		return;
	}
	v->run = sa_run_of(r, run);
	LB_ASSERT(v->run != NULL);
	v->token = e->token;
	v->step = e->step;
	v->mode = e->mode;
	v->next = v->run->verbs;
	v->run->verbs = v;
	settle_begin(v, begin(v, e, &v->err));
}

static void kill_child(void *arg)
{
	struct verb *v = arg;

	lb_log(LB_LOG_WARN, "run", "exec_killed", "run=%s", v->run->id, "step=%s", v->step->id,
	       NULL);
	lb_child_kill(v->child, SIGKILL);
}

/* SIGTERM to the child's process group, and SIGKILL when it is still there after the grace. */
static void end_child(struct verb *v)
{
	struct sa_runs *r = v->run->runs;

	if (v->child == NULL)
		return;
	lb_child_kill(v->child, SIGTERM);
	if (v->grace != NULL)
		return;
	if (lb_timer_create(&v->grace, r->agent->loop, kill_child, v, NULL) != 0)
		kill_child(v);
	else
		lb_timer_start(v->grace, r->exec_grace_ns, 0);
}

static void cancel(struct verb *v)
{
	__atomic_store_n(&v->cancelled, true, __ATOMIC_SEQ_CST);
	end_child(v);
	if (!v->parked)
		return;
	v->parked = false;
	v->rc = lb_err_set(&v->err, LB_ECANCELED, 0, "ended before machine %s was started",
			   v->step->machine);
	lb_loop_post(v->run->runs->agent->loop, answer_on_loop, v);
}

static void verb_cancel(struct rb_verbs *vt, struct rb_run *run, const struct rb_token *t)
{
	struct sa_run *s = sa_run_of((struct sa_runs *)vt, run);

	for (struct verb *v = s != NULL ? s->verbs : NULL; v != NULL; v = v->next)
		if (v->token.step == t->step && v->token.attempt == t->attempt)
			cancel(v);
}

void sa_verbs_cancel_all(struct sa_run *s)
{
	for (struct verb *v = s->verbs; v != NULL; v = v->next)
		__atomic_store_n(&v->cancelled, true, __ATOMIC_SEQ_CST);
}

void sa_verbs_init(struct rb_verbs *v)
{
	*v = (struct rb_verbs){.start = verb_start, .cancel = verb_cancel};
}

/* ---- the end of drills ---- */

struct clean {
	struct sa_run *run;
	struct lb_err err;
	size_t n, failed;
	struct sa_boot boot[]; /* copies */
};

static bool to_clean(const struct sa_boot *b)
{
	return b->mode == RB_DRILL && b->state != SA_BOOT_CLEANED;
}

static size_t count_to_clean(const struct sa_run *s)
{
	size_t n = 0;

	for (const struct sa_boot *b = s->boots; b != NULL; b = b->next)
		n += to_clean(b) ? 1 : 0;
	return n;
}

static struct clean *clean_new(struct sa_run *s)
{
	size_t n = count_to_clean(s);
	struct clean *c = calloc(1, sizeof(*c) + n * sizeof(c->boot[0]));

	if (c == NULL)
		return NULL;
	c->run = s;
	for (const struct sa_boot *b = s->boots; b != NULL; b = b->next)
		if (to_clean(b))
			c->boot[c->n++] = *b;
	return c;
}

static void clean_work(void *arg)
{
	struct clean *c = arg;

	for (size_t i = 0; i < c->n; i++)
		if (sa_boot_clean(c->run->runs->agent, &c->boot[i], &c->err) != 0)
			c->failed++;
}

static void clean_done(void *arg)
{
	struct clean *c = arg;
	struct sa_run *s = c->run;

	for (size_t i = 0; i < c->n; i++)
		(void)publish(s, &c->boot[i], NULL); /* replaces: cannot fail */
	s->cleaning = false;
	if (c->failed > 0) {
		lb_log(LB_LOG_ERROR, "run", "drill_not_cleaned", "run=%s", s->id, "machines=%zu",
		       c->failed, "err=%s", c->err.msg, NULL);
		lb_timer_start(s->again, CLEAN_AGAIN_NS, 0);
	} else {
		lb_log(LB_LOG_INFO, "run", "drill_cleaned", "run=%s", s->id, NULL);
	}
	s->clean = NULL;
	free(c);
	if (sa_runs_may_boot(s->runs))
		sa_verbs_unpark(s->runs);
}

static bool machines_busy(const struct sa_run *s)
{
	for (const struct verb *v = s->verbs; v != NULL; v = v->next)
		if (v->on_machine)
			return true;
	return s->cleaning;
}

void sa_verbs_settle(struct sa_run *s)
{
	struct clean *c;

	if (s->mode != RB_DRILL || (!s->preempted && !sa_run_ended(s)) || machines_busy(s) ||
	    count_to_clean(s) == 0)
		return;
	c = clean_new(s);
	if (c == NULL) {
		lb_timer_start(s->again, CLEAN_AGAIN_NS, 0);
		return;
	}
	s->cleaning = true;
	s->clean = c;
	lb_pool_submit(s->runs->agent->slow, clean_work, clean_done, c);
}

void sa_verbs_drop(struct sa_run *s)
{
	struct sa_boot *next;

	while (s->verbs != NULL) {
		struct verb *v = s->verbs;

		s->verbs = v->next;
		verb_free(v);
	}
	for (struct sa_boot *b = s->boots; b != NULL; b = next) {
		next = b->next;
		free(b);
	}
	s->boots = NULL;
	free(s->clean);
	s->clean = NULL;
}
