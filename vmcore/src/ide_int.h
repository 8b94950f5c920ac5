/*
 * vmcore/src/ide_int.h - what the parts of the IDE controller share: ide.c (task file, commands,
 * PIO), ide_state.c (checkpoints), ide_ident.c (IDENTIFY DEVICE, SET FEATURES), ide_bm.c (bus
 * master).
 */
#ifndef VMCORE_IDE_INT_H
#define VMCORE_IDE_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "blk.h"
#include "ide.h"
#include "pci.h"

#define IDE_SECTOR_BYTES  512u
#define IDE_MULTIPLE_MAX  16u
#define IDE_BUFFER_BYTES  (IDE_MULTIPLE_MAX * IDE_SECTOR_BYTES)
#define IDE_DMA_SECTORS   2048u /* of one request: 1 MiB */
#define IDE_PIECES_MAX    256u  /* of a sector: 256 of the least PRD, 2 bytes */
#define IDE_SERIAL_BYTES  20u
#define IDE_BM_PORTS      8u /* of one channel */
#define IDE_LBA28_SECTORS UINT64_C(0x0fffffff)

/* Status and error register. */
enum {
	IDE_ST_ERR = 1 << 0,
	IDE_ST_DRQ = 1 << 3,
	IDE_ST_DSC = 1 << 4,
	IDE_ST_DF = 1 << 5,
	IDE_ST_DRDY = 1 << 6,
	IDE_ST_BSY = 1 << 7,
	IDE_ER_ABRT = 1 << 2,
	IDE_ER_IDNF = 1 << 4,
	IDE_ER_UNC = 1 << 6,
	IDE_DEV_LBA = 1 << 6,
};

/* Where a command stands. Saved: the numbers are frozen. */
enum ide_phase {
	IDE_IDLE = 0,
	IDE_DATA_IN = 1,  /* DRQ: the guest reads .buffer */
	IDE_DATA_OUT = 2, /* DRQ: the guest fills it */
	IDE_BUSY = 3,     /* BSY: a request is with the disk */
	IDE_DMA_WAIT = 4, /* BSY: the guest has yet to start the bus master */
	IDE_RESETTING = 5 /* BSY: SRST is set */
};
/* What it does. Saved: frozen. */
enum ide_transfer {
	IDE_NONE = 0,
	IDE_PIO_READ = 1,
	IDE_PIO_WRITE = 2,
	IDE_DMA_READ = 3,
	IDE_DMA_WRITE = 4,
	IDE_VERIFY = 5,
	IDE_FLUSH = 6
};

struct ide_drive {
	struct vm_blk *blk; /* NULL: no drive */
	uint64_t sectors;
	char serial[IDE_SERIAL_BYTES + 1];
	/* the guest's settings */
	uint16_t cylinders, heads, track; /* current geometry; track: sectors of one */
	uint8_t multiple;                 /* sectors a block of READ and WRITE MULTIPLE; 0: off */
	uint8_t mwdma;                    /* selected mode; 0xff: none */
	bool no_cache;                    /* writes are flushed before they are done */
	uint8_t status, error;
};

/* Position in a table of PRDs (bus master's descriptors). */
struct ide_prd {
	uint32_t entry; /* index, below 8192: a table may not cross 64 KiB */
	uint32_t used;  /* bytes of that entry */
	bool end;       /* the entry before was the last */
};

struct ide_channel {
	struct ide_dev *ide;
	unsigned number;
	struct ide_drive drive[2];
	/* the task file; [1] is the byte written before: the high half for 48-bit commands */
	uint8_t feature[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
	uint8_t device, control;
	bool irq;
	unsigned cancels; /* vCPUs that wait in ide_cancel(): nothing may begin */
	/* the running command */
	enum ide_phase phase;
	enum ide_transfer transfer;
	bool flushing; /* the flush after a write */
	uint8_t unit;  /* the drive it is for */
	uint64_t lba;  /* the next sector */
	uint32_t left; /* sectors, with the block under way */
	uint32_t block, block_max;
	uint32_t pos, len; /* of the data in .buffer */
	uint8_t buffer[IDE_BUFFER_BYTES];
	/* bus master */
	uint8_t bm_command, bm_status;
	uint32_t bm_table;
	struct ide_prd prd, prd_next; /* begin and end of the request under way */
	struct vm_blk_req req;
	struct vm_blk_piece piece[IDE_PIECES_MAX];
	uint32_t pieces;
};

struct ide_dev {
	struct vm_pci_dev pci;
	struct ide_channel channel[2];
	unsigned irq_source;
};

/* ---- ide.c ---- */

/* The command is over, with @error (0: well): status, interrupt. */
void ide_finish(struct ide_channel *ch, uint8_t error);
/* Give the disk the next part of the command under way. */
void ide_submit(struct ide_channel *ch);
/* The line and the bus master's interrupt bit follow .irq. */
void ide_update_irq(struct ide_channel *ch);
/* Forget the request under way and wait until it touches nothing more. The lock is released
 * meanwhile; the channel reads as busy. Another vCPU may do the same at once: who finds .cancels 0
 * afterwards goes on. */
void ide_cancel(struct ide_channel *ch);

/* ---- ide_state.c ---- */

void ide_save(struct vm_dev *d, struct lb_wr *wr);
int ide_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err);
void ide_resume(struct vm_dev *d);

/* ---- ide_ident.c ---- */

void ide_drive_defaults(struct ide_drive *d); /* as after power-on */
/* Cylinders follow. False: not possible. */
bool ide_set_geometry(struct ide_drive *d, unsigned heads, unsigned track);
void ide_identify(const struct ide_drive *d, uint8_t out[IDE_SECTOR_BYTES]);
/* SET FEATURES, subcommand @feature. False: aborted. */
bool ide_set_features(struct ide_drive *d, uint8_t feature, uint8_t count);

/* ---- ide_bm.c ---- */

extern const struct vm_io_ops ide_bm_io; /* arg: struct ide_dev */
/* A DMA command was accepted: begin if the bus master was started already. */
void ide_bm_begin(struct ide_channel *ch);
/* Fill .piece for the next request, at most @sectors. Returns how many; 0: the table does not lead
 * to memory, or is too short. */
uint32_t ide_bm_gather(struct ide_channel *ch, uint32_t sectors);
/* The command is over. */
void ide_bm_end(struct ide_channel *ch, bool failed);

#endif
