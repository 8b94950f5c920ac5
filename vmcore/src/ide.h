/*
 * vmcore/src/ide.h - the PIIX3's two IDE channels with up to four disks.
 *
 *   channel 0: 0x1f0..0x1f7, 0x3f6, IRQ 14     channel 1: 0x170..0x177, 0x376, IRQ 15
 *   bus master: BAR 4 of 01.1, 8 ports a channel
 *
 *            ┌──────── status: BSY ─ request at blk.h ─ done() ─┐
 *   command ─┤ READ     [read] ─► DRQ: a block of sectors ─► next read ... ─► DRDY
 *            │ WRITE    DRQ: a block of sectors ─► [write] ─► DRQ ... ─► DRDY
 *            │ DMA      BSY until both the command and the bus master were started ─► [read|write]
 *            └ the rest done at once, or FLUSH: [flush]
 *   each step ends with the channel's line up, unless nIEN
 *
 * A checkpoint holds the task file (both halves), the sector buffer with its position and the
 * phase; a request that runs is submitted again after a restore.
 *
 * [ATA/ATAPI-6, T13 1410D r3b; SFF-8038i; Intel 290550 82371SB chapter 2.6]
 */
#ifndef VMCORE_IDE_H
#define VMCORE_IDE_H

#include <stdint.h>

struct img_dev;
struct lb_err;
struct vm_blk;
struct vm_board;
struct vm_pci;

enum {
	VM_IDE_DISKS = 4
};

struct vm_ide_disk {
	struct img_dev *dev; /* borrowed; NULL: no disk there. A multiple of 512 bytes */
	const char *serial;  /* at most 20 characters */
};

/* @disk: primary master, primary slave, secondary master, secondary slave. @blk (may be NULL) gets
 * each disk's queue, for vm_blk_drain(). Lives as long as the board. Errors: LB_EINPUT (size),
 * LB_ENOMEM. */
int vm_ide_create(struct vm_board *b, struct vm_pci *pci,
		  const struct vm_ide_disk disk[VM_IDE_DISKS], struct vm_blk *blk[VM_IDE_DISKS],
		  struct lb_err *err);

#endif
