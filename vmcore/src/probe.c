#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/thread.h"
#include "cpu_int.h"
#include "kvm.h"
#include "uffd.h"
#include "vmcore/host.h"

#define MSR_TSC 0x10u

/* A guest of 16 pages: identity map at 0x1000, code at 0x4000. */
#define GUEST_BYTES 0x10000u
#define GUEST_CODE  0x4000u
#define GUEST_TSC   (UINT64_C(1) << 40)

/* No native processor needs that long for a loop in cache, no emulator is that fast. */
#define EMULATOR_MIPS 50.0
#define RUNS          3

struct probe {
	int kvm_fd, vm_fd, vcpu_fd;
	size_t run_bytes;
	uint8_t *mem;
	struct kvm_run *run;
};

static void fill_guest(uint8_t *mem)
{
	/* 1: dec %rcx; jnz 1b; rdtsc; out %al,$0x80 */
	static const uint8_t code[] = {0x48, 0xff, 0xc9, 0x75, 0xfb, 0x0f, 0x31, 0xe6, 0x80};
	const uint64_t pml4 = 0x2003, pdpt = 0x3003, pd = 0x83;

	memcpy(mem + 0x1000, &pml4, sizeof(pml4));
	memcpy(mem + 0x2000, &pdpt, sizeof(pdpt));
	memcpy(mem + 0x3000, &pd, sizeof(pd));
	memcpy(mem + GUEST_CODE, code, sizeof(code));
}

static int probe_open(struct probe *p, struct lb_err *err)
{
	struct kvm_userspace_memory_region slot = {.memory_size = GUEST_BYTES};
	int rc = p->kvm_fd >= 0 ? 0 : vm_kvm_open(&p->kvm_fd, err);

	if (rc == 0)
		rc = VM_KVM(p->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, err);
	if (rc < 0)
		return rc;
	p->run_bytes = (size_t)rc;
	rc = p->vm_fd = VM_KVM(p->kvm_fd, KVM_CREATE_VM, NULL, err);
	if (rc >= 0)
		rc = p->vcpu_fd = VM_KVM(p->vm_fd, KVM_CREATE_VCPU, NULL, err);
	if (rc < 0)
		return rc;
	p->run = mmap(NULL, p->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu_fd, 0);
	p->mem =
		mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->run == MAP_FAILED || p->mem == MAP_FAILED)
		return lb_err_errno(err, errno, "memory of the probe");
	fill_guest(p->mem);
	slot.userspace_addr = (uintptr_t)p->mem;
	rc = VM_KVM(p->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot, err);
	return rc < 0 ? rc : 0;
}

static void probe_close(struct probe *p)
{
	if (p->mem != MAP_FAILED)
		(void)munmap(p->mem, GUEST_BYTES);
	if (p->run != MAP_FAILED)
		(void)munmap(p->run, p->run_bytes);
	if (p->vcpu_fd >= 0)
		(void)close(p->vcpu_fd);
	if (p->vm_fd >= 0)
		(void)close(p->vm_fd);
	if (p->kvm_fd >= 0)
		(void)close(p->kvm_fd);
}

static int long_mode(struct probe *p, struct lb_err *err)
{
	struct kvm_sregs s;
	int rc = VM_KVM(p->vcpu_fd, KVM_GET_SREGS, &s, err);

	if (rc < 0)
		return rc;
	s.cs = (struct kvm_segment){.limit = UINT32_MAX,
				    .selector = 0x10,
				    .type = 11,
				    .present = 1,
				    .s = 1,
				    .l = 1,
				    .g = 1};
	s.ss = s.ds = s.es = s.fs = s.gs = (struct kvm_segment){.limit = UINT32_MAX,
								.selector = 0x18,
								.type = 3,
								.present = 1,
								.db = 1,
								.s = 1,
								.g = 1};
	s.cr3 = 0x1000;
	s.cr4 = 1u << 5;
	s.cr0 = 0x80000011;
	s.efer = 1u << 8 | 1u << 10;
	rc = VM_KVM(p->vcpu_fd, KVM_SET_SREGS, &s, err);
	return rc < 0 ? rc : 0;
}

/* Nanoseconds for @loops turns of the loop; 0: the guest did not come to its end. */
static uint64_t loop_ns(struct probe *p, uint64_t loops, uint64_t *tsc)
{
	struct kvm_regs r = {.rip = GUEST_CODE, .rcx = loops, .rflags = 2};
	uint64_t begin;

	if (ioctl(p->vcpu_fd, KVM_SET_REGS, &r) != 0)
		return 0;
	begin = lb_monotonic_ns();
	if (ioctl(p->vcpu_fd, KVM_RUN, 0) != 0 || p->run->exit_reason != KVM_EXIT_IO)
		return 0;
	begin = lb_monotonic_ns() - begin;
	if (ioctl(p->vcpu_fd, KVM_GET_REGS, &r) != 0)
		return 0;
	*tsc = (r.rdx << 32) | (r.rax & UINT32_MAX);
	return begin;
}

/* The quickest of a few runs: one that lost the processor in the middle says nothing of KVM. */
static uint64_t best_loop_ns(struct probe *p, uint64_t loops)
{
	uint64_t best = 0, tsc;

	for (int i = 0; i < RUNS; i++) {
		uint64_t ns = loop_ns(p, loops, &tsc);

		if (ns != 0 && (best == 0 || ns < best))
			best = ns;
	}
	return best;
}

static void measure(struct probe *p, struct vm_host *out)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry one;
	} set = {.nmsrs = 1, .one = {.index = MSR_TSC, .data = GUEST_TSC}};
	uint64_t loops = 1000, tsc = 0, ns;

	(void)ioctl(p->vcpu_fd, KVM_SET_MSRS, &set);
	ns = loop_ns(p, loops, &tsc);
	out->tsc_offset = ns != 0 && tsc >= GUEST_TSC && tsc - GUEST_TSC < GUEST_TSC / 16;
	ns = best_loop_ns(p, loops);
	if (ns != 0 && ns < 300000) { /* the exit outweighs the loop */
		loops = 1000000;
		ns = best_loop_ns(p, loops);
	}
	if (ns == 0)
		return;
	out->ring0_mips = 2 * (double)loops * 1000 / (double)ns;
	out->kind = out->ring0_mips < EMULATOR_MIPS ? VM_KVM_EMULATING : VM_KVM_NATIVE;
}

void vm_cpu_model(char out[49])
{
	uint32_t part[12] = {0};

	memset(out, 0, 49);
	for (size_t i = 0; i < 3; i++)
		(void)__get_cpuid(0x80000002 + (uint32_t)i, &part[4 * i], &part[4 * i + 1],
				  &part[4 * i + 2], &part[4 * i + 3]);
	memcpy(out, part, sizeof(part));
	for (size_t i = 0; i < 48 && out[i] != '\0'; i++)
		if (out[i] < ' ' || out[i] > '~')
			out[i] = '?';
}

static bool intel(void)
{
	uint32_t a = 0, b = 0, c = 0, d = 0;

	return __get_cpuid(0, &a, &b, &c, &d) != 0 && b == signature_INTEL_ebx;
}

static void describe(struct vm_host *out, const struct lb_err *err)
{
	switch (out->kind) {
	case VM_KVM_NONE:
		(void)snprintf(out->detail, sizeof(out->detail), "%.90s%s%s",
			       err->code != 0 ? err->msg : "the probe's guest does not run",
			       err->sys_errno != 0 ? ": " : "",
			       err->sys_errno != 0 ? strerrordesc_np(err->sys_errno) : "");
		break;
	case VM_KVM_NATIVE:
		(void)snprintf(out->detail, sizeof(out->detail), "%s: %.0f MIPS in ring 0",
			       intel() ? "VMX" : "SVM", out->ring0_mips);
		break;
	case VM_KVM_EMULATING:
		(void)snprintf(out->detail, sizeof(out->detail), "emulates ring 0: %.1f MIPS there",
			       out->ring0_mips);
		break;
	}
}

/* Takes @kvm_fd; -1: by name. */
static void probe(struct vm_host *out, int kvm_fd)
{
	struct probe p = {kvm_fd, -1, -1, 0, MAP_FAILED, MAP_FAILED};
	struct lb_err err = {0};
	int khz;

	*out = (struct vm_host){.kind = VM_KVM_NONE};
	vm_cpu_model(out->cpu_model);
	out->userfault = vm_uffd_works();
	if (probe_open(&p, &err) == 0 && long_mode(&p, &err) == 0)
		measure(&p, out);
	if (out->kind != VM_KVM_NONE && vm_kvm_require(p.kvm_fd, &err) != 0)
		out->kind = VM_KVM_NONE;
	if (out->kind != VM_KVM_NONE) {
		khz = ioctl(p.vcpu_fd, KVM_GET_TSC_KHZ, 0);
		out->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
		out->smm = vm_kvm_cap(p.vm_fd, KVM_CAP_X86_SMM) > 0;
		out->dirty_protect = vm_kvm_cap(p.vm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0;
		out->vcpus_max = (unsigned)vm_kvm_cap(p.vm_fd, KVM_CAP_MAX_VCPUS);
	}
	describe(out, &err);
	probe_close(&p);
}

void vm_probe(struct vm_host *out)
{
	probe(out, -1);
}

void vm_probe_kvm(struct vm_host *out, int kvm_fd)
{
	probe(out, fcntl(kvm_fd, F_DUPFD_CLOEXEC, 0));
}

const char *vm_kvm_kind_name(enum vm_kvm_kind k)
{
	static const char *const names[] = {"none", "native", "emulating"};

	return names[k];
}
