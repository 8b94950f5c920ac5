/* The test guest itself: what it computes is what this process computes, its interrupts arrive, its
 * processors count. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "kvm_guest.h"
#include "payload.h"
#include "vm_int.h"

struct fix {
	struct vm_cfg cfg;
	struct kvm_guest g;
	struct vm *vm;
};

static int setup(void **state)
{
	static struct fix f;

	f = (struct fix){.cfg = VM_CFG_DEFAULTS};
	f.cfg.ram_bytes = 64 << 20;
	f.cfg.reset_stops = true;
	kvm_guest_init(&f.g, &f.cfg);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	kvm_guest_fini(&f->g);
	return 0;
}

static void start(struct fix *f, const char *cmdline)
{
	struct lb_err err = {0};

	f->vm = kvm_guest_payload(&f->cfg, cmdline);
	if (vm_start(f->vm, &err) != 0)
		fail_msg("%s", err.msg);
}

static struct payload_ctl *ctl(struct fix *f)
{
	struct payload_ctl *c = vm_mem_ptr(&f->vm->mem, (struct vm_gpa){PAYLOAD_CTL}, sizeof(*c));

	assert_non_null(c);
	return c;
}

static void test_chain(void **state)
{
	struct fix *f = *state;
	enum {
		STEPS = 3000000,
		WORDS = 64 * PAYLOAD_PAGE_WORDS
	};
	struct payload_chain c = {.x = 7};
	uint64_t *table = calloc(WORDS, sizeof(*table)), x_sum = 0, h_sum = 0;
	char want[160];

	for (int i = 0; i < STEPS; i++) {
		payload_chain_step(&c, table, WORDS);
		x_sum += c.x;
		h_sum += c.h;
	}
	(void)snprintf(want, sizeof(want),
		       "done %d %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\nend\n", STEPS, c.h,
		       x_sum, h_sum);
	start(f, "prog=chain steps=3000000 pages=64 seed=7");
	kvm_guest_wait_serial(&f->g, "end\n");
	assert_non_null(strstr(f->g.serial, want));
	assert_memory_equal(vm_mem_ptr(&f->vm->mem, (struct vm_gpa){PAYLOAD_TABLE}, WORDS * 8),
			    table, WORDS * 8);
	free(table);
}

/* Local APIC timer, and PIT through the PIC, into a ring-3 loop. */
static void test_interrupts(void **state)
{
	struct fix *f = *state;
	volatile struct payload_ctl *c;

	start(f, "prog=idle pit=100");
	kvm_guest_wait_serial(&f->g, "end\n");
	c = ctl(f);
	while (c->lapic_ticks < 100 || c->pit_ticks < 10)
		if (vm_state(f->vm) != VM_RUNNING)
			fail_msg("guest: %s", f->g.debug);
}

static void test_smp(void **state)
{
	struct fix *f = *state;
	volatile struct payload_ctl *c;
	struct lb_err err = {0};
	uint64_t sum = 0;

	f->cfg.vcpus = 4;
	start(f, "prog=smp");
	kvm_guest_wait_serial(&f->g, "s ");
	c = ctl(f);
	for (int i = 0; i < 4; i++)
		while (c->own[i] == 0)
			if (vm_state(f->vm) != VM_RUNNING)
				fail_msg("guest: %s", f->g.debug);
	assert_int_equal(c->online, 4);
	if (vm_pause(f->vm, UINT64_C(10000000000), &err) != 0)
		fail_msg("%s", err.msg);
	for (int i = 0; i < 4; i++)
		sum += c->own[i];
	/* Each may have counted in one place and not yet in the other. */
	assert_in_range(c->shared, sum, sum + 4);
}

static unsigned starts(struct fix *f)
{
	unsigned n = 0;

	for (const char *p = f->g.serial; (p = strstr(p, "payload\n")) != NULL; p++)
		n++;
	return n;
}

/* The reset button, also of a paused machine, and with other processors running. */
static void test_reset(void **state)
{
	struct fix *f = *state;
	struct lb_err err = {0};
	size_t len;

	f->cfg.reset_stops = false;
	f->cfg.vcpus = 3;
	start(f, "prog=idle");
	kvm_guest_wait_serial(&f->g, "end\n");
	len = strlen("payload\nend\n");
	assert_int_equal(vm_reset(f->vm, &err), 0);
	kvm_guest_wait_bytes(&f->g, 2 * len);
	if (vm_pause(f->vm, UINT64_C(10000000000), &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(vm_reset(f->vm, &err), 0);
	assert_int_equal(vm_resume(f->vm, &err), 0);
	kvm_guest_wait_bytes(&f->g, 3 * len);
	vm_stop(f->vm);
	assert_int_equal(starts(f), 3);
	assert_int_equal(f->g.count[VM_EVENT_FAULT], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_smp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
	};

	(void)kvm_guest_main(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
