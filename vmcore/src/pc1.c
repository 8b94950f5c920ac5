#include "pc1.h"

#include <stdlib.h>

#include "base/err.h"
#include "board.h"
#include "boot.h"

#define SERIAL_PORT   0x3f8
#define DEBUG_PORT    0x402
#define DEBUG_PRESENT 0xe9
#define RESET_PORT    0xcf9

/* Output ports and the reset register: enough for a guest that speaks to nobody else. */
struct ports {
	struct vm_dev dev;
};

static void tell(struct vm_dev *d, enum vm_event_type type, uint64_t value)
{
	uint8_t byte = (uint8_t)value;
	struct vm_event e = {.type = type, .bytes = &byte, .len = 1};

	d->board->ops->event(d->board->arg, &e);
}

static uint64_t debug_read(void *arg, uint64_t off, unsigned size)
{
	(void)arg;
	(void)off;
	(void)size;
	return DEBUG_PRESENT;
}

static void debug_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	(void)off;
	(void)size;
	tell(arg, VM_EVENT_DEBUG, value);
}

static uint64_t serial_read(void *arg, uint64_t off, unsigned size)
{
	(void)arg;
	(void)size;
	return off == 5 ? 0x60 : 0; /* line status: transmitter empty */
}

static void serial_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	(void)size;
	if (off == 0)
		tell(arg, VM_EVENT_SERIAL, value);
}

static uint64_t reset_read(void *arg, uint64_t off, unsigned size)
{
	(void)arg;
	(void)off;
	(void)size;
	return 0;
}

static void reset_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_dev *d = arg;
	struct vm_event e = {.type = VM_EVENT_RESET};

	(void)off;
	(void)size;
	if ((value & 4) != 0)
		d->board->ops->event(d->board->arg, &e);
}

static void ports_reset(struct vm_dev *d)
{
	(void)d;
}

static void ports_save(struct vm_dev *d, struct lb_wr *wr)
{
	(void)d;
	(void)wr;
}

static int ports_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	(void)d;
	(void)rd;
	(void)version;
	(void)err;
	return 0;
}

static void ports_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops ports_ops = {
	.name = "ports",
	.version = 1,
	.reset = ports_reset,
	.save = ports_save,
	.load = ports_load,
	.destroy = ports_destroy,
};

static int ports_create(struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops debug = {debug_read, debug_write};
	static const struct vm_io_ops serial = {serial_read, serial_write};
	static const struct vm_io_ops reset = {reset_read, reset_write};
	struct ports *p = calloc(1, sizeof(*p));
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "ports");
	vm_board_add(b, &p->dev, &ports_ops);
	rc = vm_pio_map(b, DEBUG_PORT, 1, &debug, &p->dev, err);
	if (rc == 0)
		rc = vm_pio_map(b, SERIAL_PORT, 8, &serial, &p->dev, err);
	if (rc == 0)
		rc = vm_pio_map(b, RESET_PORT, 1, &reset, &p->dev, err);
	return rc;
}

int vm_pc1_build(struct vm_board *b, const struct vm_cfg *cfg, struct vm_pc1 *out,
		 struct lb_err *err)
{
	*out = (struct vm_pc1){.board = b};
	(void)cfg;
	return ports_create(b, err);
}

int vm_pc1_boot(struct vm_pc1 *p, const struct vm_cfg *cfg, struct vm_entry *out,
		struct lb_err *err)
{
	(void)p;
	(void)cfg;
	(void)out;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "no way to boot");
}

void vm_pc1_restored(struct vm_pc1 *p, enum vm_clock_policy clock)
{
	(void)p;
	(void)clock;
}

bool vm_pc1_drain(struct vm_pc1 *p, uint64_t limit_ns)
{
	(void)p;
	(void)limit_ns;
	return true;
}

size_t vm_pc1_serial_input(struct vm_pc1 *p, const void *bytes, size_t len)
{
	(void)p;
	(void)bytes;
	(void)len;
	return 0;
}

size_t vm_pc1_port_input(struct vm_pc1 *p, const void *bytes, size_t len)
{
	(void)p;
	(void)bytes;
	(void)len;
	return 0;
}

void vm_pc1_power_button(struct vm_pc1 *p)
{
	(void)p;
}

int vm_pc1_screen_text(struct vm_pc1 *p, char *out, size_t cap, struct lb_err *err)
{
	(void)p;
	(void)out;
	(void)cap;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "no screen");
}

int vm_pc1_screen_pixels(struct vm_pc1 *p, uint8_t **out, uint32_t *width, uint32_t *height,
			 uint8_t palette[16][3], struct lb_err *err)
{
	(void)p;
	(void)out;
	(void)width;
	(void)height;
	(void)palette;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "no screen");
}
