/*
 * vmcore/src/vmgenid.h - the virtual machine generation ID: "you have been here before".
 *
 * 128 random bits that change whenever a machine goes on from a checkpoint, and that the guest is
 * told of (ACPI notify 0x80 of \_SB.VGEN through GPE 0): its random number generator and its
 * databases then know that another copy of them may have lived on. Microsoft, "Virtual Machine
 * Generation ID"; Linux drivers/virt/vmgenid.c.
 *
 * It lies in the last page of low memory, which every memory map gives as reserved: one address
 * for firmware and direct boot, part of pc1 and frozen.
 */
#ifndef VMCORE_VMGENID_H
#define VMCORE_VMGENID_H

#include <stdint.h>

#include "mem.h"

struct lb_err;
struct vm_board;
struct vm_pm;

enum {
	VM_GENID_BYTES = 16,
	VM_GENID_GPE = 0
};

static inline struct vm_gpa vm_genid_gpa(const struct vm_mem *m)
{
	return (struct vm_gpa){m->low_bytes - VM_PAGE_BYTES};
}

/* Registered as "vmgenid"; @pm is borrowed and must be registered before it. */
int vm_genid_create(struct vm_board *b, struct vm_pm *pm, struct lb_err *err);

#endif
