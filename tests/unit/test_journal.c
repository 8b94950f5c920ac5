/* The journal behind the mirror: cuts stay frozen, changes are never under-reported, waits are
 * bounded. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "imaging/dev.h"
#include "replicator/journal.h"

#include <cmocka.h>

#define BLOCKS 64u
#define SIZE   (BLOCKS * 4096u - 1024u) /* a short last block */
#define LONG   (60ull * 1000000000u)

struct fixture {
	struct img_dev *mirror, *side;
	struct rep_journal *j;
};

static void fixture_init(struct fixture *f, uint64_t side_max)
{
	struct rep_journal_cfg cfg;

	assert_int_equal(img_mem_create(&f->mirror, SIZE, NULL), 0);
	assert_int_equal(img_mem_create(&f->side, SIZE, NULL), 0);
	cfg = (struct rep_journal_cfg){
		.mirror = f->mirror, .side = f->side, .side_max_bytes = side_max};
	assert_int_equal(rep_journal_create(&f->j, &cfg, NULL), 0);
}

static void fixture_fini(struct fixture *f)
{
	rep_journal_destroy(f->j);
	img_dev_destroy(f->mirror);
	img_dev_destroy(f->side);
}

static void cut(struct rep_journal *j, uint64_t *dirty)
{
	assert_int_equal(rep_journal_hold(j, LONG, NULL), 0);
	assert_int_equal(rep_journal_mark(j, dirty, NULL), 0);
	rep_journal_resume(j);
}

static uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* A random write or zero, the same in the model. */
static void random_write(struct rep_journal *j, uint8_t *model, uint32_t *rng)
{
	static uint8_t buf[3 * 4096];
	uint32_t off = next_random(rng) % SIZE / 512 * 512;
	uint32_t len = (next_random(rng) % (uint32_t)(sizeof(buf) / 512) + 1) * 512;

	if (len > SIZE - off)
		len = SIZE - off;
	if (next_random(rng) % 4 == 0) {
		assert_int_equal(rep_journal_zero(j, len, off, NULL), 0);
		memset(model + off, 0, len);
		return;
	}
	memset(buf, (int)(next_random(rng) & 0xff), len);
	assert_int_equal(rep_journal_write(j, buf, len, off, NULL), 0);
	memcpy(model + off, buf, len);
}

static void assert_cut_is(struct rep_journal *j, const uint8_t *want, uint32_t *rng)
{
	static uint8_t got[SIZE];
	struct img_extent e;

	assert_int_equal(rep_journal_cut_read(j, got, SIZE, 0, NULL), 0);
	assert_memory_equal(got, want, SIZE);
	for (int i = 0; i < 4; i++) { /* odd ranges too */
		uint32_t off = next_random(rng) % SIZE;
		uint32_t len = next_random(rng) % (SIZE - off) + 1;

		assert_int_equal(rep_journal_cut_read(j, got, len, off, NULL), 0);
		assert_memory_equal(got, want + off, len);
	}
	for (uint64_t off = 0; off < SIZE; off += e.len) {
		assert_int_equal(rep_journal_cut_extent(j, &e, off, NULL), 0);
		assert_true(e.off == off && e.len > 0 && e.len <= SIZE - off);
		for (uint64_t b = off; e.zero && b < off + e.len; b++)
			assert_int_equal(want[b], 0);
	}
}

/* (J3): every block that differs from the last kept cut is named. */
static uint64_t assert_superset(struct rep_journal *j, const uint8_t *now, const uint8_t *kept)
{
	uint8_t map[BLOCKS / 8];
	uint64_t named = 0;

	assert_int_equal(rep_journal_bitmap_bytes(j), sizeof map);
	assert_int_equal(rep_journal_cut_bitmap(j, map, NULL), 0);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		uint32_t len = b == BLOCKS - 1 ? 3072 : 4096;

		if (memcmp(now + b * 4096, kept + b * 4096, len) != 0)
			assert_true(map[b / 8] >> (b % 8) & 1);
		named += map[b / 8] >> (b % 8) & 1u;
	}
	return named;
}

static void test_random_cuts(void **state)
{
	static uint8_t model[SIZE], at_cut[SIZE], kept[SIZE], newest[SIZE];
	struct fixture f;
	uint32_t rng = 0x5eed1;

	(void)state;
	fixture_init(&f, 1 << 30);
	for (int round = 0; round < 400; round++) {
		uint64_t dirty;
		bool keep = next_random(&rng) % 3 != 0;

		for (uint32_t i = next_random(&rng) % 12; i > 0; i--)
			random_write(f.j, model, &rng);
		cut(f.j, &dirty);
		memcpy(at_cut, model, SIZE);
		assert_int_equal(assert_superset(f.j, at_cut, kept), dirty);
		for (uint32_t i = next_random(&rng) % 12; i > 0; i--) {
			random_write(f.j, model, &rng);
			assert_cut_is(f.j, at_cut, &rng);
		}
		assert_superset(f.j, at_cut, kept);
		rep_journal_release(f.j, keep);
		if (keep)
			memcpy(kept, at_cut, SIZE);
		assert_int_equal(rep_journal_read(f.j, newest, SIZE, 0, NULL), 0);
		assert_memory_equal(newest, model, SIZE);
	}
	fixture_fini(&f);
}

static void test_no_writes_no_changes(void **state)
{
	struct fixture f;
	uint64_t dirty;
	uint8_t block[4096] = {1};

	(void)state;
	fixture_init(&f, 1 << 30);
	assert_int_equal(rep_journal_write(f.j, block, 4096, 8192, NULL), 0);
	cut(f.j, &dirty);
	assert_int_equal(dirty, 1);
	rep_journal_release(f.j, true);
	cut(f.j, &dirty);
	assert_int_equal(dirty, 0);
	rep_journal_release(f.j, false);
	fixture_fini(&f);
}

static void test_cut_breaks_not_the_guest(void **state)
{
	struct fixture f;
	uint64_t dirty;
	uint8_t block[4096] = {7}, got[4096];
	struct lb_err err;

	(void)state;
	fixture_init(&f, 2 * 4096);
	cut(f.j, &dirty);
	for (uint64_t b = 0; b < 3; b++)
		assert_int_equal(rep_journal_write(f.j, block, 4096, b * 4096, NULL), 0);
	assert_int_equal(rep_journal_cut_read(f.j, got, 4096, 0, &err), LB_ECHANGED);
	assert_non_null(strstr(err.msg, "8192"));
	assert_int_equal(rep_journal_read(f.j, got, 4096, 2 * 4096, NULL), 0);
	assert_memory_equal(got, block, 4096);
	rep_journal_release(f.j, false);
	cut(f.j, &dirty);
	assert_int_equal(dirty, 3);
	assert_int_equal(rep_journal_cut_read(f.j, got, 4096, 0, NULL), 0);
	fixture_fini(&f);
}

/* Every single operation on a device fails once: the side's failure breaks a cut only, the mirror's
 * ends all marks. */
static void test_device_failures(void **state)
{
	(void)state;
	for (int on_mirror = 0; on_mirror < 2; on_mirror++) {
		for (uint64_t k = 1; k < 8; k++) {
			struct fixture f;
			struct img_dev *fault;
			struct rep_journal_cfg cfg;
			struct rep_journal *j;
			uint64_t dirty;
			uint8_t block[4096] = {9};
			int rc = 0;

			fixture_init(&f, 1 << 30);
			assert_int_equal(img_fault_create(&fault, on_mirror ? f.mirror : f.side, k,
							  LB_EIO, NULL),
					 0);
			cfg = (struct rep_journal_cfg){.mirror = on_mirror ? fault : f.mirror,
						       .side = on_mirror ? f.side : fault,
						       .side_max_bytes = 1 << 30};
			assert_int_equal(rep_journal_create(&j, &cfg, NULL), 0);
			cut(j, &dirty);
			for (uint64_t b = 0; b < 4 && rc == 0; b++)
				rc = rep_journal_write(j, block, 4096, b * 4096, NULL);
			if (!on_mirror)
				assert_int_equal(rc, 0);
			rep_journal_release(j, false);
			assert_int_equal(rep_journal_hold(j, LONG, NULL), 0);
			assert_int_equal(rep_journal_mark(j, &dirty, NULL),
					 rc == 0 ? 0 : LB_ECLOSED);
			rep_journal_destroy(j);
			img_dev_destroy(fault);
			fixture_fini(&f);
		}
	}
}

static void test_states(void **state)
{
	struct fixture f;
	uint64_t dirty;
	uint8_t b[512];

	(void)state;
	fixture_init(&f, 1 << 30);
	assert_int_equal(rep_journal_mark(f.j, &dirty, NULL), LB_ETIMEDOUT);
	assert_int_equal(rep_journal_cut_read(f.j, b, 512, 0, NULL), LB_ECLOSED);
	assert_int_equal(rep_journal_hold(f.j, 0, NULL), 0);
	assert_int_equal(rep_journal_mark(f.j, &dirty, NULL), LB_ETIMEDOUT);
	cut(f.j, &dirty);
	assert_int_equal(rep_journal_hold(f.j, LONG, NULL), 0);
	assert_int_equal(rep_journal_hold(f.j, LONG, NULL), LB_EBUSY);
	assert_int_equal(rep_journal_mark(f.j, &dirty, NULL), LB_EBUSY);
	rep_journal_release(f.j, true);
	rep_journal_writer_lost(f.j);
	assert_int_equal(rep_journal_mark(f.j, &dirty, NULL), LB_ECLOSED);
	assert_int_equal(rep_journal_write(f.j, b, 512, SIZE, NULL), LB_EINVAL);
	fixture_fini(&f);
}

struct waiter {
	struct rep_journal *j;
	bool done;
};

static void *write_one(void *arg)
{
	struct waiter *w = arg;
	uint8_t block[4096] = {5};

	assert_int_equal(rep_journal_write(w->j, block, 4096, 0, NULL), 0);
	__atomic_store_n(&w->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* (J1): a write that arrives while held waits, and is not in the cut. (J2): nobody has to resume
 * it. */
static void test_held_write(void **state)
{
	for (int lapse = 0; lapse < 2; lapse++) {
		struct fixture f;
		struct waiter w;
		pthread_t t;
		uint64_t dirty;
		uint8_t got[4096];

		(void)state;
		fixture_init(&f, 1 << 30);
		w = (struct waiter){.j = f.j};
		assert_int_equal(rep_journal_hold(f.j, lapse ? 200000000u : LONG, NULL), 0);
		assert_int_equal(pthread_create(&t, NULL, write_one, &w), 0);
		if (!lapse) {
			assert_int_equal(rep_journal_mark(f.j, &dirty, NULL), 0);
			assert_int_equal(dirty, 0);
			assert_false(__atomic_load_n(&w.done, __ATOMIC_SEQ_CST));
			rep_journal_resume(f.j);
		}
		assert_int_equal(pthread_join(t, NULL), 0);
		if (!lapse) {
			assert_int_equal(rep_journal_cut_read(f.j, got, 4096, 0, NULL), 0);
			assert_int_equal(got[0], 0);
		} else {
			assert_int_equal(rep_journal_mark(f.j, &dirty, NULL), LB_ETIMEDOUT);
		}
		fixture_fini(&f);
	}
}

struct server {
	struct rep_journal *j;
	int fd;
};

static void *serve(void *arg)
{
	struct server *s = arg;

	rep_jctl_serve(s->j, s->fd);
	return NULL;
}

/* The other end speaks raw text here; the client's own functions are driven in the plugin's test.
 */
static void exchange(int fd, const char *request, const char *want)
{
	char got[256] = "";
	size_t n = 0;

	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	while (n < sizeof got - 1 && (n == 0 || got[n - 1] != '\n')) {
		ssize_t r = recv(fd, got + n, 1, 0);

		assert_int_equal(r, 1);
		n++;
	}
	if (strncmp(got, want, strlen(want)) != 0)
		fail_msg("%s: got %s, want %s", request, got, want);
}

static void test_control(void **state)
{
	struct fixture f;
	struct server s;
	struct rep_journal_status st;
	pthread_t t;
	int sv[2];
	char huge[600];

	(void)state;
	fixture_init(&f, 1 << 30);
	for (int bad = 0; bad < 2; bad++) {
		uint8_t map[BLOCKS / 8];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		s = (struct server){.j = f.j, .fd = sv[1]};
		assert_int_equal(pthread_create(&t, NULL, serve, &s), 0);
		exchange(sv[0], "hold 60000\n", "ok\n");
		exchange(sv[0], "hold 5\n", "err LB_EBUSY ");
		exchange(sv[0], "mark\n", "ok 0\n");
		exchange(sv[0], "mark\n", "err LB_EBUSY ");
		exchange(sv[0], "bitmap\n", "ok 8\n");
		assert_int_equal(recv(sv[0], map, sizeof map, MSG_WAITALL), sizeof map);
		exchange(sv[0], "status\n", "ok 261120 0 0 0 1 1 0 0 0\n");
		exchange(sv[0], "nonsense\n", "err LB_EPROTO ");
		if (bad) { /* a line without an end is cut off, not buffered */
			memset(huge, 'x', sizeof huge);
			assert_int_equal(send(sv[0], huge, sizeof huge, 0), sizeof huge);
		}
		if (!bad)
			assert_int_equal(shutdown(sv[0], SHUT_WR), 0);
		assert_int_equal(pthread_join(t, NULL), 0);
		rep_journal_status(f.j, &st); /* who hangs up holds nothing */
		assert_false(st.held || st.cut_open);
		(void)close(sv[0]);
	}
	fixture_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_cuts),
		cmocka_unit_test(test_no_writes_no_changes),
		cmocka_unit_test(test_cut_breaks_not_the_guest),
		cmocka_unit_test(test_device_failures),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_held_write),
		cmocka_unit_test(test_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
