/*
 * vmcore/src/complement.h - TEST ONLY: what an emulating KVM lacks to run a Linux kernel.
 *
 * On such a KVM (vm_probe(): VM_KVM_EMULATING) ring 0 runs in an instruction emulator that fails at
 * some instructions, and SYSCALL from ring 3 loads RIP, RCX, R11 and RFLAGS but leaves the
 * processor in ring 3. This completes them from outside, so that a stock kernel reaches userspace
 * on a test machine without hardware virtualisation. It is off unless vm_cfg.complement asks for
 * it, refused everywhere else, slow (every page fault of the guest leaves KVM), and one vCPU only.
 *
 *   int3          #BP is injected behind it
 *   fwait         skipped: no exception of the FPU is pending in a kernel
 *   SYSCALL       The fetch at LSTAR in ring 3 is a page fault. A debug breakpoint on the guest's
 *                 #PF gate (which costs nothing in the emulator) stops there; if the frame says
 *                 "ring 3, RIP = CR2 = LSTAR", the fault is undone into a proper entry: RIP =
 *                 LSTAR, RSP and RFLAGS as in the frame; the fault has loaded the kernel's CS and
 *                 SS already.
 *   other #PF     The breakpoint does not let RF pass: the gate's first instruction is done by
 *                 hand.
 *   CPUID         one processor without XSAVE, AVX, MTRR, KVM's own leaves and topology, and the
 *                 TSC's frequency in leaf 0x15, so that nothing is calibrated or paravirtualised.
 *                 This KVM ORs native bits back into leaf 1; the kernel's command line hides them
 *                 (noxsave clearcpuid=...).
 *
 * The breakpoint is state of this process, not of the guest: vm_complement_arm() before a vCPU
 * enters the guest for the first time and after every stop. While it is armed the guest's own debug
 * registers do nothing.
 *
 * Thread: create and destroy: no vCPU runs. The others: the vCPU's thread.
 */
#ifndef VMCORE_COMPLEMENT_H
#define VMCORE_COMPLEMENT_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_run;
struct lb_err;
struct vm_complement;
struct vm_mem;

/* Sets @vcpu_fd's CPUID, which must not have run yet. @mem is borrowed. Errors: LB_EUNSUPPORTED
 * (this KVM does not emulate), LB_EIO, LB_ENOMEM. */
int vm_complement_create(struct vm_complement **out, int kvm_fd, int vcpu_fd, struct vm_mem *mem,
			 struct lb_err *err);
void vm_complement_destroy(struct vm_complement *c);
void vm_complement_arm(struct vm_complement *c);
/* Called for every exit. True: it was one of ours, and the guest goes on. */
bool vm_complement_exit(struct vm_complement *c, const struct kvm_run *run);

struct vm_complement_stats {
	uint64_t int3, fwait, syscalls, page_faults;
};
void vm_complement_stats(const struct vm_complement *c, struct vm_complement_stats *out);

#endif
