/*
 * vmcore/src/kvm.h - calls to KVM that say their name when they are refused.
 *
 * Thread: any. [Linux Documentation/virt/kvm/api.rst]
 */
#ifndef VMCORE_KVM_H
#define VMCORE_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;

/* KVM's own result (>= 0), or LB_EIO with @name; EINTR is tried again. */
int vm_kvm_call(int fd, unsigned long request, const void *arg, const char *name,
		struct lb_err *err);
/* The same for the calls whose argument is a number. */
int vm_kvm_call_number(int fd, unsigned long request, unsigned long value, const char *name,
		       struct lb_err *err);
#define VM_KVM_NUMBER(fd, request, value, err) vm_kvm_call_number(fd, request, value, #request, err)
#define VM_KVM(fd, request, arg, err)          vm_kvm_call(fd, request, arg, #request, err)

/* /dev/kvm, of API version 12. Errors: LB_EUNSUPPORTED (none, not ours to open, too old). */
int vm_kvm_open(int *out, struct lb_err *err);
/* What KVM says of capability @cap (0: has not). */
int vm_kvm_cap(int fd, int cap);
/* LB_EUNSUPPORTED naming the first capability that every machine needs and @kvm_fd has not. */
int vm_kvm_require(int kvm_fd, struct lb_err *err);

#endif
