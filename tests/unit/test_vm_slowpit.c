/*
 * The slow timer: programmed as Linux does, it interrupts again and again, and its state survives a
 * checkpoint.
 */
#include <sched.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "slowpit.h"
#include "test_board.h"

struct fix {
	struct test_board t;
};

static void setup(struct fix *f, uint32_t stretch)
{
	struct lb_err err = {0};

	test_board_init(&f->t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_slowpit_create(&f->t.board, stretch, &err), 0);
}

static void program(struct fix *f, uint8_t command, uint16_t count)
{
	vm_board_pio_write(&f->t.board, 0x43, 1, command);
	vm_board_pio_write(&f->t.board, 0x40, 1, count & 0xff);
	vm_board_pio_write(&f->t.board, 0x40, 1, count >> 8);
}

static unsigned ticks(struct fix *f)
{
	unsigned n;

	vm_board_lock(&f->t.board);
	n = f->t.raised[0];
	vm_board_unlock(&f->t.board);
	return n;
}

static void wait_ticks(struct fix *f, unsigned n)
{
	while (ticks(f) < n)
		sched_yield();
}

static uint16_t latched(struct fix *f)
{
	uint64_t low, high;

	vm_board_pio_write(&f->t.board, 0x43, 1, 0);
	low = vm_board_pio_read(&f->t.board, 0x40, 1);
	high = vm_board_pio_read(&f->t.board, 0x40, 1);
	return (uint16_t)(low | high << 8);
}

static void test_periodic(void **state)
{
	struct fix f;

	(void)state;
	setup(&f, 1);
	assert_int_equal(ticks(&f), 0);
	program(&f, 0x34, 1193); /* mode 2, 1 kHz */
	wait_ticks(&f, 3);
	assert_true(latched(&f) <= 1193);
	test_board_fini(&f.t);
}

static void test_one_shot(void **state)
{
	struct fix f;

	(void)state;
	setup(&f, 1);
	program(&f, 0x30, 100);
	wait_ticks(&f, 1);
	assert_int_equal(latched(&f), 0); /* stopped */
	program(&f, 0x30, 100);
	wait_ticks(&f, 2);
	test_board_fini(&f.t);
}

/* A thousand times slower: the longest count takes 55 s, so it still runs when we look. */
static void test_state(void **state)
{
	uint8_t saved[256];
	struct lb_wr wr = lb_wr_init(saved, sizeof(saved));
	struct lb_err err = {0};
	struct lb_rd rd;
	struct fix f, g;

	(void)state;
	setup(&f, 1000);
	program(&f, 0x34, 0);
	vm_board_lock(&f.t.board);
	assert_true(vm_board_save(&f.t.board, &wr));
	vm_board_unlock(&f.t.board);
	assert_int_equal(ticks(&f), 0);
	setup(&g, 1000);
	rd = lb_rd_init(saved, wr.len);
	vm_board_lock(&g.t.board);
	assert_int_equal(vm_board_load(&g.t.board, &rd, &err), 0);
	vm_board_unlock(&g.t.board);
	assert_true(latched(&g) > 0);
	saved[28 + 1] = 9; /* access mode */
	rd = lb_rd_init(saved, wr.len);
	vm_board_lock(&g.t.board);
	assert_int_equal(vm_board_load(&g.t.board, &rd, &err), LB_ECORRUPT);
	vm_board_unlock(&g.t.board);
	test_board_fini(&f.t);
	test_board_fini(&g.t);
}

static void test_speaker_and_limits(void **state)
{
	struct lb_err err = {0};
	struct fix f;

	(void)state;
	setup(&f, 5);
	vm_board_pio_write(&f.t.board, 0x61, 1, 0xff);
	assert_int_equal(vm_board_pio_read(&f.t.board, 0x61, 1), 0x23);
	assert_int_equal(vm_slowpit_create(&f.t.board, 0, &err), LB_EINVAL);
	assert_int_equal(vm_slowpit_create(&f.t.board, 1001, &err), LB_EINVAL);
	test_board_fini(&f.t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_one_shot),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_speaker_and_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
