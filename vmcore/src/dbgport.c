#include <stdlib.h>

#include "base/err.h"
#include "board.h"
#include "legacy.h"

#define DEBUG_PORT 0x402u

static uint64_t dbg_read(void *arg, uint64_t off, unsigned size)
{
	(void)arg;
	(void)off;
	(void)size;
	return 0xe9; /* "I am here" [SeaBIOS src/hw/serialio.c, QEMU_DEBUGCON_READBACK] */
}

static void dbg_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	const struct vm_dev *d = arg;
	uint8_t byte = (uint8_t)value;
	struct vm_event e = {.type = VM_EVENT_DEBUG, .bytes = &byte, .len = 1};

	(void)off;
	(void)size;
	d->board->ops->event(d->board->arg, &e);
}

/* It has no state; its section is empty. */
static void dbg_reset(struct vm_dev *d)
{
	(void)d;
}

static void dbg_save(struct vm_dev *d, struct lb_wr *wr)
{
	(void)d;
	(void)wr;
}

static int dbg_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	(void)d;
	(void)rd;
	(void)version;
	(void)err;
	return 0;
}

static void dbg_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops dbg_ops = {
	.name = "dbgport",
	.version = 1,
	.reset = dbg_reset,
	.save = dbg_save,
	.load = dbg_load,
	.destroy = dbg_destroy,
};

int vm_dbgport_create(struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops io = {dbg_read, dbg_write};
	struct vm_dev *d = calloc(1, sizeof(*d));
	int rc;

	if (d == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "debug port");
	rc = vm_pio_map(b, DEBUG_PORT, 1, &io, d, err);
	if (rc != 0) {
		free(d);
		return rc;
	}
	vm_board_add(b, d, &dbg_ops);
	return 0;
}
