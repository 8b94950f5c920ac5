#include "pm.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "board.h"

/* ACPI 6.4, 4.8.3: fixed hardware registers. */
enum {
	STS_TIMER = 1 << 0,
	STS_GLOBAL = 1 << 5,
	STS_POWER_BUTTON = 1 << 8,
	STS_SLEEP_BUTTON = 1 << 9,
	STS_RTC = 1 << 10,
	STS_WAKE = 1 << 15,
	EN_WRITABLE = STS_GLOBAL | STS_POWER_BUTTON | STS_SLEEP_BUTTON | STS_RTC,
	CONTROL_SCI_EN = 1 << 0,
	CONTROL_WRITABLE = 0x1c06, /* sleep type, global release, bus master reload */
	CONTROL_SLP_TYPE_SHIFT = 10,
	CONTROL_SLP_EN = 1 << 13
};

#define TIMER_HZ UINT64_C(3579545)
#define SECOND   UINT64_C(1000000000)

struct vm_pm {
	struct vm_dev dev;
	unsigned irq_source;
	uint16_t status, enable, control;
	uint16_t gpe_status, gpe_enable;
	uint64_t timer_base; /* count at timer_ns */
	uint64_t timer_ns;
	bool carry_seen; /* bit 31 of the count when the carry was last acknowledged */
};

static uint64_t timer_count(const struct vm_pm *pm)
{
	struct lb_env *env = pm->dev.board->env;
	uint64_t ns = env->now_ns(env) - pm->timer_ns;

	return pm->timer_base + ns / SECOND * TIMER_HZ + ns % SECOND * TIMER_HZ / SECOND;
}

static bool timer_half(const struct vm_pm *pm)
{
	return (timer_count(pm) >> 31 & 1) != 0;
}

static void update_sci(struct vm_pm *pm)
{
	bool level = (pm->status & pm->enable) != 0 || (pm->gpe_status & pm->gpe_enable) != 0;

	vm_irq_set(pm->dev.board, VM_PM_SCI, pm->irq_source, level);
}

static uint16_t status_now(const struct vm_pm *pm)
{
	return pm->status | (timer_half(pm) != pm->carry_seen ? STS_TIMER : 0);
}

/* The sixteen bytes as they read now. */
static uint8_t byte_at(const struct vm_pm *pm, unsigned off)
{
	const uint16_t words[VM_PM_BYTES / 2] = {
		status_now(pm),
		pm->enable,
		(uint16_t)(pm->control | CONTROL_SCI_EN),
		0,
		(uint16_t)timer_count(pm),
		(uint16_t)(timer_count(pm) >> 16),
		pm->gpe_status,
		pm->gpe_enable,
	};

	return (uint8_t)(words[off / 2] >> (off % 2 * 8));
}

static uint64_t pm_read(void *arg, uint64_t off, unsigned size)
{
	const struct vm_pm *pm = arg;
	uint64_t v = 0;

	if (off == VM_PM_TIMER && size == 4)
		return (uint32_t)timer_count(pm);
	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)byte_at(pm, (unsigned)off + i) << (8 * i);
	return v;
}

static void set_control(struct vm_pm *pm, uint16_t v)
{
	struct vm_board *b = pm->dev.board;
	struct vm_event e = {.type = VM_EVENT_POWEROFF};

	pm->control = v & CONTROL_WRITABLE;
	if ((v & CONTROL_SLP_EN) != 0 && (v >> CONTROL_SLP_TYPE_SHIFT & 7) == VM_PM_S5_TYPE)
		b->ops->event(b->arg, &e);
}

static uint16_t with_byte(uint16_t old, unsigned off, uint8_t v)
{
	return off % 2 == 0 ? (uint16_t)((old & 0xff00) | v) : (uint16_t)((old & 0xff) | v << 8);
}

static void write_byte(struct vm_pm *pm, unsigned off, uint8_t v)
{
	uint16_t word = (uint16_t)(v << (off % 2 * 8));

	switch (off / 2) {
	case 0: /* write one to clear */
		pm->status &= (uint16_t)~word;
		if ((word & STS_TIMER) != 0)
			pm->carry_seen = timer_half(pm);
		break;
	case 1:
		pm->enable = with_byte(pm->enable, off, v) & EN_WRITABLE;
		break;
	case 2:
		set_control(pm, with_byte(pm->control, off, v));
		break;
	case 6:
		pm->gpe_status &= (uint16_t)~word;
		break;
	case 7:
		pm->gpe_enable = with_byte(pm->gpe_enable, off, v);
		break;
	default: /* the timer and the gap: read only */
		break;
	}
}

static void pm_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_pm *pm = arg;

	for (unsigned i = 0; i < size; i++)
		write_byte(pm, (unsigned)off + i, (uint8_t)(value >> (8 * i)));
	update_sci(pm);
}

void vm_pm_power_button(struct vm_pm *pm)
{
	pm->status |= STS_POWER_BUTTON;
	update_sci(pm);
}

void vm_pm_gpe(struct vm_pm *pm, unsigned n)
{
	LB_ASSERT(n < 16);
	pm->gpe_status |= (uint16_t)(1u << n);
	update_sci(pm);
}

static void pm_reset(struct vm_dev *d)
{
	struct vm_pm *pm = (struct vm_pm *)d;

	pm->status = pm->enable = pm->control = 0;
	pm->gpe_status = pm->gpe_enable = 0;
	pm->timer_base = 0;
	pm->timer_ns = d->board->env->now_ns(d->board->env);
	pm->carry_seen = false;
	update_sci(pm);
}

static void pm_save(struct vm_dev *d, struct lb_wr *wr)
{
	const struct vm_pm *pm = (const struct vm_pm *)d;

	lb_wr_u16le(wr, pm->status);
	lb_wr_u16le(wr, pm->enable);
	lb_wr_u16le(wr, pm->control);
	lb_wr_u16le(wr, pm->gpe_status);
	lb_wr_u16le(wr, pm->gpe_enable);
	lb_wr_u64le(wr, timer_count(pm));
	lb_wr_u8(wr, pm->carry_seen);
}

/* The timer goes on from where it stood: a guest only takes differences of it. */
static int pm_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_pm *pm = (struct vm_pm *)d;
	uint8_t carry;

	(void)version;
	pm->status = lb_rd_u16le(rd);
	pm->enable = lb_rd_u16le(rd);
	pm->control = lb_rd_u16le(rd);
	pm->gpe_status = lb_rd_u16le(rd);
	pm->gpe_enable = lb_rd_u16le(rd);
	pm->timer_base = lb_rd_u64le(rd);
	carry = lb_rd_u8(rd);
	pm->timer_ns = d->board->env->now_ns(d->board->env);
	pm->carry_seen = carry != 0;
	if (rd->bad || (pm->enable & ~EN_WRITABLE) != 0 || (pm->control & ~CONTROL_WRITABLE) != 0 ||
	    carry > 1)
		return lb_err_set(err, LB_ECORRUPT, 0, "registers %04x %04x", pm->enable,
				  pm->control);
	return 0;
}

static void pm_resume(struct vm_dev *d)
{
	update_sci((struct vm_pm *)d);
}

static void pm_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops pm_dev_ops = {
	.name = "pm",
	.version = 1,
	.reset = pm_reset,
	.save = pm_save,
	.load = pm_load,
	.resume = pm_resume,
	.destroy = pm_destroy,
};

int vm_pm_create(struct vm_pm **out, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops io = {.read = pm_read, .write = pm_write};
	struct vm_pm *pm = calloc(1, sizeof(*pm));
	int rc;

	if (pm == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "power management");
	rc = vm_pio_map(b, VM_PM_BASE, VM_PM_BYTES, &io, pm, err);
	if (rc != 0) {
		free(pm);
		return rc;
	}
	pm->irq_source = vm_irq_source(b);
	vm_board_add(b, &pm->dev, &pm_dev_ops);
	pm_reset(&pm->dev);
	*out = pm;
	return 0;
}
