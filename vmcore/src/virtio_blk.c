#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "blk.h"
#include "imaging/dev.h"
#include "virtio.h"
#include "virtio_pci.h"

/*
 * A request [VIRTIO 1.2, 5.2.6], one slot a head:
 *
 *   free ─[begin]─► busy, at vm_blk ─[on_done]─► free, in the used ring
 *             │          └─ a cut: the head is in the state; [resume] begins it again
 *             └─ answered at once: a refusal, an id
 *
 * The driver may give the same head twice only by breaking the rules: the slot is busy then.
 */

#define QUEUE_SIZE    128u
#define SECTOR_BYTES  UINT64_C(512)
#define HEADER_BYTES  16u
#define SEGMENT_BYTES 16u /* of discard and write-zeroes */
#define ID_BYTES      20u
/* 2 GiB: more in one request would let the guest wait long for one answer. */
#define ZERO_SECTORS_MAX   (UINT32_C(1) << 22)
#define DEFAULT_THREADS    4u
#define LEGACY_BARRIER     UINT32_C(0x80000000)
#define SEGMENT_FLAG_UNMAP 1u
#define BLOCK_EXPONENT     3u /* 4 KiB physical blocks: guests align to what cuts count in */
#define GEOMETRY_HEADS     16u
#define GEOMETRY_SECTORS   63u
#define GEOMETRY_CYLINDERS 16383u
#define CONFIG_BYTES       60u

enum {
	F_SEG_MAX = 1 << 2,
	F_GEOMETRY = 1 << 4,
	F_RO = 1 << 5,
	F_BLK_SIZE = 1 << 6,
	F_FLUSH = 1 << 9,
	F_TOPOLOGY = 1 << 10,
	F_DISCARD = 1 << 13,
	F_WRITE_ZEROES = 1 << 14,
};
enum {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13,
};
enum status {
	S_OK = 0,
	S_IOERR = 1,
	S_UNSUPP = 2,
	S_PENDING = 0x100, /* ours: vm_blk answers later */
};

struct virtio_blk;

struct slot {
	struct vm_blk_req req; /* first */
	struct virtio_blk *disk;
	bool busy;
	uint16_t head;
	struct vm_gpa status;
	uint32_t written; /* data bytes in the driver's buffer when all goes well */
	struct vm_blk_piece piece[VM_CHAIN_PIECES];
};

struct virtio_blk {
	struct vm_virtio v; /* first */
	struct vm_blk *blk;
	char id[ID_BYTES];
	bool again[QUEUE_SIZE]; /* heads a checkpoint left in flight */
	struct vm_chain chain;  /* of the request that begins */
	struct slot slot[QUEUE_SIZE];
};

static struct virtio_blk *disk_of(struct vm_virtio *v)
{
	return (struct virtio_blk *)v;
}

/* ---- the end of a request ---- */

static void finish(struct slot *s, enum status status)
{
	struct virtio_blk *d = s->disk;
	uint8_t byte = (uint8_t)status;

	s->busy = false;
	(void)vm_mem_write(d->v.pci.dev.board->mem, s->status, &byte, 1);
	vm_virtio_complete(&d->v, 0, s->head, status == S_OK ? s->written + 1 : 1);
}

/* A driver that does not know of flushes believes that what is written stays. [5.2.6.2] */
static bool needs_flush(const struct slot *s)
{
	return s->req.rc == 0 && (s->req.op == VM_BLK_WRITE || s->req.op == VM_BLK_ZERO) &&
	       !vm_virtio_has(&s->disk->v, F_FLUSH);
}

static void on_done(struct vm_blk_req *req)
{
	struct slot *s = (struct slot *)req;

	if (needs_flush(s)) {
		req->op = VM_BLK_FLUSH;
		vm_blk_submit(s->disk->blk, req);
		return;
	}
	finish(s, req->rc == 0 ? S_OK : S_IOERR);
}

/* ---- its begin ---- */

static enum status submit(struct slot *s, enum vm_blk_op op)
{
	s->req.op = op;
	s->req.pieces = s->piece;
	s->req.done = on_done;
	vm_blk_submit(s->disk->blk, &s->req);
	return S_PENDING;
}

/* Is [sector, +len) on the disk? Sets the request's range. */
static bool set_range(struct slot *s, uint64_t sector, uint64_t len)
{
	uint64_t bytes = vm_blk_bytes(s->disk->blk);

	if (len % SECTOR_BYTES != 0 || len > bytes || sector > (bytes - len) / SECTOR_BYTES)
		return false;
	s->req.off = sector * SECTOR_BYTES;
	s->req.len_bytes = len;
	return true;
}

/* The pieces of @c's part from @first on, without its first @skip bytes, up to @len. */
static void take_pieces(struct slot *s, const struct vm_piece *first, uint64_t skip, uint64_t len)
{
	uint32_t n = 0;

	for (; len > 0; first++) {
		uint64_t have = first->len_bytes;

		if (skip >= have) {
			skip -= have;
			continue;
		}
		have = have - skip < len ? have - skip : len;
		s->piece[n].gpa.a = first->gpa.a + skip;
		s->piece[n++].len_bytes = (uint32_t)have;
		skip = 0;
		len -= have;
	}
	s->req.piece_count = n;
}

static enum status begin_read(struct slot *s, const struct vm_chain *c, uint64_t sector)
{
	uint64_t len = c->in_bytes - 1;

	if (!set_range(s, sector, len))
		return S_IOERR;
	if (len == 0)
		return S_OK;
	take_pieces(s, c->piece + c->out, 0, len);
	s->written = (uint32_t)(len < UINT32_MAX ? len : UINT32_MAX - 1);
	return submit(s, VM_BLK_READ);
}

static enum status begin_write(struct slot *s, const struct vm_chain *c, uint64_t sector)
{
	uint64_t len = c->out_bytes - HEADER_BYTES;

	if (!vm_blk_writable(s->disk->blk) || !set_range(s, sector, len))
		return S_IOERR;
	if (len == 0)
		return S_OK;
	take_pieces(s, c->piece, HEADER_BYTES, len);
	return submit(s, VM_BLK_WRITE);
}

/* One segment, as offered in the configuration. [5.2.6: struct virtio_blk_discard_write_zeroes] */
static enum status begin_zero(struct slot *s, const struct vm_chain *c, uint32_t type)
{
	uint8_t raw[SEGMENT_BYTES];
	struct lb_rd rd = lb_rd_init(raw, sizeof(raw));
	uint64_t sector;
	uint32_t sectors, flags;

	if (!vm_blk_writable(s->disk->blk) || c->out_bytes != HEADER_BYTES + SEGMENT_BYTES)
		return S_IOERR;
	if (vm_chain_read(s->disk->v.pci.dev.board->mem, c, HEADER_BYTES, raw, sizeof(raw)) !=
	    sizeof(raw))
		return S_IOERR;
	sector = lb_rd_u64le(&rd);
	sectors = lb_rd_u32le(&rd);
	flags = lb_rd_u32le(&rd);
	if ((flags & ~SEGMENT_FLAG_UNMAP) != 0 || (type == T_DISCARD && flags != 0))
		return S_UNSUPP;
	if (sectors > ZERO_SECTORS_MAX || !set_range(s, sector, sectors * SECTOR_BYTES))
		return S_IOERR;
	s->req.piece_count = 0;
	return sectors == 0 ? S_OK : submit(s, VM_BLK_ZERO);
}

static enum status get_id(struct slot *s, const struct vm_chain *c)
{
	uint64_t room = c->in_bytes - 1;

	room = room < ID_BYTES ? room : ID_BYTES;
	s->written =
		(uint32_t)vm_chain_write(s->disk->v.pci.dev.board->mem, c, 0, s->disk->id, room);
	return S_OK;
}

static enum status dispatch(struct slot *s, const struct vm_chain *c, uint32_t type,
			    uint64_t sector)
{
	switch (type) {
	case T_IN:
		return begin_read(s, c, sector);
	case T_OUT:
		return begin_write(s, c, sector);
	case T_FLUSH:
		s->req.piece_count = 0;
		return submit(s, VM_BLK_FLUSH);
	case T_GET_ID:
		return get_id(s, c);
	case T_DISCARD:
	case T_WRITE_ZEROES:
		return begin_zero(s, c, type);
	default:
		return S_UNSUPP;
	}
}

/* False: no driver makes such a request. */
static bool begin(struct virtio_blk *d, const struct vm_chain *c)
{
	struct slot *s = &d->slot[c->head];
	const struct vm_piece *last = &c->piece[c->out + c->in - 1];
	uint8_t raw[HEADER_BYTES];
	struct lb_rd rd = lb_rd_init(raw, sizeof(raw));
	enum status status;
	uint32_t type;

	if (s->busy || c->in_bytes == 0 ||
	    vm_chain_read(d->v.pci.dev.board->mem, c, 0, raw, sizeof(raw)) != sizeof(raw))
		return false;
	type = lb_rd_u32le(&rd) & ~LEGACY_BARRIER;
	(void)lb_rd_u32le(&rd); /* priority */
	s->disk = d;
	s->busy = true;
	s->head = c->head;
	s->status.a = last->gpa.a + last->len_bytes - 1;
	s->written = 0;
	status = dispatch(s, c, type, lb_rd_u64le(&rd));
	if (status != S_PENDING)
		finish(s, status);
	return true;
}

static void blk_notify(struct vm_virtio *v, unsigned queue)
{
	struct virtio_blk *d = disk_of(v);

	while (vm_virtq_pop(&v->queue[queue], &d->chain))
		if (!begin(d, &d->chain))
			vm_virtio_break(v, queue);
}

/* ---- the device ---- */

static void blk_reset(struct vm_virtio *v)
{
	struct virtio_blk *d = disk_of(v);

	vm_blk_cancel(d->blk);
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		d->slot[i].busy = d->again[i] = false;
}

static void blk_save(struct vm_virtio *v, struct lb_wr *wr)
{
	const struct virtio_blk *d = disk_of(v);
	uint16_t n = 0;

	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		n = (uint16_t)(n + (d->slot[i].busy || d->again[i]));
	lb_wr_u64le(wr, vm_blk_bytes(d->blk));
	lb_wr_u16le(wr, n);
	for (uint16_t i = 0; i < QUEUE_SIZE; i++)
		if (d->slot[i].busy || d->again[i])
			lb_wr_u16le(wr, i);
}

static int blk_load(struct vm_virtio *v, struct lb_rd *rd, struct lb_err *err)
{
	struct virtio_blk *d = disk_of(v);
	uint64_t bytes = lb_rd_u64le(rd);
	uint16_t n = lb_rd_u16le(rd);

	if (bytes != vm_blk_bytes(d->blk))
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "disk of %" PRIu64 " bytes, this one has %" PRIu64, bytes,
				  vm_blk_bytes(d->blk));
	while (n-- > 0) {
		uint16_t head = lb_rd_u16le(rd);

		if (rd->bad || head >= v->queue[0].size)
			return lb_err_set(err, LB_ECORRUPT, 0, "request %u of %u in flight", head,
					  v->queue[0].size);
		d->again[head] = true;
	}
	return 0;
}

static void blk_resume(struct vm_virtio *v)
{
	struct virtio_blk *d = disk_of(v);

	for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
		if (!d->again[i])
			continue;
		d->again[i] = false;
		if (!v->queue[0].enabled || v->queue[0].broken)
			continue;
		if (!vm_virtq_chain(&v->queue[0], &d->chain, i) || !begin(d, &d->chain))
			vm_virtio_break(v, 0);
	}
}

static void blk_destroy(struct vm_virtio *v)
{
	struct virtio_blk *d = disk_of(v);

	vm_blk_destroy(d->blk);
	free(d);
}

static const struct vm_virtio_ops blk_ops = {
	.notify = blk_notify,
	.reset = blk_reset,
	.save = blk_save,
	.load = blk_load,
	.resume = blk_resume,
	.destroy = blk_destroy,
};
static const struct vm_dev_ops blk_dev_ops = {
	.name = "virtio-blk",
	.version = 1,
	.reset = vm_virtio_dev_reset,
	.save = vm_virtio_dev_save,
	.load = vm_virtio_dev_load,
	.resume = vm_virtio_dev_resume,
	.destroy = vm_virtio_dev_destroy,
};

/* struct virtio_blk_config [5.2.4] */
static void fill_config(struct virtio_blk *d, uint64_t bytes)
{
	struct lb_wr wr = lb_wr_init(d->v.config, sizeof(d->v.config));
	uint64_t sectors = bytes / SECTOR_BYTES;
	uint64_t cylinders = sectors / ((uint64_t)GEOMETRY_HEADS * GEOMETRY_SECTORS);

	lb_wr_u64le(&wr, sectors);
	lb_wr_u32le(&wr, 0);              /* size_max: not offered */
	lb_wr_u32le(&wr, QUEUE_SIZE - 2); /* seg_max: header and status take two */
	lb_wr_u16le(&wr,
		    (uint16_t)(cylinders < GEOMETRY_CYLINDERS ? cylinders : GEOMETRY_CYLINDERS));
	lb_wr_u8(&wr, GEOMETRY_HEADS);
	lb_wr_u8(&wr, GEOMETRY_SECTORS);
	lb_wr_u32le(&wr, (uint32_t)SECTOR_BYTES);
	lb_wr_u8(&wr, BLOCK_EXPONENT);
	lb_wr_u8(&wr, 0);                      /* alignment */
	lb_wr_u16le(&wr, 1 << BLOCK_EXPONENT); /* best at least this long */
	lb_wr_u32le(&wr, 0);                   /* and no longer: no opinion */
	lb_wr_zeros(&wr, 4);                   /* writeback, unused, queues: not offered */
	lb_wr_u32le(&wr, ZERO_SECTORS_MAX);
	lb_wr_u32le(&wr, 1);
	lb_wr_u32le(&wr, 1 << BLOCK_EXPONENT);
	lb_wr_u32le(&wr, ZERO_SECTORS_MAX);
	lb_wr_u32le(&wr, 1);
	lb_wr_u8(&wr, 1); /* zeroed blocks may be given back */
	lb_wr_zeros(&wr, 3);
	d->v.config_bytes = CONFIG_BYTES;
}

int vm_virtio_blk_create(struct vm_board *b, struct vm_pci *pci,
			 const struct vm_virtio_blk_cfg *cfg, struct vm_blk **blk,
			 struct lb_err *err)
{
	struct virtio_blk *d = NULL;
	bool writable = img_writable(cfg->dev);
	int rc;

	if (cfg->dev->size_bytes == 0 || cfg->dev->size_bytes % SECTOR_BYTES != 0)
		return lb_err_set(err, LB_EINPUT, 0, "a disk of %" PRIu64 " bytes",
				  cfg->dev->size_bytes);
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "virtio disk");
	d->v.ops = &blk_ops;
	d->v.type = VM_VIRTIO_BLK;
	d->v.features = F_SEG_MAX | F_GEOMETRY | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY;
	d->v.features |= writable ? F_DISCARD | F_WRITE_ZEROES : F_RO;
	d->v.queue_count = 1;
	d->v.queue[0].size_max = QUEUE_SIZE;
	if (cfg->serial != NULL)
		memcpy(d->id, cfg->serial, strnlen(cfg->serial, ID_BYTES));
	fill_config(d, cfg->dev->size_bytes);
	rc = vm_blk_create(&d->blk, b, cfg->dev, cfg->threads != 0 ? cfg->threads : DEFAULT_THREADS,
			   err);
	if (rc != 0)
		goto out;
	rc = vm_virtio_add(&d->v, b, pci, &blk_dev_ops, err);
	if (rc != 0)
		goto out;
	if (blk != NULL)
		*blk = d->blk;
	d = NULL; /* the board's */
out:
	if (d != NULL)
		vm_blk_destroy(d->blk);
	free(d);
	return rc;
}
