/*
 * tests/lib/vdriver.h - a guest's virtio driver as a script: finds the function on the PCI bus,
 * negotiates through the legacy or the modern layout, lays out rings in guest memory, and gives and
 * takes buffers. Asserts what no device may get wrong; rings are written by hand where a test wants
 * them bad.
 */
#ifndef TESTS_VDRIVER_H
#define TESTS_VDRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "pci.h"

enum {
	VD_QUEUES = 8
};

struct vd_buf {
	uint64_t gpa;
	uint32_t len;
	bool write; /* the device writes it */
};

struct vd_queue {
	uint16_t size;
	uint64_t desc, avail, used;
	uint16_t avail_idx, used_idx, next_desc;
};

struct vdriver {
	struct vm_board *b;
	uint8_t slot;
	bool modern, msix;
	uint16_t io;                                /* BAR 0 */
	uint32_t table, mem;                        /* BAR 1, BAR 4 */
	uint32_t common, isr, device, notify, step; /* modern: addresses */
	uint64_t features;                          /* negotiated */
	unsigned queues;
	struct vd_queue q[VD_QUEUES];
	uint64_t heap; /* next free guest address */
};

uint32_t vd_config_read(struct vdriver *d, unsigned off, unsigned size);
void vd_config_write(struct vdriver *d, unsigned off, unsigned size, uint32_t v);
/* Find the capability of @id, virtio ones of @type (else 0); 0: there is none. */
unsigned vd_capability(struct vdriver *d, uint8_t id, uint8_t type);

/* Put BARs in place, reset, negotiate @features (of those offered; ring features too), set up
 * @queues queues, go to DRIVER_OK. Guest memory from @heap on is the driver's. */
void vd_start(struct vdriver *d, struct vm_board *b, uint8_t slot, bool modern, bool msix,
	      uint64_t features, unsigned queues);
/* The same device again, after a reset. */
void vd_restart(struct vdriver *d, uint64_t features, unsigned queues);
void vd_set_status(struct vdriver *d, uint8_t status);
uint8_t vd_status(struct vdriver *d);
uint8_t vd_isr(struct vdriver *d);
uint64_t vd_device_read(struct vdriver *d, unsigned off, unsigned size);

uint64_t vd_alloc(struct vdriver *d, uint64_t bytes); /* guest memory, 4096-aligned */
void *vd_ptr(struct vdriver *d, uint64_t gpa);
void vd_write_desc(struct vdriver *d, uint64_t table, unsigned index, struct vd_buf b,
		   uint16_t flags, uint16_t next);
/* Chain @n buffers and make them available; returns the head. Descriptors are used round robin. */
uint16_t vd_add(struct vdriver *d, unsigned queue, const struct vd_buf *bufs, unsigned n);
/* The same as one indirect table. */
uint16_t vd_add_indirect(struct vdriver *d, unsigned queue, const struct vd_buf *bufs, unsigned n);
/* Any head, right or wrong. */
void vd_offer(struct vdriver *d, unsigned queue, uint16_t head);
void vd_kick(struct vdriver *d, unsigned queue);
/* Take the next used entry. False: there is none. */
bool vd_used(struct vdriver *d, unsigned queue, uint32_t *id, uint32_t *len);

#endif
