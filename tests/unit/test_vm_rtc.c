/* The clock by script, on a clock of the test's own. */
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "rtc.h"
#include "test_board.h"

#define S_NS UINT64_C(1000000000)

enum {
	IRQ = 8
};

struct world {
	struct lb_env env;
	uint64_t now, wall;
	struct test_board t;
	struct vm_rtc *r;
};

static uint64_t fake_now(struct lb_env *env)
{
	return ((struct world *)env)->now;
}

static uint64_t fake_wall(struct lb_env *env)
{
	return ((struct world *)env)->wall;
}

static void pass(struct world *w, uint64_t ns)
{
	w->now += ns;
	w->wall += ns;
	vm_board_lock(&w->t.board);
	(void)vm_rtc_poll(w->r);
	vm_board_unlock(&w->t.board);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct vm_rtc_cfg cfg = {.ram_bytes = UINT64_C(5) << 30, .vcpus = 3, .no_thread = true};
	struct lb_err err = {0};

	w->env = (struct lb_env){.now_ns = fake_now, .wall_ns = fake_wall};
	w->now = 5 * S_NS;
	w->wall = UINT64_C(951827696) * S_NS; /* 2000-02-29 12:34:56, a Tuesday */
	test_board_init(&w->t, VM_RAM_MIN_BYTES);
	w->t.board.env = &w->env;
	assert_int_equal(vm_rtc_create(&w->r, &w->t.board, &cfg, &err), 0);
	vm_board_reset(&w->t.board);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	test_board_fini(&w->t);
	free(w);
	return 0;
}

static uint8_t get(struct world *w, uint8_t reg)
{
	vm_board_pio_write(&w->t.board, 0x70, 1, reg | 0x80u);
	return (uint8_t)vm_board_pio_read(&w->t.board, 0x71, 1);
}

static void set(struct world *w, uint8_t reg, uint8_t v)
{
	vm_board_pio_write(&w->t.board, 0x70, 1, reg);
	vm_board_pio_write(&w->t.board, 0x71, 1, v);
}

/* seconds, minutes, hours, weekday, day, month, year, century */
static void assert_time(struct world *w, const uint8_t want[8])
{
	static const uint8_t reg[8] = {0, 2, 4, 6, 7, 8, 9, 0x32};

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(w, reg[i]), want[i]);
}

static void test_shows_the_wall_clock(void **state)
{
	struct world *w = *state;

	assert_time(w, (const uint8_t[]){0x56, 0x34, 0x12, 3, 0x29, 2, 0, 0x20});
	set(w, 0x0b, 0x06); /* binary */
	assert_time(w, (const uint8_t[]){56, 34, 12, 3, 29, 2, 0, 20});
	set(w, 0x0b, 0x00); /* BCD, 12 hours */
	assert_int_equal(get(w, 4), 0x92);
	pass(w, 12 * 3600 * S_NS);
	assert_time(w, (const uint8_t[]){0x56, 0x34, 0x12, 4, 1, 3, 0, 0x20});
	assert_int_equal(get(w, 0x0d), 0x80);
	assert_int_equal(get(w, 0x0a), 0x26);
}

static void test_update_in_progress_is_told(void **state)
{
	struct world *w = *state;

	pass(w, S_NS - 244001);
	assert_int_equal(get(w, 0x0a) & 0x80, 0);
	pass(w, 1);
	assert_int_equal(get(w, 0x0a) & 0x80, 0x80);
	assert_int_equal(get(w, 0), 0x56);
	pass(w, 243999);
	assert_int_equal(get(w, 0x0a) & 0x80, 0x80);
	pass(w, 1);
	assert_int_equal(get(w, 0x0a) & 0x80, 0);
	assert_int_equal(get(w, 0), 0x57);
}

static void test_guest_sets_its_clock(void **state)
{
	struct world *w = *state;

	/* as Linux does: SET, fields, go */
	set(w, 0x0b, 0x82);
	set(w, 9, 0x99);
	set(w, 0x32, 0x19);
	set(w, 8, 0x12);
	set(w, 7, 0x31);
	set(w, 4, 0x23);
	set(w, 2, 0x59);
	set(w, 0, 0x58);
	pass(w, 10 * S_NS); /* held */
	assert_time(w, (const uint8_t[]){0x58, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19});
	assert_int_equal(get(w, 0x0a) & 0x80, 0);
	set(w, 0x0b, 0x02);
	pass(w, 2 * S_NS);
	assert_time(w, (const uint8_t[]){0, 0, 0, 7, 1, 1, 0, 0x20});
	/* without SET, a field at a time */
	set(w, 9, 0x37);
	assert_time(w, (const uint8_t[]){0, 0, 0, 5, 1, 1, 0x37, 0x20});
	/* nonsense is a date somewhere, and never more than that */
	for (unsigned i = 0; i < 2000; i++)
		set(w, (uint8_t[]){0, 2, 4, 6, 7, 8, 9, 0x32}[i % 8], (uint8_t)(i * 89));
	set(w, 0x0b, 0x02);
	set(w, 0x32, 0x20);
	set(w, 9, 0x26);
	assert_int_equal(get(w, 9), 0x26);
}

static void test_periodic_interrupt(void **state)
{
	struct world *w = *state;

	set(w, 0x0a, 0x26);
	set(w, 0x0b, 0x42);
	pass(w, 976561);
	assert_false(w->t.line[IRQ]);
	pass(w, 1);
	assert_true(w->t.line[IRQ]);
	pass(w, 976562 * 3); /* not read: no second edge */
	assert_int_equal(w->t.raised[IRQ], 1);
	assert_int_equal(get(w, 0x0c) & 0xc0, 0xc0);
	assert_false(w->t.line[IRQ]);
	assert_int_equal(get(w, 0x0c), 0);
	for (unsigned i = 0; i < 100; i++) {
		pass(w, 976562);
		assert_true(w->t.line[IRQ]);
		(void)get(w, 0x0c);
	}
	set(w, 0x0b, 0x02);
	pass(w, S_NS / 2);
	assert_false(w->t.line[IRQ]);
}

static void test_update_and_alarm_interrupts(void **state)
{
	struct world *w = *state;

	set(w, 0x0b, 0x12);
	assert_int_equal(vm_rtc_poll(w->r), w->now + S_NS);
	pass(w, S_NS);
	assert_int_equal(get(w, 0x0c), 0x90);
	set(w, 0x0b, 0x22);
	set(w, 1, 0x02);
	set(w, 3, 0x35);
	set(w, 5, 0xc0); /* any hour */
	for (unsigned i = 0; i < 4; i++) {
		pass(w, S_NS);
		assert_false(w->t.line[IRQ]);
	}
	pass(w, S_NS);
	assert_true(w->t.line[IRQ]);
	assert_int_equal(get(w, 0x0c), 0xb0);
	/* a host that slept over the alarm is late with it */
	set(w, 1, 0x10);
	pass(w, 30 * S_NS);
	assert_int_equal(get(w, 0x0c), 0xb0);
	pass(w, S_NS);
	assert_int_equal(get(w, 0x0c), 0x10);
}

static void test_cmos_tells_the_machine(void **state)
{
	struct world *w = *state;

	assert_int_equal(get(w, 0x10), 0); /* no floppy */
	assert_int_equal(get(w, 0x15) | get(w, 0x16) << 8, 640);
	assert_int_equal(get(w, 0x34) | get(w, 0x35) << 8, (3 << 14) - 256);
	assert_int_equal(get(w, 0x5b) | get(w, 0x5c) << 8 | get(w, 0x5d) << 16, 2 << 14);
	assert_int_equal(get(w, 0x39), 0x55);
	assert_int_equal(get(w, 0x5f), 2);
	set(w, 0x0f, 0x0a); /* shutdown code, kept over a reset */
	vm_board_reset(&w->t.board);
	assert_int_equal(get(w, 0x0f), 0x0a);
}

static void restore(struct world *w, struct world **out, uint64_t away_ns, bool freeze)
{
	struct world *v = NULL;
	uint8_t bytes[512];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));
	struct lb_err err = {0};
	struct lb_rd rd;

	assert_true(vm_board_save(&w->t.board, &wr));
	(void)setup((void **)&v);
	v->wall = w->wall + away_ns;
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&v->t.board, &rd, &err), 0);
	if (freeze)
		vm_rtc_freeze(v->r);
	vm_board_resume(&v->t.board);
	*out = v;
}

static void test_clock_policies(void **state)
{
	struct world *w = *state;
	struct world *v = NULL;

	set(w, 2, 0x00); /* the guest's own idea of time */
	pass(w, 700000000);
	restore(w, &v, 3600 * S_NS + 500000000, false);
	assert_time(v, (const uint8_t[]){0x57, 0x00, 0x13, 3, 0x29, 2, 0, 0x20});
	(void)teardown((void **)&v);
	restore(w, &v, 3600 * S_NS + 500000000, true);
	assert_time(v, (const uint8_t[]){0x56, 0x00, 0x12, 3, 0x29, 2, 0, 0x20});
	pass(v, 299999999);
	assert_int_equal(get(v, 0), 0x56);
	pass(v, 1);
	assert_int_equal(get(v, 0), 0x57);
	(void)teardown((void **)&v);
	/* a host whose clock is behind */
	restore(w, &v, 0 - 3600 * S_NS - 900000000, true);
	assert_time(v, (const uint8_t[]){0x56, 0x00, 0x12, 3, 0x29, 2, 0, 0x20});
	pass(v, 300000000);
	assert_int_equal(get(v, 0), 0x57);
	(void)teardown((void **)&v);
}

static void test_refuses_a_clock_out_of_range(void **state)
{
	struct world *w = *state;
	uint8_t bytes[512];
	struct lb_wr wr = lb_wr_init(bytes, sizeof(bytes));
	struct lb_err err = {0};
	struct lb_rd rd;

	assert_true(vm_board_save(&w->t.board, &wr));
	bytes[28 + 1 + 128 + 7] = 0x7f;
	rd = lb_rd_init(bytes, wr.len);
	assert_int_equal(vm_board_load(&w->t.board, &rd, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "rtc.0: clock out of range"));
	(void)get(w, 0);
}

/* With its thread, on the real clock: starts, takes plans, ends. */
static void test_thread_ends(void **state)
{
	struct test_board t;
	struct vm_rtc *r = NULL;
	struct vm_rtc_cfg cfg = {.ram_bytes = VM_RAM_MIN_BYTES, .vcpus = 1};
	struct lb_err err = {0};

	(void)state;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	assert_int_equal(vm_rtc_create(&r, &t.board, &cfg, &err), 0);
	vm_board_lock(&t.board);
	vm_board_reset(&t.board);
	vm_board_unlock(&t.board);
	vm_board_pio_write(&t.board, 0x70, 2, 0x230a); /* 8192 Hz */
	vm_board_pio_write(&t.board, 0x70, 2, 0x420b);
	for (bool up = false; !up;) {
		vm_board_lock(&t.board);
		up = t.line[IRQ];
		vm_board_unlock(&t.board);
	}
	test_board_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_shows_the_wall_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_update_in_progress_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_sets_its_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_periodic_interrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_update_and_alarm_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cmos_tells_the_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock_policies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_a_clock_out_of_range, setup, teardown),
		cmocka_unit_test(test_thread_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
