/*
 * vmcore/src/pager.h - lazy restore: memory comes from a device while the guest runs.
 *
 *   fault ──► fetch its 64 KiB batch ──► UFFDIO_COPY wakes who waits
 *   no fault: the batches of .order, then all others in ascending order; at the end the range is
 *             ordinary memory and the thread ends
 *
 * Who waits may be a vCPU, a device's thread or the controlling thread, with or without the board's
 * lock; the pager takes no lock of theirs.
 *
 * The source fails: .lost of the memory is set, the machine is ended with VM_EVENT_PAGER_LOST
 * (vCPUs are out or on their way out and will not enter again), then whoever waits gets zeros. What
 * devices would send of them is stopped by vm_mem_settle().
 */
#ifndef VMCORE_PAGER_H
#define VMCORE_PAGER_H

#include <stddef.h>
#include <stdint.h>

struct img_dev;
struct lb_err;
struct vm_mem;
struct vm_pager;

#define VM_BATCH_BYTES (UINT64_C(64) << 10)

struct vm_pager_cfg {
	struct vm_mem *mem;  /* a fresh memfd, untouched */
	struct img_dev *ram; /* of mem->volume_bytes */
	int uffd;            /* of uffd.h, borrowed during create; -1: one is made */
	const uint32_t *order;
	size_t order_count; /* entries outside the volume are ignored */
	/* On the pager's thread, once. */
	void (*lost)(void *arg, const char *text);
	void *arg;
};

/* Errors: LB_EUNSUPPORTED (no userfaultfd), LB_ENOMEM. */
int vm_pager_create(struct vm_pager **out, const struct vm_pager_cfg *cfg, struct lb_err *err);
/* Ends the thread; nobody waits for pages any more. NULL is allowed. */
void vm_pager_destroy(struct vm_pager *p);
/* Pages not fetched yet. NULL: 0. Any thread. */
uint64_t vm_pager_left(const struct vm_pager *p);
/* Batches in the order in which they were fetched because somebody touched them. */
size_t vm_pager_order(struct vm_pager *p, uint32_t *out, size_t cap);

#endif
