/*
 * Power management ports and the generation id, driven as a guest does.
 */
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "pm.h"
#include "test_board.h"
#include "vmgenid.h"

enum {
	STATUS = 0x600,
	ENABLE = 0x602,
	CONTROL = 0x604,
	TIMER = 0x608,
	GPE_STATUS = 0x60c,
	GPE_ENABLE = 0x60e,
	BUTTON = 1 << 8
};

struct clock_env {
	struct lb_env env;
	uint64_t ns;
};

static uint64_t clock_now(struct lb_env *env)
{
	return ((struct clock_env *)env)->ns;
}

static uint64_t clock_wall(struct lb_env *env)
{
	(void)env;
	return 0;
}

static void clock_random(struct lb_env *env, void *p, size_t len)
{
	struct clock_env *c = (struct clock_env *)env;

	memset(p, (int)++c->ns, len);
}

struct fix {
	struct test_board t;
	struct clock_env clock;
	struct vm_pm *pm;
};

static void setup(struct fix *f)
{
	struct lb_err err = {0};

	*f = (struct fix){.pm = NULL};
	test_board_init(&f->t, VM_RAM_MIN_BYTES);
	f->clock.env =
		(struct lb_env){.now_ns = clock_now, .wall_ns = clock_wall, .random = clock_random};
	f->t.board.env = &f->clock.env;
	assert_int_equal(vm_pm_create(&f->pm, &f->t.board, &err), 0);
	assert_int_equal(vm_genid_create(&f->t.board, f->pm, &err), 0);
	vm_board_reset(&f->t.board);
}

static uint64_t in(struct fix *f, uint16_t port, unsigned size)
{
	return vm_board_pio_read(&f->t.board, port, size);
}

static void out(struct fix *f, uint16_t port, unsigned size, uint64_t v)
{
	vm_board_pio_write(&f->t.board, port, size, v);
}

static void test_button_raises_the_sci(void **state)
{
	struct fix f;

	(void)state;
	setup(&f);
	vm_pm_power_button(f.pm);
	assert_false(f.t.line[9]); /* not enabled */
	assert_int_equal(in(&f, STATUS, 2), BUTTON);
	out(&f, ENABLE, 2, BUTTON);
	assert_true(f.t.line[9]);
	out(&f, STATUS, 2, 1); /* clears another bit */
	assert_true(f.t.line[9]);
	out(&f, STATUS + 1, 1, BUTTON >> 8);
	assert_false(f.t.line[9]);
	assert_int_equal(in(&f, STATUS, 4), (uint64_t)BUTTON << 16);
	test_board_fini(&f.t);
}

static void test_soft_off(void **state)
{
	struct fix f;

	(void)state;
	setup(&f);
	assert_int_equal(in(&f, CONTROL, 2), 1); /* SCI_EN */
	out(&f, CONTROL, 2, 0x2000 | 5 << 10);   /* not our S5 */
	assert_int_equal(f.t.events[VM_EVENT_POWEROFF], 0);
	out(&f, CONTROL, 2, 0);
	out(&f, CONTROL, 2, 0x2000);
	assert_int_equal(f.t.events[VM_EVENT_POWEROFF], 1);
	assert_int_equal(in(&f, CONTROL, 2), 1); /* SLP_EN reads zero */
	test_board_fini(&f.t);
}

static void test_timer(void **state)
{
	struct fix f;

	(void)state;
	setup(&f);
	f.clock.ns += UINT64_C(1000000000);
	assert_int_equal(in(&f, TIMER, 4), 3579545);
	assert_int_equal(in(&f, TIMER, 1), 3579545 & 0xff);
	assert_int_equal(in(&f, STATUS, 2), 0);
	f.clock.ns += UINT64_C(600000000000); /* 2^31 counts take 600 s */
	assert_int_equal(in(&f, STATUS, 2), 1);
	out(&f, STATUS, 2, 1);
	assert_int_equal(in(&f, STATUS, 2), 0);
	out(&f, TIMER, 4, 0); /* read only */
	assert_int_not_equal(in(&f, TIMER, 4), 0);
	test_board_fini(&f.t);
}

static void test_gpe(void **state)
{
	struct fix f;

	(void)state;
	setup(&f);
	out(&f, GPE_ENABLE, 2, 1);
	assert_false(f.t.line[9]);
	vm_pm_gpe(f.pm, 0);
	assert_true(f.t.line[9]);
	out(&f, GPE_STATUS, 2, 0xffff);
	assert_false(f.t.line[9]);
	test_board_fini(&f.t);
}

static void test_reset_forgets(void **state)
{
	struct fix f;

	(void)state;
	setup(&f);
	out(&f, ENABLE, 2, BUTTON);
	vm_pm_power_button(f.pm);
	vm_board_reset(&f.t.board);
	assert_false(f.t.line[9]);
	assert_int_equal(in(&f, STATUS, 4), 0);
	test_board_fini(&f.t);
}

static void genid(struct fix *f, uint8_t out_id[VM_GENID_BYTES])
{
	assert_true(vm_mem_read(&f->t.mem, out_id, vm_genid_gpa(&f->t.mem), VM_GENID_BYTES));
}

static void test_restore_is_another_generation(void **state)
{
	uint8_t saved[512], before[VM_GENID_BYTES], after[VM_GENID_BYTES];
	struct lb_wr wr = lb_wr_init(saved, sizeof(saved));
	struct lb_err err = {0};
	struct lb_rd rd;
	struct fix f, g;

	(void)state;
	setup(&f);
	out(&f, GPE_ENABLE, 2, 1);
	out(&f, ENABLE, 2, BUTTON);
	f.clock.ns += UINT64_C(2000000000);
	genid(&f, before);
	assert_true(vm_board_save(&f.t.board, &wr));
	setup(&g);
	rd = lb_rd_init(saved, wr.len);
	assert_int_equal(vm_board_load(&g.t.board, &rd, &err), 0);
	assert_true(vm_mem_write(&g.t.mem, vm_genid_gpa(&g.t.mem), before, sizeof(before)));
	assert_int_equal(in(&g, TIMER, 4), in(&f, TIMER, 4)); /* goes on from there */
	assert_int_equal(in(&g, ENABLE, 2), BUTTON);
	g.clock.ns += 77;
	vm_board_resume(&g.t.board);
	genid(&g, after);
	assert_memory_not_equal(before, after, sizeof(before));
	assert_int_equal(in(&g, GPE_STATUS, 2), 1);
	assert_true(g.t.line[9]);
	test_board_fini(&f.t);
	test_board_fini(&g.t);
}

static void test_reset_keeps_the_generation(void **state)
{
	uint8_t before[VM_GENID_BYTES], after[VM_GENID_BYTES];
	struct fix f;

	(void)state;
	setup(&f);
	genid(&f, before);
	vm_board_reset(&f.t.board);
	genid(&f, after);
	assert_memory_equal(before, after, sizeof(before));
	test_board_fini(&f.t);
}

static void test_foreign_state(void **state)
{
	uint8_t saved[512];
	struct lb_wr wr = lb_wr_init(saved, sizeof(saved));
	struct lb_err err = {0};
	struct lb_rd rd;
	struct fix f;

	(void)state;
	setup(&f);
	assert_true(vm_board_save(&f.t.board, &wr));
	saved[28 + 4] = 1; /* PM1 control: a bit that cannot be set */
	rd = lb_rd_init(saved, wr.len);
	assert_int_equal(vm_board_load(&f.t.board, &rd, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "pm.0"));
	test_board_fini(&f.t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_button_raises_the_sci),
		cmocka_unit_test(test_soft_off),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_gpe),
		cmocka_unit_test(test_reset_forgets),
		cmocka_unit_test(test_restore_is_another_generation),
		cmocka_unit_test(test_reset_keeps_the_generation),
		cmocka_unit_test(test_foreign_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
