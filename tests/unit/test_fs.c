#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"

struct fixture {
	char dir[64];
	struct lb_fs *fs;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	(void)snprintf(x->dir, sizeof(x->dir), "/tmp/lb-test-fs-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	assert_int_equal(lb_fs_dir_create(&x->fs, x->dir, NULL), 0);
	*state = x;
	return 0;
}

static int remove_one(void *arg, const char *name)
{
	struct fixture *x = arg;
	char path[PATH_MAX];

	if (lb_fs_unlink(x->fs, name, NULL) == 0)
		return 0;
	/* A directory with files: one level is all the tests make. */
	(void)snprintf(path, sizeof(path), "%s/%s/f", x->dir, name);
	(void)unlink(path);
	return lb_fs_unlink(x->fs, name, NULL);
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(lb_fs_list(x->fs, ".", remove_one, x, NULL), 0);
	lb_fs_destroy(x->fs);
	assert_int_equal(rmdir(x->dir), 0);
	free(x);
	return 0;
}

static void test_write_read(void **state)
{
	struct fixture *x = *state;
	struct lb_file *f = NULL;
	uint64_t size = 0;
	char buf[16] = {0};
	size_t got = 0;

	assert_int_equal(lb_fs_open(x->fs, &f, "a", LB_FS_CREATE, NULL), 0);
	assert_int_equal(lb_file_pwrite(f, "hello", 5, 3, NULL), 0);
	assert_int_equal(lb_file_sync(f, NULL), 0);
	assert_int_equal(lb_file_size(f, &size, NULL), 0);
	assert_int_equal(size, 8);
	assert_int_equal(lb_file_pread(f, buf, sizeof(buf), 3, &got, NULL), 0);
	assert_int_equal(got, 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(lb_file_pread(f, buf, sizeof(buf), 100, &got, NULL), 0);
	assert_int_equal(got, 0);
	assert_int_equal(lb_file_pread_full(f, buf, 6, 3, NULL), LB_ECORRUPT);
	assert_int_equal(lb_file_truncate(f, 4, NULL), 0);
	assert_int_equal(lb_file_size(f, &size, NULL), 0);
	assert_int_equal(size, 4);
	lb_file_close(f);
	lb_file_close(NULL);
	assert_int_equal(lb_fs_sync_dir(x->fs, "", NULL), 0);
	assert_int_equal(lb_fs_sync_dir(x->fs, ".", NULL), 0);
}

static void test_many_iovecs(void **state)
{
	struct fixture *x = *state;
	struct lb_file *f = NULL;
	struct iovec iov[200];
	uint8_t bytes[200];
	uint8_t back[200];

	for (size_t i = 0; i < 200; i++) {
		bytes[i] = (uint8_t)i;
		iov[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = i % 7 == 0 ? 0 : 1};
	}
	assert_int_equal(lb_fs_open(x->fs, &f, "v", LB_FS_CREATE, NULL), 0);
	assert_int_equal(lb_file_pwritev(f, iov, 200, 10, NULL), 0);
	assert_int_equal(lb_file_pread_full(f, back, 171, 10, NULL), 0);
	for (size_t i = 0, n = 0; i < 200; i++) {
		if (i % 7 != 0)
			assert_int_equal(back[n++], (uint8_t)i);
	}
	lb_file_close(f);
}

static void test_open_failures(void **state)
{
	struct fixture *x = *state;
	struct lb_file *f = NULL;
	struct lb_err err;

	assert_int_equal(lb_fs_open(x->fs, &f, "none", LB_FS_READ, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "none"));
	assert_int_equal(lb_fs_open(x->fs, &f, "e", LB_FS_CREATE | LB_FS_EXCL, NULL), 0);
	lb_file_close(f);
	assert_int_equal(lb_fs_open(x->fs, &f, "e", LB_FS_CREATE | LB_FS_EXCL, NULL), LB_EEXIST);
	assert_int_equal(lb_fs_open(x->fs, &f, "e", LB_FS_READ, NULL), 0);
	assert_int_equal(lb_file_pwrite(f, "x", 1, 0, &err), LB_EIO); /* opened for reading */
	assert_int_equal(lb_file_pwrite(f, "x", 1, UINT64_MAX, &err), LB_EIO);
	lb_file_close(f);
	assert_int_equal(lb_fs_unlink(x->fs, "none", NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_rename(x->fs, "none", "b", NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_sync_dir(x->fs, "none", NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_list(x->fs, "none", remove_one, x, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_mkdir(x->fs, "none/d", NULL), LB_ENOTFOUND);
}

/* A symlink or "..", wherever it stands, never leads anywhere. */
static void test_no_escape(void **state)
{
	struct fixture *x = *state;
	struct lb_file *f = NULL;
	struct lb_err err;
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/link", x->dir);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	(void)snprintf(path, sizeof(path), "%s/dlink", x->dir);
	assert_int_equal(symlink(".", path), 0);
	assert_int_equal(lb_fs_open(x->fs, &f, "link", LB_FS_READ, &err), LB_EDENIED);
	assert_int_equal(lb_fs_open(x->fs, &f, "link", LB_FS_CREATE, &err), LB_EDENIED);
	assert_int_equal(lb_fs_open(x->fs, &f, "dlink/a", LB_FS_CREATE, &err), LB_EDENIED);
	assert_int_equal(lb_fs_open(x->fs, &f, "../a", LB_FS_CREATE, &err), LB_EDENIED);
	assert_int_equal(lb_fs_open(x->fs, &f, "/etc/passwd", LB_FS_READ, &err), LB_EDENIED);
	assert_int_equal(lb_fs_mkdir(x->fs, "dlink/d", &err), LB_EDENIED);
	assert_int_equal(lb_fs_mkdir(x->fs, "../d", &err), LB_EDENIED);
	assert_int_equal(lb_fs_mkdir(x->fs, "/d", &err), LB_EDENIED);
	assert_int_equal(lb_fs_mkdir(x->fs, "link", &err), LB_EEXIST);
	assert_int_equal(lb_fs_unlink(x->fs, "../a", &err), LB_EDENIED);
	assert_int_equal(lb_fs_rename(x->fs, "link", "../a", &err), LB_EDENIED);
	assert_int_equal(lb_fs_rename(x->fs, "../a", "link", &err), LB_EDENIED);
	assert_int_equal(lb_fs_sync_dir(x->fs, "dlink", &err), LB_EDENIED);
	assert_int_equal(lb_fs_mkdir(x->fs, "..", &err), LB_EIO);
	assert_int_equal(lb_fs_unlink(x->fs, "a/", &err), LB_EIO);
}

static void test_special_files_refused(void **state)
{
	struct fixture *x = *state;
	struct lb_file *f = NULL;
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/fifo", x->dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(lb_fs_open(x->fs, &f, "fifo", LB_FS_READ, NULL), LB_EDENIED);
	assert_int_equal(lb_fs_mkdir(x->fs, "d", NULL), 0);
	assert_int_equal(lb_fs_open(x->fs, &f, "d", LB_FS_READ, NULL), LB_EDENIED);
}

static void test_names(void **state)
{
	struct fixture *x = *state;
	struct lb_file *f = NULL;
	struct stat st;
	char path[PATH_MAX];

	assert_int_equal(lb_fs_mkdir(x->fs, "d", NULL), 0);
	assert_int_equal(lb_fs_mkdir(x->fs, "d", NULL), 0);
	assert_int_equal(lb_fs_open(x->fs, &f, "d/f", LB_FS_CREATE, NULL), 0);
	lb_file_close(f);
	assert_int_equal(lb_fs_mkdir(x->fs, "d/f", NULL), LB_EEXIST);
	assert_int_equal(lb_fs_sync_dir(x->fs, "d", NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/d/f", x->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(lb_fs_rename(x->fs, "d/f", "g", NULL), 0);
	assert_int_equal(lb_fs_open(x->fs, &f, "d/f", LB_FS_READ, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_open(x->fs, &f, "g", LB_FS_READ, NULL), 0);
	lb_file_close(f);
	assert_int_equal(lb_fs_unlink(x->fs, "d", NULL), 0);
	assert_int_equal(lb_fs_unlink(x->fs, "d", NULL), LB_ENOTFOUND);
}

static int stop_at_second(void *arg, const char *name)
{
	int *n = arg;

	(void)name;
	return ++*n == 2 ? 42 : 0;
}

static void test_list_stops(void **state)
{
	struct fixture *x = *state;
	int n = 0;

	assert_int_equal(lb_fs_mkdir(x->fs, "1", NULL), 0);
	assert_int_equal(lb_fs_mkdir(x->fs, "2", NULL), 0);
	assert_int_equal(lb_fs_mkdir(x->fs, "3", NULL), 0);
	assert_int_equal(lb_fs_list(x->fs, ".", stop_at_second, &n, NULL), 42);
	assert_int_equal(n, 2);
}

static void test_lock(void **state)
{
	struct fixture *x = *state;
	struct lb_file *a = NULL;
	struct lb_file *b = NULL;

	assert_int_equal(lb_fs_open(x->fs, &a, "l", LB_FS_CREATE, NULL), 0);
	assert_int_equal(lb_fs_open(x->fs, &b, "l", LB_FS_WRITE, NULL), 0);
	assert_int_equal(lb_file_lock(a, NULL), 0);
	assert_int_equal(lb_file_lock(b, NULL), LB_EBUSY);
	lb_file_close(a);
	assert_int_equal(lb_file_lock(b, NULL), 0);
	lb_file_close(b);
	assert_int_equal(lb_fs_open(x->fs, &a, "l", LB_FS_READ, NULL), 0);
	assert_int_equal(lb_file_lock(a, NULL), LB_EIO); /* needs a writable open */
	lb_file_close(a);
}

static void test_replace_and_read_all(void **state)
{
	struct fixture *x = *state;
	struct lb_file *f = NULL;
	uint8_t *p = NULL;
	size_t len = 0;

	/* A stale, longer temporary file must not shine through. */
	assert_int_equal(lb_fs_open(x->fs, &f, "r.tmp", LB_FS_CREATE, NULL), 0);
	assert_int_equal(lb_file_pwrite(f, "0123456789", 10, 0, NULL), 0);
	lb_file_close(f);
	assert_int_equal(lb_fs_replace(x->fs, "r", "one", 3, NULL), 0);
	assert_int_equal(lb_fs_replace(x->fs, "r", "three", 5, NULL), 0);
	assert_int_equal(lb_fs_read_all(x->fs, "r", 5, &p, &len, NULL), 0);
	assert_int_equal(len, 5);
	assert_string_equal((char *)p, "three");
	free(p);
	assert_int_equal(lb_fs_read_all(x->fs, "r", 4, &p, &len, NULL), LB_EINPUT);
	assert_int_equal(lb_fs_read_all(x->fs, "none", 4, &p, &len, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_open(x->fs, &f, "r.tmp", LB_FS_READ, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_replace(x->fs, "none/r", "x", 1, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_mkdir(x->fs, "d", NULL), 0);
	assert_int_equal(lb_fs_replace(x->fs, "d/f", "", 0, NULL), 0);
	assert_int_equal(lb_fs_read_all(x->fs, "d/f", 0, &p, &len, NULL), 0);
	assert_int_equal(len, 0);
	free(p);
	/* The rename cannot succeed onto a directory: the temporary file goes. */
	assert_int_equal(lb_fs_replace(x->fs, "d", "x", 1, NULL), LB_EIO);
	assert_int_equal(lb_fs_open(x->fs, &f, "d.tmp", LB_FS_READ, NULL), LB_ENOTFOUND);
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_publish(void **state)
{
	struct fixture *x = *state;
	char part[PATH_MAX], path[PATH_MAX];
	struct lb_err err = {0};
	uint8_t *p = NULL;
	size_t len = 0;

	(void)snprintf(part, sizeof(part), "%s/x.part", x->dir);
	(void)snprintf(path, sizeof(path), "%s/x", x->dir);
	assert_int_equal(lb_fs_publish(part, path, &err), LB_ENOTFOUND);
	put(part, "new");
	put(path, "made meanwhile");
	assert_int_equal(lb_fs_publish(part, path, &err), LB_EEXIST);
	assert_int_equal(lb_fs_read_all(x->fs, "x", 100, &p, &len, NULL), 0);
	assert_string_equal((char *)p, "made meanwhile");
	free(p);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(lb_fs_publish(part, path, &err), 0);
	assert_int_equal(lb_fs_read_all(x->fs, "x", 100, &p, &len, NULL), 0);
	assert_string_equal((char *)p, "new");
	free(p);
	assert_int_equal(access(part, F_OK), -1);
}

static void test_create_root(void **state)
{
	struct fixture *x = *state;
	struct lb_fs *fs = NULL;
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/made", x->dir);
	assert_int_equal(lb_fs_dir_create(&fs, path, NULL), 0);
	lb_fs_destroy(fs);
	(void)snprintf(path, sizeof(path), "%s/a/b", x->dir);
	assert_int_equal(lb_fs_dir_create(&fs, path, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_dir_create(&fs, "/dev/null", NULL), LB_EIO);
	lb_fs_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_iovecs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_escape, setup, teardown),
		cmocka_unit_test_setup_teardown(test_special_files_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_stops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace_and_read_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_publish, setup, teardown),
		cmocka_unit_test_setup_teardown(test_create_root, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
