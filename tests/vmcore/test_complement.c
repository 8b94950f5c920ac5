/*
 * What the complement completes, one by one: a kernel of a few instructions uses fwait, int3, and a
 * user program in ring 3 that makes system calls and page faults. Without the complement the same
 * guest ends with a fault. Skipped where KVM is native: there is nothing to complete.
 */
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "complement.h"
#include "kvm_guest.h"
#include "vm_int.h"

#define KERNEL_AT UINT64_C(0x8000)
#define USER_AT   UINT64_C(0x400000)
#define PML4_AT   UINT64_C(0x1000)
#define GDT_AT    UINT64_C(0x6000)
#define IDT_AT    UINT64_C(0x7000)
#define TSS_AT    UINT64_C(0x5000)
#define STACK_TOP UINT64_C(0x20000)
#define NO_PAGE   "0x3fe00000" /* the one page that is not mapped */

/*
 * Says on the first serial port: F after fwait, B in the #BP handler, b behind int3; then for each
 * of three system calls S and its number, P for a page fault of ring 3, and E.
 */
__asm__(".section .rodata\n"
	"kernel_begin:\n"
	"	lidt idt_pointer(%rip)\n"
	"	mov $0x38, %eax\n"
	"	ltr %ax\n"
	"	mov $0x3f8, %edx\n"
	"	fwait\n"
	"	mov $'F', %al\n"
	"	out %al, %dx\n"
	"	int3\n"
	"	mov $'b', %al\n"
	"	out %al, %dx\n"
	"	mov $0xc0000080, %ecx\n" /* EFER.SCE */
	"	rdmsr\n"
	"	or $1, %eax\n"
	"	wrmsr\n"
	"	mov $0xc0000081, %ecx\n" /* STAR: kernel 0x10, user 0x20 */
	"	xor %eax, %eax\n"
	"	mov $0x00200010, %edx\n"
	"	wrmsr\n"
	"	mov $0xc0000082, %ecx\n" /* LSTAR */
	"	lea kernel_syscall(%rip), %rax\n"
	"	xor %edx, %edx\n"
	"	wrmsr\n"
	"	mov $0xc0000084, %ecx\n" /* SFMASK: IF, DF, TF */
	"	mov $0x700, %eax\n"
	"	wrmsr\n"
	"	mov $100, %ecx\n" /* exits enough for the complement to look */
	"1:	out %al, $0x80\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	pushq $0x2b\n"
	"	pushq $0x500000\n"
	"	pushq $2\n"
	"	pushq $0x33\n"
	"	pushq $0x400000\n"
	"	iretq\n"
	"kernel_syscall:\n"
	"	mov %rsp, %r15\n"
	"	mov $0x1f000, %esp\n"
	"	mov %eax, %ebx\n"
	"	mov $0x3f8, %edx\n"
	"	mov $'S', %al\n"
	"	out %al, %dx\n" /* port I/O: nothing but ring 0 may */
	"	lea '0'(%rbx), %eax\n"
	"	out %al, %dx\n"
	"	mov %r15, %rsp\n"
	"	sysretq\n"
	"kernel_pf:\n"
	"	endbr64\n"
	"	push %rax\n"
	"	push %rdx\n"
	"	mov $0x3f8, %edx\n"
	"	mov $'P', %al\n"
	"	out %al, %dx\n"
	"	addq $7, 24(%rsp)\n" /* behind the faulting instruction */
	"	pop %rdx\n"
	"	pop %rax\n"
	"	add $8, %rsp\n"
	"	iretq\n"
	"kernel_bp:\n"
	"	mov $'B', %al\n"
	"	out %al, %dx\n"
	"	iretq\n"
	"idt_pointer: .word 0xfff\n"
	"	.quad 0x7000\n"
	"kernel_end:\n"
	"user_begin:\n"
	"	mov $1, %eax\n"
	"	syscall\n"
	"	movb %al, " NO_PAGE "\n" /* 7 bytes */
	"	mov $2, %eax\n"
	"	syscall\n"
	"	mov $3, %eax\n"
	"	syscall\n"
	"	movb %al, " NO_PAGE "\n"
	"	mov $20, %eax\n" /* '0' + 20 = 'D': done */
	"	syscall\n"
	"2:	jmp 2b\n"
	"user_end:\n"
	".text\n");

extern const char kernel_begin[], kernel_syscall[], kernel_pf[], kernel_bp[], kernel_end[],
	user_begin[], user_end[];

static const struct vm_host *host;

struct fix {
	struct vm_cfg cfg;
	struct kvm_guest g;
	struct vm *vm;
};

static void put(struct fix *f, uint64_t at, const void *p, size_t len)
{
	assert_true(vm_mem_write(&f->vm->mem, (struct vm_gpa){at}, p, len));
}

static void put64(struct fix *f, uint64_t at, uint64_t v)
{
	put(f, at, &v, sizeof(v));
}

static void put_gate(struct fix *f, unsigned vector, const char *handler, unsigned dpl)
{
	uint64_t a = KERNEL_AT + (uint64_t)(handler - kernel_begin);

	put64(f, IDT_AT + 16u * vector,
	      (a & 0xffff) | UINT64_C(0x10) << 16 | (UINT64_C(0x8e00) | dpl << 13) << 32 |
		      (a >> 16 & 0xffff) << 48);
	put64(f, IDT_AT + 16u * vector + 8, a >> 32);
}

/* The first 2 MiB are the kernel's; the rest of the first GiB is the user's but for its last page.
 */
static void put_tables(struct fix *f)
{
	static const uint64_t gdt[] = {0,
				       0,
				       UINT64_C(0x00af9b000000ffff),
				       UINT64_C(0x00cf93000000ffff),
				       0,
				       UINT64_C(0x00cff3000000ffff),
				       UINT64_C(0x00affb000000ffff),
				       TSS_AT << 16 | UINT64_C(0x8900) << 32 | 0x67,
				       0};

	put64(f, PML4_AT, 0x2007);
	put64(f, 0x2000, 0x3007);
	put64(f, 0x3000, 0x83);
	for (uint64_t i = 1; i < 511; i++)
		put64(f, 0x3000 + 8 * i, i << 21 | 0x87);
	put(f, GDT_AT, gdt, sizeof(gdt));
	put64(f, TSS_AT + 4, STACK_TOP);
	put_gate(f, 3, kernel_bp, 0);
	put_gate(f, 14, kernel_pf, 0);
	put(f, KERNEL_AT, kernel_begin, (size_t)(kernel_end - kernel_begin));
	put(f, USER_AT, user_begin, (size_t)(user_end - user_begin));
}

static void build(struct fix *f, bool complement)
{
	struct vm_entry e = {
		.long_mode = true,
		.rip = KERNEL_AT,
		.rsp = STACK_TOP,
		.cr3 = PML4_AT,
		.gdt = {GDT_AT},
		.gdt_limit = 9 * 8 - 1,
	};
	struct lb_err err = {0};

	memset(f, 0, sizeof(*f));
	f->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	f->cfg.ram_bytes = 16 << 20;
	f->cfg.complement = complement;
	f->cfg.tick_stretch = complement ? 10 : 0;
	kvm_guest_init(&f->g, &f->cfg);
	if (vm_build(&f->vm, lb_env_real(), &f->cfg, &err) != 0)
		fail_msg("%s", err.msg);
	put_tables(f);
	if (vm_enter(f->vm, &e, &err) != 0)
		fail_msg("%s", err.msg);
}

static void setup(struct fix *f, bool complement)
{
	struct lb_err err = {0};

	build(f, complement);
	if (vm_start(f->vm, &err) != 0)
		fail_msg("%s", err.msg);
}

static void teardown(struct fix *f)
{
	vm_destroy(f->vm);
	kvm_guest_fini(&f->g);
	free(f);
}

static struct fix *new_fix(void)
{
	struct fix *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	return f;
}

static void test_completes(void **state)
{
	struct vm_complement_stats s;
	struct fix *f = new_fix();

	(void)state;
	setup(f, true);
	kvm_guest_wait_serial(&f->g, "SD");
	assert_string_equal(f->g.serial, "FBbS1PS2S3PSD");
	vm_stop(f->vm);
	vm_complement_stats(f->vm->complement, &s);
	assert_int_equal(s.fwait, 1);
	assert_int_equal(s.int3, 1);
	assert_int_equal(s.syscalls, 4);
	assert_int_equal(s.page_faults, 2);
	teardown(f);
}

static void test_without_it_the_guest_ends(void **state)
{
	struct fix *f = new_fix();

	(void)state;
	setup(f, false);
	kvm_guest_wait_event(&f->g, VM_EVENT_FAULT, 1);
	assert_non_null(strstr(f->g.fault, "cannot emulate the instruction 9b"));
	assert_string_equal(f->g.serial, "");
	teardown(f);
}

/* The breakpoint belongs to the process: it must be there again after every stop. */
static void test_pause_rearms(void **state)
{
	struct kvm_guest_debug off = {0};
	struct fix *f = new_fix();
	struct lb_err err = {0};

	(void)state;
	setup(f, true);
	kvm_guest_wait_serial(&f->g, "S1");
	assert_int_equal(vm_pause(f->vm, UINT64_C(10000000000), &err), 0);
	assert_int_equal(ioctl(f->vm->vcpus[0].fd, KVM_SET_GUEST_DEBUG, &off), 0);
	assert_int_equal(vm_resume(f->vm, &err), 0);
	kvm_guest_wait_serial(&f->g, "SD");
	assert_string_equal(f->g.serial, "FBbS1PS2S3PSD");
	teardown(f);
}

static uint64_t kernel_address(const char *p)
{
	return KERNEL_AT + (uint64_t)(p - kernel_begin);
}

/* As after a restore: the kernel is set up, and the next instruction is the user's. */
static void enter_user(struct fix *f)
{
	int fd = f->vm->vcpus[0].fd;
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry e[3];
	} msrs = {.nmsrs = 3,
		  .e = {{.index = 0xc0000081, .data = UINT64_C(0x0020001000000000)},
			{.index = 0xc0000082, .data = kernel_address(kernel_syscall)},
			{.index = 0xc0000084, .data = 0x700}}};
	struct kvm_regs r = {.rip = USER_AT, .rsp = 0x500000, .rflags = 2};
	struct kvm_sregs s;

	assert_int_equal(ioctl(fd, KVM_GET_SREGS, &s), 0);
	s.idt.base = IDT_AT;
	s.idt.limit = 0xfff;
	s.tr = (struct kvm_segment){
		.base = TSS_AT, .limit = 0x67, .selector = 0x38, .type = 11, .present = 1};
	s.cs.selector = 0x33;
	s.cs.dpl = 3;
	s.ss.selector = 0x2b;
	s.ss.dpl = 3;
	s.efer |= 1;
	assert_int_equal(ioctl(fd, KVM_SET_SREGS, &s), 0);
	assert_int_equal(ioctl(fd, KVM_SET_REGS, &r), 0);
	assert_int_equal(ioctl(fd, KVM_SET_MSRS, &msrs), 3);
}

/* A thread that finds nothing to wait for runs the guest at once: it must arm before. */
static void test_armed_before_the_first_entry(void **state)
{
	struct fix *f = new_fix();
	struct lb_err err = {0};

	(void)state;
	build(f, true);
	enter_user(f);
	assert_int_equal(vm_vcpus_start(f->vm, &err), 0);
	kvm_guest_wait_serial(&f->g, "SD");
	assert_string_equal(f->g.serial, "S1PS2S3PSD");
	teardown(f);
}

static void test_refused(void **state)
{
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	struct lb_err err = {0};
	struct vm *vm = NULL;

	(void)state;
	cfg.ram_bytes = 16 << 20;
	cfg.complement = true;
	cfg.vcpus = 2;
	assert_int_equal(vm_build(&vm, lb_env_real(), &cfg, &err), LB_EINPUT);
	cfg.vcpus = 1;
	cfg.complement = false;
	cfg.tick_stretch = 2;
	assert_int_equal(vm_build(&vm, lb_env_real(), &cfg, &err), LB_EINPUT);
	cfg.complement = true;
	if (host->kind == VM_KVM_EMULATING)
		return;
	assert_int_equal(vm_build(&vm, lb_env_real(), &cfg, &err), LB_EUNSUPPORTED);
}

int main(void)
{
	static const struct CMUnitTest emulating[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_completes),
		cmocka_unit_test(test_without_it_the_guest_ends),
		cmocka_unit_test(test_pause_rearms),
		cmocka_unit_test(test_armed_before_the_first_entry),
	};
	static const struct CMUnitTest native[] = {
		cmocka_unit_test(test_refused),
	};

	host = kvm_guest_main(50);
	if (host->kind == VM_KVM_EMULATING)
		return cmocka_run_group_tests(emulating, NULL, NULL);
	return cmocka_run_group_tests(native, NULL, NULL);
}
