#include "ide.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "ide_int.h"
#include "imaging/dev.h"

#define BM_BAR       4u
#define IDETIM       0x40u /* a word a channel; bit 15: decode the channel's ports */
#define REG_PORTS    8u
#define LBA48_COUNT  65536u
#define SIGNATURE_OK 0x01u /* diagnostics passed */

enum {
	REG_DATA = 0,
	REG_ERROR = 1, /* features when written */
	REG_COUNT = 2,
	REG_LBA_LOW = 3,
	REG_LBA_MID = 4,
	REG_LBA_HIGH = 5,
	REG_DEVICE = 6,
	REG_STATUS = 7, /* command when written */
	CTL_NIEN = 1 << 1,
	CTL_SRST = 1 << 2,
	CTL_HOB = 1 << 7,
};

static const uint16_t ports[2] = {0x1f0, 0x170};
static const uint16_t control_port[2] = {0x3f6, 0x376};
static const unsigned isa_irq[2] = {14, 15};

static struct ide_drive *selected(struct ide_channel *ch)
{
	return &ch->drive[ch->device >> 4 & 1];
}

static bool is_busy(const struct ide_channel *ch)
{
	return ch->phase >= IDE_BUSY || ch->cancels > 0;
}

/* ---- status and interrupt ---- */

void ide_update_irq(struct ide_channel *ch)
{
	bool level = ch->irq && (ch->control & CTL_NIEN) == 0;

	vm_irq_set(ch->ide->pci.dev.board, isa_irq[ch->number], ch->ide->irq_source, level);
}

static void raise_irq(struct ide_channel *ch)
{
	ch->irq = true;
	ch->bm_status |= 1 << 2;
	ide_update_irq(ch);
}

static void lower_irq(struct ide_channel *ch)
{
	ch->irq = false;
	ide_update_irq(ch);
}

/* A drive that is not there: its neighbour answers with 0 for it; without a neighbour nobody
 * drives the bus, and 0 is what drivers take best (no BSY to wait for). */
static uint8_t status_of(struct ide_channel *ch)
{
	const struct ide_drive *d = selected(ch);

	if (d->blk == NULL)
		return 0;
	if (is_busy(ch))
		return IDE_ST_BSY;
	if (ch->phase != IDE_IDLE && d == &ch->drive[ch->unit])
		return d->status | IDE_ST_DRQ;
	return d->status;
}

void ide_finish(struct ide_channel *ch, uint8_t error)
{
	struct ide_drive *d = &ch->drive[ch->unit];

	if (ch->transfer == IDE_DMA_READ || ch->transfer == IDE_DMA_WRITE)
		ide_bm_end(ch, error != 0);
	ch->phase = IDE_IDLE;
	ch->transfer = IDE_NONE;
	ch->flushing = false;
	d->error = error;
	d->status = (uint8_t)(IDE_ST_DRDY | IDE_ST_DSC | (error != 0 ? IDE_ST_ERR : 0));
	raise_irq(ch);
}

/* ---- transfers ---- */

static bool is_write(const struct ide_channel *ch)
{
	return ch->transfer == IDE_PIO_WRITE || ch->transfer == IDE_DMA_WRITE;
}

static bool is_dma(const struct ide_channel *ch)
{
	return ch->transfer == IDE_DMA_READ || ch->transfer == IDE_DMA_WRITE;
}

static uint32_t next_block(const struct ide_channel *ch)
{
	return ch->left < ch->block_max ? ch->left : ch->block_max;
}

/* Wait for the guest to fill or to empty the buffer. */
static void offer_buffer(struct ide_channel *ch, enum ide_phase phase)
{
	ch->phase = phase;
	ch->pos = 0;
	ch->len = ch->block * IDE_SECTOR_BYTES;
	ch->drive[ch->unit].status = IDE_ST_DRDY | IDE_ST_DSC;
}

void ide_submit(struct ide_channel *ch)
{
	struct vm_blk_req *req = &ch->req;

	ch->phase = IDE_BUSY;
	if (ch->flushing || ch->transfer == IDE_FLUSH) {
		req->op = VM_BLK_FLUSH;
		req->off = req->len_bytes = 0;
		vm_blk_submit(ch->drive[ch->unit].blk, req);
		return;
	}
	req->buffer = ch->buffer;
	req->piece_count = 0;
	if (is_dma(ch)) {
		ch->block = ide_bm_gather(ch, next_block(ch));
		if (ch->block == 0) {
			ide_finish(ch, IDE_ER_ABRT);
			return;
		}
		req->piece_count = ch->pieces;
	}
	req->op = is_write(ch) ? VM_BLK_WRITE : VM_BLK_READ;
	req->off = ch->lba * IDE_SECTOR_BYTES;
	req->len_bytes = (uint64_t)ch->block * IDE_SECTOR_BYTES;
	vm_blk_submit(ch->drive[ch->unit].blk, req);
}

/* The address of the sector that could not be had goes into the task file. */
static void show_address(struct ide_channel *ch)
{
	for (unsigned half = 0; half < 2; half++) {
		uint32_t v = (uint32_t)(ch->lba >> (24 * half));

		ch->lba_low[half] = (uint8_t)v;
		ch->lba_mid[half] = (uint8_t)(v >> 8);
		ch->lba_high[half] = (uint8_t)(v >> 16);
	}
	ch->device = (uint8_t)((ch->device & 0xf0) | (ch->lba >> 24 & 0x0f));
}

static void transfer_failed(struct ide_channel *ch)
{
	bool medium = !is_write(ch) && ch->transfer != IDE_FLUSH;

	if (ch->transfer != IDE_FLUSH && (ch->device & IDE_DEV_LBA) != 0)
		show_address(ch);
	ide_finish(ch, medium ? IDE_ER_UNC : IDE_ER_ABRT);
}

/* A block is done. */
static void transfer_goes_on(struct ide_channel *ch)
{
	bool is_last;

	ch->lba += ch->block;
	ch->left -= ch->block;
	ch->prd = ch->prd_next;
	is_last = ch->left == 0;
	if (is_last && is_write(ch) && ch->drive[ch->unit].no_cache) {
		ch->flushing = true;
		ide_submit(ch);
	} else if (is_last) {
		ide_finish(ch, 0);
	} else {
		ch->block = next_block(ch);
		if (ch->transfer == IDE_PIO_WRITE) {
			offer_buffer(ch, IDE_DATA_OUT);
			raise_irq(ch);
		} else {
			ide_submit(ch);
		}
	}
}

static void on_done(struct vm_blk_req *req)
{
	struct ide_channel *ch =
		(struct ide_channel *)(void *)((uint8_t *)req - offsetof(struct ide_channel, req));

	if (req->rc != 0) {
		transfer_failed(ch);
	} else if (ch->flushing || ch->transfer == IDE_FLUSH) {
		ide_finish(ch, 0);
	} else if (ch->transfer == IDE_PIO_READ) {
		offer_buffer(ch, IDE_DATA_IN);
		raise_irq(ch);
	} else {
		transfer_goes_on(ch);
	}
}

/* The guest has emptied the buffer. The last block ends without an interrupt [ATA-6, 9.5]. */
static void buffer_was_read(struct ide_channel *ch)
{
	if (ch->transfer == IDE_NONE) { /* IDENTIFY */
		ch->phase = IDE_IDLE;
		return;
	}
	ch->lba += ch->block;
	ch->left -= ch->block;
	ch->block = next_block(ch);
	if (ch->left > 0) {
		ide_submit(ch);
		return;
	}
	ch->phase = IDE_IDLE;
	ch->transfer = IDE_NONE;
}

static uint32_t data_read(struct ide_channel *ch, unsigned size)
{
	uint32_t v = 0;

	if (ch->phase != IDE_DATA_IN || ch->cancels > 0)
		return UINT32_MAX;
	for (unsigned i = 0; i < size && ch->pos < ch->len; i++)
		v |= (uint32_t)ch->buffer[ch->pos++] << (8 * i);
	if (ch->pos == ch->len)
		buffer_was_read(ch);
	return v;
}

static void data_write(struct ide_channel *ch, unsigned size, uint32_t v)
{
	if (ch->phase != IDE_DATA_OUT || ch->cancels > 0)
		return;
	for (unsigned i = 0; i < size && ch->pos < ch->len; i++)
		ch->buffer[ch->pos++] = (uint8_t)(v >> (8 * i));
	if (ch->pos == ch->len)
		ide_submit(ch);
}

/* ---- addresses ---- */

static uint64_t address28(const struct ide_channel *ch, const struct ide_drive *d)
{
	uint64_t low = ch->lba_low[0], mid = ch->lba_mid[0], high = ch->lba_high[0];
	uint64_t top = ch->device & 0x0f;

	if ((ch->device & IDE_DEV_LBA) != 0)
		return low | mid << 8 | high << 16 | top << 24;
	/* cylinder, head, sector from 1 */
	if (low == 0 || low > d->track || top >= d->heads)
		return UINT64_MAX;
	return ((mid | high << 8) * d->heads + top) * d->track + low - 1;
}

static uint64_t address48(const struct ide_channel *ch)
{
	uint64_t v = 0;

	for (unsigned half = 2; half-- > 0;)
		v = v << 24 | (uint64_t)ch->lba_high[half] << 16 |
		    (uint64_t)ch->lba_mid[half] << 8 | ch->lba_low[half];
	return v;
}

/* Read the range from the task file. False: not on the disk. */
static bool take_range(struct ide_channel *ch, const struct ide_drive *d, bool ext)
{
	uint32_t count = ch->count[0];

	if (ext) {
		count |= (uint32_t)ch->count[1] << 8;
		ch->left = count == 0 ? LBA48_COUNT : count;
		ch->lba = address48(ch);
	} else {
		ch->left = count == 0 ? 256 : count;
		ch->lba = address28(ch, d);
	}
	return ch->lba < d->sectors && ch->left <= d->sectors - ch->lba;
}

/* ---- commands ---- */

static void begin_transfer(struct ide_channel *ch, enum ide_transfer transfer, bool ext,
			   uint32_t block_max)
{
	struct ide_drive *d = &ch->drive[ch->unit];

	ch->transfer = transfer;
	if (is_write(ch) && !vm_blk_writable(d->blk)) {
		ide_finish(ch, IDE_ER_ABRT);
		return;
	}
	if (block_max == 0 || !take_range(ch, d, ext)) {
		/* READ MULTIPLE while it is not set up is refused, an absurd address not found */
		ide_finish(ch, block_max == 0 ? IDE_ER_ABRT : IDE_ER_IDNF);
		return;
	}
	ch->block_max = block_max;
	ch->block = next_block(ch);
	if (is_dma(ch))
		ide_bm_begin(ch);
	else if (transfer == IDE_PIO_WRITE)
		offer_buffer(ch, IDE_DATA_OUT); /* the first block without an interrupt */
	else
		ide_submit(ch);
}

static void identify(struct ide_channel *ch)
{
	ide_identify(&ch->drive[ch->unit], ch->buffer);
	ch->transfer = IDE_NONE;
	ch->block = 1;
	offer_buffer(ch, IDE_DATA_IN);
	raise_irq(ch);
}

/* What tells an ATA drive from a packet device [ATA-6, 9.12]. */
static void show_signature(struct ide_channel *ch)
{
	for (unsigned half = 0; half < 2; half++) {
		ch->count[half] = half == 0;
		ch->lba_low[half] = half == 0;
		ch->lba_mid[half] = ch->lba_high[half] = 0;
	}
	ch->device = 0;
	for (unsigned i = 0; i < 2; i++) {
		ch->drive[i].error = SIGNATURE_OK;
		ch->drive[i].status = IDE_ST_DRDY | IDE_ST_DSC;
	}
}

/* For both drives at once. */
static void diagnose(struct ide_channel *ch)
{
	show_signature(ch);
	ch->phase = IDE_IDLE;
	raise_irq(ch);
}

static bool set_multiple(struct ide_drive *d, uint8_t count)
{
	if (count > IDE_MULTIPLE_MAX || (count & (count - 1)) != 0)
		return false;
	d->multiple = count;
	return true;
}

static void read_native_max(struct ide_channel *ch, const struct ide_drive *d, bool ext)
{
	uint64_t last = d->sectors - 1;

	if (!ext && last > IDE_LBA28_SECTORS)
		last = IDE_LBA28_SECTORS;
	ch->lba = last;
	show_address(ch);
}

/* Commands that move no data. False: not one of them, or refused. */
static bool simple_command(struct ide_channel *ch, struct ide_drive *d, uint8_t command)
{
	switch (command) {
	case 0x70: /* SEEK */
		return take_range(ch, d, false);
	case 0x91: /* INITIALIZE DEVICE PARAMETERS */
		return ide_set_geometry(d, (ch->device & 0x0fu) + 1, ch->count[0]);
	case 0x27: /* READ NATIVE MAX ADDRESS EXT */
	case 0xf8: /* READ NATIVE MAX ADDRESS */
		read_native_max(ch, d, command == 0x27);
		return true;
	case 0xc6: /* SET MULTIPLE MODE */
		return set_multiple(d, ch->count[0]);
	case 0xe5: /* CHECK POWER MODE: active */
		ch->count[0] = 0xff;
		return true;
	case 0xe0: /* STANDBY, IDLE, SLEEP: there is nothing to stop */
	case 0xe1:
	case 0xe2:
	case 0xe3:
	case 0xe6:
		return true;
	case 0xef:
		return ide_set_features(d, ch->feature[0], ch->count[0]);
	default:
		return command >= 0x10 && command <= 0x1f; /* RECALIBRATE */
	}
}

struct data_command {
	uint8_t command, transfer;
	bool ext;
	uint8_t unit; /* of a block: 1 a sector, 2 as SET MULTIPLE says, 3 as large as goes */
};

static const struct data_command data_commands[] = {
	{0x20, IDE_PIO_READ, false, 1},  {0x21, IDE_PIO_READ, false, 1},
	{0x24, IDE_PIO_READ, true, 1},   {0x25, IDE_DMA_READ, true, 3},
	{0x29, IDE_PIO_READ, true, 2},   {0x30, IDE_PIO_WRITE, false, 1},
	{0x31, IDE_PIO_WRITE, false, 1}, {0x34, IDE_PIO_WRITE, true, 1},
	{0x35, IDE_DMA_WRITE, true, 3},  {0x39, IDE_PIO_WRITE, true, 2},
	{0x40, IDE_VERIFY, false, 3},    {0x41, IDE_VERIFY, false, 3},
	{0x42, IDE_VERIFY, true, 3},     {0xc4, IDE_PIO_READ, false, 2},
	{0xc5, IDE_PIO_WRITE, false, 2}, {0xc8, IDE_DMA_READ, false, 3},
	{0xc9, IDE_DMA_READ, false, 3},  {0xca, IDE_DMA_WRITE, false, 3},
	{0xcb, IDE_DMA_WRITE, false, 3},
};

static uint32_t block_of(const struct data_command *c, const struct ide_drive *d)
{
	if (c->unit == 1)
		return 1;
	if (c->unit == 2)
		return d->multiple;
	return c->transfer == IDE_VERIFY ? IDE_MULTIPLE_MAX : IDE_DMA_SECTORS;
}

static bool data_command(struct ide_channel *ch, const struct ide_drive *d, uint8_t command)
{
	for (size_t i = 0; i < sizeof(data_commands) / sizeof(data_commands[0]); i++) {
		const struct data_command *c = &data_commands[i];

		if (c->command != command)
			continue;
		begin_transfer(ch, (enum ide_transfer)c->transfer, c->ext, block_of(c, d));
		return true;
	}
	return false;
}

static void run_command(struct ide_channel *ch, uint8_t command)
{
	struct ide_drive *d = selected(ch);

	if (d->blk == NULL && command != 0x90)
		return;
	ch->unit = ch->device >> 4 & 1;
	ch->transfer = IDE_NONE;
	d->error = 0;
	lower_irq(ch);
	switch (command) {
	case 0x90:
		diagnose(ch);
		break;
	case 0xec:
		identify(ch);
		break;
	case 0xe7: /* FLUSH CACHE, and EXT */
	case 0xea:
		ch->transfer = IDE_FLUSH;
		ide_submit(ch);
		break;
	default:
		if (!data_command(ch, d, command))
			ide_finish(ch, simple_command(ch, d, command) ? 0 : IDE_ER_ABRT);
		break;
	}
}

/* ---- reset ---- */

void ide_cancel(struct ide_channel *ch)
{
	ch->cancels++;
	for (unsigned i = 0; i < 2; i++)
		if (ch->drive[i].blk != NULL)
			vm_blk_cancel(ch->drive[i].blk);
	ch->cancels--;
}

static void end_srst(struct ide_channel *ch)
{
	show_signature(ch);
	ch->phase = IDE_IDLE;
	ch->transfer = IDE_NONE;
	ch->flushing = false;
}

/* SRST keeps the drives busy while it is set [ATA-6, 9.2]. Settings of the drives stay. */
static void control_write(struct ide_channel *ch, uint8_t v)
{
	bool was = (ch->control & CTL_SRST) != 0, is = (v & CTL_SRST) != 0;

	ch->control = v;
	if (is && !was) {
		ch->phase = IDE_RESETTING;
		ch->irq = false;
		ide_cancel(ch);
	}
	/* who waited above finishes what another vCPU has let go meanwhile */
	if ((ch->control & CTL_SRST) == 0 && ch->phase == IDE_RESETTING && ch->cancels == 0)
		end_srst(ch);
	ide_update_irq(ch);
}

/* ---- ports ---- */

static uint8_t reg_read(struct ide_channel *ch, unsigned reg)
{
	unsigned half = (ch->control & CTL_HOB) != 0;
	uint8_t v;

	if (ch->drive[0].blk == NULL && ch->drive[1].blk == NULL)
		return 0;
	switch (reg) {
	case REG_ERROR:
		return selected(ch)->error;
	case REG_COUNT:
		return ch->count[half];
	case REG_LBA_LOW:
		return ch->lba_low[half];
	case REG_LBA_MID:
		return ch->lba_mid[half];
	case REG_LBA_HIGH:
		return ch->lba_high[half];
	case REG_DEVICE:
		return ch->device;
	default:
		v = status_of(ch);
		lower_irq(ch);
		return v;
	}
}

static void push_byte(uint8_t reg[2], uint8_t v)
{
	reg[1] = reg[0];
	reg[0] = v;
}

static void reg_write(struct ide_channel *ch, unsigned reg, uint8_t v)
{
	ch->control &= (uint8_t)~CTL_HOB;
	if (is_busy(ch))
		return;
	switch (reg) {
	case REG_ERROR:
		push_byte(ch->feature, v);
		break;
	case REG_COUNT:
		push_byte(ch->count, v);
		break;
	case REG_LBA_LOW:
		push_byte(ch->lba_low, v);
		break;
	case REG_LBA_MID:
		push_byte(ch->lba_mid, v);
		break;
	case REG_LBA_HIGH:
		push_byte(ch->lba_high, v);
		break;
	case REG_DEVICE:
		ch->device = v;
		break;
	default:
		run_command(ch, v);
		break;
	}
}

/* The data port takes 16 and 32 bits; the others are bytes, wider accesses go on to the next. */
static uint64_t port_read(void *arg, uint64_t off, unsigned size)
{
	struct ide_channel *ch = arg;
	uint64_t v = 0;

	if (off == REG_DATA)
		return data_read(ch, size);
	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)reg_read(ch, (unsigned)off + i) << (8 * i);
	return v;
}

static void port_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct ide_channel *ch = arg;

	if (off == REG_DATA) {
		data_write(ch, size, (uint32_t)value);
		return;
	}
	for (unsigned i = 0; i < size; i++)
		reg_write(ch, (unsigned)off + i, (uint8_t)(value >> (8 * i)));
}

/* Reading the alternate status leaves the interrupt. */
static uint64_t alt_read(void *arg, uint64_t off, unsigned size)
{
	(void)off;
	(void)size;
	return status_of(arg);
}

static void alt_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	(void)off;
	(void)size;
	control_write(arg, (uint8_t)value);
}

/* ---- device ---- */

static void reset_channel(struct ide_channel *ch)
{
	ide_cancel(ch);
	for (unsigned i = 0; i < 2; i++)
		if (ch->drive[i].blk != NULL)
			ide_drive_defaults(&ch->drive[i]);
	end_srst(ch);
	ch->control = 0;
	ch->unit = 0;
	ch->lba = ch->left = 0;
	ch->block = ch->block_max = ch->pos = ch->len = 0;
	memset(ch->feature, 0, sizeof(ch->feature));
	ch->bm_command = ch->bm_status = 0;
	ch->bm_table = 0;
	ch->prd = ch->prd_next = (struct ide_prd){.entry = 0};
	lower_irq(ch);
}

static void ide_reset(struct vm_dev *d)
{
	struct ide_dev *ide = (struct ide_dev *)d;

	vm_pci_reset(&ide->pci);
	for (unsigned i = 0; i < 2; i++)
		reset_channel(&ide->channel[i]);
}

static void ide_destroy(struct vm_dev *d)
{
	struct ide_dev *ide = (struct ide_dev *)d;

	for (unsigned i = 0; i < VM_IDE_DISKS; i++)
		vm_blk_destroy(ide->channel[i / 2].drive[i % 2].blk);
	free(ide);
}

static const struct vm_dev_ops ide_ops = {
	.name = "piix3-ide",
	.version = 1,
	.reset = ide_reset,
	.save = ide_save,
	.load = ide_load,
	.resume = ide_resume,
	.destroy = ide_destroy,
};

static int open_drive(struct ide_drive *d, struct vm_board *b, const struct vm_ide_disk *disk,
		      struct lb_err *err)
{
	uint64_t bytes = disk->dev->size_bytes;

	if (bytes == 0 || bytes % IDE_SECTOR_BYTES != 0)
		return lb_err_set(err, LB_EINPUT, 0,
				  "IDE disk of %" PRIu64 " bytes: must be a multiple of 512, not 0",
				  bytes);
	d->sectors = bytes / IDE_SECTOR_BYTES;
	(void)snprintf(d->serial, sizeof(d->serial), "%s",
		       disk->serial != NULL ? disk->serial : "");
	ide_drive_defaults(d);
	return vm_blk_create(&d->blk, b, disk->dev, 1, err);
}

static int map_channel(struct ide_channel *ch, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops io = {port_read, port_write};
	static const struct vm_io_ops alt = {alt_read, alt_write};
	int rc = vm_pio_map(b, ports[ch->number], REG_PORTS, &io, ch, err);

	return rc != 0 ? rc : vm_pio_map(b, control_port[ch->number], 1, &alt, ch, err);
}

static void fill_function(struct ide_dev *ide)
{
	struct vm_pci_dev *d = &ide->pci;

	d->bar[BM_BAR] = (struct vm_pci_bar){
		.size_bytes = 2 * IDE_BM_PORTS, .io = true, .ops = &ide_bm_io, .arg = ide};
	for (unsigned i = 0; i < 2; i++) {
		d->config[IDETIM + 2 * i + 1] = 0x80;
		d->wmask[IDETIM + 2 * i] = d->wmask[IDETIM + 2 * i + 1] = 0xff;
	}
}

int vm_ide_create(struct vm_board *b, struct vm_pci *pci,
		  const struct vm_ide_disk disk[VM_IDE_DISKS], struct vm_blk *blk[VM_IDE_DISKS],
		  struct lb_err *err)
{
	static const struct vm_pci_id id = {0x8086, 0x7010, 0x1af4, 0x1100, 0x010180, 0, false};
	struct ide_dev *ide = calloc(1, sizeof(*ide));
	int rc;

	if (ide == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "IDE controller");
	for (unsigned i = 0; i < 2; i++) {
		ide->channel[i].ide = ide;
		ide->channel[i].number = i;
		ide->channel[i].req.done = on_done;
		ide->channel[i].req.pieces = ide->channel[i].piece;
	}
	fill_function(ide);
	rc = vm_pci_add(pci, &ide->pci, &ide_ops, 1, 1, &id, err);
	if (rc != 0) {
		free(ide);
		return rc;
	}
	ide->irq_source = vm_irq_source(b);
	for (unsigned i = 0; i < VM_IDE_DISKS && rc == 0; i++) {
		struct ide_drive *d = &ide->channel[i / 2].drive[i % 2];

		if (disk[i].dev != NULL)
			rc = open_drive(d, b, &disk[i], err);
		if (blk != NULL)
			blk[i] = d->blk;
	}
	for (unsigned i = 0; i < 2 && rc == 0; i++)
		rc = map_channel(&ide->channel[i], b, err);
	return rc;
}
