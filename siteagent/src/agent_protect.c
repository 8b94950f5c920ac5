/*
 * The source role: groups of the configuration -> drivers -> one engine per peer.
 *
 *   CONFIGURED ── peer enrolled, volumes named in the configuration ──► PROTECTED ── higher epoch
 * ──► FENCED └── volumes to be asked of the machines ──► PREPARING ── ready [on_prepared] ──┘ (for
 * good) └ not ready: again every RETRY_NS
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "replicator/link.h"
#include "vms_int.h"

#define RETRY_NS   UINT64_C(2000000000)
#define FENCED_WHY "the peer knows a higher epoch"

struct sa_protected *sa_protect_find(struct sa_agent *a, const char *group_name)
{
	for (size_t i = 0; i < a->groups; i++)
		if (strcmp(a->group[i].cfg->name, group_name) == 0)
			return &a->group[i];
	return NULL;
}

struct sa_protected *sa_protect_by_id(struct sa_agent *a, const struct lb_id *group)
{
	for (size_t i = 0; i < a->groups; i++)
		if (lb_id_equal(&a->group[i].id, group))
			return &a->group[i];
	return NULL;
}

static void note(struct sa_protected *g, const struct lb_err *err)
{
	bool same = strcmp(g->last_err.msg, err->msg) == 0;

	g->last_err = *err;
	g->last_err_ns = g->agent->env->now_ns(g->agent->env);
	if (!same)
		lb_log(LB_LOG_WARN, "protect", "group_waits", "group=%s", g->cfg->name, "code=%s",
		       lb_err_name(err->code), "err=%s", err->msg, NULL);
}

/* ---- events of the engine ---- */

static void on_acked(struct sa_agent *a, struct sa_protected *g, const struct rep_source_event *e)
{
	struct sa_role_record rec;
	struct lb_err err = {0};

	g->last_err = (struct lb_err){0};
	g->no_cut = false;
	g->cut_began_ns = 0;
	if (!sa_role_get(a->roles, &g->id, &rec))
		return;
	/* what was acknowledged matters at failback; a lost update only costs a comparison then */
	rec.acked = e->manifest;
	rec.acked_seq = e->seq;
	if (e->seq % 64 == 1 && sa_role_set(a->roles, &rec, &err) != 0)
		note(g, &err);
	lb_log(LB_LOG_DEBUG, "protect", "point_acked", "group=%s", g->cfg->name, "seq=%" PRIu64,
	       e->seq, NULL);
}

/* Write FENCED into its record, unless it says so: tried until the disk takes it. */
static void record_fence(struct sa_protected *g)
{
	struct sa_role_record rec;
	struct lb_err err = {0};

	if (!sa_role_get(g->agent->roles, &g->id, &rec) || rec.epoch >= g->fence_epoch)
		return;
	rec.role = SA_ROLE_FENCED;
	rec.epoch = g->fence_epoch;
	(void)snprintf(rec.why, sizeof(rec.why), "%s", FENCED_WHY);
	if (sa_role_set(g->agent->roles, &rec, &err) == 0)
		return;
	if (!g->fence_told)
		lb_log(LB_LOG_ERROR, "roles", "fence_not_durable", "group=%s", rec.name, "err=%s",
		       err.msg, NULL);
	g->fence_told = true;
}

/* A higher epoch of @g was heard of: record FENCED durably, stop its cuts and its machines. */
static void fence(struct sa_protected *g, uint64_t epoch)
{
	struct sa_agent *a = g->agent;
	struct sa_role_record rec;

	if (!sa_role_get(a->roles, &g->id, &rec) || rec.epoch >= epoch)
		return;
	g->fenced = true;
	g->fence_epoch = epoch;
	g->fence_told = false;
	record_fence(g);
	lb_log(LB_LOG_ERROR, "roles", "fenced", "group=%s", rec.name, "epoch=%" PRIu64, epoch,
	       "why=%s", FENCED_WHY, NULL);
	(void)lb_err_set(&g->last_err, LB_EFENCED, 0, "%s", FENCED_WHY);
	if (g->added)
		rep_source_group_remove(g->engine, &g->id);
	g->added = false;
	sa_vms_fence(a->vms, g->cfg);
}

/* Why none could be taken is over; what became of the last one that was (it changed while it was
 * read, the peer refused it) stays told until one gets through. */
static void on_cut(struct sa_agent *a, struct sa_protected *g)
{
	if (g->no_cut)
		g->last_err = (struct lb_err){0};
	g->no_cut = false;
	g->cut_began_ns = a->env->now_ns(a->env);
}

static void on_group_event(struct sa_agent *a, struct sa_protected *g,
			   const struct rep_source_event *e)
{
	switch (e->type) {
	case REP_SOURCE_ACKED:
		on_acked(a, g, e);
		break;
	case REP_SOURCE_FENCED:
		fence(g, e->epoch);
		break;
	case REP_SOURCE_RESYNC:
		lb_log(LB_LOG_ERROR, "protect", "resync", "group=%s", g->cfg->name, "err=%s",
		       e->err != NULL ? e->err->msg : NULL, NULL);
		break;
	case REP_SOURCE_ABANDONED:
	case REP_SOURCE_REFUSED:
		if (e->err != NULL)
			note(g, e->err);
		g->no_cut = g->cut_began_ns == 0;
		g->cut_began_ns = 0;
		break;
	case REP_SOURCE_CUT:
		on_cut(a, g);
		break;
	case REP_SOURCE_PROGRESS:
	case REP_SOURCE_LINK_UP:
	case REP_SOURCE_LINK_DOWN:
		break;
	}
}

static void on_event(void *arg, const struct rep_source_event *e)
{
	struct sa_link *l = arg;
	struct sa_protected *g;

	if (e->type == REP_SOURCE_LINK_UP || e->type == REP_SOURCE_LINK_DOWN) {
		l->up = e->type == REP_SOURCE_LINK_UP;
		l->last_err = e->err != NULL ? *e->err : (struct lb_err){0};
		lb_log(l->up ? LB_LOG_INFO : LB_LOG_WARN, "ship", l->up ? "link_up" : "link_down",
		       "err=%s", e->err != NULL ? e->err->msg : NULL, NULL);
		return;
	}
	g = sa_protect_by_id(l->agent, &e->group);
	if (g != NULL)
		on_group_event(l->agent, g, e);
}

static int dek_of(void *arg, const struct lb_id *machine, struct lb_key *out)
{
	struct sa_link *l = arg;

	return sa_keyring_machine_key(l->agent->keyring, machine, out, NULL);
}

/* ---- engines ---- */

static int link_create(struct sa_agent *a, struct sa_link *l, const struct sa_peer *p,
		       struct lb_err *err)
{
	struct rep_source_cfg cfg = {
		.env = a->env,
		.loop = a->loop,
		.state = a->state,
		.tls = a->tls_client,
		.host = p->addr.host,
		.port = p->addr.port,
		.deployment = *sa_ident_deployment(a->ident),
		.site = *sa_ident_site(a->ident),
		.boot_id = a->boot_id,
		.peer_site = p->site,
		.signer = sa_ident_signer(a->ident),
		.peer_key = p->key,
		.connections = (unsigned)a->cfg->connections,
		.workers = (unsigned)a->cfg->workers,
		.window_bytes = a->cfg->window_bytes,
		.dek_of = dek_of,
		.on_event = on_event,
		.arg = l,
	};

	l->agent = a;
	l->site = p->site;
	return rep_source_create(&l->engine, &cfg, err);
}

static struct sa_link *link_to(struct sa_agent *a, const struct sa_peer *p, struct lb_err *err)
{
	struct sa_link *l;

	for (size_t i = 0; i < a->links; i++)
		if (lb_id_equal(&a->link[i].site, &p->site))
			return &a->link[i];
	if (a->tls_client == NULL &&
	    rep_tls_create(&a->tls_client, false, sa_ident_deployment(a->ident),
			   sa_ident_ca_path(a->ident), sa_ident_cert_path(a->ident),
			   sa_ident_key_path(a->ident), err) != 0)
		return NULL;
	l = &a->link[a->links]; /* room for one per group: see sa_protect_start() */
	if (link_create(a, l, p, err) != 0)
		return NULL;
	a->links++;
	return l;
}

/* ---- members ---- */

/* What only a machine of driver vmcore has. @vm lives as long as the source. */
static int member_of_vmcore(struct sa_agent *a, const struct sa_group_cfg *g,
			    const struct sa_machine_cfg *m, struct sa_vmdesc *vm,
			    struct sa_source_cfg *cfg, char *work, struct lb_err *err)
{
	char path[2 * SA_NAME_BYTES + 2];
	int rc = sa_vm_dir(a, g, m, work, err);

	if (rc == 0)
		rc = sa_vm_describe(a, g, m, vm, err);
	(void)snprintf(path, sizeof(path), "%s/%s", g->name, m->name);
	if (rc == 0)
		rc = sa_idmap_get(a->ids, path, &cfg->id, err);
	cfg->vm = vm;
	cfg->vm_memory = m->vm.memory_points;
	return rc;
}

static int member_create(struct sa_agent *a, const struct sa_group_cfg *g,
			 const struct sa_machine_cfg *m, struct sa_vmdesc *vm,
			 struct sa_source **out, struct lb_err *err)
{
	struct sa_source_volume volume[SA_VOLUMES_MAX] = {0};
	char work[SA_PATH_BYTES], plugin[SA_PATH_BYTES];
	struct sa_source_cfg cfg = {
		.driver = m->driver,
		.machine = m->name,
		.volumes = volume,
		.volume_count = m->volumes,
		.frozen = m->frozen,
		.uri = m->uri,
		.domain = m->domain[0] != '\0' ? m->domain : m->name,
		.work_dir = work,
		.plugin = plugin,
		.xml_path = m->xml[0] != '\0' ? m->xml : NULL,
		.address = m->address[0] != '\0' ? m->address : NULL,
	};
	int n = snprintf(work, sizeof(work), "%s/mirror/%s.%s", a->cfg->state_dir, g->name,
			 m->name);
	int k = snprintf(plugin, sizeof(plugin), "%s/lifeboat-journal-plugin.so", a->plugin_dir);

	if (n < 0 || (size_t)n >= sizeof(work) || k < 0 || (size_t)k >= sizeof(plugin))
		return lb_err_set(err, LB_EINPUT, 0, "state_dir or plugin_dir is too long");
	for (size_t i = 0; i < m->volumes; i++) {
		memcpy(volume[i].name, m->volume[i].name, sizeof(volume[i].name));
		volume[i].path = m->volume[i].path;
	}
	if (strcmp(m->driver, "vmcore") == 0) {
		int rc = member_of_vmcore(a, g, m, vm, &cfg, work, err);

		if (rc != 0)
			return rc;
	}
	return sa_source_create(out, &cfg, err);
}

/* All of them or none: a group of which one could not be made is made anew. */
static void members_destroy(struct sa_protected *g)
{
	sa_source_group_destroy(g->cut_arg);
	for (size_t m = 0; g->member != NULL && m < g->cfg->machines; m++)
		sa_source_destroy(g->member[m]);
	free(g->member);
	free(g->vm);
	g->cut_arg = NULL;
	g->member = NULL;
	g->vm = NULL;
}

static int members_create(struct sa_protected *g, struct lb_err *err)
{
	int rc = 0;

	g->member = calloc(g->cfg->machines, sizeof(struct sa_source *));
	g->vm = calloc(g->cfg->machines, sizeof(*g->vm));
	if (g->member == NULL || g->vm == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "its machines");
	for (size_t i = 0; i < g->cfg->machines && rc == 0; i++)
		rc = member_create(g->agent, g->cfg, &g->cfg->machine[i], &g->vm[i], &g->member[i],
				   err);
	if (rc == 0)
		rc = sa_source_group_create(&g->cut_arg, g->member, g->cfg->machines, 0, err);
	if (rc == 0)
		return 0;
	members_destroy(g);
	return lb_err_wrap(err, rc, "group %s", g->cfg->name);
}

/* ---- preparing: blocking, on the pool ---- */

struct prepare {
	struct sa_protected *g;
	struct lb_err err;
	int rc;
};

static void prepare_work(void *arg)
{
	struct prepare *p = arg;

	for (size_t i = 0; i < p->g->cfg->machines && p->rc == 0; i++)
		p->rc = sa_source_prepare(p->g->member[i], &p->err);
}

/* The machines' volumes in the order of sa_source_group_ops, with their durable ids. */
static int collect_volumes(struct sa_protected *g, struct rep_source_volume *out, uint32_t *count,
			   struct lb_err *err)
{
	char path[3 * SA_NAME_BYTES];
	uint32_t n = 0;

	for (size_t i = 0; i < g->cfg->machines; i++) {
		const char *machine = g->cfg->machine[i].name;
		for (size_t v = 0; v < sa_source_volume_count(g->member[i]); v++) {
			const struct sa_source_volume *sv = sa_source_volume(g->member[i], v);
			struct rep_source_volume *o = &out[n];
			int rc;

			if (n++ == REP_MANIFEST_MAX_VOLUMES)
				return lb_err_set(err, LB_EINPUT, 0, "group %s has over %u volumes",
						  g->cfg->name, REP_MANIFEST_MAX_VOLUMES);
			o->kind = sv->ram ? REP_VOLUME_RAM : REP_VOLUME_DISK;
			(void)snprintf(o->machine_name, sizeof(o->machine_name), "%s", machine);
			(void)snprintf(o->volume_name, sizeof(o->volume_name), "%s", sv->name);
			(void)snprintf(path, sizeof(path), "%s/%s", g->cfg->name, machine);
			rc = sa_idmap_get(g->agent->ids, path, &o->machine, err);
			(void)snprintf(path, sizeof(path), "%s/%s/%s", g->cfg->name, machine,
				       sv->name);
			if (rc == 0)
				rc = sa_idmap_get(g->agent->ids, path, &o->volume, err);
			if (rc != 0)
				return rc;
		}
	}
	*count = n;
	return 0;
}

static int add_to_engine(struct sa_protected *g, struct lb_err *err)
{
	struct rep_source_volume *volume = calloc(REP_MANIFEST_MAX_VOLUMES + 1, sizeof(*volume));
	struct rep_source_group cfg = {.group = g->id,
				       .interval_ns = g->cfg->interval_ns,
				       .volume = volume,
				       .ops = &sa_source_group_ops,
				       .arg = g->cut_arg};
	struct sa_role_record rec = {0};
	int rc;

	if (volume == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "volumes of group %s", g->cfg->name);
	(void)snprintf(cfg.name, sizeof(cfg.name), "%s", g->cfg->name);
	(void)sa_role_get(g->agent->roles, &g->id, &rec);
	cfg.epoch = rec.epoch;
	rc = collect_volumes(g, volume, &cfg.volumes, err);
	if (rc == 0)
		rc = rep_source_group_add(g->engine, &cfg, err);
	free(volume);
	return rc;
}

static void protected(struct sa_protected *g)
{
	g->added = true;
	g->last_err = (struct lb_err){0};
	lb_log(LB_LOG_INFO, "protect", "group_protected", "group=%s", g->cfg->name, NULL);
}

static void on_prepared(void *arg)
{
	struct prepare *p = arg;
	struct sa_protected *g = p->g;
	int rc = p->rc;

	g->preparing = false;
	if (rc == 0 && !g->fenced && !g->added) {
		rc = add_to_engine(g, &p->err);
		if (rc == 0)
		protected(g);
	}
	if (rc != 0)
		note(g, &p->err);
	free(p);
}

/* The configuration names every volume, so nothing need be asked of the machines. */
static bool volumes_known(const struct sa_protected *g)
{
	for (size_t i = 0; i < g->cfg->machines; i++)
		if (g->cfg->machine[i].volumes == 0)
			return false;
	return true;
}

/* Into the engine as early as possible: it asks the peer for the group's epoch, and a site that
 * comes back after a failover must hear that it is fenced even when its machines do not run. The
 * first cut prepares the machines then. */
static void prepare(struct sa_protected *g)
{
	struct prepare *p;
	struct lb_err err = {0};

	if (g->engine == NULL || g->added || g->fenced || g->preparing)
		return;
	if (volumes_known(g)) {
		if (add_to_engine(g, &err) == 0)
		protected(g);
		else note(g, &err);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return; /* the retry timer comes again */
	p->g = g;
	g->preparing = true;
	lb_pool_submit(g->agent->slow, prepare_work, on_prepared, p);
}

/* ---- start and stop ---- */

/* A peer's group that is kept here is called by its name, too: two of one name could not be told
 * apart when it matters. */
static int check_name(const struct sa_protected *g, struct lb_err *err)
{
	struct sa_roles *roles = g->agent->roles;
	struct sa_role_record rec;

	for (size_t i = 0; i < sa_roles_count(roles); i++)
		if (sa_roles_at(roles, i, &rec) && strcmp(rec.name, g->cfg->name) == 0 &&
		    !lb_id_equal(&rec.group, &g->id) && !lb_id_is_zero(&rec.writer))
			return lb_err_set(
				err, LB_EEXIST, 0,
				"group %s: a peer's group of that name is kept here; give "
				"this one another name",
				g->cfg->name);
	return 0;
}

static int own_role(struct sa_protected *g, struct lb_err *err)
{
	struct sa_agent *a = g->agent;
	struct sa_role_record rec;
	int rc;

	if (sa_role_get(a->roles, &g->id, &rec)) {
		g->fenced = rec.role != SA_ROLE_PRIMARY;
		if (g->fenced)
			(void)lb_err_set(&g->last_err, LB_EFENCED, 0,
					 "group %s is %s at epoch %" PRIu64 " here: %s", rec.name,
					 sa_role_name(rec.role), rec.epoch, rec.why);
		/* who recorded the fence may have died before the machines had ended */
		if (rec.role == SA_ROLE_FENCED)
			sa_vms_fence(a->vms, g->cfg);
		return 0;
	}
	rc = check_name(g, err);
	if (rc != 0)
		return rc;
	rec = (struct sa_role_record){.group = g->id,
				      .role = SA_ROLE_PRIMARY,
				      .epoch = 1,
				      .lineage = 1,
				      .why = "protection began"};
	(void)snprintf(rec.name, sizeof(rec.name), "%s", g->cfg->name);
	return sa_role_set(a->roles, &rec, err);
}

static int group_start(struct sa_protected *g, struct lb_err *err)
{
	struct sa_agent *a = g->agent;
	const struct sa_peer *p = sa_ident_peer_by_name(a->ident, g->cfg->peer);
	struct sa_link *l;
	int rc = 0;

	if (g->member == NULL)
		rc = sa_idmap_get(a->ids, g->cfg->name, &g->id, err);
	if (rc == 0 && g->member == NULL)
		rc = own_role(g, err);
	if (rc == 0 && g->member == NULL)
		rc = members_create(g, err);
	if (rc != 0 || g->engine != NULL)
		return rc;
	if (p == NULL) {
		if (!g->fenced)
			(void)lb_err_set(&g->last_err, LB_EAUTH, 0,
					 "peer %s of group %s is not enrolled: lifeboat site join",
					 g->cfg->peer, g->cfg->name);
		return 0;
	}
	l = link_to(a, p, err);
	if (l == NULL)
		return err->code;
	g->engine = l->engine;
	if (!g->fenced)
		g->last_err = (struct lb_err){0}; /* it waited for this */
	prepare(g);
	return 0;
}

/* What is wrong with one group is its own problem: the others, and all that this site keeps for
 * its peers, go on. It is tried again. */
static void try_start(struct sa_protected *g)
{
	struct lb_err err = {0};

	record_fence(g);
	if (g->engine != NULL)
		prepare(g);
	else if (group_start(g, &err) != 0)
		note(g, &err);
}

static void on_retry(void *arg)
{
	struct sa_agent *a = arg;

	for (size_t i = 0; i < a->groups; i++) {
		if (a->group[i].fenced)
			sa_vms_fence(a->vms, a->group[i].cfg);
		try_start(&a->group[i]);
	}
}

static int first_start(struct sa_agent *a, struct lb_err *err)
{
	int rc;

	a->group = calloc(a->cfg->groups, sizeof(*a->group));
	a->link = calloc(a->cfg->groups, sizeof(*a->link));
	if (a->group == NULL || a->link == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "%zu groups", a->cfg->groups);
	for (size_t i = 0; i < a->cfg->groups; i++)
		a->group[i] = (struct sa_protected){.agent = a, .cfg = &a->cfg->group[i]};
	a->groups = a->cfg->groups;
	rc = lb_fs_mkdir(a->state, "mirror", err);
	if (rc == 0)
		rc = lb_timer_create(&a->retry, a->loop, on_retry, a, err);
	if (rc == 0)
		lb_timer_start(a->retry, RETRY_NS, RETRY_NS);
	return rc;
}

int sa_protect_start(struct sa_agent *a, struct lb_err *err)
{
	int rc = 0;

	if (a->cfg->groups == 0 || !sa_ident_ready(a->ident))
		return 0;
	if (a->group == NULL)
		rc = first_start(a, err);
	for (size_t i = 0; i < a->groups && rc == 0; i++)
		try_start(&a->group[i]);
	return rc;
}

/* Order: nobody may be inside a driver when it is destroyed, so engines (their workers) and the
 * pools end first. */
void sa_protect_stop(struct sa_agent *a)
{
	lb_timer_destroy(a->retry);
	a->retry = NULL;
	for (size_t i = 0; i < a->groups; i++)
		for (size_t m = 0; a->group[i].member != NULL && m < a->group[i].cfg->machines; m++)
			if (a->group[i].member[m] != NULL)
				sa_source_cancel(a->group[i].member[m]);
	for (size_t i = 0; i < a->links; i++)
		rep_source_destroy(a->link[i].engine);
	lb_pool_destroy(a->pool);
	lb_pool_destroy(a->slow);
	a->pool = a->slow = NULL;
	for (size_t i = 0; i < a->groups; i++)
		members_destroy(&a->group[i]);
	free(a->group);
	free(a->link);
	a->group = NULL;
	a->link = NULL;
	a->groups = a->links = 0;
	rep_tls_destroy(a->tls_client);
	a->tls_client = NULL;
}
