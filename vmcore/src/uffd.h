/*
 * vmcore/src/uffd.h - user faults: a thread of ours fills pages when they are first touched.
 *
 * KVM touches guest memory from inside the kernel; that such faults reach us is a privilege
 * (CAP_SYS_PTRACE, vm.unprivileged_userfaultfd, or access to /dev/userfaultfd). So the descriptor
 * is made before a program gives its privileges up. [Linux admin-guide/mm/userfaultfd.rst]
 */
#ifndef VMCORE_UFFD_H
#define VMCORE_UFFD_H

#include <stdbool.h>

struct lb_err;

/* A descriptor of user faults with missing pages of memfds and private memory, non-blocking.
 * Errors: LB_EUNSUPPORTED. */
int vm_uffd_open(int *out, struct lb_err *err);
bool vm_uffd_works(void);

#endif
