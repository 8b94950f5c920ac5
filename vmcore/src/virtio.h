/*
 * vmcore/src/virtio.h - the virtio functions of pc1, as the machine's assembly (pc1.c) makes them.
 *
 *   guest driver ─ rings in memory ─► virtq.c ─► virtio_blk.c, _net.c, _rng.c, _console.c
 *        └ registers: virtio_pci.c (legacy I/O BAR, modern memory BAR, INTx or MSI-X)
 *
 * All are transitional: the same function is driven by SeaBIOS, GRUB, iPXE and old Linux through
 * the legacy layout, and by new drivers through VIRTIO 1.x. [OASIS VIRTIO 1.2: 2.7 split
 * virtqueues, 4.1 PCI, 5.1 network, 5.2 block, 5.3 console, 5.4 entropy; a legacy interface is
 * described at the end of each.]
 *
 * Every create registers the device on @b at the next free slot of @pci, and the board destroys it.
 * What it borrows must outlive the board. Thread: before the machine runs.
 */
#ifndef VMCORE_VIRTIO_H
#define VMCORE_VIRTIO_H

#include <stddef.h>
#include <stdint.h>

struct img_dev;
struct lb_err;
struct vm_blk;
struct vm_board;
struct vm_net;
struct vm_pci;
struct vm_virtio_console;

struct vm_virtio_blk_cfg {
	struct img_dev *dev; /* borrowed; read-only when it is; a multiple of 512 bytes */
	const char *serial;  /* at most 20 characters are told; NULL: none */
	unsigned threads;    /* that serve it; 0: 4 */
};
/* *@blk (may be NULL) is for vm_blk_drain(); it lives as long as the board. Errors: LB_EINPUT
 * (size), LB_ENOMEM (also: no slot). */
int vm_virtio_blk_create(struct vm_board *b, struct vm_pci *pci,
			 const struct vm_virtio_blk_cfg *cfg, struct vm_blk **blk,
			 struct lb_err *err);

int vm_virtio_net_create(struct vm_board *b, struct vm_pci *pci, const uint8_t mac[6],
			 struct vm_net *net, struct lb_err *err);

int vm_virtio_rng_create(struct vm_board *b, struct vm_pci *pci, struct lb_err *err);

/* Port 0 is a console nobody reads; port 1 is named org.lifeboat.heartbeat and its bytes come as
 * VM_EVENT_PORT. */
int vm_virtio_console_create(struct vm_virtio_console **out, struct vm_board *b, struct vm_pci *pci,
			     struct lb_err *err);
/* Bytes to the guest on port 1; returns how many fitted (a bounded queue before the guest's own
 * buffers). Takes the board's lock. */
size_t vm_virtio_console_input(struct vm_virtio_console *c, const void *p, size_t len);

#endif
