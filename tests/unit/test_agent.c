/*
 * The source role of an agent and what it tells of it, over an engine that only counts: what one
 * group meets is its own problem, a problem that is over is not told any more, and a fence holds,
 * whatever the disk does and whenever the agent dies.
 */
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "check.h"
#include "memfs.h"
#include "store_fix.h"
#include "vms_int.h"

#define S_NS UINT64_C(1000000000)

/* ---- the engine, and who stops machines: in place of the real ones ---- */

static struct fake {
	struct rep_source_cfg cfg;
	struct rep_source_stats stats;
	struct lb_id group[4];
	unsigned adds, removes, fences, marks;
	bool no_room; /* for the catalog */
} fake;

int __wrap_rep_source_create(struct rep_source **out, const struct rep_source_cfg *cfg,
			     struct lb_err *err);
void __wrap_rep_source_destroy(struct rep_source *s);
int __wrap_rep_source_group_add(struct rep_source *s, const struct rep_source_group *g,
				struct lb_err *err);
void __wrap_rep_source_group_remove(struct rep_source *s, const struct lb_id *group);
bool __wrap_rep_source_stats(struct rep_source *s, const struct lb_id *group,
			     struct rep_source_stats *out);
void __wrap_sa_vms_fence(struct sa_vms *v, const struct sa_group_cfg *group);
int __wrap_sa_catalog_marks(struct sa_catalog *c, const struct lb_hash *point, unsigned *out,
			    struct lb_err *err);
int __wrap_sa_catalog_sync(struct sa_catalog *c, struct rep_store *s, struct lb_err *err);
int __real_sa_catalog_sync(struct sa_catalog *c, struct rep_store *s, struct lb_err *err);

int __wrap_rep_source_create(struct rep_source **out, const struct rep_source_cfg *cfg,
			     struct lb_err *err)
{
	(void)err;
	fake.cfg = *cfg;
	*out = (struct rep_source *)(void *)&fake;
	return 0;
}

void __wrap_rep_source_destroy(struct rep_source *s)
{
	(void)s;
}

int __wrap_rep_source_group_add(struct rep_source *s, const struct rep_source_group *g,
				struct lb_err *err)
{
	(void)s;
	(void)err;
	fake.group[fake.adds++ % 4] = g->group;
	return 0;
}

void __wrap_rep_source_group_remove(struct rep_source *s, const struct lb_id *group)
{
	(void)s;
	(void)group;
	fake.removes++;
}

bool __wrap_rep_source_stats(struct rep_source *s, const struct lb_id *group,
			     struct rep_source_stats *out)
{
	(void)s;
	(void)group;
	*out = fake.stats;
	return true;
}

void __wrap_sa_vms_fence(struct sa_vms *v, const struct sa_group_cfg *group)
{
	(void)v;
	assert_string_equal(group->name, "erp");
	fake.fences++;
}

int __wrap_sa_catalog_marks(struct sa_catalog *c, const struct lb_hash *point, unsigned *out,
			    struct lb_err *err)
{
	(void)c;
	(void)point;
	(void)err;
	*out = 0;
	fake.marks++;
	return 0;
}

int __wrap_sa_catalog_sync(struct sa_catalog *c, struct rep_store *s, struct lb_err *err)
{
	return fake.no_room ? lb_err_set(err, LB_ENOSPC, 0, "catalog.db: database or disk is full")
			    : __real_sa_catalog_sync(c, s, err);
}

static void event(enum rep_source_event_type type, int code, uint64_t epoch)
{
	const struct lb_err err = {.code = code, .msg = "because"};
	const struct rep_source_event e = {.type = type,
					   .group = fake.group[0],
					   .epoch = epoch,
					   .seq = 1,
					   .err = code != 0 ? &err : NULL};

	fake.cfg.on_event(fake.cfg.arg, &e);
}

/* ---- a world ---- */

struct world {
	struct lb_env env;
	uint64_t now_ns;
	char dir[64];
	struct lb_fs *disk;
	struct sa_config cfg;
	struct sa_group_cfg group[2];
	struct sa_machine_cfg machine[2];
	struct sa_agent agent;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static uint64_t env_now(struct lb_env *env)
{
	return ((struct world *)env)->now_ns;
}

static uint64_t env_wall(struct lb_env *env)
{
	(void)env;
	return lb_env_real()->wall_ns(lb_env_real());
}

static void env_random(struct lb_env *env, void *p, size_t len)
{
	(void)env;
	lb_env_real()->random(lb_env_real(), p, len);
}

static void configure(struct world *w, size_t i, const char *name)
{
	struct sa_machine_cfg *m = &w->machine[i];

	(void)snprintf(m->name, sizeof(m->name), "db");
	(void)snprintf(m->driver, sizeof(m->driver), "block");
	(void)snprintf(m->volume[0].name, sizeof(m->volume[0].name), "vda");
	(void)snprintf(m->volume[0].path, sizeof(m->volume[0].path), "/dev/null");
	m->volumes = 1;
	(void)snprintf(w->group[i].name, sizeof(w->group[i].name), "%s", name);
	(void)snprintf(w->group[i].peer, sizeof(w->group[i].peer), "osaka");
	w->group[i].interval_ns = S_NS;
	w->group[i].machines = 1;
	w->group[i].machine = m;
}

static void open_roles(struct world *w)
{
	struct lb_err err = {0};

	sa_roles_close(w->agent.roles);
	w->agent.roles = NULL;
	must(sa_roles_open(&w->agent.roles, &w->env, w->disk, &err), &err);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sa_agent *a = &w->agent;
	struct lb_err err = {0};

	assert_non_null(w);
	fake = (struct fake){.adds = 0};
	w->env = (struct lb_env){.now_ns = env_now, .wall_ns = env_wall, .random = env_random};
	w->now_ns = 1000 * S_NS;
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb-test-agent-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	configure(w, 0, "erp");
	configure(w, 1, "hr");
	(void)snprintf(w->cfg.site, sizeof(w->cfg.site), "tokyo");
	(void)snprintf(w->cfg.state_dir, sizeof(w->cfg.state_dir), "%s", w->dir);
	w->cfg.group = w->group;
	w->cfg.groups = 1;
	a->env = &w->env;
	a->cfg = &w->cfg;
	must(lb_memfs_create(&w->disk, 3, &err), &err);
	a->state = w->disk;
	must(lb_loop_create(&a->loop, &err), &err);
	must(lb_pool_create(&a->pool, a->loop, 1, &err), &err);
	must(sa_ident_open(&a->ident, &w->env, w->dir, "tokyo", &err), &err);
	must(sa_ident_init(a->ident, &err), &err);
	must(sa_idmap_open(&a->ids, &w->env, w->disk, &err), &err);
	open_roles(w);
	*state = w;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct world *w = *state;
	struct sa_agent *a = &w->agent;

	sa_protect_stop(a); /* the pool, too */
	sa_roles_close(a->roles);
	sa_idmap_close(a->ids);
	sa_ident_close(a->ident);
	lb_loop_destroy(a->loop);
	lb_fs_destroy(w->disk);
	assert_int_equal(nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(w);
	return 0;
}

static void enrol_osaka(struct world *w)
{
	struct sa_peer p = {.name = "osaka", .site.b = {7}, .key.b = {8}};
	struct lb_err err = {0};

	(void)snprintf(p.addr.host, sizeof(p.addr.host), "192.0.2.2");
	p.addr.port = 7400;
	must(sa_ident_peer_add(w->agent.ident, &p, &err), &err);
}

static void start(struct world *w)
{
	struct lb_err err = {0};

	must(sa_protect_start(&w->agent, &err), &err);
}

/* Field @key of the @n-th group that is called @name, its own reference; NULL: it has none. */
static json_t *field_of(struct world *w, const char *name, unsigned n, const char *key)
{
	json_t *all = sa_groups_json(&w->agent), *g, *found = NULL;
	size_t i;

	json_array_foreach(json_object_get(all, "groups"), i, g)
	{
		if (strcmp(json_string_value(json_object_get(g, "name")), name) == 0 && n-- == 0)
			found = json_incref(json_object_get(g, key));
	}
	json_decref(all);
	return found;
}

static void expect_text(struct world *w, const char *name, const char *key, const char *want)
{
	json_t *v = field_of(w, name, 0, key);

	assert_true(json_is_string(v));
	assert_string_equal(json_string_value(v), want);
	json_decref(v);
}

/* The code of what group @name tells as its problem; "": it has none. */
static void expect_problem(struct world *w, const char *name, const char *want)
{
	json_t *v = field_of(w, name, 0, "problem");
	const char *code = json_string_value(json_object_get(v, "code"));

	assert_string_equal(code != NULL ? code : "", want);
	json_decref(v);
}

/* ---- one group and the others ---- */

static void test_own_problem(void **state)
{
	struct world *w = *state;
	char *path = w->machine[0].volume[0].path;

	w->cfg.groups = 2;
	path[0] = '.'; /* no absolute path: its source cannot be made */
	enrol_osaka(w);
	start(w);
	assert_int_equal(fake.adds, 1);
	expect_problem(w, "erp", "LB_EINPUT");
	expect_problem(w, "hr", "");
	expect_text(w, "erp", "link", "down");
	json_decref(sa_doctor_json(&w->agent));
	start(w); /* somebody else is enrolled */
	assert_int_equal(fake.adds, 1);
	path[0] = '/';
	start(w);
	assert_int_equal(fake.adds, 2);
	expect_problem(w, "erp", "");
}

/* "not enrolled" is not told all through the seed that follows. */
static void test_waits_for_its_peer(void **state)
{
	struct world *w = *state;

	start(w);
	assert_int_equal(fake.adds, 0);
	expect_problem(w, "erp", "LB_EAUTH");
	enrol_osaka(w);
	start(w);
	assert_int_equal(fake.adds, 1);
	fake.cfg.on_event(fake.cfg.arg, &(struct rep_source_event){.type = REP_SOURCE_LINK_UP});
	expect_problem(w, "erp", "");
}

static void test_problems_end(void **state)
{
	struct world *w = *state;

	enrol_osaka(w);
	start(w);
	fake.cfg.on_event(fake.cfg.arg, &(struct rep_source_event){.type = REP_SOURCE_LINK_UP});
	event(REP_SOURCE_ABANDONED, LB_EAGAIN, 0); /* no cut: the machine is off */
	expect_problem(w, "erp", "LB_EAGAIN");
	event(REP_SOURCE_CUT, 0, 0);
	expect_problem(w, "erp", "");
	event(REP_SOURCE_ABANDONED, LB_ECHANGED, 0); /* that cut was no good */
	event(REP_SOURCE_CUT, 0, 0);
	expect_problem(w, "erp", "LB_ECHANGED"); /* and the next may be none either */
	event(REP_SOURCE_ACKED, 0, 0);
	expect_problem(w, "erp", "");
}

/* A scan of which a quarter took ten seconds takes thirty more, however little of it is shipped. */
static void test_eta(void **state)
{
	struct world *w = *state;
	json_t *v;

	enrol_osaka(w);
	start(w);
	event(REP_SOURCE_CUT, 0, 0);
	w->now_ns += 10 * S_NS;
	fake.stats = (struct rep_source_stats){.busy = true,
					       .scan_done_bytes = UINT64_C(250) << 20,
					       .scan_all_bytes = UINT64_C(1000) << 20,
					       .rate_bytes_per_s = 100};
	v = field_of(w, "erp", 0, "progress");
	assert_int_equal(json_integer_value(json_object_get(v, "eta_s")), 30);
	json_decref(v);
}

static void test_doctor_tells_the_age(void **state)
{
	struct world *w = *state;
	json_t *all, *k;
	size_t i;
	unsigned seen = 0;

	enrol_osaka(w);
	start(w);
	fake.stats.last_acked_capture_boot_ns = w->now_ns;
	w->now_ns += 7 * 60 * S_NS;
	all = sa_doctor_json(&w->agent);
	json_array_foreach(json_object_get(all, "checks"), i, k)
	{
		const char *text = json_string_value(json_object_get(k, "text"));

		if (strcmp(json_string_value(json_object_get(k, "check")), "group-protected") != 0)
			continue;
		seen++;
		assert_true(json_is_false(json_object_get(k, "ok")));
		assert_non_null(strstr(text, "7 m"));
		assert_null(strstr(text, "recent"));
	}
	assert_int_equal(seen, 1);
	json_decref(all);
}

/* ---- roles ---- */

/* What a peer keeps here is not shadowed by a group of ours of the same name. */
static void test_name_of_a_peers_group(void **state)
{
	struct world *w = *state;
	struct sa_role_record rec = {
		.group.b = {5}, .name = "erp", .role = SA_ROLE_BACKUP, .epoch = 3, .writer.b = {7}};
	struct lb_err err = {0};
	json_t *v;

	must(sa_role_set(w->agent.roles, &rec, &err), &err);
	enrol_osaka(w);
	start(w);
	assert_int_equal(fake.adds, 0);
	expect_problem(w, "erp", "LB_EEXIST");
	assert_int_equal(sa_roles_count(w->agent.roles), 1);
	v = field_of(w, "erp", 1, "role"); /* it can still be seen */
	assert_string_equal(json_string_value(v), "BACKUP");
	json_decref(v);
}

/* Fenced is fenced, also while the disk takes no record of it; it gets one as soon as it does. */
static void test_fence_on_a_bad_disk(void **state)
{
	struct world *w = *state;
	struct sa_role_record rec;
	json_t *v;

	enrol_osaka(w);
	start(w);
	lb_memfs_fail_at(w->disk, lb_memfs_ops(w->disk) + 3, LB_EIO); /* open, write, sync */
	event(REP_SOURCE_FENCED, 0, 2);
	assert_int_equal(fake.removes, 1);
	assert_int_equal(fake.fences, 1);
	assert_true(sa_role_get(w->agent.roles, &fake.group[0], &rec));
	assert_int_equal(rec.role, SA_ROLE_PRIMARY);
	expect_text(w, "erp", "role", "FENCED");
	v = field_of(w, "erp", 0, "epoch");
	assert_int_equal(json_integer_value(v), 2);
	json_decref(v);
	start(w); /* as the timer does */
	open_roles(w);
	assert_true(sa_role_get(w->agent.roles, &fake.group[0], &rec));
	assert_int_equal(rec.role, SA_ROLE_FENCED);
	assert_int_equal(rec.epoch, 2);
	assert_int_equal(fake.adds, 1);
	expect_problem(w, "erp", "LB_EFENCED");
}

/* An agent that recorded the fence, and died before the machines had ended, ends them when it comes
 * back. */
static void test_fence_after_a_restart(void **state)
{
	struct world *w = *state;
	struct sa_role_record rec = {
		.name = "erp", .role = SA_ROLE_PRIMARY, .epoch = 1, .lineage = 1};
	struct lb_err err = {0};

	must(sa_idmap_get(w->agent.ids, "erp", &rec.group, &err), &err);
	must(sa_role_set(w->agent.roles, &rec, &err), &err);
	rec.role = SA_ROLE_FENCED;
	rec.epoch = 2;
	must(sa_role_set(w->agent.roles, &rec, &err), &err);
	enrol_osaka(w);
	start(w);
	assert_int_equal(fake.fences, 1);
	assert_int_equal(fake.adds, 0);
	expect_problem(w, "erp", "LB_EFENCED");
}

/* ---- the target role ---- */

#define POINTS 40u

/* A store with points, and a catalog that does not know of them. */
static void fill_store(struct world *w, struct sf_group *g)
{
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct sa_agent *a = &w->agent;
	struct lb_err err = {0};
	char path[80];

	(void)snprintf(path, sizeof(path), "%s/store", w->dir);
	must(lb_fs_dir_create(&a->store_fs, path, &err), &err);
	must(rep_store_open(&a->store, &w->env, a->store_fs, &cfg, &err), &err);
	sf_group_init(g, 0, 1, 16, 5);
	for (unsigned i = 0; i < POINTS; i++) {
		struct sf_point p;

		sf_group_write(g, 2);
		sf_point_cut(g, &p);
		must(sf_point_send(a->store, &p, &err), &err);
		must(rep_store_commit(a->store, &err), &err);
		sf_point_accepted(g, &p);
		sf_point_free(&p);
	}
	must(sa_catalog_open(&a->catalog, w->dir, &err), &err);
}

static void empty_store(struct world *w, struct sf_group *g)
{
	sa_backup_stop(&w->agent);
	sa_catalog_close(w->agent.catalog);
	sf_group_fini(g);
}

/* A site whose disk takes no catalog any more can still show its points, and fail over to them. */
static void test_no_room_for_the_catalog(void **state)
{
	struct world *w = *state;
	struct sa_agent *a = &w->agent;
	struct lb_err err = {0};
	struct sf_group g;

	fill_store(w, &g);
	rep_store_close(a->store);
	lb_fs_destroy(a->store_fs);
	a->store = NULL;
	a->store_fs = NULL;
	(void)snprintf(w->cfg.listen.host, SA_HOST_BYTES, "127.0.0.1");
	w->cfg.listen.port = 7400;
	w->cfg.segment_bytes = 64 << 20;
	fake.no_room = true;
	must(sa_backup_start(a, &err), &err);
	fake.no_room = false;
	assert_non_null(a->store);
	assert_non_null(strstr(a->alarm, "index_failed"));
	must(sa_catalog_sync(a->catalog, a->store, &err), &err); /* there is room again */
	empty_store(w, &g);
}

/* A list of a few points costs a few looks at their marks, not one for each there is. */
static void test_few_of_many_points(void **state)
{
	struct world *w = *state;
	struct sf_group g;
	json_t *all, *p;
	size_t i;

	fill_store(w, &g);
	fake.marks = 0;
	all = sa_points_json(&w->agent, NULL, 5);
	assert_int_equal(json_array_size(json_object_get(all, "points")), 5);
	assert_int_equal(fake.marks, 5);
	json_array_foreach(json_object_get(all, "points"), i, p)
	{
		assert_int_equal(json_integer_value(json_object_get(p, "seq")), POINTS - 4 + i);
	}
	json_decref(all);
	all = sa_points_json(&w->agent, NULL, 1000);
	assert_int_equal(json_array_size(json_object_get(all, "points")), POINTS);
	json_decref(all);
	empty_store(w, &g);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_own_problem),
		T(test_waits_for_its_peer),
		T(test_problems_end),
		T(test_eta),
		T(test_doctor_tells_the_age),
		T(test_name_of_a_peers_group),
		T(test_fence_on_a_bad_disk),
		T(test_fence_after_a_restart),
		T(test_no_room_for_the_catalog),
		T(test_few_of_many_points),
	};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null >= 0)
		lb_log_set_fd(null); /* what is logged is expected here */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
