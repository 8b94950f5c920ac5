/*
 * vmcore/src/acpi.h - ACPI tables of pc1: RSDP, RSDT and XSDT, FADT, FACS, MADT, DSDT.
 *
 * The tables are made once, position-independent: all pointers are offsets with a list of where
 * they stand, all checksums a list of ranges. Then they are
 *
 *   direct boot   linked at 0xE0000 in guest memory (a kernel scans it, and boot_params names it)
 *   firmware      handed over as fw_cfg files; SeaBIOS links them by our commands
 *
 * What they describe is frozen with pc1: pm.h's ports (SCI 9), the RTC, the keyboard controller,
 * COM1, PCI bus 0 with its windows, the PIRQ registers of the PIIX3 as link devices, vmgenid,
 * one processor entry a vCPU (APIC id = number), the IOAPIC, and interrupt lines 5, 9, 10, 11 as
 * level-triggered, active high. Line 0 reaches IOAPIC input 0 (KVM's own routing), so there is no
 * override for it. ACPI 6.4; QEMU docs/specs/fw_cfg.rst, hw/acpi/bios-linker-loader.c (commands).
 *
 * Thread: any; nothing is shared.
 */
#ifndef VMCORE_ACPI_H
#define VMCORE_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "mem.h"

struct lb_err;

struct vm_acpi_cfg {
	unsigned vcpus;     /* 1..VM_VCPUS_MAX */
	uint64_t low_bytes; /* of memory: struct vm_mem */
};

/* A fw_cfg file. */
struct vm_blob {
	const char *name;
	uint8_t *bytes;
	size_t len;
};
enum {
	VM_ACPI_BLOBS = 3 /* etc/acpi/rsdp, etc/acpi/tables, etc/table-loader */
};

/* Link the tables at 0xE0000 of @m. *@rsdp: where the root pointer is. Errors: LB_ENOMEM,
 * LB_EINPUT (memory too small). */
int vm_acpi_write(struct vm_gpa *rsdp, struct vm_mem *m, const struct vm_acpi_cfg *cfg,
		  struct lb_err *err);
/* The same as files for firmware; vm_acpi_blobs_free(). Errors: LB_ENOMEM. */
int vm_acpi_blobs(struct vm_blob out[VM_ACPI_BLOBS], const struct vm_acpi_cfg *cfg,
		  struct lb_err *err);
void vm_acpi_blobs_free(struct vm_blob blobs[VM_ACPI_BLOBS]);

#endif
