/*
 * pipe: the two ends of the replication engines as two processes, without agent, roles or catalog.
 * For tests/e2e and tests/bench only: ids, keys and the deployment's CA are fixed or made here.
 *
 *   pipe init DIR                        CA and certificates, good and bad ones
 *   pipe target DIR STORE                a backup; prints "port N", then "point SEQ HASH" each
 *   pipe source DIR IMAGE STATE PORT     a primary of one machine with one disk, and RAM by --ram
 *   pipe points DIR STORE                list visible points
 *   pipe export DIR STORE HASH OUT       write a point's disk (--ram 1: its RAM) to a file
 *   pipe memory DIR STORE                check every point's RAM against its device state
 *   pipe torn DIR STORE                  check that every point has one generation stamp in it
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/loop.h"
#include "base/seal.h"
#include "fake_ram.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "pipe_kill.h"
#include "replicator/export.h"
#include "replicator/link.h"
#include "replicator/point.h"
#include "replicator/source.h"
#include "replicator/store.h"
#include "replicator/target.h"
#include "replicator/view.h"
#include "testca.h"

#define EXIT_USAGE 2

struct options {
	const char *cert, *changed, *trace;
	unsigned points, connections, workers;
	uint64_t interval_ns, window_bytes, kill_at;
	uint64_t ram_bytes, dirty_pages, shadow_bytes;
	uint32_t seed_pack_bytes, delta_pack_bytes;
	uint16_t port;
	uint8_t boot; /* of the source's host, as it says */
	bool once, volatile_store, checked, unhashed, words;
};

static struct lb_id id_of(uint8_t n)
{
	struct lb_id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

#define DEPLOYMENT id_of(0xd0)
#define SITE_A     id_of(0xa0)
#define SITE_B     id_of(0xb0)
#define GROUP      id_of(0x60)
#define MACHINE    id_of(0x30)
#define VOLUME     id_of(0x40)
#define RAM        id_of(0x41)

static struct lb_signer *signer_of(uint8_t n)
{
	struct lb_signer *s = NULL;
	uint8_t seed[32];

	memset(seed, n, sizeof(seed));
	LB_ASSERT(lb_signer_from_seed(&s, seed, NULL) == 0);
	return s;
}

static struct lb_pubkey pubkey_of(uint8_t n)
{
	struct lb_signer *s = signer_of(n);
	struct lb_pubkey k;

	lb_signer_pubkey(s, &k);
	lb_signer_destroy(s);
	return k;
}

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	(void)arg;
	(void)id;
	memset(out->b, 0x55, sizeof(out->b));
	return 0;
}

static int fail(const struct lb_err *err)
{
	(void)fprintf(stderr, "pipe: %s: %s\n", lb_err_name(err->code), err->msg);
	return 1;
}

static int tls_open(struct rep_tls **out, bool server, const char *dir, const char *name,
		    struct lb_err *err)
{
	struct lb_id deployment = DEPLOYMENT;
	char ca[300], cert[300], key[300];

	(void)snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
	(void)snprintf(cert, sizeof(cert), "%s/%s.pem", dir, name);
	(void)snprintf(key, sizeof(key), "%s/%s.key", dir, name);
	return rep_tls_create(out, server, &deployment, ca, cert, key, err);
}

/* Peak RSS of this program: ru_maxrss would count what the parent had before exec. */
static long peak_rss_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	long kib = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	}
	if (f != NULL)
		(void)fclose(f);
	return kib;
}

/* What this process used, for the bench. */
static void print_usage(const char *who)
{
	struct rusage u;

	(void)getrusage(RUSAGE_SELF, &u);
	(void)printf("usage %s cpu %.4f rss_kib %ld\n", who,
		     (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
			     (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
		     peak_rss_kib());
}

static uint64_t mono_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- init ---- */

static int cmd_init(const char *dir)
{
	struct testca *ca = testca_create(dir, "ca"), *foreign = testca_create(dir, "foreign-ca");
	struct lb_id deployment = DEPLOYMENT, a = SITE_A, b = SITE_B, other = id_of(0xee);

	testca_issue(ca, "a", &deployment, &a, -60, 86400);
	testca_issue(ca, "b", &deployment, &b, -60, 86400);
	testca_issue(ca, "expired", &deployment, &a, -7200, -3600);
	testca_issue(ca, "stranger", &deployment, &other, -60, 86400);
	testca_issue(foreign, "foreign", &deployment, &a, -60, 86400);
	testca_destroy(ca);
	testca_destroy(foreign);
	return 0;
}

/* ---- target ---- */

struct target_run {
	struct lb_loop *loop;
	struct rep_target *target;
	uint16_t port;
	bool keys;
};

static int target_key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct lb_id a = SITE_A;

	(void)arg;
	if (!lb_id_equal(site, &a))
		return LB_ENOTFOUND;
	*out = pubkey_of(0xa1);
	return 0;
}

static bool target_allowed(void *arg, const struct lb_id *site)
{
	struct lb_id a = SITE_A;

	(void)arg;
	return lb_id_equal(site, &a);
}

static void target_role(void *arg, const struct lb_id *group, struct rep_group_role *out)
{
	(void)arg;
	(void)group;
	*out = (struct rep_group_role){.epoch = 1, .writable = true, .writer = SITE_A};
}

static int target_adopt(void *arg, const struct lb_id *group, const char *name, uint64_t epoch,
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

static int target_raise(void *arg, const struct lb_id *group, uint64_t epoch,
			const struct lb_id *site, struct lb_err *err)
{
	(void)arg;
	(void)group;
	(void)site;
	return lb_err_set(err, LB_EDENIED, 0, "epoch %" PRIu64 " is not ours", epoch);
}

static int target_store_key(void *arg, const struct rep_key_frame *key, struct lb_err *err)
{
	struct target_run *r = arg;
	struct lb_key dek;

	(void)dek_of(NULL, &key->machine, &dek);
	if (memcmp(dek.b, key->key.b, sizeof(dek.b)) != 0)
		return lb_err_set(err, LB_EINPUT, 0, "not the key of this test");
	r->keys = true;
	return 0;
}

static void target_point(void *arg, const struct rep_target_point *p)
{
	char hex[LB_HASH_TEXT];

	(void)arg;
	(void)printf("point %" PRIu64 " %s\n", p->point->seq,
		     lb_hash_text(&p->point->manifest, hex));
	(void)fflush(stdout);
}

static void target_peer(void *arg, const struct lb_id *site, bool up, const struct lb_err *err)
{
	(void)arg;
	(void)site;
	(void)fprintf(stderr, "target: peer %s%s%s\n", up ? "up" : "down",
		      err->code != 0 ? ": " : "", err->code != 0 ? err->msg : "");
}

static void target_alarm(void *arg, const char *ev, const struct lb_err *err)
{
	(void)arg;
	(void)printf("alarm %s %s\n", ev, err->msg);
	(void)fflush(stdout);
}

static void target_stop(void *arg)
{
	struct target_run *r = arg;

	lb_loop_stop(r->loop);
}

/* For the durability goal's other side only: the same file system without its syncs. */
static int no_sync(struct lb_file *f, struct lb_err *err)
{
	(void)f;
	(void)err;
	return 0;
}

static int target_start(struct target_run *r, struct lb_fs *fs, struct rep_store **store,
			struct rep_tls *tls, struct lb_signer *signer, struct lb_err *err)
{
	struct rep_store_cfg scfg = REP_STORE_CFG_DEFAULTS;
	struct rep_target_cfg c = {.env = lb_env_real(),
				   .loop = r->loop,
				   .tls = tls,
				   .listen_host = "127.0.0.1",
				   .listen_port = r->port,
				   .deployment = DEPLOYMENT,
				   .site = SITE_B,
				   .signer = signer,
				   .key_of = target_key_of,
				   .peer_allowed = target_allowed,
				   .role_of = target_role,
				   .adopt = target_adopt,
				   .raise_epoch = target_raise,
				   .store_key = target_store_key,
				   .on_point = target_point,
				   .on_peer = target_peer,
				   .on_alarm = target_alarm,
				   .arg = r};
	int rc = rep_store_open(store, lb_env_real(), fs, &scfg, err);

	if (rc != 0)
		return rc;
	lb_id_random(&c.boot_id, lb_env_real());
	c.store = *store;
	rc = rep_target_create(&r->target, &c, err);
	if (rc == 0) {
		(void)printf("port %u\n", rep_target_port(r->target));
		(void)fflush(stdout);
	}
	return rc;
}

static int cmd_target(const struct options *o, const char *dir, const char *path)
{
	struct target_run r = {.port = o->port};
	struct lb_signer *signer = signer_of(0xb1);
	struct rep_target_stats st = {0};
	struct rep_tls *tls = NULL;
	struct rep_store *store = NULL;
	struct lb_fs *fs = NULL;
	struct lb_err err = {0};
	int rc = lb_loop_create(&r.loop, &err);

	if (rc == 0)
		rc = lb_loop_on_signal(r.loop, SIGTERM, target_stop, &r, &err);
	if (rc == 0)
		rc = tls_open(&tls, true, dir, o->cert != NULL ? o->cert : "b", &err);
	if (rc == 0)
		rc = lb_fs_dir_create(&fs, path, &err);
	if (rc == 0)
		fs = pipe_kill_fs(fs, o->kill_at, o->volatile_store ? no_sync : NULL);
	if (rc == 0)
		rc = target_start(&r, fs, &store, tls, signer, &err);
	if (rc == 0)
		rc = lb_loop_run(r.loop, &err);
	if (r.target != NULL) {
		rep_target_stats(r.target, &st);
		(void)printf("stats records %" PRIu64 " bytes %" PRIu64 " points %" PRIu64
			     " duplicates %" PRIu64 " corrupt %" PRIu64 " ops %" PRIu64
			     " keys %d\n",
			     st.records, st.bytes, st.points, st.duplicates, st.corrupt,
			     pipe_kill_ops(), r.keys);
	}
	rep_target_destroy(r.target);
	rep_store_close(store);
	lb_fs_destroy(fs);
	rep_tls_destroy(tls);
	lb_signer_destroy(signer);
	lb_loop_destroy(r.loop);
	print_usage("target");
	return rc == 0 ? 0 : fail(&err);
}

/* ---- source ---- */

struct source_run {
	const struct options *o;
	struct lb_loop *loop;
	struct rep_source *source;
	const char *image;
	struct img_dev *dev, *counted; /* of the running cut */
	struct rep_cut_volume volume[2];
	struct img_extmap *changed;
	struct fake_ram *ram; /* NULL: the machine has a disk only */
	struct rep_cut_state state;
	char state_text[LB_HASH_TEXT];
	struct stat seen;
	unsigned acked;
	uint64_t from_ns, cut_ns;
	struct lb_err err;
};

static bool same_stat(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_ino == b->st_ino &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The device state is the hash of the RAM it belongs to. The machine runs on while the cut is read.
 */
static void cut_memory(struct source_run *r, struct rep_cut *out)
{
	struct lb_hash hash;

	fake_ram_cut(r->ram, &r->volume[1].dev, &r->volume[1].changed);
	if (r->o->unhashed)
		hash = (struct lb_hash){{1}};
	else
		fake_ram_hash(r->ram, &hash);
	(void)lb_hash_text(&hash, r->state_text);
	r->state = (struct rep_cut_state){
		.machine = MACHINE, .p = r->state_text, .bytes = sizeof(r->state_text)};
	out->state = &r->state;
	out->states = 1;
	out->barrier = id_of(0x70);
	out->consistency = REP_CONSISTENCY_MEMORY;
	fake_ram_run(r->ram, r->o->dirty_pages, r->o->words ? FAKE_RAM_WORDS : FAKE_RAM_GUEST);
}

/* A file cannot be frozen: its cut holds when nobody wrote to it until everything was read. The
 * kernel stamps writes by a coarse clock, so a file stamped this very tick may change unseen. */
static int cut_begin(void *arg, struct rep_cut *out, struct lb_err *err)
{
	struct source_run *r = arg;
	struct img_file_cfg f = {.path = r->image};
	struct timespec now;
	int64_t age_ns;
	int rc;

	r->cut_ns = mono_ns();
	if (stat(r->image, &r->seen) != 0)
		return lb_err_errno(err, errno, "stat %s", r->image);
	(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	age_ns = (now.tv_sec - r->seen.st_mtim.tv_sec) * INT64_C(1000000000) +
		 (now.tv_nsec - r->seen.st_mtim.tv_nsec);
	if (r->o->checked && age_ns < 20000000)
		return lb_err_set(err, LB_EAGAIN, 0, "%s is being written", r->image);
	rc = img_file_create(&r->dev, &f, err);
	if (rc != 0)
		return rc;
	r->counted = pipe_kill_dev(r->dev);
	r->volume[0] = (struct rep_cut_volume){.dev = r->counted, .changed = r->changed};
	*out = (struct rep_cut){.volume = r->volume,
				.consistency = REP_CONSISTENCY_CRASH,
				.machine_json = "{\"format\":1,\"machines\":[]}"};
	out->capture_boot_ns = lb_env_real()->now_ns(lb_env_real());
	out->capture_wall_ns = lb_env_real()->wall_ns(lb_env_real());
	if (r->ram != NULL)
		cut_memory(r, out);
	return 0;
}

static int cut_check(void *arg, struct rep_cut *cut, struct lb_err *err)
{
	struct source_run *r = arg;
	struct stat now;

	(void)cut;
	if (!r->o->checked)
		return 0;
	if (stat(r->image, &now) != 0)
		return lb_err_errno(err, errno, "stat %s", r->image);
	if (!same_stat(&now, &r->seen))
		return lb_err_set(err, LB_ECHANGED, 0, "%s was written meanwhile", r->image);
	return 0;
}

static void cut_end(void *arg, struct rep_cut *cut, bool acked)
{
	struct source_run *r = arg;

	(void)cut;
	if (r->ram != NULL)
		fake_ram_end(r->ram, acked);
	img_dev_destroy(r->counted);
	img_dev_destroy(r->dev);
	r->counted = r->dev = NULL;
}

static const struct rep_cut_ops cut_ops = {.begin = cut_begin, .check = cut_check, .end = cut_end};

static const char *event_name(enum rep_source_event_type t)
{
	static const char *const name[] = {
		[REP_SOURCE_LINK_UP] = "link_up", [REP_SOURCE_LINK_DOWN] = "link_down",
		[REP_SOURCE_CUT] = "cut",         [REP_SOURCE_PROGRESS] = "progress",
		[REP_SOURCE_ACKED] = "acked",     [REP_SOURCE_ABANDONED] = "abandoned",
		[REP_SOURCE_RESYNC] = "resync",   [REP_SOURCE_FENCED] = "fenced",
		[REP_SOURCE_REFUSED] = "refused",
	};

	return name[t];
}

static void on_event(void *arg, const struct rep_source_event *e)
{
	struct source_run *r = arg;

	if (e->type == REP_SOURCE_ACKED) {
		uint64_t now = mono_ns();

		(void)printf("acked %" PRIu64 " wall %.4f of_cut %.4f\n", e->seq,
			     (double)(now - r->from_ns) / 1e9, (double)(now - r->cut_ns) / 1e9);
		r->from_ns = now;
		if (++r->acked == r->o->points)
			lb_loop_stop(r->loop);
	} else if (e->type != REP_SOURCE_PROGRESS) {
		(void)printf("%s %" PRIu64 " %s\n", event_name(e->type), e->seq,
			     e->err != NULL ? e->err->msg : "");
	}
	(void)fflush(stdout);
	if (r->o->once && e->type == REP_SOURCE_LINK_DOWN) {
		r->err = *e->err;
		lb_loop_stop(r->loop);
	}
}

static int changed_load(struct img_extmap **out, const char *path, struct lb_err *err)
{
	FILE *f = fopen(path, "r");
	unsigned long long block, count;
	int rc = f == NULL ? lb_err_errno(err, errno, "open %s", path)
			   : img_extmap_create(out, false, 1u << 24, err);

	while (rc == 0 && fscanf(f, "%llu %llu", &block, &count) == 2)
		rc = img_extmap_insert(*out, block, count, 0, err);
	if (f != NULL)
		(void)fclose(f);
	return rc;
}

static int source_start(struct source_run *r, struct lb_fs *state, struct rep_tls *tls,
			struct lb_signer *signer, struct lb_err *err)
{
	struct rep_source_volume v[2] = {{.machine = MACHINE,
					  .volume = VOLUME,
					  .machine_name = "m1",
					  .volume_name = "vda",
					  .kind = REP_VOLUME_DISK},
					 {.machine = MACHINE,
					  .volume = RAM,
					  .machine_name = "m1",
					  .volume_name = "ram",
					  .kind = REP_VOLUME_RAM,
					  .shadow_bytes = r->o->shadow_bytes}};
	struct rep_source_group g = {.group = GROUP,
				     .name = "pipe",
				     .epoch = 1,
				     .interval_ns = r->o->interval_ns,
				     .volumes = r->ram != NULL ? 2 : 1,
				     .volume = v,
				     .ops = &cut_ops,
				     .arg = r};
	struct rep_source_cfg c = {.env = lb_env_real(),
				   .loop = r->loop,
				   .state = state,
				   .tls = tls,
				   .host = "127.0.0.1",
				   .port = r->o->port,
				   .deployment = DEPLOYMENT,
				   .site = SITE_A,
				   .peer_site = SITE_B,
				   .signer = signer,
				   .peer_key = pubkey_of(0xb1),
				   .connections = r->o->connections,
				   .workers = r->o->workers,
				   .window_bytes = r->o->window_bytes,
				   .seed_pack_bytes = r->o->seed_pack_bytes,
				   .delta_pack_bytes = r->o->delta_pack_bytes,
				   .dek_of = dek_of,
				   .on_event = on_event,
				   .arg = r};
	int rc;

	c.boot_id = id_of(r->o->boot);
	rc = rep_source_create(&r->source, &c, err);
	return rc != 0 ? rc : rep_source_group_add(r->source, &g, err);
}

static void source_print(struct source_run *r)
{
	struct rep_source_stats st;
	struct lb_id group = GROUP;

	if (r->source == NULL || !rep_source_stats(r->source, &group, &st))
		return;
	(void)printf("stats read %" PRIu64 " changed %" PRIu64 " shipped %" PRIu64 " parts %" PRIu64
		     " resent_held %" PRIu64 " ops %" PRIu64 "\n",
		     st.bytes_read, st.bytes_changed, st.bytes_shipped, st.parts_sent,
		     st.parts_resent_held, pipe_kill_ops());
	(void)printf("blocks data %" PRIu64 " zero %" PRIu64 " ref %" PRIu64 " patch %" PRIu64
		     " kept %" PRIu64 "\n",
		     st.blocks_data, st.blocks_zero, st.blocks_ref, st.blocks_patch,
		     st.blocks_kept);
}

static int cmd_source(const struct options *o, const char *dir, const char *image,
		      const char *state)
{
	struct source_run r = {.o = o, .image = image};
	struct lb_signer *signer = signer_of(0xa1);
	struct rep_tls *tls = NULL;
	struct lb_fs *fs = NULL;
	struct lb_err err = {0};
	int rc = lb_loop_create(&r.loop, &err);

	r.from_ns = mono_ns();
	if (rc == 0 && o->ram_bytes != 0)
		r.ram = fake_ram_create(o->ram_bytes, 1);
	if (rc == 0 && o->changed != NULL)
		rc = changed_load(&r.changed, o->changed, &err);
	if (rc == 0)
		rc = tls_open(&tls, false, dir, o->cert != NULL ? o->cert : "a", &err);
	if (rc == 0)
		rc = lb_fs_dir_create(&fs, state, &err);
	if (rc == 0)
		fs = pipe_kill_fs(fs, o->kill_at, NULL);
	if (rc == 0)
		rc = source_start(&r, fs, tls, signer, &err);
	if (rc == 0)
		rc = lb_loop_run(r.loop, &err);
	if (rc == 0 && r.err.code != 0) {
		err = r.err;
		rc = err.code;
	}
	source_print(&r);
	rep_source_destroy(r.source);
	lb_fs_destroy(fs);
	rep_tls_destroy(tls);
	lb_signer_destroy(signer);
	img_extmap_destroy(r.changed);
	fake_ram_destroy(r.ram);
	lb_loop_destroy(r.loop);
	print_usage("source");
	return rc == 0 ? 0 : fail(&err);
}

/* ---- looking at a store ---- */

struct look {
	struct rep_store *store;
	struct lb_fs *fs;
	unsigned points, torn;
	struct lb_err err;
};

static int look_open(struct look *k, const char *path)
{
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	int rc = lb_fs_dir_create(&k->fs, path, &k->err);

	return rc != 0 ? rc : rep_store_open(&k->store, lb_env_real(), k->fs, &cfg, &k->err);
}

static void look_close(struct look *k)
{
	rep_store_close(k->store);
	lb_fs_destroy(k->fs);
}

static int print_point(void *arg, const struct rep_point *p)
{
	struct look *k = arg;
	char hex[LB_HASH_TEXT];

	k->points++;
	(void)printf("point %" PRIu64 " %s\n", p->seq, lb_hash_text(&p->manifest, hex));
	return 0;
}

static int key_by_id(void *arg, const struct lb_id *key_id, struct lb_key *out)
{
	return dek_of(arg, key_id, out);
}

static const struct rep_view_cfg view_cfg = {.cache_bytes = 4u << 20, .dek_of = key_by_id};

static int view_open(struct img_dev **out, struct look *k, const struct lb_hash *manifest, bool ram)
{
	struct lb_id volume = ram ? RAM : VOLUME;

	return rep_view_open(out, k->store, manifest, &volume, &view_cfg, &k->err);
}

static int hash_dev(struct img_dev *dev, struct lb_hash *out, struct lb_err *err)
{
	static uint8_t buf[65536];
	struct lb_sha256 *h = NULL;
	int rc = lb_sha256_create(&h, err);

	for (uint64_t off = 0; rc == 0 && off < dev->size_bytes; off += sizeof(buf)) {
		uint64_t left = dev->size_bytes - off;
		size_t n = left < sizeof(buf) ? (size_t)left : sizeof(buf);

		rc = img_pread(dev, buf, n, off, err);
		if (rc == 0)
			lb_sha256_update(h, buf, n);
	}
	if (rc == 0)
		lb_sha256_final(h, out);
	lb_sha256_destroy(h);
	return rc;
}

/* RAM and device state of a point are of one cut: the state is the RAM's hash. */
static int check_memory(void *arg, const struct rep_point *p)
{
	struct look *k = arg;
	struct lb_id machine = MACHINE;
	struct img_dev *view = NULL;
	struct lb_buf *state = NULL;
	struct lb_hash hash;
	char text[LB_HASH_TEXT];
	int rc = rep_point_device_state(&state, k->store, &p->manifest, &machine, &view_cfg,
					&k->err);

	k->points++;
	if (rc == 0)
		rc = view_open(&view, k, &p->manifest, true);
	if (rc == 0)
		rc = hash_dev(view, &hash, &k->err);
	if (rc == 0 && (p->consistency != REP_CONSISTENCY_MEMORY || state->len != sizeof(text) ||
			memcmp(state->p, lb_hash_text(&hash, text), sizeof(text)) != 0)) {
		(void)printf("torn: point %" PRIu64 " has other RAM than its device state\n",
			     p->seq);
		k->torn++;
	}
	img_dev_destroy(view);
	lb_buf_unref(state);
	return rc;
}

/* Every block of the test's image begins with the generation that was written last. */
static int check_point(void *arg, const struct rep_point *p)
{
	struct look *k = arg;
	struct img_dev *view = NULL;
	uint64_t first = 0, stamp;
	uint8_t block[4096];
	int rc = view_open(&view, k, &p->manifest, false);

	k->points++;
	for (uint64_t off = 0; rc == 0 && off < view->size_bytes; off += sizeof(block)) {
		rc = img_pread(view, block, sizeof(block), off, &k->err);
		memcpy(&stamp, block, sizeof(stamp));
		if (off == 0)
			first = stamp;
		if (rc == 0 && stamp != first) {
			(void)printf("torn: point %" PRIu64 " block %" PRIu64 " has %" PRIu64
				     ", block 0 has %" PRIu64 "\n",
				     p->seq, off / sizeof(block), stamp, first);
			k->torn++;
			break;
		}
	}
	img_dev_destroy(view);
	return rc;
}

static int cmd_look(const struct options *o, const char *cmd, const char *path, const char *hash,
		    const char *out)
{
	struct look k = {0};
	struct img_dev *view = NULL;
	struct lb_hash manifest;
	int rc = look_open(&k, path);

	if (rc == 0 && strcmp(cmd, "points") == 0) {
		rc = rep_store_points(k.store, NULL, print_point, &k);
	} else if (rc == 0 && (strcmp(cmd, "torn") == 0 || strcmp(cmd, "memory") == 0)) {
		rc = rep_store_points(k.store, NULL,
				      strcmp(cmd, "torn") == 0 ? check_point : check_memory, &k);
		(void)printf("checked %u points, %u torn\n", k.points, k.torn);
	} else if (rc == 0) {
		rc = lb_hash_parse(&manifest, hash, &k.err);
		if (rc == 0)
			rc = view_open(&view, &k, &manifest, o->ram_bytes != 0);
		if (rc == 0)
			rc = rep_export_raw(view, out, NULL, NULL, &k.err);
	}
	img_dev_destroy(view);
	look_close(&k);
	if (rc != 0)
		return fail(&k.err);
	return k.torn == 0 ? 0 : 1;
}

/* ---- main ---- */

static int usage(void)
{
	(void)fprintf(stderr,
		      "usage: pipe [options] init|target|source|points|export|torn|memory DIR ...\n"
		      "  --points N --connections N --workers N --interval-ms N --window BYTES\n"
		      "  --seed-pack BYTES --delta-pack BYTES --cert NAME --changed FILE\n"
		      "  --listen PORT --kill-at N --once --checked --volatile\n"
		      "  --ram BYTES --dirty PAGES --shadow BYTES --words --unhashed --boot N\n");
	return EXIT_USAGE;
}

static const struct option long_options[] = {
	{"points", required_argument, NULL, 'p'},
	{"connections", required_argument, NULL, 'c'},
	{"workers", required_argument, NULL, 'w'},
	{"interval-ms", required_argument, NULL, 'i'},
	{"window", required_argument, NULL, 'W'},
	{"seed-pack", required_argument, NULL, 's'},
	{"delta-pack", required_argument, NULL, 'd'},
	{"cert", required_argument, NULL, 'C'},
	{"changed", required_argument, NULL, 'm'},
	{"kill-at", required_argument, NULL, 'k'},
	{"listen", required_argument, NULL, 'l'},
	{"once", no_argument, NULL, 'o'},
	{"checked", no_argument, NULL, 'x'},
	{"volatile", no_argument, NULL, 'v'},
	{"ram", required_argument, NULL, 'R'},
	{"dirty", required_argument, NULL, 'D'},
	{"shadow", required_argument, NULL, 'S'},
	{"words", no_argument, NULL, 'E'},
	{"unhashed", no_argument, NULL, 'H'},
	{"boot", required_argument, NULL, 'B'},
	{NULL, 0, NULL, 0},
};

static int parse(struct options *o, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		unsigned long long n = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;

		switch (c) {
		case 'p':
			o->points = (unsigned)n;
			break;
		case 'c':
			o->connections = (unsigned)n;
			break;
		case 'w':
			o->workers = (unsigned)n;
			break;
		case 'i':
			o->interval_ns = n * 1000000;
			break;
		case 'W':
			o->window_bytes = n;
			break;
		case 's':
			o->seed_pack_bytes = (uint32_t)n;
			break;
		case 'd':
			o->delta_pack_bytes = (uint32_t)n;
			break;
		case 'C':
			o->cert = optarg;
			break;
		case 'm':
			o->changed = optarg;
			break;
		case 'k':
			o->kill_at = n;
			break;
		case 'l':
			o->port = (uint16_t)n;
			break;
		case 'o':
			o->once = true;
			break;
		case 'x':
			o->checked = true;
			break;
		case 'R':
			o->ram_bytes = n;
			break;
		case 'D':
			o->dirty_pages = n;
			break;
		case 'B':
			o->boot = (uint8_t)n;
			break;
		case 'E':
			o->words = true;
			break;
		case 'H':
			o->unhashed = true;
			break;
		case 'S':
			o->shadow_bytes = n;
			break;
		case 'v':
			o->volatile_store = true;
			break;
		default:
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {.points = 1, .interval_ns = 1, .dirty_pages = 50, .boot = 1};
	char **arg;
	int n;

	lb_buf_keep_freed();
	if (parse(&o, argc, argv) != 0 || argc - optind < 2)
		return usage();
	arg = argv + optind;
	n = argc - optind;
	if (strcmp(arg[0], "init") == 0)
		return cmd_init(arg[1]);
	if (strcmp(arg[0], "target") == 0 && n == 3)
		return cmd_target(&o, arg[1], arg[2]);
	if (strcmp(arg[0], "source") == 0 && n == 5) {
		o.port = (uint16_t)strtoul(arg[4], NULL, 10);
		return cmd_source(&o, arg[1], arg[2], arg[3]);
	}
	if ((strcmp(arg[0], "points") == 0 || strcmp(arg[0], "torn") == 0 ||
	     strcmp(arg[0], "memory") == 0) &&
	    n == 3)
		return cmd_look(&o, arg[0], arg[2], NULL, NULL);
	if (strcmp(arg[0], "export") == 0 && n == 5)
		return cmd_look(&o, arg[0], arg[2], arg[3], arg[4]);
	return usage();
}
