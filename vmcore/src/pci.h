/*
 * vmcore/src/pci.h - PCI bus 0 of pc1: configuration mechanism #1, BARs, INTx routing, functions.
 *
 *   00.0  8086:1237 i440FX host bridge (PAM registers; subsystem 1af4:1100, else SeaBIOS ignores
 * fw_cfg) 01.0  8086:7000 PIIX3 ISA bridge (PIRQ A-D routing at 0x60..0x63; presets 10, 11, 10, 11)
 *   01.1  8086:7010 PIIX3 IDE (BAR 4: bus master)
 *   02.0  reserved (a VGA function, should text mode ever need one)
 *   03.0 ...  virtio functions in the order of the configuration
 *
 * Slot numbers, ids and the PIRQ presets are part of pc1 and frozen. INTA# of slot s goes to PIRQ
 * (s + pin - 1) mod 4 [PC convention as in QEMU's i440fx: pirq = (slot + pin) & 3 with pin from 0,
 * minus 1]; the PIRQ register names the ISA line, which is also the IOAPIC pin; level, active high.
 *
 * A function describes itself by a filled struct vm_pci_dev and gets its BAR accesses through
 * vm_io_ops, whatever address the guest put the BAR at. Thread: lock held.
 */
#ifndef VMCORE_PCI_H
#define VMCORE_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "board.h"

struct vm_pci;

#define VM_PCI_CONFIG_BYTES 256u
#define VM_PCI_BARS         6u

struct vm_pci_bar {
	uint32_t size_bytes; /* power of two, >= 4 (I/O) or 16 (memory); 0: no such BAR */
	bool io;             /* a port range, else 32-bit memory */
	const struct vm_io_ops *ops;
	void *arg;
	uint64_t mapped_at; /* where it is mapped now; 0: not */
};

/* First member of a PCI device's object; its vm_dev is dev. */
struct vm_pci_dev {
	struct vm_dev dev;
	struct vm_pci *pci;
	uint8_t slot, function;
	uint8_t config[VM_PCI_CONFIG_BYTES];
	uint8_t wmask[VM_PCI_CONFIG_BYTES]; /* bits the guest may change */
	struct vm_pci_bar bar[VM_PCI_BARS];
	unsigned irq_source;
	bool intx; /* the level it drives onto INTA# */
	/* After the guest wrote [off, off+len) and it was stored; may be NULL. */
	void (*config_written)(struct vm_pci_dev *d, unsigned off, unsigned len);
};

struct vm_pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
	bool intx_pin;
};

/* The host bridge and ISA bridge with the configuration ports. Registered as devices "pci-host" and
 * "piix3-isa". *@out lives as long as the board. */
int vm_pci_create(struct vm_pci **out, struct vm_board *b, struct lb_err *err);
/* Fill header, masks and INTx of @d, put it at @slot.@function, and register @ops. Takes @d on
 * success. */
int vm_pci_add(struct vm_pci *p, struct vm_pci_dev *d, const struct vm_dev_ops *ops, uint8_t slot,
	       uint8_t function, const struct vm_pci_id *id, struct lb_err *err);
/* The next free slot for a virtio function (from 3); 0xff when there is none. */
uint8_t vm_pci_next_slot(const struct vm_pci *p);
/* Append a capability of @len bytes (id and next pointer first) to the list; returns its offset. */
uint8_t vm_pci_add_capability(struct vm_pci_dev *d, uint8_t id, uint8_t len);
void vm_pci_intx(struct vm_pci_dev *d, bool level);
/* ISA line INTA# of @slot is routed to by now (also for ACPI's _PRT presets); >= 16: to none. */
unsigned vm_pci_irq(const struct vm_pci *p, uint8_t slot);

/* Common part of every PCI device's section: config space and INTx. Load maps the BARs again. */
void vm_pci_save(struct vm_pci_dev *d, struct lb_wr *wr);
int vm_pci_load(struct vm_pci_dev *d, struct lb_rd *rd, struct lb_err *err);
void vm_pci_reset(struct vm_pci_dev *d);

#endif
