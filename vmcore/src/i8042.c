#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "board.h"
#include "legacy.h"

/*
 * The controller holds one byte for the host at a time (OBF); what the keyboard says meanwhile
 * waits in the keyboard's own buffer of 16 bytes, as in the real one. Answers of the controller
 * come before it. [IBM PS/2 technical reference: keyboard and auxiliary device controller;
 * Intel 8042 in the PC/AT]
 */
#define PORT_DATA    0x60u
#define PORT_COMMAND 0x64u
#define KBD_IRQ      1u
#define QUEUE_BYTES  16u

enum {
	ST_OBF = 1 << 0,
	ST_SYSTEM = 1 << 2,
	ST_COMMAND = 1 << 3, /* the last write went to 0x64 */
	ST_UNLOCKED = 1 << 4,
};
/* The command byte. */
enum {
	CTR_KBD_INT = 1 << 0,
	CTR_SYSTEM = 1 << 2,
	CTR_KBD_OFF = 1 << 4,
	CTR_AUX_OFF = 1 << 5,
	CTR_TRANSLATE = 1 << 6,
};
enum {
	OUT_NO_RESET = 1 << 0, /* low resets the processor */
	OUT_A20 = 1 << 1,
};
enum {
	KBD_ACK = 0xfa,
	KBD_RESEND = 0xfe,
	KBD_PASSED = 0xaa,
	KBD_ECHO = 0xee,
};

struct i8042 {
	struct vm_dev dev;
	unsigned irq_source;
	uint8_t ctr, out_port;
	bool last_was_command, obf, obf_from_kbd;
	uint8_t obf_byte;
	uint8_t pending;     /* controller command that waits for its data byte; 0: none */
	uint8_t kbd_pending; /* keyboard command that waits for its argument; 0: none */
	bool kbd_scanning;
	uint8_t kbd_set; /* scan code set */
	uint8_t queue_len;
	uint8_t queue[QUEUE_BYTES];
};

static void update_line(struct i8042 *k)
{
	bool level = k->obf && k->obf_from_kbd && (k->ctr & CTR_KBD_INT) != 0;

	vm_irq_set(k->dev.board, KBD_IRQ, k->irq_source, level);
}

/* The keyboard's next byte, if the host's place is free and its clock is on. */
static void refill(struct i8042 *k)
{
	if (!k->obf && k->queue_len > 0 && (k->ctr & CTR_KBD_OFF) == 0) {
		k->obf = k->obf_from_kbd = true;
		k->obf_byte = k->queue[0];
		memmove(k->queue, k->queue + 1, --k->queue_len);
	}
	update_line(k);
}

/* An answer of the controller replaces what was there, as the guest's code expects. */
static void answer(struct i8042 *k, uint8_t byte)
{
	k->obf = true;
	k->obf_from_kbd = false;
	k->obf_byte = byte;
}

static void kbd_say(struct i8042 *k, uint8_t byte)
{
	if (k->queue_len < QUEUE_BYTES)
		k->queue[k->queue_len++] = byte;
}

static void ask_reset(struct i8042 *k)
{
	struct vm_event e = {
		.type = VM_EVENT_RESET, .code = PORT_COMMAND, .text = "keyboard controller"};

	k->dev.board->ops->event(k->dev.board->arg, &e);
}

/* ---- the keyboard ---- */

static void kbd_defaults(struct i8042 *k)
{
	k->kbd_pending = 0;
	k->kbd_set = 2;
	k->queue_len = 0;
}

static void kbd_argument(struct i8042 *k, uint8_t command, uint8_t byte)
{
	k->kbd_pending = 0;
	kbd_say(k, KBD_ACK);
	if (command != 0xf0) /* LEDs and typematic rate: nobody sees them */
		return;
	if (byte == 0)
		kbd_say(k, k->kbd_set);
	else if (byte <= 3)
		k->kbd_set = byte;
}

static void kbd_command(struct i8042 *k, uint8_t byte)
{
	if (k->kbd_pending != 0 && byte < 0xed) {
		kbd_argument(k, k->kbd_pending, byte);
		return;
	}
	k->kbd_pending = 0;
	switch (byte) {
	case 0xed:
	case 0xf0:
	case 0xf3:
		k->kbd_pending = byte;
		kbd_say(k, KBD_ACK);
		return;
	case 0xee:
		kbd_say(k, KBD_ECHO);
		return;
	case 0xf2:
		kbd_say(k, KBD_ACK);
		kbd_say(k, 0xab);
		/* through the translation the second byte becomes 0x41 */
		kbd_say(k, (k->ctr & CTR_TRANSLATE) != 0 ? 0x41 : 0x83);
		return;
	case 0xf4:
		k->kbd_scanning = true;
		kbd_say(k, KBD_ACK);
		return;
	case 0xf5:
	case 0xf6:
		kbd_defaults(k);
		k->kbd_scanning = byte == 0xf6;
		kbd_say(k, KBD_ACK);
		return;
	case 0xff:
		kbd_defaults(k);
		k->kbd_scanning = true;
		kbd_say(k, KBD_ACK);
		kbd_say(k, KBD_PASSED);
		return;
	default:
		kbd_say(k, KBD_RESEND);
		return;
	}
}

/* ---- the controller ---- */

static void write_out_port(struct i8042 *k, uint8_t v)
{
	bool reset = (v & OUT_NO_RESET) == 0;

	k->out_port = v | OUT_NO_RESET;
	if (reset)
		ask_reset(k);
}

static void controller_command(struct i8042 *k, uint8_t c)
{
	k->pending = 0;
	switch (c) {
	case 0x20:
		answer(k, k->ctr);
		break;
	case 0x60: /* command byte */
	case 0xd1: /* output port */
	case 0xd2: /* to the host, as if from the keyboard */
	case 0xd3: /* ... from the mouse */
	case 0xd4: /* to the mouse */
		k->pending = c;
		break;
	case 0xa7:
		k->ctr |= CTR_AUX_OFF;
		break;
	case 0xa8:
		k->ctr &= (uint8_t)~CTR_AUX_OFF;
		break;
	case 0xa9: /* mouse port test: its clock line is stuck, so there is none */
		answer(k, 0x01);
		break;
	case 0xaa:
		k->ctr |= CTR_SYSTEM;
		answer(k, 0x55);
		break;
	case 0xab:
		answer(k, 0x00);
		break;
	case 0xad:
		k->ctr |= CTR_KBD_OFF;
		break;
	case 0xae:
		k->ctr &= (uint8_t)~CTR_KBD_OFF;
		break;
	case 0xc0: /* input port: keyboard not locked */
		answer(k, 0x80);
		break;
	case 0xd0:
		answer(k, (uint8_t)(k->out_port | (k->obf ? 0x10 : 0)));
		break;
	case 0xe0: /* test inputs: both lines idle */
		answer(k, 0x00);
		break;
	default: /* 0xf0..0xff pulse the low bits; only the reset line leads anywhere */
		if (c >= 0xf0 && (c & OUT_NO_RESET) == 0)
			ask_reset(k);
		break;
	}
}

static void controller_data(struct i8042 *k, uint8_t command, uint8_t byte)
{
	k->pending = 0;
	switch (command) {
	case 0x60:
		k->ctr = byte;
		break;
	case 0xd1:
		write_out_port(k, byte);
		break;
	case 0xd2:
		answer(k, byte);
		k->obf_from_kbd = true;
		break;
	case 0xd3: /* an answer without the mouse's mark: drivers conclude that there is no port */
		answer(k, byte);
		break;
	default: /* 0xd4: nobody there */
		break;
	}
}

static uint64_t port_read(void *arg, uint64_t off, unsigned size)
{
	struct i8042 *k = arg;
	uint8_t v;

	(void)size;
	if (off == PORT_COMMAND - PORT_DATA)
		return (uint64_t)((k->obf ? ST_OBF : 0) |
				  ((k->ctr & CTR_SYSTEM) != 0 ? ST_SYSTEM : 0) |
				  (k->last_was_command ? ST_COMMAND : 0) | ST_UNLOCKED);
	v = k->obf_byte; /* stays readable */
	k->obf = false;
	update_line(k); /* down, so that the next byte is an edge */
	refill(k);
	return v;
}

static void port_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct i8042 *k = arg;
	uint8_t v = (uint8_t)value;

	(void)size;
	k->last_was_command = off != 0;
	if (off != 0) {
		controller_command(k, v);
	} else if (k->pending != 0) {
		controller_data(k, k->pending, v);
	} else {
		k->ctr &= (uint8_t)~CTR_KBD_OFF; /* sending turns the keyboard's clock on */
		kbd_command(k, v);
	}
	refill(k);
}

/* ---- device ---- */

static void kbc_reset(struct vm_dev *d)
{
	struct i8042 *k = (struct i8042 *)d;

	k->ctr = CTR_KBD_OFF | CTR_AUX_OFF | CTR_TRANSLATE;
	k->out_port = OUT_NO_RESET | OUT_A20;
	k->last_was_command = k->obf = k->obf_from_kbd = false;
	k->obf_byte = k->pending = 0;
	kbd_defaults(k);
	k->kbd_scanning = true;
	update_line(k);
}

static void kbc_save(struct vm_dev *d, struct lb_wr *wr)
{
	const struct i8042 *k = (const struct i8042 *)d;

	lb_wr_u8(wr, k->ctr);
	lb_wr_u8(wr, k->out_port);
	lb_wr_u8(wr, k->last_was_command);
	lb_wr_u8(wr, k->obf);
	lb_wr_u8(wr, k->obf_from_kbd);
	lb_wr_u8(wr, k->obf_byte);
	lb_wr_u8(wr, k->pending);
	lb_wr_u8(wr, k->kbd_pending);
	lb_wr_u8(wr, k->kbd_scanning);
	lb_wr_u8(wr, k->kbd_set);
	lb_wr_u8(wr, k->queue_len);
	lb_wr_bytes(wr, k->queue, k->queue_len);
}

static int kbc_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct i8042 *k = (struct i8042 *)d;
	uint8_t len;

	(void)version;
	k->ctr = lb_rd_u8(rd);
	k->out_port = lb_rd_u8(rd) | OUT_NO_RESET;
	k->last_was_command = lb_rd_u8(rd) != 0;
	k->obf = lb_rd_u8(rd) != 0;
	k->obf_from_kbd = lb_rd_u8(rd) != 0;
	k->obf_byte = lb_rd_u8(rd);
	k->pending = lb_rd_u8(rd);
	k->kbd_pending = lb_rd_u8(rd);
	k->kbd_scanning = lb_rd_u8(rd) != 0;
	k->kbd_set = lb_rd_u8(rd);
	len = lb_rd_u8(rd);
	if (len > QUEUE_BYTES)
		return lb_err_set(err, LB_ECORRUPT, 0, "%u bytes in the keyboard, at most %u", len,
				  QUEUE_BYTES);
	k->queue_len = len;
	lb_rd_copy(rd, k->queue, len);
	return 0;
}

static void kbc_resume(struct vm_dev *d)
{
	update_line((struct i8042 *)d);
}

static void kbc_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops kbc_ops = {
	.name = "i8042",
	.version = 1,
	.reset = kbc_reset,
	.save = kbc_save,
	.load = kbc_load,
	.resume = kbc_resume,
	.destroy = kbc_destroy,
};

/* The port 0x61 between its two belongs to the PIT: mapped apart. */
static uint64_t command_read(void *arg, uint64_t off, unsigned size)
{
	return port_read(arg, off + (PORT_COMMAND - PORT_DATA), size);
}

static void command_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	port_write(arg, off + (PORT_COMMAND - PORT_DATA), size, value);
}

int vm_i8042_create(struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops data = {port_read, port_write};
	static const struct vm_io_ops command = {command_read, command_write};
	struct i8042 *k = calloc(1, sizeof(*k));
	int rc;

	if (k == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "keyboard controller");
	k->irq_source = vm_irq_source(b);
	vm_board_add(b, &k->dev, &kbc_ops);
	rc = vm_pio_map(b, PORT_DATA, 1, &data, k, err);
	return rc != 0 ? rc : vm_pio_map(b, PORT_COMMAND, 1, &command, k, err);
}
