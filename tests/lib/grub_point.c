#include "grub_point.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "imaging/dev.h"
#include "replicator/view.h"

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void write_keys(const struct grub_point *g)
{
	char path[96], id[LB_ID_TEXT];
	struct lb_id key_id;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/keys", g->dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	lb_key_id(&key_id, &g->group.dek);
	(void)fprintf(f, "%s ", lb_id_text(&key_id, id));
	for (unsigned i = 0; i < LB_KEY_BYTES; i++)
		(void)fprintf(f, "%02x", g->group.dek.b[i]);
	(void)fprintf(f, "\n");
	(void)fclose(f);
}

static void run(const char *const *argv)
{
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* GRUB's disk is the content of the group's volume. */
static void make_disk(struct grub_point *g, const char *script, const char *words)
{
	char path[96];
	const char *const argv[] = {script, path, GRUB_TEXT, words, NULL};
	struct img_file_cfg cfg = {.path = path};
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	(void)snprintf(path, sizeof(path), "%s/grub.raw", g->dir);
	run(argv);
	must(img_file_create(&d, &cfg, &err), &err);
	assert_int_equal(d->size_bytes, GRUB_DISK_BYTES);
	must(img_pread(d, g->group.vol[0].image, GRUB_DISK_BYTES, 0, &err), &err);
	for (unsigned i = 0; i < GRUB_DISK_BLOCKS; i++)
		g->group.vol[0].dirty[i] = true;
	img_dev_destroy(d);
	(void)unlink(path);
}

static void send_point(struct grub_point *g, struct rep_store *s)
{
	struct lb_err err = {0};

	sf_point_free(&g->point);
	sf_point_cut(&g->group, &g->point);
	must(sf_point_send(s, &g->point, &err), &err);
	must(rep_store_commit(s, &err), &err);
	sf_point_accepted(&g->group, &g->point);
}

/* Two points: the second one changes a block behind GRUB, so that the view has two layers. */
static void replicate(struct grub_point *g, const char *script, const char *words)
{
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct rep_store *s = NULL;
	struct lb_fs *fs = NULL;
	struct lb_err err = {0};

	must(lb_fs_dir_create(&fs, g->dir, &err), &err);
	must(rep_store_open(&s, &g->env.env, fs, &cfg, &err), &err);
	make_disk(g, script, words);
	send_point(g, s);
	g->group.vol[0].image[GRUB_DISK_BYTES - 1] = 0x55;
	g->group.vol[0].dirty[GRUB_DISK_BLOCKS - 1] = true;
	send_point(g, s);
	must(rep_view_prepare(s, &g->point.hash, &g->group.vol[0].volume, fs, "map", &err), &err);
	rep_store_close(s);
	lb_fs_destroy(fs);
}

void grub_point_init(struct grub_point *g, const char *plugin, const char *script,
		     const char *words)
{
	char map[96], store[96], keyfile[96];
	const char *const args[] = {plugin, map, store, keyfile, NULL};

	*g = (struct grub_point){.env = fix_env(5)};
	(void)snprintf(g->dir, sizeof(g->dir), "/tmp/lb_grub_XXXXXX");
	assert_non_null(mkdtemp(g->dir));
	(void)snprintf(map, sizeof(map), "map=%s/map", g->dir);
	(void)snprintf(store, sizeof(store), "store=%s", g->dir);
	(void)snprintf(keyfile, sizeof(keyfile), "keyfile=%s/keys", g->dir);
	sf_group_init(&g->group, 0, 1, GRUB_DISK_BLOCKS, 7);
	replicate(g, script, words);
	write_keys(g);
	assert_int_equal(nbdkit_start(&g->server, args), 0);
	(void)alarm(0); /* its watchdog is a minute's, the caller's stays */
}

void grub_point_fini(struct grub_point *g)
{
	static const char *const names[] = {"seg/0000000000000001.seg", "store.id", "lock", "map",
					    "keys"};
	char path[128];

	nbdkit_stop(&g->server);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", g->dir, names[i]);
		(void)unlink(path);
	}
	(void)snprintf(path, sizeof(path), "%s/seg", g->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(g->dir), 0);
	sf_point_free(&g->point);
	sf_group_fini(&g->group);
}
