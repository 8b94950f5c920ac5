/*
 * The view plugin under plain nbdkit: argv[1] is the .so. Reads and holes through a real NBD
 * client, qemu-img to qcow2 when it is there, keys only from a private file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "view_point.h"

#define BLOCKS     128u
#define DISK_BYTES ((size_t)BLOCKS * REP_BLOCK_BYTES)

static const char *plugin;

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static int setup(void **state)
{
	struct view_point *v = calloc(1, sizeof(*v));

	assert_non_null(v);
	view_point_init(v, BLOCKS, 99);
	for (unsigned i = 0; i < 5; i++) {
		sf_group_write(&v->group, 15);
		view_point_send(v);
	}
	view_point_ready(v);
	*state = v;
	return 0;
}

static int teardown(void **state)
{
	view_point_fini(*state);
	free(*state);
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

static void check_raw(const struct view_point *v, const char *path)
{
	struct img_file_cfg cfg = {.path = path};
	struct lb_err err = {.code = 0};
	struct img_dev *d = NULL;
	uint8_t *p = malloc(DISK_BYTES);

	must(img_file_create(&d, &cfg, &err), &err);
	assert_int_equal(d->size_bytes, DISK_BYTES);
	must(img_pread(d, p, d->size_bytes, 0, &err), &err);
	assert_memory_equal(p, v->group.vol[0].image, d->size_bytes);
	img_dev_destroy(d);
	free(p);
}

static void test_serves(void **state)
{
	struct view_point *v = *state;
	struct img_dev *d = NULL;
	struct lb_err err = {.code = 0};
	uint64_t zero = 0;
	struct img_extent x;
	uint8_t *p = malloc(DISK_BYTES);
	char qcow2[96];
	char raw[96];

	view_point_keys(v, 0600);
	assert_int_equal(view_point_serve(v, plugin), 0);
	must(img_nbd_create(&d, v->server.uri, 2, &err), &err);
	assert_int_equal(d->size_bytes, DISK_BYTES);
	assert_false(img_writable(d));
	must(img_pread(d, p, d->size_bytes, 0, &err), &err);
	assert_memory_equal(p, v->group.vol[0].image, d->size_bytes);
	for (uint64_t off = 0; off < d->size_bytes; off += x.len) {
		must(img_next_extent(d, &x, off, &err), &err);
		zero += x.zero ? x.len : 0;
	}
	assert_true(zero > 0);
	img_dev_destroy(d);
	free(p);
	(void)snprintf(qcow2, sizeof(qcow2), "%s/out.qcow2", v->dir);
	(void)snprintf(raw, sizeof(raw), "%s/out.raw", v->dir);
	if (access("/usr/bin/qemu-img", X_OK) == 0) {
		const char *const out[] = {"qemu-img", "convert",     "-f",  "raw", "-O",
					   "qcow2",    v->server.uri, qcow2, NULL};
		const char *const back[] = {"qemu-img", "convert", "-f", "qcow2", "-O",
					    "raw",      qcow2,     raw,  NULL};

		assert_int_equal(run(out), 0);
		assert_int_equal(run(back), 0);
		check_raw(v, raw);
	} else {
		print_message("no qemu-img: the qcow2 round trip is left out\n");
	}
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
	struct view_point *v = *state;
	const char *const good[] = {plugin, v->map, v->store, v->keyfile, NULL};
	const char *const no_keys[] = {plugin, v->map, v->store, NULL};
	char bad_map[96];
	const char *const wrong_map[] = {plugin, bad_map, v->store, v->keyfile, NULL};
	char path[96];
	int fd;

	(void)snprintf(bad_map, sizeof(bad_map), "map=%s/keys", v->dir);
	view_point_keys(v, 0644);
	refuses(good);
	refuses(no_keys);
	view_point_keys(v, 0600);
	refuses(wrong_map);
	/* a key file with another key */
	(void)snprintf(path, sizeof(path), "%s/keys", v->dir);
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
