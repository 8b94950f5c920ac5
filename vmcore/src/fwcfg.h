/*
 * vmcore/src/fwcfg.h - fw_cfg: what firmware may ask about the machine, by key and by file name.
 *
 *   0x510 (16 bit, write)  select a key, offset 0
 *   0x511 (8 bit)          next byte of it; past its end: 0
 *   0x514 (32 bit) x2      big-endian address of a DMA descriptor; the low half starts it
 *
 * Keys: 0 "QEMU", 1 features (traditional, DMA), 2 UUID, 5 number of vCPUs, 0xe boot menu off, 0xf
 * most vCPUs, 0x19 directory of files; files from key 0x20 in the order they were added.
 * [QEMU docs/specs/fw_cfg.rst; SeaBIOS src/fw/paravirt.c]
 *
 * Contents are made again from the configuration wherever the machine is built; a checkpoint holds
 * the selector, the size of the option ROM (whose bytes lie in the volume, mem.h), and what the
 * guest wrote into writable files.
 *
 * Thread: adding before the machine runs.
 */
#ifndef VMCORE_FWCFG_H
#define VMCORE_FWCFG_H

#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct vm_board;
struct vm_fwcfg;

enum {
	VM_FWCFG_NAME_MAX = 55,
	VM_FWCFG_FILES_MAX = 32,
	VM_FWCFG_FILE_BYTES_MAX = 1 << 20,
	VM_FWCFG_WRITABLE_BYTES_MAX = 64
};

/* Lives as long as the board. */
int vm_fwcfg_create(struct vm_fwcfg **out, struct vm_board *b, struct lb_err *err);

/* The fixed item @key (< 0x20) has these bytes, copied. Errors: LB_ENOMEM, LB_EEXIST. */
int vm_fwcfg_add(struct vm_fwcfg *f, uint16_t key, const void *data, size_t len,
		 struct lb_err *err);
/* A file, copied. Errors: LB_EINPUT (name or size), LB_EEXIST, LB_ENOMEM (also: too many). */
int vm_fwcfg_add_file(struct vm_fwcfg *f, const char *name, const void *data, size_t len,
		      struct lb_err *err);
/* A file of @len zero bytes that the guest fills by DMA (SeaBIOS's WRITE_POINTER). @written comes
 * with the whole content after each write, and at resume after a load when it is not all zero; lock
 * held. */
int vm_fwcfg_add_writable(struct vm_fwcfg *f, const char *name, size_t len,
			  void (*written)(void *arg, const uint8_t *data, size_t len), void *arg,
			  struct lb_err *err);
/* The last file, "vgaroms/vgabios.bin": @len bytes at the begin of the volume's option ROM area; 0:
 * there is none. */
void vm_fwcfg_set_option_rom(struct vm_fwcfg *f, uint32_t len);

#endif
