#include "state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rd.h"
#include "mem.h"

#define MAGIC         "LBVMST01"
#define MAGIC_BYTES   8u
#define VERSION       1u
#define HEADER_BYTES  24u /* magic, version u16, 0 u16, sections u32, bytes u64 */
#define SECTION_BYTES 16u /* type u32, instance u32, length u32, crc u32 */
#define MACHINE_PC1   1u

/* ---- writing ---- */

void vm_state_begin(struct vm_state_wr *w, uint8_t *p, size_t cap)
{
	*w = (struct vm_state_wr){.wr = lb_wr_init(p, cap)};
	lb_wr_zeros(&w->wr, HEADER_BYTES);
}

struct lb_wr *vm_state_open(struct vm_state_wr *w, uint32_t type, uint32_t instance)
{
	w->at = w->wr.len;
	lb_wr_u32le(&w->wr, type);
	lb_wr_u32le(&w->wr, instance);
	lb_wr_zeros(&w->wr, 8);
	return &w->wr;
}

/* Over the section's type, instance and length, and its bytes. */
static uint32_t section_crc(const uint8_t *header, const uint8_t *body, size_t len)
{
	return lb_crc32c(lb_crc32c(0, header, 12), body, len);
}

void vm_state_close(struct vm_state_wr *w)
{
	size_t body = w->at + SECTION_BYTES;
	struct lb_wr fix;

	if (w->wr.bad)
		return;
	fix = lb_wr_init(w->wr.p + w->at + 8, 8);
	lb_wr_u32le(&fix, (uint32_t)(w->wr.len - body));
	lb_wr_u32le(&fix, section_crc(w->wr.p + w->at, w->wr.p + body, w->wr.len - body));
	w->sections++;
}

size_t vm_state_end(struct vm_state_wr *w)
{
	struct lb_wr head;

	if (!lb_wr_done(&w->wr))
		return 0;
	head = lb_wr_init(w->wr.p, HEADER_BYTES);
	lb_wr_bytes(&head, MAGIC, MAGIC_BYTES);
	lb_wr_u16le(&head, VERSION);
	lb_wr_u16le(&head, 0);
	lb_wr_u32le(&head, w->sections);
	lb_wr_u64le(&head, w->wr.len);
	return w->wr.len;
}

void vm_state_put_machine(struct lb_wr *wr, const struct vm_state_machine *m)
{
	const struct vm_state_info *i = &m->info;

	lb_wr_u16le(wr, MACHINE_PC1);
	lb_wr_u16le(wr, (uint16_t)i->vcpus);
	lb_wr_u64le(wr, i->ram_bytes);
	lb_wr_id(wr, &i->uuid);
	lb_wr_u64le(wr, i->wall_ns);
	lb_wr_u64le(wr, m->boot_ns);
	lb_wr_u64le(wr, m->seq);
	lb_wr_u16le(wr, (uint16_t)i->disks);
	lb_wr_u16le(wr, (uint16_t)i->nics);
	for (size_t d = 0; d < i->disks; d++) {
		lb_wr_u16le(wr, i->bus[d] == VM_DISK_IDE ? 0 : 1);
		lb_wr_u64le(wr, i->disk_bytes[d]);
		lb_wr_str16(wr, m->serial[d]);
	}
	for (size_t n = 0; n < i->nics; n++)
		lb_wr_bytes(wr, i->mac[n], sizeof(i->mac[n]));
}

void vm_state_put_host(struct lb_wr *wr, const struct vm_state_host *h)
{
	lb_wr_u32le(wr, h->tsc_khz);
	lb_wr_str16(wr, h->cpu_model);
}

/* ---- reading ---- */

static int bad(struct lb_err *err, const char *what, uint64_t value)
{
	return lb_err_set(err, LB_ECORRUPT, 0, "machine state: %s (%" PRIu64 ")", what, value);
}

static bool ram_size_good(uint64_t bytes)
{
	return bytes >= VM_RAM_MIN_BYTES && bytes <= VM_RAM_MAX_BYTES &&
	       bytes % VM_RAM_MIN_BYTES == 0;
}

static int get_machine(struct vm_state_machine *m, struct lb_rd *rd, struct lb_err *err)
{
	struct vm_state_info *i = &m->info;
	uint16_t type = lb_rd_u16le(rd);

	i->vcpus = lb_rd_u16le(rd);
	i->ram_bytes = lb_rd_u64le(rd);
	i->uuid = lb_rd_id(rd);
	i->wall_ns = lb_rd_u64le(rd);
	m->boot_ns = lb_rd_u64le(rd);
	m->seq = lb_rd_u64le(rd);
	i->disks = lb_rd_u16le(rd);
	i->nics = lb_rd_u16le(rd);
	if (rd->bad)
		return bad(err, "machine section is cut short", 0);
	if (type != MACHINE_PC1)
		return lb_err_set(err, LB_EVERSION, 0, "machine state of machine type %u, known: 1",
				  type);
	if (i->vcpus < 1 || i->vcpus > VM_VCPUS_MAX)
		return bad(err, "number of processors", i->vcpus);
	if (!ram_size_good(i->ram_bytes))
		return bad(err, "RAM size", i->ram_bytes);
	if (i->disks > VM_DISKS_MAX || i->nics > VM_NICS_MAX)
		return bad(err, "number of disks or network cards", i->disks + i->nics);
	for (size_t d = 0; d < i->disks; d++) {
		uint16_t bus = lb_rd_u16le(rd);

		if (bus > 1)
			return bad(err, "bus of a disk", bus);
		i->bus[d] = bus == 0 ? VM_DISK_IDE : VM_DISK_VIRTIO;
		i->disk_bytes[d] = lb_rd_u64le(rd);
		lb_rd_str16(rd, m->serial[d], sizeof(m->serial[d]));
	}
	for (size_t n = 0; n < i->nics; n++)
		lb_rd_copy(rd, i->mac[n], sizeof(i->mac[n]));
	return lb_rd_done(rd) ? 0 : bad(err, "length of the machine section", rd->left);
}

static int get_host(struct vm_state_host *h, struct lb_rd *rd, struct lb_err *err)
{
	h->tsc_khz = lb_rd_u32le(rd);
	lb_rd_str16(rd, h->cpu_model, sizeof(h->cpu_model));
	return lb_rd_done(rd) ? 0 : bad(err, "length of the host section", rd->left);
}

struct section {
	uint32_t type, instance;
	const uint8_t *p;
	uint32_t len;
};

static int get_section(struct section *s, struct lb_rd *rd, struct lb_err *err)
{
	const uint8_t *header = rd->p;
	uint32_t crc;

	s->type = lb_rd_u32le(rd);
	s->instance = lb_rd_u32le(rd);
	s->len = lb_rd_u32le(rd);
	crc = lb_rd_u32le(rd);
	s->p = lb_rd_bytes(rd, s->len);
	if (s->p == NULL || rd->bad)
		return bad(err, "a section is cut short, of type", s->type);
	if (section_crc(header, s->p, s->len) != crc)
		return bad(err, "checksum of a section, of type", s->type);
	return 0;
}

static int take_section(struct vm_state_view *v, uint32_t *order, const struct section *s,
			struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(s->p, s->len);
	struct vm_state_bytes bytes = {.p = s->p, .len = s->len};
	/* Rank in the file: MACHINE 1, CPU 2, HOST 3, VCPU 4 + n, CHIPS and BOARD after all. */
	uint32_t rank = s->type < VM_STATE_CHIPS ? s->type + s->instance : s->type + VM_VCPUS_MAX;

	if (s->type >= VM_STATE_OPTIONAL)
		return 0;
	if (s->type > VM_STATE_BOARD || s->type == 0)
		return lb_err_set(err, LB_EVERSION, 0,
				  "machine state has a section of unknown type %" PRIu32, s->type);
	if (s->instance != 0 && (s->type != VM_STATE_VCPU || s->instance >= VM_VCPUS_MAX))
		return bad(err, "instance of a section", s->instance);
	if (rank <= *order || (s->type == VM_STATE_VCPU && s->instance > 0 && rank != *order + 1))
		return bad(err, "order of sections, at type", s->type);
	*order = rank;
	switch ((enum vm_state_section)s->type) {
	case VM_STATE_MACHINE:
		return get_machine(&v->machine, &rd, err);
	case VM_STATE_CPU:
		return vm_cpu_decode(&v->machine.info.cpu, s->p, s->len, err);
	case VM_STATE_HOST:
		return get_host(&v->host, &rd, err);
	case VM_STATE_VCPU:
		v->vcpu[s->instance] = bytes;
		break;
	case VM_STATE_CHIPS:
		v->chips = bytes;
		break;
	case VM_STATE_BOARD:
		v->board = bytes;
		break;
	case VM_STATE_OPTIONAL:
		break;
	}
	return 0;
}

static int check_whole(const struct vm_state_view *v, struct lb_err *err)
{
	unsigned vcpus = v->machine.info.vcpus;

	if (vcpus == 0 || v->machine.info.cpu.count == 0)
		return bad(err, "no machine or no CPU template", vcpus);
	for (unsigned i = 0; i < VM_VCPUS_MAX; i++)
		if ((v->vcpu[i].p != NULL) != (i < vcpus))
			return bad(err, "processors do not fit their number", vcpus);
	if (v->chips.p == NULL || v->board.p == NULL)
		return bad(err, "chips or devices are missing", 0);
	return 0;
}

static int parse(struct vm_state_view *v, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	const uint8_t *magic = lb_rd_bytes(&rd, MAGIC_BYTES);
	uint16_t version = lb_rd_u16le(&rd), zero = lb_rd_u16le(&rd);
	uint32_t sections = lb_rd_u32le(&rd), order = 0;
	uint64_t bytes = lb_rd_u64le(&rd);
	int rc = 0;

	if (rd.bad || memcmp(magic, MAGIC, MAGIC_BYTES) != 0)
		return bad(err, "no magic, length", len);
	if (version != VERSION)
		return lb_err_set(err, LB_EVERSION, 0, "machine state of version %u, known: %u",
				  version, VERSION);
	if (zero != 0 || bytes != len || len > VM_STATE_MAX_BYTES)
		return bad(err, "length", bytes);
	if (sections > VM_STATE_SECTIONS_MAX)
		return bad(err, "number of sections", sections);
	for (uint32_t i = 0; rc == 0 && i < sections; i++) {
		struct section s;

		rc = get_section(&s, &rd, err);
		if (rc == 0)
			rc = take_section(v, &order, &s, err);
	}
	if (rc == 0 && rd.left != 0)
		return bad(err, "bytes after the last section", rd.left);
	return rc != 0 ? rc : check_whole(v, err);
}

int vm_state_parse(struct vm_state_view *out, const void *p, size_t len, struct lb_err *err)
{
	struct vm_state_view v = {0};
	int rc = parse(&v, p, len, err);

	if (rc == 0)
		*out = v;
	return rc;
}

int vm_state_peek(struct vm_state_info *out, const void *state, size_t len, struct lb_err *err)
{
	struct vm_state_view v;
	int rc = vm_state_parse(&v, state, len, err);

	if (rc == 0)
		*out = v.machine.info;
	return rc;
}
