#include "complement.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "base/rd.h"
#include "cpu_int.h"
#include "mem.h"
#include "vmcore/host.h"

#define MSR_LSTAR 0xc0000082u

enum {
	VECTOR_BP = 3,
	VECTOR_PF = 14,
	GATE_BYTES = 16,
	DR7_ENABLE_0 = 0x402, /* global, execution, breakpoint 0 */
	CPUIDS_MAX = 256,
	/* Exits between two looks whether the gate has moved: a kernel sets its gates and LSTAR up
	 * once, long before userspace, and speaks on the console in between. */
	LOOK_EVERY = 64
};

#define RFLAGS_RF (UINT64_C(1) << 16)
#define RFLAGS_DF (UINT64_C(1) << 10)

struct vm_complement {
	int vcpu_fd;
	struct vm_mem *mem;
	uint64_t lstar, gate; /* the breakpoint's; 0: not armed */
	unsigned exits;
	struct vm_complement_stats stats;
};

/* ---- CPUID ---- */

struct cpuid_list {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entry[CPUIDS_MAX];
};

static const struct {
	uint32_t ecx, edx; /* of leaf 1: what stays, what goes */
} leaf_1 = {
	.ecx = 1u << 0 | 1u << 30,                                 /* SSE3, RDRAND */
	.edx = 1u << 28 | 1u << 14 | 1u << 12 | 1u << 7 | 1u << 1, /* HTT MCA MTRR MCE VME */
};

/* False: the leaf is left out. */
static bool reduce(struct kvm_cpuid_entry2 *e)
{
	switch (e->function) {
	case 0:
		e->eax = 0x16;
		return true;
	case 1:
		e->ebx = (e->ebx & 0xff00) | 1u << 16;
		e->ecx &= leaf_1.ecx;
		e->edx &= ~leaf_1.edx;
		return true;
	case 6:
	case 0xa:
	case 0xd:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		return true;
	case 0x80000001:
		e->ecx &= 1;
		e->edx &= ~(1u << 27); /* RDTSCP */
		return true;
	case 2:
	case 4:
		return true;
	default:
		return e->function >= 0x80000000;
	}
}

static int set_cpuid(int kvm_fd, int vcpu_fd, struct lb_err *err)
{
	struct cpuid_list *list = calloc(1, sizeof(*list));
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0), rc = 0;
	uint32_t n = 0;

	if (list == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "CPUID");
	list->nent = CPUIDS_MAX - 2;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, list) != 0) {
		rc = lb_err_errno(err, errno, "KVM_GET_SUPPORTED_CPUID");
		goto out;
	}
	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 e = list->entry[i];

		if (reduce(&e))
			list->entry[n++] = e;
	}
	if (khz <= 0) {
		rc = lb_err_set(err, LB_EUNSUPPORTED, 0, "KVM does not know the TSC's frequency");
		goto out;
	}
	/* A crystal of 25 MHz times ebx/eax. */
	list->entry[n++] = (struct kvm_cpuid_entry2){
		.function = 0x15, .eax = 25, .ebx = (uint32_t)khz / 1000, .ecx = 25000000};
	list->entry[n++] = (struct kvm_cpuid_entry2){.function = 0x16,
						     .eax = (uint32_t)khz / 1000,
						     .ebx = (uint32_t)khz / 1000,
						     .ecx = 100};
	list->nent = n;
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, list) != 0)
		rc = lb_err_errno(err, errno, "KVM_SET_CPUID2");
out:
	free(list);
	return rc;
}

/* ---- the guest's registers and memory ---- */

/* Bytes at a linear address; false: not mapped, or not RAM. */
static bool read_linear(struct vm_complement *c, void *to, uint64_t at, size_t len)
{
	uint8_t *p = to;

	while (len > 0) {
		struct kvm_translation t = {.linear_address = at};
		size_t n = VM_PAGE_BYTES - (at % VM_PAGE_BYTES);

		n = n < len ? n : len;
		if (ioctl(c->vcpu_fd, KVM_TRANSLATE, &t) != 0 || !t.valid ||
		    !vm_mem_read(c->mem, p, (struct vm_gpa){t.physical_address}, n))
			return false;
		p += n;
		at += n;
		len -= n;
	}
	return true;
}

static uint64_t read_msr(const struct vm_complement *c, uint32_t index)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry one;
	} m = {.nmsrs = 1, .one = {.index = index}};

	return ioctl(c->vcpu_fd, KVM_GET_MSRS, &m) == 1 ? m.one.data : 0;
}

/* ---- the breakpoint on the #PF gate ---- */

void vm_complement_arm(struct vm_complement *c)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};
	uint64_t lstar = read_msr(c, MSR_LSTAR), low, high, gate;
	uint8_t bytes[GATE_BYTES];
	struct kvm_sregs s;
	struct lb_rd rd;

	if (lstar == 0 || ioctl(c->vcpu_fd, KVM_GET_SREGS, &s) != 0 ||
	    !read_linear(c, bytes, s.idt.base + (uint64_t)VECTOR_PF * GATE_BYTES, sizeof(bytes)))
		return;
	rd = lb_rd_init(bytes, sizeof(bytes));
	low = lb_rd_u64le(&rd);
	high = lb_rd_u64le(&rd);
	gate = (low & 0xffff) | (low >> 32 & 0xffff0000) | high << 32;
	d.arch.debugreg[0] = gate;
	d.arch.debugreg[7] = DR7_ENABLE_0;
	if (ioctl(c->vcpu_fd, KVM_SET_GUEST_DEBUG, &d) != 0)
		return;
	c->gate = gate;
	c->lstar = lstar;
}

/* What the processor pushed on the way into the gate. */
struct fault_frame {
	uint64_t error, rip, cs, rflags, rsp, ss;
};

static bool is_syscall(struct vm_complement *c, const struct kvm_regs *r, struct fault_frame *f)
{
	struct kvm_sregs s;

	return read_linear(c, f, r->rsp, sizeof(*f)) && f->rip == c->lstar && (f->cs & 3) == 3 &&
	       ioctl(c->vcpu_fd, KVM_GET_SREGS, &s) == 0 && s.cr2 == c->lstar;
}

/* Do the first instruction of the gate by hand: endbr64, one of the no-operations, or cld. */
static bool step_over(struct kvm_regs *r, const uint8_t code[4])
{
	if (memcmp(code, "\xf3\x0f\x1e\xfa", 4) == 0) {
		r->rip += 4;
	} else if (memcmp(code, "\x0f\x1f\x00", 3) == 0) {
		r->rip += 3;
	} else if (code[0] == 0x90) {
		r->rip += 1;
	} else if (code[0] == 0xfc) {
		r->rip += 1;
		r->rflags &= ~RFLAGS_DF;
	} else {
		return false;
	}
	return true;
}

static bool on_breakpoint(struct vm_complement *c)
{
	struct fault_frame f;
	struct kvm_regs r;
	uint8_t code[4];

	if (ioctl(c->vcpu_fd, KVM_GET_REGS, &r) != 0 || r.rip != c->gate)
		return false;
	if (is_syscall(c, &r, &f)) {
		r.rip = c->lstar;
		r.rsp = f.rsp;
		r.rflags = f.rflags & ~RFLAGS_RF;
		c->stats.syscalls++;
	} else {
		if (!read_linear(c, code, r.rip, sizeof(code)) || !step_over(&r, code))
			return false;
		c->stats.page_faults++;
	}
	return ioctl(c->vcpu_fd, KVM_SET_REGS, &r) == 0;
}

/* ---- instructions the emulator lacks ---- */

static bool inject_breakpoint(const struct vm_complement *c)
{
	struct kvm_vcpu_events e;

	if (ioctl(c->vcpu_fd, KVM_GET_VCPU_EVENTS, &e) != 0)
		return false;
	e.exception.injected = 1;
	e.exception.nr = VECTOR_BP;
	e.exception.has_error_code = 0;
	e.exception.pending = 0;
	return ioctl(c->vcpu_fd, KVM_SET_VCPU_EVENTS, &e) == 0;
}

static bool on_emulation_failure(struct vm_complement *c)
{
	struct kvm_regs r;
	uint8_t op;

	if (ioctl(c->vcpu_fd, KVM_GET_REGS, &r) != 0 || !read_linear(c, &op, r.rip, 1) ||
	    (op != 0xcc && op != 0x9b))
		return false;
	r.rip++;
	if (ioctl(c->vcpu_fd, KVM_SET_REGS, &r) != 0)
		return false;
	if (op == 0x9b) {
		c->stats.fwait++;
		return true;
	}
	c->stats.int3++;
	return inject_breakpoint(c);
}

bool vm_complement_exit(struct vm_complement *c, const struct kvm_run *run)
{
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	    run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		return on_emulation_failure(c);
	if (run->exit_reason == KVM_EXIT_DEBUG)
		return on_breakpoint(c);
	if (++c->exits % LOOK_EVERY == 0)
		vm_complement_arm(c);
	return false;
}

void vm_complement_stats(const struct vm_complement *c, struct vm_complement_stats *out)
{
	*out = c->stats;
}

int vm_complement_create(struct vm_complement **out, int kvm_fd, int vcpu_fd, struct vm_mem *mem,
			 struct lb_err *err)
{
	struct vm_complement *c;
	struct vm_host host;
	int rc;

	vm_probe_kvm(&host, kvm_fd);
	if (host.kind != VM_KVM_EMULATING)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "complement: for tests on an emulating KVM; this one: %s",
				  host.detail);
	rc = set_cpuid(kvm_fd, vcpu_fd, err);
	if (rc != 0)
		return rc;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "complement");
	c->vcpu_fd = vcpu_fd;
	c->mem = mem;
	*out = c;
	return 0;
}

void vm_complement_destroy(struct vm_complement *c)
{
	free(c);
}
