/*
 * What the agent knows, as JSON. Numbers carry their unit in the name. What is not known is null,
 * never 0 (I17).
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "agent_int.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/text.h"
#include "vmcore/host.h"
#include "vms_int.h"

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static void set(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new(o, key, value);
}

static void set_text(json_t *o, const char *key, const char *text)
{
	json_t *s = json_string(text);

	set(o, key, s != NULL ? s : json_string("?")); /* not UTF-8 */
}

static void set_err(json_t *o, const struct lb_err *err)
{
	if (err->code == 0)
		return;
	set(o, "problem", json_pack("{s:s}", "code", lb_err_name(err->code)));
	set_text(json_object_get(o, "problem"), "message", err->msg);
}

/* ---- points ---- */

static json_t *marks_json(struct sa_agent *a, const struct rep_point *p)
{
	static const struct {
		enum sa_mark mark;
		const char *name;
	} names[] = {{SA_MARK_VERIFIED, "verified"},
		     {SA_MARK_DEEP_VERIFIED, "deep-verified"},
		     {SA_MARK_BOOTED, "booted"},
		     {SA_MARK_BAD, "bad"}};
	unsigned marks = 0;
	json_t *list = json_array();

	(void)sa_catalog_marks(a->catalog, &p->manifest, &marks, NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((marks & (1u << names[i].mark)) != 0)
			(void)json_array_append_new(list, json_string(names[i].name));
	if (p->damaged)
		(void)json_array_append_new(list, json_string("damaged"));
	return list;
}

static const char *consistency_name(enum rep_consistency c)
{
	switch (c) {
	case REP_CONSISTENCY_CRASH:
		return "crash";
	case REP_CONSISTENCY_FILESYSTEM:
		return "filesystem";
	case REP_CONSISTENCY_APPLICATION:
		return "application";
	case REP_CONSISTENCY_MEMORY:
		return "memory";
	}
	return "unknown";
}

static json_t *point_json(struct sa_agent *a, const struct rep_point *p)
{
	char id[LB_HASH_TEXT];
	json_t *o = json_object();

	set_text(o, "id", lb_hash_text(&p->manifest, id));
	set_text(o, "group", p->group_name);
	set(o, "epoch", number(p->epoch));
	set(o, "seq", number(p->seq));
	set_text(o, "consistency", consistency_name(p->consistency));
	set(o, "captured_wall_ns", number(p->capture_wall_ns));
	set(o, "received_wall_ns",
	    p->receive_wall_ns != 0 ? number(p->receive_wall_ns) : json_null());
	set(o, "stored_bytes", number(p->stored_bytes));
	set(o, "marks", marks_json(a, p));
	return o;
}

/* The newest @max of them, in a ring. */
struct listing {
	struct rep_point *point;
	unsigned max;
	uint64_t seen;
};

static int list_point(void *arg, const struct rep_point *p)
{
	struct listing *l = arg;

	l->point[l->seen++ % l->max] = *p;
	return 0;
}

/* A store holds far more points than are asked for: marks are looked up for these alone. */
struct json_t *sa_points_json(struct sa_agent *a, const struct lb_id *group, unsigned max)
{
	struct listing l = {.point = calloc(max, sizeof(*l.point)), .max = max};
	json_t *list = l.point != NULL ? json_array() : NULL;

	if (a->store != NULL && list != NULL)
		(void)rep_store_points(a->store, group, list_point, &l);
	for (uint64_t i = l.seen > max ? l.seen - max : 0; i < l.seen; i++)
		(void)json_array_append_new(list, point_json(a, &l.point[i % max]));
	free(l.point);
	return json_pack("{s:o}", "points", list);
}

static json_t *volumes_json(const struct rep_manifest *m)
{
	json_t *list = json_array();
	char hex[LB_ID_TEXT];

	for (uint32_t i = 0; i < m->volumes; i++) {
		const struct rep_manifest_volume *v = &m->volume[i];
		json_t *o = json_object();

		set_text(o, "machine", v->machine_name);
		set_text(o, "volume", v->volume_name);
		set_text(o, "kind", v->kind == REP_VOLUME_RAM ? "ram" : "disk");
		set(o, "size_bytes", number(v->volume_bytes));
		set(o, "layer_bytes", number(v->layer_bytes));
		set_text(o, "layer", lb_id_text(&v->layer, hex));
		(void)json_array_append_new(list, o);
	}
	return list;
}

struct json_t *sa_point_json(struct sa_agent *a, const struct lb_hash *point)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	struct lb_buf *bytes = NULL;
	struct rep_point p;
	char hex[LB_HASH_TEXT];
	json_t *o = NULL;

	if (m == NULL || a->store == NULL || !rep_store_point_find(a->store, point, &p))
		goto out;
	o = point_json(a, &p);
	set_text(o, "prev", lb_hash_is_zero(&p.prev) ? "" : lb_hash_text(&p.prev, hex));
	set_text(o, "base", lb_hash_is_zero(&p.base) ? "" : lb_hash_text(&p.base, hex));
	if (rep_store_read_manifest(a->store, point, &bytes, NULL) == 0 &&
	    rep_manifest_decode(m, bytes->p, bytes->len, NULL) == 0)
		set(o, "volumes", volumes_json(m));
out:
	lb_buf_unref(bytes);
	free(m);
	return o;
}

struct search {
	const char *prefix;
	struct rep_point found, newest;
	unsigned hits;
	bool any;
};

static int match_point(void *arg, const struct rep_point *p)
{
	struct search *s = arg;
	char hex[LB_HASH_TEXT];

	s->newest = *p;
	s->any = true;
	if (strncmp(lb_hash_text(&p->manifest, hex), s->prefix, strlen(s->prefix)) == 0) {
		s->found = *p;
		s->hits++;
	}
	return 0;
}

int sa_point_resolve(struct sa_agent *a, const char *text, const struct lb_id *group,
		     struct rep_point *out, struct lb_err *err)
{
	struct search s = {.prefix = text};
	bool latest = strcmp(text, "latest") == 0;

	if (a->store == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "this site keeps no recovery points");
	if (!latest && strlen(text) < 4)
		return lb_err_set(err, LB_EINPUT, 0,
				  "point %.40s: give \"latest\" or at least 4 hex digits", text);
	(void)rep_store_points(a->store, group, match_point, &s);
	if (latest && !s.any)
		return lb_err_set(err, LB_ENOTFOUND, 0, "there is no recovery point yet");
	if (!latest && s.hits != 1)
		return lb_err_set(err, LB_ENOTFOUND, 0, "%u recovery points begin with %.64s",
				  s.hits, text);
	*out = latest ? s.newest : s.found;
	return 0;
}

/* ---- groups ---- */

static void set_rpo(json_t *o, bool known, uint64_t age_ns)
{
	set(o, "rpo_ns", known ? number(age_ns) : json_null());
}

/* By how fast this cut was scanned so far. What is shipped is another number: much of what is read
 * is not changed, or compressed. */
static void set_eta(struct sa_agent *a, const struct sa_protected *g,
		    const struct rep_source_stats *st, json_t *o)
{
	double done = (double)st->scan_done_bytes,
	       left = (double)st->scan_all_bytes - (double)st->scan_done_bytes,
	       took_s = (double)(a->env->now_ns(a->env) - g->cut_began_ns) / 1e9;

	if (g->cut_began_ns != 0 && done > 0 && left >= 0 && took_s > 0)
		set(o, "eta_s", number((uint64_t)(left * took_s / done)));
}

static void set_shipping(struct sa_agent *a, const struct sa_protected *g, json_t *o)
{
	struct rep_source_stats st;

	if (g->engine == NULL || !rep_source_stats(g->engine, &g->id, &st)) {
		set_rpo(o, false, 0);
		set_text(o, "link", "down");
		return;
	}
	set_rpo(o, st.last_acked_capture_boot_ns != 0,
		a->env->now_ns(a->env) - st.last_acked_capture_boot_ns);
	set_text(o, "link", st.link_up ? "up" : "down");
	set(o, "points_acked", number(st.points_acked));
	set(o, "last_acked_seq", number(st.last_acked_seq));
	set(o, "bytes_read", number(st.bytes_read));
	set(o, "bytes_changed", number(st.bytes_changed));
	set(o, "bytes_shipped", number(st.bytes_shipped));
	set(o, "rate_bytes_per_s", number(st.rate_bytes_per_s));
	if (!st.busy || st.scan_all_bytes == 0)
		return;
	set(o, "progress",
	    json_pack("{s:I, s:I}", "done_bytes", (json_int_t)st.scan_done_bytes, "all_bytes",
		      (json_int_t)st.scan_all_bytes));
	set_eta(a, g, &st, json_object_get(o, "progress"));
}

/* Why nothing moves: what the group met, else why its peer cannot be reached. */
static void set_problem(const struct sa_agent *a, const struct sa_protected *g, json_t *o)
{
	const struct lb_err *why = &g->last_err;

	for (size_t i = 0; i < a->links && why->code == 0; i++)
		if (a->link[i].engine == g->engine && !a->link[i].up)
			why = &a->link[i].last_err;
	set_err(o, why);
}

static json_t *protected_json(struct sa_agent *a, const struct sa_protected *g)
{
	json_t *o = json_object(), *machines = json_array();
	struct sa_role_record rec = {.name = ""};

	(void)sa_role_get(a->roles, &g->id, &rec);
	set_text(o, "name", g->cfg->name);
	/* a fence that could not be written yet holds all the same */
	set_text(o, "role", sa_role_name(g->fence_epoch > rec.epoch ? SA_ROLE_FENCED : rec.role));
	set(o, "epoch", number(g->fence_epoch > rec.epoch ? g->fence_epoch : rec.epoch));
	set_text(o, "peer", g->cfg->peer);
	set(o, "interval_ns", number(g->cfg->interval_ns));
	set_text(o, "why", rec.why);
	for (size_t i = 0; i < g->cfg->machines; i++) {
		json_t *m = json_object();

		set_text(m, "name", g->cfg->machine[i].name);
		set_text(m, "driver", g->cfg->machine[i].driver);
		set_text(m, "state",
			 sa_source_state_name(g->member != NULL ? sa_source_state(g->member[i])
								: SA_SRC_IDLE));
		(void)json_array_append_new(machines, m);
	}
	set(o, "machines", machines);
	set_shipping(a, g, o);
	set_problem(a, g, o);
	return o;
}

static json_t *replica_json(struct sa_agent *a, const struct sa_role_record *rec)
{
	const struct sa_peer *p = sa_ident_peer_by_site(a->ident, &rec->writer);
	json_t *o = json_object();
	struct rep_point head;
	uint64_t age = 0;
	bool known = sa_backup_rpo(a, &rec->group, &age);

	set_text(o, "name", rec->name);
	set_text(o, "role", sa_role_name(rec->role));
	set(o, "epoch", number(rec->epoch));
	set_text(o, "peer", p != NULL ? p->name : "?");
	set_text(o, "why", rec->why);
	set_rpo(o, known, age);
	if (a->store != NULL && rep_store_head(a->store, &rec->group, &head))
		set(o, "newest_point", point_json(a, &head));
	return o;
}

struct json_t *sa_groups_json(struct sa_agent *a)
{
	json_t *list = json_array();
	struct sa_role_record rec;

	for (size_t i = 0; i < a->groups; i++)
		(void)json_array_append_new(list, protected_json(a, &a->group[i]));
	for (size_t i = 0; i < sa_roles_count(a->roles); i++)
		if (sa_roles_at(a->roles, i, &rec) && sa_protect_by_id(a, &rec.group) == NULL)
			(void)json_array_append_new(list, replica_json(a, &rec));
	return json_pack("{s:o}", "groups", list);
}

/* The manifest of the newest point of a group that is replicated here; false: there is none. */
static bool read_head(struct sa_agent *a, const struct lb_id *group, struct rep_manifest *m)
{
	struct lb_buf *bytes = NULL;
	struct rep_point head;
	bool ok = a->store != NULL && rep_store_head(a->store, group, &head) &&
		  rep_store_read_manifest(a->store, &head.manifest, &bytes, NULL) == 0 &&
		  rep_manifest_decode(m, bytes->p, bytes->len, NULL) == 0;

	lb_buf_unref(bytes);
	return ok;
}

/* Its machines, each once (volumes stand by machine); what a run has booted of them says so. */
static void add_replicas(struct sa_agent *a, const struct sa_role_record *rec, json_t *list)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	uint64_t age = 0;
	bool known = sa_backup_rpo(a, &rec->group, &age);

	if (m != NULL && !read_head(a, &rec->group, m))
		m->volumes = 0;
	for (uint32_t i = 0; m != NULL && i < m->volumes; i++) {
		const char *name = m->volume[i].machine_name;
		json_t *o;

		if (i > 0 && strcmp(name, m->volume[i - 1].machine_name) == 0)
			continue;
		o = json_object();
		set_text(o, "name", name);
		set_text(o, "group", rec->name);
		set_text(o, "driver", "replica");
		set_text(o, "state", "replica");
		set_rpo(o, known, age);
		sa_runs_note_boot(a->runs, name, o);
		(void)json_array_append_new(list, o);
	}
	free(m);
}

struct json_t *sa_machines_json(struct sa_agent *a)
{
	struct sa_role_record rec;
	json_t *groups = sa_groups_json(a), *list = json_array(), *g, *m;
	size_t i, k;

	json_array_foreach(json_object_get(groups, "groups"), i, g)
	{
		json_array_foreach(json_object_get(g, "machines"), k, m)
		{
			json_t *o = json_deep_copy(m);

			set(o, "group", json_incref(json_object_get(g, "name")));
			set(o, "rpo_ns", json_incref(json_object_get(g, "rpo_ns")));
			(void)json_array_append_new(list, o);
		}
	}
	json_decref(groups);
	for (i = 0; i < sa_roles_count(a->roles); i++)
		if (sa_roles_at(a->roles, i, &rec) && sa_protect_by_id(a, &rec.group) == NULL)
			add_replicas(a, &rec, list);
	return json_pack("{s:o}", "machines", list);
}

/* ---- sites ---- */

static json_t *peer_json(struct sa_agent *a, const struct sa_peer *p)
{
	json_t *o = json_object();
	char hex[LB_ID_TEXT], addr[SA_HOST_BYTES + 8];

	set_text(o, "name", p->name);
	set_text(o, "id", lb_id_text(&p->site, hex));
	(void)snprintf(addr, sizeof(addr), "%s:%u", p->addr.host, (unsigned)p->addr.port);
	set_text(o, "address", p->addr.port != 0 ? addr : "");
	for (size_t i = 0; i < a->links; i++)
		if (lb_id_equal(&a->link[i].site, &p->site)) {
			set_text(o, "link", a->link[i].up ? "up" : "down");
			set_err(o, &a->link[i].last_err);
		}
	for (size_t i = 0; i < a->heard_count; i++)
		if (lb_id_equal(&a->heard[i].site, &p->site)) {
			set_text(o, "inbound", a->heard[i].up ? "up" : "down");
			set(o, "inbound_for_ns",
			    number(a->env->now_ns(a->env) - a->heard[i].since_ns));
		}
	return o;
}

struct json_t *sa_sites_json(struct sa_agent *a)
{
	json_t *list = json_array(), *o = json_object();
	char hex[LB_ID_TEXT];

	set_text(o, "name", a->cfg->site);
	set(o, "self", json_true());
	set(o, "enrolled", json_boolean(sa_ident_ready(a->ident)));
	if (sa_ident_ready(a->ident)) {
		set_text(o, "id", lb_id_text(sa_ident_site(a->ident), hex));
		set_text(o, "deployment", lb_id_text(sa_ident_deployment(a->ident), hex));
		set(o, "certificate_left_s", json_integer(sa_ident_cert_left_s(a->ident)));
	}
	(void)json_array_append_new(list, o);
	for (size_t i = 0; i < sa_ident_peer_count(a->ident); i++)
		(void)json_array_append_new(list, peer_json(a, sa_ident_peer(a->ident, i)));
	return json_pack("{s:o}", "sites", list);
}

/* ---- status ---- */

#define CERT_WARN_S (INT64_C(45) * 86400)

bool sa_cert_problem(const struct sa_agent *a, char *out, size_t out_bytes)
{
	int64_t left = sa_ident_ready(a->ident) ? sa_ident_cert_left_s(a->ident) : INT64_MAX;

	if (left > CERT_WARN_S)
		return false;
	if (left < 0)
		(void)snprintf(out, out_bytes,
			       "this site's certificate ended %lld days ago, peers refuse it: "
			       "lifeboat site renew",
			       (long long)(-left / 86400));
	else
		(void)snprintf(out, out_bytes,
			       "this site's certificate ends in %lld days: lifeboat site renew",
			       (long long)(left / 86400));
	return true;
}

/* What a person must be told at once: a machine that stands still, else what happened last; the
 * certificate's end behind it. */
static void set_alarm(json_t *o, const struct sa_agent *a)
{
	const char *trouble = sa_vmwatch_trouble(a->vmwatch);
	const char *first = trouble != NULL ? trouble : a->alarm;
	char cert[120] = "", both[512];
	bool ends = sa_cert_problem(a, cert, sizeof(cert));

	(void)snprintf(both, sizeof(both), "%s%s%s", first, ends && first[0] != '\0' ? "; " : "",
		       cert);
	set_text(o, "alarm", both);
}

static json_t *store_json(struct sa_agent *a)
{
	struct rep_target_stats st = {0};
	json_t *o;

	if (a->store == NULL)
		return json_null();
	if (a->target != NULL)
		rep_target_stats(a->target, &st);
	o = json_object();
	set(o, "bytes", number(rep_store_bytes(a->store)));
	set(o, "points_received", number(st.points));
	set(o, "bytes_received", number(st.bytes));
	set(o, "duplicate_parts", number(st.duplicates));
	set(o, "corrupt_parts", number(st.corrupt));
	set(o, "connections", number(st.connections));
	set(o, "suspect", json_boolean(st.suspect));
	return o;
}

struct json_t *sa_status_json(struct sa_agent *a)
{
	json_t *o = json_object(), *groups = sa_groups_json(a), *runs = sa_runs_json(a->runs);

	set_text(o, "site", a->cfg->site);
	set_text(o, "mode", sa_runs_mode(a->runs));
	set_text(o, "version", LB_VERSION);
	set(o, "enrolled", json_boolean(sa_ident_ready(a->ident)));
	set(o, "uptime_ns", number(a->env->now_ns(a->env) - a->started_ns));
	set(o, "wall_ns", number(a->env->wall_ns(a->env)));
	set(o, "groups", json_incref(json_object_get(groups, "groups")));
	set(o, "runs", json_incref(json_object_get(runs, "runs")));
	set(o, "store", store_json(a));
	set_alarm(o, a);
	json_decref(groups);
	json_decref(runs);
	return o;
}

/* ---- doctor ---- */

static void check(json_t *list, const char *name, bool ok, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void check(json_t *list, const char *name, bool ok, const char *fmt, ...)
{
	char text[300];
	va_list ap;
	json_t *o = json_object();

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	set_text(o, "check", name);
	set(o, "ok", json_boolean(ok));
	set_text(o, "text", text);
	(void)json_array_append_new(list, o);
}

static void check_space(struct sa_agent *a, json_t *list)
{
	struct statvfs v;
	uint64_t free_bytes, all;

	if (statvfs(a->cfg->state_dir, &v) != 0)
		return;
	free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	all = (uint64_t)v.f_blocks * v.f_frsize;
	check(list, "disk-room", free_bytes > all / 20,
	      "%s has %llu MiB of %llu MiB free; at least 5 %% should be", a->cfg->state_dir,
	      (unsigned long long)(free_bytes >> 20), (unsigned long long)(all >> 20));
	if (a->cfg->listen.port != 0)
		check(list, "store-reserve", free_bytes > a->cfg->reserve_bytes,
		      "store: %llu MiB free above the reserve of %llu MiB; at 0 nothing is taken",
		      (unsigned long long)(free_bytes > a->cfg->reserve_bytes
						   ? (free_bytes - a->cfg->reserve_bytes) >> 20
						   : 0),
		      (unsigned long long)(a->cfg->reserve_bytes >> 20));
}

/* A disk that was attached later is in no point, whatever the RPO says. */
static void check_disks(const struct sa_protected *g, json_t *list)
{
	for (size_t i = 0; g->member != NULL && i < g->cfg->machines; i++) {
		unsigned n = sa_source_unlisted(g->member[i]);

		if (n > 0)
			check(list, "disks", false,
			      "machine %s of group %s has %u disks that are not protected: add "
			      "them to its volumes",
			      g->cfg->machine[i].name, g->cfg->name, n);
	}
}

/* @age: of the newest acknowledged point; UINT64_MAX: there is none in this run. */
static void check_age(const struct sa_protected *g, uint64_t age, json_t *list)
{
	const char *why = g->last_err.code != 0 ? g->last_err.msg : "";
	bool ok = age < 10 * g->cfg->interval_ns + 5000000000u;
	char old[LB_HUMAN_BYTES];

	if (age == UINT64_MAX)
		check(list, "group-protected", false,
		      "group %s has no acknowledged point in this run: %s", g->cfg->name,
		      why[0] != '\0' ? why : "not yet");
	else
		check(list, "group-protected", ok,
		      "group %s: the newest acknowledged point is %s old%s%s", g->cfg->name,
		      lb_human_duration(old, age), !ok && why[0] != '\0' ? ": " : "",
		      !ok ? why : "");
}

static void check_groups(struct sa_agent *a, json_t *list)
{
	for (size_t i = 0; i < a->groups; i++) {
		const struct sa_protected *g = &a->group[i];
		struct rep_source_stats st = {0};
		uint64_t age = UINT64_MAX;

		if (g->engine != NULL && rep_source_stats(g->engine, &g->id, &st) &&
		    st.last_acked_capture_boot_ns != 0)
			age = a->env->now_ns(a->env) - st.last_acked_capture_boot_ns;
		check_age(g, age, list);
		check_disks(g, list);
	}
}

/* Where replicas will run, before it matters. Wrong only where vmcore is asked for and cannot be.
 */
static void check_kvm(const struct sa_agent *a, json_t *list)
{
	bool forced = strcmp(a->cfg->hv_driver, "vmcore") == 0;
	struct vm_host host;
	const char *where;

	vm_probe(&host);
	if (forced)
		where = "replicas are booted by vmcore, as configured";
	else if (a->vm_program[0] == '\0')
		where = "lifeboat-vm is not installed: replicas are booted by libvirt";
	else if (host.kind == VM_KVM_NATIVE)
		where = "replicas are booted by vmcore where they fit, else by libvirt";
	else
		where = "Linux replicas are booted by libvirt/QEMU";
	check(list, "kvm", !forced || (host.kind != VM_KVM_NONE && a->vm_program[0] != '\0'),
	      "KVM is %s (%s); %s", vm_kvm_kind_name(host.kind), host.detail, where);
}

static void check_resumes(void *arg, const char *group, const char *machine,
			  const struct lb_err *err)
{
	check(arg, "memory-resumes", err == NULL,
	      err == NULL ? "machine %s of group %s can go on from memory here%.0s"
			  : "machine %s of group %s would boot cold here: %s",
	      machine, group, err != NULL ? err->msg : "");
}

struct json_t *sa_doctor_json(struct sa_agent *a)
{
	json_t *list = json_array();
	bool ready = sa_ident_ready(a->ident), all = true;
	const char *trouble = sa_vmwatch_trouble(a->vmwatch);
	char cert[120];
	size_t i;
	json_t *o;

	check(list, "enrolled", ready,
	      ready ? "site %s has an identity"
		    : "site %s: run `lifeboat site init` or `site join`",
	      a->cfg->site);
	if (ready && sa_cert_problem(a, cert, sizeof(cert)))
		check(list, "certificate", false, "%s", cert);
	else if (ready)
		check(list, "certificate", true, "the certificate is valid for %lld more days",
		      (long long)(sa_ident_cert_left_s(a->ident) / 86400));
	check(list, "peers", sa_ident_peer_count(a->ident) > 0, "%zu peer sites enrolled",
	      sa_ident_peer_count(a->ident));
	check_space(a, list);
	check_groups(a, list);
	if (a->cfg->listen.port != 0)
		check(list, "hypervisor", a->hv != NULL,
		      a->hv != NULL ? "replicas can be booted through %s"
				    : "no hypervisor is configured: replicas cannot be booted%.0s",
		      a->cfg->hv_uri);
	check_kvm(a, list);
	sa_points_resume(a, check_resumes, list);
	check(list, "machines", trouble == NULL, "%s",
	      trouble != NULL ? trouble : "no machine that runs here has crashed");
	check(list, "alarm", a->alarm[0] == '\0', "%s",
	      a->alarm[0] == '\0' ? "no alarm stands" : a->alarm);
	json_array_foreach(list, i, o)
	{
		all = all && json_is_true(json_object_get(o, "ok"));
	}
	return json_pack("{s:b, s:o}", "ok", all, "checks", list);
}
