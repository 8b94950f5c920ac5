#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "virtio.h"
#include "virtio_pci.h"

/*
 * The agent port. [VIRTIO 1.2, 5.3; multiport 5.3.6]
 *
 *   driver: DEVICE_READY ─► ours: PORT_ADD 1 ─► driver: PORT_READY ─► ours: PORT_NAME, PORT_OPEN
 *                                               driver: PORT_OPEN 1 / 0: a program has it open /
 * not
 *
 * What we have to say waits in .pending (a bit a message, in the order of the bits) until the
 * driver gives a buffer. Bytes for the guest wait in .input until a program there opens the port:
 * Linux throws away what comes before. Port 0 exists for drivers without multiport; nobody reads
 * it.
 */

#define QUEUE_SIZE    64u
#define CONTROL_BYTES 8u
#define PORT          1u
#define PORT_NAME     "org.lifeboat.heartbeat"
#define EVENT_BYTES   4096u
/* Of one buffer: Linux sends at most 32 KiB in one. More, which may be the same memory again and
 * again, would only keep the machine's lock. */
#define OUTPUT_MAX  (UINT64_C(1) << 20)
#define F_MULTIPORT (UINT64_C(1) << 1)

enum { /* queues */
	RX0,
	TX0,
	CONTROL_RX,
	CONTROL_TX,
	RX1,
	TX1,
	QUEUES
};
enum { /* control events */
	C_DEVICE_READY = 0,
	C_PORT_ADD = 1,
	C_PORT_READY = 3,
	C_PORT_OPEN = 6,
	C_PORT_NAME = 7,
};
enum {
	PENDING_ADD = 1,
	PENDING_NAME = 2,
	PENDING_OPEN = 4,
	PENDING_ALL = 7,
};

struct vm_virtio_console {
	struct vm_virtio v; /* first */
	uint8_t pending;
	bool open; /* a program in the guest has the port */
	uint32_t input_len;
	uint8_t input[EVENT_BYTES];
	uint8_t output[EVENT_BYTES];
	struct vm_chain chain;
};

static struct vm_virtio_console *console_of(struct vm_virtio *v)
{
	return (struct vm_virtio_console *)v;
}

/* ---- control ---- */

static size_t control_message(uint8_t *out, size_t cap, uint8_t what)
{
	struct lb_wr wr = lb_wr_init(out, cap);

	lb_wr_u32le(&wr, PORT);
	lb_wr_u16le(&wr, what == PENDING_ADD ? C_PORT_ADD
					     : (what == PENDING_NAME ? C_PORT_NAME : C_PORT_OPEN));
	lb_wr_u16le(&wr, what == PENDING_ADD ? 0 : 1);
	if (what == PENDING_NAME)
		lb_wr_bytes(&wr, PORT_NAME, strlen(PORT_NAME));
	return wr.len;
}

/* A buffer too small for a message gets as much as it holds: the driver's own mistake. */
static void say_pending(struct vm_virtio_console *d)
{
	uint8_t msg[CONTROL_BYTES + sizeof(PORT_NAME)];

	while (d->pending != 0 && vm_virtq_pop(&d->v.queue[CONTROL_RX], &d->chain)) {
		uint8_t what = d->pending & (uint8_t)-d->pending;
		size_t n = control_message(msg, sizeof(msg), what);

		d->pending &= (uint8_t)~what;
		n = vm_chain_write(d->v.pci.dev.board->mem, &d->chain, 0, msg, n);
		vm_virtio_complete(&d->v, CONTROL_RX, d->chain.head, (uint32_t)n);
	}
}

static void give_input(struct vm_virtio_console *d);

static void on_control(struct vm_virtio_console *d, const uint8_t *msg)
{
	struct lb_rd rd = lb_rd_init(msg, CONTROL_BYTES);
	uint32_t id = lb_rd_u32le(&rd);
	uint16_t event = lb_rd_u16le(&rd), value = lb_rd_u16le(&rd);

	if (event == C_DEVICE_READY && value == 1)
		d->pending |= PENDING_ADD;
	if (id != PORT)
		return;
	if (event == C_PORT_READY && value == 1)
		d->pending |= PENDING_NAME | PENDING_OPEN;
	if (event != C_PORT_OPEN)
		return;
	d->open = value != 0;
	if (d->open)
		give_input(d);
}

static void take_control(struct vm_virtio_console *d)
{
	struct vm_mem *mem = d->v.pci.dev.board->mem;
	uint8_t msg[CONTROL_BYTES];

	while (vm_virtq_pop(&d->v.queue[CONTROL_TX], &d->chain)) {
		uint16_t head = d->chain.head;

		if (vm_chain_read(mem, &d->chain, 0, msg, sizeof(msg)) == sizeof(msg))
			on_control(d, msg);
		vm_virtio_complete(&d->v, CONTROL_TX, head, 0);
	}
	say_pending(d);
}

/* ---- data ---- */

static void give_input(struct vm_virtio_console *d)
{
	while (d->open && d->input_len != 0 && vm_virtq_pop(&d->v.queue[RX1], &d->chain)) {
		uint32_t n = (uint32_t)vm_chain_write(d->v.pci.dev.board->mem, &d->chain, 0,
						      d->input, d->input_len);

		d->input_len -= n;
		memmove(d->input, d->input + n, d->input_len);
		vm_virtio_complete(&d->v, RX1, d->chain.head, n);
	}
}

static void emit(struct vm_virtio_console *d)
{
	struct vm_board *b = d->v.pci.dev.board;

	for (uint64_t done = 0; done < d->chain.out_bytes;) {
		uint64_t n = vm_chain_read(b->mem, &d->chain, done, d->output, sizeof(d->output));
		struct vm_event e = {
			.type = VM_EVENT_PORT,
			.bytes = d->output,
			.len = (uint32_t)n,
		};

		if (n == 0) /* memory was lost */
			return;
		b->ops->event(b->arg, &e);
		done += n;
	}
}

static void take_output(struct vm_virtio_console *d, unsigned queue)
{
	while (vm_virtq_pop(&d->v.queue[queue], &d->chain)) {
		if (d->chain.out_bytes > OUTPUT_MAX) {
			vm_virtio_break(&d->v, queue);
			return;
		}
		if (queue == TX1)
			emit(d);
		vm_virtio_complete(&d->v, queue, d->chain.head, 0);
	}
}

size_t vm_virtio_console_input(struct vm_virtio_console *c, const void *p, size_t len)
{
	struct vm_board *b = c->v.pci.dev.board;
	size_t n;

	vm_board_lock(b);
	n = sizeof(c->input) - c->input_len;
	n = n < len ? n : len;
	memcpy(c->input + c->input_len, p, n);
	c->input_len += (uint32_t)n;
	if (vm_virtio_is_live(&c->v))
		give_input(c);
	vm_board_unlock(b);
	return n;
}

/* ---- the device ---- */

static void console_notify(struct vm_virtio *v, unsigned queue)
{
	struct vm_virtio_console *d = console_of(v);

	switch (queue) {
	case TX0:
	case TX1:
		take_output(d, queue);
		break;
	case CONTROL_RX:
		say_pending(d);
		break;
	case CONTROL_TX:
		take_control(d);
		break;
	case RX1:
		give_input(d);
		break;
	default:
		break;
	}
}

/* Bytes that wait for the guest stay: they are for its agent, not for this driver. */
static void console_reset(struct vm_virtio *v)
{
	struct vm_virtio_console *d = console_of(v);

	d->pending = 0;
	d->open = false;
}

static void console_save(struct vm_virtio *v, struct lb_wr *wr)
{
	const struct vm_virtio_console *d = console_of(v);

	lb_wr_u8(wr, d->pending);
	lb_wr_u8(wr, d->open);
	lb_wr_u32le(wr, d->input_len);
	lb_wr_bytes(wr, d->input, d->input_len);
}

static int console_load(struct vm_virtio *v, struct lb_rd *rd, struct lb_err *err)
{
	struct vm_virtio_console *d = console_of(v);

	d->pending = lb_rd_u8(rd) & PENDING_ALL;
	d->open = lb_rd_u8(rd) != 0;
	d->input_len = lb_rd_u32le(rd);
	if (d->input_len > sizeof(d->input)) {
		uint32_t len = d->input_len;

		d->input_len = 0;
		return lb_err_set(err, LB_ECORRUPT, 0, "%u bytes of input, at most %u", len,
				  EVENT_BYTES);
	}
	lb_rd_copy(rd, d->input, d->input_len);
	return 0;
}

static void console_destroy(struct vm_virtio *v)
{
	free(v);
}

static const struct vm_virtio_ops console_ops = {
	.notify = console_notify,
	.reset = console_reset,
	.save = console_save,
	.load = console_load,
	.destroy = console_destroy,
};
static const struct vm_dev_ops console_dev_ops = {
	.name = "virtio-console",
	.version = 1,
	.reset = vm_virtio_dev_reset,
	.save = vm_virtio_dev_save,
	.load = vm_virtio_dev_load,
	.resume = vm_virtio_dev_resume,
	.destroy = vm_virtio_dev_destroy,
};

int vm_virtio_console_create(struct vm_virtio_console **out, struct vm_board *b, struct vm_pci *pci,
			     struct lb_err *err)
{
	struct vm_virtio_console *d = calloc(1, sizeof(*d));
	struct lb_wr config;
	int rc;

	if (d == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "virtio console");
	d->v.ops = &console_ops;
	d->v.type = VM_VIRTIO_CONSOLE;
	d->v.features = F_MULTIPORT;
	d->v.queue_count = QUEUES;
	for (unsigned i = 0; i < QUEUES; i++)
		d->v.queue[i].size_max = QUEUE_SIZE;
	/* struct virtio_console_config [5.3.4]: columns, rows, ports, emergency write */
	config = lb_wr_init(d->v.config, sizeof(d->v.config));
	lb_wr_u32le(&config, 0);
	lb_wr_u32le(&config, PORT + 1);
	lb_wr_u32le(&config, 0);
	d->v.config_bytes = (uint8_t)config.len;
	rc = vm_virtio_add(&d->v, b, pci, &console_dev_ops, err);
	if (rc != 0)
		free(d);
	else
		*out = d;
	return rc;
}
