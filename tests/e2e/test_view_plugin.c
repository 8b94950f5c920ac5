/*
 * The view plugin under plain nbdkit: argv[1] is the .so. Reads and holes through a real NBD
 * client, qemu-img to qcow2 when it is there, keys only from a private file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "imaging/dev.h"
#include "nbdkit_run.h"
#include "replicator/view.h"
#include "store_fix.h"

static const char *plugin;

struct world {
	char dir[64];
	char map[96], store[96], keyfile[96];
	struct fix_env env;
	struct sf_group group;
	struct sf_point point;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void write_keys(const struct world *w, mode_t mode)
{
	char path[96];
	char id[LB_ID_TEXT];
	struct lb_id key_id;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/keys", w->dir);
	(void)unlink(path);
	f = fopen(path, "w");
	assert_non_null(f);
	lb_key_id(&key_id, &w->group.dek);
	(void)fprintf(f, "# data keys\n%s ", lb_id_text(&key_id, id));
	for (unsigned i = 0; i < LB_KEY_BYTES; i++)
		(void)fprintf(f, "%02x", w->group.dek.b[i]);
	(void)fprintf(f, "\n");
	assert_int_equal(fchmod(fileno(f), mode), 0);
	(void)fclose(f);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct rep_store *s = NULL;
	struct lb_fs *fs = NULL;
	struct lb_err err = {.code = 0};

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb_vplug_XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->map, sizeof(w->map), "map=%s/map", w->dir);
	(void)snprintf(w->store, sizeof(w->store), "store=%s", w->dir);
	(void)snprintf(w->keyfile, sizeof(w->keyfile), "keyfile=%s/keys", w->dir);
	w->env = fix_env(3);
	sf_group_init(&w->group, 0, 1, 128, 99);
	must(lb_fs_dir_create(&fs, w->dir, &err), &err);
	must(rep_store_open(&s, &w->env.env, fs, &cfg, &err), &err);
	for (unsigned i = 0; i < 5; i++) {
		sf_point_free(&w->point);
		sf_group_write(&w->group, 15);
		sf_point_cut(&w->group, &w->point);
		must(sf_point_send(s, &w->point, &err), &err);
		must(rep_store_commit(s, &err), &err);
		sf_point_accepted(&w->group, &w->point);
	}
	must(rep_view_prepare(s, &w->point.hash, &w->group.vol[0].volume, fs, "map", &err), &err);
	rep_store_close(s);
	lb_fs_destroy(fs);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"seg/0000000000000001.seg",
					    "store.id",
					    "lock",
					    "map",
					    "keys",
					    "out.qcow2",
					    "out.raw"};
	struct world *w = *state;
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", w->dir, names[i]);
		(void)unlink(path);
	}
	(void)snprintf(path, sizeof(path), "%s/seg", w->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(w->dir), 0);
	sf_point_free(&w->point);
	sf_group_fini(&w->group);
	free(w);
	return 0;
}

static int run(const char *const *argv)
{
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void check_raw(const struct world *w, const char *path)
{
	struct img_file_cfg cfg = {.path = path};
	struct lb_err err = {.code = 0};
	struct img_dev *d = NULL;
	uint8_t *p = malloc((size_t)128 * REP_BLOCK_BYTES);

	must(img_file_create(&d, &cfg, &err), &err);
	assert_int_equal(d->size_bytes, (uint64_t)128 * REP_BLOCK_BYTES);
	must(img_pread(d, p, d->size_bytes, 0, &err), &err);
	assert_memory_equal(p, w->group.vol[0].image, d->size_bytes);
	img_dev_destroy(d);
	free(p);
}

static void test_serves(void **state)
{
	struct world *w = *state;
	const char *const args[] = {plugin, w->map, w->store, w->keyfile, NULL};
	struct nbdkit_run server;
	struct img_dev *d = NULL;
	struct lb_err err = {.code = 0};
	uint64_t zero = 0;
	struct img_extent x;
	uint8_t *p = malloc((size_t)128 * REP_BLOCK_BYTES);
	char qcow2[96];
	char raw[96];

	write_keys(w, 0600);
	assert_int_equal(nbdkit_start(&server, args), 0);
	must(img_nbd_create(&d, server.uri, 2, &err), &err);
	assert_int_equal(d->size_bytes, (uint64_t)128 * REP_BLOCK_BYTES);
	assert_false(img_writable(d));
	must(img_pread(d, p, d->size_bytes, 0, &err), &err);
	assert_memory_equal(p, w->group.vol[0].image, d->size_bytes);
	for (uint64_t off = 0; off < d->size_bytes; off += x.len) {
		must(img_next_extent(d, &x, off, &err), &err);
		zero += x.zero ? x.len : 0;
	}
	assert_true(zero > 0);
	img_dev_destroy(d);
	free(p);
	(void)snprintf(qcow2, sizeof(qcow2), "%s/out.qcow2", w->dir);
	(void)snprintf(raw, sizeof(raw), "%s/out.raw", w->dir);
	if (access("/usr/bin/qemu-img", X_OK) == 0) {
		const char *const out[] = {"qemu-img", "convert",  "-f",  "raw", "-O",
					   "qcow2",    server.uri, qcow2, NULL};
		const char *const back[] = {"qemu-img", "convert", "-f", "qcow2", "-O",
					    "raw",      qcow2,     raw,  NULL};

		assert_int_equal(run(out), 0);
		assert_int_equal(run(back), 0);
		check_raw(w, raw);
	} else {
		print_message("no qemu-img: the qcow2 round trip is left out\n");
	}
	nbdkit_stop(&server);
}

/* nbdkit must end with an error at once. */
static void refuses(const char *const *args)
{
	const char *argv[16] = {"nbdkit", "-f", "-U", "-", "--exit-with-parent"};
	size_t n = 5;

	for (size_t i = 0; args[i] != NULL; i++)
		argv[n++] = args[i];
	argv[n++] = "--run";
	argv[n++] = "true";
	assert_int_equal(run(argv), 1);
}

static void test_refuses(void **state)
{
	struct world *w = *state;
	const char *const good[] = {plugin, w->map, w->store, w->keyfile, NULL};
	const char *const no_keys[] = {plugin, w->map, w->store, NULL};
	char bad_map[96];
	const char *const wrong_map[] = {plugin, bad_map, w->store, w->keyfile, NULL};
	char path[96];
	int fd;

	(void)snprintf(bad_map, sizeof(bad_map), "map=%s/keys", w->dir);
	write_keys(w, 0644);
	refuses(good);
	refuses(no_keys);
	write_keys(w, 0600);
	refuses(wrong_map);
	/* a key file with another key */
	(void)snprintf(path, sizeof(path), "%s/keys", w->dir);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "ffffffff", 8, 12), 8);
	(void)close(fd);
	refuses(good);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_serves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: %s plugin.so\n", argv[0]);
		return 2;
	}
	if (access("/usr/bin/nbdkit", X_OK) != 0 && access("/usr/sbin/nbdkit", X_OK) != 0) {
		(void)fprintf(stderr, "skip: nbdkit is not installed\n");
		return 77;
	}
	plugin = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
