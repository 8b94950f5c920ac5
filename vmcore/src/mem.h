/*
 * vmcore/src/mem.h - guest physical memory: the one bounds-checked way to it.
 *
 * All memory of a machine is one volume (a memfd, or a private mapping of one), seen by the
 * replicator as 4 KiB blocks, and lies in guest-physical space as
 *
 *   volume                         guest physical
 *   0 .. low                       0 .. low                      low = min(ram, 3 GiB)
 *   low .. ram                     4 GiB .. 4 GiB + (ram - low)
 *   ram .. ram + VM_ROM_BYTES      4 GiB - VM_ROM_BYTES .. 4 GiB   read-only for the guest:
 *                                  64 KiB option ROM, then 256 KiB firmware
 *
 * 0xA0000..0xBFFFF is ordinary RAM: the text screen lies at 0xB8000 and needs no exits. The ROM is
 * part of the volume, so that a checkpoint is complete without a firmware file at the other site.
 *
 * Guest-physical addresses, lengths and contents come from the guest: everything here refuses what
 * is not RAM. Memory changes under our feet while vCPUs run, so what is read is copied ONCE,
 * checked as a copy, and never read again (double fetch).
 *
 * Dirty: KVM's log knows only what vCPUs wrote. Whatever this process writes goes through
 * vm_mem_write(), or vm_mem_ptr() followed by vm_mem_dirty() AFTER the write; a cut unites both.
 *
 * Thread: all functions: any. An access may block while a lazily restored page is fetched; the
 * pager therefore never takes the board's lock.
 */
#ifndef VMCORE_MEM_H
#define VMCORE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lb_err;

#define VM_PAGE_BYTES       UINT64_C(4096)
#define VM_OPTION_ROM_BYTES (UINT64_C(64) << 10)
#define VM_FIRMWARE_BYTES   (UINT64_C(256) << 10)
#define VM_ROM_BYTES        (VM_OPTION_ROM_BYTES + VM_FIRMWARE_BYTES)
#define VM_LOW_MAX_BYTES    (UINT64_C(3) << 30)
#define VM_HIGH_GPA         (UINT64_C(4) << 30)
#define VM_RAM_MIN_BYTES    (UINT64_C(2) << 20)
#define VM_RAM_MAX_BYTES    (UINT64_C(1) << 40)

/* A guest-physical address. */
struct vm_gpa {
	uint64_t a;
};

struct vm_mem {
	uint8_t *base;      /* of the volume, volume_bytes long */
	uint64_t ram_bytes; /* multiple of 2 MiB */
	uint64_t low_bytes;
	uint64_t volume_bytes;   /* ram_bytes + VM_ROM_BYTES */
	int fd;                  /* of the memfd; -1: private */
	_Atomic uint64_t *dirty; /* a bit a page of the volume, set by this process's writes */
	_Atomic bool lost;       /* see vm_mem_settle() */
	/* What a fork put aside (vm_mem_set_aside()): address space that nobody uses any more. */
	void *aside;
	uint64_t aside_bytes;
};

/* Anonymous shared memory (memfd), reading as zero. Errors: LB_EINPUT (size), LB_ENOMEM, LB_EIO. */
int vm_mem_init(struct vm_mem *m, uint64_t ram_bytes, struct lb_err *err);
/* Over @base (volume_bytes(ram_bytes) long), which is taken on success: unmapped by fini. @fd may
 * be -1, else it is taken too. */
int vm_mem_init_mapped(struct vm_mem *m, uint64_t ram_bytes, uint8_t *base, int fd,
		       struct lb_err *err);
void vm_mem_fini(struct vm_mem *m); /* of a zeroed or half-made one: allowed */
/* Of shared memory: from here on its pages are seen through a private view at the same address, and
 * nobody of this process writes them any more. Takes no time for memory in use: the old mapping is
 * not torn down but put aside until fini. *@fd, the memfd, is the caller's; other shared mappings
 * of it there are none. On failure all is as before. Errors: LB_EIO, LB_ENOMEM. */
int vm_mem_set_aside(struct vm_mem *m, int *fd, struct lb_err *err);
uint64_t vm_mem_volume_bytes(uint64_t ram_bytes);

/* Host address of [gpa, gpa+len), or NULL when that is not all RAM in one piece (ROM is not RAM).
 */
void *vm_mem_ptr(struct vm_mem *m, struct vm_gpa gpa, uint64_t len);
/* The range (from vm_mem_ptr()) was written by this process. */
void vm_mem_dirty(struct vm_mem *m, struct vm_gpa gpa, uint64_t len);
/* The read-only part, for who fills it before the guest runs: option ROM, firmware. */
uint8_t *vm_mem_option_rom(struct vm_mem *m);
uint8_t *vm_mem_firmware(struct vm_mem *m);
/* Before the guest runs: @len bytes to @at, of this memory. Much quicker than a copy where no page
 * is there yet: none is cleared or mapped here. Not noted as dirty. */
void vm_mem_put(struct vm_mem *m, uint8_t *at, const void *from, uint64_t len);
/* Wait until lazily restored pages of the range are there. False: they cannot be had any more and
 * read as zero; the machine is crashed, and nothing made of them may leave it. So a disk's writes
 * and a card's frames are settled before they are sent. */
bool vm_mem_settle(struct vm_mem *m, struct vm_gpa gpa, uint64_t len);
/* Copy from / to guest memory; ranges may span low and high memory's inner pages but not the hole.
 * False when any byte is not RAM, then nothing was copied; a read also when memory is lost (see
 * vm_mem_settle()). */
bool vm_mem_read(struct vm_mem *m, void *to, struct vm_gpa gpa, uint64_t len);
bool vm_mem_write(struct vm_mem *m, struct vm_gpa gpa, const void *from, uint64_t len);
/* A whole page of the volume while the guest and devices may write it: what comes of that is torn,
 * and the page is in a dirty map afterwards, so it is read again. Nothing else reads so. */
void vm_mem_page_copy(uint8_t *to, const uint8_t *page);
bool vm_mem_page_zero(const uint8_t *page);
/* 16 to 64 bit little-endian values, one access each (a ring's index). False: not RAM, or not
 * aligned to its size. */
bool vm_mem_read16(struct vm_mem *m, struct vm_gpa gpa, uint16_t *v);
bool vm_mem_write16(struct vm_mem *m, struct vm_gpa gpa, uint16_t v);
bool vm_mem_read32(struct vm_mem *m, struct vm_gpa gpa, uint32_t *v);
bool vm_mem_write32(struct vm_mem *m, struct vm_gpa gpa, uint32_t v);

#endif
