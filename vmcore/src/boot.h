/*
 * vmcore/src/boot.h - how a cold machine begins: firmware or a Linux kernel, written into its
 * memory.
 *
 * Kernel and firmware files are foreign input: every length and offset is checked against the file
 * and against memory before use.
 *
 * Low memory of a direct boot (all of it is the kernel's to overwrite once it has read it):
 *
 *   0x01000 GDT    0x02000 page tables, 4 GiB mapped 1:1    0x08000 boot_params ("zero page")
 *   0x09000 stack  0x20000 command line                     0xE0000 ACPI tables (acpi.h), reserved
 */
#ifndef VMCORE_BOOT_H
#define VMCORE_BOOT_H

#include <stdbool.h>
#include <stddef.h>
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

/* The firmware image of @fd (64 to 256 KiB) at the top of 4 GiB (volume's ROM area), and the same
 * 256 KiB as RAM at 0xC0000..0xFFFFF. Errors: LB_EINPUT (size), LB_EIO. */
int vm_boot_bios(struct vm_entry *out, struct vm_mem *m, int fd, struct lb_err *err);
/* The same from the ROM area: when a machine is reset, also one that came from a checkpoint. */
void vm_boot_bios_again(struct vm_entry *out, struct vm_mem *m);
/* The option ROM of @fd (512 bytes to 64 KiB, begins with 55 AA) into the ROM area, *@len long.
 * Errors: LB_EINPUT, LB_EIO. */
int vm_boot_option_rom(uint32_t *len, struct vm_mem *m, int fd, struct lb_err *err);

struct vm_boot_linux {
	int kernel_fd, initrd_fd; /* initrd -1: none */
	const char *cmdline;      /* NULL: "" */
	struct vm_gpa rsdp;       /* ACPI root pointer; 0: none */
	/* Take the kernel out of an LZ4 bzImage here instead of in the guest (where ring 0 is
	 * emulated, that takes a minute). The kernel then lies at its linked address: no KASLR. */
	bool unpack;
};
/* bzImage, 64-bit entry [Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol";
 * x86/zero-page], or an uncompressed vmlinux (ELF). Errors: LB_EINPUT (not such a kernel, does not
 * fit the memory), LB_EUNSUPPORTED (no 64-bit entry), LB_EIO, LB_ENOMEM. Memory may then hold
 * parts. */
int vm_boot_linux(struct vm_entry *out, struct vm_mem *m, const struct vm_boot_linux *cfg,
		  struct lb_err *err);

/* ---- memory map (BIOS int 15h, AX=E820h) ---- */

enum vm_e820_type {
	VM_E820_RAM = 1,
	VM_E820_RESERVED = 2
};
enum {
	VM_E820_MAX = 8
};
struct vm_e820 {
	uint64_t base, len;
	enum vm_e820_type type;
};
/* What of memory a guest may use: all but the generation page (vmgenid.h). For @firmware as
 * fw_cfg's etc/e820 (it carves out the first MiB itself), else as a kernel wants it from firmware.
 * Returns the number of entries. */
size_t vm_boot_e820(struct vm_e820 out[VM_E820_MAX], const struct vm_mem *m, bool firmware);

#endif
