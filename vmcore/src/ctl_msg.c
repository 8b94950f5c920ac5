/*
 * Frames: u32 magic "LVM1", u16 type, u8 version of this layout, u8 descriptors, u32 tag, u32 zero,
 * then the fields of the type. docs/vm-control.md is the authority.
 */
#include <string.h>

#include "base/rd.h"
#include "base/wr.h"
#include "vmcore/ctl.h"

#define MAGIC    0x314d564cu /* "LVM1" */
#define LAYOUT   1u
#define FLAG_MAX 1u

/* What follows the header of each type. */
enum body {
	BODY_NONE,
	BODY_NUMBER,
	BODY_TWO,
	BODY_BASED, /* u64, hash */
	BODY_HELLO,
	BODY_BYTES,    /* the rest of the frame */
	BODY_NUMBERED, /* u64, then the rest */
	BODY_READ,
	BODY_DISK,
	BODY_ERROR,
	BODY_INFO,
	BODY_STATS,
	BODY_PIXELS,
	BODY_CUT,
	BODY_EVENT,
};

static const struct row {
	enum vm_ctl_type type;
	enum body body;
	uint8_t fds_min, fds_max;
	const char *name;
} rows[] = {
	{VM_CTL_HELLO, BODY_HELLO, 0, 0, "HELLO"},
	{VM_CTL_STATE, BODY_NONE, 0, 0, "STATE"},
	{VM_CTL_GET_STATS, BODY_NONE, 0, 0, "GET_STATS"},
	{VM_CTL_LISTEN, BODY_NONE, 0, 0, "LISTEN"},
	{VM_CTL_PAUSE, BODY_NUMBER, 0, 0, "PAUSE"},
	{VM_CTL_RESUME, BODY_NONE, 0, 0, "RESUME"},
	{VM_CTL_STOP, BODY_NONE, 0, 0, "STOP"},
	{VM_CTL_RESET, BODY_NONE, 0, 0, "RESET"},
	{VM_CTL_POWER_BUTTON, BODY_NONE, 0, 0, "POWER_BUTTON"},
	{VM_CTL_SERIAL_ATTACH, BODY_NUMBER, 0, 0, "SERIAL_ATTACH"},
	{VM_CTL_SERIAL_IN, BODY_BYTES, 0, 0, "SERIAL_IN"},
	{VM_CTL_SCREEN_TEXT, BODY_NONE, 0, 0, "SCREEN_TEXT"},
	{VM_CTL_SCREEN_PIXELS, BODY_NONE, 0, 0, "SCREEN_PIXELS"},
	{VM_CTL_CUT_PREPARE, BODY_NONE, 0, 0, "CUT_PREPARE"},
	{VM_CTL_CUT_HOLD, BODY_TWO, 0, 0, "CUT_HOLD"},
	{VM_CTL_CUT_TAKE, BODY_NONE, 0, 0, "CUT_TAKE"},
	{VM_CTL_CUT_RESUME, BODY_NONE, 0, 0, "CUT_RESUME"},
	{VM_CTL_CUT_END, BODY_BASED, 0, 0, "CUT_END"},
	{VM_CTL_CUT_READ, BODY_READ, 0, 0, "CUT_READ"},
	{VM_CTL_CUT_CHANGED, BODY_DISK, 0, 0, "CUT_CHANGED"},
	{VM_CTL_CUT_CHECK, BODY_NONE, 0, 0, "CUT_CHECK"},
	{VM_CTL_CUT_ALONE, BODY_NUMBER, 0, 0, "CUT_ALONE"},
	{VM_CTL_GET_ORDER, BODY_NONE, 0, 0, "GET_ORDER"},
	{VM_CTL_OUTPUT_ACK, BODY_NUMBER, 0, 0, "OUTPUT_ACK"},
	{VM_CTL_OK, BODY_NONE, 0, 0, "OK"},
	{VM_CTL_ERROR, BODY_ERROR, 0, 0, "ERROR"},
	{VM_CTL_INFO, BODY_INFO, 0, 0, "INFO"},
	{VM_CTL_STATS, BODY_STATS, 0, 0, "STATS"},
	{VM_CTL_TEXT, BODY_BYTES, 0, 0, "TEXT"},
	{VM_CTL_PIXELS, BODY_PIXELS, 1, 1, "PIXELS"},
	{VM_CTL_CUT, BODY_CUT, 2, 3, "CUT"},
	{VM_CTL_NUMBER, BODY_NUMBER, 0, 0, "NUMBER"},
	{VM_CTL_DATA, BODY_BYTES, 0, 0, "DATA"},
	{VM_CTL_MAP, BODY_BASED, 0, 1, "MAP"},
	{VM_CTL_SERIAL_OUT, BODY_NUMBERED, 0, 0, "SERIAL_OUT"},
	{VM_CTL_EVENT, BODY_EVENT, 0, 0, "EVENT"},
};

static const struct row *row_of(uint32_t type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if ((uint32_t)rows[i].type == type)
			return &rows[i];
	return NULL;
}

bool vm_ctl_is_request(enum vm_ctl_type t)
{
	return t < VM_CTL_OK && row_of(t) != NULL;
}

const char *vm_ctl_type_name(enum vm_ctl_type t)
{
	const struct row *r = row_of(t);

	return r != NULL ? r->name : "?";
}

/* ---- encode ---- */

static void put_info(struct lb_wr *wr, const struct vm_ctl_info *i)
{
	lb_wr_u16le(wr, i->version);
	lb_wr_str16(wr, i->name);
	lb_wr_id(wr, &i->uuid);
	lb_wr_u32le(wr, i->pid);
	lb_wr_u8(wr, (uint8_t)(i->state + 1));
	lb_wr_u8(wr, i->restored ? 1 : 0);
	lb_wr_u32le(wr, i->jail);
	lb_wr_u64le(wr, i->ram_bytes);
	lb_wr_u32le(wr, i->vcpus);
	lb_wr_u32le(wr, i->disks);
	lb_wr_u32le(wr, i->nics);
	lb_wr_u64le(wr, i->started_boot_ns);
	lb_wr_str16(wr, i->last);
}

static void put_stats(struct lb_wr *wr, const struct vm_stats *s)
{
	const uint64_t n[] = {s->exits,
			      s->pio,
			      s->mmio,
			      s->irqs,
			      s->cuts,
			      s->pause_last_ns,
			      s->pause_max_ns,
			      s->dirty_last_pages,
			      s->lazy_left_pages,
			      s->held_bytes};

	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++)
		lb_wr_u64le(wr, n[i]);
}

static void put_cut(struct lb_wr *wr, const struct vm_ctl_cut *c)
{
	lb_wr_u64le(wr, c->seq);
	lb_wr_u64le(wr, c->boot_ns);
	lb_wr_u64le(wr, c->wall_ns);
	lb_wr_u64le(wr, c->state_bytes);
	lb_wr_u64le(wr, c->ram_bytes);
	lb_wr_u64le(wr, c->changed_pages);
	lb_wr_u8(wr, c->all_changed ? 1 : 0);
	lb_wr_u32le(wr, c->disks);
	for (uint32_t i = 0; i < c->disks && i < VM_DISKS_MAX; i++)
		lb_wr_u64le(wr, c->disk_bytes[i]);
	lb_wr_hash(wr, &c->base);
}

static void put_event(struct lb_wr *wr, const struct vm_ctl_event *e)
{
	lb_wr_u8(wr, (uint8_t)(e->type + 1));
	lb_wr_u32le(wr, (uint32_t)e->code);
	lb_wr_u64le(wr, e->rip);
	lb_wr_str16(wr, e->text);
}

static void put_pixels(struct lb_wr *wr, const struct vm_ctl_msg *m)
{
	lb_wr_u32le(wr, m->width);
	lb_wr_u32le(wr, m->height);
	lb_wr_bytes(wr, m->palette, sizeof(m->palette));
}

static void put_body(struct lb_wr *wr, enum body body, const struct vm_ctl_msg *m)
{
	switch (body) {
	case BODY_NONE:
		break;
	case BODY_NUMBERED:
	case BODY_NUMBER:
		lb_wr_u64le(wr, m->n);
		break;
	case BODY_TWO:
		lb_wr_u64le(wr, m->n);
		lb_wr_u64le(wr, m->off);
		break;
	case BODY_BASED:
		lb_wr_u64le(wr, m->n);
		lb_wr_hash(wr, &m->base);
		break;
	case BODY_HELLO:
		lb_wr_u16le(wr, m->version);
		break;
	case BODY_BYTES:
		break;
	case BODY_READ:
		lb_wr_u32le(wr, m->disk);
		lb_wr_u64le(wr, m->off);
		lb_wr_u32le(wr, m->len);
		break;
	case BODY_DISK:
		lb_wr_u32le(wr, m->disk);
		break;
	case BODY_ERROR:
		lb_wr_str16(wr, lb_err_name(m->err.code));
		lb_wr_u32le(wr, (uint32_t)m->err.sys_errno);
		lb_wr_str16(wr, m->err.msg);
		break;
	case BODY_INFO:
		put_info(wr, &m->info);
		break;
	case BODY_STATS:
		put_stats(wr, &m->stats);
		break;
	case BODY_PIXELS:
		put_pixels(wr, m);
		break;
	case BODY_CUT:
		put_cut(wr, &m->cut);
		break;
	case BODY_EVENT:
		put_event(wr, &m->event);
		break;
	}
	if (body == BODY_BYTES || body == BODY_NUMBERED)
		lb_wr_bytes(wr, m->bytes, m->len);
}

int vm_ctl_encode(uint8_t *out, size_t *len, const struct vm_ctl_msg *m, struct lb_err *err)
{
	const struct row *r = row_of((uint32_t)m->type);
	struct lb_wr wr = lb_wr_init(out, VM_CTL_FRAME_MAX);
	bool bytes = r != NULL && (r->body == BODY_BYTES || r->body == BODY_NUMBERED);

	if (r == NULL || m->fds < r->fds_min || m->fds > r->fds_max ||
	    (bytes && m->len > VM_CTL_DATA_MAX))
		return lb_err_set(err, LB_EINVAL, 0, "frame of type %d with %u descriptors",
				  (int)m->type, m->fds);
	lb_wr_u32le(&wr, MAGIC);
	lb_wr_u16le(&wr, (uint16_t)m->type);
	lb_wr_u8(&wr, LAYOUT);
	lb_wr_u8(&wr, (uint8_t)m->fds);
	lb_wr_u32le(&wr, m->tag);
	lb_wr_u32le(&wr, 0);
	put_body(&wr, r->body, m);
	if (!lb_wr_done(&wr))
		return lb_err_set(err, LB_EINVAL, 0, "frame %s does not fit", r->name);
	*len = wr.len;
	return 0;
}

/* ---- decode ---- */

static bool get_flag(struct lb_rd *rd)
{
	uint8_t v = lb_rd_u8(rd);

	rd->bad = rd->bad || v > FLAG_MAX;
	return v == 1;
}

static void get_info(struct lb_rd *rd, struct vm_ctl_info *i)
{
	uint8_t state;

	i->version = lb_rd_u16le(rd);
	lb_rd_str16(rd, i->name, sizeof(i->name));
	i->uuid = lb_rd_id(rd);
	i->pid = lb_rd_u32le(rd);
	state = lb_rd_u8(rd);
	rd->bad = rd->bad || state < 1 || state > VM_CRASHED + 1;
	i->state = rd->bad ? VM_CREATED : (enum vm_state)(state - 1);
	i->restored = get_flag(rd);
	i->jail = lb_rd_u32le(rd);
	i->ram_bytes = lb_rd_u64le(rd);
	i->vcpus = lb_rd_u32le(rd);
	i->disks = lb_rd_u32le(rd);
	i->nics = lb_rd_u32le(rd);
	rd->bad = rd->bad || i->disks > VM_DISKS_MAX || i->nics > VM_NICS_MAX ||
		  i->vcpus > VM_VCPUS_MAX;
	i->started_boot_ns = lb_rd_u64le(rd);
	lb_rd_str16(rd, i->last, sizeof(i->last));
}

static void get_stats(struct lb_rd *rd, struct vm_stats *s)
{
	uint64_t *const n[] = {&s->exits,
			       &s->pio,
			       &s->mmio,
			       &s->irqs,
			       &s->cuts,
			       &s->pause_last_ns,
			       &s->pause_max_ns,
			       &s->dirty_last_pages,
			       &s->lazy_left_pages,
			       &s->held_bytes};

	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++)
		*n[i] = lb_rd_u64le(rd);
}

static void get_cut(struct lb_rd *rd, struct vm_ctl_cut *c)
{
	c->seq = lb_rd_u64le(rd);
	c->boot_ns = lb_rd_u64le(rd);
	c->wall_ns = lb_rd_u64le(rd);
	c->state_bytes = lb_rd_u64le(rd);
	c->ram_bytes = lb_rd_u64le(rd);
	c->changed_pages = lb_rd_u64le(rd);
	c->all_changed = get_flag(rd);
	c->disks = lb_rd_u32le(rd);
	rd->bad = rd->bad || c->disks > VM_DISKS_MAX;
	for (uint32_t i = 0; !rd->bad && i < c->disks; i++)
		c->disk_bytes[i] = lb_rd_u64le(rd);
	c->base = lb_rd_hash(rd);
}

static void get_event(struct lb_rd *rd, struct vm_ctl_event *e)
{
	uint8_t type = lb_rd_u8(rd);

	rd->bad = rd->bad || type < 1 || type > VM_EVENT_DISK + 1;
	e->type = rd->bad ? VM_EVENT_SERIAL : (enum vm_event_type)(type - 1);
	e->code = (int32_t)lb_rd_u32le(rd);
	e->rip = lb_rd_u64le(rd);
	lb_rd_str16(rd, e->text, sizeof(e->text));
}

/* By name: a code that this build does not know still is an error. */
static void get_error(struct lb_rd *rd, struct lb_err *e)
{
	char name[24];

	lb_rd_str16(rd, name, sizeof(name));
	e->sys_errno = (int)lb_rd_u32le(rd);
	lb_rd_str16(rd, e->msg, sizeof(e->msg));
	e->code = LB_EIO;
	for (int code = -1; code > -LB_CODE_COUNT; code--)
		if (strcmp(lb_err_name(code), name) == 0)
			e->code = code;
}

static void get_bytes(struct lb_rd *rd, struct vm_ctl_msg *m)
{
	rd->bad = rd->bad || rd->left > VM_CTL_DATA_MAX;
	m->len = (uint32_t)rd->left;
	m->bytes = lb_rd_bytes(rd, rd->left);
}

static void get_pixels(struct lb_rd *rd, struct vm_ctl_msg *m)
{
	m->width = lb_rd_u32le(rd);
	m->height = lb_rd_u32le(rd);
	lb_rd_copy(rd, m->palette, sizeof(m->palette));
	rd->bad = rd->bad || m->width == 0 || m->height == 0 || m->width > 4096 || m->height > 4096;
}

static void get_read(struct lb_rd *rd, struct vm_ctl_msg *m)
{
	m->disk = lb_rd_u32le(rd);
	m->off = lb_rd_u64le(rd);
	m->len = lb_rd_u32le(rd);
	rd->bad = rd->bad || m->disk >= VM_DISKS_MAX || m->len == 0 || m->len > VM_CTL_DATA_MAX;
}

static void get_body(struct lb_rd *rd, enum body body, struct vm_ctl_msg *m)
{
	switch (body) {
	case BODY_NONE:
		break;
	case BODY_NUMBERED:
	case BODY_NUMBER:
		m->n = lb_rd_u64le(rd);
		break;
	case BODY_TWO:
		m->n = lb_rd_u64le(rd);
		m->off = lb_rd_u64le(rd);
		break;
	case BODY_BASED:
		m->n = lb_rd_u64le(rd);
		m->base = lb_rd_hash(rd);
		break;
	case BODY_HELLO:
		m->version = lb_rd_u16le(rd);
		break;
	case BODY_BYTES:
		break;
	case BODY_READ:
		get_read(rd, m);
		break;
	case BODY_DISK:
		m->disk = lb_rd_u32le(rd);
		rd->bad = rd->bad || m->disk >= VM_DISKS_MAX;
		break;
	case BODY_ERROR:
		get_error(rd, &m->err);
		break;
	case BODY_INFO:
		get_info(rd, &m->info);
		break;
	case BODY_STATS:
		get_stats(rd, &m->stats);
		break;
	case BODY_PIXELS:
		get_pixels(rd, m);
		break;
	case BODY_CUT:
		get_cut(rd, &m->cut);
		break;
	case BODY_EVENT:
		get_event(rd, &m->event);
		break;
	}
	if (body == BODY_BYTES || body == BODY_NUMBERED)
		get_bytes(rd, m);
}

int vm_ctl_decode(struct vm_ctl_msg *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint32_t magic = lb_rd_u32le(&rd), zero;
	uint16_t type = lb_rd_u16le(&rd);
	uint8_t layout = lb_rd_u8(&rd);
	const struct row *r = row_of(type);

	memset(out, 0, sizeof(*out));
	out->fds = lb_rd_u8(&rd);
	out->tag = lb_rd_u32le(&rd);
	zero = lb_rd_u32le(&rd);
	if (rd.bad || magic != MAGIC || zero != 0)
		return lb_err_set(err, LB_EPROTO, 0, "%zu bytes that are no frame of ours", len);
	if (layout != LAYOUT || r == NULL)
		return lb_err_set(err, LB_EVERSION, 0, "frame of type %u, layout %u", type, layout);
	out->type = r->type;
	if (out->fds < r->fds_min || out->fds > r->fds_max)
		return lb_err_set(err, LB_EPROTO, 0, "frame %s with %u descriptors", r->name,
				  out->fds);
	get_body(&rd, r->body, out);
	if (!lb_rd_done(&rd))
		return lb_err_set(err, LB_EPROTO, 0, "frame %s of %zu bytes is malformed", r->name,
				  len);
	return 0;
}
