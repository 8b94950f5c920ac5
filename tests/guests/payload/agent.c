/*
 * prog=agent: a guest that uses what no other one does: entropy, the agent port in both directions,
 * and frames that come in.
 *
 *   on the serial port   "agent" once everything is open, or "BAD ..."
 *   on the agent port    "beat N RANDOM" for ever, RANDOM drawn from the entropy source for it; and
 *                        whatever is sent to the guest, in capitals
 *   on the card          each frame that comes goes back to its sender, each byte of it plus one
 */
#include "guest.h"

#define QUEUES_AT   UINT64_C(0x600000)
#define QUEUE_ROOM  UINT64_C(0x4000)
#define PAUSE       300000
#define F_MULTIPORT 2u

enum {
	PCI_ADDRESS = 0xcf8,
	PCI_DATA = 0xcfc,
	VIRTIO_NET = 0x10001af4,
	VIRTIO_CONSOLE = 0x10031af4,
	VIRTIO_RNG = 0x10051af4,
	/* legacy virtio over PCI [VIRTIO 1.2, 4.1.4.8] */
	REG_GUEST_FEATURES = 4,
	REG_QUEUE_PFN = 8,
	REG_QUEUE_SIZE = 12,
	REG_QUEUE_SELECT = 14,
	REG_NOTIFY = 16,
	REG_STATUS = 18,
	DESC_WRITE = 2,
	QUEUES_MAX = 6,
	/* queues */
	NET_RX = 0,
	NET_TX = 1,
	CONTROL_RX = 2,
	CONTROL_TX = 3,
	PORT_RX = 4,
	PORT_TX = 5,
	/* control events of the console [5.3.6.2] */
	DEVICE_READY = 0,
	PORT_ADD = 1,
	PORT_READY = 3,
	PORT_OPEN = 6,
	PORT_NAME = 7,
	NET_HEADER = 10,
	MAC = 6
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* One buffer at a time. */
struct queue {
	volatile struct desc *desc;
	volatile uint16_t *avail, *used; /* flags, index, ring */
	uint16_t size, taken;
};

struct device {
	uint16_t io;
	struct queue q[QUEUES_MAX];
};

struct __attribute__((packed)) control {
	uint32_t id;
	uint16_t event, value;
	uint8_t name[64];
};

static struct device rng, console, net;
static struct control control;
static uint8_t port_in[64], net_in[2048], net_out[2048], line[64];

static _Noreturn void bad(const char *what)
{
	guest_put("BAD ");
	guest_put(what);
	guest_put("\n");
	for (;;)
		;
}

/* ---- devices ---- */

static uint32_t config(uint32_t slot, uint32_t reg)
{
	guest_outl(PCI_ADDRESS, 0x80000000 | slot << 11 | reg);
	return guest_inl(PCI_DATA);
}

static void configure(uint32_t slot, uint32_t reg, uint32_t v)
{
	guest_outl(PCI_ADDRESS, 0x80000000 | slot << 11 | reg);
	guest_outl(PCI_DATA, v);
}

static void queue_open(struct device *d, unsigned n, uint64_t at)
{
	struct queue *q = &d->q[n];

	guest_outw(d->io + REG_QUEUE_SELECT, (uint16_t)n);
	q->size = guest_inw(d->io + REG_QUEUE_SIZE);
	q->desc = (volatile struct desc *)at;
	q->avail = (volatile uint16_t *)(at + 16 * q->size);
	q->used = (volatile uint16_t *)((at + 18 * q->size + 6 + 4095) & ~UINT64_C(4095));
	q->avail[0] = 1; /* no interrupts: it is polled */
	guest_outl(d->io + REG_QUEUE_PFN, (uint32_t)(at >> 12));
}

static void device_open(struct device *d, uint32_t id, uint32_t features, unsigned queues)
{
	static uint64_t at = QUEUES_AT;
	static uint16_t io = 0xd000;
	uint32_t slot = 0;

	while (slot < 32 && config(slot, 0) != id)
		slot++;
	if (slot == 32)
		bad("device");
	d->io = io;
	io += 0x100;
	configure(slot, 0x10, d->io);
	configure(slot, 4, 5); /* ports, bus master */
	guest_outb(d->io + REG_STATUS, 0);
	guest_outb(d->io + REG_STATUS, 3);
	guest_outl(d->io + REG_GUEST_FEATURES, features);
	for (unsigned n = 0; n < queues; n++, at += QUEUE_ROOM)
		queue_open(d, n, at);
	guest_outb(d->io + REG_STATUS, 7);
}

static void give(struct device *d, unsigned n, void *p, uint32_t len, uint16_t flags)
{
	struct queue *q = &d->q[n];

	q->desc[0] = (struct desc){(uint64_t)p, len, flags, 0};
	q->avail[2 + q->avail[1] % q->size] = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	q->avail[1]++;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	guest_outw(d->io + REG_NOTIFY, (uint16_t)n);
}

/* How much of its buffer a queue used; 0: nothing came yet. */
static uint32_t taken(struct device *d, unsigned n)
{
	struct queue *q = &d->q[n];
	const volatile uint32_t *entry;

	if (q->used[1] == q->taken)
		return 0;
	entry = (const volatile uint32_t *)(q->used + 2) + 2 * (q->taken % q->size);
	q->taken++;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return entry[1];
}

static void send(struct device *d, unsigned n, void *p, uint32_t len)
{
	struct queue *q = &d->q[n];

	give(d, n, p, len, 0);
	while (q->used[1] == q->taken)
		;
	q->taken++;
}

static uint32_t receive(struct device *d, unsigned n, void *p, uint32_t len)
{
	uint32_t got;

	give(d, n, p, len, DESC_WRITE);
	while ((got = taken(d, n)) == 0)
		;
	return got;
}

/* ---- the agent port ---- */

static void say(uint32_t id, uint16_t event)
{
	static struct control c;

	c = (struct control){.id = id, .event = event, .value = 1};
	send(&console, CONTROL_TX, &c, 8);
}

static void hear(uint16_t event)
{
	if (receive(&console, CONTROL_RX, &control, sizeof(control)) < 8 || control.id != 1 ||
	    control.event != event)
		bad("control message");
}

static void console_open(void)
{
	device_open(&console, VIRTIO_CONSOLE, F_MULTIPORT, QUEUES_MAX);
	say(UINT32_MAX, DEVICE_READY);
	hear(PORT_ADD);
	say(1, PORT_READY);
	hear(PORT_NAME);
	if (control.name[0] != 'o' || control.name[13] != 'h')
		bad("port name");
	hear(PORT_OPEN);
	say(1, PORT_OPEN);
	give(&console, PORT_RX, port_in, sizeof(port_in), DESC_WRITE);
}

static void shout(void)
{
	uint32_t n = taken(&console, PORT_RX);

	if (n == 0)
		return;
	for (uint32_t i = 0; i < n; i++)
		line[i] = port_in[i] >= 'a' && port_in[i] <= 'z' ? port_in[i] - 32 : port_in[i];
	give(&console, PORT_RX, port_in, sizeof(port_in), DESC_WRITE);
	send(&console, PORT_TX, line, n);
}

static void beat(uint64_t n)
{
	static uint8_t random[8];
	uint32_t len = 0;
	uint8_t *p = line + 32;

	if (receive(&rng, 0, random, sizeof(random)) != sizeof(random))
		bad("entropy");
	do
		*--p = (uint8_t)('0' + n % 10);
	while ((n /= 10) != 0);
	for (const char *c = "beat "; *c != '\0'; c++)
		line[len++] = (uint8_t)*c;
	while (p < line + 32)
		line[len++] = *p++;
	line[len++] = ' ';
	for (unsigned i = 0; i < 16; i++)
		line[len++] = (uint8_t) "0123456789abcdef"[random[i / 2] >> (4 - i % 2 * 4) & 15];
	line[len++] = '\n';
	send(&console, PORT_TX, line, len);
}

/* ---- frames ---- */

static void bounce(void)
{
	uint32_t n = taken(&net, NET_RX);

	if (n == 0)
		return;
	for (uint32_t i = 0; i < NET_HEADER; i++)
		net_out[i] = 0;
	for (uint32_t i = 0; i < 2 * MAC; i++)
		net_out[NET_HEADER + i] = net_in[NET_HEADER + (i + MAC) % (2 * MAC)];
	for (uint32_t i = NET_HEADER + 2 * MAC; i < n; i++)
		net_out[i] = net_in[i] + 1;
	give(&net, NET_RX, net_in, sizeof(net_in), DESC_WRITE);
	send(&net, NET_TX, net_out, n);
}

void guest_agent(void)
{
	device_open(&rng, VIRTIO_RNG, 0, 1);
	console_open();
	device_open(&net, VIRTIO_NET, 0, 2);
	give(&net, NET_RX, net_in, sizeof(net_in), DESC_WRITE);
	guest_put("agent\n");
	for (uint64_t n = 1;; n++) {
		beat(n);
		shout();
		bounce();
		for (volatile unsigned i = 0; i < PAUSE; i++)
			;
	}
}
