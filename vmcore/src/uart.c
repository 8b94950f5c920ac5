#include "uart.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "board.h"

#define COM1_PORT  0x3f8u
#define COM1_PORTS 8u
#define COM1_IRQ   4u
#define FIFO_BYTES 16u

/* Register offsets and bits [PC16550D, table II]. */
enum {
	REG_DATA = 0, /* divisor latch low with DLAB */
	REG_IER = 1,  /* divisor latch high with DLAB */
	REG_IIR = 2,  /* FCR when written */
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCRATCH = 7,
};
enum {
	IER_RDA = 1 << 0,
	IER_THRE = 1 << 1,
	IER_LINE = 1 << 2,
	IER_MODEM = 1 << 3,
	IIR_NONE = 0x01,
	IIR_MODEM = 0x00,
	IIR_THRE = 0x02,
	IIR_RDA = 0x04,
	IIR_TIMEOUT = 0x0c,
	IIR_FIFOS = 0xc0,
	FCR_ENABLE = 1 << 0,
	FCR_CLEAR_RX = 1 << 1,
	LCR_DLAB = 1 << 7,
	MCR_OUT2 = 1 << 3,
	MCR_LOOP = 1 << 4,
	LSR_DATA = 1 << 0,
	LSR_THRE = 1 << 5,
	LSR_EMPTY = 1 << 6,
	MSR_CTS = 1 << 4,
	MSR_DSR = 1 << 5,
	MSR_RI = 1 << 6,
	MSR_DCD = 1 << 7,
};

struct vm_uart {
	struct vm_dev dev;
	unsigned irq_source;
	uint8_t divisor[2];
	uint8_t ier, fcr, lcr, mcr, scratch;
	uint8_t msr_delta;    /* bits 0..3: what changed since MSR was read (loop-back only) */
	bool thre_pending;    /* the transmitter became empty and nobody asked yet */
	uint32_t head, count; /* of the ring of received bytes */
	uint8_t input[VM_UART_INPUT_BYTES];
};

static uint32_t trigger_level(const struct vm_uart *u)
{
	static const uint8_t level[4] = {1, 4, 8, 14};

	return (u->fcr & FCR_ENABLE) != 0 ? level[u->fcr >> 6] : 1;
}

/* The interrupt of highest priority. Below the trigger level the characters wait as long as the
 * time-out of four characters, which at the speed of this line is over at once. */
static uint8_t interrupt(const struct vm_uart *u)
{
	if ((u->ier & IER_RDA) != 0 && u->count > 0)
		return u->count >= trigger_level(u) ? IIR_RDA : IIR_TIMEOUT;
	if ((u->ier & IER_THRE) != 0 && u->thre_pending)
		return IIR_THRE;
	if ((u->ier & IER_MODEM) != 0 && u->msr_delta != 0)
		return IIR_MODEM;
	return IIR_NONE;
}

/* On a PC, OUT2 gates the line. */
static void update_line(struct vm_uart *u)
{
	bool level = interrupt(u) != IIR_NONE && (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	vm_irq_set(u->dev.board, COM1_IRQ, u->irq_source, level);
}

static bool push(struct vm_uart *u, uint8_t byte)
{
	if (u->count == VM_UART_INPUT_BYTES)
		return false;
	u->input[(u->head + u->count++) % VM_UART_INPUT_BYTES] = byte;
	return true;
}

static uint8_t pop(struct vm_uart *u)
{
	uint8_t byte;

	if (u->count == 0)
		return 0;
	byte = u->input[u->head];
	u->head = (u->head + 1) % VM_UART_INPUT_BYTES;
	u->count--;
	return byte;
}

/* In loop-back the four outputs lead to the four inputs. */
static uint8_t modem_inputs(uint8_t mcr)
{
	if ((mcr & MCR_LOOP) == 0)
		return MSR_DCD | MSR_DSR | MSR_CTS;
	return (uint8_t)(((mcr & 1) != 0 ? MSR_DSR : 0) | ((mcr & 2) != 0 ? MSR_CTS : 0) |
			 ((mcr & 4) != 0 ? MSR_RI : 0) | ((mcr & 8) != 0 ? MSR_DCD : 0));
}

static uint8_t reg_read(struct vm_uart *u, unsigned reg)
{
	uint8_t v;

	switch (reg) {
	case REG_DATA:
		return (u->lcr & LCR_DLAB) != 0 ? u->divisor[0] : pop(u);
	case REG_IER:
		return (u->lcr & LCR_DLAB) != 0 ? u->divisor[1] : u->ier;
	case REG_IIR:
		v = interrupt(u);
		if (v == IIR_THRE)
			u->thre_pending = false;
		return (uint8_t)(v | ((u->fcr & FCR_ENABLE) != 0 ? IIR_FIFOS : 0));
	case REG_LCR:
		return u->lcr;
	case REG_MCR:
		return u->mcr;
	case REG_LSR:
		return (uint8_t)(LSR_THRE | LSR_EMPTY | (u->count > 0 ? LSR_DATA : 0));
	case REG_MSR:
		v = (uint8_t)(modem_inputs(u->mcr) | u->msr_delta);
		u->msr_delta = 0;
		return v;
	default:
		return u->scratch;
	}
}

static void transmit(struct vm_uart *u, uint8_t byte)
{
	struct vm_event e = {.type = VM_EVENT_SERIAL, .bytes = &byte, .len = 1};

	/* writing takes the interrupt back; the byte is gone at once, which raises it anew: an edge
	 */
	u->thre_pending = false;
	update_line(u);
	if ((u->mcr & MCR_LOOP) != 0)
		(void)push(u, byte);
	else
		u->dev.board->ops->event(u->dev.board->arg, &e);
	u->thre_pending = true;
}

/* Enabling the transmitter's interrupt while it is empty raises it: how firmware finds a UART. */
static void write_ier(struct vm_uart *u, uint8_t v)
{
	if ((v & IER_THRE) != 0 && (u->ier & IER_THRE) == 0)
		u->thre_pending = true;
	u->ier = v & 0x0f;
}

static void write_fcr(struct vm_uart *u, uint8_t v)
{
	/* changing the mode empties the FIFO, but never what waits on the line behind it */
	if ((v & FCR_CLEAR_RX) != 0 || ((v ^ u->fcr) & FCR_ENABLE) != 0)
		for (unsigned i = 0; i < FIFO_BYTES && u->count > 0; i++)
			(void)pop(u);
	u->fcr = (v & FCR_ENABLE) != 0 ? v & 0xc9 : 0;
}

static void write_mcr(struct vm_uart *u, uint8_t v)
{
	uint8_t changed = modem_inputs(v & 0x1f) ^ modem_inputs(u->mcr);

	/* deltas: CTS, DSR, trailing edge of RI, DCD */
	u->msr_delta |= changed >> 4 & 0x0b;
	if ((changed & MSR_RI) != 0 && (modem_inputs(v) & MSR_RI) == 0)
		u->msr_delta |= MSR_RI >> 4;
	u->mcr = v & 0x1f;
}

static void reg_write(struct vm_uart *u, unsigned reg, uint8_t v)
{
	bool dlab = (u->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		if (dlab)
			u->divisor[0] = v;
		else
			transmit(u, v);
		break;
	case REG_IER:
		if (dlab)
			u->divisor[1] = v;
		else
			write_ier(u, v);
		break;
	case REG_IIR:
		write_fcr(u, v);
		break;
	case REG_LCR:
		u->lcr = v;
		break;
	case REG_MCR:
		write_mcr(u, v);
		break;
	case REG_SCRATCH:
		u->scratch = v;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* A wider access is that many bytes at ascending ports, as on the ISA bus. */
static uint64_t uart_read(void *arg, uint64_t off, unsigned size)
{
	struct vm_uart *u = arg;
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)reg_read(u, (unsigned)off + i) << (8 * i);
	update_line(u);
	return v;
}

static void uart_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_uart *u = arg;

	for (unsigned i = 0; i < size; i++)
		reg_write(u, (unsigned)off + i, (uint8_t)(value >> (8 * i)));
	update_line(u);
}

size_t vm_uart_input(struct vm_uart *u, const void *p, size_t len)
{
	const uint8_t *b = p;
	size_t n = 0;

	vm_board_lock(u->dev.board);
	while (n < len && push(u, b[n]))
		n++;
	update_line(u);
	vm_board_unlock(u->dev.board);
	return n;
}

/* ---- device ---- */

static void uart_reset(struct vm_dev *d)
{
	struct vm_uart *u = (struct vm_uart *)d;

	u->divisor[0] = 12; /* 9600 baud */
	u->divisor[1] = 0;
	u->ier = u->fcr = u->lcr = u->mcr = u->scratch = u->msr_delta = 0;
	u->thre_pending = false;
	u->head = u->count = 0;
	update_line(u);
}

static void uart_save(struct vm_dev *d, struct lb_wr *wr)
{
	const struct vm_uart *u = (const struct vm_uart *)d;

	lb_wr_bytes(wr, u->divisor, sizeof(u->divisor));
	lb_wr_u8(wr, u->ier);
	lb_wr_u8(wr, u->fcr);
	lb_wr_u8(wr, u->lcr);
	lb_wr_u8(wr, u->mcr);
	lb_wr_u8(wr, u->scratch);
	lb_wr_u8(wr, u->msr_delta);
	lb_wr_u8(wr, u->thre_pending);
	lb_wr_u32le(wr, u->count);
	for (uint32_t i = 0; i < u->count; i++)
		lb_wr_u8(wr, u->input[(u->head + i) % VM_UART_INPUT_BYTES]);
}

static int uart_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_uart *u = (struct vm_uart *)d;

	(void)version;
	lb_rd_copy(rd, u->divisor, sizeof(u->divisor));
	u->ier = lb_rd_u8(rd) & 0x0f;
	u->fcr = lb_rd_u8(rd) & 0xc9;
	u->lcr = lb_rd_u8(rd);
	u->mcr = lb_rd_u8(rd) & 0x1f;
	u->scratch = lb_rd_u8(rd);
	u->msr_delta = lb_rd_u8(rd) & 0x0f;
	u->thre_pending = lb_rd_u8(rd) != 0;
	u->head = 0;
	u->count = lb_rd_u32le(rd);
	if (u->count > VM_UART_INPUT_BYTES) {
		uint32_t n = u->count;

		u->count = 0;
		return lb_err_set(err, LB_ECORRUPT, 0, "%u received bytes, at most %d", n,
				  VM_UART_INPUT_BYTES);
	}
	lb_rd_copy(rd, u->input, u->count);
	return 0;
}

static void uart_resume(struct vm_dev *d)
{
	update_line((struct vm_uart *)d);
}

static void uart_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops uart_ops = {
	.name = "uart",
	.version = 1,
	.reset = uart_reset,
	.save = uart_save,
	.load = uart_load,
	.resume = uart_resume,
	.destroy = uart_destroy,
};

int vm_uart_create(struct vm_uart **out, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops io = {uart_read, uart_write};
	struct vm_uart *u = calloc(1, sizeof(*u));
	int rc;

	if (u == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "serial port");
	rc = vm_pio_map(b, COM1_PORT, COM1_PORTS, &io, u, err);
	if (rc != 0) {
		free(u);
		return rc;
	}
	u->irq_source = vm_irq_source(b);
	vm_board_add(b, &u->dev, &uart_ops);
	*out = u;
	return 0;
}
