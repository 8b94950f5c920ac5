/*
 * vmcore/host.h - what this host's KVM is and can do, found by measurement, and CPU templates.
 *
 * Three kinds of KVM: VMX and SVM run all guest code on the processor. An emulating one (kvm_pvm)
 * runs only ring 3 natively and the guest's kernel and firmware through an instruction emulator at
 * about 1.5 MIPS; it ignores TSC offsets and lacks instructions that Linux kernels use. The
 * scheduler sends Linux machines of such a host to QEMU. Nothing in this library asks for the kind
 * except vm_probe()'s callers and the test-only complement: devices never know.
 *
 * A CPU template is what guests may see of the processor: the intersection of the hosts a machine
 * may run on, agreed when it is put under protection, checked before every restore, never found out
 * at failover. Intel SDM vol. 2A CPUID; KVM api.rst 4.46, 4.20.
 */
#ifndef VMCORE_HOST_H
#define VMCORE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;

enum vm_kvm_kind {
	VM_KVM_NONE,      /* no /dev/kvm, or it may not be opened */
	VM_KVM_NATIVE,    /* VMX or SVM: guest kernels at full speed */
	VM_KVM_EMULATING, /* ring 0 through an emulator */
};

struct vm_host {
	enum vm_kvm_kind kind;
	char detail[96];   /* for people: "VMX", "pvm: 1.5 MIPS in ring 0", "/dev/kvm: no such file"
			    */
	double ring0_mips; /* measured with a ring-0 loop of about a millisecond; 0: no KVM */
	bool tsc_offset;   /* guests see the TSC they were given */
	bool smm;
	bool userfault;     /* lazy restore works */
	bool dirty_protect; /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	unsigned vcpus_max;
	uint32_t tsc_khz;
	char cpu_model[49];
};

/* Measure. Takes a few milliseconds; the answer does not change while the host is up. Never fails:
 * what is missing is said in @out. */
void vm_probe(struct vm_host *out);
const char *vm_kvm_kind_name(enum vm_kvm_kind k); /* "none", "native", "emulating" */

/* ---- CPU template ---- */

struct vm_cpuid {
	uint32_t leaf, subleaf, flags; /* flags: 1 = the subleaf matters */
	uint32_t eax, ebx, ecx, edx;
};
enum {
	VM_CPUID_MAX = 100,
	VM_CPU_MAX_BYTES = 4096 /* of an encoded template */
};
struct vm_cpu {
	uint32_t count;
	struct vm_cpuid leaf[VM_CPUID_MAX]; /* ascending (leaf, subleaf) */
};

/* What this host's KVM can give a guest, without what a checkpoint could not carry to another host
 * (steal time, async page faults, PMU, AMX and AVX-512 state, invariant TSC). Errors:
 * LB_EUNSUPPORTED (no KVM), LB_EIO. */
int vm_cpu_of_host(struct vm_cpu *out, struct lb_err *err);
/* The features of both. Errors: LB_EUNSUPPORTED when the vendors differ (names both). */
int vm_cpu_intersect(struct vm_cpu *out, const struct vm_cpu *a, const struct vm_cpu *b,
		     struct lb_err *err);
/* May a machine with template @need run on a host that can give @have? LB_EUNSUPPORTED naming the
 * missing features ("avx2, movbe"). */
int vm_cpu_check(const struct vm_cpu *need, const struct vm_cpu *have, struct lb_err *err);
/* docs/formats/vmstate.md. Returns bytes written; 0: @cap is too small. */
size_t vm_cpu_encode(uint8_t *out, size_t cap, const struct vm_cpu *c);
int vm_cpu_decode(struct vm_cpu *out, const void *p, size_t len, struct lb_err *err);

#endif
