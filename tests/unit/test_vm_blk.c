#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "blk.h"
#include "check.h"
#include "gate_dev.h"
#include "imaging/dev.h"
#include "test_board.h"

#define DISK_BYTES (UINT64_C(1) << 20)
#define SECOND_NS  UINT64_C(1000000000)

struct fix {
	struct test_board t;
	struct img_dev *disk;
	struct gate_dev gate;
	struct vm_blk *blk;
};

struct req {
	struct vm_blk_req r;
	unsigned dones;
};

static void on_done(struct vm_blk_req *r)
{
	((struct req *)r)->dones++;
}

static void fix_init(struct fix *f, unsigned threads, bool open)
{
	struct lb_err err = {0};

	*f = (struct fix){0};
	test_board_init(&f->t, VM_RAM_MIN_BYTES);
	assert_int_equal(img_mem_create(&f->disk, DISK_BYTES, &err), 0);
	gate_dev_init(&f->gate, f->disk, open);
	assert_int_equal(vm_blk_create(&f->blk, &f->t.board, &f->gate.dev, threads, &err), 0);
}

static void fix_fini(struct fix *f)
{
	vm_blk_destroy(f->blk);
	test_board_fini(&f->t);
	img_dev_destroy(f->disk);
	gate_dev_fini(&f->gate);
}

static void submit(struct fix *f, struct req *r)
{
	r->r.done = on_done;
	vm_board_lock(&f->t.board);
	vm_blk_submit(f->blk, &r->r);
	vm_board_unlock(&f->t.board);
}

static bool is_dirty(const struct fix *f, uint64_t gpa)
{
	uint64_t page = gpa / VM_PAGE_BYTES;

	return (f->t.mem.dirty[page / 64] >> (page % 64) & 1) != 0;
}

static void test_one_piece(void **state)
{
	struct fix f;
	struct vm_blk_piece piece = {{0x10200}, 1024}, back = {{0x20000}, 1024};
	struct req w = {.r = {.op = VM_BLK_WRITE, .off = 512, .len_bytes = 1024}};
	struct req r = {.r = {.op = VM_BLK_READ, .off = 512, .len_bytes = 1024}};

	(void)state;
	fix_init(&f, 1, true);
	assert_int_equal(vm_blk_bytes(f.blk), DISK_BYTES);
	assert_true(vm_blk_writable(f.blk));
	memset(f.t.mem.base + 0x10200, 0x5a, 1024);
	w.r.pieces = &piece;
	r.r.pieces = &back;
	w.r.piece_count = r.r.piece_count = 1;
	submit(&f, &w);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	assert_int_equal(w.dones, 1);
	assert_int_equal(w.r.rc, 0);
	assert_false(is_dirty(&f, 0x10200)); /* only read by us */
	submit(&f, &r);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	assert_memory_equal(f.t.mem.base + 0x20000, f.t.mem.base + 0x10200, 1024);
	assert_true(is_dirty(&f, 0x20000));
	assert_false(is_dirty(&f, 0x21000));
	fix_fini(&f);
}

/* Pieces of odd lengths, more than one bounce buffer of them. */
static void test_scattered(void **state)
{
	enum {
		PIECES = 600,
		LEN = 513
	};
	struct fix f;
	static struct vm_blk_piece to[PIECES], from[PIECES];
	uint64_t len = PIECES * LEN / 512 * 512;
	struct req w = {.r = {.op = VM_BLK_WRITE, .len_bytes = len, .pieces = from}};
	struct req r = {.r = {.op = VM_BLK_READ, .len_bytes = len, .pieces = to}};

	(void)state;
	fix_init(&f, 4, true);
	for (unsigned i = 0; i < PIECES; i++) {
		from[i] = (struct vm_blk_piece){{0x1000 + 600 * i}, LEN};
		to[i] = (struct vm_blk_piece){{0x100000 + 700 * i}, LEN};
		memset(f.t.mem.base + from[i].gpa.a, (int)(i % 255 + 1), LEN);
	}
	from[PIECES - 1].len_bytes -= (uint32_t)(PIECES * LEN - len);
	to[PIECES - 1].len_bytes = from[PIECES - 1].len_bytes;
	w.r.piece_count = r.r.piece_count = PIECES;
	submit(&f, &w);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	submit(&f, &r);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	assert_int_equal(r.r.rc, 0);
	for (unsigned i = 0; i < PIECES; i++) {
		assert_memory_equal(f.t.mem.base + to[i].gpa.a, f.t.mem.base + from[i].gpa.a,
				    to[i].len_bytes);
		assert_true(is_dirty(&f, to[i].gpa.a));
		assert_int_equal(f.t.mem.base[to[i].gpa.a + LEN], 0);
	}
	assert_int_equal(f.gate.calls, 4); /* two parts each way, not 600 */
	fix_fini(&f);
}

static void test_buffer_zero_flush(void **state)
{
	struct fix f;
	uint8_t buf[512], back[512];
	struct req w = {.r = {.op = VM_BLK_WRITE, .off = 4096, .len_bytes = 512, .buffer = buf}};
	struct req z = {.r = {.op = VM_BLK_ZERO, .off = 4096, .len_bytes = 512}};
	struct req fl = {.r = {.op = VM_BLK_FLUSH}};
	struct lb_err err = {0};

	(void)state;
	fix_init(&f, 1, true);
	memset(buf, 7, sizeof(buf));
	submit(&f, &w);
	submit(&f, &fl);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	assert_int_equal(img_pread(f.disk, back, 512, 4096, &err), 0);
	assert_memory_equal(back, buf, 512);
	submit(&f, &z);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	assert_int_equal(img_pread(f.disk, back, 512, 4096, &err), 0);
	assert_int_equal(back[0] | back[511], 0);
	assert_int_equal(w.dones + z.dones + fl.dones, 3);
	fix_fini(&f);
}

/* An error goes to the request and once to the owner, and again after it worked in between. */
static void test_error(void **state)
{
	struct fix f;
	struct vm_blk *blk = NULL;
	struct img_dev *fault = NULL;
	uint8_t buf[512] = {0};
	struct vm_blk_piece hole = {{UINT64_C(0xc0000000)}, 512};
	struct req r = {.r = {.op = VM_BLK_READ, .len_bytes = 512, .buffer = buf}};
	struct lb_err err = {0};

	(void)state;
	fix_init(&f, 1, true);
	assert_int_equal(img_fault_create(&fault, f.disk, 2, LB_EIO, &err), 0);
	assert_int_equal(vm_blk_create(&blk, &f.t.board, fault, 1, &err), 0);
	for (unsigned i = 1; i <= 5; i++) {
		vm_board_lock(&f.t.board);
		r.r.done = on_done;
		r.r.pieces = i >= 4 ? &hole : NULL;
		r.r.piece_count = i >= 4;
		vm_blk_submit(blk, &r.r);
		vm_board_unlock(&f.t.board);
		assert_true(vm_blk_drain(blk, 60 * SECOND_NS));
		assert_int_equal(r.r.rc, i == 2 ? LB_EIO : i >= 4 ? LB_EINVAL : 0);
	}
	assert_int_equal(r.dones, 5);
	assert_int_equal(f.t.events[VM_EVENT_DISK], 2);
	vm_blk_destroy(blk);
	img_dev_destroy(fault);
	fix_fini(&f);
}

static void *cancel_main(void *arg)
{
	struct fix *f = arg;

	vm_board_lock(&f->t.board);
	vm_blk_cancel(f->blk);
	vm_board_unlock(&f->t.board);
	return NULL;
}

static void test_cancel(void **state)
{
	struct fix f;
	uint8_t buf[3][512];
	struct req r[3];
	pthread_t canceler;

	(void)state;
	fix_init(&f, 2, false);
	for (unsigned i = 0; i < 3; i++) {
		r[i] = (struct req){.r = {.op = VM_BLK_READ, .len_bytes = 512, .buffer = buf[i]}};
		submit(&f, &r[i]);
	}
	gate_dev_wait(&f.gate, 2);
	assert_false(vm_blk_drain(f.blk, 1000000)); /* hangs: the limit ends the wait */
	assert_int_equal(pthread_create(&canceler, NULL, cancel_main, &f), 0);
	gate_dev_set(&f.gate, true);
	assert_int_equal(pthread_join(canceler, NULL), 0);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	for (unsigned i = 0; i < 3; i++) /* those the gate let through first may have ended */
		assert_in_range(r[i].dones, 0, 1);
	for (unsigned i = 0; i < 3; i++)
		r[i].dones = 0;
	submit(&f, &r[0]);
	assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
	assert_int_equal(r[0].dones, 1);
	fix_fini(&f);
}

/* Cancel while requests run and wait: none of them is done()'s any more. */
static void test_cancel_none_done(void **state)
{
	struct fix f;
	uint8_t buf[512];
	struct req r[3];

	(void)state;
	fix_init(&f, 1, false);
	for (unsigned i = 0; i < 3; i++) {
		r[i] = (struct req){.r = {.op = VM_BLK_READ, .len_bytes = 512, .buffer = buf}};
		submit(&f, &r[i]);
	}
	gate_dev_wait(&f.gate, 1);
	vm_board_lock(&f.t.board);
	gate_dev_set(&f.gate,
		     true); /* the worker cannot end its request before cancel lets the lock go */
	vm_blk_cancel(f.blk);
	vm_board_unlock(&f.t.board);
	assert_int_equal(r[0].dones + r[1].dones + r[2].dones, 0);
	assert_int_equal(f.gate.calls, 1);
	fix_fini(&f);
}

/* Destroy with requests queued and running. */
static void test_destroy_busy(void **state)
{
	struct fix f;
	uint8_t buf[512];
	struct req r[8];

	(void)state;
	fix_init(&f, 2, false);
	memset(buf, 1, sizeof(buf));
	for (unsigned i = 0; i < 8; i++) {
		r[i] = (struct req){.r = {.op = VM_BLK_WRITE,
					  .off = UINT64_C(512) * i,
					  .len_bytes = 512,
					  .buffer = buf}};
		submit(&f, &r[i]);
	}
	gate_dev_wait(&f.gate, 2);
	gate_dev_set(&f.gate, true);
	fix_fini(&f);
}

static void test_many(void **state)
{
	struct fix f;
	static uint8_t buf[64][512];
	static struct req r[64];
	struct lb_err err = {0};
	uint8_t back[512];

	(void)state;
	fix_init(&f, 8, true);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 64; i++) {
			memset(buf[i], (int)(i + round), 512);
			r[i] = (struct req){.r = {.op = VM_BLK_WRITE,
						  .off = 512 * i,
						  .len_bytes = 512,
						  .buffer = buf[i]}};
			submit(&f, &r[i]);
		}
		assert_true(vm_blk_drain(f.blk, 60 * SECOND_NS));
		for (unsigned i = 0; i < 64; i++) {
			assert_int_equal(r[i].dones, 1);
			assert_int_equal(img_pread(f.disk, back, 512, 512 * i, &err), 0);
			assert_memory_equal(back, buf[i], 512);
		}
	}
	fix_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_piece),
		cmocka_unit_test(test_scattered),
		cmocka_unit_test(test_buffer_zero_flush),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_cancel_none_done),
		cmocka_unit_test(test_destroy_busy),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
