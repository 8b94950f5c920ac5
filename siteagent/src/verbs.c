/*
 * What the steps of a runbook do at this site.
 *
 *   fence   the groups of the runbook's machines leave their old primary: epoch + 1, durable, peers
 * told   (drill: nothing) boot    point -> views (nbdkit) -> hypervisor -> probes (on the pool; may
 * take minutes) probe   the probes again (on the pool) stop    power off what this run booted (on
 * the pool) exec    argv in a child process, never a shell report  the run as JSON to
 * <state_dir>/reports/<run>.json, durable
 *
 * Idempotent by (run, step, attempt): a fence asked again finds its own mark in the role record; a
 * boot adopts the domain that carries its name; an exec cannot know, and says so in
 * docs/formats/runbook.md. Ladder: attempt n of a boot takes the n-th newest point that is not
 * known to be bad (design 02, rule 10).
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "runs_int.h"

#define DRILL_PREFIX "drill"

/* One effect under way. */
struct verb {
	struct verb *next;
	struct sa_run *run;
	struct rb_token token;
	const struct rb_step *step; /* borrowed until answered */
	enum rb_mode mode;
	struct sa_boot *boot;
	struct lb_child *child;
	bool cancelled; /* polled by probes */
	int rc;
	struct lb_err err;
	char detail[SA_DETAIL_BYTES];
};

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
	lb_child_destroy(v->child);
	free(v);
}

static void answer_on_loop(void *arg)
{
	answer(arg);
}

static struct sa_boot *boot_of_machine(struct sa_run *s, const char *machine)
{
	for (struct sa_boot *b = s->boots; b != NULL; b = b->next)
		if (strcmp(b->machine, machine) == 0)
			return b;
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

static int read_manifest(struct sa_agent *a, const struct lb_hash *point, struct lb_buf **bytes,
			 struct rep_manifest **m, struct lb_err *err)
{
	int rc = rep_store_read_manifest(a->store, point, bytes, err);

	if (rc != 0)
		return rc;
	*m = malloc(sizeof(**m));
	if (*m == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "manifest");
	return rep_manifest_decode(*m, (*bytes)->p, (*bytes)->len, err);
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
	if (read_manifest(a, &head.manifest, &bytes, &m, NULL) == 0)
		yes = runbook_boots(rb, m);
	lb_buf_unref(bytes);
	free(m);
	return yes;
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
			rc = sa_backup_take_over(a, rec.name, why, err);
			n++;
		}
	if (rc == 0 && n == 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no group of site %s is replicated here",
				  v->step->site);
	(void)snprintf(v->detail, sizeof(v->detail), "%u group%s of %s taken over", n,
		       n == 1 ? "" : "s", v->step->site);
	return rc;
}

/* ---- boot ---- */

struct candidate {
	const char *machine;
	unsigned skip; /* points to pass over: the ladder */
	struct sa_catalog *catalog;
	struct rep_store *store;
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

/* Group of the machine: the one whose newest point names it. */
static int group_of_machine(struct sa_agent *a, const char *machine, struct lb_id *group,
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
		if (read_manifest(a, &head.manifest, &bytes, &m, err) == 0)
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

static int choose_point(struct verb *v, const struct lb_id *group, struct rep_point *out,
			struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	struct candidate c = {.catalog = a->catalog, .skip = v->token.attempt - 1};
	int rc;

	if (v->step->point[0] != '\0' && strcmp(v->step->point, "latest-good") != 0)
		return sa_point_resolve(a, v->step->point, group, out, err);
	rc = rep_store_points(a->store, group, add_point, &c);
	if (rc != 0)
		rc = lb_err_set(err, LB_ENOMEM, 0, "list of recovery points");
	for (size_t i = c.n; i > 0 && rc == 0; i--) {
		if (!is_good(&c, &c.points[i - 1]))
			continue;
		*out = c.points[i - 1];
		if (c.skip-- == 0)
			goto out;
	}
	if (rc == 0)
		rc = lb_err_set(err, LB_ENOTFOUND, 0,
				"machine %s has no further good recovery point (attempt %u)",
				v->step->machine, v->token.attempt);
out:
	free(c.points);
	return rc;
}

static int make_dir(struct sa_agent *a, const char *path, struct lb_err *err)
{
	return lb_fs_mkdir(a->state, path, err);
}

static int boot_new(struct verb *v, struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	struct sa_boot *b = boot_of_machine(v->run, v->step->machine);
	char rel[128];
	int rc;

	(void)snprintf(rel, sizeof(rel), "boots/%.8s", v->run->id);
	rc = make_dir(a, rel, err);
	(void)snprintf(rel, sizeof(rel), "boots/%.8s/%u", v->run->id, v->token.step);
	if (rc == 0)
		rc = make_dir(a, rel, err);
	if (rc != 0)
		return rc;
	if (b == NULL) {
		b = calloc(1, sizeof(*b));
		if (b == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "boot of %s", v->step->machine);
		b->next = v->run->boots;
		v->run->boots = b;
	}
	b->step = v->token.step;
	memcpy(b->machine, v->step->machine, sizeof(b->machine));
	(void)snprintf(b->dir, sizeof(b->dir), "%s/%s", a->cfg->state_dir, rel);
	if (v->mode == RB_DRILL)
		(void)snprintf(b->domain, sizeof(b->domain), DRILL_PREFIX "-%.8s-%.40s", v->run->id,
			       v->step->machine);
	else
		memcpy(b->domain, v->step->machine, sizeof(b->domain));
	v->boot = b;
	return 0;
}

/* The machine's description from the point's sealed attachments. */
static int describe(struct sa_agent *a, const struct rep_manifest *m, const char *machine,
		    char **xml, char *address, struct lb_err *err)
{
	uint8_t *plain = malloc(REP_ATTACHMENT_MAX + 1);
	struct lb_key dek;
	int rc = plain == NULL ? lb_err_set(err, LB_ENOMEM, 0, "description of %s", machine)
			       : LB_ENOTFOUND;

	for (uint32_t i = 0; i < m->attachments && rc == LB_ENOTFOUND; i++) {
		const struct rep_attachment *at = &m->attachment[i];

		if (at->kind != REP_ATTACH_MACHINE ||
		    sa_keyring_by_id(a->keyring, &at->key, &dek) != 0)
			continue;
		if (rep_attachment_open(plain, at, m, &dek, err) != 0)
			continue;
		rc = sa_machine_xml_of(xml, (const char *)plain, at->bytes, machine, err);
		sa_machine_address_of(address, SA_HOST_BYTES, (const char *)plain, at->bytes,
				      machine);
	}
	lb_key_wipe(&dek);
	free(plain);
	if (rc == LB_ENOTFOUND || (rc == 0 && *xml == NULL))
		return lb_err_set(err, LB_ENOTFOUND, 0,
				  "the recovery point does not say how machine %s is built",
				  machine);
	return rc;
}

static int serve_disks(struct verb *v, const struct rep_manifest *m, struct sa_view *view,
		       struct sa_hv_disk *disk, size_t *count, struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	size_t n = 0;
	int rc = 0;

	for (uint32_t i = 0; i < m->volumes && rc == 0; i++) {
		const struct rep_manifest_volume *mv = &m->volume[i];

		if (strcmp(mv->machine_name, v->step->machine) != 0 || mv->kind != REP_VOLUME_DISK)
			continue;
		if (n == SA_HV_DISKS_MAX)
			return lb_err_set(err, LB_EUNSUPPORTED, 0, "machine %s has over %d disks",
					  v->step->machine, SA_HV_DISKS_MAX);
		rc = sa_view_serve(a->views, v->boot->dir, &v->boot->point, &mv->volume,
				   mv->volume_name, &view[n], err);
		disk[n] = (struct sa_hv_disk){.name = mv->volume_name,
					      .nbd_socket = view[n].socket,
					      .nbd_export = "",
					      .size_bytes = view[n].size_bytes};
		n++;
	}
	*count = n;
	return rc;
}

static int start_machine(struct verb *v, const char *xml, const struct sa_hv_disk *disk, size_t n,
			 struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	const struct sa_network_cfg *net =
		v->mode == RB_DRILL ? &a->cfg->drill_network : &a->cfg->failover_network;
	struct sa_hv_boot_cfg cfg = {
		.name = v->boot->domain,
		.machine_xml = xml,
		.disks = disk,
		.disk_count = n,
		.dir = v->boot->dir,
		.netns = net->netns[0] != '\0' ? net->netns : NULL,
		.bridge = net->bridge[0] != '\0' ? net->bridge : NULL,
		.keep_uuid = v->mode != RB_DRILL,
	};
	struct sa_hv_machine *vm = NULL;
	int rc = sa_hv_fits(a->hv, &cfg, err);

	if (rc == 0) {
		rc = sa_hv_adopt(a->hv, &vm, &cfg, err);
		if (rc == LB_ENOTFOUND)
			rc = sa_hv_prepare(a->hv, &vm, &cfg, err);
	}
	if (rc == 0)
		rc = sa_hv_start(vm, err);
	if (rc != 0) {
		sa_hv_machine_destroy(vm);
		return rc;
	}
	v->boot->vm = vm;
	v->boot->booted_ns = a->env->now_ns(a->env);
	return 0;
}

static int run_probes(struct verb *v, struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	size_t used = strlen(v->detail);
	char seen[160];
	int rc = 0;

	if (v->boot == NULL || v->boot->vm == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "machine %s was not booted by this run",
				  v->step->machine);
	for (size_t i = 0; i < v->step->probe_count && rc == 0; i++) {
		const struct rb_probe *p = &v->step->probes[i];
		struct sa_probe probe = {
			.kind = p->kind == RB_PROBE_TCP      ? SA_PROBE_TCP
				: p->kind == RB_PROBE_SERIAL ? SA_PROBE_SERIAL
							     : SA_PROBE_HEARTBEAT,
			.text = p->kind == RB_PROBE_SERIAL ? p->text : NULL,
			.host = v->boot->address[0] != '\0' ? v->boot->address : NULL,
			.port = p->port,
			.timeout_ns = p->within_ns,
		};

		seen[0] = '\0';
		rc = sa_hv_probe(v->boot->vm, &probe, seen, sizeof(seen), &v->cancelled, err);
		if (rc == 0 && used < sizeof(v->detail)) {
			int n = snprintf(v->detail + used, sizeof(v->detail) - used, "%s%s",
					 used > 0 ? "; " : "", seen);
			used += n > 0 ? (size_t)n : 0;
		}
	}
	(void)a;
	return rc;
}

/* What an earlier attempt of this boot left is in the way of the next point. */
static void clear_attempt(struct verb *v)
{
	struct sa_agent *a = v->run->runs->agent;

	if (v->boot->vm != NULL) {
		(void)sa_hv_stop(v->boot->vm, true, NULL);
		sa_hv_machine_destroy(v->boot->vm);
		v->boot->vm = NULL;
	}
	sa_view_stop_all(a->views, v->boot->dir);
}

static void boot_work(void *arg)
{
	struct verb *v = arg;
	struct sa_agent *a = v->run->runs->agent;
	struct rep_manifest *m = NULL;
	struct lb_buf *bytes = NULL;
	struct sa_view view[SA_HV_DISKS_MAX];
	struct sa_hv_disk disk[SA_HV_DISKS_MAX];
	size_t disks = 0;
	char *xml = NULL;

	if (v->token.attempt > 1)
		clear_attempt(v);
	v->rc = read_manifest(a, &v->boot->point, &bytes, &m, &v->err);
	if (v->rc == 0)
		v->rc = describe(a, m, v->step->machine, &xml, v->boot->address, &v->err);
	if (v->rc == 0)
		v->rc = serve_disks(v, m, view, disk, &disks, &v->err);
	if (v->rc == 0)
		v->rc = start_machine(v, xml, disk, disks, &v->err);
	if (v->rc == 0) {
		(void)snprintf(v->detail, sizeof(v->detail), "point seq %" PRIu64,
			       v->boot->point_seq);
		v->rc = run_probes(v, &v->err);
	}
	lb_buf_unref(bytes);
	free(m);
	free(xml);
}

static void boot_done(void *arg)
{
	struct verb *v = arg;
	struct sa_agent *a = v->run->runs->agent;

	if (v->rc == 0)
		(void)sa_catalog_mark(a->catalog, &v->boot->point, SA_MARK_BOOTED,
				      a->env->wall_ns(a->env), v->run->id, NULL);
	answer(v);
}

static int boot(struct verb *v, struct lb_err *err)
{
	struct sa_agent *a = v->run->runs->agent;
	struct rep_point point;
	struct lb_id group;
	int rc;

	if (a->store == NULL || a->hv == NULL)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "this site cannot boot: configure `listen` and `hypervisor`");
	rc = group_of_machine(a, v->step->machine, &group, err);
	if (rc == 0)
		rc = choose_point(v, &group, &point, err);
	if (rc == 0)
		rc = boot_new(v, err);
	if (rc != 0)
		return rc;
	v->boot->point = point.manifest;
	v->boot->point_seq = point.seq;
	v->boot->point_wall_ns = point.capture_wall_ns;
	lb_pool_submit(a->pool, boot_work, boot_done, v);
	return 1; /* answers later */
}

/* ---- probe, stop ---- */

static void probe_work(void *arg)
{
	struct verb *v = arg;

	v->rc = run_probes(v, &v->err);
}

static void stop_work(void *arg)
{
	struct verb *v = arg;
	struct sa_agent *a = v->run->runs->agent;

	v->rc = sa_hv_stop(v->boot->vm, v->mode == RB_DRILL, &v->err);
	if (v->rc == 0)
		sa_view_stop_all(a->views, v->boot->dir);
	(void)snprintf(v->detail, sizeof(v->detail), "%s is off", v->boot->domain);
}

static int on_booted(struct verb *v, lb_loop_fn work, struct lb_err *err)
{
	v->boot = boot_of_machine(v->run, v->step->machine);
	if (v->boot == NULL || v->boot->vm == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "machine %s was not booted by this run",
				  v->step->machine);
	lb_pool_submit(v->run->runs->agent->pool, work, answer_on_loop, v);
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
		v->rc = lb_err_set(&v->err, LB_EIO, 0, "%s ended with status %d: %.150s",
				   v->step->run[0], exit_status, safe);
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
		return on_booted(v, probe_work, err);
	case RB_STOP:
		return on_booted(v, stop_work, err);
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
	v->rc = begin(v, e, &v->err);
	if (v->rc <= 0) /* ended already; the answer is asynchronous all the same */
		lb_loop_post(r->agent->loop, answer_on_loop, v);
}

static void verb_cancel(struct rb_verbs *vt, struct rb_run *run, const struct rb_token *t)
{
	struct sa_run *s = sa_run_of((struct sa_runs *)vt, run);

	for (struct verb *v = s != NULL ? s->verbs : NULL; v != NULL; v = v->next)
		if (v->token.step == t->step && v->token.attempt == t->attempt) {
			__atomic_store_n(&v->cancelled, true, __ATOMIC_SEQ_CST);
			if (v->child != NULL)
				lb_child_kill(v->child, 15);
		}
}

void sa_verbs_init(struct rb_verbs *v)
{
	*v = (struct rb_verbs){.start = verb_start, .cancel = verb_cancel};
}

/* ---- the end of drills ---- */

static void clean_work(void *arg)
{
	struct sa_run *s = arg;

	for (struct sa_boot *b = s->boots; b != NULL; b = b->next) {
		if (b->vm != NULL)
			(void)sa_hv_stop(b->vm, true, NULL);
		sa_view_stop_all(s->runs->agent->views, b->dir);
	}
}

static void clean_done(void *arg)
{
	struct sa_run *s = arg;

	for (struct sa_boot *b = s->boots; b != NULL; b = b->next) {
		sa_hv_machine_destroy(b->vm);
		b->vm = NULL;
	}
	s->cleaning = false;
	lb_log(LB_LOG_INFO, "run", "drill_cleaned", "run=%s", s->id, NULL);
}

void sa_verbs_clean_drill(struct sa_run *s)
{
	if (s->cleaning)
		return;
	s->cleaning = true;
	lb_pool_submit(s->runs->agent->pool, clean_work, clean_done, s);
}

void sa_verbs_drop(struct sa_run *s)
{
	struct sa_boot *next;

	while (s->verbs != NULL) {
		struct verb *v = s->verbs;

		s->verbs = v->next;
		lb_child_destroy(v->child);
		free(v);
	}
	if (s->mode == RB_DRILL && s->boots != NULL) /* a drill's machines die with it */
		clean_work(s);
	for (struct sa_boot *b = s->boots; b != NULL; b = next) {
		next = b->next;
		sa_hv_machine_destroy(b->vm);
		free(b);
	}
	s->boots = NULL;
}

struct json_t *sa_run_console_json(struct sa_run *s, const char *machine)
{
	struct sa_boot *b = boot_of_machine(s, machine);
	char text[4096], safe[3 * sizeof(text)];
	size_t got = 0;
	struct lb_err err = {0};

	if (b == NULL || b->vm == NULL ||
	    sa_hv_console(b->vm, text, sizeof(text) - 1, &got, &err) != 0)
		return NULL;
	text[got] = '\0';
	for (size_t i = 0; i < got; i++)
		if (text[i] == '\0')
			text[i] = ' ';
	(void)lb_text_escape(safe, sizeof(safe), text);
	return json_pack("{s:s, s:s, s:s}", "machine", b->machine, "domain", b->domain, "text",
			 safe);
}
