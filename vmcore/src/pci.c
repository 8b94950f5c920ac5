#include "pci.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"

#define CONFIG_ADDRESS 0xcf8u
#define CONFIG_DATA    0xcfcu
#define SLOTS          32u
#define FUNCTIONS      8u
#define FIRST_VIRTIO   3u

/* Offsets in configuration space. */
enum {
	CFG_VENDOR = 0x00,
	CFG_DEVICE = 0x02,
	CFG_COMMAND = 0x04,
	CFG_STATUS = 0x06,
	CFG_REVISION = 0x08,
	CFG_CLASS = 0x09,
	CFG_CACHE_LINE = 0x0c,
	CFG_LATENCY = 0x0d,
	CFG_HEADER = 0x0e,
	CFG_BAR = 0x10,
	CFG_BARS_END = 0x28,
	CFG_SUBSYSTEM = 0x2c,
	CFG_CAP_PTR = 0x34,
	CFG_INT_LINE = 0x3c,
	CFG_INT_PIN = 0x3d,
	CFG_FIRST_CAP = 0x40,
};
enum {
	CMD_IO = 1 << 0,
	CMD_MEMORY = 1 << 1,
	CMD_MASTER = 1 << 2,
	CMD_SERR = 1 << 8,
	CMD_NO_INTX = 1 << 10,
	STATUS_INTX = 1 << 3,
	STATUS_CAPS = 1 << 4,
	HEADER_MULTIFUNCTION = 0x80,
};
/* i440FX and PIIX3 */
enum {
	PAM0 = 0x59,
	PAMS = 7,
	SMRAM = 0x72,
	PIRQ_A = 0x60,
};

struct vm_pci {
	struct vm_pci_dev host, isa;
	uint32_t address; /* the register at 0xcf8 */
	struct vm_pci_dev *fn[SLOTS][FUNCTIONS];
};

static uint16_t config16(const struct vm_pci_dev *d, unsigned off)
{
	return (uint16_t)(d->config[off] | d->config[off + 1] << 8);
}

static uint32_t config32(const struct vm_pci_dev *d, unsigned off)
{
	return config16(d, off) | (uint32_t)config16(d, off + 2) << 16;
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

bool vm_pci_is_master(const struct vm_pci_dev *d)
{
	return (config16(d, CFG_COMMAND) & CMD_MASTER) != 0;
}

/* ---- INTx ---- */

/* Lines 0, 1, 2, 8 and 13 belong to the board itself; the PIIX3 reserves these values. */
static bool is_routable(unsigned irq)
{
	return irq < 16 && irq > 2 && irq != 8 && irq != 13;
}

unsigned vm_pci_irq(const struct vm_pci *p, uint8_t slot)
{
	uint8_t route = p->isa.config[PIRQ_A + ((slot + 3u) & 3)];

	return is_routable(route) ? route : 16; /* 0x80 and up: off */
}

void vm_pci_tell_lines(struct vm_pci *p)
{
	for (uint8_t slot = 0; slot < SLOTS; slot++)
		for (unsigned f = 0; f < FUNCTIONS; f++)
			if (p->fn[slot][f] != NULL && p->fn[slot][f]->config[CFG_INT_PIN] != 0)
				p->fn[slot][f]->config[CFG_INT_LINE] =
					(uint8_t)(vm_pci_irq(p, slot) & 0xf);
}

static void drive_intx(struct vm_pci_dev *d)
{
	unsigned to = vm_pci_irq(d->pci, d->slot);
	bool level = d->intx && (config16(d, CFG_COMMAND) & CMD_NO_INTX) == 0;

	d->config[CFG_STATUS] &= (uint8_t)~STATUS_INTX;
	if (d->intx)
		d->config[CFG_STATUS] |= STATUS_INTX;
	for (unsigned irq = 3; irq < 16; irq++)
		if (is_routable(irq))
			vm_irq_set(d->dev.board, irq, d->irq_source, level && irq == to);
}

void vm_pci_intx(struct vm_pci_dev *d, bool level)
{
	if (d->config[CFG_INT_PIN] == 0 || d->intx == level)
		return;
	d->intx = level;
	drive_intx(d);
}

static void reroute(struct vm_pci *p)
{
	for (unsigned slot = 0; slot < SLOTS; slot++)
		for (unsigned f = 0; f < FUNCTIONS; f++)
			if (p->fn[slot][f] != NULL && p->fn[slot][f]->config[CFG_INT_PIN] != 0)
				drive_intx(p->fn[slot][f]);
}

/* ---- BARs ---- */

/* Where the guest wants BAR @n; 0: nowhere. Address 0 counts as unset, as firmware expects. */
static uint64_t bar_wanted(const struct vm_pci_dev *d, unsigned n)
{
	const struct vm_pci_bar *bar = &d->bar[n];
	uint16_t command = config16(d, CFG_COMMAND);
	uint32_t at = config32(d, CFG_BAR + 4 * n) & ~(bar->size_bytes - 1);

	if ((command & (bar->io ? CMD_IO : CMD_MEMORY)) == 0)
		return 0;
	if (bar->io && at > 0x10000u - bar->size_bytes)
		return 0;
	return at;
}

static void unmap_bar(struct vm_pci_dev *d, struct vm_pci_bar *bar)
{
	if (bar->mapped_at == 0)
		return;
	if (bar->io)
		vm_pio_unmap(d->dev.board, bar->mapped_at, bar->arg);
	else
		vm_mmio_unmap(d->dev.board, bar->mapped_at, bar->arg);
	bar->mapped_at = 0;
}

/* A table of ranges that is full leaves the BAR unmapped: the guest then reads all ones. */
static void map_bar(struct vm_pci_dev *d, struct vm_pci_bar *bar, uint64_t at)
{
	struct vm_board *b = d->dev.board;
	int rc;

	if (bar->io)
		rc = vm_pio_map(b, at, bar->size_bytes, bar->ops, bar->arg, NULL);
	else
		rc = vm_mmio_map(b, at, bar->size_bytes, bar->ops, bar->arg, NULL);
	if (rc == 0)
		bar->mapped_at = at;
}

static void remap_bars(struct vm_pci_dev *d)
{
	for (unsigned n = 0; n < VM_PCI_BARS; n++) {
		struct vm_pci_bar *bar = &d->bar[n];
		uint64_t at;

		if (bar->size_bytes == 0)
			continue;
		at = bar_wanted(d, n);
		if (at == bar->mapped_at)
			continue;
		unmap_bar(d, bar);
		if (at != 0)
			map_bar(d, bar, at);
	}
}

/* ---- configuration space ---- */

static bool touches(unsigned off, unsigned len, unsigned from, unsigned to)
{
	return off < to && off + len > from;
}

static void config_write(struct vm_pci_dev *d, unsigned off, unsigned len, uint32_t value)
{
	for (unsigned i = 0; i < len; i++) {
		uint8_t mask = d->wmask[off + i];
		uint8_t v = (uint8_t)(value >> (8 * i));

		d->config[off + i] = (uint8_t)((d->config[off + i] & ~mask) | (v & mask));
	}
	if (touches(off, len, CFG_COMMAND, CFG_STATUS) || touches(off, len, CFG_BAR, CFG_BARS_END))
		remap_bars(d);
	if (touches(off, len, CFG_COMMAND, CFG_STATUS) && d->config[CFG_INT_PIN] != 0)
		drive_intx(d);
	if (d == &d->pci->isa && touches(off, len, PIRQ_A, PIRQ_A + 4))
		reroute(d->pci);
	if (d->config_written != NULL)
		d->config_written(d, off, len);
}

static struct vm_pci_dev *selected(const struct vm_pci *p)
{
	if (p->address >> 31 == 0 || (p->address >> 16 & 0xff) != 0)
		return NULL;
	return p->fn[p->address >> 11 & 31][p->address >> 8 & 7];
}

static uint64_t address_read(void *arg, uint64_t off, unsigned size)
{
	const struct vm_pci *p = arg;

	return off == 0 && size == 4 ? p->address : UINT64_MAX;
}

/* Narrower accesses are not the register's [PCI 3.0, 3.2.2.3.2]. */
static void address_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_pci *p = arg;

	if (off == 0 && size == 4)
		p->address = (uint32_t)value & 0x80fffffcu;
}

static uint64_t data_read(void *arg, uint64_t off, unsigned size)
{
	const struct vm_pci *p = arg;
	struct vm_pci_dev *d = selected(p);
	unsigned at = (p->address & 0xfc) + (unsigned)off;
	uint64_t v = 0;

	if (d == NULL)
		return UINT64_MAX;
	if (d->config_reading != NULL)
		d->config_reading(d, at, size);
	for (unsigned i = size; i-- > 0;)
		v = v << 8 | d->config[at + i];
	return v;
}

static void data_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_pci *p = arg;
	struct vm_pci_dev *d = selected(p);

	if (d != NULL)
		config_write(d, (p->address & 0xfc) + (unsigned)off, size, (uint32_t)value);
}

/* ---- what every function does ---- */

/* What the guest may change becomes as in @from; the rest is the device's. */
static void take_writable(struct vm_pci_dev *d, const uint8_t *from)
{
	for (unsigned i = 0; i < VM_PCI_CONFIG_BYTES; i++)
		d->config[i] = (uint8_t)((d->config[i] & ~d->wmask[i]) | (from[i] & d->wmask[i]));
}

void vm_pci_reset(struct vm_pci_dev *d)
{
	if (d->config[CFG_INT_PIN] != 0)
		vm_pci_intx(d, false);
	take_writable(d, d->presets);
	remap_bars(d);
}

void vm_pci_save(struct vm_pci_dev *d, struct lb_wr *wr)
{
	lb_wr_bytes(wr, d->config, sizeof(d->config));
	lb_wr_u8(wr, d->intx);
}

int vm_pci_load(struct vm_pci_dev *d, struct lb_rd *rd, struct lb_err *err)
{
	uint8_t config[VM_PCI_CONFIG_BYTES];
	uint8_t intx;

	lb_rd_copy(rd, config, sizeof(config));
	intx = lb_rd_u8(rd);
	if (rd->bad || memcmp(config, d->config, 4) != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "PCI %02x.%x is %02x%02x:%02x%02x, not ours",
				  d->slot, d->function, config[1], config[0], config[3], config[2]);
	if (intx > 1 || (intx != 0 && d->config[CFG_INT_PIN] == 0))
		return lb_err_set(err, LB_ECORRUPT, 0, "PCI %02x.%x: INTx level %u", d->slot,
				  d->function, intx);
	take_writable(d, config);
	d->intx = intx != 0;
	remap_bars(d);
	if (d->config[CFG_INT_PIN] != 0)
		drive_intx(d);
	return 0;
}

uint8_t vm_pci_add_capability(struct vm_pci_dev *d, uint8_t id, uint8_t len)
{
	unsigned at = d->cap_end == 0 ? CFG_FIRST_CAP : (d->cap_end + 3u) & ~3u;
	unsigned link = CFG_CAP_PTR;

	LB_ASSERT(len >= 2 && at + len <= VM_PCI_CONFIG_BYTES - 1);
	while (d->config[link] != 0)
		link = d->config[link] + 1u;
	d->config[link] = (uint8_t)at;
	d->config[at] = id;
	d->config[CFG_STATUS] |= STATUS_CAPS;
	d->cap_end = (uint8_t)(at + len);
	return (uint8_t)at;
}

static void fill_header(struct vm_pci_dev *d, const struct vm_pci_id *id)
{
	put16(d->config + CFG_VENDOR, id->vendor);
	put16(d->config + CFG_DEVICE, id->device);
	put16(d->config + CFG_SUBSYSTEM, id->subsystem_vendor);
	put16(d->config + CFG_SUBSYSTEM + 2, id->subsystem);
	d->config[CFG_REVISION] = id->revision;
	d->config[CFG_CLASS] = (uint8_t)id->class_code;
	put16(d->config + CFG_CLASS + 1, (uint16_t)(id->class_code >> 8));
	d->config[CFG_INT_PIN] = id->intx_pin ? 1 : 0;
	put16(d->wmask + CFG_COMMAND,
	      CMD_IO | CMD_MEMORY | CMD_MASTER | CMD_SERR | (id->intx_pin ? CMD_NO_INTX : 0));
	d->wmask[CFG_CACHE_LINE] = 0xff;
	d->wmask[CFG_LATENCY] = 0xff;
	d->wmask[CFG_INT_LINE] = 0xff;
	for (unsigned n = 0; n < VM_PCI_BARS; n++) {
		uint32_t size = d->bar[n].size_bytes;
		uint32_t mask = size == 0 ? 0 : ~(size - 1);

		LB_ASSERT((size & (size - 1)) == 0);
		if (size == 0)
			continue;
		LB_ASSERT(size >= (d->bar[n].io ? 4u : 16u));
		d->config[CFG_BAR + 4 * n] = d->bar[n].io ? 1 : 0;
		for (unsigned i = 0; i < 4; i++)
			d->wmask[CFG_BAR + 4 * n + i] = (uint8_t)(mask >> (8 * i));
	}
}

int vm_pci_add(struct vm_pci *p, struct vm_pci_dev *d, const struct vm_dev_ops *ops, uint8_t slot,
	       uint8_t function, const struct vm_pci_id *id, struct lb_err *err)
{
	struct vm_board *b = p->host.dev.board;

	LB_ASSERT(slot < SLOTS && function < FUNCTIONS);
	if (p->fn[slot][function] != NULL)
		return lb_err_set(err, LB_EEXIST, 0, "PCI %02x.%x is taken", slot, function);
	d->pci = p;
	d->slot = slot;
	d->function = function;
	fill_header(d, id);
	if (id->intx_pin)
		d->irq_source = vm_irq_source(b);
	p->fn[slot][function] = d;
	if (function != 0) {
		/* function 0 says that there are others; it is always there first */
		LB_ASSERT(p->fn[slot][0] != NULL);
		p->fn[slot][0]->config[CFG_HEADER] |= HEADER_MULTIFUNCTION;
	}
	memcpy(d->presets, d->config, sizeof(d->presets));
	vm_board_add(b, &d->dev, ops);
	return 0;
}

uint8_t vm_pci_next_slot(const struct vm_pci *p)
{
	for (unsigned slot = FIRST_VIRTIO; slot < SLOTS; slot++)
		if (p->fn[slot][0] == NULL)
			return (uint8_t)slot;
	return 0xff;
}

/* ---- the two bridges ---- */

static void bridge_reset(struct vm_dev *dev)
{
	struct vm_pci_dev *d = (struct vm_pci_dev *)dev;

	vm_pci_reset(d);
	if (d == &d->pci->host)
		d->pci->address = 0;
	else
		reroute(d->pci);
}

static void host_save(struct vm_dev *dev, struct lb_wr *wr)
{
	struct vm_pci_dev *d = (struct vm_pci_dev *)dev;

	vm_pci_save(d, wr);
	lb_wr_u32le(wr, d->pci->address);
}

static int host_load(struct vm_dev *dev, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_pci_dev *d = (struct vm_pci_dev *)dev;
	int rc = vm_pci_load(d, rd, err);

	(void)version;
	if (rc == 0)
		d->pci->address = lb_rd_u32le(rd) & 0x80fffffcu;
	return rc;
}

/* Registered first, so destroyed last: nothing refers to the bus any more. */
static void host_destroy(struct vm_dev *dev)
{
	free(((struct vm_pci_dev *)dev)->pci);
}

static void isa_save(struct vm_dev *dev, struct lb_wr *wr)
{
	vm_pci_save((struct vm_pci_dev *)dev, wr);
}

static int isa_load(struct vm_dev *dev, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_pci_dev *d = (struct vm_pci_dev *)dev;
	int rc = vm_pci_load(d, rd, err);

	(void)version;
	if (rc == 0)
		reroute(d->pci);
	return rc;
}

static void isa_destroy(struct vm_dev *dev)
{
	(void)dev; /* part of the host bridge's object */
}

static const struct vm_dev_ops host_ops = {
	.name = "pci-host",
	.version = 1,
	.reset = bridge_reset,
	.save = host_save,
	.load = host_load,
	.destroy = host_destroy,
};
static const struct vm_dev_ops isa_ops = {
	.name = "piix3-isa",
	.version = 1,
	.reset = bridge_reset,
	.save = isa_save,
	.load = isa_load,
	.destroy = isa_destroy,
};

/* 0xc0000..0xfffff is RAM from the start: the PAM registers say so, and firmware finds its copy in
 * place. They can be written and lead to nothing. */
static void preset_host(struct vm_pci_dev *d)
{
	d->config[PAM0] = 0x30;
	memset(d->config + PAM0 + 1, 0x33, PAMS - 1);
	memset(d->wmask + PAM0, 0xff, PAMS);
	d->config[SMRAM] = 0x02;
	d->wmask[SMRAM] = 0xff;
}

static void preset_isa(struct vm_pci_dev *d)
{
	static const uint8_t pirq[4] = {10, 10, 11, 11};

	memcpy(d->config + PIRQ_A, pirq, sizeof(pirq));
	memset(d->wmask + PIRQ_A, 0x8f, sizeof(pirq));
}

static int map_ports(struct vm_pci *p, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops address_io = {address_read, address_write};
	static const struct vm_io_ops data_io = {data_read, data_write};
	int rc = vm_pio_map(b, CONFIG_ADDRESS, 4, &address_io, p, err);

	if (rc != 0)
		return rc;
	rc = vm_pio_map(b, CONFIG_DATA, 4, &data_io, p, err);
	if (rc != 0)
		vm_pio_unmap(b, CONFIG_ADDRESS, p);
	return rc;
}

int vm_pci_create(struct vm_pci **out, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_pci_id host = {0x8086, 0x1237, 0x1af4, 0x1100, 0x060000, 2, false};
	static const struct vm_pci_id isa = {0x8086, 0x7000, 0x1af4, 0x1100, 0x060100, 0, false};
	struct vm_pci *p = calloc(1, sizeof(*p));
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "PCI bus");
	rc = map_ports(p, b, err);
	if (rc != 0)
		goto out;
	preset_host(&p->host);
	preset_isa(&p->isa);
	p->host.dev.board = b; /* vm_pci_add() looks for the board there */
	/* cannot fail: the bus is empty; from the first on, the board destroys it */
	(void)vm_pci_add(p, &p->host, &host_ops, 0, 0, &host, err);
	(void)vm_pci_add(p, &p->isa, &isa_ops, 1, 0, &isa, err);
	*out = p;
	p = NULL;
out:
	free(p);
	return rc;
}
