#include "rtc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/env.h"
#include "base/err.h"
#include "base/thread.h"
#include "board.h"

/*
 *   host's wall clock + offset ──► seconds ──► registers 0..9, 0x32     (running)
 *                                     └─ SET: held in .set_time until SET is cleared ─► offset
 *
 *   next periodic tick, next second ──► flags PF, AF, UF in register C ──► IRQ 8 when enabled
 */
#define PORT_INDEX   0x70u
#define RTC_IRQ      8u
#define CMOS_BYTES   128u
#define SECOND_NS    UINT64_C(1000000000)
#define UIP_NS       UINT64_C(244000) /* before the update [MC146818A, update cycle] */
#define LATE_SECONDS 3600
#define NEVER        UINT64_MAX

enum {
	REG_SECONDS = 0x00,
	REG_ALARM_SECONDS = 0x01,
	REG_MINUTES = 0x02,
	REG_ALARM_MINUTES = 0x03,
	REG_HOURS = 0x04,
	REG_ALARM_HOURS = 0x05,
	REG_WEEKDAY = 0x06,
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_CENTURY = 0x32,
};
enum {
	A_UIP = 1 << 7,
	A_DIVIDER = 0x70,
	A_DIVIDER_RUN = 0x20, /* the 32768 Hz crystal; others hold the clock in reset */
	A_RATE = 0x0f,
	B_24H = 1 << 1,
	B_BINARY = 1 << 2,
	B_UIE = 1 << 4,
	B_AIE = 1 << 5,
	B_PIE = 1 << 6,
	B_SET = 1 << 7,
	C_UF = 1 << 4,
	C_AF = 1 << 5,
	C_PF = 1 << 6,
	C_IRQF = 1 << 7,
	D_VALID = 1 << 7,
	ALARM_ANY = 0xc0, /* both bits: every value matches */
};

struct vm_rtc {
	struct vm_dev dev;
	unsigned irq_source;
	struct vm_rtc_cfg cfg;
	uint8_t index;
	uint8_t cmos[CMOS_BYTES]; /* alarms, A, B, C and what has no meaning here */
	int64_t offset_s;         /* guest's time minus the host's wall clock: this and */
	uint32_t offset_sub_ns;   /* this, below a second */
	int64_t set_time;         /* seconds since 1970, while the clock is held */
	uint64_t saved_wall_ns;   /* of a load: the host's clock at the save */
	uint64_t periodic_at;     /* now_ns of the next tick; NEVER: off */
	int64_t updated;          /* the second whose update was told of */
	pthread_t thread;
	pthread_cond_t changed; /* the thread's plans, or stop */
	bool has_thread, stop;
};

/* ---- time ---- */

static struct lb_env *env_of(const struct vm_rtc *r)
{
	return r->dev.board->env;
}

static bool held(const struct vm_rtc *r)
{
	return (r->cmos[REG_B] & B_SET) != 0 || (r->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_RUN;
}

/* What the guest's clock would show if it were not held: seconds since 1970, and nanoseconds into
 * the second. Apart, because the registers reach further than nanoseconds in 64 bits. */
static int64_t running_seconds(const struct vm_rtc *r, uint64_t *into_ns)
{
	uint64_t wall = env_of(r)->wall_ns(env_of(r));
	uint64_t sub = wall % SECOND_NS + r->offset_sub_ns;

	*into_ns = sub % SECOND_NS;
	return (int64_t)(wall / SECOND_NS) + r->offset_s + (sub >= SECOND_NS ? 1 : 0);
}

static int64_t guest_seconds(const struct vm_rtc *r)
{
	uint64_t into_ns;

	return held(r) ? r->set_time : running_seconds(r, &into_ns);
}

static uint8_t encode(const struct vm_rtc *r, unsigned v)
{
	return (uint8_t)((r->cmos[REG_B] & B_BINARY) != 0 ? v : v / 10 << 4 | v % 10);
}

static unsigned decode(const struct vm_rtc *r, uint8_t v)
{
	return (r->cmos[REG_B] & B_BINARY) != 0 ? v : (v >> 4) * 10u + (v & 15u);
}

static uint8_t encode_hour(const struct vm_rtc *r, unsigned h)
{
	if ((r->cmos[REG_B] & B_24H) != 0)
		return encode(r, h);
	return (uint8_t)(encode(r, h % 12 == 0 ? 12 : h % 12) | (h >= 12 ? 0x80 : 0));
}

static unsigned decode_hour(const struct vm_rtc *r, uint8_t v)
{
	unsigned h;

	if ((r->cmos[REG_B] & B_24H) != 0)
		return decode(r, v);
	h = decode(r, v & 0x7f) % 12;
	return h + ((v & 0x80) != 0 ? 12 : 0);
}

/* How register @reg shows the time @seconds. */
static uint8_t field_of(const struct vm_rtc *r, int64_t seconds, unsigned reg)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	unsigned year;

	if (gmtime_r(&t, &tm) == NULL)
		return 0;
	year = (unsigned)((tm.tm_year + 1900) % 10000);
	switch (reg) {
	case REG_SECONDS:
		return encode(r, (unsigned)tm.tm_sec);
	case REG_MINUTES:
		return encode(r, (unsigned)tm.tm_min);
	case REG_HOURS:
		return encode_hour(r, (unsigned)tm.tm_hour);
	case REG_WEEKDAY:
		return encode(r, (unsigned)tm.tm_wday + 1);
	case REG_DAY:
		return encode(r, (unsigned)tm.tm_mday);
	case REG_MONTH:
		return encode(r, (unsigned)tm.tm_mon + 1);
	case REG_YEAR:
		return encode(r, year % 100);
	default:
		return encode(r, year / 100);
	}
}

/* The date with one field replaced. The day of the week follows from the date. */
static int64_t with_field(const struct vm_rtc *r, unsigned reg, uint8_t v)
{
	time_t t = (time_t)guest_seconds(r);
	struct tm tm;
	int n = (int)decode(r, v);

	if (gmtime_r(&t, &tm) == NULL)
		return guest_seconds(r);
	switch (reg) {
	case REG_SECONDS:
		tm.tm_sec = n;
		break;
	case REG_MINUTES:
		tm.tm_min = n;
		break;
	case REG_HOURS:
		tm.tm_hour = (int)decode_hour(r, v);
		break;
	case REG_DAY:
		tm.tm_mday = n;
		break;
	case REG_MONTH:
		tm.tm_mon = n - 1;
		break;
	case REG_YEAR:
		tm.tm_year = (tm.tm_year + 1900) / 100 * 100 + n % 100 - 1900;
		break;
	case REG_CENTURY:
		tm.tm_year = n * 100 + (tm.tm_year + 1900) % 100 - 1900;
		break;
	default:
		break;
	}
	return (int64_t)timegm(&tm);
}

/* Years 1 to 9999: what the registers can show. */
static bool is_plausible(int64_t seconds)
{
	return seconds >= -INT64_C(62135596800) && seconds <= INT64_C(253402300799);
}

/* The guest's clock shows @seconds from now on; the fraction goes on. */
static void set_seconds(struct vm_rtc *r, int64_t seconds)
{
	if (!is_plausible(seconds))
		return;
	if (held(r))
		r->set_time = seconds;
	else
		r->offset_s += seconds - guest_seconds(r);
	r->updated = seconds;
}

static bool is_time(unsigned reg)
{
	return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS ||
	       (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

/* ---- interrupts ---- */

static void update_line(struct vm_rtc *r)
{
	uint8_t enabled = r->cmos[REG_B] & (B_PIE | B_AIE | B_UIE);
	bool level = (r->cmos[REG_C] & enabled) != 0; /* the bits are at the same places */

	r->cmos[REG_C] &= (uint8_t)~C_IRQF;
	if (level)
		r->cmos[REG_C] |= C_IRQF;
	vm_irq_set(r->dev.board, RTC_IRQ, r->irq_source, level);
}

static uint64_t period_ns(const struct vm_rtc *r)
{
	unsigned rate = r->cmos[REG_A] & A_RATE;

	if (rate == 0)
		return 0;
	if (rate <= 2)
		rate += 7; /* 256 and 128 Hz */
	return (SECOND_NS << (rate - 1)) / 32768;
}

static void plan_periodic(struct vm_rtc *r)
{
	uint64_t period = period_ns(r);
	bool on = period != 0 && (r->cmos[REG_B] & B_PIE) != 0 &&
		  (r->cmos[REG_A] & A_DIVIDER) == A_DIVIDER_RUN;

	r->periodic_at = on ? env_of(r)->now_ns(env_of(r)) + period : NEVER;
}

static bool alarm_matches(const struct vm_rtc *r, unsigned reg, uint8_t shown)
{
	uint8_t want = r->cmos[reg];

	return (want & ALARM_ANY) == ALARM_ANY || want == shown;
}

static bool alarm_is_at(const struct vm_rtc *r, int64_t seconds)
{
	return alarm_matches(r, REG_ALARM_SECONDS, field_of(r, seconds, REG_SECONDS)) &&
	       alarm_matches(r, REG_ALARM_MINUTES, field_of(r, seconds, REG_MINUTES)) &&
	       alarm_matches(r, REG_ALARM_HOURS, field_of(r, seconds, REG_HOURS));
}

/* Did a second end? When several did at once (the host was busy), an alarm that asks for one of
 * them is late, not lost; more than an hour of them is a step of the clock. */
static void poll_seconds(struct vm_rtc *r)
{
	int64_t now = guest_seconds(r);
	int64_t from = r->updated;

	if (held(r) || now == from)
		return;
	if (now < from || now - from > LATE_SECONDS)
		from = now - 1;
	r->cmos[REG_C] |= C_UF;
	for (int64_t t = from + 1; t <= now && (r->cmos[REG_C] & C_AF) == 0; t++)
		if (alarm_is_at(r, t))
			r->cmos[REG_C] |= C_AF;
	r->updated = now;
}

uint64_t vm_rtc_poll(struct vm_rtc *r)
{
	uint64_t now = env_of(r)->now_ns(env_of(r));
	uint64_t next = NEVER, period = period_ns(r);

	if (period != 0 && now >= r->periodic_at) {
		r->cmos[REG_C] |= C_PF;
		/* ticks that nobody could see apart are one */
		r->periodic_at = now + period - (now - r->periodic_at) % period;
	}
	poll_seconds(r);
	update_line(r);
	/* a flag that already holds the line up can wait until C was read */
	if ((r->cmos[REG_C] & C_PF) == 0)
		next = r->periodic_at;
	if (!held(r) && (r->cmos[REG_B] & (B_UIE | B_AIE)) != 0) {
		uint64_t into_ns, second;

		(void)running_seconds(r, &into_ns);
		second = now + SECOND_NS - into_ns;
		next = second < next ? second : next;
	}
	return next;
}

static void replan(struct vm_rtc *r)
{
	if (r->has_thread)
		(void)pthread_cond_signal(&r->changed);
}

static void *rtc_main(void *arg)
{
	struct vm_rtc *r = arg;
	struct vm_board *b = r->dev.board;

	vm_board_lock(b);
	while (!r->stop) {
		uint64_t next = vm_rtc_poll(r);
		uint64_t now = env_of(r)->now_ns(env_of(r));
		struct timespec ts;

		if (next == NEVER) {
			(void)pthread_cond_wait(&r->changed, &b->lock);
			continue;
		}
		if (next <= now)
			next = now + 1;
		ts = lb_cond_deadline(next - now);
		(void)pthread_cond_timedwait(&r->changed, &b->lock, &ts);
	}
	vm_board_unlock(b);
	return NULL;
}

/* ---- registers ---- */

static uint8_t reg_read(struct vm_rtc *r, unsigned reg)
{
	uint64_t into_ns;
	uint8_t v;

	if (is_time(reg))
		return field_of(r, guest_seconds(r), reg);
	switch (reg) {
	case REG_A:
		v = r->cmos[REG_A];
		(void)running_seconds(r, &into_ns);
		if (!held(r) && into_ns >= SECOND_NS - UIP_NS)
			v |= A_UIP;
		return v;
	case REG_C:
		(void)vm_rtc_poll(r);
		v = r->cmos[REG_C];
		r->cmos[REG_C] = 0;
		update_line(r);
		replan(r);
		return v;
	case REG_D:
		return D_VALID;
	default:
		return r->cmos[reg];
	}
}

/* A or B changes: the clock may be stopped or started by it, and keeps its time. */
static void control_write(struct vm_rtc *r, unsigned reg, uint8_t v)
{
	int64_t seconds = guest_seconds(r);
	bool was_held = held(r);

	(void)vm_rtc_poll(r);
	r->cmos[reg] = v;
	if (held(r) != was_held) {
		r->set_time = seconds;
		set_seconds(r, seconds);
	}
	plan_periodic(r);
	update_line(r);
	replan(r);
}

static void reg_write(struct vm_rtc *r, unsigned reg, uint8_t v)
{
	if (is_time(reg)) {
		set_seconds(r, with_field(r, reg, v));
		replan(r);
		return;
	}
	switch (reg) {
	case REG_A:
		control_write(r, REG_A, v & (uint8_t)~A_UIP);
		break;
	case REG_B:
		/* entering SET ends the update's interrupt [MC146818A, register B] */
		control_write(r, REG_B, (v & B_SET) != 0 ? v & (uint8_t)~B_UIE : v);
		break;
	case REG_C:
	case REG_D:
		break;
	default:
		r->cmos[reg] = v;
		break;
	}
}

static uint64_t rtc_read(void *arg, uint64_t off, unsigned size)
{
	struct vm_rtc *r = arg;

	(void)size;
	return off == 0 ? 0xff : reg_read(r, r->index);
}

static void rtc_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_rtc *r = arg;

	/* bit 7 of the index would mask NMIs, of which this board has none */
	if (off == 0)
		r->index = (uint8_t)value & 0x7f;
	if (off == 1)
		reg_write(r, r->index, (uint8_t)value);
	else if (size == 2)
		reg_write(r, r->index, (uint8_t)(value >> 8));
}

/* ---- device ---- */

static void put_size(struct vm_rtc *r, unsigned low, uint64_t v, uint64_t max)
{
	v = v < max ? v : max;
	r->cmos[low] = (uint8_t)v;
	r->cmos[low + 1] = (uint8_t)(v >> 8);
}

/* What firmware looks for [SeaBIOS src/hw/rtc.h, src/fw/paravirt.c; IBM PC/AT technical reference].
 */
static void fill_cmos(struct vm_rtc *r)
{
	uint64_t low = r->cfg.ram_bytes < VM_LOW_MAX_BYTES ? r->cfg.ram_bytes : VM_LOW_MAX_BYTES;
	uint64_t high = r->cfg.ram_bytes - low;

	r->cmos[0x14] = 0x06; /* equipment: FPU, PS/2 pointer slot; no floppy */
	put_size(r, 0x15, 640, 640);
	put_size(r, 0x17, (low >> 10) - 1024, 0xffff);
	put_size(r, 0x30, (low >> 10) - 1024, 0xffff);
	put_size(r, 0x34, low > 16 << 20 ? (low - (16 << 20)) >> 16 : 0, 0xffff);
	r->cmos[0x39] = 0x55; /* IDE disks: LBA translation, as for all above 504 MB */
	r->cmos[0x38] = 0x00; /* third boot device: none; floppy signature check */
	r->cmos[0x3d] = 0x02; /* first boot device: hard disk */
	put_size(r, 0x5b, high >> 16, 0xffff);
	r->cmos[0x5d] = (uint8_t)(high >> 32);
	r->cmos[0x5f] = (uint8_t)(r->cfg.vcpus - 1);
}

/* The clock and CMOS run on a battery: a reset only ends interrupts. */
static void rtc_reset(struct vm_dev *d)
{
	struct vm_rtc *r = (struct vm_rtc *)d;

	r->index = 0;
	r->cmos[REG_C] = 0;
	control_write(r, REG_B, r->cmos[REG_B] & (B_SET | B_BINARY | B_24H | 1));
}

static void rtc_save(struct vm_dev *d, struct lb_wr *wr)
{
	struct vm_rtc *r = (struct vm_rtc *)d;
	uint64_t now = env_of(r)->now_ns(env_of(r));

	lb_wr_u8(wr, r->index);
	lb_wr_bytes(wr, r->cmos, sizeof(r->cmos));
	lb_wr_u64le(wr, (uint64_t)r->offset_s);
	lb_wr_u32le(wr, r->offset_sub_ns);
	lb_wr_u64le(wr, (uint64_t)r->set_time);
	lb_wr_u64le(wr, env_of(r)->wall_ns(env_of(r)));
	lb_wr_u64le(wr, r->periodic_at == NEVER ? NEVER
			: r->periodic_at > now  ? r->periodic_at - now
						: 0);
}

static int rtc_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_rtc *r = (struct vm_rtc *)d;
	uint64_t left;

	(void)version;
	r->index = lb_rd_u8(rd) & 0x7f;
	lb_rd_copy(rd, r->cmos, sizeof(r->cmos));
	r->cmos[REG_A] &= (uint8_t)~A_UIP;
	r->offset_s = (int64_t)lb_rd_u64le(rd);
	r->offset_sub_ns = lb_rd_u32le(rd);
	r->set_time = (int64_t)lb_rd_u64le(rd);
	r->saved_wall_ns = lb_rd_u64le(rd);
	left = lb_rd_u64le(rd);
	if (!is_plausible(r->set_time) || !is_plausible(r->offset_s) ||
	    r->offset_sub_ns >= SECOND_NS || r->saved_wall_ns > INT64_MAX) {
		r->offset_s = r->set_time = 0;
		r->offset_sub_ns = 0;
		return lb_err_set(err, LB_ECORRUPT, 0, "clock out of range");
	}
	plan_periodic(r);
	if (r->periodic_at != NEVER && left < period_ns(r))
		r->periodic_at = env_of(r)->now_ns(env_of(r)) + left;
	r->updated = guest_seconds(r);
	return 0;
}

void vm_rtc_freeze(struct vm_rtc *r)
{
	uint64_t wall = env_of(r)->wall_ns(env_of(r));
	bool back = wall < r->saved_wall_ns;
	uint64_t away = back ? r->saved_wall_ns - wall : wall - r->saved_wall_ns;
	uint64_t sub = away % SECOND_NS;

	/* offset -= wall - saved */
	if (!back && sub > 0)
		sub = SECOND_NS - sub;
	r->offset_s += back ? (int64_t)(away / SECOND_NS) : -(int64_t)(away / SECOND_NS);
	if (!back && sub > 0)
		r->offset_s--;
	sub += r->offset_sub_ns;
	r->offset_s += sub >= SECOND_NS ? 1 : 0;
	r->offset_sub_ns = (uint32_t)(sub % SECOND_NS);
	r->updated = guest_seconds(r);
}

static void rtc_resume(struct vm_dev *d)
{
	struct vm_rtc *r = (struct vm_rtc *)d;

	update_line(r);
	replan(r);
}

static void rtc_destroy(struct vm_dev *d)
{
	struct vm_rtc *r = (struct vm_rtc *)d;

	if (r->has_thread) {
		vm_board_lock(d->board);
		r->stop = true;
		replan(r);
		vm_board_unlock(d->board);
		(void)pthread_join(r->thread, NULL);
	}
	(void)pthread_cond_destroy(&r->changed);
	free(r);
}

static const struct vm_dev_ops rtc_ops = {
	.name = "rtc",
	.version = 1,
	.reset = rtc_reset,
	.save = rtc_save,
	.load = rtc_load,
	.resume = rtc_resume,
	.destroy = rtc_destroy,
};

static int start_thread(struct vm_rtc *r, struct lb_err *err)
{
	int rc = lb_thread_start(&r->thread, rtc_main, r, "the clock", err);

	r->has_thread = rc == 0;
	return rc;
}

int vm_rtc_create(struct vm_rtc **out, struct vm_board *b, const struct vm_rtc_cfg *cfg,
		  struct lb_err *err)
{
	static const struct vm_io_ops io = {rtc_read, rtc_write};
	struct vm_rtc *r = calloc(1, sizeof(*r));
	int rc;

	if (r == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "clock");
	r->cfg = *cfg;
	r->periodic_at = NEVER;
	r->cmos[REG_A] = 0x26; /* 1024 Hz, off */
	r->cmos[REG_B] = B_24H;
	r->irq_source = vm_irq_source(b);
	lb_cond_init(&r->changed);
	fill_cmos(r);
	vm_board_add(b, &r->dev, &rtc_ops); /* from here on the board destroys it */
	r->updated = guest_seconds(r);
	rc = vm_pio_map(b, PORT_INDEX, 2, &io, r, err);
	if (rc == 0 && !cfg->no_thread)
		rc = start_thread(r, err);
	if (rc == 0)
		*out = r;
	return rc;
}
