/*
 * A hostile guest drives disk, network card, agent port and entropy source of one board: registers,
 * configuration space, rings and descriptors as the input says, frames and bytes from outside, a
 * disk that fails, resets, and states saved, damaged and loaded. Nothing may break but the guest.
 *
 * The input is a list of operations, an octet each with its operands (see the cases of step()).
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "blk.h"
#include "board.h"
#include "imaging/dev.h"
#include "net_int.h"
#include "pci.h"
#include "virtio.h"

#define RAM_BYTES    UINT64_C(0x200000)
#define DISK_BYTES   UINT64_C(0x10000)
#define DEVICES      4u
#define QUEUES       6u
#define RING_BYTES   0x8000u
#define RINGS_AT     0x10000u
#define DATA_AT      0x100000u
#define STEPS_MAX    400u
#define LIMIT_NS     UINT64_C(60000000000)
#define FIRST_SLOT   3u
#define CONFIG_DATA  0xcfcu
#define IO_AT        0xc000u
#define MEM_AT       0xfe000000u
#define MODERN_AVAIL 0x4000u
#define MODERN_USED  0x5000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Size of each device's queues. */
static const uint16_t ring_size[DEVICES] = {128, 256, 64, 64};

struct sink {
	struct vm_net net; /* first */
	bool full;
};

struct fuzz {
	struct vm_mem mem;
	struct vm_board board;
	struct vm_pci *pci;
	struct img_dev *disk, *fault;
	struct vm_blk *blk;
	struct sink sink;
	struct vm_virtio_console *console;
	bool modern[DEVICES];
	uint16_t avail[DEVICES][QUEUES];
	struct lb_rd in;
	uint8_t *state;
};

static void ignore_line(void *arg, unsigned irq, bool level)
{
	(void)arg;
	(void)level;
	LB_ASSERT(irq < 16);
}

static void ignore_msi(void *arg, uint64_t addr, uint32_t data)
{
	(void)arg;
	(void)addr;
	(void)data;
}

static void ignore_event(void *arg, const struct vm_event *e)
{
	static _Atomic uint8_t last;

	(void)arg;
	if (e->len > 0)
		last = e->bytes[e->len - 1];
	(void)last;
}

static bool sink_send(struct vm_net *n, const void *frame, size_t len)
{
	static _Atomic uint8_t last;

	LB_ASSERT(len > 0 && len <= VM_FRAME_MAX);
	last = ((const uint8_t *)frame)[len - 1];
	(void)last;
	return !((struct sink *)n)->full;
}

static void sink_destroy(struct vm_net *n)
{
	(void)n;
}

/* ---- the guest's accesses ---- */

static void config_write(struct fuzz *f, unsigned dev, unsigned off, unsigned size, uint32_t v)
{
	vm_board_pio_write(&f->board, 0xcf8, 4,
			   UINT32_C(0x80000000) | (FIRST_SLOT + dev) << 11 | (off & 0xfc));
	vm_board_pio_write(&f->board, (uint16_t)(CONFIG_DATA + (off & 3)), size, v);
}

static uint16_t io_of(unsigned dev)
{
	return (uint16_t)(IO_AT + 0x100 * dev);
}

static uint32_t mem_of(unsigned dev)
{
	return MEM_AT + 0x10000 * dev;
}

static void place(struct fuzz *f, unsigned dev)
{
	config_write(f, dev, 0x10, 4, io_of(dev));
	config_write(f, dev, 0x14, 4, mem_of(dev) + 0x8000);
	config_write(f, dev, 0x20, 4, mem_of(dev));
	config_write(f, dev, 4, 2, 7);
}

static uint32_t ring_at(unsigned dev, unsigned queue)
{
	return RINGS_AT + RING_BYTES * (dev * QUEUES + queue);
}

static uint32_t avail_at(const struct fuzz *f, unsigned dev, unsigned queue)
{
	return ring_at(dev, queue) + (f->modern[dev] ? MODERN_AVAIL : 16u * ring_size[dev]);
}

static void common(struct fuzz *f, unsigned dev, unsigned off, unsigned size, uint64_t v)
{
	vm_board_mmio_write(&f->board, mem_of(dev) + off, size, v);
}

static void start_modern(struct fuzz *f, unsigned dev, uint32_t features)
{
	common(f, dev, 20, 1, 0);
	common(f, dev, 20, 1, 3);
	common(f, dev, 8, 4, 0);
	common(f, dev, 12, 4, features);
	common(f, dev, 8, 4, 1);
	common(f, dev, 12, 4, 1);
	common(f, dev, 20, 1, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		common(f, dev, 22, 2, q);
		common(f, dev, 32, 8, ring_at(dev, q));
		common(f, dev, 40, 8, ring_at(dev, q) + MODERN_AVAIL);
		common(f, dev, 48, 8, ring_at(dev, q) + MODERN_USED);
		common(f, dev, 26, 2, q);
		common(f, dev, 28, 2, 1);
	}
	common(f, dev, 20, 1, 15);
}

static void start_legacy(struct fuzz *f, unsigned dev, uint32_t features)
{
	uint16_t io = io_of(dev);

	vm_board_pio_write(&f->board, io + 18, 1, 0);
	vm_board_pio_write(&f->board, io + 18, 1, 3);
	vm_board_pio_write(&f->board, io + 4, 4, features);
	for (unsigned q = 0; q < QUEUES; q++) {
		vm_board_pio_write(&f->board, io + 14, 2, q);
		vm_board_pio_write(&f->board, io + 8, 4, ring_at(dev, q) >> 12);
	}
	vm_board_pio_write(&f->board, io + 18, 1, 7);
}

static void start(struct fuzz *f, unsigned dev, bool modern, uint32_t features)
{
	place(f, dev);
	f->modern[dev] = modern;
	memset(f->avail[dev], 0, sizeof(f->avail[dev]));
	memset(f->mem.base + ring_at(dev, 0), 0, QUEUES * RING_BYTES);
	if (modern)
		start_modern(f, dev, features);
	else
		start_legacy(f, dev, features);
}

static void kick(struct fuzz *f, unsigned dev, unsigned queue)
{
	if (f->modern[dev])
		vm_board_mmio_write(&f->board, mem_of(dev) + 0x3000 + 4 * queue, 2, queue);
	else
		vm_board_pio_write(&f->board, io_of(dev) + 16, 2, queue);
}

static void put16(struct fuzz *f, uint32_t at, uint16_t v)
{
	memcpy(f->mem.base + at, &v, sizeof(v));
}

/* A head into the ring, and a kick. */
static void offer(struct fuzz *f, unsigned dev, unsigned queue, uint16_t head)
{
	uint32_t at = avail_at(f, dev, queue);
	uint16_t *idx = &f->avail[dev][queue];

	put16(f, at + 4 + 2u * (*idx % ring_size[dev]), head);
	++*idx;
	put16(f, at + 2, *idx);
	kick(f, dev, queue);
}

static void write_desc(struct fuzz *f, uint32_t at)
{
	uint8_t raw[16] = {0};
	struct lb_wr wr = lb_wr_init(raw, sizeof(raw));
	uint16_t where = lb_rd_u16le(&f->in), len = lb_rd_u16le(&f->in);

	/* usually in the data, sometimes anywhere */
	lb_wr_u64le(&wr, (where & 0x8000) != 0 ? (uint64_t)where << (where & 31)
					       : DATA_AT + 32u * where);
	lb_wr_u32le(&wr, len == 0xffff ? UINT32_MAX : len);
	lb_wr_u16le(&wr, lb_rd_u8(&f->in));
	lb_wr_u16le(&wr, lb_rd_u8(&f->in));
	memcpy(f->mem.base + at, raw, sizeof(raw));
}

static void write_memory(struct fuzz *f)
{
	uint32_t at = (lb_rd_u16le(&f->in) * UINT32_C(16)) % (RAM_BYTES - 256) + DATA_AT;
	uint8_t len = lb_rd_u8(&f->in);
	const uint8_t *p = lb_rd_bytes(&f->in, len);

	if (p != NULL && at + len <= RAM_BYTES)
		memcpy(f->mem.base + at, p, len);
}

/* ---- state ---- */

static size_t save(struct fuzz *f)
{
	struct lb_wr wr = lb_wr_init(f->state, 4 * VM_SECTION_MAX);
	bool fits;

	vm_board_lock(&f->board);
	fits = vm_board_save(&f->board, &wr);
	vm_board_unlock(&f->board);
	LB_ASSERT(fits);
	return wr.len;
}

/* What was saved is taken back. What was damaged is taken or refused, and then reset. */
static void load(struct fuzz *f, size_t len, bool damaged)
{
	struct lb_rd rd = lb_rd_init(f->state, len);
	int rc;

	vm_board_lock(&f->board);
	rc = vm_board_load(&f->board, &rd, NULL);
	LB_ASSERT(rc == 0 || damaged);
	if (rc == 0)
		vm_board_resume(&f->board);
	else
		vm_board_reset(&f->board);
	vm_board_unlock(&f->board);
}

static void damage(struct fuzz *f)
{
	size_t len = save(f);
	uint32_t at = lb_rd_u16le(&f->in);
	uint8_t x = lb_rd_u8(&f->in);

	f->state[at % len] ^= x;
	load(f, len, true);
}

static void reset(struct fuzz *f)
{
	vm_board_lock(&f->board);
	vm_board_reset(&f->board);
	vm_board_unlock(&f->board);
}

/* ---- the list of operations ---- */

static void access_bar(struct fuzz *f, unsigned dev, bool io)
{
	uint16_t off = lb_rd_u16le(&f->in);
	unsigned size = 1u << (off >> 14);
	uint32_t v = lb_rd_u32le(&f->in);

	off &= io ? 0x7f : 0x3fff;
	if (io && size <= 4) {
		vm_board_pio_write(&f->board, (uint16_t)(io_of(dev) + off), size, v);
		(void)vm_board_pio_read(&f->board, (uint16_t)(io_of(dev) + off), size);
	} else {
		uint32_t at = mem_of(dev) + off + ((v & 1) != 0 && off < 0x1000 ? 0x8000 : 0);

		vm_board_mmio_write(&f->board, at, size, v >> 1);
		(void)vm_board_mmio_read(&f->board, at, size);
	}
}

static void access_config(struct fuzz *f, unsigned dev)
{
	uint8_t off = lb_rd_u8(&f->in);

	config_write(f, dev, off, 1, lb_rd_u8(&f->in));
	(void)vm_board_pio_read(&f->board, CONFIG_DATA, 4);
}

static void frame_in(struct fuzz *f)
{
	static const uint8_t big[2000] = {0xff};
	uint8_t len = lb_rd_u8(&f->in);
	const uint8_t *p = lb_rd_bytes(&f->in, len);

	if (len == 255)
		vm_net_deliver(&f->sink.net, big, sizeof(big));
	else if (p != NULL)
		vm_net_deliver(&f->sink.net, p, len);
}

static void console_in(struct fuzz *f)
{
	uint8_t len = lb_rd_u8(&f->in);
	const uint8_t *p = lb_rd_bytes(&f->in, len);

	if (p != NULL)
		(void)vm_virtio_console_input(f->console, p, len);
}

/* A guest may write its memory while a disk's worker does, and nothing orders the two: no fault of
 * the devices, but ThreadSanitizer would tell of each. unit.virtio_races is its test. */
static void part(struct fuzz *f)
{
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
	LB_ASSERT(vm_blk_drain(f->blk, LIMIT_NS));
#endif
#endif
	(void)f;
}

static void step(struct fuzz *f)
{
	uint8_t op = lb_rd_u8(&f->in);
	unsigned dev = op >> 4 & 3, queue;

	part(f);
	switch (op & 15) {
	case 0: {
		uint32_t features = lb_rd_u32le(&f->in);

		start(f, dev, op >> 6 & 1, features);
		break;
	}
	case 1: /* a descriptor: queue, index, address, length, flags, next */
		queue = lb_rd_u8(&f->in) % QUEUES;
		write_desc(f, ring_at(dev, queue) + 16u * (lb_rd_u8(&f->in) % ring_size[dev]));
		break;
	case 2:
		queue = lb_rd_u8(&f->in) % QUEUES;
		offer(f, dev, queue, lb_rd_u8(&f->in));
		break;
	case 3:
		write_memory(f);
		break;
	case 4: /* an entry of an indirect table */
		write_desc(f, DATA_AT + 0x80000 + 16u * lb_rd_u8(&f->in));
		break;
	case 5:
		access_bar(f, dev, true);
		break;
	case 6:
		access_bar(f, dev, false);
		break;
	case 7:
		access_config(f, dev);
		break;
	case 8:
		LB_ASSERT(vm_blk_drain(f->blk, LIMIT_NS));
		break;
	case 9:
		frame_in(f);
		break;
	case 10:
		console_in(f);
		break;
	case 11:
		load(f, save(f), false);
		break;
	case 12:
		damage(f);
		break;
	case 13:
		reset(f);
		break;
	case 14:
		f->sink.full = !f->sink.full;
		if (!f->sink.full)
			vm_net_room(&f->sink.net);
		break;
	default:
		queue = lb_rd_u8(&f->in) % QUEUES;
		kick(f, dev, queue);
		break;
	}
}

static void setup(struct fuzz *f, uint64_t fail_at)
{
	static const struct vm_board_ops board_ops = {ignore_line, ignore_msi, ignore_event};
	static const struct vm_net_ops sink_ops = {.send = sink_send, .destroy = sink_destroy};
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct vm_virtio_blk_cfg cfg = {.serial = "fuzz", .threads = 1};

	LB_ASSERT(vm_mem_init(&f->mem, RAM_BYTES, NULL) == 0);
	vm_board_init(&f->board, lb_env_real(), &f->mem, &board_ops, f);
	LB_ASSERT(img_mem_create(&f->disk, DISK_BYTES, NULL) == 0);
	LB_ASSERT(img_fault_create(&f->fault, f->disk, fail_at, LB_EIO, NULL) == 0);
	vm_net_init(&f->sink.net, &sink_ops, NULL);
	cfg.dev = f->fault;
	LB_ASSERT(vm_pci_create(&f->pci, &f->board, NULL) == 0);
	LB_ASSERT(vm_virtio_blk_create(&f->board, f->pci, &cfg, &f->blk, NULL) == 0);
	LB_ASSERT(vm_virtio_net_create(&f->board, f->pci, mac, &f->sink.net, NULL) == 0);
	LB_ASSERT(vm_virtio_console_create(&f->console, &f->board, f->pci, NULL) == 0);
	LB_ASSERT(vm_virtio_rng_create(&f->board, f->pci, NULL) == 0);
	f->state = malloc(4 * VM_SECTION_MAX);
	LB_ASSERT(f->state != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {.in = lb_rd_init(data, size)};

	setup(&f, lb_rd_u8(&f.in));
	for (unsigned i = 0; i < STEPS_MAX && !f.in.bad && f.in.left > 0; i++)
		step(&f);
	vm_board_fini(&f.board);
	vm_net_fini(&f.sink.net);
	img_dev_destroy(f.fault);
	img_dev_destroy(f.disk);
	vm_mem_fini(&f.mem);
	free(f.state);
	return 0;
}
