#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "ide_int.h"

/*
 * What a channel holds in a checkpoint. The sector buffer goes with it where its bytes mean
 * something: while the guest reads or fills it, and while its write is with the disk.
 */

static bool buffer_counts(const struct ide_channel *ch)
{
	return ch->phase == IDE_DATA_IN || ch->phase == IDE_DATA_OUT ||
	       (ch->phase == IDE_BUSY && ch->transfer == IDE_PIO_WRITE && !ch->flushing);
}

static void save_drive(const struct ide_drive *d, struct lb_wr *wr)
{
	lb_wr_u64le(wr, d->sectors);
	lb_wr_u16le(wr, d->heads);
	lb_wr_u16le(wr, d->track);
	lb_wr_u8(wr, d->multiple);
	lb_wr_u8(wr, d->mwdma);
	lb_wr_u8(wr, d->no_cache);
	lb_wr_u8(wr, d->status);
	lb_wr_u8(wr, d->error);
}

static void save_prd(const struct ide_prd *p, struct lb_wr *wr)
{
	lb_wr_u32le(wr, p->entry);
	lb_wr_u32le(wr, p->used);
	lb_wr_u8(wr, p->end);
}

static void save_channel(const struct ide_channel *ch, struct lb_wr *wr)
{
	for (unsigned i = 0; i < 2; i++)
		save_drive(&ch->drive[i], wr);
	lb_wr_bytes(wr, ch->feature, 2);
	lb_wr_bytes(wr, ch->count, 2);
	lb_wr_bytes(wr, ch->lba_low, 2);
	lb_wr_bytes(wr, ch->lba_mid, 2);
	lb_wr_bytes(wr, ch->lba_high, 2);
	lb_wr_u8(wr, ch->device);
	lb_wr_u8(wr, ch->control);
	lb_wr_u8(wr, ch->irq);
	lb_wr_u8(wr, (uint8_t)ch->phase);
	lb_wr_u8(wr, (uint8_t)ch->transfer);
	lb_wr_u8(wr, ch->flushing);
	lb_wr_u8(wr, ch->unit);
	lb_wr_u64le(wr, ch->lba);
	lb_wr_u32le(wr, ch->left);
	lb_wr_u32le(wr, ch->block);
	lb_wr_u32le(wr, ch->block_max);
	lb_wr_u8(wr, ch->bm_command);
	lb_wr_u8(wr, ch->bm_status);
	lb_wr_u32le(wr, ch->bm_table);
	save_prd(&ch->prd, wr);
	lb_wr_u32le(wr, buffer_counts(ch) ? ch->pos : 0);
	lb_wr_u32le(wr, buffer_counts(ch) ? ch->len : 0);
	if (buffer_counts(ch))
		lb_wr_bytes(wr, ch->buffer, ch->len);
}

void ide_save(struct vm_dev *d, struct lb_wr *wr)
{
	struct ide_dev *ide = (struct ide_dev *)d;

	vm_pci_save(&ide->pci, wr);
	for (unsigned i = 0; i < 2; i++)
		save_channel(&ide->channel[i], wr);
}

/* ---- load ---- */

static int load_drive(struct ide_drive *d, struct lb_rd *rd, struct lb_err *err)
{
	struct ide_drive to = *d;
	uint64_t sectors = lb_rd_u64le(rd);
	uint16_t heads = lb_rd_u16le(rd), track = lb_rd_u16le(rd);

	to.multiple = lb_rd_u8(rd);
	to.mwdma = lb_rd_u8(rd);
	to.no_cache = lb_rd_u8(rd) != 0;
	to.status = lb_rd_u8(rd) & (IDE_ST_ERR | IDE_ST_DSC | IDE_ST_DF | IDE_ST_DRDY);
	to.error = lb_rd_u8(rd);
	if (sectors != d->sectors)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "a disk of %" PRIu64 " sectors where there is one of %" PRIu64,
				  sectors, d->sectors);
	if (to.multiple > IDE_MULTIPLE_MAX ||
	    (to.blk != NULL && !ide_set_geometry(&to, heads, track)))
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "geometry of %u heads, %u sectors, blocks of %u", heads, track,
				  to.multiple);
	*d = to;
	return 0;
}

static void load_task_file(struct ide_channel *ch, struct lb_rd *rd)
{
	lb_rd_copy(rd, ch->feature, 2);
	lb_rd_copy(rd, ch->count, 2);
	lb_rd_copy(rd, ch->lba_low, 2);
	lb_rd_copy(rd, ch->lba_mid, 2);
	lb_rd_copy(rd, ch->lba_high, 2);
	ch->device = lb_rd_u8(rd);
	ch->control = lb_rd_u8(rd);
	ch->irq = lb_rd_u8(rd) != 0;
}

/* The command under way must be one that this drive could have begun. */
static bool is_consistent(const struct ide_channel *ch)
{
	const struct ide_drive *d = &ch->drive[ch->unit];
	bool dma = ch->transfer == IDE_DMA_READ || ch->transfer == IDE_DMA_WRITE;
	bool write = ch->transfer == IDE_PIO_WRITE || ch->transfer == IDE_DMA_WRITE;
	bool range = ch->block >= 1 && ch->block <= ch->left && ch->left <= 65536 &&
		     ch->block <= ch->block_max &&
		     ch->block_max <= (dma ? IDE_DMA_SECTORS : IDE_MULTIPLE_MAX) &&
		     ch->lba < d->sectors && ch->left <= d->sectors - ch->lba;

	if (ch->phase == IDE_IDLE || ch->phase == IDE_RESETTING)
		return true;
	if (d->blk == NULL || (write && !vm_blk_writable(d->blk)))
		return false;
	switch (ch->transfer) {
	case IDE_NONE: /* IDENTIFY */
		return ch->phase == IDE_DATA_IN;
	case IDE_FLUSH:
		return ch->phase == IDE_BUSY;
	case IDE_PIO_READ:
		return range && (ch->phase == IDE_DATA_IN || ch->phase == IDE_BUSY);
	case IDE_PIO_WRITE:
		return (range || ch->flushing) &&
		       (ch->phase == IDE_DATA_OUT || ch->phase == IDE_BUSY);
	case IDE_VERIFY:
		return range && ch->phase == IDE_BUSY;
	case IDE_DMA_READ:
	case IDE_DMA_WRITE:
		return (range || (ch->flushing && ch->phase == IDE_BUSY)) &&
		       (ch->phase == IDE_BUSY || ch->phase == IDE_DMA_WAIT);
	}
	return false;
}

/* Length of the buffer as the phase wants it. */
static uint32_t buffer_len(const struct ide_channel *ch)
{
	if (!buffer_counts(ch))
		return 0;
	return (ch->transfer == IDE_NONE ? 1 : ch->block) * IDE_SECTOR_BYTES;
}

static int load_command(struct ide_channel *ch, struct lb_rd *rd, struct lb_err *err)
{
	uint8_t phase = lb_rd_u8(rd), transfer = lb_rd_u8(rd), flushing = lb_rd_u8(rd);
	uint8_t unit = lb_rd_u8(rd);

	ch->lba = lb_rd_u64le(rd);
	ch->left = lb_rd_u32le(rd);
	ch->block = lb_rd_u32le(rd);
	ch->block_max = lb_rd_u32le(rd);
	if (phase > IDE_RESETTING || transfer > IDE_FLUSH || unit > 1)
		return lb_err_set(err, LB_ECORRUPT, 0, "phase %u of command %u on drive %u", phase,
				  transfer, unit);
	ch->phase = (enum ide_phase)phase;
	ch->transfer = (enum ide_transfer)transfer;
	ch->unit = unit;
	ch->flushing = flushing != 0 && phase == IDE_BUSY &&
		       (transfer == IDE_PIO_WRITE || transfer == IDE_DMA_WRITE);
	if (!is_consistent(ch))
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "command %u in phase %u at sector %" PRIu64 ", %u left", transfer,
				  phase, ch->lba, ch->left);
	return 0;
}

static void load_bus_master(struct ide_channel *ch, struct lb_rd *rd)
{
	ch->bm_command = lb_rd_u8(rd) & 0x09;
	ch->bm_status = lb_rd_u8(rd) & 0x67;
	ch->bm_table = lb_rd_u32le(rd) & ~3u;
	ch->prd.entry = lb_rd_u32le(rd); /* any value: read_prd() refuses what is past the table */
	ch->prd.used = lb_rd_u32le(rd);
	ch->prd.end = lb_rd_u8(rd) != 0;
	ch->prd_next = ch->prd;
}

static int load_channel(struct ide_channel *ch, struct lb_rd *rd, struct lb_err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < 2 && rc == 0; i++)
		rc = load_drive(&ch->drive[i], rd, err);
	if (rc != 0)
		return rc;
	load_task_file(ch, rd);
	rc = load_command(ch, rd, err);
	if (rc != 0)
		return rc;
	load_bus_master(ch, rd);
	ch->pos = lb_rd_u32le(rd);
	ch->len = lb_rd_u32le(rd);
	if (ch->len != buffer_len(ch) || ch->pos > ch->len ||
	    (ch->pos == ch->len && ch->phase != IDE_BUSY && ch->len != 0))
		return lb_err_set(err, LB_ECORRUPT, 0, "buffer at %u of %u bytes", ch->pos,
				  ch->len);
	lb_rd_copy(rd, ch->buffer, ch->len);
	return 0;
}

int ide_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct ide_dev *ide = (struct ide_dev *)d;
	int rc = vm_pci_load(&ide->pci, rd, err);

	(void)version;
	for (unsigned i = 0; i < 2 && rc == 0; i++) {
		ide_cancel(&ide->channel[i]);
		rc = load_channel(&ide->channel[i], rd, err);
		if (rc != 0) {
			ide->channel[i].phase = IDE_IDLE;
			rc = lb_err_wrap(err, rc, "channel %u", i);
		}
	}
	return rc;
}

void ide_resume(struct vm_dev *d)
{
	struct ide_dev *ide = (struct ide_dev *)d;

	for (unsigned i = 0; i < 2; i++) {
		ide_update_irq(&ide->channel[i]);
		if (ide->channel[i].phase == IDE_BUSY)
			ide_submit(&ide->channel[i]);
	}
}
