#include "ide_int.h"

/*
 *   registers of a channel   0 command: bit 0 start, bit 3 towards memory
 *                            2 status: bit 0 active, 1 error, 2 interrupt, 5 and 6 drives can DMA
 *                            4 table: physical address of the PRDs, dword aligned
 *   PRD                      u32 address, u16 bytes (0: 64 KiB), bit 31 of the second word: last
 *
 * [SFF-8038i, "Programming Interface for Bus Master IDE Controller", rev. 1.0]
 */
#define PRD_BYTES   8u
#define PRD_ENTRIES 8192u
#define PRD_LAST    0x80000000u

enum {
	REG_COMMAND = 0,
	REG_STATUS = 2,
	REG_TABLE = 4,
	CMD_START = 1 << 0,
	CMD_TO_MEMORY = 1 << 3,
	ST_ACTIVE = 1 << 0,
	ST_ERROR = 1 << 1,
	ST_INTERRUPT = 1 << 2,
	ST_DRIVES = 0x60,
};

/* ---- the table ---- */

struct prd {
	uint64_t base;
	uint32_t bytes;
	bool last;
};

static bool read_prd(struct ide_channel *ch, uint32_t entry, struct prd *out)
{
	struct vm_mem *mem = ch->ide->pci.dev.board->mem;
	struct vm_gpa at = {(uint64_t)ch->bm_table + (uint64_t)entry * PRD_BYTES};
	uint8_t raw[PRD_BYTES];
	struct lb_rd rd = lb_rd_init(raw, sizeof(raw));
	uint32_t second;

	if (entry >= PRD_ENTRIES || !vm_mem_read(mem, raw, at, sizeof(raw)))
		return false;
	out->base = lb_rd_u32le(&rd) & ~1u;
	second = lb_rd_u32le(&rd);
	out->bytes = second & 0xfffe;
	if (out->bytes == 0)
		out->bytes = 0x10000;
	out->last = (second & PRD_LAST) != 0;
	return true;
}

/* One more piece, joined to the one before where it follows it in memory. */
static bool add_piece(struct ide_channel *ch, uint64_t base, uint32_t bytes)
{
	struct vm_mem *mem = ch->ide->pci.dev.board->mem;
	struct vm_blk_piece *prev = ch->pieces > 0 ? &ch->piece[ch->pieces - 1] : NULL;

	if (vm_mem_ptr(mem, (struct vm_gpa){base}, bytes) == NULL)
		return false;
	if (prev != NULL && prev->gpa.a + prev->len_bytes == base &&
	    vm_mem_ptr(mem, prev->gpa, (uint64_t)prev->len_bytes + bytes) != NULL) {
		prev->len_bytes += bytes;
		return true;
	}
	if (ch->pieces == IDE_PIECES_MAX)
		return false;
	ch->piece[ch->pieces++] = (struct vm_blk_piece){.gpa = {.a = base}, .len_bytes = bytes};
	return true;
}

/* The pieces of one sector from *@at on, which moves behind it. */
static bool gather_sector(struct ide_channel *ch, struct ide_prd *at)
{
	uint32_t need = IDE_SECTOR_BYTES;

	while (need > 0) {
		struct prd p;
		uint32_t n;

		if (at->end || !read_prd(ch, at->entry, &p) || at->used >= p.bytes)
			return false;
		n = p.bytes - at->used < need ? p.bytes - at->used : need;
		if (!add_piece(ch, p.base + at->used, n))
			return false;
		need -= n;
		at->used += n;
		if (at->used == p.bytes) {
			*at = (struct ide_prd){.entry = at->entry + 1, .end = p.last};
		}
	}
	return true;
}

uint32_t ide_bm_gather(struct ide_channel *ch, uint32_t sectors)
{
	struct ide_prd at = ch->prd;
	uint32_t n = 0;

	ch->pieces = 0;
	ch->prd_next = at;
	while (n < sectors) {
		struct vm_blk_piece last = ch->pieces > 0 ? ch->piece[ch->pieces - 1]
							  : (struct vm_blk_piece){.len_bytes = 0};
		uint32_t pieces = ch->pieces;

		if (!gather_sector(ch, &at)) {
			/* what is whole goes first; the rest comes, or fails, with the next */
			ch->pieces = pieces;
			if (pieces > 0)
				ch->piece[pieces - 1] = last;
			break;
		}
		ch->prd_next = at;
		n++;
	}
	return n;
}

/* ---- command and drive meet ---- */

static bool is_started(const struct ide_channel *ch)
{
	return (ch->bm_command & CMD_START) != 0;
}

void ide_bm_begin(struct ide_channel *ch)
{
	bool to_memory = ch->transfer == IDE_DMA_READ;

	ch->phase = IDE_DMA_WAIT;
	if ((ch->bm_status & ST_ACTIVE) == 0)
		return;
	if (((ch->bm_command & CMD_TO_MEMORY) != 0) != to_memory ||
	    !vm_pci_is_master(&ch->ide->pci)) {
		ide_finish(ch, IDE_ER_ABRT);
		return;
	}
	ide_submit(ch);
}

/* Active stays up when the table is longer than the transfer [SFF-8038i, 3.1, table]. */
void ide_bm_end(struct ide_channel *ch, bool failed)
{
	if (failed)
		ch->bm_status |= ST_ERROR;
	if (failed || ch->prd_next.end)
		ch->bm_status &= (uint8_t)~ST_ACTIVE;
}

static void start(struct ide_channel *ch)
{
	ch->bm_status |= ST_ACTIVE;
	ch->prd = (struct ide_prd){.entry = 0};
	if (ch->phase == IDE_DMA_WAIT)
		ide_bm_begin(ch);
}

/* In the middle of a transfer it ends here: nothing is written to memory from now on. */
static void stop(struct ide_channel *ch)
{
	bool running = ch->phase == IDE_BUSY && !ch->flushing &&
		       (ch->transfer == IDE_DMA_READ || ch->transfer == IDE_DMA_WRITE);

	ch->bm_status &= (uint8_t)~ST_ACTIVE;
	if (!running)
		return;
	ide_cancel(ch);
	if (ch->cancels == 0 && ch->phase == IDE_BUSY)
		ide_finish(ch, IDE_ER_ABRT);
}

static void write_command(struct ide_channel *ch, uint8_t v)
{
	bool was = is_started(ch);

	ch->bm_command = v & (CMD_START | CMD_TO_MEMORY);
	if (!was && is_started(ch))
		start(ch);
	else if (was && !is_started(ch))
		stop(ch);
}

static void write_status(struct ide_channel *ch, uint8_t v)
{
	ch->bm_status &= (uint8_t) ~(v & (ST_ERROR | ST_INTERRUPT));
	ch->bm_status = (uint8_t)((ch->bm_status & ~ST_DRIVES) | (v & ST_DRIVES));
}

/* ---- registers ---- */

static uint8_t reg_read(const struct ide_channel *ch, unsigned reg)
{
	switch (reg) {
	case REG_COMMAND:
		return ch->bm_command;
	case REG_STATUS:
		return ch->bm_status;
	case REG_TABLE:
	case REG_TABLE + 1:
	case REG_TABLE + 2:
	case REG_TABLE + 3:
		return (uint8_t)(ch->bm_table >> (8 * (reg - REG_TABLE)));
	default:
		return 0;
	}
}

static void reg_write(struct ide_channel *ch, unsigned reg, uint8_t v)
{
	unsigned shift = 8 * (reg - REG_TABLE);

	if (reg == REG_COMMAND)
		write_command(ch, v);
	else if (reg == REG_STATUS)
		write_status(ch, v);
	else if (reg >= REG_TABLE && !is_started(ch)) /* a running table stays */
		ch->bm_table = ((ch->bm_table & ~(0xffu << shift)) | (uint32_t)v << shift) & ~3u;
}

static uint64_t bm_read(void *arg, uint64_t off, unsigned size)
{
	const struct ide_dev *ide = arg;
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++) {
		unsigned reg = (unsigned)off + i;

		v |= (uint64_t)reg_read(&ide->channel[reg / IDE_BM_PORTS], reg % IDE_BM_PORTS)
		     << (8 * i);
	}
	return v;
}

static void bm_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct ide_dev *ide = arg;

	for (unsigned i = 0; i < size; i++) {
		unsigned reg = (unsigned)off + i;

		reg_write(&ide->channel[reg / IDE_BM_PORTS], reg % IDE_BM_PORTS,
			  (uint8_t)(value >> (8 * i)));
	}
}

const struct vm_io_ops ide_bm_io = {.read = bm_read, .write = bm_write};
