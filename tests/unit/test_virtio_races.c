/*
 * A guest with two processors: one asks, the other changes rings, descriptors and request headers
 * at the same time. What a device checked must be what it uses: no sanitizer may find it outside of
 * memory, and after a reset the device serves an honest driver.
 *
 * Not under the thread sanitizer: that races with guest memory are there is the point.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "blk.h"
#include "check.h"
#include "imaging/dev.h"
#include "rnd.h"
#include "test_board.h"
#include "vdriver.h"
#include "virtio.h"

#define RAM_BYTES  (UINT64_C(4) << 20)
#define DISK_BYTES (UINT64_C(1) << 20)
#define LIMIT_NS   UINT64_C(60000000000)
#define F_INDIRECT (UINT64_C(1) << 28)
#define F_EVENT    (UINT64_C(1) << 29)
#define ROUNDS     60u
#define KICKS      300u
#define HEADS      8u
#define PAGES_MAX  32u

struct fix {
	struct test_board t;
	struct vm_pci *pci;
	struct img_dev *disk;
	struct vm_blk *blk;
	struct vm_virtio_console *console;
	struct vdriver d;
	uint64_t heap; /* where the driver's memory begins */
	uint64_t table;
	/* the other processor's */
	pthread_t other;
	_Atomic bool stop;
	uint64_t page[PAGES_MAX]; /* it writes to the begin of these */
	unsigned pages;
};

/* Values that get further than random ones do. */
static uint16_t plausible(uint64_t *rnd, const struct fix *f)
{
	const uint16_t v[] = {0,
			      1,
			      2,
			      3,
			      4,
			      7,
			      16,
			      512,
			      0xffff,
			      (uint16_t)f->table,
			      (uint16_t)(f->table >> 16),
			      (uint16_t)rnd_u64(rnd)};

	return v[rnd_below(rnd, sizeof(v) / sizeof(v[0]))];
}

static void *other_main(void *arg)
{
	struct fix *f = arg;
	uint64_t rnd = 7;

	while (!atomic_load_explicit(&f->stop, memory_order_relaxed)) {
		uint64_t at = f->page[rnd_below(&rnd, f->pages)] + 2 * rnd_below(&rnd, 8 * HEADS);
		uint16_t *p = (uint16_t *)(void *)(f->t.mem.base + at);

		__atomic_store_n(p, plausible(&rnd, f), __ATOMIC_RELAXED);
	}
	return NULL;
}

static void board(struct fix *f, unsigned slot)
{
	struct vm_virtio_blk_cfg cfg = {.serial = "race", .threads = 2};
	struct lb_err err = {0};

	*f = (struct fix){.disk = NULL};
	test_board_init(&f->t, RAM_BYTES);
	assert_int_equal(vm_pci_create(&f->pci, &f->t.board, &err), 0);
	assert_int_equal(img_mem_create(&f->disk, DISK_BYTES, &err), 0);
	cfg.dev = f->disk;
	assert_int_equal(vm_virtio_blk_create(&f->t.board, f->pci, &cfg, &f->blk, &err), 0);
	assert_int_equal(vm_virtio_console_create(&f->console, &f->t.board, f->pci, &err), 0);
	assert_int_equal(vm_virtio_rng_create(&f->t.board, f->pci, &err), 0);
	vd_start(&f->d, &f->t.board, (uint8_t)slot, slot != 3, false, 0, 1);
	f->heap = f->d.heap;
}

static void fini(struct fix *f)
{
	test_board_fini(&f->t);
	img_dev_destroy(f->disk);
}

/* Direct and indirect chains, some with a request's header, of memory that is there. */
static void lay_out(struct fix *f, unsigned queues)
{
	f->pages = 0;
	f->table = vd_alloc(&f->d, 4096);
	f->page[f->pages++] = f->table;
	for (unsigned q = 0; q < queues; q++) {
		f->page[f->pages++] = f->d.q[q].desc;
		f->page[f->pages++] = f->d.q[q].avail;
		for (unsigned h = 0; h < HEADS; h++) {
			struct vd_buf b = {f->table + 64u * h, 16, (h & 1) != 0};
			struct vd_buf table = {f->table, 64, false};

			vd_write_desc(&f->d, f->table, h, b, h < 3, (uint16_t)(h + 1));
			vd_write_desc(&f->d, f->d.q[q].desc, h, h == 5 ? table : b, h == 5 ? 4 : 1,
				      (uint16_t)((h + 1) % HEADS));
		}
	}
}

static void ask(struct fix *f, unsigned queues, uint64_t *rnd)
{
	for (unsigned i = 0; i < KICKS; i++) {
		unsigned q = (unsigned)rnd_below(rnd, queues);

		vd_offer(&f->d, q, (uint16_t)rnd_below(rnd, HEADS));
		vd_kick(&f->d, q);
	}
}

/* The device answers an honest driver: what it draws, or what it says its name is, is new. */
static void check_serves(struct fix *f, unsigned queues, unsigned queue, bool header)
{
	static const uint8_t get_id[16] = {8};
	struct vd_buf b[3] = {{0, 16, false}, {0, 20, true}, {0, 1, true}};
	uint32_t id, len;

	f->d.heap = f->heap;
	vd_restart(&f->d, 0, queues);
	for (unsigned i = 0; i < 3; i++)
		b[i].gpa = vd_alloc(&f->d, b[i].len);
	memcpy(vd_ptr(&f->d, b[0].gpa), get_id, sizeof(get_id));
	if (header)
		(void)vd_add(&f->d, queue, b, 3);
	else
		(void)vd_add(&f->d, queue, b + 1, 1);
	vd_kick(&f->d, queue);
	assert_true(vm_blk_drain(f->blk, LIMIT_NS));
	assert_true(vd_used(&f->d, queue, &id, &len));
	assert_true(len > 0);
}

static void race(unsigned slot, unsigned queues, unsigned queue, bool header)
{
	struct fix *f = calloc(1, sizeof(*f));
	uint64_t rnd = slot;

	board(f, slot);
	for (unsigned round = 0; round < ROUNDS; round++) {
		f->d.heap = f->heap;
		vd_restart(&f->d, round % 2 == 0 ? F_INDIRECT | F_EVENT : F_INDIRECT, queues);
		lay_out(f, queues);
		atomic_store(&f->stop, false);
		assert_int_equal(pthread_create(&f->other, NULL, other_main, f), 0);
		ask(f, queues, &rnd);
		atomic_store(&f->stop, true);
		assert_int_equal(pthread_join(f->other, NULL), 0);
		assert_true(vm_blk_drain(f->blk, LIMIT_NS));
	}
	if (queues < 6)
		check_serves(f, queues, queue, header);
	fini(f);
	free(f);
}

static void test_disk_legacy(void **state)
{
	(void)state;
	race(3, 1, 0, true);
}

static void test_console(void **state)
{
	(void)state;
	race(4, 6, 5, false);
}

static void test_entropy(void **state)
{
	(void)state;
	race(5, 1, 0, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disk_legacy),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_entropy),
	};

	(void)alarm(110);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
