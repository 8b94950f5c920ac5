/*
 * vmcore/src/virtio_pci.h - a virtio device as a transitional PCI function. [VIRTIO 1.2, 4.1]
 *
 *   BAR 0  ports   legacy registers, then the device's configuration [4.1.4.10]
 *   BAR 1  memory  MSI-X table (0) and pending bits (0x800)
 *   BAR 4  memory  modern: common 0x0000, ISR 0x1000, device 0x2000, notify 0x3000 (4 a queue)
 *
 * Status as the driver moves it [3.1.1]:
 *
 *   0 ─► ACKNOWLEDGE ─► DRIVER ─► (modern: FEATURES_OK, refused unless the set is ours) ─►
 * DRIVER_OK ▲                                                     │ a queue broke: NEEDS_RESET is
 * added, └───────────────── 0 is written: reset ───────────────┘ nothing moves on that queue
 *
 * A device type fills a struct vm_virtio, which begins its object, and hands it to
 * vm_virtio_add(). Its struct vm_dev_ops uses the vm_virtio_dev_*() functions below; its own part
 * is behind struct vm_virtio_ops. Thread: lock held, but for destroy.
 */
#ifndef VMCORE_VIRTIO_PCI_H
#define VMCORE_VIRTIO_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "pci.h"
#include "virtq.h"

struct vm_virtio;

enum vm_virtio_type {
	VM_VIRTIO_NET = 1,
	VM_VIRTIO_BLK = 2,
	VM_VIRTIO_CONSOLE = 3,
	VM_VIRTIO_RNG = 4,
};

enum {
	VM_VIRTIO_QUEUES_MAX = 8,
	VM_VIRTIO_VECTORS_MAX = VM_VIRTIO_QUEUES_MAX + 1, /* one for configuration changes */
	VM_VIRTIO_CONFIG_MAX = 64
};

#define VM_VIRTIO_F_ANY_LAYOUT    (UINT64_C(1) << 27)
#define VM_VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VM_VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VM_VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

struct vm_virtio_ops {
	/* There may be chains on @queue: the driver said so, or the machine goes on. */
	void (*notify)(struct vm_virtio *v, unsigned queue);
	/* Let go of all chains; may release the lock while it waits. Then the queues are reset. */
	void (*reset)(struct vm_virtio *v);
	/* The device's own part of the section, after the transport's. May be NULL, all three. */
	void (*save)(struct vm_virtio *v, struct lb_wr *wr);
	int (*load)(struct vm_virtio *v, struct lb_rd *rd, struct lb_err *err);
	void (*resume)(struct vm_virtio *v); /* before the queues are looked at */
	/* Stop threads and free what the object owns and the object itself. Lock not held. */
	void (*destroy)(struct vm_virtio *v);
};

struct vm_msix_entry {
	uint32_t addr_lo, addr_hi, data, control; /* control bit 0: masked */
};

struct vm_virtio {
	struct vm_pci_dev pci; /* first */

	/* filled by the device type before vm_virtio_add() */
	const struct vm_virtio_ops *ops;
	enum vm_virtio_type type;
	uint64_t features; /* offered, without the transport's and the ring's */
	unsigned queue_count;
	struct vm_virtq queue[VM_VIRTIO_QUEUES_MAX]; /* .size_max */
	uint8_t config[VM_VIRTIO_CONFIG_MAX];        /* the driver reads it; never writes */
	uint8_t config_bytes;

	/* the transport's */
	uint64_t driver_features;
	uint32_t feature_select, driver_feature_select;
	uint16_t queue_select, config_vector;
	uint8_t status, isr, generation;
	bool resetting; /* a reset waits: registers and notifications do nothing */
	struct vm_msix_entry msix[VM_VIRTIO_VECTORS_MAX];
	uint32_t msix_pending; /* a bit a vector */
	uint8_t msix_cap;      /* offset in configuration space */
	uint8_t window_cap;    /* of VIRTIO_PCI_CAP_PCI_CFG */
};

/* Make @v a function at the next free slot; @dev_ops is registered. The board owns @v on success.
 * Errors: LB_ENOMEM (no slot). */
int vm_virtio_add(struct vm_virtio *v, struct vm_board *b, struct vm_pci *pci,
		  const struct vm_dev_ops *dev_ops, struct lb_err *err);

/* For struct vm_dev_ops. */
void vm_virtio_dev_reset(struct vm_dev *d);
void vm_virtio_dev_save(struct vm_dev *d, struct lb_wr *wr);
int vm_virtio_dev_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err);
void vm_virtio_dev_resume(struct vm_dev *d);
void vm_virtio_dev_destroy(struct vm_dev *d);

/* May the device use its queues? (Legacy drivers use them before DRIVER_OK.) */
bool vm_virtio_is_live(const struct vm_virtio *v);
bool vm_virtio_has(const struct vm_virtio *v, uint64_t feature); /* negotiated */
/* Entries were published on @queue: interrupt, if the driver wants one. Also tells the driver when
 * the queue broke. */
void vm_virtio_used(struct vm_virtio *v, unsigned queue);
/* One chain is done. */
void vm_virtio_complete(struct vm_virtio *v, unsigned queue, uint16_t head, uint32_t written);
/* The driver does what no correct driver does; the queue is broken. */
void vm_virtio_break(struct vm_virtio *v, unsigned queue);

#endif
