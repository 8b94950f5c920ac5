/*
 * vmcore/src/cpu_int.h - CPU templates and KVM. host.h has the templates themselves.
 */
#ifndef VMCORE_CPU_INT_H
#define VMCORE_CPU_INT_H

#include "vmcore/host.h"

struct lb_err;

/* What KVM could give at all: the bound for a checkpoint's template. */
int vm_cpu_supported(struct vm_cpu *out, int kvm_fd, struct lb_err *err);
/* The same without what a checkpoint cannot carry. */
int vm_cpu_default(struct vm_cpu *out, int kvm_fd, struct lb_err *err);
bool vm_cpu_equal(const struct vm_cpu *a, const struct vm_cpu *b);
/* Into @c also the features of @other. */
void vm_cpu_unite(struct vm_cpu *c, const struct vm_cpu *other);
/* Give @c to processor @id of @count, with its own APIC id and topology. */
int vm_cpu_apply(int vcpu_fd, const struct vm_cpu *c, unsigned id, unsigned count,
		 struct lb_err *err);
/* What the guest will see: some KVMs put back what was masked. The processor's own parts (APIC id,
 * topology) are taken out again. */
int vm_cpu_read_back(struct vm_cpu *out, int vcpu_fd, struct lb_err *err);
/* This host's processor's name, printable. */
void vm_cpu_model(char out[49]);

/* vm_probe() over an open /dev/kvm. */
struct vm_host;
void vm_probe_kvm(struct vm_host *out, int kvm_fd);

#endif
