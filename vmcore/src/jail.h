/*
 * vmcore/src/jail.h - what lifeboat-vm gives up, in two steps.
 *
 *   1. before the first foreign byte (image, checkpoint, firmware, guest):
 *      no-new-privs; own uid and gid, no groups but that of /dev/kvm; Landlock: two device files
 *      kept until 2: opening /dev/kvm and a userfaultfd, which vm_create() does
 *   2. before the guest runs:
 *      root is an empty directory; no capability; Landlock: nothing; seccomp, all threads: no
 *      opening, no sockets, no exec, no signals to others, no executable memory
 *
 * After 2 a guest that breaks out holds: its own memory and descriptors (its disks, its tap), KVM
 * ioctls, memory allocation, time.
 */
#ifndef VMCORE_JAIL_H
#define VMCORE_JAIL_H

#include <stdint.h>

struct lb_err;

/* @uid, @gid 0: stay who we are (not root, or a test). *parts: enum vm_jail_part reached. Landlock
 * that the kernel lacks is no error; everything else is. */
int vm_jail_enter(uint32_t uid, uint32_t gid, uint32_t *parts, struct lb_err *err);
/* @root_fd: the empty directory, or -1. */
int vm_jail_close(int root_fd, uint32_t *parts, struct lb_err *err);

#endif
