#include <stdlib.h>

#include "base/err.h"
#include "board.h"
#include "legacy.h"

#define PORT_92    0x92u
#define PORT_RESET 0xcf9u
#define PORT_POST  0x80u

enum {
	P92_RESET = 1 << 0,
	P92_A20 = 1 << 1,
	RST_HARD = 1 << 1, /* of 0xcf9: which kind */
	RST_CPU = 1 << 2,  /* its rising edge resets [Intel 290550, 2.5.3.9] */
};

struct sysport {
	struct vm_dev dev;
	uint8_t p92, reset_control, post;
};

static void ask_reset(struct sysport *s, int code)
{
	struct vm_event e = {.type = VM_EVENT_RESET, .code = code, .text = "reset port"};

	s->dev.board->ops->event(s->dev.board->arg, &e);
}

static uint64_t p92_read(void *arg, uint64_t off, unsigned size)
{
	const struct sysport *s = arg;

	(void)off;
	(void)size;
	return s->p92;
}

static void p92_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct sysport *s = arg;
	bool rises = (value & P92_RESET) != 0 && (s->p92 & P92_RESET) == 0;

	(void)off;
	(void)size;
	s->p92 = (uint8_t)value;
	if (rises)
		ask_reset(s, PORT_92);
}

static uint64_t rst_read(void *arg, uint64_t off, unsigned size)
{
	const struct sysport *s = arg;

	(void)off;
	(void)size;
	return s->reset_control;
}

static void rst_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct sysport *s = arg;
	bool rises = (value & RST_CPU) != 0 && (s->reset_control & RST_CPU) == 0;

	(void)off;
	(void)size;
	s->reset_control = (uint8_t)(value & (RST_HARD | RST_CPU));
	if (rises)
		ask_reset(s, PORT_RESET);
}

/* The POST code, which old code writes for its delay and some reads back. */
static uint64_t post_read(void *arg, uint64_t off, unsigned size)
{
	const struct sysport *s = arg;

	(void)off;
	(void)size;
	return s->post;
}

static void post_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct sysport *s = arg;

	(void)off;
	(void)size;
	s->post = (uint8_t)value;
}

static void sys_reset(struct vm_dev *d)
{
	struct sysport *s = (struct sysport *)d;

	s->p92 = P92_A20;
	s->reset_control = 0;
	s->post = 0;
}

static void sys_save(struct vm_dev *d, struct lb_wr *wr)
{
	const struct sysport *s = (const struct sysport *)d;

	lb_wr_u8(wr, s->p92);
	lb_wr_u8(wr, s->reset_control);
	lb_wr_u8(wr, s->post);
}

static int sys_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct sysport *s = (struct sysport *)d;

	(void)version;
	(void)err;
	s->p92 = lb_rd_u8(rd);
	s->reset_control = lb_rd_u8(rd) & (RST_HARD | RST_CPU);
	s->post = lb_rd_u8(rd);
	return 0;
}

static void sys_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops sys_ops = {
	.name = "sysport",
	.version = 1,
	.reset = sys_reset,
	.save = sys_save,
	.load = sys_load,
	.destroy = sys_destroy,
};

int vm_sysport_create(struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops p92 = {p92_read, p92_write};
	static const struct vm_io_ops rst = {rst_read, rst_write};
	static const struct vm_io_ops post = {post_read, post_write};
	struct sysport *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "system ports");
	vm_board_add(b, &s->dev, &sys_ops);
	rc = vm_pio_map(b, PORT_92, 1, &p92, s, err);
	if (rc == 0)
		rc = vm_pio_map(b, PORT_RESET, 1, &rst, s, err);
	if (rc == 0)
		rc = vm_pio_map(b, PORT_POST, 1, &post, s, err);
	return rc;
}
