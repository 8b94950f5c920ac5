/*
 * vmcore/src/boot_int.h - parts of the Linux boot: the kernel file and what it becomes in memory.
 */
#ifndef VMCORE_BOOT_INT_H
#define VMCORE_BOOT_INT_H

#include <stddef.h>
#include <stdint.h>

#include "mem.h"

struct lb_err;

/* A kernel in guest memory. */
struct boot_kernel {
	uint64_t entry;
	uint64_t base, end; /* memory it uses before it reads boot_params */
};

/* Put the loadable segments of the ELF file [p, p+len) at their physical addresses. */
int boot_elf_load(struct boot_kernel *out, struct vm_mem *m, const uint8_t *p, size_t len,
		  struct lb_err *err);
/* Unpack the "legacy" LZ4 frame of a bzImage's payload [p, p+len), whose last 4 bytes are the size
 * unpacked. *out is the caller's (free). LB_EUNSUPPORTED: packed otherwise. */
int boot_unpack_lz4(uint8_t **out, size_t *out_len, const uint8_t *p, size_t len,
		    struct lb_err *err);

#endif
