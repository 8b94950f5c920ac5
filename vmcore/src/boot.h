/*
 * vmcore/src/boot.h - how a cold machine begins: firmware or a Linux kernel, written into its
 * memory.
 *
 * Kernel and firmware files are foreign input: every length and offset is checked against the file
 * and against memory before use.
 */
#ifndef VMCORE_BOOT_H
#define VMCORE_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "mem.h"

struct lb_err;

/* How the first vCPU enters the guest. */
struct vm_entry {
	bool long_mode; /* false: the reset vector */
	uint64_t rip, rsi, rsp;
	uint64_t cr3;      /* identity map */
	struct vm_gpa gdt; /* flat: 0x10 code (long), 0x18 data */
	uint16_t gdt_limit;
};

/* The firmware image of @fd at the top of 4 GiB (volume's ROM area) and its last 128..256 KiB as
 * RAM at 0xC0000..0xFFFFF. */
int vm_boot_bios(struct vm_entry *out, struct vm_mem *m, int fd, struct lb_err *err);

struct vm_boot_linux {
	int kernel_fd, initrd_fd; /* initrd -1: none */
	const char *cmdline;
	struct vm_gpa rsdp; /* ACPI root pointer; 0: none */
};
/* bzImage, 64-bit entry [Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol";
 * x86/zero-page]. */
int vm_boot_linux(struct vm_entry *out, struct vm_mem *m, const struct vm_boot_linux *cfg,
		  struct lb_err *err);

#endif
