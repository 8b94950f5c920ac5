/*
 * vmcore/src/x86_state.h - what KVM keeps of a machine, read into bytes and put back.
 *
 * Order matters; it is that of docs/formats/vmstate.md. Reading: MP_STATE first (it lets a pending
 * INIT or SIPI take effect), VCPU_EVENTS last. Putting back: LAPIC after SREGS (which sets its
 * base), TSC_DEADLINE after TSC, VCPU_EVENTS last.
 *
 * KVM's structures are stored as they are, each with its length: they are ABI of Linux on x86-64,
 * frozen by the kernel, and have no second representation. What comes back is foreign: lengths are
 * compared with the structures, MSRs with a list, and what KVM refuses is LB_EUNSUPPORTED or
 * LB_ECORRUPT with the name of the call.
 *
 * Thread: no vCPU runs.
 */
#ifndef VMCORE_X86_STATE_H
#define VMCORE_X86_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rd.h"
#include "base/wr.h"

struct lb_err;

enum {
	VM_MSRS_MAX = 512,
	VM_XSAVE_MAX_BYTES = 64 << 10,
	VM_VCPU_STATE_MAX_BYTES = VM_XSAVE_MAX_BYTES + VM_MSRS_MAX * 12 + 4096,
	VM_CHIPS_STATE_MAX_BYTES = 4096
};

struct vm_x86 {
	uint32_t msrs[VM_MSRS_MAX]; /* that this KVM saves and restores, and the MTRRs */
	uint32_t msr_count;
	uint32_t xsave_bytes;
	uint32_t tsc_khz;
	bool pit; /* in the kernel */
};

/* How far clocks move between save and load. */
struct vm_x86_shift {
	uint64_t ns;
};

/* Ask KVM what there is. @vm_fd has an interrupt controller. */
int vm_x86_init(struct vm_x86 *x, int kvm_fd, int vm_fd, bool pit, struct lb_err *err);

int vm_x86_save_vcpu(const struct vm_x86 *x, struct lb_wr *wr, int vcpu_fd, struct lb_err *err);
int vm_x86_load_vcpu(const struct vm_x86 *x, struct lb_rd *rd, int vcpu_fd,
		     struct vm_x86_shift shift, struct lb_err *err);
/* PIC, IOAPIC, PIT, and the clock of KVMCLOCK. */
int vm_x86_save_chips(const struct vm_x86 *x, struct lb_wr *wr, int vm_fd, struct lb_err *err);
int vm_x86_load_chips(const struct vm_x86 *x, struct lb_rd *rd, int vm_fd,
		      struct vm_x86_shift shift, struct lb_err *err);
/* Tell the guest's watchdogs that it was stopped; vCPUs without kvmclock do not mind. */
void vm_x86_was_stopped(int vcpu_fd);

#endif
