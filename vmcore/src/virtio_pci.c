#include "virtio_pci.h"

#include <string.h>

#include "base/assert.h"
#include "base/err.h"

#define VENDOR_VIRTIO    0x1af4u
#define DEVICE_TRANS     0x1000u /* transitional ids are this + type's own offset [4.1.2.1] */
#define NO_VECTOR        0xffffu
#define BAR_LEGACY       0u
#define BAR_MSIX         1u
#define BAR_MODERN       4u
#define LEGACY_BYTES     128u
#define MSIX_BYTES       4096u
#define MSIX_PBA         0x800u
#define MODERN_BYTES     0x4000u
#define MODERN_ISR       0x1000u
#define MODERN_DEVICE    0x2000u
#define MODERN_NOTIFY    0x3000u
#define NOTIFY_STEP      4u
#define COMMON_BYTES     56u
#define PCI_CAP_MSIX     0x11u
#define PCI_CAP_VENDOR   0x09u
#define MSIX_CTL_ENABLE  0x8000u
#define MSIX_CTL_MASKED  0x4000u
#define MSIX_ENTRY_BYTES 16u

enum {
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 0x40,
};
enum {
	ISR_QUEUE = 1,
	ISR_CONFIG = 2,
};
/* Legacy registers. [4.1.4.10] */
enum {
	LEG_FEATURES = 0,
	LEG_DRIVER_FEATURES = 4,
	LEG_QUEUE_PFN = 8,
	LEG_QUEUE_SIZE = 12,
	LEG_QUEUE_SELECT = 14,
	LEG_QUEUE_NOTIFY = 16,
	LEG_STATUS = 18,
	LEG_ISR = 19,
	LEG_CONFIG = 20, /* without MSI-X */
	LEG_CONFIG_VECTOR = 20,
	LEG_QUEUE_VECTOR = 22,
	LEG_CONFIG_MSIX = 24,
};
/* Modern common configuration. [4.1.4.3] */
enum {
	COM_FEATURE_SELECT = 0,
	COM_DRIVER_FEATURE_SELECT = 8,
	COM_DRIVER_FEATURE = 12,
	COM_CONFIG_VECTOR = 16,
	COM_STATUS = 20,
	COM_QUEUE_SELECT = 22,
	COM_QUEUE_SIZE = 24,
	COM_QUEUE_VECTOR = 26,
	COM_QUEUE_ENABLE = 28,
	COM_QUEUE_DESC = 32,
	COM_QUEUE_DRIVER = 40,
	COM_QUEUE_DEVICE = 48,
};
/* struct virtio_pci_cap [4.1.4] */
enum {
	CAP_COMMON = 1,
	CAP_NOTIFY = 2,
	CAP_ISR = 3,
	CAP_DEVICE = 4,
	CAP_WINDOW = 5,
	CAP_LEN_AT = 2,
	CAP_TYPE_AT = 3,
	CAP_BAR_AT = 4,
	CAP_OFFSET_AT = 8,
	CAP_LENGTH_AT = 12,
	CAP_EXTRA_AT = 16, /* notify: multiplier; window: data */
	CAP_BYTES = 16,
};

static struct vm_virtio *virtio_of(struct vm_dev *d)
{
	return (struct vm_virtio *)d; /* pci.dev comes first */
}

bool vm_virtio_has(const struct vm_virtio *v, uint64_t feature)
{
	return (v->driver_features & feature) != 0;
}

bool vm_virtio_is_live(const struct vm_virtio *v)
{
	if (v->resetting)
		return false;
	return (v->status & STATUS_DRIVER_OK) != 0 || !vm_virtio_has(v, VM_VIRTIO_F_VERSION_1);
}

/* ---- interrupts ---- */

static uint16_t msix_control(const struct vm_virtio *v)
{
	const uint8_t *p = v->pci.config + v->msix_cap + 2;

	return (uint16_t)(p[0] | p[1] << 8);
}

static bool msix_enabled(const struct vm_virtio *v)
{
	return (msix_control(v) & MSIX_CTL_ENABLE) != 0;
}

static unsigned vectors(const struct vm_virtio *v)
{
	return v->queue_count + 1;
}

static void msix_send(struct vm_virtio *v, unsigned vector)
{
	const struct vm_msix_entry *e = &v->msix[vector];

	if ((msix_control(v) & MSIX_CTL_MASKED) != 0 || (e->control & 1) != 0) {
		v->msix_pending |= 1u << vector;
		return;
	}
	v->msix_pending &= ~(1u << vector);
	vm_msi_send(v->pci.dev.board, (uint64_t)e->addr_hi << 32 | e->addr_lo, e->data);
}

/* After a mask went away. */
static void msix_deliver(struct vm_virtio *v)
{
	if (!msix_enabled(v))
		return;
	for (unsigned i = 0; i < vectors(v); i++)
		if ((v->msix_pending >> i & 1) != 0)
			msix_send(v, i);
}

static void raise_irq(struct vm_virtio *v, uint16_t vector, uint8_t isr)
{
	if (msix_enabled(v)) {
		if (vector < vectors(v))
			msix_send(v, vector);
		return;
	}
	v->isr |= isr;
	vm_pci_intx(&v->pci, true);
}

/* A queue broke since we looked last? [2.1.2: DEVICE_NEEDS_RESET] */
static void check_broken(struct vm_virtio *v, unsigned queue)
{
	if (!v->queue[queue].broken || (v->status & STATUS_NEEDS_RESET) != 0)
		return;
	v->status |= STATUS_NEEDS_RESET;
	if ((v->status & STATUS_DRIVER_OK) != 0)
		raise_irq(v, v->config_vector, ISR_CONFIG);
}

void vm_virtio_used(struct vm_virtio *v, unsigned queue)
{
	if (vm_virtq_wants_interrupt(&v->queue[queue]))
		raise_irq(v, v->queue[queue].vector, ISR_QUEUE);
	check_broken(v, queue);
}

void vm_virtio_complete(struct vm_virtio *v, unsigned queue, uint16_t head, uint32_t written)
{
	vm_virtq_put(&v->queue[queue], 0, head, written);
	vm_virtq_publish(&v->queue[queue], 1);
	vm_virtio_used(v, queue);
}

void vm_virtio_break(struct vm_virtio *v, unsigned queue)
{
	v->queue[queue].broken = true;
	check_broken(v, queue);
}

/* ---- what both layouts do ---- */

static uint64_t offered(const struct vm_virtio *v)
{
	return v->features | VM_VIRTIO_F_ANY_LAYOUT | VM_VIRTIO_F_INDIRECT_DESC |
	       VM_VIRTIO_F_EVENT_IDX | VM_VIRTIO_F_VERSION_1;
}

static void set_features(struct vm_virtio *v, uint64_t features)
{
	v->driver_features = features;
	for (unsigned i = 0; i < v->queue_count; i++) {
		v->queue[i].indirect = (features & VM_VIRTIO_F_INDIRECT_DESC) != 0;
		v->queue[i].event_idx = (features & VM_VIRTIO_F_EVENT_IDX) != 0;
	}
}

static void reset_device(struct vm_virtio *v)
{
	if (v->resetting)
		return;
	v->resetting = true;
	v->ops->reset(v);
	for (unsigned i = 0; i < v->queue_count; i++) {
		v->queue[i].mem = v->pci.dev.board->mem;
		vm_virtq_reset(&v->queue[i]);
	}
	v->driver_features = 0;
	v->feature_select = v->driver_feature_select = 0;
	v->queue_select = 0;
	v->config_vector = NO_VECTOR;
	v->status = 0;
	v->isr = 0;
	v->msix_pending = 0;
	vm_pci_intx(&v->pci, false);
	v->resetting = false;
}

static struct vm_virtq *selected(struct vm_virtio *v)
{
	return v->queue_select < v->queue_count ? &v->queue[v->queue_select] : NULL;
}

static uint16_t checked_vector(const struct vm_virtio *v, uint64_t vector)
{
	return vector < vectors(v) ? (uint16_t)vector : NO_VECTOR;
}

static void notify(struct vm_virtio *v, uint64_t queue)
{
	if (queue >= v->queue_count || !vm_virtio_is_live(v) || !v->queue[queue].enabled)
		return;
	v->ops->notify(v, (unsigned)queue);
	check_broken(v, (unsigned)queue);
}

static void notify_all(struct vm_virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++)
		notify(v, i);
}

static void set_status(struct vm_virtio *v, uint8_t status, bool modern)
{
	bool was_ok = (v->status & STATUS_DRIVER_OK) != 0;

	if (status == 0) {
		reset_device(v);
		return;
	}
	if (modern && (status & STATUS_FEATURES_OK) != 0 &&
	    ((v->driver_features & ~offered(v)) != 0 || !vm_virtio_has(v, VM_VIRTIO_F_VERSION_1)))
		status &= (uint8_t)~STATUS_FEATURES_OK;
	v->status = status | (v->status & STATUS_NEEDS_RESET);
	if (!was_ok && (status & STATUS_DRIVER_OK) != 0)
		notify_all(v);
}

/* Reading acknowledges. [4.1.4.5] */
static uint8_t read_isr(struct vm_virtio *v)
{
	uint8_t isr = v->isr;

	v->isr = 0;
	vm_pci_intx(&v->pci, false);
	return isr;
}

/* A register file as bytes: any width at any offset reads what lies there. */
static uint64_t pick(const uint8_t *image, uint64_t image_bytes, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = size; i-- > 0;)
		v = v << 8 | (off + i < image_bytes ? image[off + i] : 0);
	return v;
}

/* ---- legacy layout ---- */

static uint64_t legacy_config_at(const struct vm_virtio *v)
{
	return msix_enabled(v) ? LEG_CONFIG_MSIX : LEG_CONFIG;
}

static uint64_t legacy_read(void *arg, uint64_t off, unsigned size)
{
	struct vm_virtio *v = arg;
	const struct vm_virtq *q = selected(v);
	uint8_t image[LEG_CONFIG_MSIX];
	struct lb_wr wr = lb_wr_init(image, sizeof(image));

	if (off >= legacy_config_at(v))
		return pick(v->config, v->config_bytes, off - legacy_config_at(v), size);
	lb_wr_u32le(&wr, (uint32_t)offered(v));
	lb_wr_u32le(&wr, (uint32_t)v->driver_features);
	lb_wr_u32le(&wr, q == NULL ? 0 : (uint32_t)(q->desc.a >> 12));
	lb_wr_u16le(&wr, q == NULL ? 0 : q->size_max);
	lb_wr_u16le(&wr, v->queue_select);
	lb_wr_u16le(&wr, 0);
	lb_wr_u8(&wr, v->status);
	lb_wr_u8(&wr, off <= LEG_ISR && off + size > LEG_ISR ? read_isr(v) : 0);
	lb_wr_u16le(&wr, v->config_vector);
	lb_wr_u16le(&wr, q == NULL ? NO_VECTOR : q->vector);
	LB_ASSERT(lb_wr_done(&wr));
	return pick(image, sizeof(image), off, size);
}

static void legacy_set_pfn(struct vm_virtio *v, uint32_t pfn)
{
	struct vm_virtq *q = selected(v);

	if (pfn == 0) {
		reset_device(v);
		return;
	}
	if (q == NULL || q->enabled)
		return;
	vm_virtq_legacy_layout(q, (uint64_t)pfn << 12);
	q->enabled = true;
}

static void legacy_set_vector(struct vm_virtio *v, uint64_t off, uint64_t value)
{
	if (!msix_enabled(v))
		return;
	if (off == LEG_CONFIG_VECTOR)
		v->config_vector = checked_vector(v, value);
	else if (selected(v) != NULL)
		selected(v)->vector = checked_vector(v, value);
}

static void legacy_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_virtio *v = arg;

	if (v->resetting)
		return;
	switch (off << 4 | size) {
	case LEG_DRIVER_FEATURES << 4 | 4:
		set_features(v, value & offered(v) & UINT32_MAX);
		break;
	case LEG_QUEUE_PFN << 4 | 4:
		legacy_set_pfn(v, (uint32_t)value);
		break;
	case LEG_QUEUE_SELECT << 4 | 2:
		v->queue_select = (uint16_t)value;
		break;
	case LEG_QUEUE_NOTIFY << 4 | 2:
		notify(v, value);
		break;
	case LEG_STATUS << 4 | 1:
		set_status(v, (uint8_t)value, false);
		break;
	case LEG_CONFIG_VECTOR << 4 | 2:
	case LEG_QUEUE_VECTOR << 4 | 2:
		legacy_set_vector(v, off, value);
		break;
	default:
		break;
	}
}

/* ---- modern layout ---- */

static uint64_t common_read(struct vm_virtio *v, uint64_t off, unsigned size)
{
	static const struct vm_virtq none = {.vector = NO_VECTOR};
	const struct vm_virtq *q = selected(v) == NULL ? &none : selected(v);
	uint8_t image[COMMON_BYTES];
	struct lb_wr wr = lb_wr_init(image, sizeof(image));

	lb_wr_u32le(&wr, v->feature_select);
	lb_wr_u32le(&wr,
		    v->feature_select > 1 ? 0 : (uint32_t)(offered(v) >> (32 * v->feature_select)));
	lb_wr_u32le(&wr, v->driver_feature_select);
	lb_wr_u32le(&wr,
		    v->driver_feature_select > 1
			    ? 0
			    : (uint32_t)(v->driver_features >> (32 * v->driver_feature_select)));
	lb_wr_u16le(&wr, v->config_vector);
	lb_wr_u16le(&wr, (uint16_t)v->queue_count);
	lb_wr_u8(&wr, v->status);
	lb_wr_u8(&wr, v->generation);
	lb_wr_u16le(&wr, v->queue_select);
	lb_wr_u16le(&wr, q->size);
	lb_wr_u16le(&wr, q->vector);
	lb_wr_u16le(&wr, q->enabled);
	lb_wr_u16le(&wr, v->queue_select); /* where to notify: a step a queue */
	lb_wr_u64le(&wr, q->desc.a);
	lb_wr_u64le(&wr, q->avail.a);
	lb_wr_u64le(&wr, q->used.a);
	LB_ASSERT(lb_wr_done(&wr));
	return pick(image, sizeof(image), off, size);
}

static void set_driver_feature(struct vm_virtio *v, uint32_t value)
{
	unsigned shift = 32 * v->driver_feature_select;

	if (v->driver_feature_select > 1 || (v->status & STATUS_FEATURES_OK) != 0)
		return;
	set_features(v, (v->driver_features & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value
											  << shift);
}

/* A ring's address, whole or by halves: @off is within the 8 bytes. */
static void set_address(struct vm_gpa *gpa, uint64_t off, unsigned size, uint64_t value)
{
	if (size == 8 && off == 0)
		gpa->a = value;
	else if (size == 4 && off == 0)
		gpa->a = (gpa->a & ~(uint64_t)UINT32_MAX) | value;
	else if (size == 4 && off == 4)
		gpa->a = (gpa->a & UINT32_MAX) | value << 32;
}

static void set_queue_size(struct vm_virtq *q, uint64_t value)
{
	if (value != 0 && value <= q->size_max && (value & (value - 1)) == 0)
		q->size = (uint16_t)value;
}

/* Registers of the selected queue. All but the vector are fixed once it is enabled. */
static void queue_write(struct vm_virtio *v, struct vm_virtq *q, uint64_t off, unsigned size,
			uint64_t value)
{
	if (off == COM_QUEUE_VECTOR && size == 2)
		q->vector = checked_vector(v, value);
	if (q->enabled)
		return;
	if (off == COM_QUEUE_SIZE && size == 2)
		set_queue_size(q, value);
	else if (off == COM_QUEUE_ENABLE && size == 2)
		q->enabled = value == 1;
	else if (off >= COM_QUEUE_DEVICE)
		set_address(&q->used, off - COM_QUEUE_DEVICE, size, value);
	else if (off >= COM_QUEUE_DRIVER)
		set_address(&q->avail, off - COM_QUEUE_DRIVER, size, value);
	else if (off >= COM_QUEUE_DESC)
		set_address(&q->desc, off - COM_QUEUE_DESC, size, value);
}

static void common_write(struct vm_virtio *v, uint64_t off, unsigned size, uint64_t value)
{
	switch (off << 4 | size) {
	case COM_FEATURE_SELECT << 4 | 4:
		v->feature_select = (uint32_t)value;
		break;
	case COM_DRIVER_FEATURE_SELECT << 4 | 4:
		v->driver_feature_select = (uint32_t)value;
		break;
	case COM_DRIVER_FEATURE << 4 | 4:
		set_driver_feature(v, (uint32_t)value);
		break;
	case COM_CONFIG_VECTOR << 4 | 2:
		v->config_vector = checked_vector(v, value);
		break;
	case COM_STATUS << 4 | 1:
		set_status(v, (uint8_t)value, true);
		break;
	case COM_QUEUE_SELECT << 4 | 2:
		v->queue_select = (uint16_t)value;
		break;
	default:
		if (off >= COM_QUEUE_SIZE && selected(v) != NULL)
			queue_write(v, selected(v), off, size, value);
		break;
	}
}

static uint64_t modern_read(void *arg, uint64_t off, unsigned size)
{
	struct vm_virtio *v = arg;

	if (off < MODERN_ISR)
		return common_read(v, off, size);
	if (off == MODERN_ISR)
		return read_isr(v);
	if (off >= MODERN_DEVICE && off < MODERN_NOTIFY)
		return pick(v->config, v->config_bytes, off - MODERN_DEVICE, size);
	return 0;
}

static void modern_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_virtio *v = arg;

	if (v->resetting)
		return;
	if (off < COMMON_BYTES)
		common_write(v, off, size, value);
	else if (off >= MODERN_NOTIFY)
		notify(v, (off - MODERN_NOTIFY) / NOTIFY_STEP);
}

/* ---- MSI-X [PCI 3.0, 6.8.2] ---- */

static uint32_t *msix_word(struct vm_virtio *v, uint64_t off)
{
	struct vm_msix_entry *e;

	if (off / MSIX_ENTRY_BYTES >= vectors(v))
		return NULL;
	e = &v->msix[off / MSIX_ENTRY_BYTES];
	switch (off % MSIX_ENTRY_BYTES / 4) {
	case 0:
		return &e->addr_lo;
	case 1:
		return &e->addr_hi;
	case 2:
		return &e->data;
	default:
		return &e->control;
	}
}

static uint64_t msix_read(void *arg, uint64_t off, unsigned size)
{
	struct vm_virtio *v = arg;
	uint64_t value = 0;

	if (off % 4 != 0 || size < 4)
		return 0;
	for (unsigned i = size / 4; i-- > 0;) {
		const uint32_t *w = msix_word(v, off + UINT64_C(4) * i);

		value = value << 32 | (w != NULL ? *w : 0);
	}
	return off == MSIX_PBA ? v->msix_pending : value;
}

static void msix_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_virtio *v = arg;

	if (off % 4 != 0 || size < 4)
		return;
	for (unsigned i = 0; i < size / 4; i++) {
		uint32_t *w = msix_word(v, off + UINT64_C(4) * i);

		if (w != NULL)
			*w = (uint32_t)(value >> (32 * i));
	}
	msix_deliver(v);
}

/* ---- configuration space ---- */

static uint32_t config32(const struct vm_virtio *v, unsigned off)
{
	return (uint32_t)pick(v->pci.config, VM_PCI_CONFIG_BYTES, off, 4);
}

/* Access to BARs through configuration space, for firmware that cannot map them. [4.1.4.9] Nothing
 * when bar, offset or length name nothing of ours. */
static const struct vm_pci_bar *window(struct vm_virtio *v, uint32_t *off, unsigned *len)
{
	uint8_t bar = v->pci.config[v->window_cap + CAP_BAR_AT];
	uint32_t length = config32(v, v->window_cap + CAP_LENGTH_AT);

	*off = config32(v, v->window_cap + CAP_OFFSET_AT);
	*len = length;
	if (bar >= VM_PCI_BARS || (length != 1 && length != 2 && length != 4) ||
	    *off % length != 0 || v->pci.bar[bar].size_bytes < length ||
	    *off > v->pci.bar[bar].size_bytes - length)
		return NULL;
	return &v->pci.bar[bar];
}

static bool touches(unsigned off, unsigned len, unsigned from, unsigned bytes)
{
	return off < from + bytes && off + len > from;
}

static void on_config_written(struct vm_pci_dev *d, unsigned off, unsigned len)
{
	struct vm_virtio *v = (struct vm_virtio *)d;
	const struct vm_pci_bar *bar;
	uint32_t at;
	unsigned n;

	if (touches(off, len, v->msix_cap + 2u, 2)) {
		if (msix_enabled(v))
			vm_pci_intx(d, false);
		else if (v->isr != 0)
			vm_pci_intx(d, true);
		msix_deliver(v);
	}
	if (!touches(off, len, v->window_cap + (unsigned)CAP_EXTRA_AT, 4))
		return;
	bar = window(v, &at, &n);
	if (bar != NULL)
		bar->ops->write(
			bar->arg, at, n,
			pick(d->config, VM_PCI_CONFIG_BYTES, v->window_cap + CAP_EXTRA_AT, n));
}

static void put32(uint8_t *p, uint32_t v)
{
	struct lb_wr wr = lb_wr_init(p, sizeof(v));

	lb_wr_u32le(&wr, v);
}

/* A read of the window's data is a read of what it shows, with its side effects. */
static void on_config_reading(struct vm_pci_dev *d, unsigned off, unsigned len)
{
	struct vm_virtio *v = (struct vm_virtio *)d;
	const struct vm_pci_bar *bar;
	uint32_t at;
	unsigned n;

	if (!touches(off, len, v->window_cap + (unsigned)CAP_EXTRA_AT, 4))
		return;
	bar = window(v, &at, &n);
	if (bar != NULL)
		put32(d->config + v->window_cap + CAP_EXTRA_AT,
		      (uint32_t)bar->ops->read(bar->arg, at, n));
}

static uint8_t add_cap(struct vm_virtio *v, uint8_t type, uint32_t off, uint32_t bytes,
		       uint8_t extra)
{
	uint8_t len = (uint8_t)(CAP_BYTES + extra);
	uint8_t at = vm_pci_add_capability(&v->pci, PCI_CAP_VENDOR, len);
	uint8_t *p = v->pci.config + at;

	p[CAP_LEN_AT] = len;
	p[CAP_TYPE_AT] = type;
	p[CAP_BAR_AT] = BAR_MODERN;
	put32(p + CAP_OFFSET_AT, off);
	put32(p + CAP_LENGTH_AT, bytes);
	return at;
}

static void add_msix(struct vm_virtio *v)
{
	uint8_t *p;

	v->msix_cap = vm_pci_add_capability(&v->pci, PCI_CAP_MSIX, 12);
	p = v->pci.config + v->msix_cap;
	p[2] = (uint8_t)(vectors(v) - 1);
	put32(p + 4, BAR_MSIX);
	put32(p + 8, MSIX_PBA | BAR_MSIX);
	v->pci.wmask[v->msix_cap + 3] = (MSIX_CTL_ENABLE | MSIX_CTL_MASKED) >> 8;
}

static void add_capabilities(struct vm_virtio *v)
{
	uint8_t at;

	add_msix(v);
	(void)add_cap(v, CAP_COMMON, 0, COMMON_BYTES, 0);
	(void)add_cap(v, CAP_ISR, MODERN_ISR, 1, 0);
	(void)add_cap(v, CAP_DEVICE, MODERN_DEVICE, VM_VIRTIO_CONFIG_MAX, 0);
	at = add_cap(v, CAP_NOTIFY, MODERN_NOTIFY, NOTIFY_STEP * VM_VIRTIO_QUEUES_MAX, 4);
	put32(v->pci.config + at + CAP_EXTRA_AT, NOTIFY_STEP);
	at = add_cap(v, CAP_WINDOW, 0, 0, 4);
	v->pci.config[at + CAP_BAR_AT] = 0;
	v->pci.wmask[at + CAP_BAR_AT] = 0xff;
	memset(v->pci.wmask + at + CAP_OFFSET_AT, 0xff, 12); /* offset, length, data */
	v->window_cap = at;
}

/* ---- the device ---- */

static struct vm_pci_id identity(enum vm_virtio_type type)
{
	struct vm_pci_id id = {
		.vendor = VENDOR_VIRTIO,
		.subsystem_vendor = VENDOR_VIRTIO,
		.subsystem = (uint16_t)type,
		.intx_pin = true,
	};

	switch (type) {
	case VM_VIRTIO_NET:
		id.device = DEVICE_TRANS;
		id.class_code = 0x020000;
		break;
	case VM_VIRTIO_BLK:
		id.device = DEVICE_TRANS + 1;
		id.class_code = 0x010000;
		break;
	case VM_VIRTIO_CONSOLE:
		id.device = DEVICE_TRANS + 3;
		id.class_code = 0x078000;
		break;
	case VM_VIRTIO_RNG:
		id.device = DEVICE_TRANS + 5;
		id.class_code = 0x00ff00;
		break;
	}
	return id;
}

int vm_virtio_add(struct vm_virtio *v, struct vm_board *b, struct vm_pci *pci,
		  const struct vm_dev_ops *dev_ops, struct lb_err *err)
{
	static const struct vm_io_ops legacy_io = {legacy_read, legacy_write};
	static const struct vm_io_ops modern_io = {modern_read, modern_write};
	static const struct vm_io_ops msix_io = {msix_read, msix_write};
	struct vm_pci_id id = identity(v->type);
	uint8_t slot = vm_pci_next_slot(pci);

	LB_ASSERT(v->queue_count <= VM_VIRTIO_QUEUES_MAX);
	if (slot == 0xff)
		return lb_err_set(err, LB_ENOMEM, 0, "no free PCI slot for %s", dev_ops->name);
	for (unsigned i = 0; i < v->queue_count; i++) {
		v->queue[i].mem = b->mem;
		vm_virtq_reset(&v->queue[i]);
	}
	for (unsigned i = 0; i < VM_VIRTIO_VECTORS_MAX; i++)
		v->msix[i].control = 1;
	v->config_vector = NO_VECTOR;
	v->pci.bar[BAR_LEGACY] = (struct vm_pci_bar){LEGACY_BYTES, true, &legacy_io, v, 0};
	v->pci.bar[BAR_MSIX] = (struct vm_pci_bar){MSIX_BYTES, false, &msix_io, v, 0};
	v->pci.bar[BAR_MODERN] = (struct vm_pci_bar){MODERN_BYTES, false, &modern_io, v, 0};
	v->pci.config_written = on_config_written;
	v->pci.config_reading = on_config_reading;
	add_capabilities(v);
	return vm_pci_add(pci, &v->pci, dev_ops, slot, 0, &id, err);
}

void vm_virtio_dev_reset(struct vm_dev *d)
{
	struct vm_virtio *v = virtio_of(d);

	reset_device(v);
	for (unsigned i = 0; i < VM_VIRTIO_VECTORS_MAX; i++)
		v->msix[i] = (struct vm_msix_entry){.control = 1};
	vm_pci_reset(&v->pci);
}

void vm_virtio_dev_save(struct vm_dev *d, struct lb_wr *wr)
{
	struct vm_virtio *v = virtio_of(d);

	vm_pci_save(&v->pci, wr);
	lb_wr_u64le(wr, v->features);
	lb_wr_u64le(wr, v->driver_features);
	lb_wr_u32le(wr, v->feature_select);
	lb_wr_u32le(wr, v->driver_feature_select);
	lb_wr_u16le(wr, v->queue_select);
	lb_wr_u16le(wr, v->config_vector);
	lb_wr_u8(wr, v->status);
	lb_wr_u8(wr, v->isr);
	lb_wr_u8(wr, v->generation);
	for (unsigned i = 0; i < v->queue_count; i++)
		vm_virtq_save(&v->queue[i], wr);
	for (unsigned i = 0; i < vectors(v); i++) {
		lb_wr_u32le(wr, v->msix[i].addr_lo);
		lb_wr_u32le(wr, v->msix[i].addr_hi);
		lb_wr_u32le(wr, v->msix[i].data);
		lb_wr_u32le(wr, v->msix[i].control);
	}
	lb_wr_u32le(wr, v->msix_pending);
	if (v->ops->save != NULL)
		v->ops->save(v, wr);
}

static int load_transport(struct vm_virtio *v, struct lb_rd *rd, struct lb_err *err)
{
	uint64_t features = lb_rd_u64le(rd);
	int rc = 0;

	/* What the driver agreed to must exist here: a guest that found another device at a restore
	 * would not look again. */
	if (features != v->features)
		return lb_err_set(err, LB_ECORRUPT, 0, "features 0x%llx, this device has 0x%llx",
				  (unsigned long long)features, (unsigned long long)v->features);
	set_features(v, lb_rd_u64le(rd));
	v->feature_select = lb_rd_u32le(rd);
	v->driver_feature_select = lb_rd_u32le(rd);
	v->queue_select = lb_rd_u16le(rd);
	v->config_vector = checked_vector(v, lb_rd_u16le(rd));
	v->status = lb_rd_u8(rd);
	v->isr = lb_rd_u8(rd);
	v->generation = lb_rd_u8(rd);
	for (unsigned i = 0; rc == 0 && i < v->queue_count; i++)
		rc = vm_virtq_load(&v->queue[i], rd, err);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < vectors(v); i++) {
		v->msix[i].addr_lo = lb_rd_u32le(rd);
		v->msix[i].addr_hi = lb_rd_u32le(rd);
		v->msix[i].data = lb_rd_u32le(rd);
		v->msix[i].control = lb_rd_u32le(rd);
	}
	v->msix_pending = lb_rd_u32le(rd) & ((1u << vectors(v)) - 1);
	return 0;
}

int vm_virtio_dev_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_virtio *v = virtio_of(d);
	int rc;

	(void)version;
	reset_device(v);
	rc = vm_pci_load(&v->pci, rd, err);
	if (rc == 0)
		rc = load_transport(v, rd, err);
	if (rc == 0 && v->ops->load != NULL)
		rc = v->ops->load(v, rd, err);
	return rc;
}

void vm_virtio_dev_resume(struct vm_dev *d)
{
	struct vm_virtio *v = virtio_of(d);

	if (v->ops->resume != NULL)
		v->ops->resume(v);
	notify_all(v);
}

void vm_virtio_dev_destroy(struct vm_dev *d)
{
	struct vm_virtio *v = virtio_of(d);

	v->ops->destroy(v);
}
