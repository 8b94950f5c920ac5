/*
 * vmcore/cut.h - one instant of a running machine, and getting one back.
 *
 *   vm_cut_hold ─► vm_cut_take ─► vm_cut_resume ─► read the cut ─► vm_cut_end(kept)
 *    vCPUs out,     devices, KVM    guest runs on                   kept: the next cut's changes
 *    disks gated    state, dirty                                    count from here; else they are
 *                   pages staged                                    folded into the next cut's
 *
 * Several machines of a group: hold all, take all, resume all. One cut is open at most. Between
 * hold and resume the guest stands still: bounded by the limit given, counted, reported.
 *
 * Staging: the first cut copies all memory that is not zero into a second memfd while the guest
 * runs (dirty log on), then again what changed, and the rest inside the pause. Later cuts copy just
 * the pages that KVM's log or this process's own writes name. So the staged image always is the
 * memory as of the open cut, costs one more copy of the RAM in use, and is read by whoever gets its
 * descriptor.
 *
 * Saved in this order: devices (saving may move a line), KVM_GET_DIRTY_LOG and clear of exactly
 * those bits, MP_STATE first, registers, LAPIC, MSRs, VCPU_EVENTS last, PIC, IOAPIC, PIT, clock.
 * Restored: CPUID, MP_STATE, registers, LAPIC after SREGS, MSRs with TSC_DEADLINE last, VCPU_EVENTS
 * last, then chips and clock. In-flight disk requests are recorded and done again, not drained
 * (blk.h).
 *
 * State bytes: docs/formats/vmstate.md. They are foreign input when they come back.
 */
#ifndef VMCORE_CUT_H
#define VMCORE_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmcore/vm.h"

struct lb_buf;

struct vm_cut {
	uint64_t seq;              /* of this machine, from 1 */
	uint64_t boot_ns, wall_ns; /* read before the first vCPU was stopped */
	uint64_t pause_ns;         /* hold to resume; known after vm_cut_resume() */
	struct lb_buf *state;      /* devices and processors; borrowed until end */
	int ram_fd;         /* staged image of the volume (vm_ram_volume_bytes), sealed; borrowed */
	uint64_t ram_bytes; /* of the volume */
	const uint64_t *changed; /* a bit a page that may differ from the last KEPT cut; borrowed */
	bool all_changed;        /* there is none: compare all */
	uint64_t changed_pages;
};

uint64_t vm_ram_volume_bytes(uint64_t ram_bytes);

/* First part of the first cut, while the guest runs; may take seconds. Idempotent, optional. */
int vm_cut_prepare(struct vm *vm, struct lb_err *err);
/* Called inside vm_cut_take() when the devices' state is saved and none of them may go on yet: the
 * disks' own marks, and what was sent so far belongs to cut @seq. The cut may fail all the same;
 * the next one has the same number then. */
typedef int (*vm_cut_mark_fn)(void *arg, uint64_t seq, struct lb_err *err);

int vm_cut_hold(struct vm *vm, uint64_t limit_ns, struct lb_err *err);
int vm_cut_take(struct vm *vm, struct vm_cut *out, vm_cut_mark_fn mark, /* may be NULL */
		void *arg, struct lb_err *err);
void vm_cut_resume(struct vm *vm,
		   struct vm_cut *cut);    /* also after a failed take; cut may be NULL */
void vm_cut_end(struct vm *vm, bool kept); /* no cut open: nothing */

/* ---- restore ---- */

enum vm_restore_mode {
	VM_RESTORE_EAGER,  /* all memory is read before create returns */
	VM_RESTORE_MAPPED, /* private mapping of .ram_fd, which never changes any more */
	VM_RESTORE_LAZY, /* userfaultfd: pages come from .ram as they are touched, then the rest */
};
enum vm_clock_policy {
	VM_CLOCK_ADVANCE, /* the guest's clocks jump to now: failover */
	VM_CLOCK_FROZEN,  /* they go on where they stood: drill */
};
struct vm_restore {
	const void *state; /* as vm_cut gave it */
	size_t state_bytes;
	enum vm_restore_mode mode;
	struct img_dev *ram; /* EAGER, LAZY: borrowed until destroy */
	int ram_fd;          /* MAPPED: borrowed during create */
	enum vm_clock_policy clock;
	/* LAZY: 64 KiB batches in the order of first touch of an earlier restore, fetched ahead;
	 * may be NULL. */
	const uint32_t *order;
	size_t order_count;
};
/* What a checkpoint needs to be built again, read from its state bytes: to fill a vm_cfg (RAM,
 * vCPUs, disks' buses, NICs' MACs) before vm_create. */
struct vm_state_info {
	uint64_t ram_bytes;
	unsigned vcpus;
	size_t disks, nics;
	enum vm_disk_bus bus[VM_DISKS_MAX];
	uint64_t disk_bytes[VM_DISKS_MAX];
	uint8_t mac[VM_NICS_MAX][6];
	struct vm_cpu cpu;
	struct lb_id uuid;
	uint64_t wall_ns;
};
int vm_state_peek(struct vm_state_info *out, const void *state, size_t len, struct lb_err *err);
/* LAZY: the order in which 64 KiB batches were touched so far; returns how many, at most @cap. */
size_t vm_restore_order(struct vm *vm, uint32_t *out, size_t cap);

/* A second machine that goes on from where paused @vm stands: both see private copies of its memory
 * from here. The fork's disks, NICs, events and (see vm_cfg) kernel are @cfg's. Errors: LB_EINVAL
 * (@vm is not paused), LB_EBUSY (a lazy restore still fetches its memory), LB_ETIMEDOUT (a reset of
 * it does not come to its end), those of vm_create(). */
int vm_fork(struct vm **out, struct vm *vm, const struct vm_cfg *cfg, struct lb_err *err);

#endif
