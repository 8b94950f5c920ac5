/*
 * What a run's steps do, over a hypervisor and a disk that live in memory and outlive the agent:
 * every instant of a failover and of a drill is a power cut of the agent's disk, after which a new
 * process goes on. Nothing is booted twice, no point changes, nothing of a drill is left.
 */
#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/loop.h"
#include "check.h"
#include "fake_hv.h"
#include "memfs.h"
#include "runs_int.h"
#include "store_fix.h"

#define WORKERS 3u
#define LIFE_NS (30ull * 1000000000ull) /* nothing takes that long; a hang is a failure */

static const char json[] =
	"{\"format\":1,\"machines\":["
	"{\"name\":\"db\",\"domain_xml\":\"<domain/>\",\"address\":\"10.0.0.1\"},"
	"{\"name\":\"app\",\"domain_xml\":\"<domain/>\"}]}";

/* Two that differ in their last character. */
#define LONG "prod-tokyo-dc1-rack12-erp-application-server-number-"
static const char long_json[] = "{\"format\":1,\"machines\":["
				"{\"name\":\"" LONG "1\",\"domain_xml\":\"<domain/>\"},"
				"{\"name\":\"" LONG "2\",\"domain_xml\":\"<domain/>\"}]}";

static const char both[] =
	"apiVersion: lifeboat/v1\nkind: Runbook\nname: both\nrto: 2m\nmodes: [drill, failover]\n"
	"steps:\n"
	"  - {id: fence, action: fence, site: tokyo}\n"
	"  - {id: db, action: boot, machine: db, needs: [fence], timeout: 30s, retries: 1,\n"
	"     backoff: 1ms..1ms, probes: [{serial: up, within: 30s}]}\n"
	"  - {id: app, action: boot, machine: app, needs: [db], timeout: 30s}\n"
	"  - {id: check, action: probe, machine: db, needs: [app], timeout: 30s,\n"
	"     probes: [{serial: up, within: 30s}]}\n"
	"finally: [{id: report, action: report, timeout: 10s}]\n";

struct world {
	char dir[64];
	struct lb_fs *disk, *store_disk;
	struct sf_group group[2]; /* the second ends the list */
	struct fake_hv hv;
	struct sa_agent agent; /* of the process that lives */
	struct sa_config cfg;
	pthread_mutex_t gate;
	struct lb_timer *tick;
	bool (*until)(struct world *w);
	uint64_t give_up_ns;
	unsigned turns;
	bool met;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

/* ---- a life of the agent ---- */

static void add_point(struct world *w)
{
	struct sf_group *g = &w->group[0];
	struct lb_err err = {0};
	struct sf_point p;

	sf_group_write(g, 5);
	sf_point_cut(g, &p);
	must(sf_point_send(w->agent.store, &p, &err), &err);
	must(rep_store_commit(w->agent.store, &err), &err);
	sf_point_accepted(g, &p);
	sf_point_free(&p);
}

static void on_tick(void *arg)
{
	struct world *w = arg;
	struct lb_env *env = lb_env_real();

	w->met = w->until(w);
	if (w->met || env->now_ns(env) > w->give_up_ns)
		lb_loop_stop(w->agent.loop);
}

static void run_until(struct world *w, bool (*until)(struct world *w))
{
	struct lb_env *env = lb_env_real();
	struct lb_err err = {0};

	w->until = until;
	w->met = false;
	w->give_up_ns = env->now_ns(env) + LIFE_NS;
	must(lb_timer_create(&w->tick, w->agent.loop, on_tick, w, &err), &err);
	lb_timer_start(w->tick, 1000000, 1000000);
	must(lb_loop_run(w->agent.loop, &err), &err);
	lb_timer_destroy(w->tick);
}

static void pass_gate(void *arg)
{
	struct world *w = arg;

	(void)pthread_mutex_lock(&w->gate);
	(void)pthread_mutex_unlock(&w->gate);
}

/* Workers do nothing while the gate is locked. May fail while the disk is cut. */
static int life_begin(struct world *w, struct lb_err *err)
{
	struct sa_agent *a = &w->agent;
	int rc;

	must(lb_loop_create(&a->loop, err), err);
	must(lb_pool_create(&a->slow, a->loop, WORKERS, err), err);
	for (unsigned i = 0; i < WORKERS; i++)
		lb_pool_submit(a->slow, pass_gate, NULL, w);
	a->hv = fake_hv_handle(&w->hv);
	rc = sa_roles_open(&a->roles, a->env, a->state, err);
	return rc != 0 ? rc : sa_runs_create(&a->runs, a, err);
}

static void life_end(struct world *w)
{
	struct sa_agent *a = &w->agent;

	sa_runs_stop(a->runs);
	lb_pool_destroy(a->slow);
	sa_runs_destroy(a->runs);
	a->runs = NULL;
	sa_roles_close(a->roles);
	a->roles = NULL;
	lb_loop_destroy(a->loop);
	a->loop = NULL;
}

static void role_begin(struct world *w)
{
	struct sa_role_record rec = {.group = w->group[0].group,
				     .role = SA_ROLE_BACKUP,
				     .epoch = 1,
				     .lineage = 1,
				     .writer = w->group[0].site};
	struct sa_roles *roles = NULL;
	struct lb_err err = {0};

	(void)snprintf(rec.name, sizeof(rec.name), "erp");
	must(sa_roles_open(&roles, w->agent.env, w->agent.state, &err), &err);
	must(sa_role_set(roles, &rec, &err), &err);
	sa_roles_close(roles);
}

static void fixture_group(struct world *w, bool long_names)
{
	struct sf_group *g = &w->group[0];

	sf_group_init(g, 0, 2, 16, 11);
	g->machine_json = long_names ? long_json : json;
	(void)snprintf(g->vol[0].machine_name, sizeof(g->vol[0].machine_name), "%s",
		       long_names ? LONG "1" : "db");
	(void)snprintf(g->vol[1].machine_name, sizeof(g->vol[1].machine_name), "%s",
		       long_names ? LONG "2" : "app");
}

static void open_trust(struct world *w)
{
	struct sa_agent *a = &w->agent;
	struct sa_peer peer = {.name = "tokyo", .site = w->group[0].site};
	struct lb_err err = {0};

	lb_signer_pubkey(w->group[0].signer, &peer.key);
	must(sa_ident_open(&a->ident, a->env, w->dir, "osaka", &err), &err);
	must(sa_ident_init(a->ident, &err), &err);
	must(sa_ident_peer_add(a->ident, &peer, &err), &err);
	must(sa_keyring_open(&a->keyring, a->env, w->dir, sa_ident_kek(a->ident), &err), &err);
	must(sa_keyring_put(a->keyring, &w->group[0].vol[0].machine, &w->group[0].dek, &err), &err);
	must(sa_catalog_open(&a->catalog, w->dir, &err), &err);
}

/* One world lives through many disks: a fresh one per killed run. */
static void new_disk(struct world *w)
{
	struct lb_err err = {0};

	if (w->disk != NULL) {
		fake_hv_fini(&w->hv);
		lb_fs_destroy(w->disk);
	}
	must(lb_memfs_create(&w->disk, 5, &err), &err);
	w->agent.state = w->disk;
	fake_hv_init(&w->hv, w->disk);
	role_begin(w);
}

static int set_up(void **state, bool long_names)
{
	struct world *w = calloc(1, sizeof(*w));
	struct rep_store_cfg cfg = {.segment_bytes = 1 << 20};
	struct sa_agent *a = &w->agent;
	struct lb_err err = {0};

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb_verbs_XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)pthread_mutex_init(&w->gate, NULL);
	a->env = lb_env_real();
	a->cfg = &w->cfg;
	(void)snprintf(w->cfg.site, sizeof(w->cfg.site), "osaka");
	(void)snprintf(w->cfg.state_dir, sizeof(w->cfg.state_dir), "%s", w->dir);
	fixture_group(w, long_names);
	open_trust(w);
	must(lb_memfs_create(&w->store_disk, 6, &err), &err);
	must(rep_store_open(&a->store, a->env, w->store_disk, &cfg, &err), &err);
	for (int i = 0; i < 3; i++)
		add_point(w);
	new_disk(w);
	*state = w;
	return 0;
}

static int setup(void **state)
{
	return set_up(state, false);
}

static int setup_long(void **state)
{
	return set_up(state, true);
}

static void remove_tree(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	char sub[600];

	while (d != NULL && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		(void)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
		if (unlink(sub) != 0)
			remove_tree(sub);
	}
	if (d != NULL)
		(void)closedir(d);
	(void)rmdir(path);
}

static int teardown(void **state)
{
	struct world *w = *state;
	struct sa_agent *a = &w->agent;

	rep_store_close(a->store);
	sa_catalog_close(a->catalog);
	sa_keyring_close(a->keyring);
	sa_ident_close(a->ident);
	fake_hv_fini(&w->hv);
	lb_fs_destroy(w->disk);
	lb_fs_destroy(w->store_disk);
	sf_group_fini(&w->group[0]);
	remove_tree(w->dir);
	(void)pthread_mutex_destroy(&w->gate);
	free(w);
	return 0;
}

static int start(struct world *w, const char *text, const char *mode, char id[LB_ID_TEXT],
		 struct lb_err *err)
{
	struct sa_run_request rq = {.name = "t.yaml",
				    .text = text,
				    .text_bytes = strlen(text),
				    .mode = mode,
				    .who = "test"};

	return sa_run_start(w->agent.runs, &rq, id, err);
}

static bool over(const struct sa_run *s)
{
	if (!sa_run_ended(s) || s->verbs != NULL || s->cleaning)
		return false;
	for (const struct sa_boot *b = s->boots; b != NULL && s->mode == RB_DRILL; b = b->next)
		if (b->state != SA_BOOT_CLEANED)
			return false;
	return true;
}

static bool all_over(struct world *w)
{
	for (const struct sa_run *s = w->agent.runs->first; s != NULL; s = s->next)
		if (!over(s))
			return false;
	return true;
}

static bool over_or_dead(struct world *w)
{
	return lb_memfs_is_cut(w->disk) || all_over(w);
}

static const char *state_of(const struct sa_run *s)
{
	struct rb_run_status st;

	rb_run_status(s->run, &st);
	return rb_run_state_name(st.state);
}

static const struct sa_run *only_run(struct world *w)
{
	assert_non_null(w->agent.runs->first);
	assert_null(w->agent.runs->first->next);
	return w->agent.runs->first;
}

static json_t *report_of(struct world *w, const char *id)
{
	json_t *o = sa_run_json(w->agent.runs, id);

	assert_non_null(o);
	return o;
}

static json_t *step_of(const json_t *report, const char *id)
{
	size_t i;
	json_t *s;

	json_array_foreach(json_object_get(report, "steps"), i,
			   s) if (strcmp(json_string_value(json_object_get(s, "id")), id) ==
				  0) return s;
	fail_msg("no step %s", id);
	return NULL;
}

static json_int_t int_at(const json_t *o, const char *a, const char *b)
{
	const json_t *v = json_object_get(o, a);

	if (b != NULL)
		v = json_object_get(v, b);
	if (!json_is_integer(v))
		fail_msg("%s.%s is no integer", a, b != NULL ? b : "");
	return json_integer_value(v);
}

/* ---- one run, whole ---- */

static void test_failover(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	const struct fh_machine *db, *app;
	char id[LB_ID_TEXT];
	json_t *o, *g;

	must(life_begin(w, &err), &err);
	must(start(w, both, "failover", id, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	assert_string_equal(state_of(only_run(w)), "DONE");
	db = fake_hv_find(&w->hv, "db");
	app = fake_hv_find(&w->hv, "app");
	assert_true(db != NULL && db->running && db->starts == 1);
	assert_true(app != NULL && app->running && app->starts == 1);
	assert_true(lb_hash_equal(&db->point, &app->point));
	assert_string_equal(w->hv.broken, "");
	o = report_of(w, id);
	assert_int_equal(int_at(step_of(o, "db"), "boot", "seq"), w->group[0].seq);
	assert_true(int_at(step_of(o, "db"), "boot", "rpo_estimate_ns") >= 0);
	assert_true(json_is_true(
		json_object_get(json_object_get(step_of(o, "db"), "boot"), "rpo_is_estimate")));
	assert_true(int_at(o, "rto_achieved_ns", NULL) > 0);
	assert_true(json_is_true(json_object_get(o, "rto_met")));
	g = json_array_get(json_object_get(o, "groups"), 0);
	assert_int_equal(int_at(g, "epoch_before", NULL), 1);
	assert_int_equal(int_at(g, "epoch_after", NULL), 2);
	json_decref(o);
	life_end(w);
	/* the next process knows all of it, boots nothing and ends nothing */
	must(life_begin(w, &err), &err);
	o = report_of(w, id);
	assert_int_equal(int_at(step_of(o, "db"), "boot", "seq"), w->group[0].seq);
	g = json_array_get(json_object_get(o, "groups"), 0);
	assert_int_equal(int_at(g, "epoch_before", NULL), 1);
	json_decref(o);
	o = sa_runs_console_json(w->agent.runs, id, "db");
	assert_non_null(o);
	json_decref(o);
	assert_true(db->running && db->starts == 1);
	life_end(w);
}

static bool both_served(struct world *w)
{
	return fake_hv_views(&w->hv) == 2;
}

/* The host is booted again: machines and view servers are gone, overlays and definitions are there.
 * Who starts the machines needs their disks. */
static void test_host_reboots(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT];

	must(life_begin(w, &err), &err);
	must(start(w, both, "failover", id, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	life_end(w);
	for (unsigned i = 0; i < FH_MACHINES; i++)
		w->hv.machine[i].running = false;
	for (unsigned i = 0; i < FH_VIEWS; i++)
		w->hv.view[i].alive = false;
	must(life_begin(w, &err), &err);
	run_until(w, both_served);
	if (!w->met)
		print_error("the disks are not served\n");
	life_end(w);
	assert_true(w->met);
	assert_string_equal(w->hv.broken, "");
	assert_int_equal(fake_hv_find(&w->hv, "db")->starts, 1); /* that is not the agent's to do */
}

/* ---- killed at every instant ---- */

static void check_failed_over(struct world *w, uint64_t k)
{
	static const char *const names[] = {"db", "app"};
	const struct fh_machine *db = fake_hv_find(&w->hv, "db");

	for (int i = 0; i < 2; i++) {
		const struct fh_machine *m = fake_hv_find(&w->hv, names[i]);

		if (m == NULL || !m->running)
			fail_msg("killed at %u: %s does not run", (unsigned)k, names[i]);
		else if (m->starts != 1 || m->stops != 0)
			fail_msg("killed at %u: %s was started %u times", (unsigned)k, names[i],
				 m->starts);
		else if (!lb_hash_equal(&m->point, &db->point))
			fail_msg("killed at %u: the machines disagree on the point", (unsigned)k);
	}
	if (fake_hv_views(&w->hv) != 2)
		fail_msg("killed at %u: %u views", (unsigned)k, fake_hv_views(&w->hv));
}

/* The report's point is the one that runs. */
static void check_report(struct world *w, uint64_t k)
{
	const struct sa_run *s = only_run(w);
	char hex[LB_HASH_TEXT];
	json_t *o = report_of(w, s->id);
	const char *said = json_string_value(
		json_object_get(json_object_get(step_of(o, "db"), "boot"), "point"));

	(void)lb_hash_text(&fake_hv_find(&w->hv, "db")->point, hex);
	if (said == NULL || strcmp(said, hex) != 0)
		fail_msg("killed at %u: the report names another point", (unsigned)k);
	json_decref(o);
}

/* How a killed run should end, and whether it did. */
static void check_end(struct world *w, const char *mode, bool cancel, uint64_t k)
{
	const struct sa_run *s = w->agent.runs->first;
	bool right = s == NULL || strcmp(state_of(s), "DONE") == 0 ||
		     (cancel && strcmp(state_of(s), "ABORTED") == 0);

	if (!w->met)
		fail_msg("%s killed at %u: stuck", mode, (unsigned)k);
	if (w->hv.broken[0] != '\0')
		fail_msg("%s killed at %u: %s", mode, (unsigned)k, w->hv.broken);
	if (!right)
		fail_msg("%s killed at %u: %s", mode, (unsigned)k, state_of(s));
	if (s != NULL && strcmp(mode, "failover") == 0) {
		check_failed_over(w, k);
		check_report(w, k);
	} else if (fake_hv_running(&w->hv) != 0 || fake_hv_views(&w->hv) != 0) {
		fail_msg("%s killed at %u: %u machines, %u views are left", mode, (unsigned)k,
			 fake_hv_running(&w->hv), fake_hv_views(&w->hv));
	}
}

/* Start, die at operation @k, live again to the end, which an operator's cancel may hasten. Returns
 * false when @k was never reached. */
static bool live_twice(struct world *w, const char *mode, bool cancel, uint64_t k)
{
	struct lb_err err = {0};
	char id[LB_ID_TEXT];
	bool died;

	new_disk(w);
	must(life_begin(w, &err), &err);
	lb_memfs_cut_at_op(w->disk, lb_memfs_ops(w->disk) + k);
	if (start(w, both, mode, id, &err) == 0)
		run_until(w, over_or_dead);
	died = lb_memfs_is_cut(w->disk);
	life_end(w);
	lb_memfs_power_cut(w->disk, k);
	add_point(w); /* what is newest now is not what the run took */
	err = (struct lb_err){0};
	(void)pthread_mutex_lock(&w->gate);
	must(life_begin(w, &err), &err);
	if (cancel && w->agent.runs->first != NULL)
		(void)sa_run_command(w->agent.runs, w->agent.runs->first->id, "cancel", NULL, NULL,
				     "test", NULL);
	(void)pthread_mutex_unlock(&w->gate);
	run_until(w, all_over);
	check_end(w, mode, cancel, k);
	life_end(w);
	return died;
}

static void test_kill_failover(void **state)
{
	uint64_t k = 1;

	while (live_twice(*state, "failover", false, k))
		k++;
	assert_true(k > 100); /* else nothing was tested */
	print_message("%u instants\n", (unsigned)k);
}

static void test_kill_drill(void **state)
{
	uint64_t k = 1;

	while (live_twice(*state, "drill", false, k))
		k++;
	assert_true(k > 100);
	print_message("%u instants\n", (unsigned)k);
}

/* The boot is never asked for again: what it left is known by its record alone. */
static void test_kill_and_cancel(void **state)
{
	uint64_t k = 1;

	while (live_twice(*state, "drill", true, k))
		k++;
	assert_true(k > 100);
}

/* ---- the ladder ---- */

static void test_ladder(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT];
	json_t *o;

	w->hv.fail_probes = 1;
	must(life_begin(w, &err), &err);
	must(start(w, both, "failover", id, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	assert_string_equal(state_of(only_run(w)), "DONE");
	o = report_of(w, id);
	assert_int_equal(int_at(step_of(o, "db"), "boot", "attempt"), 2);
	assert_int_equal(int_at(step_of(o, "db"), "boot", "seq"), w->group[0].seq - 1);
	/* and the other machine of the group goes where the first one had to go */
	assert_int_equal(int_at(step_of(o, "app"), "boot", "seq"), w->group[0].seq - 1);
	json_decref(o);
	assert_int_equal(fake_hv_find(&w->hv, "db")->starts, 2);
	assert_int_equal(fake_hv_find(&w->hv, "db")->stops, 1);
	assert_string_equal(w->hv.broken, "");
	life_end(w);
}

/* One that came up only from an older point than its group has already: said, not hidden. */
static void test_two_instants(void **state)
{
	static const char text[] =
		"apiVersion: lifeboat/v1\nkind: Runbook\nname: t\nmodes: [failover]\nsteps:\n"
		"  - {id: app, action: boot, machine: app, timeout: 30s}\n"
		"  - {id: db, action: boot, machine: db, needs: [app], timeout: 30s, retries: 1,\n"
		"     backoff: 1ms..1ms, probes: [{serial: up, within: 30s}]}\n";
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT], words[64];
	json_t *o;

	w->hv.fail_probes = 1;
	must(life_begin(w, &err), &err);
	must(start(w, text, "failover", id, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	o = report_of(w, id);
	assert_int_equal(int_at(step_of(o, "app"), "boot", "seq"), w->group[0].seq);
	assert_int_equal(int_at(step_of(o, "db"), "boot", "seq"), w->group[0].seq - 1);
	(void)snprintf(words, sizeof(words), "not of one instant with app, seq %u",
		       (unsigned)w->group[0].seq);
	assert_non_null(
		strstr(json_string_value(json_object_get(step_of(o, "db"), "detail")), words));
	assert_null(strstr(json_string_value(json_object_get(step_of(o, "app"), "detail")),
			   "not of one instant"));
	json_decref(o);
	life_end(w);
}

/* ---- drills ---- */

static bool probing(struct world *w)
{
	return fake_hv_probes(&w->hv) > 0;
}

static bool cleaned_or_not(struct world *w)
{
	const struct sa_run *s = w->agent.runs->first;

	return sa_run_ended(s) && s->verbs == NULL && !s->cleaning;
}

/* What could not be cleaned when the drill ended is cleaned by the next process. */
static void test_drill_left_over(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT];

	w->hv.fail_stops = 1; /* libvirtd is away when the drill ends */
	must(life_begin(w, &err), &err);
	must(start(w, both, "drill", id, &err), &err);
	run_until(w, cleaned_or_not);
	assert_true(w->met);
	assert_int_equal(fake_hv_running(&w->hv), 1);
	life_end(w);
	must(life_begin(w, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	assert_int_equal(fake_hv_running(&w->hv), 0);
	assert_int_equal(fake_hv_views(&w->hv), 0);
	life_end(w);
}

static void let_probes(struct world *w, bool hang)
{
	(void)pthread_mutex_lock(&w->hv.lock);
	w->hv.hang_probes = hang;
	(void)pthread_mutex_unlock(&w->hv.lock);
}

/* Names that leave no room for the drill's own are still two names. */
static void test_long_names(void **state)
{
	static const char text[] =
		"apiVersion: lifeboat/v1\nkind: Runbook\nname: l\n"
		"modes: [drill]\nsteps:\n"
		"  - {id: a, action: boot, machine: " LONG "1, timeout: 30s}\n"
		"  - {id: b, action: boot, machine: " LONG "2, timeout: 30s}\n"
		"  - {id: check, action: probe, machine: " LONG "1,\n"
		"     needs: [a, b], timeout: 30s, probes: [{serial: up, within: 30s}]}\n";
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT];

	w->hv.hang_probes = true;
	must(life_begin(w, &err), &err);
	must(start(w, text, "drill", id, &err), &err);
	run_until(w, probing);
	assert_true(w->met);
	assert_int_equal(fake_hv_running(&w->hv), 2);
	assert_string_equal(w->hv.broken, "");
	let_probes(w, false);
	life_end(w);
}

/* The agent comes back to a drill's machine that runs, and cannot serve its disk any more: the step
 * fails, but the machine is there and must go. */
static void test_drill_unserved(void **state)
{
	static const char one[] =
		"apiVersion: lifeboat/v1\nkind: Runbook\nname: one\nmodes: [drill]\nsteps:\n"
		"  - {id: db, action: boot, machine: db, timeout: 30s, retries: 0,\n"
		"     on_failure: continue, probes: [{serial: up, within: 30s}]}\n";
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT];

	w->hv.hang_probes = true;
	must(life_begin(w, &err), &err);
	must(start(w, one, "drill", id, &err), &err);
	run_until(w, probing);
	assert_true(w->met);
	assert_int_equal(fake_hv_running(&w->hv), 1);
	life_end(w);
	w->hv.fail_serves = 1;
	must(life_begin(w, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	assert_int_equal(w->hv.fail_serves, 0);
	assert_int_equal(fake_hv_running(&w->hv), 0);
	assert_int_equal(fake_hv_views(&w->hv), 0);
	life_end(w);
}

static bool failover_over(struct world *w)
{
	for (const struct sa_run *s = w->agent.runs->first; s != NULL; s = s->next)
		if (s->mode != RB_DRILL && over(s))
			return true;
	return false;
}

static void test_preempt(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char drill[LB_ID_TEXT], real[LB_ID_TEXT];
	const struct sa_run *s;

	w->hv.hang_probes = true;
	must(life_begin(w, &err), &err);
	must(start(w, both, "drill", drill, &err), &err);
	run_until(w, probing);
	assert_true(w->met);
	let_probes(w, false);
	must(start(w, both, "failover", real, &err), &err);
	run_until(w, failover_over);
	assert_true(w->met);
	assert_true(fake_hv_find(&w->hv, "db")->running);
	run_until(w, all_over);
	for (s = w->agent.runs->first; s != NULL; s = s->next)
		assert_string_equal(state_of(s), s->mode == RB_DRILL ? "ABORTED" : "DONE");
	assert_int_equal(fake_hv_running(&w->hv), 2); /* the failover's */
	assert_string_equal(w->hv.broken, "");
	life_end(w);
}

static bool cleaning(struct world *w)
{
	return w->agent.runs->first->cleaning;
}

static void hold_stops(struct world *w, bool hold)
{
	(void)pthread_mutex_lock(&w->hv.lock);
	w->hv.hold_stops = hold;
	(void)pthread_mutex_unlock(&w->hv.lock);
}

/* The failover could boot for a while now, if it did not wait. */
static bool could_boot(struct world *w)
{
	struct rb_step_status st;

	rb_run_step_status(w->agent.runs->first->run, 1, &st);
	w->turns += st.view.state == RB_STEP_RUNNING ? 1 : 0;
	return w->turns > 50;
}

/* A drill that has just ended has its memory still. */
static void test_after_drill(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char drill[LB_ID_TEXT], real[LB_ID_TEXT];

	hold_stops(w, true);
	must(life_begin(w, &err), &err);
	must(start(w, both, "drill", drill, &err), &err);
	run_until(w, cleaning);
	assert_true(w->met);
	must(start(w, both, "failover", real, &err), &err);
	run_until(w, could_boot);
	hold_stops(w, false);
	run_until(w, all_over);
	assert_true(w->met);
	assert_string_equal(w->hv.broken, "");
	assert_int_equal(fake_hv_running(&w->hv), 2);
	life_end(w);
}

/* The agent dies at operation @k of a failover's begin, beside a drill. */
static bool preempt_twice(struct world *w, uint64_t k)
{
	char drill[LB_ID_TEXT], real[LB_ID_TEXT];
	struct lb_err err = {0};
	bool died, begun;

	new_disk(w);
	must(life_begin(w, &err), &err);
	let_probes(w, true);
	must(start(w, both, "drill", drill, &err), &err);
	run_until(w, probing);
	lb_memfs_cut_at_op(w->disk, lb_memfs_ops(w->disk) + k);
	begun = start(w, both, "failover", real, &err) == 0;
	let_probes(w, false);
	if (begun)
		run_until(w, over_or_dead);
	died = lb_memfs_is_cut(w->disk);
	life_end(w);
	lb_memfs_power_cut(w->disk, k);
	err = (struct lb_err){0};
	must(life_begin(w, &err), &err);
	run_until(w, all_over);
	if (!w->met || w->hv.broken[0] != '\0')
		fail_msg("killed at %u: %s", (unsigned)k, w->met ? w->hv.broken : "stuck");
	life_end(w);
	return died;
}

static void test_kill_preempt(void **state)
{
	uint64_t k = 1;

	while (preempt_twice(*state, k))
		k++;
	assert_true(k > 100);
}

static void test_one_failover(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT], other[LB_ID_TEXT];
	static const char app_only[] = "apiVersion: lifeboat/v1\nkind: Runbook\nname: app\n"
				       "modes: [failover]\nsteps:\n"
				       "  - {id: app, action: boot, machine: app, timeout: 30s}\n";

	w->hv.hang_probes = true;
	must(life_begin(w, &err), &err);
	must(start(w, both, "failover", id, &err), &err);
	run_until(w, probing);
	assert_int_equal(start(w, both, "failover", other, &err), LB_EBUSY);
	assert_int_equal(start(w, app_only, "failover", other, &err), LB_EBUSY); /* same group */
	assert_non_null(strstr(err.msg, "same group"));
	assert_int_equal(start(w, both, "drill", other, &err), LB_EBUSY);
	life_end(w);
}

/* The operations that a start takes, or with @k > 0 fails at its @k-th: told as failed, it is no
 * run, nor one after the next start of the agent. */
static uint64_t start_failing_at(struct world *w, uint64_t k)
{
	struct lb_err err = {0};
	char id[LB_ID_TEXT];
	uint64_t before, took;
	int rc;

	new_disk(w);
	(void)pthread_mutex_lock(&w->gate); /* no worker counts */
	must(life_begin(w, &err), &err);
	before = lb_memfs_ops(w->disk);
	lb_memfs_fail_at(w->disk, k != 0 ? before + k : 0, LB_ENOSPC);
	rc = start(w, both, "failover", id, &err);
	took = lb_memfs_ops(w->disk) - before;
	(void)pthread_mutex_unlock(&w->gate);
	if (rc == 0)
		assert_non_null(w->agent.runs->first);
	else
		assert_null(w->agent.runs->first);
	life_end(w);
	if (rc != 0) {
		must(life_begin(w, &err), &err);
		assert_null(w->agent.runs->first);
		life_end(w);
	}
	return took;
}

static void test_start_on_a_full_disk(void **state)
{
	struct world *w = *state;
	uint64_t ops = start_failing_at(w, 0);

	assert_true(ops > 5);
	for (uint64_t k = 1; k <= ops; k++)
		(void)start_failing_at(w, k);
	print_message("%u operations\n", (unsigned)ops);
}

/* ---- old runs ---- */

static int count_name(void *arg, const char *name)
{
	(void)name;
	(*(unsigned *)arg)++;
	return 0;
}

/* What a start that died left is no run, and nobody's to look at after each start of the agent. */
static void test_never_began(void **state)
{
	struct world *w = *state;
	struct lb_file *f = NULL;
	struct lb_err err = {0};
	unsigned n = 0;

	must(life_begin(w, &err), &err);
	life_end(w);
	must(lb_fs_open(w->disk, &f, "runs/0123.log", LB_FS_CREATE, &err), &err);
	lb_file_close(f);
	must(life_begin(w, &err), &err);
	assert_null(w->agent.runs->first);
	must(lb_fs_list(w->disk, "runs", count_name, &n, &err), &err);
	assert_int_equal(n, 0);
	life_end(w);
}

/* However many runs came after it: what a failover booted is this site's production. */
static void test_old_runs(void **state)
{
	static const char only_report[] =
		"apiVersion: lifeboat/v1\nkind: Runbook\nname: r\nmodes: [drill]\n"
		"steps: [{id: report, action: report, timeout: 10s}]\n";
	struct world *w = *state;
	struct lb_err err = {0};
	char real[LB_ID_TEXT], id[LB_ID_TEXT];
	unsigned n = 0;
	json_t *o;

	must(life_begin(w, &err), &err);
	w->agent.runs->kept = 2;
	must(start(w, both, "failover", real, &err), &err);
	run_until(w, all_over);
	for (int i = 0; i < 5; i++) {
		must(start(w, only_report, "drill", id, &err), &err);
		run_until(w, all_over);
	}
	for (const struct sa_run *s = w->agent.runs->first; s != NULL; s = s->next)
		n++;
	assert_int_equal(n, 4); /* it, two, and the newest */
	o = sa_runs_console_json(w->agent.runs, real, "db");
	assert_non_null(o);
	json_decref(o);
	life_end(w);
}

/* ---- what a record says ---- */

/* The agent died between a machine's definition and its start, or it went off while nobody looked:
 * what the report says of its memory must not be what was planned. */
static void test_found_off(void **state)
{
	struct world *w = *state;
	const struct sa_boot_memory memory = {.state = NULL};
	struct sa_hv_disk disk = {.name = "vda", .nbd_socket = "/v"};
	struct sa_hv_machine *vm = NULL;
	struct lb_err err = {0};
	struct sa_view view;
	struct sa_boot b = {.memory = true, .mode = RB_FAILOVER, .disks = 1, .attempt = 1};
	struct sa_hv_boot_cfg cfg = {.name = "db",
				     .machine_xml = "<domain/>",
				     .disks = &disk,
				     .disk_count = 1,
				     .dir = "/boots/1/0"};

	must(life_begin(w, &err), &err);
	(void)snprintf(b.run, sizeof(b.run), "11111111111111111111111111111111");
	(void)snprintf(b.machine, sizeof(b.machine), "db");
	(void)snprintf(b.domain, sizeof(b.domain), "db");
	(void)snprintf(b.dir, sizeof(b.dir), "/boots/1/0");
	(void)snprintf(b.disk[0].name, sizeof(b.disk[0].name), "vda");
	must(sa_boot_begin(&w->agent, &b, &err), &err);
	must(sa_view_serve(NULL, b.dir, &b.point, NULL, "vda", &view, &err), &err);
	must(sa_hv_prepare(w->agent.hv, &vm, &cfg, &err), &err);
	sa_hv_machine_destroy(vm);
	must(sa_boot_start(&w->agent, &b, "<domain/>", &memory, &vm, &err), &err);
	sa_hv_machine_destroy(vm);
	assert_false(b.memory);
	assert_non_null(strstr(b.cold, "found off"));
	assert_string_equal(w->hv.broken, "");
	/* one that ran all the time has its memory */
	b.memory = true;
	b.cold[0] = '\0';
	must(sa_boot_start(&w->agent, &b, "<domain/>", &memory, &vm, &err), &err);
	sa_hv_machine_destroy(vm);
	assert_true(b.memory);
	life_end(w);
}

/* The machine is gone before it can be stopped: its views go, and so does the drill. */
static void test_gone_meanwhile(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT];

	w->hv.fail_stops = 1;
	w->hv.stop_code = LB_ENOTFOUND;
	must(life_begin(w, &err), &err);
	must(start(w, both, "drill", id, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	assert_int_equal(fake_hv_views(&w->hv), 0);
	life_end(w);
}

/* ---- text that is none ---- */

#define HALF "\xe3\x83\xad\xe3\x82" /* a console's line, cut in its second character */

/* Nothing of a report, and no record, is lost for the sake of half a character. */
static void test_half_a_character(void **state)
{
	static const char text[] =
		"apiVersion: lifeboat/v1\nkind: Runbook\nname: h\nmodes: [drill]\nsteps:\n"
		"  - {id: db, action: boot, machine: db, timeout: 30s, retries: 0,\n"
		"     on_failure: continue, probes: [{serial: up, within: 30s}]}\n";
	struct world *w = *state;
	struct lb_err err = {0};
	const char *detail;
	char id[LB_ID_TEXT];
	struct sa_boot b;
	json_t *o;

	w->hv.fail_probes = 1;
	w->hv.said = HALF;
	must(life_begin(w, &err), &err);
	must(start(w, text, "drill", id, &err), &err);
	run_until(w, all_over);
	o = report_of(w, id);
	assert_string_equal(json_string_value(json_object_get(step_of(o, "db"), "state")),
			    "failed");
	detail = json_string_value(json_object_get(step_of(o, "db"), "detail"));
	assert_non_null(strstr(detail, "not seen in time: \xe3\x83\xad"));
	json_decref(o);
	b = *only_run(w)->boots;
	(void)snprintf(b.cold, sizeof(b.cold), HALF);
	(void)snprintf(b.isolation, sizeof(b.isolation), HALF);
	must(sa_boot_save(&w->agent, &b, &err), &err);
	life_end(w);
	must(life_begin(w, &err), &err);
	assert_string_equal(only_run(w)->boots->cold, "\xe3\x83\xad");
	life_end(w);
}

/* ---- one of each machine ---- */

static const char db_only[] =
	"apiVersion: lifeboat/v1\nkind: Runbook\nname: db\nmodes: [failover]\nsteps:\n"
	"  - {id: db, action: boot, machine: db, timeout: 30s, retries: 0, on_failure: continue}\n";

/* This process, as the lifeboat-vm of @run's first step. */
static void pretend_to_run(struct world *w, const char *run)
{
	char path[SA_PATH_BYTES], boot[64] = "", stat[1024], *field;
	unsigned long long ticks = 0;
	FILE *f;

	(void)sa_read_text("/proc/sys/kernel/random/boot_id", boot, 37);
	(void)sa_read_text("/proc/self/stat", stat, sizeof(stat));
	field = strrchr(stat, ')') + 2;
	for (int i = 3; i < 22; i++)
		field = strchr(field, ' ') + 1;
	ticks = strtoull(field, NULL, 10);
	(void)snprintf(path, sizeof(path), "%s/boots", w->dir);
	(void)mkdir(path, 0700);
	(void)snprintf(path, sizeof(path), "%s/boots/%.8s", w->dir, run);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/boots/%.8s/0", w->dir, run);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/boots/%.8s/0/vm.json", w->dir, run);
	f = fopen(path, "we");
	assert_non_null(f);
	(void)fprintf(f, "{\"pid\":%d,\"boot_id\":\"%.36s\",\"start_ticks\":%llu}", (int)getpid(),
		      boot, ticks);
	assert_int_equal(fclose(f), 0);
}

/* A second failover of a machine that the first one booted: not beside it. */
static void test_one_of_each(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char first[LB_ID_TEXT], second[LB_ID_TEXT];
	json_t *o;

	must(life_begin(w, &err), &err);
	must(start(w, db_only, "failover", first, &err), &err);
	run_until(w, all_over);
	pretend_to_run(w, first);
	must(start(w, db_only, "failover", second, &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	o = report_of(w, second);
	assert_string_equal(json_string_value(json_object_get(step_of(o, "db"), "state")),
			    "failed");
	assert_non_null(strstr(json_string_value(json_object_get(step_of(o, "db"), "detail")),
			       "runs here already (run "));
	json_decref(o);
	assert_int_equal(fake_hv_find(&w->hv, "db")->prepares, 1);
	life_end(w);
}

/* ---- exec ---- */

static bool exec_said(struct world *w)
{
	return access(w->cfg.plugin_dir, F_OK) == 0; /* the path of the child's mark */
}

/* A program that ignores SIGTERM is killed after the grace. */
static void test_exec_kill(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT], text[600];
	json_t *o;

	(void)snprintf(w->cfg.plugin_dir, sizeof(w->cfg.plugin_dir), "%s/mark", w->dir);
	(void)snprintf(text, sizeof(text),
		       "apiVersion: lifeboat/v1\nkind: Runbook\nname: x\nmodes: [drill]\nsteps:\n"
		       "  - {id: x, action: exec, timeout: 60s, run: [/bin/sh, -c,\n"
		       "     \"trap '' TERM; : > %s; while :; do sleep 1; done\"]}\n",
		       w->cfg.plugin_dir);
	must(life_begin(w, &err), &err);
	w->agent.runs->exec_grace_ns = 20 * 1000000u;
	must(start(w, text, "drill", id, &err), &err);
	run_until(w, exec_said);
	assert_true(w->met);
	must(sa_run_command(w->agent.runs, id, "cancel", NULL, NULL, "test", &err), &err);
	run_until(w, all_over);
	assert_true(w->met);
	assert_string_equal(state_of(only_run(w)), "ABORTED");
	o = report_of(w, id);
	assert_string_equal(json_string_value(json_object_get(step_of(o, "x"), "code")),
			    "LB_ECANCELED");
	json_decref(o);
	life_end(w);
}

static void test_facts(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char id[LB_ID_TEXT];
	json_t *o;
	static const char text[] = "apiVersion: lifeboat/v1\nkind: Runbook\nname: f\n"
				   "modes: [drill, planned]\nsteps:\n"
				   "  - {id: a, action: fence, site: nara, modes: [planned]}\n"
				   "  - {id: b, action: fence, site: tokyo, modes: [drill]}\n"
				   "  - {id: x, action: exec, timeout: 60s, run: [/bin/echo,\n"
				   "     \"${site.source} to ${site.target}\"]}\n";

	must(life_begin(w, &err), &err);
	must(start(w, text, "drill", id, &err), &err);
	run_until(w, all_over);
	o = report_of(w, id);
	assert_non_null(strstr(json_string_value(json_object_get(step_of(o, "x"), "detail")),
			       "tokyo to osaka"));
	json_decref(o);
	life_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_failover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_reboots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_failover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_drill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_and_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ladder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_instants, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drill_left_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_names, setup_long, teardown),
		cmocka_unit_test_setup_teardown(test_drill_unserved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_preempt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_after_drill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_preempt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_failover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_on_a_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_began, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_found_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_a_character, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_of_each, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exec_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_facts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
