/*
 *   off ──count written [load]──► running ──tick──► running   (modes 2 and 3)
 *    ▲                              │  └────tick──► off       (others)
 *    └───────command [set_mode]─────┘
 */
#include "slowpit.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/thread.h"
#include "board.h"

#define PIT_HZ     UINT64_C(1193182)
#define SECOND     UINT64_C(1000000000)
#define PORT_PIT   0x40
#define PORT_61    0x61
#define PORT_61_ON 0x20 /* channel 2's output */

enum access {
	ACCESS_LATCH,
	ACCESS_LOW,
	ACCESS_HIGH,
	ACCESS_BOTH
};

struct slowpit {
	struct vm_dev dev;
	struct vm_board *board; /* the thread's: it runs before dev is registered */
	unsigned irq_source;
	uint32_t stretch;
	pthread_t thread;
	pthread_cond_t changed; /* with the board's lock */
	bool quit;

	uint8_t mode, access;
	bool running, low_written, latched, high_next;
	uint8_t low, port_61;
	uint16_t latch;
	uint32_t count; /* 1..65536 */
	uint64_t next_ns;
};

static uint64_t period_ns(const struct slowpit *p)
{
	return (uint64_t)p->count * p->stretch * SECOND / PIT_HZ;
}

static bool periodic(const struct slowpit *p)
{
	return (p->mode & 3) == 2 || (p->mode & 3) == 3;
}

static void load(struct slowpit *p, uint16_t value)
{
	p->count = value == 0 ? 65536 : value;
	p->next_ns = lb_monotonic_ns() + period_ns(p);
	p->running = true;
	(void)pthread_cond_signal(&p->changed);
}

static uint16_t counter(const struct slowpit *p)
{
	uint64_t now = lb_monotonic_ns(), left = now < p->next_ns ? p->next_ns - now : 0;

	if (!p->running)
		return 0;
	return (uint16_t)(left * PIT_HZ / p->stretch / SECOND);
}

static void set_mode(struct slowpit *p, uint8_t v)
{
	uint8_t access = v >> 4 & 3;

	if (v >> 6 != 0) /* another channel, or read-back */
		return;
	if (access == ACCESS_LATCH) {
		p->latch = counter(p);
		p->latched = true;
		p->high_next = false;
		return;
	}
	p->mode = v >> 1 & 7;
	p->access = access;
	p->low_written = p->high_next = p->latched = false;
	p->running = false;
}

static void write_count(struct slowpit *p, uint8_t v)
{
	if (p->access == ACCESS_LOW) {
		load(p, v);
	} else if (p->access == ACCESS_HIGH) {
		load(p, (uint16_t)(v << 8));
	} else if (!p->low_written) {
		p->low = v;
		p->low_written = true;
	} else {
		p->low_written = false;
		load(p, (uint16_t)(p->low | v << 8));
	}
}

static uint8_t read_count(struct slowpit *p)
{
	uint16_t v = p->latched ? p->latch : counter(p);
	bool high = p->access == ACCESS_HIGH || (p->access == ACCESS_BOTH && p->high_next);

	if (p->access == ACCESS_BOTH)
		p->high_next = !p->high_next;
	if (!p->high_next)
		p->latched = false;
	return (uint8_t)(high ? v >> 8 : v);
}

static uint64_t pit_read(void *arg, uint64_t off, unsigned size)
{
	(void)size;
	return off == 0 ? read_count(arg) : 0;
}

static void pit_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	(void)size;
	if (off == 0)
		write_count(arg, (uint8_t)value);
	else if (off == 3)
		set_mode(arg, (uint8_t)value);
}

static uint64_t port_61_read(void *arg, uint64_t off, unsigned size)
{
	(void)off;
	(void)size;
	return ((const struct slowpit *)arg)->port_61 | PORT_61_ON;
}

static void port_61_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	(void)off;
	(void)size;
	((struct slowpit *)arg)->port_61 = (uint8_t)value & 3;
}

/* ---- the clock's thread ---- */

static void wait_until(struct slowpit *p, uint64_t ns)
{
	struct timespec t = lb_cond_until(ns);

	(void)pthread_cond_timedwait(&p->changed, &p->board->lock, &t);
}

static void tick(struct slowpit *p, uint64_t now)
{
	p->running = periodic(p);
	p->next_ns += period_ns(p);
	if (p->next_ns <= now) /* ticks nobody could have seen are not made up for */
		p->next_ns = now + period_ns(p);
	vm_irq_pulse(p->board, 0, p->irq_source);
}

static void *pit_main(void *arg)
{
	struct slowpit *p = arg;

	vm_board_lock(p->board);
	while (!p->quit) {
		uint64_t now = lb_monotonic_ns();

		if (!p->running)
			(void)pthread_cond_wait(&p->changed, &p->board->lock);
		else if (now < p->next_ns)
			wait_until(p, p->next_ns);
		else
			tick(p, now);
	}
	vm_board_unlock(p->board);
	return NULL;
}

/* ---- device ---- */

static void pit_reset(struct vm_dev *d)
{
	struct slowpit *p = (struct slowpit *)d;

	p->mode = p->access = p->low = p->port_61 = 0;
	p->running = p->low_written = p->latched = p->high_next = false;
	p->latch = 0;
	p->count = 65536;
	p->next_ns = 0;
}

static void pit_save(struct vm_dev *d, struct lb_wr *wr)
{
	const struct slowpit *p = (const struct slowpit *)d;
	uint64_t now = lb_monotonic_ns();

	lb_wr_u8(wr, p->mode);
	lb_wr_u8(wr, p->access);
	lb_wr_u8(wr, p->low);
	lb_wr_u8(wr, p->port_61);
	lb_wr_u8(wr, p->running);
	lb_wr_u8(wr, p->low_written);
	lb_wr_u8(wr, p->latched);
	lb_wr_u8(wr, p->high_next);
	lb_wr_u16le(wr, p->latch);
	lb_wr_u32le(wr, p->count);
	lb_wr_u64le(wr, p->next_ns > now ? p->next_ns - now : 0);
}

static int pit_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct slowpit *p = (struct slowpit *)d;
	uint64_t left;

	(void)version;
	p->mode = lb_rd_u8(rd);
	p->access = lb_rd_u8(rd);
	p->low = lb_rd_u8(rd);
	p->port_61 = lb_rd_u8(rd);
	p->running = lb_rd_u8(rd) != 0;
	p->low_written = lb_rd_u8(rd) != 0;
	p->latched = lb_rd_u8(rd) != 0;
	p->high_next = lb_rd_u8(rd) != 0;
	p->latch = lb_rd_u16le(rd);
	p->count = lb_rd_u32le(rd);
	left = lb_rd_u64le(rd);
	if (rd->bad || p->mode > 7 || p->access > ACCESS_BOTH || p->port_61 > 3 || p->count < 1 ||
	    p->count > 65536 || left > 65536 * UINT64_C(1000) * SECOND / PIT_HZ) {
		pit_reset(d);
		return lb_err_set(err, LB_ECORRUPT, 0, "registers");
	}
	p->next_ns = lb_monotonic_ns() + left;
	(void)pthread_cond_signal(&p->changed);
	return 0;
}

static void pit_destroy(struct vm_dev *d)
{
	struct slowpit *p = (struct slowpit *)d;

	vm_board_lock(d->board);
	p->quit = true;
	(void)pthread_cond_signal(&p->changed);
	vm_board_unlock(d->board);
	(void)pthread_join(p->thread, NULL);
	(void)pthread_cond_destroy(&p->changed);
	free(p);
}

static const struct vm_dev_ops pit_ops = {
	.name = "slowpit",
	.version = 1,
	.reset = pit_reset,
	.save = pit_save,
	.load = pit_load,
	.destroy = pit_destroy,
};

static int map_ports(struct slowpit *p, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops pit = {.read = pit_read, .write = pit_write};
	static const struct vm_io_ops port_61 = {.read = port_61_read, .write = port_61_write};
	int rc = vm_pio_map(b, PORT_PIT, 4, &pit, p, err);

	if (rc != 0)
		return rc;
	rc = vm_pio_map(b, PORT_61, 1, &port_61, p, err);
	if (rc != 0)
		vm_pio_unmap(b, PORT_PIT, p);
	return rc;
}

int vm_slowpit_create(struct vm_board *b, uint32_t stretch, struct lb_err *err)
{
	struct slowpit *p;
	int rc;

	if (stretch < 1 || stretch > 1000)
		return lb_err_set(err, LB_EINVAL, 0, "ticks stretched %u times", stretch);
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "timer");
	p->board = b;
	p->stretch = stretch;
	pit_reset(&p->dev);
	lb_cond_init(&p->changed);
	rc = map_ports(p, b, err);
	if (rc != 0)
		goto out;
	p->irq_source = vm_irq_source(b);
	rc = lb_thread_start(&p->thread, pit_main, p, "the timer", err);
	if (rc == 0) {
		vm_board_add(b, &p->dev, &pit_ops);
		return 0;
	}
	vm_pio_unmap(b, PORT_PIT, p);
	vm_pio_unmap(b, PORT_61, p);
out:
	(void)pthread_cond_destroy(&p->changed);
	free(p);
	return rc;
}
