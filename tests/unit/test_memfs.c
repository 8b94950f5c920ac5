#include <stdlib.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "memfs.h"

enum {
	SEEDS = 300
};

static int setup(void **state)
{
	struct lb_fs *fs = NULL;

	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	*state = fs;
	return 0;
}

static int teardown(void **state)
{
	lb_fs_destroy(*state);
	return 0;
}

static struct lb_file *open_file(struct lb_fs *fs, const char *path)
{
	struct lb_file *f = NULL;

	assert_int_equal(lb_fs_open(fs, &f, path, LB_FS_CREATE, NULL), 0);
	return f;
}

static bool exists(struct lb_fs *fs, const char *path)
{
	struct lb_file *f = NULL;

	if (lb_fs_open(fs, &f, path, LB_FS_READ, NULL) != 0)
		return false;
	lb_file_close(f);
	return true;
}

static void test_behaves_as_a_disk(void **state)
{
	struct lb_fs *fs = *state;
	struct lb_file *f = open_file(fs, "a");
	struct lb_file *g = NULL;
	char buf[16];
	size_t got = 0;
	uint64_t size = 0;

	assert_int_equal(lb_file_pwrite(f, "hello", 5, 3, NULL), 0);
	assert_int_equal(lb_file_size(f, &size, NULL), 0);
	assert_int_equal(size, 8);
	assert_int_equal(lb_file_pread(f, buf, sizeof(buf), 0, &got, NULL), 0);
	assert_int_equal(got, 8);
	assert_memory_equal(buf, "\0\0\0hello", 8);
	assert_int_equal(lb_file_truncate(f, 4, NULL), 0);
	assert_int_equal(lb_file_truncate(f, 6, NULL), 0);
	assert_int_equal(lb_file_pread(f, buf, sizeof(buf), 3, &got, NULL), 0);
	assert_memory_equal(buf, "h\0\0", 3);
	assert_int_equal(lb_file_lock(f, NULL), 0);
	assert_int_equal(lb_fs_open(fs, &g, "a", LB_FS_WRITE, NULL), 0);
	assert_int_equal(lb_file_lock(g, NULL), LB_EBUSY);
	lb_file_close(f);
	assert_int_equal(lb_file_lock(g, NULL), 0);
	lb_file_close(g);
	assert_int_equal(lb_fs_open(fs, &g, "a", LB_FS_READ, NULL), 0);
	assert_int_equal(lb_file_pwrite(g, "x", 1, 0, NULL), LB_EIO);
	lb_file_close(g);
	assert_int_equal(lb_fs_open(fs, &g, "a", LB_FS_CREATE | LB_FS_EXCL, NULL), LB_EEXIST);
	assert_int_equal(lb_fs_open(fs, &g, "b", LB_FS_READ, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_open(fs, &g, "../b", LB_FS_CREATE, NULL), LB_EDENIED);
	assert_int_equal(lb_fs_open(fs, &g, "/b", LB_FS_CREATE, NULL), LB_EDENIED);
	assert_int_equal(lb_fs_open(fs, &g, "x/b", LB_FS_CREATE, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_open(fs, &g, "a/b", LB_FS_CREATE, NULL), LB_EIO);
}

static int count_names(void *arg, const char *name)
{
	(void)name;
	++*(int *)arg;
	return 0;
}

static void test_names(void **state)
{
	struct lb_fs *fs = *state;
	int n = 0;

	assert_int_equal(lb_fs_mkdir(fs, "d", NULL), 0);
	assert_int_equal(lb_fs_mkdir(fs, "d", NULL), 0);
	lb_file_close(open_file(fs, "d/f"));
	assert_int_equal(lb_fs_mkdir(fs, "d/f", NULL), LB_EEXIST);
	assert_int_equal(lb_fs_unlink(fs, "d", NULL), LB_EIO);
	assert_int_equal(lb_fs_rename(fs, "d/f", "g", NULL), 0);
	assert_int_equal(lb_fs_rename(fs, "d/f", "g", NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_rename(fs, "g", "d", NULL), LB_EIO);
	assert_int_equal(lb_fs_list(fs, "", count_names, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(lb_fs_unlink(fs, "d", NULL), 0);
	assert_int_equal(lb_fs_list(fs, "d", count_names, &n, NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_sync_dir(fs, "d", NULL), LB_ENOTFOUND);
	assert_int_equal(lb_fs_unlink(fs, "d", NULL), LB_ENOTFOUND);
}

static void test_synced_survives_every_cut(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		struct lb_file *f;
		uint8_t *p = NULL;
		size_t len = 0;

		assert_int_equal(lb_memfs_create(&fs, seed, NULL), 0);
		assert_int_equal(lb_fs_mkdir(fs, "d", NULL), 0);
		assert_int_equal(lb_fs_sync_dir(fs, ".", NULL), 0);
		f = open_file(fs, "d/f");
		assert_int_equal(lb_file_pwrite(f, "durable", 7, 0, NULL), 0);
		assert_int_equal(lb_file_sync(f, NULL), 0);
		assert_int_equal(lb_fs_sync_dir(fs, "d", NULL), 0);
		assert_int_equal(lb_file_pwrite(f, "later", 5, 5000, NULL), 0);
		lb_memfs_power_cut(fs, seed);
		assert_int_equal(lb_file_sync(f, NULL), LB_EIO); /* a handle of the old world */
		lb_file_close(f);
		assert_int_equal(lb_fs_read_all(fs, "d/f", 10000, &p, &len, NULL), 0);
		assert_true(len >= 7 && len <= 5005);
		assert_memory_equal(p, "durable", 7);
		free(p);
		lb_fs_destroy(fs);
	}
}

/* What each of many cuts leaves of an unsynced write and name: every outcome occurs. */
static void test_unsynced_is_random_by_sector(void **state)
{
	enum {
		SECTORS = 8
	};
	uint8_t old[SECTORS * 512];
	uint8_t new[SECTORS * 512];
	int kept[SECTORS + 1] = {0};

	(void)state;
	memset(old, 'o', sizeof(old));
	memset(new, 'n', sizeof(new));
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		struct lb_file *f;
		uint8_t *p = NULL;
		size_t len = 0;
		int n = 0;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		f = open_file(fs, "f");
		assert_int_equal(lb_file_pwrite(f, old, sizeof(old), 0, NULL), 0);
		assert_int_equal(lb_file_sync(f, NULL), 0);
		assert_int_equal(lb_fs_sync_dir(fs, "", NULL), 0);
		assert_int_equal(lb_file_pwrite(f, new, sizeof(new), 0, NULL), 0);
		lb_file_close(f);
		lb_memfs_power_cut(fs, seed);
		assert_int_equal(lb_fs_read_all(fs, "f", sizeof(old), &p, &len, NULL), 0);
		assert_int_equal(len, sizeof(old));
		for (size_t s = 0; s < SECTORS; s++) {
			const uint8_t *b = p + s * 512;

			assert_memory_equal(b, b[0] == 'n' ? new : old, 512);
			n += b[0] == 'n';
		}
		kept[n]++;
		free(p);
		lb_fs_destroy(fs);
	}
	for (int i = 2; i <= SECTORS - 2; i++)
		assert_true(kept[i] > 0);
}

static void test_sector_holds_a_moment(void **state)
{
	bool seen[3] = {false};

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		struct lb_file *f;
		char buf[2] = "";

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		f = open_file(fs, "f");
		assert_int_equal(lb_file_pwrite(f, "00", 2, 0, NULL), 0);
		assert_int_equal(lb_file_sync(f, NULL), 0);
		assert_int_equal(lb_fs_sync_dir(fs, "", NULL), 0);
		assert_int_equal(lb_file_pwrite(f, "1", 1, 0, NULL), 0);
		assert_int_equal(lb_file_pwrite(f, "2", 1, 1, NULL), 0);
		lb_file_close(f);
		lb_memfs_power_cut(fs, seed);
		assert_int_equal(lb_fs_open(fs, &f, "f", LB_FS_READ, NULL), 0);
		assert_int_equal(lb_file_pread_full(f, buf, 2, 0, NULL), 0);
		lb_file_close(f);
		/* Never the second write without the first: they share a sector. */
		assert_false(buf[0] == '0' && buf[1] == '2');
		seen[(buf[0] == '1') + (buf[1] == '2')] = true;
		lb_fs_destroy(fs);
	}
	assert_true(seen[0] && seen[1] && seen[2]);
}

static void test_length_is_anything_between(void **state)
{
	bool lo = false;
	bool hi = false;
	bool mid = false;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		struct lb_file *f;
		uint64_t size = 0;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		f = open_file(fs, "f");
		assert_int_equal(lb_file_pwrite(f, "x", 1, 99, NULL), 0);
		assert_int_equal(lb_file_sync(f, NULL), 0);
		assert_int_equal(lb_fs_sync_dir(fs, "", NULL), 0);
		assert_int_equal(lb_file_truncate(f, 50, NULL), 0);
		assert_int_equal(lb_file_pwrite(f, "x", 1, 1999, NULL), 0);
		lb_file_close(f);
		lb_memfs_power_cut(fs, seed);
		assert_int_equal(lb_fs_open(fs, &f, "f", LB_FS_READ, NULL), 0);
		assert_int_equal(lb_file_size(f, &size, NULL), 0);
		lb_file_close(f);
		assert_true(size >= 50 && size <= 2000);
		lo = lo || size == 50;
		hi = hi || size == 2000;
		mid = mid || (size > 100 && size < 1900);
		lb_fs_destroy(fs);
	}
	assert_true(lo && hi && mid);
}

/* lb_fs_replace() without a completed directory sync: the old bytes or the new, never neither. */
static void test_rename_is_atomic(void **state)
{
	bool seen[2] = {false};

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		uint8_t *p = NULL;
		size_t len = 0;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		assert_int_equal(lb_fs_replace(fs, "f", "old", 3, NULL), 0);
		lb_memfs_cut_at_sync(fs, lb_memfs_syncs(fs) + 2);
		assert_int_equal(lb_fs_replace(fs, "f", "new", 3, NULL), LB_EIO);
		assert_true(lb_memfs_is_cut(fs));
		assert_int_equal(lb_fs_mkdir(fs, "x", NULL), LB_EIO); /* still off */
		lb_memfs_power_cut(fs, seed);
		assert_false(lb_memfs_is_cut(fs));
		assert_int_equal(lb_fs_read_all(fs, "f", 3, &p, &len, NULL), 0);
		assert_true(len == 3 && (memcmp(p, "old", 3) == 0 || memcmp(p, "new", 3) == 0));
		seen[p[0] == 'n'] = true;
		free(p);
		lb_fs_destroy(fs);
	}
	assert_true(seen[0] && seen[1]);
}

/* The sync of the new bytes ignored: some cut must show a name with bad contents. */
static void test_ignored_sync_is_caught(void **state)
{
	bool caught = false;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		uint8_t *p = NULL;
		size_t len = 0;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		lb_memfs_ignore_sync(fs, 1);
		assert_int_equal(lb_fs_replace(fs, "f", "new", 3, NULL), 0);
		lb_memfs_power_cut(fs, seed);
		assert_int_equal(lb_fs_read_all(fs, "f", 3, &p, &len, NULL), 0);
		caught = caught || len != 3 || memcmp(p, "new", 3) != 0;
		free(p);
		lb_fs_destroy(fs);
	}
	assert_true(caught);
}

static void test_unsynced_names_may_go(void **state)
{
	int kept = 0;
	int undeleted = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		struct lb_file *f;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		lb_file_close(open_file(fs, "old"));
		assert_int_equal(lb_fs_sync_dir(fs, "", NULL), 0);
		f = open_file(fs, "f");
		assert_int_equal(lb_file_sync(f, NULL), 0); /* the file, not its name */
		lb_file_close(f);
		assert_int_equal(lb_fs_unlink(fs, "old", NULL), 0);
		lb_memfs_power_cut(fs, seed);
		kept += exists(fs, "f");
		undeleted += exists(fs, "old");
		lb_fs_destroy(fs);
	}
	assert_true(kept > SEEDS / 10 && kept < SEEDS - SEEDS / 10);
	assert_true(undeleted > SEEDS / 10 && undeleted < SEEDS - SEEDS / 10);
}

static void test_cross_directory_rename_is_never_lost(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		assert_int_equal(lb_fs_mkdir(fs, "a", NULL), 0);
		assert_int_equal(lb_fs_mkdir(fs, "b", NULL), 0);
		lb_file_close(open_file(fs, "a/f"));
		assert_int_equal(lb_fs_sync_dir(fs, "a", NULL), 0);
		assert_int_equal(lb_fs_sync_dir(fs, "", NULL), 0);
		assert_int_equal(lb_fs_rename(fs, "a/f", "b/f", NULL), 0);
		if (seed % 3 != 0)
			assert_int_equal(lb_fs_sync_dir(fs, seed % 3 == 1 ? "a" : "b", NULL), 0);
		lb_memfs_power_cut(fs, seed);
		assert_true(exists(fs, "a/f") != exists(fs, "b/f"));
		if (seed % 3 != 0)
			assert_true(exists(fs, "b/f"));
		lb_fs_destroy(fs);
	}
}

static void test_fail_at(void **state)
{
	struct lb_fs *fs = *state;
	struct lb_file *f = open_file(fs, "f");
	struct lb_err err;
	uint64_t size = 0;

	assert_int_equal(lb_memfs_ops(fs), 1);
	lb_memfs_fail_at(fs, 3, LB_ENOSPC);
	assert_int_equal(lb_file_pwrite(f, "ab", 2, 0, NULL), 0);
	assert_int_equal(lb_file_pwrite(f, "cdef", 4, 2, &err), LB_ENOSPC);
	assert_non_null(strstr(err.msg, "injected"));
	assert_int_equal(lb_file_size(f, &size, NULL), 0);
	assert_true(size >= 2 && size <= 6);
	assert_int_equal(lb_file_pwrite(f, "cdef", 4, 2, NULL), 0); /* once */
	assert_int_equal(lb_memfs_ops(fs), 5);
	lb_file_close(f);
}

/* A failed sync followed by a successful one: the data may still be gone. */
static void test_second_sync_does_not_help(void **state)
{
	bool lost = false;
	bool kept = false;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		struct lb_file *f;
		char buf[4] = "";
		size_t got = 0;

		assert_int_equal(lb_memfs_create(&fs, seed, NULL), 0);
		f = open_file(fs, "f");
		assert_int_equal(lb_fs_sync_dir(fs, "", NULL), 0);
		assert_int_equal(lb_file_pwrite(f, "data", 4, 0, NULL), 0);
		lb_memfs_fail_at(fs, lb_memfs_ops(fs) + 1, LB_EIO);
		assert_int_equal(lb_file_sync(f, NULL), LB_EIO);
		assert_int_equal(lb_file_sync(f, NULL), 0);
		assert_int_equal(lb_file_pread_full(f, buf, 4, 0, NULL), 0); /* looks well */
		lb_file_close(f);
		lb_memfs_power_cut(fs, seed);
		assert_int_equal(lb_fs_open(fs, &f, "f", LB_FS_READ, NULL), 0);
		memset(buf, 0, sizeof(buf));
		assert_int_equal(lb_file_pread(f, buf, 4, 0, &got, NULL), 0);
		lb_file_close(f);
		if (got == 4 && memcmp(buf, "data", 4) == 0)
			kept = true;
		else
			lost = true;
		lb_fs_destroy(fs);
	}
	assert_true(lost && kept);
}

static void test_space(void **state)
{
	struct lb_fs *fs = *state;
	struct lb_file *f = open_file(fs, "f");
	uint64_t size = 0;
	struct iovec iov[2] = {{.iov_base = (char[]){"0123456789"}, .iov_len = 10},
			       {.iov_base = (char[]){"abcdefghij"}, .iov_len = 10}};

	lb_memfs_set_space(fs, 15);
	assert_int_equal(lb_file_pwritev(f, iov, 2, 0, NULL), LB_ENOSPC);
	assert_int_equal(lb_file_size(f, &size, NULL), 0);
	assert_int_equal(size, 15);
	assert_int_equal(lb_file_pwrite(f, "xx", 2, 0, NULL), 0); /* overwriting needs none */
	assert_int_equal(lb_file_truncate(f, 16, NULL), LB_ENOSPC);
	assert_int_equal(lb_file_pwrite(f, "y", 1, 100, NULL), LB_ENOSPC);
	lb_memfs_set_space(fs, UINT64_MAX);
	assert_int_equal(lb_file_pwrite(f, "y", 1, 100, NULL), 0);
	lb_file_close(f);
}

static void test_corrupt(void **state)
{
	struct lb_fs *fs = *state;
	uint8_t *p = NULL;
	size_t len = 0;

	assert_int_equal(lb_fs_replace(fs, "f", "abc", 3, NULL), 0);
	assert_int_equal(lb_memfs_corrupt(fs, "f", 1, 0x20), 0);
	assert_int_equal(lb_memfs_corrupt(fs, "f", 3, 0x20), LB_ENOTFOUND);
	assert_int_equal(lb_memfs_corrupt(fs, "g", 0, 0x20), LB_ENOTFOUND);
	lb_memfs_power_cut(fs, 1);
	assert_int_equal(lb_fs_read_all(fs, "f", 3, &p, &len, NULL), 0);
	assert_memory_equal(p, "aBc", 3);
	free(p);
}

static void test_cut_at_op(void **state)
{
	struct lb_fs *fs = *state;

	lb_memfs_cut_at_op(fs, 2);
	assert_int_equal(lb_fs_mkdir(fs, "a", NULL), 0);
	assert_int_equal(lb_fs_mkdir(fs, "b", NULL), LB_EIO);
	assert_int_equal(lb_fs_mkdir(fs, "c", NULL), LB_EIO);
	lb_memfs_power_cut(fs, 1);
	assert_int_equal(lb_fs_mkdir(fs, "c", NULL), 0);
	assert_int_equal(lb_fs_sync_dir(fs, "b", NULL), LB_ENOTFOUND);
}

/* Once the power is off, nothing more reaches the disk. */
static void test_nothing_is_written_after_the_cut(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct lb_fs *fs = NULL;
		struct lb_file *f;
		uint8_t *p = NULL;
		size_t len = 0;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		f = open_file(fs, "f");
		assert_int_equal(lb_file_pwrite(f, "aaaa", 4, 0, NULL), 0);
		assert_int_equal(lb_file_sync(f, NULL), 0);
		assert_int_equal(lb_fs_sync_dir(fs, "", NULL), 0);
		lb_memfs_cut_at_sync(fs, lb_memfs_syncs(fs) + 1);
		assert_int_equal(lb_file_sync(f, NULL), LB_EIO);
		assert_int_equal(lb_file_pwrite(f, "bbbb", 4, 0, NULL), LB_EIO);
		lb_file_close(f);
		lb_memfs_power_cut(fs, seed);
		assert_int_equal(lb_fs_read_all(fs, "f", 4, &p, &len, NULL), 0);
		assert_memory_equal(p, "aaaa", 4);
		free(p);
		lb_fs_destroy(fs);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_behaves_as_a_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test(test_synced_survives_every_cut),
		cmocka_unit_test(test_unsynced_is_random_by_sector),
		cmocka_unit_test(test_sector_holds_a_moment),
		cmocka_unit_test(test_length_is_anything_between),
		cmocka_unit_test(test_rename_is_atomic),
		cmocka_unit_test(test_ignored_sync_is_caught),
		cmocka_unit_test(test_unsynced_names_may_go),
		cmocka_unit_test(test_cross_directory_rename_is_never_lost),
		cmocka_unit_test_setup_teardown(test_fail_at, setup, teardown),
		cmocka_unit_test(test_second_sync_does_not_help),
		cmocka_unit_test_setup_teardown(test_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_corrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_at_op, setup, teardown),
		cmocka_unit_test(test_nothing_is_written_after_the_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
