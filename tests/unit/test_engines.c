#include <semaphore.h>
#include <stdlib.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/loop.h"
#include "base/seal.h"
#include "check.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "memfs.h"
#include "replicator/link.h"
#include "replicator/source.h"
#include "replicator/store.h"
#include "replicator/target.h"
#include "replicator/view.h"
#include "rnd.h"
#include "testca.h"

/*
 * Both engines in one process over loopback TLS: two groups, one of two volumes on two machines.
 * The loop runs until the events a test waits for have come.
 */
#define GROUPS     2u
#define SIZE_BYTES (2u << 20)

struct fixture;
struct group {
	struct fixture *x;
	struct lb_id id;
	uint32_t volumes;
	struct img_dev *dev[2];
	struct rep_cut_volume cut[2];
	unsigned begun, ended, ended_acked, acked, abandoned, fenced, resync;
	int begin_code; /* what the driver says */
	bool halt;      /* the next check waits for x->go, and fails */
	bool halted;    /* atomic: it does */
	struct lb_hash last;
	struct img_extmap *changed; /* what the driver says of all volumes, or NULL */
	struct lb_hash kept;        /* what cut_end() heard last */
	bool astray;                /* the driver's changes count from no point at all */
};

struct fixture {
	char dir[64];
	struct lb_loop *loop;
	struct rep_tls *server, *client;
	struct lb_signer *sign_a, *sign_b;
	struct lb_fs *state, *disk;
	struct rep_store *store;
	struct rep_target *target;
	struct rep_source *source;
	struct group group[GROUPS];
	unsigned points, keys, want; /* acked in all; the loop stops at so many */
	bool remove_on_ack;          /* group 0 goes from inside its own event */
	bool stop_on_fence, on_store_ran;
	unsigned on_store_dropped;
	bool hold_keys; /* dek_of waits for the semaphore */
	sem_t asked, go;
	uint64_t rnd;
};

static struct lb_id id_of(uint8_t n)
{
	struct lb_id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	struct fixture *x = arg;

	if (x != NULL && x->hold_keys) {
		(void)sem_post(&x->asked);
		(void)sem_wait(&x->go);
	}
	memset(out->b, id->b[0], sizeof(out->b));
	return 0;
}

/* ---- the backup's agent ---- */

static int key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct fixture *x = arg;

	(void)site;
	lb_signer_pubkey(x->sign_a, out);
	return 0;
}

static bool allowed(void *arg, const struct lb_id *site)
{
	(void)arg;
	(void)site;
	return true;
}

static void role_of(void *arg, const struct lb_id *group, struct rep_group_role *out)
{
	(void)arg;
	(void)group;
	*out = (struct rep_group_role){.epoch = 1, .writable = true, .writer = id_of(0xa0)};
}

static int adopt(void *arg, const struct lb_id *group, const char *name, uint64_t epoch,
		 const struct lb_id *site, struct lb_err *err)
{
	(void)arg;
	(void)group;
	(void)name;
	(void)epoch;
	(void)site;
	(void)err;
	return 0;
}

static int raise_epoch(void *arg, const struct lb_id *group, uint64_t epoch,
		       const struct lb_id *site, struct lb_err *err)
{
	return adopt(arg, group, NULL, epoch, site, err);
}

static int store_key(void *arg, const struct rep_key_frame *key, struct lb_err *err)
{
	struct fixture *x = arg;

	(void)err;
	assert_int_equal(key->key.b[5], key->machine.b[0]);
	x->keys++;
	return 0;
}

/* ---- the primary's driver ---- */

static int cut_begin(void *arg, struct rep_cut *out, struct lb_err *err)
{
	struct group *g = arg;

	if (g->begin_code != 0) {
		int code = g->begin_code;

		g->begin_code = 0;
		return lb_err_set(err, (enum lb_code)code, 0, "not now");
	}
	g->begun++;
	for (uint32_t i = 0; i < g->volumes; i++)
		g->cut[i] = (struct rep_cut_volume){.dev = g->dev[i],
						    .changed = g->changed,
						    .since = g->astray ? (struct lb_hash){{9}}
								       : g->kept};
	*out = (struct rep_cut){.volume = g->cut,
				.consistency = REP_CONSISTENCY_CRASH,
				.machine_json = "{\"format\":1}",
				.capture_wall_ns = 1};
	out->capture_boot_ns = lb_env_real()->now_ns(lb_env_real());
	return 0;
}

static void cut_end(void *arg, struct rep_cut *cut, bool acked)
{
	struct group *g = arg;

	g->ended++;
	g->ended_acked += acked;
	if (acked)
		g->kept = cut->point;
}

static int cut_check(void *arg, struct rep_cut *cut, struct lb_err *err)
{
	struct group *g = arg;

	(void)cut;
	if (!g->halt)
		return 0;
	g->halt = false;
	__atomic_store_n(&g->halted, true, __ATOMIC_RELEASE);
	(void)sem_wait(&g->x->go);
	return lb_err_set(err, LB_ECHANGED, 0, "not frozen after all");
}

static const struct rep_cut_ops ops = {.begin = cut_begin, .check = cut_check, .end = cut_end};

static void on_event(void *arg, const struct rep_source_event *e)
{
	struct fixture *x = arg;

	for (unsigned i = 0; i < GROUPS; i++) {
		struct group *g = &x->group[i];

		if (!lb_id_equal(&g->id, &e->group))
			continue;
		g->abandoned += e->type == REP_SOURCE_ABANDONED;
		g->resync += e->type == REP_SOURCE_RESYNC;
		g->fenced += e->type == REP_SOURCE_FENCED;
		if (e->type == REP_SOURCE_FENCED && x->stop_on_fence)
			lb_loop_stop(x->loop);
		if (e->type != REP_SOURCE_ACKED)
			continue;
		g->acked++;
		g->last = e->manifest;
		if (i == 0 && x->remove_on_ack)
			rep_source_group_remove(x->source, &g->id);
		if (++x->points == x->want)
			lb_loop_stop(x->loop);
	}
}

/* ---- set-up ---- */

static void target_start(struct fixture *x)
{
	struct rep_store_cfg s = REP_STORE_CFG_DEFAULTS;
	struct rep_target_cfg c = {.env = lb_env_real(),
				   .loop = x->loop,
				   .tls = x->server,
				   .listen_host = "127.0.0.1",
				   .deployment = id_of(0xd0),
				   .site = id_of(0xb0),
				   .boot_id = id_of(2),
				   .signer = x->sign_b,
				   .key_of = key_of,
				   .peer_allowed = allowed,
				   .role_of = role_of,
				   .adopt = adopt,
				   .raise_epoch = raise_epoch,
				   .store_key = store_key,
				   .arg = x};

	assert_int_equal(rep_store_open(&x->store, lb_env_real(), x->disk, &s, NULL), 0);
	c.store = x->store;
	assert_int_equal(rep_target_create(&x->target, &c, NULL), 0);
}

static void source_start(struct fixture *x)
{
	struct rep_source_cfg c = {.env = lb_env_real(),
				   .loop = x->loop,
				   .state = x->state,
				   .tls = x->client,
				   .host = "127.0.0.1",
				   .port = rep_target_port(x->target),
				   .deployment = id_of(0xd0),
				   .site = id_of(0xa0),
				   .boot_id = id_of(1),
				   .peer_site = id_of(0xb0),
				   .signer = x->sign_a,
				   .dek_of = dek_of,
				   .on_event = on_event,
				   .arg = x};

	lb_signer_pubkey(x->sign_b, &c.peer_key);
	assert_int_equal(rep_source_create(&x->source, &c, NULL), 0);
	for (uint8_t i = 0; i < GROUPS; i++) {
		struct group *g = &x->group[i];
		struct rep_source_volume v[2] = {0};
		struct rep_source_group add = {.group = g->id,
					       .name = "g",
					       .epoch = 1,
					       .interval_ns = 1000000,
					       .volumes = g->volumes,
					       .volume = v,
					       .ops = &ops,
					       .arg = g};

		for (uint8_t k = 0; k < g->volumes; k++) {
			v[k] = (struct rep_source_volume){
				.machine = id_of((uint8_t)(0x30 + k)),
				.volume = id_of((uint8_t)(0x40 + 2 * i + k)),
				.machine_name = "m",
				.volume_name = "vda",
				.kind = REP_VOLUME_DISK};
			v[k].machine_name[0] = (char)('m' + k);
		}
		assert_int_equal(rep_source_group_add(x->source, &add, NULL), 0);
		assert_int_equal(rep_source_group_add(x->source, &add, NULL), LB_EEXIST);
	}
}

static void scribble(struct fixture *x, unsigned times)
{
	static uint8_t block[4096];

	for (unsigned i = 0; i < times * GROUPS; i++) {
		struct group *g = &x->group[i % GROUPS];
		uint64_t at = rnd_below(&x->rnd, SIZE_BYTES / 4096) * 4096;

		rnd_fill(&x->rnd, block, sizeof(block));
		assert_int_equal(
			img_pwrite(g->dev[i / GROUPS % g->volumes], block, sizeof(block), at, NULL),
			0);
	}
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	struct lb_id deployment = id_of(0xd0), a = id_of(0xa0), b = id_of(0xb0);
	struct rep_tls **tls[2];
	char path[3][128];
	struct testca *ca;

	assert_non_null(x);
	x->rnd = 5;
	(void)snprintf(x->dir, sizeof(x->dir), "/tmp/lb-test-engines-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	ca = testca_create(x->dir, "ca");
	testca_issue(ca, "a", &deployment, &a, -60, 3600);
	testca_issue(ca, "b", &deployment, &b, -60, 3600);
	testca_destroy(ca);
	assert_int_equal(lb_loop_create(&x->loop, NULL), 0);
	tls[0] = &x->client;
	tls[1] = &x->server;
	for (int i = 0; i < 2; i++) {
		(void)snprintf(path[0], 128, "%s/ca.pem", x->dir);
		(void)snprintf(path[1], 128, "%s/%c.pem", x->dir, 'a' + i);
		(void)snprintf(path[2], 128, "%s/%c.key", x->dir, 'a' + i);
		assert_int_equal(rep_tls_create(tls[i], i == 1, &deployment, path[0], path[1],
						path[2], NULL),
				 0);
	}
	assert_int_equal(lb_signer_generate(&x->sign_a, lb_env_real(), NULL), 0);
	assert_int_equal(lb_signer_generate(&x->sign_b, lb_env_real(), NULL), 0);
	assert_int_equal(lb_memfs_create(&x->state, 1, NULL), 0);
	assert_int_equal(lb_memfs_create(&x->disk, 2, NULL), 0);
	for (unsigned i = 0; i < GROUPS; i++) {
		struct group *g = &x->group[i];

		*g = (struct group){.x = x, .id = id_of((uint8_t)(0x60 + i)), .volumes = i + 1};
		for (uint32_t k = 0; k < g->volumes; k++)
			assert_int_equal(img_mem_create(&g->dev[k], SIZE_BYTES, NULL), 0);
	}
	scribble(x, 100);
	target_start(x);
	source_start(x);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	char cmd[96];

	rep_source_destroy(x->source);
	rep_target_destroy(x->target);
	rep_store_close(x->store);
	lb_fs_destroy(x->state);
	lb_fs_destroy(x->disk);
	for (unsigned i = 0; i < GROUPS; i++) {
		assert_int_equal(x->group[i].begun, x->group[i].ended); /* each cut was ended */
		img_dev_destroy(x->group[i].dev[0]);
		img_dev_destroy(x->group[i].dev[1]);
	}
	rep_tls_destroy(x->server);
	rep_tls_destroy(x->client);
	lb_signer_destroy(x->sign_a);
	lb_signer_destroy(x->sign_b);
	lb_loop_destroy(x->loop);
	(void)snprintf(cmd, sizeof(cmd), "rm -r %s", x->dir);
	assert_int_equal(system(cmd), 0);
	free(x);
	return 0;
}

/* Run until so many more points are acknowledged, over both groups. */
static void until(struct fixture *x, unsigned more)
{
	x->want = x->points + more;
	assert_int_equal(lb_loop_run(x->loop, NULL), 0);
}

static int key_by_id(void *arg, const struct lb_id *id, struct lb_key *out)
{
	(void)arg;
	for (uint8_t m = 0x30; m < 0x32; m++) {
		struct lb_id machine = id_of(m), got;

		(void)dek_of(NULL, &machine, out);
		lb_key_id(&got, out);
		if (lb_id_equal(&got, id))
			return 0;
	}
	return LB_ENOTFOUND;
}

static void check_equal(struct fixture *x)
{
	uint8_t *want = malloc(SIZE_BYTES), *got = malloc(SIZE_BYTES);

	for (uint8_t i = 0; i < GROUPS; i++) {
		struct group *g = &x->group[i];

		for (uint8_t k = 0; k < g->volumes; k++) {
			struct rep_view_cfg c = {.cache_bytes = 1u << 20, .dek_of = key_by_id};
			struct lb_id volume = id_of((uint8_t)(0x40 + 2 * i + k));
			struct img_dev *view = NULL;

			assert_int_equal(
				rep_view_open(&view, x->store, &g->last, &volume, &c, NULL), 0);
			assert_int_equal(img_pread(view, got, SIZE_BYTES, 0, NULL), 0);
			assert_int_equal(img_pread(g->dev[k], want, SIZE_BYTES, 0, NULL), 0);
			assert_memory_equal(want, got, SIZE_BYTES);
			img_dev_destroy(view);
		}
	}
	free(want);
	free(got);
}

static void test_points(void **state)
{
	struct fixture *x = *state;
	struct rep_source_stats st;

	/* Two points a group after each change: the second one's cut began after the change. */
	for (unsigned i = 0; i < 3; i++) {
		unsigned from[GROUPS];

		for (unsigned k = 0; k < GROUPS; k++)
			from[k] = x->group[k].acked;
		while (x->group[0].acked < from[0] + 2 || x->group[1].acked < from[1] + 2)
			until(x, 1);
		if (i < 2) {
			rep_source_destroy(x->source); /* nobody reads while we write */
			check_equal(x);
			scribble(x, 20);
			source_start(x);
		}
	}
	assert_true(rep_source_stats(x->source, &x->group[1].id, &st));
	assert_true(st.points_acked >= 2 && st.link_up && !st.fenced);
	assert_true(x->keys >= 3); /* m; m and n */
	assert_int_equal(x->group[0].resync + x->group[1].resync, 0);
	rep_source_destroy(x->source);
	x->source = NULL;
	check_equal(x);
}

static void until_two(struct fixture *x)
{
	unsigned from[GROUPS];

	for (unsigned k = 0; k < GROUPS; k++)
		from[k] = x->group[k].acked;
	while (x->group[0].acked < from[0] + 2 || x->group[1].acked < from[1] + 2)
		until(x, 1);
	rep_source_destroy(x->source);
	x->source = NULL;
}

/* A driver that remembers what changed while the agent was another process: its map is worth
 * something when it counts from what the other site holds, and only then. This one lies: its map
 * says that nothing changed, so it is seen when it is believed. */
static void test_changes_of_an_earlier_process(void **state)
{
	struct fixture *x = *state;
	struct rep_source_stats st;

	until_two(x);
	for (unsigned i = 0; i < GROUPS; i++) {
		struct group *g = &x->group[i];

		assert_true(lb_hash_equal(&g->kept, &g->last));
		assert_int_equal(img_extmap_create(&g->changed, false, 8, NULL), 0);
		g->astray = true;
	}
	scribble(x, 20);
	source_start(x);
	until_two(x);
	check_equal(x); /* compared by digests */
	for (unsigned i = 0; i < GROUPS; i++) {
		assert_true(x->group[i].resync > 0);
		x->group[i].resync = 0;
		x->group[i].astray = false;
	}
	source_start(x);
	until(x, 2 * GROUPS);
	assert_true(rep_source_stats(x->source, &x->group[0].id, &st));
	assert_int_equal(st.bytes_read, 0); /* believed */
	rep_source_destroy(x->source);
	x->source = NULL;
	for (unsigned i = 0; i < GROUPS; i++) {
		assert_int_equal(x->group[i].resync, 0);
		img_extmap_destroy(x->group[i].changed);
	}
}

static void test_driver_refuses(void **state)
{
	struct fixture *x = *state;

	x->group[0].begin_code = LB_EAGAIN;
	x->group[1].begin_code = LB_EIO;
	while (x->group[0].acked < 2 || x->group[1].acked < 2)
		until(x, 1);
	assert_int_equal(x->group[0].abandoned, 1);
	assert_int_equal(x->group[1].abandoned, 1);
}

static void test_remove_in_event(void **state)
{
	struct fixture *x = *state;
	struct rep_source_stats st;
	unsigned begun;

	x->remove_on_ack = true;
	while (x->group[0].acked < 1)
		until(x, 1);
	assert_false(rep_source_stats(x->source, &x->group[0].id, &st));
	begun = x->group[0].begun;
	until(x, 5); /* the other one goes on */
	assert_int_equal(x->group[0].begun, begun);
	assert_int_equal(x->group[0].acked, 1);
}

static void test_fence(void **state)
{
	struct fixture *x = *state;
	struct rep_source_stats st;

	while (x->group[1].acked < 1)
		until(x, 1);
	x->stop_on_fence = true;
	x->want = 0;
	rep_target_fence(x->target, &x->group[1].id, 7);
	assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_int_equal(x->group[1].fenced, 1);
	assert_int_equal(x->group[0].fenced, 0);
	assert_true(rep_source_stats(x->source, &x->group[1].id, &st) && st.fenced);
	until(x, 3);
}

static void on_store(void *arg, struct rep_store *s)
{
	struct fixture *x = arg;

	assert_ptr_equal(s, x->store);
	x->on_store_ran = true;
}

static void on_store_done(void *arg)
{
	struct fixture *x = arg;

	lb_loop_stop(x->loop);
}

static void on_store_drop(void *arg)
{
	struct fixture *x = arg;

	x->on_store_dropped++;
}

static void test_on_store(void **state)
{
	struct fixture *x = *state;

	rep_target_on_store(x->target, on_store, on_store_done, on_store_drop, x);
	assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_true(x->on_store_ran);
	assert_int_equal(x->on_store_dropped, 0);
}

static void stop_loop(void *arg)
{
	lb_loop_stop(arg);
}

/* The target goes first: some functions ran and have nobody to tell, some did not begin. */
static void test_on_store_dropped(void **state)
{
	struct fixture *x = *state;

	rep_source_destroy(x->source);
	x->source = NULL;
	for (unsigned i = 0; i < 20; i++)
		rep_target_on_store(x->target, on_store, on_store_done, on_store_drop, x);
	rep_target_destroy(x->target);
	x->target = NULL;
	lb_loop_post(x->loop, stop_loop, x->loop);
	assert_int_equal(lb_loop_run(x->loop, NULL), 0);
	assert_int_equal(x->on_store_dropped, 20);
}

/* The digests of one volume rot away: an alarm, a full cut, and on it goes. */
static void test_lost_digests(void **state)
{
	struct fixture *x = *state;
	char path[64], hex[LB_ID_TEXT];
	struct lb_id volume = id_of(0x43);

	while (x->group[0].acked < 2 || x->group[1].acked < 2)
		until(x, 1);
	rep_source_destroy(x->source);
	(void)snprintf(path, sizeof(path), "digests/%s", lb_id_text(&volume, hex));
	assert_int_equal(lb_memfs_corrupt(x->state, path, 100, 1), 0);
	scribble(x, 20);
	x->group[0].acked = x->group[1].acked = 0;
	source_start(x);
	while (x->group[0].acked < 1 || x->group[1].acked < 1)
		until(x, 1);
	assert_true(x->group[1].resync >= 1);
	assert_int_equal(x->group[0].resync, 0);
	rep_source_destroy(x->source);
	x->source = NULL;
	check_equal(x);
}

/* The source goes when the first cut of group 1, of two volumes, is all at the target but its
 * manifest; what another process makes of it, of which the journals are as @harm left them. */
static void draft(struct fixture *x, void (*harm)(struct fixture *x), struct rep_source_stats *st)
{
	struct group *g = &x->group[1];

	rep_source_destroy(x->source); /* nothing was sent: the loop did not run yet */
	assert_int_equal(sem_init(&x->go, 0, 0), 0);
	g->halt = true;
	source_start(x);
	while (!__atomic_load_n(&g->halted, __ATOMIC_ACQUIRE))
		until(x, 1);
	until(x, 8); /* of the other group, behind it on the same connections */
	(void)sem_post(&x->go);
	rep_source_destroy(x->source);
	(void)sem_destroy(&x->go);
	assert_int_equal(g->acked, 0);
	scribble(x, 20);
	if (harm != NULL)
		harm(x);
	source_start(x);
	while (g->acked < 1)
		until(x, 1);
	assert_true(rep_source_stats(x->source, &g->id, st));
	while (x->group[0].last.b[0] == 0 || x->group[0].acked < 12)
		until(x, 1);
	rep_source_destroy(x->source);
	x->source = NULL;
	check_equal(x);
}

static void draft_path(char path[64], uint8_t volume)
{
	struct lb_id id = id_of(volume);
	char hex[LB_ID_TEXT];

	(void)snprintf(path, 64, "drafts/%s", lb_id_text(&id, hex));
}

static void remove_one(struct fixture *x)
{
	char path[64];

	draft_path(path, 0x42);
	assert_int_equal(lb_fs_unlink(x->state, path, NULL), 0);
}

/* In the first entry: the target holds what the journal does not know any more. */
static void spoil_one(struct fixture *x)
{
	char path[64];

	draft_path(path, 0x42);
	assert_int_equal(lb_memfs_corrupt(x->state, path, 400, 1), 0);
}

static void test_draft(void **state)
{
	struct rep_source_stats whole, removed, spoilt;
	void **other;
	char path[64];
	struct lb_file *f = NULL;

	draft(*state, NULL, &whole);
	assert_int_equal(((struct fixture *)*state)->group[1].abandoned, 0);
	/* Acknowledged: of no use any more. */
	draft_path(path, 0x43);
	assert_int_equal(lb_fs_open(((struct fixture *)*state)->state, &f, path, LB_FS_READ, NULL),
			 LB_ENOTFOUND);
	other = &(void *){NULL};
	assert_int_equal(setup(other), 0);
	draft(*other, remove_one, &removed);
	assert_int_equal(((struct fixture *)*other)->group[1].abandoned, 0);
	assert_int_equal(teardown(other), 0);
	assert_int_equal(setup(other), 0);
	draft(*other, spoil_one, &spoilt);
	assert_int_equal(((struct fixture *)*other)->group[1].abandoned, 1);
	assert_int_equal(teardown(other), 0);
	(void)printf("blocks kept: %llu; without one journal %llu, with a spoilt one %llu\n",
		     (unsigned long long)whole.blocks_kept, (unsigned long long)removed.blocks_kept,
		     (unsigned long long)spoilt.blocks_kept);
	assert_true(whole.blocks_kept > removed.blocks_kept && removed.blocks_kept > 0);
	assert_true(spoilt.blocks_kept > 0);
}

/* Every thread of the pool is held up; a group whose job still waits for one goes at once. */
static void test_remove_while_busy(void **state)
{
	struct fixture *x = *state;
	struct rep_source_volume v = {.machine = id_of(0x30),
				      .machine_name = "m",
				      .volume_name = "vda",
				      .kind = REP_VOLUME_DISK};
	struct rep_source_group add = {.name = "h",
				       .epoch = 1,
				       .volumes = 1,
				       .volume = &v,
				       .ops = &ops,
				       .arg = &x->group[0]};

	while (x->group[0].acked < 1 || x->group[1].acked < 1)
		until(x, 1);
	rep_source_group_remove(x->source, &x->group[0].id);
	rep_source_group_remove(x->source, &x->group[1].id);
	assert_int_equal(sem_init(&x->asked, 0, 0) | sem_init(&x->go, 0, 0), 0);
	x->hold_keys = true;
	for (uint8_t i = 0; i < 12; i++) {
		add.group = id_of((uint8_t)(0x80 + i));
		v.volume = id_of((uint8_t)(0xc0 + i));
		assert_int_equal(rep_source_group_add(x->source, &add, NULL), 0);
		if (i == 0) /* the first asks for its key, the others of the pool wait behind it */
			(void)sem_wait(&x->asked);
	}
	rep_source_group_remove(x->source, &add.group);
	for (unsigned i = 0; i < 12; i++)
		(void)sem_post(&x->go);
	rep_source_destroy(x->source);
	x->source = NULL;
	(void)sem_destroy(&x->asked);
	(void)sem_destroy(&x->go);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_points, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_of_an_earlier_process, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_driver_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_draft, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_in_event, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_while_busy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_on_store, setup, teardown),
		cmocka_unit_test_setup_teardown(test_on_store_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_digests, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
