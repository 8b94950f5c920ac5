/*
 * Out of memory and failing system calls: the linker sends the calls of imaging/ through the
 * __wrap_ functions below (tests/imaging.cmake), which fail the n-th one.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"

static uint64_t allocations_left; /* 0: all succeed; 1: the next one fails */
static int sync_errno;
static int punch_errno;
static int read_errno;

static bool refuse(void)
{
	return allocations_left > 0 && --allocations_left == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);
ssize_t __real_pread64(int fd, void *buf, size_t len, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t off);

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size)
{
	return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return refuse() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *s)
{
	return refuse() ? NULL : __real_strdup(s);
}

/* An errno that is set is returned once. */
static bool fails(int *armed)
{
	if (*armed == 0)
		return false;
	errno = *armed;
	*armed = 0;
	return true;
}

int __wrap_fdatasync(int fd)
{
	return fails(&sync_errno) ? -1 : __real_fdatasync(fd);
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	return fails(&punch_errno) ? -1 : __real_fallocate64(fd, mode, off, len);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t off)
{
	return fails(&read_errno) ? -1 : __real_pread64(fd, buf, len, off);
}

static char file_path[] = "/tmp/lb-nomem-XXXXXX";

/* Everything imaging allocates for; stops at the first error. @devs are destroyed by the caller. */
static int make_all(struct img_dev *devs[6], struct img_extmap **map, struct lb_err *err)
{
	struct img_file_cfg cfg = {.path = file_path, .writable = true};
	uint8_t b[512] = {1};
	int rc = img_mem_create(&devs[0], 1 << 20, err);

	if (rc == 0)
		rc = img_mem_create(&devs[1], 1 << 20, err);
	if (rc == 0)
		rc = img_fault_create(&devs[2], devs[1], 0, LB_EIO, err);
	if (rc == 0)
		rc = img_overlay_create(&devs[3], devs[0], devs[2], err);
	if (rc == 0)
		rc = img_pwrite(devs[3], b, sizeof(b), 70000, err);
	if (rc == 0)
		rc = img_crash_create(&devs[4], 1 << 20, 0, 0, err);
	if (rc == 0)
		rc = img_pwrite(devs[4], b, sizeof(b), 65536 - 256, err);
	if (rc == 0)
		rc = img_file_create(&devs[5], &cfg, err);
	if (rc == 0)
		rc = img_extmap_create(map, true, 100, err);
	for (uint64_t i = 0; rc == 0 && i < 40; i++)
		rc = img_extmap_insert(*map, 2 * i, 1, 0, err);
	return rc;
}

static void every_allocation_may_fail(void **state)
{
	uint64_t n = 1;
	int rc;

	(void)state;
	do {
		struct img_dev *devs[6] = {NULL};
		struct img_extmap *map = NULL;
		struct lb_err err = {0};

		allocations_left = n++;
		rc = make_all(devs, &map, &err);
		allocations_left = 0;
		if (rc != 0) {
			assert_int_equal(rc, LB_ENOMEM);
			assert_int_equal(err.code, LB_ENOMEM);
		}
		img_extmap_destroy(map);
		for (unsigned i = 6; i-- > 0;)
			img_dev_destroy(devs[i]);
	} while (rc != 0);
	assert_true(n > 18); /* it did fail along the way */
}

/* A failed insert leaves the map as it was, and the crash device the disk as it was. */
static void out_of_memory_changes_nothing(void **state)
{
	struct img_extmap *map = NULL;
	struct img_dev *d = NULL;
	struct img_run r = {0};
	uint8_t b[512] = {1};

	(void)state;
	assert_int_equal(img_extmap_create(&map, true, 100, NULL), 0);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(img_extmap_insert(map, 2 * i, 1, 0, NULL), 0);
	allocations_left = 1;
	assert_int_equal(img_extmap_insert(map, 100, 1, 0, NULL), LB_ENOMEM);
	assert_int_equal(img_extmap_count(map), 16);
	assert_false(img_extmap_find(map, 31, &r));
	img_extmap_destroy(map);

	assert_int_equal(img_crash_create(&d, 65536, 0, 0, NULL), 0);
	allocations_left = 1;
	assert_int_equal(img_pwrite(d, b, sizeof(b), 0, NULL), LB_ENOMEM);
	assert_int_equal(img_pread(d, b, sizeof(b), 0, NULL), 0);
	assert_int_equal(b[0], 0);
	img_dev_destroy(d);
}

static struct img_dev *open_file(void)
{
	struct img_file_cfg cfg = {.path = file_path, .writable = true};
	struct img_dev *d = NULL;

	assert_int_equal(truncate(file_path, 65536), 0);
	assert_int_equal(img_file_create(&d, &cfg, NULL), 0);
	return d;
}

static void a_failed_sync_is_final(void **state)
{
	struct img_dev *d = open_file();
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(img_flush(d, &err), 0);
	sync_errno = EIO;
	assert_int_equal(img_flush(d, &err), LB_EIO);
	assert_non_null(strstr(err.msg, file_path));
	assert_int_equal(img_flush(d, &err), LB_ESUSPECT);
	assert_int_equal(img_flush(d, &err), LB_ESUSPECT);
	assert_non_null(strstr(err.msg, file_path));
	img_dev_destroy(d);
}

static void where_holes_are_impossible_zeros_are_written(void **state)
{
	static const int cannot[] = {EOPNOTSUPP, ENOSYS, EINVAL, EINTR};
	struct img_dev *d = open_file();
	struct lb_err err = {0};
	uint8_t b[100];

	(void)state;
	for (size_t i = 0; i < sizeof(cannot) / sizeof(cannot[0]); i++) {
		memset(b, 1, sizeof(b));
		assert_int_equal(img_pwrite(d, b, sizeof(b), 1000, NULL), 0);
		punch_errno = cannot[i];
		assert_int_equal(img_zero(d, 50, 1000, NULL), 0);
		assert_int_equal(img_pread(d, b, sizeof(b), 1000, NULL), 0);
		assert_int_equal(b[0], 0);
		assert_int_equal(b[49], 0);
		assert_int_equal(b[50], 1);
	}
	punch_errno = ENOSPC;
	assert_int_equal(img_zero(d, 50, 1000, &err), LB_ENOSPC);
	img_dev_destroy(d);
}

static void errors_of_a_read_have_a_meaning(void **state)
{
	struct img_dev *d = open_file();
	struct lb_err err = {0};
	uint8_t b[1];

	(void)state;
	read_errno = EINTR;
	assert_int_equal(img_pread(d, b, 1, 0, NULL), 0);
	read_errno = EIO;
	assert_int_equal(img_pread(d, b, 1, 77, &err), LB_EIO);
	assert_int_equal(err.sys_errno, EIO);
	assert_non_null(strstr(err.msg, "at 77"));
	read_errno = ENODEV; /* unplugged */
	assert_int_equal(img_pread(d, b, 1, 0, &err), LB_ECHANGED);
	img_dev_destroy(d);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_may_fail),
		cmocka_unit_test(out_of_memory_changes_nothing),
		cmocka_unit_test(a_failed_sync_is_final),
		cmocka_unit_test(where_holes_are_impossible_zeros_are_written),
		cmocka_unit_test(errors_of_a_read_have_a_meaning),
	};
	int fd = mkstemp(file_path);
	int failed;

	if (fd < 0)
		return 1;
	(void)close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)unlink(file_path);
	return failed;
}
