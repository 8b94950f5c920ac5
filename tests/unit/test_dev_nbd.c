/* The NBD device against real nbdkit servers on a unix socket. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "nbdkit_run.h"
#include "rnd.h"

#define KIB UINT64_C(1024)
#define MIB (1024u * KIB)

static void serve(struct nbdkit_run *r, const char *const *args)
{
	assert_int_equal(nbdkit_start(r, args), 0);
}

static struct img_dev *dial(const struct nbdkit_run *r, unsigned connections)
{
	struct img_dev *d = NULL;
	struct lb_err err;

	if (img_nbd_create(&d, r->uri, connections, &err) != 0)
		fail_msg("%s", err.msg);
	return d;
}

static void assert_zeros(struct img_dev *d, uint64_t off, uint64_t len)
{
	uint8_t *got = malloc(len);

	assert_non_null(got);
	assert_int_equal(img_pread(d, got, len, off, NULL), 0);
	for (uint64_t i = 0; i < len; i++)
		assert_int_equal(got[i], 0);
	free(got);
}

/* Write, read back, zero and flush a range larger than one request. */
static void exercise(struct img_dev *d, uint64_t off, uint64_t len)
{
	uint8_t *want = malloc(len);
	uint8_t *got = malloc(len);
	uint64_t rnd = len;

	assert_non_null(want);
	assert_non_null(got);
	rnd_fill(&rnd, want, len);
	assert_int_equal(img_pwrite(d, want, len, off, NULL), 0);
	assert_int_equal(img_flush(d, NULL), 0);
	assert_int_equal(img_pread(d, got, len, off, NULL), 0);
	assert_memory_equal(want, got, len);
	assert_int_equal(img_zero(d, len / 2, off, NULL), 0);
	assert_zeros(d, off, len / 2);
	assert_int_equal(img_pread(d, got, len, off, NULL), 0);
	assert_memory_equal(want + len / 2, got + len / 2, len - len / 2);
	free(want);
	free(got);
}

static void reads_writes_zeroes_flushes(void **state)
{
	static const char *const args[] = {"memory", "size=64M", NULL};
	struct nbdkit_run server;
	struct img_dev *d;

	(void)state;
	serve(&server, args);
	d = dial(&server, 1);
	assert_int_equal(d->size_bytes, 64 * MIB);
	exercise(d, 4096, 33 * MIB);
	img_dev_destroy(d);
	nbdkit_stop(&server);
}

static void extents_come_from_the_server(void **state)
{
	static const char *const args[] = {"memory", "size=8M", NULL};
	struct nbdkit_run server;
	struct img_dev *d;
	struct img_extent e = {0};
	uint8_t b[64 * KIB];

	(void)state;
	memset(b, 1, sizeof(b));
	serve(&server, args);
	d = dial(&server, 1);
	assert_int_equal(img_next_extent(d, &e, 0, NULL), 0);
	assert_true(e.zero);
	assert_int_equal(e.len, 8 * MIB);
	assert_int_equal(img_pwrite(d, b, sizeof(b), 1 * MIB, NULL), 0);
	assert_int_equal(img_next_extent(d, &e, 512 * KIB, NULL), 0);
	assert_true(e.zero);
	assert_int_equal(e.len, 512 * KIB);
	assert_int_equal(img_next_extent(d, &e, 1 * MIB, NULL), 0);
	assert_false(e.zero);
	assert_int_equal(e.len, 64 * KIB);
	img_dev_destroy(d);
	nbdkit_stop(&server);
}

/* A server that lacks one thing or another is still a disk. */
static void poor_servers_work(void **state)
{
	static const char *const variants[][6] = {
		{"--filter=nozero", "memory", "size=2M", NULL},
		{"--filter=noextents", "memory", "size=2M", NULL},
		{"--no-sr", "memory", "size=2M", NULL},
		{"--filter=blocksize-policy", "memory", "size=2M", "blocksize-maximum=64K",
		 "blocksize-error-policy=error", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		struct nbdkit_run server;
		struct img_extent e = {0};
		struct img_dev *d;

		serve(&server, variants[i]);
		d = dial(&server, 1);
		exercise(d, 8192, 1 * MIB);
		assert_int_equal(img_next_extent(d, &e, 1 * MIB, NULL), 0);
		assert_true(e.len > 0);
		img_dev_destroy(d);
		nbdkit_stop(&server);
	}
}

struct worker {
	struct img_dev *d;
	uint64_t off;
	bool ok;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t rnd = w->off;
	uint8_t want[16 * KIB];
	uint8_t got[16 * KIB];

	w->ok = true;
	for (unsigned i = 0; i < 20; i++) {
		rnd_fill(&rnd, want, sizeof(want));
		w->ok = w->ok && img_pwrite(w->d, want, sizeof(want), w->off, NULL) == 0;
		w->ok = w->ok && img_pread(w->d, got, sizeof(got), w->off, NULL) == 0;
		w->ok = w->ok && memcmp(want, got, sizeof(got)) == 0;
	}
	return NULL;
}

/* Six threads on three connections: each takes whichever is idle. */
static void many_threads_share_the_pool(void **state)
{
	static const char *const args[] = {"memory", "size=1M", NULL};
	struct nbdkit_run server;
	struct worker w[6];
	pthread_t threads[6];
	struct img_dev *d;

	(void)state;
	serve(&server, args);
	d = dial(&server, 3);
	for (unsigned i = 0; i < 6; i++) {
		w[i] = (struct worker){.d = d, .off = 64 * KIB * i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
	}
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_true(w[i].ok);
	}
	img_dev_destroy(d);
	nbdkit_stop(&server);
}

/* nbdkit file, exported read-only; the file device makes the image. */
static void a_read_only_export_is_read_only(void **state)
{
	char path[] = "/tmp/lb-nbd-file-XXXXXX";
	int fd = mkstemp(path);
	char file_arg[64];
	const char *args[] = {"-r", "file", file_arg, NULL};
	struct nbdkit_run server;
	struct lb_err err = {0};
	uint8_t b[4] = {0};
	struct img_dev *d;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "boat", 4, 70000), 4);
	(void)close(fd);
	(void)snprintf(file_arg, sizeof(file_arg), "file=%s", path);
	serve(&server, args);
	d = dial(&server, 2);
	assert_false(img_writable(d));
	assert_int_equal(img_pwrite(d, b, 4, 0, &err), LB_EDENIED);
	assert_int_equal(img_pread(d, b, 4, 70000, &err), 0);
	assert_memory_equal(b, "boat", 4);
	img_dev_destroy(d);
	nbdkit_stop(&server);
	(void)unlink(path);
}

static void a_connected_descriptor_will_do(void **state)
{
	static const char *const args[] = {"memory", "size=2M", NULL};
	struct nbdkit_run server;
	struct img_dev *d = NULL;
	struct lb_err err = {0};
	int fd;

	(void)state;
	serve(&server, args);
	fd = nbdkit_connect(&server);
	if (img_nbd_create_fd(&d, fd, "", "disk vda", &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken */
	exercise(d, 0, 1 * MIB);
	nbdkit_kill(&server);
	assert_int_equal(img_flush(d, &err), LB_ECLOSED);
	assert_non_null(strstr(err.msg, "disk vda: flush"));
	img_dev_destroy(d);
	nbdkit_stop(&server);
}

static void a_useless_descriptor_stays_the_callers(void **state)
{
	static const char garbage[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	struct img_dev *d = NULL;

	(void)state;
	for (unsigned turn = 0; turn < 2; turn++) {
		struct lb_err err = {0};
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		if (turn == 1)
			assert_int_equal(write(pair[1], garbage, sizeof(garbage)), sizeof(garbage));
		(void)close(pair[1]);
		assert_int_not_equal(img_nbd_create_fd(&d, pair[0], "", "disk vda", &err), 0);
		assert_non_null(strstr(err.msg, "disk vda: connect"));
		assert_null(d);
		assert_int_not_equal(fcntl(pair[0], F_GETFD), -1);
		(void)close(pair[0]);
	}
}

static void nobody_there(void **state)
{
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(img_nbd_create(&d, "nbd+unix:///?socket=/nonexistent/s", 1, &err),
			 LB_ECLOSED);
	assert_non_null(strstr(err.msg, "/nonexistent/s"));
	assert_int_equal(img_nbd_create(&d, "what://ever", 1, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "what://ever"));
	assert_null(d);
}

static void killed_while_idle(void **state)
{
	static const char *const args[] = {"memory", "size=1M", NULL};
	struct nbdkit_run server;
	struct lb_err err = {0};
	struct img_extent e = {0};
	struct img_dev *d;
	uint8_t b[512] = {0};

	(void)state;
	serve(&server, args);
	d = dial(&server, 2);
	assert_int_equal(img_pwrite(d, b, sizeof(b), 0, NULL), 0);
	nbdkit_kill(&server);
	/* every operation, on every connection of the pool, and again */
	for (unsigned turn = 0; turn < 3; turn++) {
		assert_int_equal(img_pread(d, b, sizeof(b), 0, &err), LB_ECLOSED);
		assert_non_null(strstr(err.msg, server.uri));
		assert_int_equal(img_pwrite(d, b, sizeof(b), 0, &err), LB_ECLOSED);
		assert_int_equal(img_zero(d, sizeof(b), 0, &err), LB_ECLOSED);
		assert_int_equal(img_flush(d, &err), LB_ECLOSED);
		assert_int_equal(img_next_extent(d, &e, 0, &err), LB_ECLOSED);
		assert_non_null(strstr(err.msg, server.uri));
	}
	img_dev_destroy(d);
	nbdkit_stop(&server);
}

struct pending_read {
	struct img_dev *d;
	struct lb_err err;
	int rc;
};

static void *read_forever(void *arg)
{
	struct pending_read *p = arg;
	uint8_t b[512];

	p->rc = img_pread(p->d, b, sizeof(b), 0, &p->err);
	return NULL;
}

/* The server never answers a read; it is killed before or while one waits for it, which must look
 * alike. */
static void killed_with_a_request_under_way(void **state)
{
	static const char *const args[] = {"--filter=delay", "memory", "size=1M", "rdelay=3600",
					   NULL};
	struct nbdkit_run server;
	struct pending_read p = {0};
	pthread_t thread;

	(void)state;
	serve(&server, args);
	p.d = dial(&server, 1);
	assert_int_equal(pthread_create(&thread, NULL, read_forever, &p), 0);
	nbdkit_kill(&server);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(p.rc, LB_ECLOSED);
	assert_non_null(strstr(p.err.msg, server.uri));
	assert_non_null(strstr(p.err.msg, "read at 0"));
	img_dev_destroy(p.d);
	nbdkit_stop(&server);
}

/* An error answer is not a broken connection: the device goes on. */
static void errors_of_the_server_are_told(void **state)
{
	static const char *const args[] = {"--filter=error",
					   "memory",
					   "size=1M",
					   "error-pread=EIO",
					   "error-pread-rate=1",
					   "error-pwrite=ENOSPC",
					   "error-pwrite-rate=1",
					   NULL};
	struct nbdkit_run server;
	struct lb_err err = {0};
	struct img_dev *d;
	uint8_t b[512] = {0};

	(void)state;
	serve(&server, args);
	d = dial(&server, 1);
	assert_int_equal(img_pread(d, b, sizeof(b), 512, &err), LB_EIO);
	assert_non_null(strstr(err.msg, server.uri));
	assert_non_null(strstr(err.msg, "read at 512"));
	assert_int_equal(img_pwrite(d, b, sizeof(b), 1024, &err), LB_ENOSPC);
	assert_int_equal(img_flush(d, &err), 0);
	img_dev_destroy(d);
	nbdkit_stop(&server);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_writes_zeroes_flushes),
		cmocka_unit_test(extents_come_from_the_server),
		cmocka_unit_test(poor_servers_work),
		cmocka_unit_test(many_threads_share_the_pool),
		cmocka_unit_test(a_read_only_export_is_read_only),
		cmocka_unit_test(a_connected_descriptor_will_do),
		cmocka_unit_test(a_useless_descriptor_stays_the_callers),
		cmocka_unit_test(nobody_there),
		cmocka_unit_test(killed_while_idle),
		cmocka_unit_test(killed_with_a_request_under_way),
		cmocka_unit_test(errors_of_the_server_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
