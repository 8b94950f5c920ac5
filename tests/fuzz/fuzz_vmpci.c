/*
 * A guest that writes anything into configuration space and moves BARs over everything: accesses
 * stay inside the ranges, interrupt lines follow, what was saved loads again and saves the same.
 * Operations of six bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "pci.h"
#include "test_board.h"

#define OPS_MAX 300u
#define PROBES  3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct probe {
	struct vm_pci_dev pci;
	uint8_t bytes[4096];
};

static uint64_t probe_read(void *arg, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, ((struct probe *)arg)->bytes + off, size);
	return v;
}

static void probe_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	memcpy(((struct probe *)arg)->bytes + off, &value, size);
}

static void probe_reset(struct vm_dev *d)
{
	vm_pci_reset((struct vm_pci_dev *)d);
}

static void probe_save(struct vm_dev *d, struct lb_wr *wr)
{
	vm_pci_save((struct vm_pci_dev *)d, wr);
}

static int probe_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	(void)version;
	return vm_pci_load((struct vm_pci_dev *)d, rd, err);
}

static void probe_destroy(struct vm_dev *d)
{
	free(d);
}

static struct vm_pci_dev *add_probe(struct vm_pci *pci, unsigned n)
{
	static const struct vm_dev_ops ops = {.name = "probe",
					      .version = 1,
					      .reset = probe_reset,
					      .save = probe_save,
					      .load = probe_load,
					      .destroy = probe_destroy};
	static const struct vm_io_ops io = {probe_read, probe_write};
	static const struct vm_pci_id id = {.vendor = 0x1af4, .device = 0x1000, .intx_pin = true};
	struct probe *p = calloc(1, sizeof(*p));

	LB_ASSERT(p != NULL);
	p->pci.bar[n] = (struct vm_pci_bar){.size_bytes = 64, .io = true, .ops = &io, .arg = p};
	p->pci.bar[n + 1] = (struct vm_pci_bar){.size_bytes = 4096, .ops = &io, .arg = p};
	LB_ASSERT(vm_pci_add(pci, &p->pci, &ops, (uint8_t)(3 + n), 0, &id, NULL) == 0);
	(void)vm_pci_add_capability(&p->pci, 0x11, 12);
	return &p->pci;
}

static void hop(struct test_board *t, unsigned at, uint8_t flip)
{
	static uint8_t state[VM_SECTION_MAX], again[VM_SECTION_MAX];
	struct lb_wr wr = lb_wr_init(state, sizeof(state));
	struct lb_wr wr2 = lb_wr_init(again, sizeof(again));
	struct lb_rd rd;
	int rc;

	LB_ASSERT(vm_board_save(&t->board, &wr));
	state[at % wr.len] ^= flip;
	rd = lb_rd_init(state, wr.len);
	rc = vm_board_load(&t->board, &rd, NULL);
	LB_ASSERT(rc == 0 || flip != 0);
	LB_ASSERT(vm_board_save(&t->board, &wr2));
	LB_ASSERT(flip != 0 || (wr.len == wr2.len && memcmp(state, again, wr.len) == 0));
}

static void step(struct test_board *t, struct vm_pci_dev *const probe[PROBES], const uint8_t op[6])
{
	uint32_t v = (uint32_t)op[2] | (uint32_t)op[3] << 8 | (uint32_t)op[4] << 16 |
		     (uint32_t)op[5] << 24;
	unsigned slot = op[1] & 7, size = 1u << (op[0] >> 4) % 3;

	switch (op[0] & 7) {
	case 0: /* select and write: the register is the next operation's business too */
		vm_board_pio_write(&t->board, 0xcf8, 4, 0x80000000u | slot << 11 | (v & 0x7fc));
		break;
	case 1:
		vm_board_pio_write(&t->board, (uint16_t)(0xcfc + op[1] % 4), size, v);
		break;
	case 2:
		(void)vm_board_pio_read(&t->board, (uint16_t)v, size);
		(void)vm_board_mmio_read(&t->board, v, op[1] & 1 ? 8 : size);
		break;
	case 3:
		vm_board_pio_write(&t->board, (uint16_t)v, size, v);
		vm_board_mmio_write(&t->board, v, size, v);
		break;
	case 4: /* a BAR of a probe, decoding on */
		slot = op[1] % PROBES;
		vm_board_pio_write(&t->board, 0xcf8, 4,
				   0x80000000u | (3 + slot) << 11 | (0x10 + (op[1] >> 4) % 6 * 4u));
		vm_board_pio_write(&t->board, 0xcfc, 4, v);
		vm_board_pio_write(&t->board, 0xcf8, 4, 0x80000000u | (3 + slot) << 11 | 4);
		vm_board_pio_write(&t->board, 0xcfc, 2, op[0] >> 4);
		break;
	case 5:
		vm_pci_intx(probe[op[1] % PROBES], (op[2] & 1) != 0);
		break;
	case 6:
		vm_board_pio_write(&t->board, 0xcf8, 4, 0x80000860u);
		vm_board_pio_write(&t->board, 0xcfc, 4, v);
		break;
	default:
		hop(t, v, op[1]);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct test_board t;
	struct vm_pci_dev *probe[PROBES];
	struct vm_pci *pci = NULL;

	if (size < 6 || size > 6 * OPS_MAX)
		return 0;
	test_board_init(&t, VM_RAM_MIN_BYTES);
	LB_ASSERT(vm_pci_create(&pci, &t.board, NULL) == 0);
	for (unsigned n = 0; n < PROBES; n++)
		probe[n] = add_probe(pci, n);
	vm_board_reset(&t.board);
	for (size_t i = 0; i + 6 <= size; i += 6)
		step(&t, probe, data + i);
	/* a line is up when a function drives it there, and only then */
	for (unsigned irq = 0; irq < 16; irq++) {
		bool want = false;

		for (unsigned n = 0; n < PROBES; n++)
			want |= probe[n]->intx && vm_pci_irq(pci, probe[n]->slot) == irq &&
				(probe[n]->config[5] & 4) == 0;
		LB_ASSERT(t.line[irq] == want);
	}
	test_board_fini(&t);
	return 0;
}
