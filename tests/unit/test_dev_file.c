/* The file device on real files in a temporary directory, and on a loop device where there is one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "rnd.h"

#define KIB UINT64_C(1024)
#define MIB (1024u * KIB)

struct fixture {
	char dir[64];
	char path[96];
	char other[96];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/lb-file-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->path, sizeof(f->path), "%s/disk", f->dir);
	(void)snprintf(f->other, sizeof(f->other), "%s/other", f->dir);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	(void)unlink(f->path);
	(void)unlink(f->other);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static struct img_dev *make(const char *path, uint64_t bytes)
{
	struct img_file_cfg cfg = {
		.path = path, .writable = true, .create = true, .size_bytes = bytes};
	struct img_dev *d = NULL;
	struct lb_err err;

	if (img_file_create(&d, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
	return d;
}

static int open_code(const char *path, bool writable, struct lb_err *err)
{
	struct img_file_cfg cfg = {.path = path, .writable = writable};
	struct img_dev *d = NULL;
	int rc = img_file_create(&d, &cfg, err);

	if (rc == 0)
		img_dev_destroy(d);
	else
		assert_null(d);
	return rc;
}

static void put(struct img_dev *d, uint64_t off, uint64_t len, uint8_t value)
{
	uint8_t *b = malloc(len);

	assert_non_null(b);
	memset(b, value, len);
	assert_int_equal(img_pwrite(d, b, len, off, NULL), 0);
	free(b);
}

static void assert_byte(struct img_dev *d, uint64_t off, uint8_t value)
{
	uint8_t b = 0;

	assert_int_equal(img_pread(d, &b, 1, off, NULL), 0);
	assert_int_equal(b, value);
}

/* The extent at @off is of this kind; returns its length. */
static uint64_t assert_extent(struct img_dev *d, uint64_t off, bool zero)
{
	struct img_extent e = {0};

	assert_int_equal(img_next_extent(d, &e, off, NULL), 0);
	assert_int_equal(e.off, off);
	assert_int_equal(e.zero, zero);
	return e.len;
}

static uint64_t stored_bytes(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void stores_and_reads_back(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 3 * MIB + 700); /* unaligned size */
	struct img_file_cfg ro = {.path = f->path};

	assert_true(img_writable(d));
	put(d, 3 * MIB + 699, 1, 7);
	put(d, 5, 10, 8);
	assert_int_equal(img_flush(d, NULL), 0);
	assert_int_equal(img_file_check(d, NULL), 0);
	img_dev_destroy(d);
	assert_int_equal(img_file_create(&d, &ro, NULL), 0);
	assert_false(img_writable(d));
	assert_int_equal(d->size_bytes, 3 * MIB + 700);
	assert_byte(d, 3 * MIB + 699, 7);
	assert_byte(d, 5, 8);
	assert_byte(d, 15, 0);
	assert_int_equal(img_flush(d, NULL), 0);
	img_dev_destroy(d);
}

static void what_cannot_be_opened_is_named(void **state)
{
	const struct fixture *f = *state;
	struct img_file_cfg again = {.path = f->path, .writable = true, .create = true};
	struct img_file_cfg huge = {
		.path = f->other, .writable = true, .create = true, .size_bytes = INT64_MAX};
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	assert_int_equal(open_code(f->path, false, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, f->path));
	assert_int_equal(open_code(f->dir, false, &err), LB_EINPUT);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_int_equal(open_code(f->path, false, &err), LB_EINPUT); /* and it did not hang */
	assert_non_null(strstr(err.msg, "neither a regular file nor a block device"));
	assert_int_equal(open_code("/dev/null", true, &err), LB_EINPUT);
	assert_int_equal(img_file_create(&d, &again, &err), LB_EEXIST);
	assert_int_not_equal(img_file_create(&d, &huge, &err), 0);
	assert_int_equal(access(f->other, F_OK), -1); /* nothing half-made stays */
	assert_null(d);
}

static void shrunk(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 1 * MIB);
	struct img_extent e = {0};
	struct lb_err err = {0};
	uint8_t b[4096];

	put(d, 0, 1 * MIB, 1);
	assert_int_equal(truncate(f->path, 512 * KIB), 0);
	assert_int_equal(img_file_check(d, &err), LB_ECHANGED);
	assert_non_null(strstr(err.msg, "shrank from 1048576 to 524288"));
	assert_int_equal(img_pread(d, b, sizeof(b), 512 * KIB - 4000, &err), LB_ECHANGED);
	assert_non_null(strstr(err.msg, f->path));
	/* Past the new end the kernel says "hole": that must not come out as zeros. */
	assert_int_equal(img_next_extent(d, &e, 600 * KIB, &err), LB_ECHANGED);
	assert_int_equal(assert_extent(d, 0, false), 512 * KIB);
	img_dev_destroy(d);
}

static void replaced(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 64 * KIB);
	struct img_dev *twin = make(f->other, 64 * KIB);
	struct lb_err err = {0};

	put(d, 0, 1, 3);
	assert_int_equal(rename(f->other, f->path), 0);
	assert_int_equal(img_file_check(d, &err), LB_ECHANGED);
	assert_non_null(strstr(err.msg, "was replaced"));
	assert_byte(d, 0, 3); /* still the opened one */
	img_dev_destroy(twin);
	img_dev_destroy(d);
}

static void removed(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 64 * KIB);
	struct lb_err err = {0};

	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(img_file_check(d, &err), LB_ECHANGED);
	assert_int_equal(err.sys_errno, ENOENT);
	assert_non_null(strstr(err.msg, f->path));
	img_dev_destroy(d);
}

static void grown_is_not_changed(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 64 * KIB);
	uint64_t bytes = 0;
	uint8_t b;

	assert_int_equal(img_file_length(d, &bytes, NULL), 0);
	assert_true(bytes == 64 * KIB);
	assert_int_equal(truncate(f->path, 128 * KIB), 0);
	assert_int_equal(img_file_check(d, NULL), 0);
	assert_int_equal(img_file_length(d, &bytes, NULL), 0);
	assert_true(bytes == 128 * KIB);
	assert_int_equal(img_pread(d, &b, 1, 64 * KIB, NULL), LB_EINVAL); /* the size is fixed */
	assert_int_equal(assert_extent(d, 0, true), 64 * KIB);
	img_dev_destroy(d);
}

/* Extents cover the device, in order, and never call data zero. */
static void sparse(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 8 * MIB + 100);
	uint64_t data_bytes = 0;
	uint64_t off = 0;

	put(d, 1 * MIB, 64 * KIB, 1);
	put(d, 4 * MIB, 4 * KIB, 1);
	assert_true(stored_bytes(f->path) < 1 * MIB);
	while (off < d->size_bytes) {
		struct img_extent e = {0};

		assert_int_equal(img_next_extent(d, &e, off, NULL), 0);
		if (!e.zero)
			data_bytes += e.len;
		else
			assert_true(off + e.len <= 1 * MIB || off >= 1 * MIB + 64 * KIB);
		off += e.len;
	}
	assert_int_equal(off, d->size_bytes);
	assert_int_equal(data_bytes, 68 * KIB);
	/* the hole at the end, from within */
	assert_int_equal(assert_extent(d, 8 * MIB, true), 100);
	img_dev_destroy(d);
}

static void zero_punches(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 1 * MIB);

	put(d, 0, 1 * MIB, 1);
	assert_int_equal(img_flush(d, NULL), 0);
	assert_true(stored_bytes(f->path) >= 1 * MIB);
	assert_int_equal(img_zero(d, 512 * KIB + 10, 256 * KIB - 5, NULL), 0);
	assert_true(stored_bytes(f->path) <= 600 * KIB);
	assert_byte(d, 256 * KIB - 6, 1);
	assert_byte(d, 256 * KIB - 5, 0);
	assert_byte(d, 768 * KIB + 4, 0);
	assert_byte(d, 768 * KIB + 5, 1);
	assert_int_equal(assert_extent(d, 256 * KIB, true), 512 * KIB);
	img_dev_destroy(d);
}

static void direct_equals_buffered(void **state)
{
	const struct fixture *f = *state;
	struct img_file_cfg cfg = {.path = f->path, .writable = true, .direct = true};
	struct img_dev *d = make(f->path, 256 * KIB + 123);
	struct lb_err err = {0};
	uint8_t *want = malloc(256 * KIB + 123);
	uint8_t *got = aligned_alloc(4096, 260 * KIB);
	uint64_t rnd = 9;
	int rc;

	assert_non_null(want);
	assert_non_null(got);
	img_dev_destroy(d);
	rc = img_file_create(&d, &cfg, &err);
	if (rc == LB_EUNSUPPORTED) {
		print_message("skip: no O_DIRECT in /tmp: %s\n", err.msg);
		goto out;
	}
	assert_int_equal(rc, 0);
	rnd_fill(&rnd, want, 256 * KIB + 123);
	memcpy(got, want, 256 * KIB + 123);
	/* aligned and unaligned parts of one device meet in the same bytes */
	assert_int_equal(img_pwrite(d, got, 64 * KIB, 0, NULL), 0);
	assert_int_equal(img_pwrite(d, got + 64 * KIB, 192 * KIB + 123, 64 * KIB, NULL), 0);
	memset(got, 0, 260 * KIB);
	assert_int_equal(img_pread(d, got, 256 * KIB + 123, 0, NULL), 0);
	assert_memory_equal(got, want, 256 * KIB + 123);
	assert_int_equal(img_pread(d, got, 128 * KIB, 4096, NULL), 0);
	assert_memory_equal(got, want + 4096, 128 * KIB);
	img_dev_destroy(d);
out:
	free(want);
	free(got);
}

/* A write that the system refuses (here: the file size limit) names file and place. */
static void a_refused_write_is_named(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *d = make(f->path, 1 * MIB);
	struct rlimit old;
	struct rlimit small;
	struct lb_err err = {0};
	uint8_t b[512] = {0};

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 4096;
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(img_pwrite(d, b, sizeof(b), 8192, &err), LB_EIO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(err.sys_errno, EFBIG);
	assert_non_null(strstr(err.msg, "/disk at 8192"));
	img_dev_destroy(d);
}

/* A loop device over @file, or -1 with the reason printed. */
static int loop_over(const char *file, char *path, size_t path_bytes)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd = open(file, O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	/* AUTOCLEAR: it goes away with its last opener, also when the test dies */
	struct loop_config cfg = {.fd = (uint32_t)fd, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
	int loop = -1;

	(void)snprintf(path, path_bytes, "/dev/loop%d", number);
	if (number >= 0)
		loop = open(path, O_RDWR | O_CLOEXEC);
	if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &cfg) != 0) {
		(void)close(loop);
		loop = -1;
	}
	if (loop < 0)
		print_message("skip: no loop device: %s\n", strerror(errno));
	if (control >= 0)
		(void)close(control);
	(void)close(fd);
	return loop;
}

static void block_device(void **state)
{
	const struct fixture *f = *state;
	struct img_dev *file = make(f->path, 1 * MIB);
	char path[32];
	int loop = loop_over(f->path, path, sizeof(path));
	struct img_file_cfg cfg = {.path = path, .writable = true};
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	if (loop < 0)
		goto out;
	if (img_file_create(&d, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(d->size_bytes, 1 * MIB);
	put(d, 4096, 8192, 6);
	assert_int_equal(img_zero(d, 4096, 4096, NULL), 0);
	assert_int_equal(img_zero(d, 100, 9000, NULL), 0); /* not sectors: written */
	assert_byte(d, 4096, 0);
	assert_byte(d, 8999, 6);
	assert_byte(d, 9000, 0);
	assert_byte(d, 9100, 6);
	assert_int_equal(assert_extent(d, 0, false), 1 * MIB);
	assert_int_equal(img_flush(d, NULL), 0);
	assert_int_equal(img_file_check(d, NULL), 0);
	/* opened for writing by us: a second exclusive opener is refused */
	assert_int_equal(open_code(path, true, &err), LB_EBUSY);
	assert_int_equal(truncate(f->path, 512 * KIB), 0);
	assert_int_equal(ioctl(loop, LOOP_SET_CAPACITY, 0), 0);
	assert_int_equal(img_file_check(d, &err), LB_ECHANGED);
	img_dev_destroy(d);
	(void)close(loop);
out:
	img_dev_destroy(file);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		CASE(stores_and_reads_back),
		CASE(what_cannot_be_opened_is_named),
		CASE(shrunk),
		CASE(replaced),
		CASE(removed),
		CASE(grown_is_not_changed),
		CASE(sparse),
		CASE(zero_punches),
		CASE(direct_equals_buffered),
		CASE(a_refused_write_is_named),
		CASE(block_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
