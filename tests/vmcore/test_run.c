/* A machine runs, is paused, resumed, reset and stopped; its faults are events. The guests here are
 * a few bytes of ring-0 code put into memory by hand. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "kvm_guest.h"
#include "vm_int.h"

#define CODE_AT  0x8000u
#define PML4_AT  0x1000u
#define GDT_AT   0x6000u
#define LIMIT_NS UINT64_C(10000000000)

struct fix {
	struct vm_cfg cfg;
	struct kvm_guest g;
	struct vm *vm;
};

static void put64(struct vm *vm, uint64_t at, uint64_t v)
{
	assert_true(vm_mem_write(&vm->mem, (struct vm_gpa){at}, &v, sizeof(v)));
}

/* Identity map of the first GiB, flat GDT, @code at the entry. */
static void load(struct fix *f, const void *code, size_t len)
{
	struct vm_entry e = {
		.long_mode = true,
		.rip = CODE_AT,
		.rsp = CODE_AT,
		.cr3 = PML4_AT,
		.gdt = {GDT_AT},
		.gdt_limit = 31,
	};
	struct lb_err err = {0};

	if (vm_build(&f->vm, lb_env_real(), &f->cfg, &err) != 0)
		fail_msg("%s", err.msg);
	put64(f->vm, PML4_AT, 0x2003);
	put64(f->vm, 0x2000, 0x3003);
	for (uint64_t i = 0; i < 512; i++)
		put64(f->vm, 0x3000 + 8 * i, i << 21 | 0x83);
	put64(f->vm, GDT_AT + 16, 0x00af9b000000ffff);
	put64(f->vm, GDT_AT + 24, 0x00cf93000000ffff);
	assert_true(vm_mem_write(&f->vm->mem, (struct vm_gpa){CODE_AT}, code, len));
	if (vm_enter(f->vm, &e, &err) != 0)
		fail_msg("%s", err.msg);
}

static int setup(void **state)
{
	static struct fix f;

	f = (struct fix){.cfg = VM_CFG_DEFAULTS};
	f.cfg.ram_bytes = 16 << 20;
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

static void start(struct fix *f)
{
	struct lb_err err = {0};

	if (vm_start(f->vm, &err) != 0)
		fail_msg("%s", err.msg);
}

static void test_speaks(void **state)
{
	/* mov $0x3f8,%dx; mov $'o',%al; out; mov $'k',%al; out; 1: hlt; jmp 1b */
	static const uint8_t code[] = {0x66, 0xba, 0xf8, 0x03, 0xb0, 'o', 0xee,
				       0xb0, 'k',  0xee, 0xf4, 0xeb, 0xfd};
	struct fix *f = *state;
	struct vm_stats st;

	load(f, code, sizeof(code));
	start(f);
	kvm_guest_wait_serial(&f->g, "ok");
	assert_int_equal(vm_state(f->vm), VM_RUNNING);
	vm_stop(f->vm);
	assert_int_equal(vm_state(f->vm), VM_OFF);
	vm_stats(f->vm, &st);
	assert_true(st.pio >= 2);
}

static void test_pause(void **state)
{
	/* 1: incq 0x9000; jmp 1b */
	static const uint8_t code[] = {0x48, 0xff, 0x04, 0x25, 0x00, 0x90, 0x00, 0x00, 0xeb, 0xf6};
	struct fix *f = *state;
	struct lb_err err = {0};
	uint32_t before = 0, then = 0;

	load(f, code, sizeof(code));
	assert_int_equal(vm_pause(f->vm, LIMIT_NS, &err), LB_EINVAL); /* not started */
	start(f);
	for (int round = 0; round < 20; round++) {
		if (vm_pause(f->vm, LIMIT_NS, &err) != 0)
			fail_msg("%s", err.msg);
		assert_int_equal(vm_state(f->vm), VM_PAUSED);
		assert_true(vm_mem_read32(&f->vm->mem, (struct vm_gpa){0x9000}, &before));
		for (int i = 0; i < 1000; i++)
			assert_true(vm_mem_read32(&f->vm->mem, (struct vm_gpa){0x9000}, &then));
		assert_int_equal(then, before);
		assert_int_equal(vm_resume(f->vm, &err), 0);
		while (then == before)
			assert_true(vm_mem_read32(&f->vm->mem, (struct vm_gpa){0x9000}, &then));
	}
	assert_int_equal(vm_resume(f->vm, &err), LB_EINVAL);
}

static void test_reset_stops(void **state)
{
	/* mov $6,%al; mov $0xcf9,%dx; out; 1: hlt; jmp 1b */
	static const uint8_t code[] = {0xb0, 0x06, 0x66, 0xba, 0xf9, 0x0c, 0xee, 0xf4, 0xeb, 0xfd};
	struct fix *f = *state;

	f->cfg.reset_stops = true;
	load(f, code, sizeof(code));
	start(f);
	kvm_guest_wait_event(&f->g, VM_EVENT_RESET, 1);
	assert_int_equal(vm_state(f->vm), VM_OFF);
}

static void test_triple_fault_resets(void **state)
{
	/* ud2 without an IDT */
	static const uint8_t code[] = {0x0f, 0x0b};
	struct fix *f = *state;

	f->cfg.reset_stops = true;
	load(f, code, sizeof(code));
	start(f);
	kvm_guest_wait_event(&f->g, VM_EVENT_RESET, 1);
	assert_int_equal(vm_state(f->vm), VM_OFF);
}

/* Code that is no memory at all: KVM cannot fetch it. */
static void test_fault_is_an_event(void **state)
{
	/* mov $0x20000000,%eax; jmp *%rax */
	static const uint8_t code[] = {0xb8, 0x00, 0x00, 0x00, 0x20, 0xff, 0xe0};
	struct fix *f = *state;

	load(f, code, sizeof(code));
	start(f);
	kvm_guest_wait_event(&f->g, VM_EVENT_FAULT, 1);
	assert_int_equal(vm_state(f->vm), VM_CRASHED);
	assert_int_equal(f->g.fault_rip, 0x20000000);
	assert_non_null(strstr(f->g.fault, "processor 0"));
	vm_stop(f->vm);
	assert_int_equal(vm_state(f->vm), VM_CRASHED);
}

static void test_many_at_once(void **state)
{
	static const uint8_t code[] = {0x48, 0xff, 0x04, 0x25, 0x00, 0x90, 0x00, 0x00, 0xeb, 0xf6};
	struct fix *f = *state;
	struct vm *vms[4];
	uint32_t v = 0;

	for (size_t i = 0; i < 4; i++) {
		load(f, code, sizeof(code));
		start(f);
		vms[i] = f->vm;
	}
	for (size_t i = 0; i < 4; i++) {
		for (v = 0; v == 0;)
			assert_true(vm_mem_read32(&vms[i]->mem, (struct vm_gpa){0x9000}, &v));
		vm_destroy(vms[i]);
	}
	f->vm = NULL;
}

static void test_sizes_are_checked(void **state)
{
	struct fix *f = *state;
	struct lb_err err = {0};

	f->cfg.ram_bytes = 3 << 20;
	assert_int_equal(vm_build(&f->vm, lb_env_real(), &f->cfg, &err), LB_EINPUT);
	f->cfg.ram_bytes = 16 << 20;
	f->cfg.vcpus = VM_VCPUS_MAX + 1;
	assert_int_equal(vm_build(&f->vm, lb_env_real(), &f->cfg, &err), LB_EINPUT);
	f->cfg.vcpus = 1;
	assert_int_equal(vm_create(&f->vm, lb_env_real(), &f->cfg, &err), LB_EINPUT);
}

/* The devices' side of a machine is built by a thread of its own: what it refuses is said. */
static void test_firmware_is_refused(void **state)
{
	struct fix *f = *state;
	struct lb_err err = {0};

	f->cfg.bios_fd = memfd_create("firmware", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->cfg.bios_fd, 100), 0);
	assert_int_equal(vm_create(&f->vm, lb_env_real(), &f->cfg, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "firmware of 100 bytes"));
	assert_int_equal(vm_create(&f->vm, lb_env_real(), &f->cfg, NULL), LB_EINPUT);
	assert_null(f->vm);
	(void)close(f->cfg.bios_fd);
}

/* This host can run what it says it can give. */
static void test_probe(void **state)
{
	struct vm_host h;
	struct vm_cpu c;
	struct lb_err err = {0};

	(void)state;
	vm_probe(&h);
	assert_true(h.kind == VM_KVM_NATIVE || h.kind == VM_KVM_EMULATING);
	assert_true(h.ring0_mips > 0);
	assert_true(h.vcpus_max >= 1);
	assert_true(h.dirty_protect);
	assert_true(h.cpu_model[0] != '\0' && h.detail[0] != '\0');
	(void)printf("# %s: %s; %s; TSC offset %s, SMM %s, userfault %s\n",
		     vm_kvm_kind_name(h.kind), h.detail, h.cpu_model, h.tsc_offset ? "yes" : "no",
		     h.smm ? "yes" : "no", h.userfault ? "yes" : "no");
	if (vm_cpu_of_host(&c, &err) != 0 || vm_cpu_check(&c, &c, &err) != 0)
		fail_msg("%s", err.msg);
	assert_in_range(c.count, 5, VM_CPUID_MAX);
}

/* A template that was agreed on is what the guest gets; one that asks for too much is refused. */
static void test_template(void **state)
{
	static const uint8_t halt[] = {0xf4, 0xeb, 0xfd};
	struct fix *f = *state;
	struct vm_cpu c;
	struct lb_err err = {0};

	assert_int_equal(vm_cpu_of_host(&c, &err), 0);
	f->cfg.cpu = &c;
	load(f, halt, sizeof(halt));
	if (vm_cpu_check(&c, &f->vm->cpu, &err) != 0)
		fail_msg("%s", err.msg);
	vm_destroy(f->vm);
	f->vm = NULL;
	for (uint32_t i = 0; i < c.count; i++)
		if (c.leaf[i].leaf == 1)
			c.leaf[i].ecx |= 1u << 2; /* DTES64: no KVM gives it */
	assert_int_equal(vm_build(&f->vm, lb_env_real(), &f->cfg, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "cpuid 1.0 ecx bit 2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_speaks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_stops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_triple_fault_resets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fault_is_an_event, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes_are_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_firmware_is_refused, setup, teardown),
		cmocka_unit_test(test_probe),
		cmocka_unit_test_setup_teardown(test_template, setup, teardown),
	};

	(void)kvm_guest_main(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
